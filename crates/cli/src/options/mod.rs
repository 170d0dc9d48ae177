//! Values of flags that are small languages of their own: environment, labels, ports, mounts, filters. Turned into the API's JSON.
//! Pure, but for files that are named to be read.

pub mod mount;
pub mod port;
pub mod refs;
pub mod words;

use serde_json::{Map, Value, json};

use crate::output::human::cause;

/// Longest file of environment variables or labels.
const MAX_FILE: u64 = 1 << 20;

/// Filters as the API takes them: `{"label":{"a=b":true}}`; empty without any.
///
/// # Errors
/// When one is no `key=value`.
pub fn filters(given: &[String]) -> Result<String, String> {
    let mut all: Map<String, Value> = Map::new();
    for one in given.iter().filter(|f| !f.is_empty()) {
        let (key, value) = one.split_once('=').ok_or_else(|| {
            format!("invalid argument {one:?} for \"-f, --filter\" flag: bad format of filter (expected name=value)")
        })?;
        add(&mut all, key.trim().to_lowercase().as_str(), value.trim());
    }
    Ok(shown(all))
}

/// Filters of one key.
#[must_use]
pub fn filter(key: &str, values: &[&str]) -> String {
    let mut all = Map::new();
    for value in values {
        add(&mut all, key, value);
    }
    shown(all)
}

fn add(all: &mut Map<String, Value>, key: &str, value: &str) {
    all.entry(key.to_owned()).or_insert_with(|| json!({}))[value] = Value::Bool(true);
}

fn shown(all: Map<String, Value>) -> String {
    if all.is_empty() { String::new() } else { Value::Object(all).to_string() }
}

/// Filters with some more of the program's own.
///
/// # Errors
/// As [`filters`].
pub fn filters_and(given: &[String], key: &str, values: &[String]) -> Result<String, String> {
    let text = filters(given)?;
    let mut all: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    for value in values {
        add(&mut all, key, value);
    }
    Ok(shown(all))
}

/// `key=value` pairs as an object; a key alone has the empty value.
#[must_use]
pub fn map(given: &[String]) -> Value {
    let one = |l: &String| l.split_once('=').map_or((l.clone(), Value::from("")), |(k, v)| (k.to_owned(), v.into()));
    Value::Object(given.iter().map(one).collect())
}

/// Lines of files that hold `KEY=value`, without comments; a key alone takes the client's value, if it has one.
///
/// # Errors
/// When a file cannot be read, or a key has spaces.
pub fn file_lines(paths: &[String]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for path in paths {
        let meta = std::fs::metadata(path).map_err(|e| format!("open {path}: {}", cause(&e)))?;
        if meta.is_file() && meta.len() > MAX_FILE {
            return Err(format!("{path}: longer than {} MiB", MAX_FILE >> 20));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("open {path}: {}", cause(&e)))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.split_once('=').map_or(line, |(k, _)| k);
            if key.is_empty() {
                return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
            }
            if key.trim_end().contains(char::is_whitespace) || key.ends_with(char::is_whitespace) && line.contains('=') {
                return Err(format!("invalid env file ({path}): variable '{key}' contains whitespaces"));
            }
            out.push(line.to_owned());
        }
    }
    Ok(out)
}

/// The environment of files and flags, flags last. A name without value takes the client's; one that the client lacks is sent
/// bare, which takes it out of the image's environment.
///
/// # Errors
/// As [`file_lines`]; or when a flag has no name.
pub fn environment(files: &[String], given: &[String]) -> Result<Vec<String>, String> {
    let mut out: Vec<String> = Vec::new();
    for line in file_lines(files)? {
        match (line.contains('='), std::env::var(line.trim_end())) {
            (true, _) => out.push(line),
            (false, Ok(value)) => out.push(format!("{}={value}", line.trim_end())),
            // As in the stock client, a file's name that has no value anywhere is left out.
            (false, Err(_)) => {}
        }
    }
    for one in given {
        let name = one.split_once('=').map_or(one.as_str(), |(k, _)| k);
        if name.is_empty() {
            return Err(format!("invalid argument {one:?} for \"-e, --env\" flag: invalid environment variable: {one}"));
        }
        match (one.contains('='), std::env::var(one)) {
            (false, Ok(value)) => out.push(format!("{one}={value}")),
            _ => out.push(one.clone()),
        }
    }
    Ok(out)
}

/// Puts a value into nested objects, making those on the way: `put(v, &["A", "B"], x)`.
pub fn put(target: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut at = target;
    for key in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[*key];
    }
    *at = value.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn filters_become_json() {
        assert_eq!(
            filters(&texts(&["label=a=b", "label=c", "name=x"])).unwrap(),
            r#"{"label":{"a=b":true,"c":true},"name":{"x":true}}"#
        );
        assert_eq!(filters(&[]).unwrap(), "");
        assert!(filters(&texts(&["x"])).unwrap_err().contains("bad format of filter"));
    }

    #[test]
    fn environments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env").display().to_string();
        std::fs::write(&path, "# c\n\nA=1\n  B=two words\nSKEP_NO_SUCH_VARIABLE\n").unwrap();
        let env = environment(std::slice::from_ref(&path), &texts(&["C=3", "SKEP_NO_SUCH_VARIABLE"])).unwrap();
        assert_eq!(env, ["A=1", "B=two words", "C=3", "SKEP_NO_SUCH_VARIABLE"]);
        std::fs::write(&path, "a b=1\n").unwrap();
        assert!(environment(&[path], &[]).unwrap_err().contains("contains whitespaces"));
        assert!(environment(&[], &texts(&["=x"])).is_err());
    }
}
