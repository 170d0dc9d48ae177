//! Contexts: named daemons, in the form in which `docker context` writes them down.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Config, pretty, read_json, replace};

/// The context that is always there: the daemon that the environment names, or the one of this host.
pub const DEFAULT: &str = "default";
/// Files of TLS material.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];
/// Longest file of TLS material.
const MAX_TLS: u64 = 10 << 20;

/// A daemon that a context names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Its address.
    pub host: String,
    /// Whether its certificate is not checked.
    pub skip_verify: bool,
    /// Where its TLS files are, if it has any.
    pub tls: Option<PathBuf>,
}

/// Directory of a context's files: contexts are kept under the digest of their names.
fn digest(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Where what is known of a context is, and where its TLS files are.
#[must_use]
pub fn places(config: &Config, name: &str) -> (PathBuf, PathBuf) {
    let (id, all) = (digest(name), config.dir.join("contexts"));
    (all.join("meta").join(&id), all.join("tls").join(&id))
}

/// What is known of a context, as its file says it.
///
/// # Errors
/// When there is none of that name, or its file is broken.
pub fn meta(config: &Config, name: &str) -> Result<Value, String> {
    let path = places(config, name).0.join("meta.json");
    let meta = read_json(&path)?;
    if meta["Endpoints"]["docker"]["Host"].is_string() {
        Ok(meta)
    } else {
        Err(format!("context {name:?}: context not found: open {}: no such file or directory", path.display()))
    }
}

/// Names of all contexts that were written down, in order.
///
/// # Errors
/// When one cannot be read.
pub fn names(config: &Config) -> Result<Vec<String>, String> {
    let dir = config.dir.join("contexts/meta");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("read {}: {e}", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        names.extend(read_json(&entry.path().join("meta.json"))?["Name"].as_str().map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The TLS files of a context by their names.
///
/// # Errors
/// When one cannot be read.
pub fn tls_files(config: &Config, name: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let dir = places(config, name).1.join("docker");
    let mut files = BTreeMap::new();
    for file in TLS_FILES.iter().filter(|f| dir.join(f).exists()) {
        files.insert((*file).to_owned(), read_tls(&dir.join(file))?);
    }
    Ok(files)
}

/// A file of TLS material.
///
/// # Errors
/// When it cannot be read, or is too large to be one.
pub fn read_tls(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let fail = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
    let meta = std::fs::metadata(path).map_err(|e| fail(&e))?;
    if !meta.is_file() || meta.len() > MAX_TLS {
        return Err(fail(&format!("no file of at most {} MiB", MAX_TLS >> 20)));
    }
    std::fs::read(path).map_err(|e| fail(&e))
}

/// Writes a context down, in the place of one of that name.
///
/// # Errors
/// When the disk refuses.
pub fn write(config: &Config, meta: &Value, tls: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let name = meta["Name"].as_str().unwrap_or_default();
    let (of_meta, of_tls) = places(config, name);
    if of_tls.exists() {
        std::fs::remove_dir_all(&of_tls).map_err(|e| format!("remove {}: {e}", of_tls.display()))?;
    }
    for (file, bytes) in tls {
        replace(&of_tls.join("docker").join(file), bytes)?;
    }
    replace(&of_meta.join("meta.json"), &pretty(meta))
}

/// Removes a context.
///
/// # Errors
/// When the disk refuses.
pub fn remove(config: &Config, name: &str) -> Result<(), String> {
    let (of_meta, of_tls) = places(config, name);
    for dir in [of_meta, of_tls].into_iter().filter(|d| d.exists()) {
        std::fs::remove_dir_all(&dir).map_err(|e| format!("remove {}: {e}", dir.display()))?;
    }
    Ok(())
}

/// What is written down of a new context.
#[must_use]
pub fn new_meta(name: &str, description: &str, host: &str, skip_verify: bool) -> Value {
    let metadata = if description.is_empty() { json!({}) } else { json!({"Description": description}) };
    json!({"Name": name, "Metadata": metadata, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip_verify}}})
}

/// Finds a context.
///
/// # Errors
/// As [`meta`].
pub fn find(config: &Config, name: &str) -> Result<Context, String> {
    let meta = meta(config, name)?;
    let endpoint = &meta["Endpoints"]["docker"];
    let host = endpoint["Host"].as_str().unwrap_or_default();
    let tls = places(config, name).1.join("docker");
    Ok(Context {
        host: host.to_owned(),
        skip_verify: endpoint["SkipTLSVerify"].as_bool().unwrap_or(false),
        tls: tls.is_dir().then_some(tls),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().to_owned(), file: Value::Null };
        assert_eq!(names(&config), Ok(Vec::new()));
        let tls = BTreeMap::from([("ca.pem".to_owned(), b"ca".to_vec())]);
        write(&config, &new_meta("far", "away", "tcp://far:2376", false), &tls).unwrap();
        write(&config, &new_meta("a.b", "", "ssh://a", true), &BTreeMap::new()).unwrap();
        assert_eq!(names(&config).unwrap(), ["a.b", "far"]);
        assert_eq!(tls_files(&config, "far").unwrap(), tls);
        let found = find(&config, "far").unwrap();
        assert_eq!((found.host.as_str(), found.tls.is_some()), ("tcp://far:2376", true));
        assert_eq!(meta(&config, "far").unwrap()["Metadata"]["Description"], "away");
        // Written again without its TLS files, it has none.
        write(&config, &new_meta("far", "", "tcp://far:2375", false), &BTreeMap::new()).unwrap();
        assert_eq!(find(&config, "far").unwrap().tls, None);
        remove(&config, "far").unwrap();
        assert_eq!(names(&config).unwrap(), ["a.b"]);
    }

    #[test]
    fn a_context_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().to_owned(), file: serde_json::Value::Null };
        let meta = dir.path().join("contexts/meta").join(digest("far"));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":true}}}"#,
        )
        .unwrap();
        assert_eq!(find(&config, "far"), Ok(Context { host: "tcp://far:2376".to_owned(), skip_verify: true, tls: None }));
        assert!(find(&config, "near").unwrap_err().contains("context not found"));
        std::fs::write(meta.join("meta.json"), "{").unwrap();
        assert!(find(&config, "far").unwrap_err().contains("meta.json"));
    }
}
