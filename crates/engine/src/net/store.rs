//! What the network manager keeps across restarts: local networks and the managers' last word.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::NetError;

/// JSON files in `<data-root>/network`, each replaced atomically.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn open(data_root: &Path) -> Result<Self, NetError> {
        let dir = data_root.join("network");
        fs::create_dir_all(&dir).map_err(|e| NetError::host("create directory", dir.display().to_string(), e))?;
        Ok(Self { dir })
    }

    pub(super) fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, NetError> {
        let path = self.dir.join(name);
        let failed = |e: io::Error| NetError::host("read", path.display().to_string(), e);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(e.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// Replaces a file; with `durable` it outlives a loss of power, too.
    pub(super) fn save<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> Result<(), NetError> {
        let path = self.dir.join(name);
        let tmp = self.dir.join(format!("{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&tmp)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&tmp, &path)?;
            if durable { File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        write().map_err(|e| NetError::host("write", path.display().to_string(), e))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), NetError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(NetError::host("delete", path.display().to_string(), e)),
            _ => Ok(()),
        }
    }
}
