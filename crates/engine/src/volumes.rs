//! Volumes of this host: directories below `<data root>/volumes`, as in Docker's `local` driver. What the options of one ask to be
//! mounted is never mounted on the host: each shim does it for its own container (`crate::shim::VolumeMount`). Of a volume that a plugin
//! has there are a record and a list of who has it mounted, written before the plugin is asked, so that a crash forgets none
//! (`crate::container::driven`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use skep_types::container::VolumeInfo;
use skep_types::spec::Labels;
use skep_types::volume::{self, Filesystem};
use tokio::sync::OwnedMutexGuard;

use crate::error::{EngineError, Result, conflict, internal, invalid, not_found};
use crate::files::{read_json, write_json};

/// File of a plugin's volume: who has it mounted.
const HELD_FILE: &str = "mounts.json";

/// A mount that a plugin was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// What the plugin knows it by, drawn for each start.
    pub(crate) id: String,
    /// For whom.
    pub(crate) container: String,
    /// How often it was refused to be unmounted.
    #[serde(default)]
    pub(crate) refusals: u32,
}

/// The volumes. Each has `volume.json` and its content in `_data`.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    volumes: Mutex<BTreeMap<String, VolumeInfo>>,
    /// Mounts of plugins' volumes, by volume.
    held: Mutex<BTreeMap<String, Vec<Held>>>,
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
    /// Name of the driver; empty is the one that the volume of this name has, else `local`.
    pub driver: String,
}

fn valid(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 255
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Whether a volume can have this name, which becomes a directory.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if valid(name) {
        return Ok(());
    }
    Err(invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// Another driver has a volume of this name.
pub(crate) fn taken(existing: &VolumeInfo) -> EngineError {
    let (name, driver) = (&existing.name, existing.driver());
    conflict(format!(
        "create {name}: conflict: volume name must be unique: the driver {driver} has a volume of this name: choose another name, or \
         remove it first"
    ))
}

impl Volumes {
    /// Finds the volumes that exist.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(data_root: &Path) -> std::io::Result<Self> {
        let root = data_root.join("volumes");
        std::fs::create_dir_all(&root)?;
        let (mut volumes, mut held) = (BTreeMap::new(), BTreeMap::new());
        for entry in std::fs::read_dir(&root)?.flatten() {
            // A volume whose creation was cut off has no record and was never acknowledged.
            if let Ok(info) = read_json::<VolumeInfo>(&entry.path().join("volume.json")) {
                if let Ok(mounts) = read_json::<Vec<Held>>(&entry.path().join(HELD_FILE)) {
                    held.insert(info.name.clone(), mounts);
                }
                volumes.insert(info.name.clone(), info);
            }
        }
        Ok(Self { root, volumes: Mutex::new(volumes), held: Mutex::new(held), starting: Mutex::default() })
    }

    /// Creates a volume, or returns the one of that name as it is.
    ///
    /// # Errors
    /// 400 for a bad name or bad options, 409 when the one of that name has others, 500 when the disk refuses.
    pub fn create(&self, new: NewVolume) -> Result<(VolumeInfo, bool)> {
        let NewVolume { name, labels, anonymous, options, driver } = new;
        check_name(&name)?;
        volume::read(&options).map_err(|why| invalid(format!("create {name}: {why}")))?;
        let mut volumes = crate::lock(&self.volumes);
        if let Some(existing) = volumes.get(&name) {
            if driver == "local" && existing.driver() != "local" {
                return Err(taken(existing));
            }
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
            ..VolumeInfo::default()
        };
        std::fs::create_dir_all(&data)
            .and_then(|()| write_json(&dir.join("volume.json"), &info, true))
            .map_err(|e| internal(&format!("create volume {name}"), e))?;
        volumes.insert(name, info.clone());
        Ok((info, true))
    }

    /// Keeps the record of a volume that a plugin has.
    ///
    /// # Errors
    /// 409 when another one has its name, 500 when the disk refuses.
    pub(crate) fn adopt(&self, info: VolumeInfo) -> Result<VolumeInfo> {
        let mut volumes = crate::lock(&self.volumes);
        if let Some(existing) = volumes.get(&info.name) {
            return if existing.driver() == info.driver() { Ok(existing.clone()) } else { Err(taken(existing)) };
        }
        let dir = self.root.join(&info.name);
        std::fs::create_dir_all(&dir)
            .and_then(|()| write_json(&dir.join("volume.json"), &info, true))
            .map_err(|e| internal(&format!("create volume {}", info.name), e))?;
        volumes.insert(info.name.clone(), info.clone());
        Ok(info)
    }

    /// All mounts that plugins were asked for, by volume.
    pub(crate) fn all_held(&self) -> Vec<(String, Held)> {
        let held = crate::lock(&self.held);
        held.iter().flat_map(|(name, all)| all.iter().map(|h| (name.clone(), h.clone()))).collect()
    }

    /// Changes who has a plugin's volume mounted, on disk first.
    ///
    /// # Errors
    /// 500 when the disk refuses; nothing is changed then.
    pub(crate) fn change_held(&self, name: &str, change: impl FnOnce(&mut Vec<Held>)) -> Result<()> {
        let mut held = crate::lock(&self.held);
        let mut all = held.get(name).cloned().unwrap_or_default();
        change(&mut all);
        write_json(&self.root.join(name).join(HELD_FILE), &all, true)
            .map_err(|e| internal(&format!("note the mounts of volume {name}"), e))?;
        if all.is_empty() {
            held.remove(name);
        } else {
            held.insert(name.to_owned(), all);
        }
        Ok(())
    }

    /// What a volume is mounted from, if it is more than a directory.
    pub(crate) fn filesystem(&self, name: &str) -> Option<Filesystem> {
        let volumes = crate::lock(&self.volumes);
        // They were looked at when it was created.
        volumes.get(name).filter(|v| v.driver() == "local").and_then(|v| volume::read(&v.options).ok().flatten())
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
        crate::lock(&self.held).remove(name);
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
