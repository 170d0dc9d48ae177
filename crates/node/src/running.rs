//! The parts of a host that is in a swarm. Must never have a manager part without a manager's certificate.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use skep_agent::{Agent, AgentConfig, AgentEvent, DirMemory, Executor, TlsUplink};
use skep_manager::{DirStorage, Manager, ManagerConfig, TlsLinks};
use skep_types::control::ControlError;
use skep_types::gossip::PORT;
use skep_wire::{Server, SystemClock, Tls};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::internal;
use crate::files::{Disk, Files};
use crate::keys::Keys;
use crate::node::Shared;

/// The door of a manager that was just stopped is closed within milliseconds.
const DOOR_WAIT: Duration = Duration::from_secs(2);

/// Pause before the port of the nodes is asked for again.
const EAR_RETRY: Duration = Duration::from_secs(1);

async fn listen(addr: &str) -> Result<TcpListener, ControlError> {
    let until = Instant::now() + DOOR_WAIT;
    loop {
        match TcpListener::bind(addr).await {
            Ok(l) => return Ok(l),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(e) => return Err(internal("listen for the swarm", format!("could not bind to {addr}: {e}"))),
        }
    }
}

/// A manager and its open door.
pub(crate) struct ManagerPart {
    pub(crate) manager: Arc<Manager>,
    server: Server,
}

impl ManagerPart {
    /// Opens the door and starts the manager.
    pub(crate) async fn start(shared: &Shared, disk: &Disk, keys: &Keys, tls: &Tls) -> Result<Self, ControlError> {
        let listener = listen(&disk.listen).await?;
        let config = Self::config(shared, disk, keys, tls)?;
        let manager = Arc::new(Manager::start(config).await.map_err(|e| internal("start manager", e))?);
        let server =
            Server::start(listener, tls.clone(), manager.handler()).map_err(|e| internal("listen for the swarm", e))?;
        Ok(Self { manager, server })
    }

    /// What the manager of this host starts with.
    pub(crate) fn config(shared: &Shared, disk: &Disk, keys: &Keys, tls: &Tls) -> Result<ManagerConfig, ControlError> {
        Ok(ManagerConfig {
            storage: Arc::new(DirStorage::new(shared.files.raft())),
            keys: keys.ring()?,
            node: disk.node,
            raft_id: disk.raft_id,
            addr: disk.advertise.clone(),
            links: Arc::new(TlsLinks::new(tls.clone())),
            clock: Arc::new(SystemClock),
            root_pem: keys.root().to_owned(),
            snapshot_every: 10_000,
            observer: None,
            events: Some(shared.events.clone()),
            secrets: shared.secrets.clone(),
        })
    }

    /// Closes the door and stops the manager; its log is closed afterwards.
    pub(crate) async fn stop(self) {
        drop(self.server);
        self.manager.stop().await;
    }
}

/// Everything that runs on this host for its swarm.
pub(crate) struct Running {
    pub(crate) disk: Disk,
    pub(crate) keys: Keys,
    pub(crate) tls: Tls,
    pub(crate) agent: Agent,
    pub(crate) manager: Option<ManagerPart>,
    /// Open as long as this is kept.
    pub(crate) _ear: EarPart,
}

/// The open door for what other nodes tell; shut when dropped.
pub(crate) struct EarPart(JoinHandle<()>);

impl Drop for EarPart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl EarPart {
    /// Opens it as soon as the port is free. Nothing waits for it: only what ends while no manager can be reached is told there.
    pub(crate) fn open(agent: &Agent, tls: &Tls) -> Self {
        let (ear, tls) = (agent.ear(), tls.clone());
        Self(tokio::spawn(async move {
            let mut warned = false;
            loop {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await;
                match listener.and_then(|l| Server::listen(l, tls.clone(), Arc::new(ear.clone()))) {
                    Ok(_server) => return std::future::pending().await,
                    Err(error) if warned => tracing::debug!(%error, "swarm: other nodes are not heard yet"),
                    Err(error) => {
                        warned = true;
                        tracing::info!(%error, port = PORT, "swarm: other nodes are not heard yet");
                    }
                }
                tokio::time::sleep(EAR_RETRY).await;
            }
        }))
    }
}

/// Starts the agent of this host. A manager's first address to turn to is its own.
pub(crate) async fn start_agent(
    files: &Files,
    disk: &Disk,
    tls: &Tls,
    executor: &Arc<dyn Executor>,
) -> Result<(Agent, mpsc::Receiver<AgentEvent>), ControlError> {
    let mut managers = disk.managers.clone();
    if disk.role == skep_types::spec::Role::Manager {
        managers.push((disk.node, disk.advertise.clone()));
    }
    let memory = DirMemory::open(&files.worker()).map_err(|e| internal("make the agent's directory", e))?;
    let config = AgentConfig {
        node: disk.node,
        memory: Arc::new(memory),
        uplink: Arc::new(TlsUplink(tls.clone())),
        clock: Arc::new(SystemClock),
        managers,
        addr: disk.data_path,
        availability: disk.availability,
        executor: executor.clone(),
    };
    Ok(Agent::start(config).await)
}
