//! Starting and stopping an agent, and what it tells its host process. Must never end tasks when it stops.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_types::NodeId;
use skep_types::clock::Clock;
use skep_types::gossip::Gossip;
use skep_types::object::NodeDescription;
use skep_types::spec::{Availability, Role};
use skep_wire::{Identity, Listener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::files::{Files, Memory};
use crate::plane::Plane;
use crate::session::{self, distinct};
use crate::worker::Worker;
use crate::{Attachments, Executor, Uplink};
use crate::{gossip, logs, tunnel};

const MANAGERS: &str = "managers.json";
/// Events wait for the host process, which handles one at a time; a role is told again in the next session.
const EVENTS: usize = 16;

/// What an agent needs to start.
#[derive(Clone)]
pub struct AgentConfig {
    /// This node.
    pub node: NodeId,
    /// Where it keeps what it must remember.
    pub memory: Arc<dyn Memory>,
    /// The way to the managers.
    pub uplink: Arc<dyn Uplink>,
    /// Its clock and dice.
    pub clock: Arc<dyn Clock>,
    /// Managers to begin with, `ip:port`; those learnt before are on disk.
    pub managers: Vec<(NodeId, String)>,
    /// Address of this host's data path, as told to others.
    pub addr: Option<Ipv4Addr>,
    /// Wanted availability.
    pub availability: Availability,
    /// What runs the containers.
    pub executor: Arc<dyn Executor>,
}

/// Something its host process must act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The node has another role now: its certificate must be renewed.
    RoleChanged(Role),
    /// Other managers.
    Managers(Vec<(NodeId, String)>),
    /// Another root is to be trusted, PEM.
    Roots(String),
    /// The certificate must be renewed now.
    Renew,
    /// The node was removed from the swarm.
    Removed,
}

pub(crate) struct Inner {
    pub(crate) config: AgentConfig,
    managers: Mutex<Vec<(NodeId, String)>>,
    files: Files,
    events: mpsc::Sender<AgentEvent>,
    pub(crate) connected: watch::Sender<bool>,
    pub(crate) again: watch::Sender<u64>,
    /// The description is to be told again, in the session of now.
    pub(crate) describe: watch::Sender<u64>,
    pub(crate) goodbye: watch::Sender<bool>,
    /// Containers that are no tasks on overlay networks.
    pub(crate) attachments: Arc<Attachments>,
    /// Places for clients that read logs.
    pub(crate) readers: Arc<Semaphore>,
    /// Places for clients that are in containers.
    pub(crate) tunnels: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Inner {
    pub(crate) fn managers(&self) -> Vec<(NodeId, String)> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_managers(&self, m: Vec<(NodeId, String)>) {
        let m = distinct(m);
        if m.is_empty() || m == self.managers() {
            return;
        }
        self.files.put_named(MANAGERS, &m);
        self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&m);
        self.tell(AgentEvent::Managers(m));
    }

    /// Remembers one more manager until the leader tells all of them.
    pub(crate) fn add_manager(&self, addr: String) {
        let mut known = self.managers.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().all(|(_, a)| *a != addr) {
            known.push((NodeId::default(), addr));
        }
    }

    /// What this host is.
    pub(crate) async fn description(&self) -> NodeDescription {
        let (tls, certificate) = self.config.uplink.tls().unzip();
        NodeDescription { tls, certificate, ..self.config.executor.describe().await }
    }

    pub(crate) fn tell(&self, e: AgentEvent) {
        if self.events.try_send(e).is_err() {
            tracing::warn!("agent: an event was not taken");
        }
    }
}

/// Hears what other nodes say of their tasks while no manager can be reached.
#[derive(Clone)]
pub struct Ear(Plane);

impl Listener for Ear {
    fn heard(&self, who: Identity, gossip: Gossip) {
        self.0.heard(who.node, gossip);
    }
}

/// A running agent. Its tasks go on when it is dropped.
pub struct Agent {
    inner: Arc<Inner>,
    plane: Plane,
    join: JoinHandle<()>,
    gossip: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.inner.stop.send_replace(true);
        self.join.abort();
        self.gossip.abort();
        self.inner.attachments.open(false);
    }
}

impl Agent {
    /// Starts an agent; takes up the tasks it had before.
    pub async fn start(config: AgentConfig) -> (Self, mpsc::Receiver<AgentEvent>) {
        let files = Files::new(config.memory.clone());
        let mut managers: Vec<(NodeId, String)> = files.named(MANAGERS).unwrap_or_default();
        managers.extend(config.managers.iter().cloned());
        let (events, rx) = mpsc::channel(EVENTS);
        let attachments = config.executor.attachments().unwrap_or_default();
        attachments.open(true);
        let inner = Arc::new(Inner {
            config,
            attachments,
            managers: Mutex::new(distinct(managers)),
            files: files.clone(),
            events,
            connected: watch::channel(false).0,
            again: watch::channel(0).0,
            describe: watch::channel(0).0,
            goodbye: watch::channel(false).0,
            readers: Arc::new(Semaphore::new(logs::CLIENTS)),
            tunnels: Arc::new(Semaphore::new(tunnel::CLIENTS)),
            stop: watch::channel(false).0,
        });
        let worker = Worker::start(inner.config.executor.clone(), inner.config.clock.clone(), files).await;
        let plane = worker.plane.clone();
        let gossip = tokio::spawn(gossip::run(inner.config.uplink.clone(), plane.clone()));
        let join = tokio::spawn(session::run(inner.clone(), worker));
        (Self { inner, plane, join, gossip }, rx)
    }

    /// For what other nodes tell.
    #[must_use]
    pub fn ear(&self) -> Ear {
        Ear(self.plane.clone())
    }

    /// Managers it knows: (node id, `ip:port`).
    #[must_use]
    pub fn managers(&self) -> Vec<(NodeId, String)> {
        self.inner.managers()
    }

    /// Whether it has a session with a leader.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.inner.connected.subscribe()
    }

    /// Begins its session anew, with the certificate of now.
    pub fn reconnect(&self) {
        self.inner.again.send_modify(|n| *n += 1);
    }

    /// Tells the managers what this host is, if it changed, without waiting for the next look at it.
    pub fn describe(&self) {
        self.inner.describe.send_modify(|n| *n += 1);
    }

    /// Tells the leader that this node leaves, if one can be reached within two seconds, and stops.
    pub async fn leave(self) {
        if *self.inner.connected.borrow() {
            self.inner.goodbye.send_replace(true);
            let mut connected = self.inner.connected.subscribe();
            // Not heard in time: the managers will notice the silence.
            let _ = tokio::time::timeout(Duration::from_secs(2), connected.wait_for(|c| !*c)).await;
        }
    }
}
