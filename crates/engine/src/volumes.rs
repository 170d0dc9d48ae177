//! Volumes of this host: directories below `<data root>/volumes`, as in Docker's `local` driver. What the options of one ask to be
//! mounted is never mounted on the host: each shim does it for its own container (`crate::shim::VolumeMount`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use skep_types::container::VolumeInfo;
use skep_types::spec::Labels;
use skep_types::volume::{self, Filesystem};
use tokio::sync::OwnedMutexGuard;

use crate::error::{Result, conflict, internal, invalid, not_found};
use crate::files::{read_json, write_json};

/// The volumes. Each has `volume.json` and its content in `_data`.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    volumes: Mutex<BTreeMap<String, VolumeInfo>>,
    /// Held while a container that mounts the volume starts: the next one is to find it mounted.
    starting: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a volume is to be.
#[derive(Debug, Clone, Default)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// It goes with its container.
    pub anonymous: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
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
        Ok(Self { root, volumes: Mutex::new(volumes), starting: Mutex::default() })
    }

    /// Creates a volume, or returns the one of that name as it is.
    ///
    /// # Errors
    /// 400 for a bad name or bad options, 409 when the one of that name has others, 500 when the disk refuses.
    pub fn create(&self, new: NewVolume) -> Result<(VolumeInfo, bool)> {
        let NewVolume { name, labels, anonymous, options } = new;
        if !valid(&name) {
            return Err(invalid(format!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        }
        volume::read(&options).map_err(|why| invalid(format!("create {name}: {why}")))?;
        let mut volumes = crate::lock(&self.volumes);
        if let Some(existing) = volumes.get(&name) {
            if !options.is_empty() && options != existing.options {
                return Err(conflict(format!(
                    "create {name}: volume name must be unique: the volume of this name has other options: choose another name, or \
                     remove it first"
                )));
            }
            return Ok((existing.clone(), false));
        }
        let dir = self.root.join(&name);
        let data = dir.join("_data");
        let info = VolumeInfo {
            name: name.clone(),
            mountpoint: data.display().to_string(),
            created: crate::now(),
            labels,
            anonymous,
            options,
        };
        std::fs::create_dir_all(&data)
            .and_then(|()| write_json(&dir.join("volume.json"), &info, true))
            .map_err(|e| internal(&format!("create volume {name}"), e))?;
        volumes.insert(name, info.clone());
        Ok((info, true))
    }

    /// What a volume is mounted from, if it is more than a directory.
    pub(crate) fn filesystem(&self, name: &str) -> Option<Filesystem> {
        let volumes = crate::lock(&self.volumes);
        // They were looked at when it was created.
        volumes.get(name).and_then(|v| volume::read(&v.options).ok().flatten())
    }

    /// Waits until no other container that has the volume is about to start, and keeps others waiting until the guard is dropped.
    pub(crate) async fn starting(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(crate::lock(&self.starting).entry(name.to_owned()).or_default());
        lock.lock_owned().await
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
        crate::lock(&self.starting).remove(name);
        // Nothing is ever mounted in it here, so that what another host or device has stays.
        std::fs::remove_dir_all(&dir).map_err(|e| internal(&format!("remove the content of volume {name}"), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_keeps_its_options() {
        let root = std::env::temp_dir().join(format!("skep-volumes-{}", std::process::id()));
        let options = |size: &str| {
            let all = [("type", "tmpfs"), ("device", "tmpfs"), ("o", size)];
            all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let volumes = Volumes::open(&root).expect("opened");
        let new = |options| NewVolume { name: "v".to_owned(), options, ..NewVolume::default() };
        assert!(volumes.create(new(options("size=1m"))).expect("created").1);
        assert!(!volumes.create(new(options("size=1m"))).expect("the same").1);
        assert!(!volumes.create(new(BTreeMap::new())).expect("as it is").1);
        let other = volumes.create(new(options("size=2m"))).expect_err("other options");
        assert!(other.message.starts_with("create v: volume name must be unique"), "{}", other.message);
        let bad = BTreeMap::from([("type".to_owned(), "nfs".to_owned())]);
        let bad = volumes.create(NewVolume { name: "w".to_owned(), options: bad, ..NewVolume::default() }).expect_err("bad");
        assert_eq!(bad.message, "create w: missing required option: \"device\"");
        let again = Volumes::open(&root).expect("opened again");
        assert_eq!(again.filesystem("v").expect("kept").options, "size=1m");
        assert!(again.get("w").is_err());
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
