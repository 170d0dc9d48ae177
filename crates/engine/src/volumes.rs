//! Volumes of this host: directories below `<data root>/volumes`, as in Docker's `local` driver without options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use skep_types::container::VolumeInfo;
use skep_types::spec::Labels;

use crate::error::{Result, conflict, internal, invalid, not_found};
use crate::files::{read_json, write_json};

/// The volumes. Each has `volume.json` and its content in `_data`.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    volumes: Mutex<BTreeMap<String, VolumeInfo>>,
}

fn valid(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 255
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

impl Volumes {
    /// Finds the volumes that exist.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(data_root: &Path) -> std::io::Result<Self> {
        let root = data_root.join("volumes");
        std::fs::create_dir_all(&root)?;
        let mut volumes = BTreeMap::new();
        for entry in std::fs::read_dir(&root)?.flatten() {
            // A volume whose creation was cut off has no record and was never acknowledged.
            if let Ok(info) = read_json::<VolumeInfo>(&entry.path().join("volume.json")) {
                volumes.insert(info.name.clone(), info);
            }
        }
        Ok(Self { root, volumes: Mutex::new(volumes) })
    }

    /// Creates a volume, or returns the one of that name as it is.
    ///
    /// # Errors
    /// 400 for a bad name, 500 when the disk refuses.
    pub fn create(&self, name: &str, labels: Labels, anonymous: bool) -> Result<(VolumeInfo, bool)> {
        if !valid(name) {
            return Err(invalid(format!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        let mut volumes = crate::lock(&self.volumes);
        if let Some(existing) = volumes.get(name) {
            return Ok((existing.clone(), false));
        }
        let dir = self.root.join(name);
        let data = dir.join("_data");
        let info = VolumeInfo {
            name: name.to_owned(),
            mountpoint: data.display().to_string(),
            created: crate::now(),
            labels,
            anonymous,
        };
        std::fs::create_dir_all(&data)
            .and_then(|()| write_json(&dir.join("volume.json"), &info, true))
            .map_err(|e| internal(&format!("create volume {name}"), e))?;
        volumes.insert(name.to_owned(), info.clone());
        Ok((info, true))
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<VolumeInfo> {
        crate::lock(&self.volumes).values().cloned().collect()
    }

    /// One volume.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, name: &str) -> Result<VolumeInfo> {
        crate::lock(&self.volumes).get(name).cloned().ok_or_else(|| not_found(format!("get {name}: no such volume")))
    }

    /// Removes a volume that none of `users` (container ids) has.
    ///
    /// # Errors
    /// 404, 409 when it is in use, 500 when the disk refuses.
    pub fn remove(&self, name: &str, force: bool, users: &[String]) -> Result<()> {
        let mut volumes = crate::lock(&self.volumes);
        if !volumes.contains_key(name) {
            return if force { Ok(()) } else { Err(not_found(format!("get {name}: no such volume"))) };
        }
        if !users.is_empty() {
            return Err(conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        let dir = self.root.join(name);
        // The record goes first: what a crash leaves behind is no volume any more.
        std::fs::remove_file(dir.join("volume.json")).map_err(|e| internal(&format!("remove volume {name}"), e))?;
        volumes.remove(name);
        std::fs::remove_dir_all(&dir).map_err(|e| internal(&format!("remove the content of volume {name}"), e))
    }
}
