//! The user's own file, `~/.docker/config.json`, and the contexts beside it: which daemon to talk to, formats, credentials.
//! Read only; the stock client writes it.

pub mod auth;
pub mod context;

use std::path::{Path, PathBuf};

use serde_json::Value;

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
