//! The host's door to its swarm. Must never hold its lock over a call to the cluster, and never let two changes of membership
//! run at once.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use skep_agent::Executor;
use skep_manager::{Manager, SecretDrivers};
use skep_types::NodeId;
use skep_types::container::Event;
use skep_types::control::{
    ControlError, ControlRequest, ControlResponse, InitRequest, JoinRequest, LocalState, RestoreRequest, SwarmInfo, SwarmStatus,
};
use skep_types::host::LogOptions;
use skep_types::logs::{LogItem, LogTarget};
use skep_types::spec::Role;
use tokio::sync::{Mutex, broadcast, mpsc};

use crate::error::{certificates_expired, internal, invalid, locked, no_manager_inactive, no_manager_worker, no_manager_yet};
use crate::files::Files;
use crate::running::Running;
use crate::{address, backup, join, leave, lock, repair, resume};

/// Events of the swarm that a slow listener may be behind before it misses some.
const EVENTS: usize = 1024;

/// What can be told without waiting for anything.
#[derive(Default, Clone)]
pub(crate) struct View {
    pub(crate) state: LocalState,
    pub(crate) node: Option<NodeId>,
    pub(crate) addr: String,
    pub(crate) role: Role,
    pub(crate) manager: Option<Arc<Manager>>,
    pub(crate) managers: Vec<(NodeId, String)>,
    pub(crate) error: String,
    /// The certificate of this host has expired.
    pub(crate) expired: bool,
}

pub(crate) struct Shared {
    pub(crate) files: Files,
    pub(crate) executor: Arc<dyn Executor>,
    /// What the manager of this host, if there is one, tells of the swarm.
    pub(crate) events: broadcast::Sender<Event>,
    /// Who keeps secrets elsewhere.
    pub(crate) secrets: Option<Arc<dyn SecretDrivers>>,
    /// Held over each change of membership, and by nothing else.
    pub(crate) running: Mutex<Option<Running>>,
    view: StdMutex<View>,
}

impl Shared {
    pub(crate) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_view(&self, f: impl FnOnce(&mut View)) {
        f(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows what runs.
    pub(crate) fn show(&self, r: &Running, error: &str) {
        self.set_view(|v| {
            *v = View {
                state: if error.is_empty() { LocalState::Active } else { LocalState::Error },
                node: Some(r.disk.node),
                addr: host(&r.disk.advertise).to_owned(),
                role: r.disk.role,
                manager: r.manager.as_ref().map(|m| m.manager.clone()),
                managers: r.agent.managers(),
                error: error.to_owned(),
                expired: false,
            };
        });
    }
}

fn host(addr: &str) -> &str {
    addr.rsplit_once(':').map_or(addr, |(h, _)| h)
}

/// `ip:port` to listen on and to advertise, and the IP of the latter.
pub(crate) fn addresses(listen: &str, advertise: &str) -> Result<(String, String, Ipv4Addr), ControlError> {
    let listen = if listen.is_empty() { "0.0.0.0:2377" } else { listen };
    let listen = if listen.contains(':') { listen.to_owned() } else { format!("{listen}:2377") };
    let port = listen.rsplit_once(':').map_or("2377", |(_, p)| p);
    let advertise = if advertise.contains(':') { advertise.to_owned() } else { format!("{advertise}:{port}") };
    let ip = host(&advertise).parse().map_err(|_| {
        invalid(format!(
            "advertise address must be a non-zero IP address or network interface (with optional port number): {advertise:?}"
        ))
    })?;
    Ok((listen, advertise, ip))
}

/// A raft id never used before.
pub(crate) fn raft_id() -> Result<u64, ControlError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| internal("draw raft id", e))?;
    // Zero is left out so that it can mean "none".
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// This host in its swarm. Dropping it stops everything and keeps the files; tasks go on.
#[derive(Clone)]
pub struct SwarmNode {
    shared: Arc<Shared>,
}

impl SwarmNode {
    /// Opens the directory and starts what was running before.
    ///
    /// # Errors
    /// Only if the directory itself cannot be used. A swarm that cannot be entered again is told by [`SwarmNode::info`].
    pub async fn open(dir: &Path, executor: Arc<dyn Executor>) -> Result<Self, ControlError> {
        Self::open_at(dir, executor, &[], None).await
    }

    /// As [`SwarmNode::open`] on a host with these interfaces, (name, address): an advertised address that the operator did not
    /// name follows them. `secrets` is asked for secrets with a driver while this host is a manager.
    ///
    /// # Errors
    /// As there.
    pub async fn open_at(
        dir: &Path,
        executor: Arc<dyn Executor>,
        interfaces: &[(String, Ipv4Addr)],
        secrets: Option<Arc<dyn SecretDrivers>>,
    ) -> Result<Self, ControlError> {
        std::fs::create_dir_all(dir).map_err(|e| internal("make swarm directory", e))?;
        let files = Files(dir.to_path_buf());
        let events = broadcast::channel(EVENTS).0;
        let (running, view) = (Mutex::default(), StdMutex::default());
        let shared = Arc::new(Shared { files: files.clone(), executor, events, secrets, running, view });
        match files.load() {
            // Whatever is there was left by an attempt that did not succeed.
            Ok(None) => files.wipe().map_err(|e| internal("clean swarm directory", e))?,
            Ok(Some(mut disk)) => {
                if let Some(moved) = address::moved(&disk, interfaces) {
                    tracing::warn!(from = disk.advertise, to = moved.advertise, "swarm: the address of this host has changed");
                    files.save(&moved).map_err(|e| internal("write swarm state", e))?;
                    disk = moved;
                }
                resume::take_up(&shared, disk).await;
            }
            Err(e) => return Err(internal("read swarm state", e)),
        }
        Ok(Self { shared })
    }

    /// Founds a swarm with this host as its first manager. Returns the node's id.
    ///
    /// # Errors
    /// [`ControlError`] with the text that clients see; this host is in no swarm then.
    pub async fn init(&self, r: InitRequest) -> Result<NodeId, ControlError> {
        join::init(&self.shared, r).await
    }

    /// Joins a swarm, as what the token says. Returns the node's id.
    ///
    /// # Errors
    /// [`ControlError`] with the text that clients see; this host is in no swarm then.
    pub async fn join(&self, r: JoinRequest) -> Result<NodeId, ControlError> {
        join::join(&self.shared, r).await
    }

    /// Leaves the swarm: its tasks are removed from this host and the directory is emptied.
    ///
    /// # Errors
    /// [`ControlError`] on a manager without `force`, or if this host is in no swarm.
    pub async fn leave(&self, force: bool) -> Result<(), ControlError> {
        leave::leave(&self.shared, force).await
    }

    /// Unlocks a manager that came up locked, and starts it.
    ///
    /// # Errors
    /// [`ControlError`] if the key is wrong or the host is not locked.
    pub async fn unlock(&self, key: &str) -> Result<(), ControlError> {
        lock::unlock(&self.shared, key).await
    }

    /// Gets a new certificate for a host whose own has expired, with a join token of its role; its id and role stay. `remote` is
    /// a manager to ask, `ip:port`; those that are known are asked if it is empty.
    ///
    /// # Errors
    /// [`ControlError`] with what the managers say.
    pub async fn renew(&self, token: &str, remote: &str) -> Result<(), ControlError> {
        resume::renew_expired(&self.shared, token, remote).await
    }

    /// How the managers are doing; without a leader, what this one knows of them.
    ///
    /// # Errors
    /// [`ControlError`] if this host is no manager.
    pub async fn status(&self) -> Result<SwarmStatus, ControlError> {
        Ok(self.manager()?.status().await)
    }

    /// A backup of everything that the managers agree on, keys included; sealed with the unlock key if there is one.
    ///
    /// # Errors
    /// [`ControlError`] if this host is no manager, or there is no leader.
    pub async fn backup(&self) -> Result<Vec<u8>, ControlError> {
        backup::make(&*self.manager()?).await
    }

    /// Founds a swarm of one from a backup: the same swarm with the same tokens and services, and this host as its only manager.
    ///
    /// # Errors
    /// [`ControlError`] that names the damage, or if this host is in a swarm.
    pub async fn restore(&self, r: RestoreRequest) -> Result<NodeId, ControlError> {
        repair::restore(&self.shared, r).await
    }

    /// Where this host stands. Never waits for the cluster.
    #[must_use]
    pub fn info(&self) -> SwarmInfo {
        let v = self.shared.view();
        let mut info = SwarmInfo {
            node_id: v.node,
            node_addr: v.addr,
            state: v.state,
            control_available: v.manager.is_some(),
            error: v.error,
            managers: v.managers,
            ..SwarmInfo::default()
        };
        if let Some(m) = v.manager {
            let store = m.store();
            info.nodes = Some(store.nodes().count() as u64);
            info.manager_count = Some(store.nodes().filter(|n| n.role == Role::Manager).count() as u64);
            info.cluster = store.cluster().map(|c| Arc::new(skep_manager::shown(c)));
        }
        info
    }

    /// Makes a call on the cluster.
    ///
    /// # Errors
    /// [`ControlError`] with the text that clients see, also when this host is no manager.
    pub async fn call(&self, r: ControlRequest) -> Result<ControlResponse, ControlError> {
        self.manager()?.call(r).await
    }

    /// Logs of tasks, from whichever nodes have them.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such service or task, no quorum, or this host is no manager.
    pub async fn logs(&self, target: &LogTarget, options: LogOptions) -> Result<mpsc::Receiver<LogItem>, ControlError> {
        self.manager()?.logs(target, options).await
    }

    /// A way to the container of a task, wherever it runs.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such task, it does not run, its node does not answer, there is no quorum, or this host is no
    /// manager.
    pub async fn tunnel(&self, task: &str) -> Result<tokio::io::DuplexStream, ControlError> {
        self.manager()?.tunnel(task).await
    }

    /// A way to a node's network, to be looked at.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such node, it is not ready or does not answer, there is no quorum, or this host is no manager.
    pub async fn network_tunnel(&self, node: &str) -> Result<tokio::io::DuplexStream, ControlError> {
        self.manager()?.network_tunnel(node).await
    }

    /// What becomes of nodes, services and networks from now on, as long as this host is a manager.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The manager on this host.
    fn manager(&self) -> Result<Arc<Manager>, ControlError> {
        let v = self.shared.view();
        match (v.manager, v.state, v.role) {
            (Some(m), _, _) => Ok(m),
            (None, LocalState::Locked, _) => Err(locked()),
            (None, LocalState::Error, _) if v.expired => Err(certificates_expired()),
            (None, LocalState::Inactive, _) => Err(no_manager_inactive()),
            (None, LocalState::Pending, _) | (None, _, Role::Manager) => Err(no_manager_yet()),
            (None, _, Role::Worker) => Err(no_manager_worker()),
        }
    }

    /// Stops agent and manager. Files and containers stay; [`SwarmNode::open`] takes them up again.
    pub async fn stop(&self) {
        let running = self.shared.running.lock().await.take();
        self.shared.set_view(|v| *v = View::default());
        if let Some(r) = running {
            drop(r.agent);
            if let Some(m) = r.manager {
                m.stop().await;
            }
        }
    }
}
