//! One container: its record, its phase, and who waits for it.

mod attach;
mod connect;
mod create;
mod devices;
mod driven;
mod etc;
mod exec;
mod exit;
mod files;
mod health;
mod launch;
mod log;
mod network;
mod pause;
mod reach;
mod remove;
mod rename;
mod shared;
mod stop;
mod usage;
mod volumes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use skep_types::container::{ContainerInfo, ContainerState, FilePlace, NetworkJoin};
use skep_types::health::HealthStatus;
use tokio::sync::watch;

pub use attach::AttachStream;
pub use exec::ExecTable;
pub use reach::Archive;

pub(crate) use exit::found_exit;
pub(crate) use launch::parse_size;
pub use log::has_readable_log;
pub(crate) use network::request_of;

use crate::attachments::Place;
use crate::error::{Result, internal};
use crate::files::write_json;
use crate::net::Sandbox;

/// What is kept of a container in `container.json`.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct Record {
    /// What `inspect` shows.
    pub info: ContainerInfo,
    /// Lower directories of its root filesystem, top first.
    pub lower: Vec<PathBuf>,
    /// Networks to join at each start.
    pub networks: Vec<NetworkJoin>,
    /// `networks` is all of them: it was connected or disconnected by hand.
    #[serde(default)]
    pub explicit: bool,
    /// Address on the mesh.
    #[serde(default)]
    pub ingress_address: Option<std::net::Ipv4Addr>,
    /// Ports on the mesh.
    #[serde(default)]
    pub ingress_ports: Vec<(skep_types::spec::Protocol, u16)>,
    /// Secrets and configs that it gets at its start.
    #[serde(default)]
    pub files: Vec<FilePlace>,
    /// Its place in the network while it runs.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// What it holds on overlay networks of the swarm while it runs or is about to, if it is no task.
    #[serde(default)]
    pub places: Vec<Place>,
    /// A user asked it to stop: `unless-stopped` and `always` respect that.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// Volumes that take the image's content when they are empty: (volume path, target).
    #[serde(default)]
    pub copy_up: Vec<(PathBuf, String)>,
    /// The same of volumes that plugins mount: targets.
    #[serde(default)]
    pub driven_copies: Vec<String>,
}

/// What waiters look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phase {
    /// State.
    pub state: ContainerState,
    /// How often it ended.
    pub exits: u64,
    /// Last exit code.
    pub exit_code: i32,
    /// Why it did not start.
    pub error: String,
    /// Killed for memory.
    pub oom: bool,
    /// What its health check says, if it has one.
    pub health: Option<HealthStatus>,
    /// It is gone.
    pub removed: bool,
}

/// Until when to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Does not run.
    NotRunning,
    /// Ends the next time.
    NextExit,
    /// Is removed.
    Removed,
}

/// A container of this host.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its directory in the data root: record, log, writable layer, exit file.
    pub dir: PathBuf,
    /// Its directory in the exec root: the shim's socket and configuration.
    pub bundle: PathBuf,
    record: Mutex<Record>,
    phase: watch::Sender<Phase>,
    /// Held by start, exit and removal, one at a time.
    pub(crate) ops: Arc<tokio::sync::Mutex<()>>,
    /// Clients that attached before the start.
    pending: Mutex<Vec<attach::Pending>>,
}

impl Container {
    pub(crate) fn new(record: Record, dir: PathBuf, bundle: PathBuf) -> Self {
        let health = record.info.health.as_ref().map(|h| h.status);
        let phase = Phase { state: record.info.state, exit_code: record.info.exit_code, health, ..Phase::default() };
        Self {
            id: record.info.id.clone(),
            dir,
            bundle,
            record: Mutex::new(record),
            phase: watch::channel(phase).0,
            ops: Arc::default(),
            pending: Mutex::default(),
        }
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        crate::lock(&self.record).clone()
    }

    /// What `inspect` shows.
    pub fn info(&self) -> ContainerInfo {
        crate::lock(&self.record).info.clone()
    }

    /// Whether it carries a label with this value.
    pub(crate) fn has_label(&self, key: &str, value: &str) -> bool {
        crate::lock(&self.record).info.config.labels.get(key).is_some_and(|v| v == value)
    }

    /// Its process runs.
    pub fn is_running(&self) -> bool {
        self.phase.borrow().state == ContainerState::Running
    }

    /// Follows its phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Changes the record in memory and on disk and tells the waiters.
    ///
    /// # Errors
    /// When the disk refuses; memory has the change all the same, since it is what is true.
    pub(crate) fn update(&self, durable: bool, change: impl FnOnce(&mut Record)) -> Result<()> {
        let record = self.note(change);
        write_json(&self.dir.join("container.json"), &record, durable)
            .map_err(|e| internal(&format!("write the record of container {}", self.id), e))
    }

    /// Changes the record in memory and tells the waiters: for what may be lost with the daemon. Returns the record.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Record)) -> Record {
        let record = {
            let mut record = crate::lock(&self.record);
            change(&mut record);
            record.clone()
        };
        let info = &record.info;
        self.phase.send_if_modified(|phase| {
            let before = phase.clone();
            phase.state = info.state;
            phase.exit_code = info.exit_code;
            phase.error.clone_from(&info.error);
            phase.oom = info.oom_killed;
            phase.health = info.health.as_ref().map(|h| h.status);
            *phase != before
        });
        record
    }

    fn count_exit(&self) {
        self.phase.send_modify(|phase| phase.exits += 1);
    }

    fn mark_removed(&self) {
        self.phase.send_modify(|phase| phase.removed = true);
    }

    /// Starts to wait now; the answer comes when the condition holds.
    pub fn wait(&self, condition: WaitFor) -> impl Future<Output = Phase> + Send + use<> {
        let mut watch = self.phase.subscribe();
        let exits = watch.borrow_and_update().exits;
        async move {
            let met = |p: &Phase| {
                p.removed
                    || match condition {
                        WaitFor::NotRunning => !matches!(p.state, ContainerState::Running | ContainerState::Restarting),
                        WaitFor::NextExit => p.exits > exits,
                        WaitFor::Removed => false,
                    }
            };
            // The sender lives as long as the container; if it is gone, so is the container.
            match watch.wait_for(met).await {
                Ok(phase) => phase.clone(),
                Err(_) => Phase { removed: true, ..Phase::default() },
            }
        }
    }
}
