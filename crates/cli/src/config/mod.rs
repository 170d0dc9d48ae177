//! The user's own file, `~/.docker/config.json`, and the contexts beside it: which daemon to talk to, formats, credentials.
//! Written by `login`, `logout` and `context use` only, which keep whatever else is in it.

pub mod auth;
pub mod context;

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

/// Largest file that is read: these hold a few hundred entries at most.
const MAX_FILE: u64 = 16 << 20;

/// The user's configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The directory it is in.
    pub dir: PathBuf,
    /// The file's content; null if there is none.
    pub file: Value,
}

/// Where the configuration is without `--config`.
#[must_use]
pub fn default_dir() -> PathBuf {
    let given = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()).map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".docker"))
}

/// Reads a JSON file of a user's; null if there is none.
pub(crate) fn read_json(path: &Path) -> Result<Value, String> {
    let fail = |e: &dyn std::fmt::Display| format!("read {}: {e}", path.display());
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        Err(e) => return Err(fail(&e)),
    };
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(fail(&format!("no file of at most {} MiB", MAX_FILE >> 20)));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).map_err(|e| fail(&e))
}

/// Writes a file of a user's as a whole, and only for its owner unless it is there with another mode. A link stays a link.
///
/// # Errors
/// When the disk refuses; what was there is there still.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fail = |e: std::io::Error| format!("write {}: {e}", path.display());
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mode = std::fs::metadata(&path).map_or(0o600, |m| m.permissions().mode() & 0o777);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(|e| {
        // Half of a file is of no use to anybody.
        let _ = std::fs::remove_file(&fresh);
        fail(e)
    })
}

/// JSON as the stock client writes its files.
pub(crate) fn pretty(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    // A value in memory is always written.
    let _ = value.serialize(&mut writer);
    out
}

/// Changes the configuration of a directory, from what is there now.
///
/// # Errors
/// When it cannot be read or written; one that is broken is left as it is.
pub fn change(dir: &Path, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), String> {
    let path = dir.join("config.json");
    let mut all = match read_json(&path)? {
        Value::Null => Map::new(),
        Value::Object(all) => all,
        _ => return Err(format!("read {}: no JSON object", path.display())),
    };
    change(&mut all);
    replace(&path, &pretty(&Value::Object(all)))
}

impl Config {
    /// Reads the configuration of a directory. One that cannot be read is as if it were empty, with why.
    #[must_use]
    pub fn load(dir: PathBuf) -> (Self, Option<String>) {
        let path = dir.join("config.json");
        match read_json(&path) {
            Ok(file) => (Self { dir, file }, None),
            Err(why) => (Self { dir, file: Value::Null }, Some(format!("WARNING: Error loading config file: {why}"))),
        }
    }

    /// A text of the file: a format, the context.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.file[key].as_str().filter(|t| !t.is_empty())
    }

    /// Headers that the user wants with every request.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let all = self.file["HttpHeaders"].as_object();
        let one = |(k, v): (&String, &Value)| v.as_str().map(|v| (k.clone(), v.to_owned()));
        all.map(|m| m.iter().filter_map(one).filter(|(k, _)| !k.eq_ignore_ascii_case("user-agent")).collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_else_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        change(dir.path(), |all| drop(all.insert("currentContext".into(), "far".into()))).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (std::fs::read_to_string(&path).unwrap().as_str(), mode(&path)),
            ("{\n\t\"currentContext\": \"far\"\n}", 0o600)
        );
        // By a link, with a mode of the user's own, and a key that we do not know.
        let real = dir.path().join("real.json");
        std::fs::write(&real, r#"{"psFormat":"x"}"#).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        change(dir.path(), |all| drop(all.insert("a".into(), 1.into()))).unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!((read_json(&real).unwrap(), mode(&real)), (serde_json::json!({"psFormat": "x", "a": 1}), 0o640));
        // A broken one is the user's to mend.
        std::fs::write(&real, "{").unwrap();
        assert!(change(dir.path(), |_| {}).unwrap_err().contains("config.json"));
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "{");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
