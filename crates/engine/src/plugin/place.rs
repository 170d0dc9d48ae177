//! Where plugins say that they are: `NAME.sock` among the sockets, `NAME.spec` (an address) or `NAME.json` (with TLS) among the specs, as
//! Docker's "Plugin discovery" has it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::http::{Client, Url};
use crate::logdriver::tls::Tls;

/// Most names that are looked at; a host has a handful.
const MOST: usize = 100;

/// The directories.
#[derive(Debug, Clone)]
pub struct PluginDirs {
    /// Sockets.
    pub sockets: PathBuf,
    /// Specs; the first that has a name counts.
    pub specs: Vec<PathBuf>,
}

impl Default for PluginDirs {
    fn default() -> Self {
        Self {
            sockets: "/run/docker/plugins".into(),
            specs: vec!["/etc/docker/plugins".into(), "/usr/lib/docker/plugins".into()],
        }
    }
}

/// Where a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(Url, Tls),
}

/// A plugin that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    address: Address,
    /// The file that says so; another one means another plugin.
    file: (u64, i64, i64),
}

impl Place {
    pub(super) fn client(&self) -> Client {
        match &self.address {
            Address::Unix(path) => Client::unix(path.clone()),
            Address::Tcp(url, tls) => Client::new(url.clone(), tls.clone()),
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match &self.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(url, _) => url.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<JsonTls>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct JsonTls {
    insecure_skip_verify: bool,
    #[serde(rename = "CAFile")]
    ca: String,
    #[serde(rename = "CertFile")]
    cert: String,
    #[serde(rename = "KeyFile")]
    key: String,
}

/// Whether a plugin can have this name: it is part of paths.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':'))
}

fn address(text: &str, tls: Option<JsonTls>) -> Result<Address, String> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(Address::Unix(path.into()))
        } else {
            Err(format!("{text:?} is no absolute path"))
        };
    }
    let rest = text.strip_prefix("tcp://").map(|rest| format!("{}://{rest}", if tls.is_some() { "https" } else { "http" }));
    let url = Url::read(rest.as_deref().unwrap_or(text))?;
    let path = |p: String| (!p.is_empty()).then(|| PathBuf::from(p));
    let tls = tls.unwrap_or_default();
    let own = path(tls.cert).zip(path(tls.key));
    Ok(Address::Tcp(url, Tls { ca: path(tls.ca), own, skip_verify: tls.insecure_skip_verify, name: None }))
}

impl PluginDirs {
    /// A plugin of this name; nothing if no file says where it is.
    ///
    /// # Errors
    /// In words, if a file cannot be understood.
    pub(super) fn find(&self, name: &str) -> Result<Option<Place>, String> {
        if !is_name(name) {
            return Ok(None);
        }
        let file = |path: &Path| path.metadata().ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        for socket in [self.sockets.join(format!("{name}.sock")), self.sockets.join(name).join(format!("{name}.sock"))] {
            if let Some(file) = file(&socket) {
                return Ok(Some(Place { address: Address::Unix(socket), file }));
            }
        }
        for (dir, end) in self.specs.iter().flat_map(|d| [(d, "spec"), (d, "json")]) {
            let path = dir.join(format!("{name}.{end}"));
            let Some(file) = file(&path) else { continue };
            let bad = |why: String| format!("read {}: {why}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|e| bad(e.to_string()))?;
            let address = if end == "spec" {
                address(&text, None)
            } else {
                serde_json::from_str::<Json>(&text).map_err(|e| e.to_string()).and_then(|j| address(&j.addr, j.tls))
            };
            return Ok(Some(Place { address: address.map_err(bad)?, file }));
        }
        Ok(None)
    }

    /// The names that files have; what is no plugin is found out when it is asked.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = |dir: &Path| -> io::Result<Vec<String>> {
            let all = std::fs::read_dir(dir)?.flatten();
            Ok(all.filter_map(|e| e.file_name().into_string().ok()).collect())
        };
        // A directory that is not there has none.
        let mut out: Vec<String> = entries(&self.sockets)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|n| match n.strip_suffix(".sock") {
                Some(name) => Some(name.to_owned()),
                None => self.sockets.join(&n).join(format!("{n}.sock")).exists().then_some(n),
            })
            .collect();
        for dir in &self.specs {
            let names = entries(dir).unwrap_or_default();
            out.extend(names.iter().filter_map(|n| n.strip_suffix(".spec").or(n.strip_suffix(".json"))).map(str::to_owned));
        }
        out.retain(|n| is_name(n));
        out.sort();
        out.dedup();
        out.truncate(MOST);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_where_docker_looks() {
        let root = std::env::temp_dir().join(format!("skep-plugins-{}", std::process::id()));
        let dirs = PluginDirs { sockets: root.join("run"), specs: vec![root.join("etc"), root.join("lib")] };
        assert_eq!((dirs.names(), dirs.find("a")), (vec![], Ok(None)));
        for dir in ["run/nested", "etc", "lib"] {
            std::fs::create_dir_all(root.join(dir)).expect("made");
        }
        let write = |at: &str, text: &str| std::fs::write(root.join(at), text).expect("written");
        write("run/plain.sock", "");
        write("run/nested/nested.sock", "");
        write("etc/plain.spec", "tcp://h:1");
        write("etc/remote.spec", "tcp://h:8080\n");
        write("lib/secure.json", r#"{"Name":"x","Addr":"tcp://h:1","TLSConfig":{"CAFile":"/ca","InsecureSkipVerify":false}}"#);
        write("lib/odd.spec", "what");
        write("lib/.hidden.spec", "tcp://h:1");
        assert_eq!(dirs.names(), ["nested", "odd", "plain", "remote", "secure"]);
        let shown = |name: &str| dirs.find(name).map(|p| p.expect("found").shown());
        assert_eq!(shown("plain"), Ok(root.join("run/plain.sock").display().to_string()));
        assert_eq!(shown("nested"), Ok(root.join("run/nested/nested.sock").display().to_string()));
        assert_eq!((shown("remote").as_deref(), shown("secure").as_deref()), (Ok("http://h:8080/"), Ok("https://h:1/")));
        assert!(dirs.find("odd").expect_err("no address").contains("odd.spec"));
        assert_eq!((dirs.find("../etc/plain"), dirs.find("")), (Ok(None), Ok(None)));
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
