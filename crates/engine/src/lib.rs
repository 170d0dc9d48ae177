//! Containers, volumes, networks and logs of one host.
//!
//! [`Engine`] is the door: `api` (through the binary's wiring) calls it for `docker run` and friends, the agent's executor for
//! tasks. It keeps each container's record in the data root, lets a shim run it, and adopts what runs when the daemon starts
//! again. It knows nothing of managers, raft or HTTP, and reaches the kernel only through the traits in [`host`] and [`net`].

#![forbid(unsafe_code)]

mod adopt;
mod attachments;
pub mod container;
pub mod dns;
pub mod error;
pub mod events;
pub mod files;
pub mod host;
mod http;
pub mod images;
mod logdriver;
pub mod logfiles;
pub mod logs;
pub mod net;
pub mod oci;
pub mod plugin;
pub mod reach;
mod registry;
pub mod shim;
pub mod volumes;

pub use attachments::Attachments;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use skep_types::Time;
use skep_types::container::ContainerInfo;

use container::{Container, ExecTable};
use error::{Result, internal};
use events::Events;
use host::Runtime;
use images::Images;
use net::NetworkManager;
use plugin::Plugins;
use volumes::Volumes;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What must survive: records, logs, layers, volumes.
    pub data_root: PathBuf,
    /// What lives as long as the host is up: shims' sockets, namespaces.
    pub exec_root: PathBuf,
    /// Parent of the containers' cgroups.
    pub cgroup_parent: String,
    /// Log driver of containers that name none; empty is `json-file`.
    pub log_driver: String,
    /// Options of that driver for containers that do not say otherwise.
    pub log_opts: BTreeMap<String, String>,
    /// Where plugins are looked for.
    pub plugins: plugin::PluginDirs,
}

/// The containers of this host.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) attachments: Arc<dyn Attachments>,
    /// The networks.
    pub net: Arc<NetworkManager>,
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// The plugins.
    pub plugins: Arc<Plugins>,
    /// What happened.
    pub events: Arc<Events>,
    /// Processes beside the containers' first.
    pub execs: Arc<ExecTable>,
    /// Logs on their way elsewhere.
    pub(crate) shippers: logdriver::Shippers,
    registry: Mutex<registry::Registry>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// How it is set up.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// What the host is.
    pub fn facts(&self) -> host::HostFacts {
        self.runtime.facts()
    }

    pub(crate) fn container_event(
        &self,
        container: &Container,
        action: &str,
        more: impl IntoIterator<Item = (String, String)>,
    ) {
        let info = container.info();
        let mut attributes: BTreeMap<String, String> = info.config.labels.clone();
        attributes.insert("name".to_owned(), info.name);
        attributes.insert("image".to_owned(), info.config.image);
        attributes.extend(more);
        self.events.emit("container", action, &container.id, attributes);
    }

    /// Containers that have a volume.
    pub fn volume_users(&self, name: &str) -> Vec<String> {
        let has = |i: &ContainerInfo| i.mounts.iter().any(|m| m.kind == "volume" && m.name == name);
        self.list().into_iter().filter(has).map(|i| i.id).collect()
    }
}

/// Whether containers can log by a driver with these options.
///
/// # Errors
/// 400 for what no driver takes, 501 for what is not built.
pub fn check_log_driver(driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let driver = if driver.is_empty() { skep_types::logdriver::DEFAULT } else { driver };
    logdriver::check(driver, options).map(drop)
}

/// Now, as data.
pub(crate) fn now() -> Time {
    Time::default().after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Locks a mutex whose data stays valid whatever panicked while it was held: every change under our locks is one assignment
/// or one insertion.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|e| internal("draw random bytes", e))?;
    Ok(bytes)
}

/// Random bytes as hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    Ok(random::<N>()?.iter().map(|b| format!("{b:02x}")).collect())
}
