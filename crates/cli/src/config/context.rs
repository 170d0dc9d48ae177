//! Contexts: named daemons that `docker context` has written down.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Config, read_json};

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

/// Finds a context.
///
/// # Errors
/// When there is none of that name, or its file is broken.
pub fn find(config: &Config, name: &str) -> Result<Context, String> {
    let id = digest(name);
    let path = config.dir.join("contexts/meta").join(&id).join("meta.json");
    let meta = read_json(&path)?;
    let endpoint = &meta["Endpoints"]["docker"];
    let Some(host) = endpoint["Host"].as_str() else {
        return Err(format!("context {name:?}: context not found: no {}", path.display()));
    };
    let tls = config.dir.join("contexts/tls").join(&id).join("docker");
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
