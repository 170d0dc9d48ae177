//! Docker's volume plugin protocol: names, options, and where a volume is mounted for whom.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Fault, Plugins, VOLUMES};

/// How long a driver may take to make or mount a volume, as in Docker: it may have to attach a disk.
const LONG: Duration = Duration::from_secs(120);
/// How long it may take to remove or unmount one.
const SHORT: Duration = Duration::from_secs(60);
/// How long it may take to answer what it has at hand.
const QUICK: Duration = Duration::from_secs(10);
/// Most volumes of a driver that are listed.
const MOST: usize = 10_000;

/// A volume as its driver tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Told {
    pub(crate) name: String,
    /// Empty while nobody has it mounted, by most drivers.
    pub(crate) mountpoint: String,
    /// JSON, or nothing.
    pub(crate) status: String,
}

fn told(v: &Value) -> Told {
    let text = |key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let status = v.get("Status").filter(|s| s.as_object().is_some_and(|s| !s.is_empty()));
    Told { name: text("Name"), mountpoint: text("Mountpoint"), status: status.map(Value::to_string).unwrap_or_default() }
}

impl Plugins {
    async fn ask(&self, driver: &str, call: &str, body: Value, limit: Duration) -> Result<Value, Fault> {
        self.call((driver, VOLUMES, "volume"), &format!("VolumeDriver.{call}"), &body, limit).await
    }

    pub(crate) async fn create_volume(
        &self,
        driver: &str,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        self.ask(driver, "Create", json!({"Name": name, "Opts": options}), LONG).await.map(drop)
    }

    pub(crate) async fn remove_volume(&self, driver: &str, name: &str) -> Result<(), Fault> {
        self.ask(driver, "Remove", json!({"Name": name}), SHORT).await.map(drop)
    }

    /// Mounts a volume for whoever has this id; where it is on the host.
    pub(crate) async fn mount_volume(&self, driver: &str, name: &str, id: &str) -> Result<PathBuf, Fault> {
        let said = self.ask(driver, "Mount", json!({"Name": name, "ID": id}), LONG).await?;
        let at = PathBuf::from(said["Mountpoint"].as_str().unwrap_or_default());
        if at.is_absolute() && !at.components().any(|c| c == Component::ParentDir) {
            return Ok(at);
        }
        Err(Fault::Broken(format!(
            "volume plugin {driver}: VolumeDriver.Mount gave the mountpoint {:?}: it must be an absolute path",
            at.display().to_string()
        )))
    }

    pub(crate) async fn unmount_volume(&self, driver: &str, name: &str, id: &str) -> Result<(), Fault> {
        self.ask(driver, "Unmount", json!({"Name": name, "ID": id}), SHORT).await.map(drop)
    }

    /// A volume; nothing if the driver says that it has none of this name.
    pub(crate) async fn volume(&self, driver: &str, name: &str) -> Result<Option<Told>, Fault> {
        match self.ask(driver, "Get", json!({"Name": name}), QUICK).await {
            Ok(said) => Ok(said.get("Volume").filter(|v| v.is_object()).map(told)),
            Err(Fault::Refused(_)) => Ok(None),
            // It is as old as the protocol's first version, which has no such call.
            Err(Fault::Unknown(_)) => {
                let said = self.ask(driver, "Path", json!({"Name": name}), QUICK).await;
                match said {
                    Ok(said) => Ok(Some(Told { name: name.to_owned(), ..told(&said) })),
                    Err(Fault::Refused(_) | Fault::Unknown(_)) => Ok(None),
                    Err(e) => Err(e),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// All volumes of a driver.
    pub(crate) async fn volumes(&self, driver: &str) -> Result<Vec<Told>, Fault> {
        match self.ask(driver, "List", json!({}), QUICK).await {
            Ok(said) => Ok(said["Volumes"].as_array().into_iter().flatten().take(MOST).map(told).collect()),
            Err(Fault::Unknown(_)) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Whether every host has the same volumes of this driver. One that does not say so has its own.
    pub(crate) async fn is_global(&self, driver: &str) -> bool {
        let said = self.ask(driver, "Capabilities", json!({}), QUICK).await.unwrap_or_default();
        said["Capabilities"]["Scope"].as_str().is_some_and(|s| s.eq_ignore_ascii_case("global"))
    }
}
