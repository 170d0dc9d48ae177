//! Starting and stopping a manager. Must never leave a task of it running after [`Manager::stop`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_plan::allocate;
use skep_raft::{Key, KeyRing, Member, Peer, Raft, RaftConfig, Storage};
use skep_state::{Op, Store};
use skep_types::clock::Clock;
use skep_types::container::Event;
use skep_types::control::{Code, ControlError, ControlRequest, ControlResponse};
use skep_types::host::LogOptions;
use skep_types::logs::{LogItem, LogTarget};
use skep_types::object::{Cluster, ManagerStatus, Meta, Network, Node, TlsInfo};
use skep_types::spec::{Availability, ClusterSpec, NetworkSpec, Role};
use skep_types::{ClusterId, Ipv4Net, NetworkId, NodeId, Secret};
use skep_wire::{ControlAnswer, ControlCall, Handler};
use tokio::sync::{broadcast, mpsc, watch};

use crate::dispatch::Planes;
use crate::error::rpc;
use crate::events::Teller;
use crate::handler::Door;
use crate::links::{Contacts, Links, RaftLinks};
use crate::presence::{self, Heard};
use crate::shared::Shared;
use crate::tables::Tables;
use crate::{ManagerError, Observer, SecretDrivers, dispatch, leader, logs, standing, statuses, tunnel};

/// What a manager needs to start.
#[derive(Clone)]
pub struct ManagerConfig {
    /// Where its raft log is.
    pub storage: Arc<dyn Storage>,
    /// Keys that the log is sealed with.
    pub keys: KeyRing,
    /// This node.
    pub node: NodeId,
    /// Its raft id, drawn at random for each join.
    pub raft_id: u64,
    /// Where other managers reach it, `ip:port`.
    pub addr: String,
    /// The way to other managers.
    pub links: Arc<dyn Links>,
    /// Its clock and dice.
    pub clock: Arc<dyn Clock>,
    /// The swarm's root certificate, PEM.
    pub root_pem: String,
    /// Raft entries between snapshots.
    pub snapshot_every: u64,
    /// Told of each step; for the simulator.
    pub observer: Option<Arc<dyn Observer>>,
    /// Where what becomes of nodes, services and networks is told.
    pub events: Option<broadcast::Sender<Event>>,
    /// Who is asked for secrets with a driver.
    pub secrets: Option<Arc<dyn SecretDrivers>>,
}

/// What founds a new swarm.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Its id.
    pub cluster: ClusterId,
    /// Settings.
    pub spec: ClusterSpec,
    /// Key of the root, PEM.
    pub root_key: String,
    /// Pools and prefix length of subnets.
    pub address_pools: (Vec<Ipv4Net>, u8),
    /// UDP port of VXLAN.
    pub data_path_port: u16,
    /// Whether the first node takes tasks.
    pub availability: Availability,
    /// `SWMKEY-1-…` if managers are to be locked, else empty.
    pub unlock_key: Secret,
}

/// A manager. Stops when dropped.
pub struct Manager {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manager({})", self.shared.config.node)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

impl Manager {
    /// Starts a manager from its directory. A new one takes part after [`Manager::bootstrap`] or [`Manager::join`].
    ///
    /// # Errors
    /// [`ManagerError::Open`] if its log cannot be read.
    pub async fn start(config: ManagerConfig) -> Result<Self, ManagerError> {
        let teller = config.events.clone().map(|out| Teller { out, since: config.clock.now() });
        let tables = Arc::new(Tables::new(config.observer.clone(), teller));
        let (links, clock) = (config.links.clone(), config.clock.clone());
        let contacts = Arc::new(Contacts::default());
        let way = RaftLinks { links: links.clone(), contacts: contacts.clone(), from: config.raft_id };
        let mut rc = RaftConfig::new(config.raft_id);
        // The swarm's settings decide; see `follow_settings`.
        rc.snapshot_every = u64::MAX;
        let snapshot_every = config.snapshot_every.max(100);
        let raft = Raft::open(rc, config.storage.clone(), config.keys.clone(), Arc::new(way), tables.clone()).await?;
        raft.set_snapshot_every(snapshot_every);
        let (tx, rx) = mpsc::channel(statuses::QUEUE);
        let planes = Planes::new(&tables);
        let shared = Arc::new(Shared {
            config,
            raft,
            tables,
            clock,
            links,
            contacts,
            leading: watch::channel(None).0,
            hint: std::sync::Mutex::default(),
            membership: tokio::sync::Mutex::default(),
            started: tokio::time::Instant::now(),
            began: std::sync::Mutex::default(),
            attached: watch::channel(false).0,
            sessions: Heard::default(),
            heard: Heard::default(),
            planes,
            followed: Default::default(),
            turns: Default::default(),
            logs: Default::default(),
            tunnels: Default::default(),
            asking: tokio::sync::Semaphore::new(dispatch::AT_ONCE),
            statuses: tx,
            stop: watch::channel(false).0,
        });
        tokio::spawn(leader::run(shared.clone()));
        tokio::spawn(presence::run(shared.clone()));
        tokio::spawn(statuses::run(shared.clone(), rx));
        let (gather, mut stop) = (shared.tables.clone().gather(), shared.stop.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => {}
                () = gather => {}
            }
        });
        tokio::spawn(follow_settings(shared.clone()));
        if let Some(out) = shared.config.events.clone() {
            tokio::spawn(standing::run(shared.clone(), out));
        }
        Ok(Self { shared })
    }

    /// Founds a new swarm of which this is the first manager.
    ///
    /// # Errors
    /// [`ManagerError::Bootstrap`].
    pub async fn bootstrap(&self, b: Bootstrap) -> Result<(), ManagerError> {
        let fail = |e: &dyn std::fmt::Display| ManagerError::Bootstrap(e.to_string());
        let c = &self.shared.config;
        let me = Peer { id: c.raft_id, node_id: c.node.to_string(), addr: c.addr.clone() };
        self.shared.raft.initialize(&me).await.map_err(|e| fail(&e))?;
        let mut leadership = self.shared.raft.leadership();
        let elected = leadership.wait_for(|l| l.is_leader);
        tokio::time::timeout(Duration::from_secs(10), elected)
            .await
            .map_err(|_| fail(&"no leader within 10 s"))?
            .map_err(|e| fail(&e))?;
        let (pools, size) = b.address_pools;
        let subnet = allocate::subnet(&Store::default(), &pools, size).map_err(|e| fail(&e))?;
        let gateway = subnet.nth(1).ok_or_else(|| fail(&"the address pool is too small"))?;
        let token = |secret| skep_pki::JoinToken::new(&c.root_pem, secret).map(|t| t.to_string());
        let cluster = Cluster {
            id: b.cluster,
            meta: Meta::default(),
            spec: b.spec,
            root_ca_cert: c.root_pem.clone(),
            root_ca_key: b.root_key.into(),
            worker_token: token(self.shared.clock.random()).map_err(|e| fail(&e))?,
            manager_token: token(self.shared.clock.random()).map_err(|e| fail(&e))?,
            address_pools: pools,
            subnet_size: size,
            data_path_port: b.data_path_port,
            intermediate: String::new(),
            root_rotation: None,
            last_forced_rotation: 0,
            unlock_key: b.unlock_key,
            blacklist: BTreeMap::new(),
            tls: TlsInfo::default(),
        };
        // Both families, unasked: nobody could ask before the swarm is there.
        let spec = NetworkSpec { name: "ingress".into(), ingress: true, ipv6: true, ..NetworkSpec::default() };
        let v6 = allocate::side6(&Store::default(), b.cluster, &spec, subnet).map_err(|e| fail(&e))?;
        let ingress = Network {
            id: NetworkId(self.shared.clock.new_id()),
            meta: Meta::default(),
            spec,
            subnet,
            gateway,
            vni: 4096,
            v6: Some(v6),
        };
        let status = ManagerStatus { raft_id: c.raft_id, addr: c.addr.clone() };
        let node = Node { manager: Some(status), ..Node::new(c.node, Role::Manager, b.availability) };
        let ops = vec![Op::PutCluster(Box::new(cluster)), Op::PutNetwork(Box::new(ingress)), Op::PutNode(Box::new(node))];
        self.shared.write_ops(ops).await.map_err(|e| fail(&e))
    }

    /// Whether its log says that it belongs to a swarm already.
    pub async fn has_joined(&self) -> bool {
        self.shared.raft.is_initialized().await
    }

    /// Asks the swarm's managers, in turn, to take this one in.
    ///
    /// # Errors
    /// [`ManagerError::Join`] with what the last one said.
    pub async fn join(&self, managers: &[String]) -> Result<(), ManagerError> {
        let c = &self.shared.config;
        let call = ControlCall::JoinRaft { node: c.node, raft_id: c.raft_id, addr: c.addr.clone() };
        let end = tokio::time::Instant::now() + Duration::from_secs(18);
        let mut last = "no other manager is known".to_owned();
        let mut queue: Vec<String> = managers.iter().filter(|m| **m != c.addr).cloned().collect();
        let mut at = 0;
        while tokio::time::Instant::now() < end && !queue.is_empty() {
            let addr = queue[at % queue.len()].clone();
            at += 1;
            match self.shared.links.control(&addr, call.clone(), Duration::from_secs(16)).await {
                Ok(ControlAnswer::Joined) => return Ok(()),
                Ok(ControlAnswer::NotLeader { leader: Some(l) }) => {
                    // The leader is asked next; the list stays bounded because it holds each address once.
                    queue.retain(|a| *a != l);
                    queue.insert(0, l);
                    at = 0;
                }
                Ok(ControlAnswer::Error(e)) => last = e.message,
                Ok(_) => last = format!("{addr} knows no leader"),
                Err(e) => last = e.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(ManagerError::Join(last))
    }

    /// Has the swarm know where this manager, which is a member already, is reached now.
    ///
    /// # Errors
    /// [`ManagerError::Join`] if there is no leader, or it refuses.
    pub async fn tell_address(&self) -> Result<(), ManagerError> {
        let c = &self.shared.config;
        let known = |m: &Member| m.peer.id == c.raft_id && m.peer.addr == c.addr;
        // Its own log may be behind, but what it says of this manager only this manager could have changed.
        let noted = self.shared.store().node(c.node).is_some_and(|n| n.manager.as_ref().is_some_and(|m| m.addr == c.addr));
        if noted && self.members().iter().any(known) {
            return Ok(());
        }
        let call = ControlCall::JoinRaft { node: c.node, raft_id: c.raft_id, addr: c.addr.clone() };
        let mut stop = self.shared.stop.subscribe();
        let answer = tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return Err(ManagerError::Join("this manager stops".into())),
            a = self.shared.call(call) => a,
        };
        match answer {
            Ok(ControlAnswer::Joined) => Ok(()),
            Ok(ControlAnswer::Error(e)) | Err(e) => Err(ManagerError::Join(e.message)),
            Ok(_) => Err(ManagerError::Join("the leader answered something else".into())),
        }
    }

    /// What the wire's server hands calls to.
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(Door(self.shared.clone()))
    }

    /// Makes a call on the cluster, here or at the leader.
    ///
    /// # Errors
    /// [`ControlError`] with the text that clients see.
    pub async fn call(&self, request: ControlRequest) -> Result<ControlResponse, ControlError> {
        match self.shared.call(ControlCall::Request(Box::new(request))).await? {
            ControlAnswer::Response(r) => Ok(*r),
            ControlAnswer::Error(e) => Err(e),
            _ => Err(rpc(Code::Internal, "the leader answered something else")),
        }
    }

    /// Logs of tasks, from whichever nodes have them.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such service or task, or no quorum.
    pub async fn logs(&self, target: &LogTarget, options: LogOptions) -> Result<mpsc::Receiver<LogItem>, ControlError> {
        logs::open(&self.shared, target, options).await
    }

    /// A way to the container of a task, wherever it runs: the Engine API of this one container is spoken on it.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such task, it does not run, its node does not answer, or there is no quorum.
    pub async fn tunnel(&self, task: &str) -> Result<tokio::io::DuplexStream, ControlError> {
        tunnel::open(&self.shared, task).await
    }

    /// A way to a node's network, to be looked at: `/skep/v1/network/…` is spoken on it.
    ///
    /// # Errors
    /// [`ControlError`] if there is no such node, it is not ready or does not answer, or there is no quorum.
    pub async fn network_tunnel(&self, node: &str) -> Result<tokio::io::DuplexStream, ControlError> {
        tunnel::network(&self.shared, node).await
    }

    /// The tables as this manager knows them, without asking the leader.
    #[must_use]
    pub fn store(&self) -> Arc<Store> {
        self.shared.store()
    }

    /// Seals everything on this disk under another key; see [`Raft::rotate_key`].
    ///
    /// # Errors
    /// [`ManagerError::Open`] if the disk refused; the keys before it are still needed then.
    pub async fn rotate_key(&self, key: Key) -> Result<(), ManagerError> {
        Ok(self.shared.raft.rotate_key(key).await?)
    }

    /// Changes with every change of the tables.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.tables.watch()
    }

    /// Becomes true when another manager says that this one is no longer a member of raft, and never will be again.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.shared.raft.removed()
    }

    /// The term in which this manager leads, if it does.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        *self.shared.leading.borrow()
    }

    /// Whether this manager leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.shared.is_leading()
    }

    /// The members of raft.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.shared.raft.metrics().members
    }

    /// Stops it, as orderly as it goes.
    pub async fn stop(&self) {
        // Writes elsewhere wait for milliseconds so, instead of for an election.
        self.shared.raft.hand_over(Duration::from_secs(1)).await;
        self.shared.stop.send_replace(true);
        self.shared.raft.shutdown().await;
    }
}

/// Keeps what every manager does by the swarm's settings as they say.
async fn follow_settings(s: Arc<Shared>) {
    let (mut changed, mut stop) = (s.tables.watch(), s.stop.subscribe());
    loop {
        changed.mark_unchanged();
        if let Some(c) = s.store().cluster() {
            s.raft.set_snapshot_every(c.spec.snapshot_interval);
            s.raft.set_snapshots_kept(usize::from(c.spec.old_snapshots));
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            r = changed.changed() => {
                if r.is_err() {
                    return;
                }
            }
        }
    }
}
