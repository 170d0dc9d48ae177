//! A simulated host: its daemon comes and goes, its disk and its containers stay. Does what the `node` crate does on a real
//! one: which parts run, and how the role changes. Must never run two daemons at once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_agent::{Agent, AgentConfig, AgentEvent};
use skep_manager::{Bootstrap, Manager, ManagerConfig};
use skep_pki::Identity;
use skep_raft::sim_disk::SimDisk;
use skep_raft::{Key, KeyRing};
use skep_types::clock::Clock;
use skep_types::control::{CertificateRequest, ControlError};
use skep_types::spec::{Availability, ClusterSpec, Role};
use skep_types::{ClusterId, Ipv4Net, NodeId};
use skep_wire::Handler;
use tokio::sync::mpsc;

use crate::check::Checker;
use crate::clock::SimClock;
use crate::executor::SimExecutor;
use crate::memory::SimMemory;
use crate::net::Outlet;
use crate::rng::Rng;
use crate::world::World;

/// The root of every simulated swarm; fixed, so that equal seeds give equal bytes.
const ROOT: &str = include_str!("../data/root.pem");
const ROOT_KEY: &str = include_str!("../data/root.key");
const REQUEST: &str = include_str!("../data/request.csr");
const CLUSTER: ClusterId = ClusterId(4711);
/// A certificate that takes longer is asked for at another manager.
const RENEW: Duration = Duration::from_secs(10);
/// Pause before joining raft, or a change of role, is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    incarnation: u64,
    up: bool,
    node: Option<NodeId>,
    role: Role,
    raft_id: u64,
    joined: bool,
    removed: bool,
    /// Manager addresses of the last session.
    managers: Vec<(NodeId, String)>,
    manager: Option<Arc<Manager>>,
    agent: Option<Agent>,
}

/// One host.
pub(crate) struct Host {
    index: usize,
    pub(crate) addr: String,
    pub(crate) clock: Arc<SimClock>,
    disk: Mutex<SimDisk>,
    seed: Mutex<Rng>,
    memory: Arc<SimMemory>,
    pub(crate) executor: SimExecutor,
    state: Mutex<State>,
}

impl Host {
    pub(crate) fn new(index: usize, start: tokio::time::Instant, rng: &mut Rng) -> Self {
        Self {
            index,
            addr: format!("10.0.0.{}:2377", index + 1),
            clock: Arc::new(SimClock::new(start, rng.fork())),
            disk: Mutex::new(SimDisk::new(rng.next())),
            seed: Mutex::new(rng.fork()),
            memory: Arc::default(),
            executor: SimExecutor::new(&format!("host{index}"), rng.fork()),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.lock().incarnation
    }

    pub(crate) fn is_up(&self) -> bool {
        self.lock().up
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.lock().removed
    }

    pub(crate) fn node(&self) -> Option<NodeId> {
        self.lock().node
    }

    pub(crate) fn manager(&self) -> Option<Arc<Manager>> {
        self.lock().manager.clone()
    }

    /// Whether its agent knows no manager of now: each that it knew was replaced while it was cut off. Nobody can find it, nor it
    /// anybody; its operator has to join it again.
    pub(crate) fn is_lost(&self, managers: &BTreeSet<&str>) -> bool {
        let known = self.lock().agent.as_ref().map(Agent::managers);
        known.is_some_and(|all| all.iter().all(|(_, addr)| !managers.contains(addr.as_str())))
    }

    pub(crate) fn handler(&self) -> Option<Arc<dyn Handler>> {
        self.manager().map(|m| m.handler())
    }

    pub(crate) fn disk(&self) -> SimDisk {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new, empty disk for the managers' log.
    fn wipe_disk(&self) {
        let seed = self.seed.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.crash();
        *disk = SimDisk::new(seed);
    }

    /// Who this host is by its certificate of now.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let s = self.lock();
        Some(Identity { node: s.node?, role: s.role, cluster: CLUSTER })
    }

    fn outlet(&self, world: &Arc<World>) -> Option<Outlet> {
        let s = self.lock();
        s.node?;
        Some(Outlet { world: world.clone(), host: self.index, incarnation: s.incarnation })
    }

    /// Founds the swarm.
    pub(crate) async fn found(&self, world: &Arc<World>) -> Result<(), String> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        {
            let mut s = self.lock();
            s.node = Some(NodeId(clock.new_id()));
            s.role = Role::Manager;
            s.raft_id = raft_id(&clock);
            s.joined = true;
            s.up = true;
        }
        let manager = self.start_manager(world).await?;
        let bootstrap = Bootstrap {
            cluster: CLUSTER,
            spec: ClusterSpec::default(),
            root_key: ROOT_KEY.into(),
            unlock_key: Default::default(),
            address_pools: (vec![Ipv4Net::new([10, 0, 0, 0].into(), 8)], 24),
            data_path_port: 4789,
            availability: Availability::Active,
        };
        manager.bootstrap(bootstrap).await.map_err(|e| e.to_string())?;
        self.start_agent(world).await;
        Ok(())
    }

    /// Joins the swarm of a host, as what `role` says.
    pub(crate) async fn join(&self, world: &Arc<World>, by: usize, role: Role) -> Result<(), ControlError> {
        let remote = &world.hosts[by];
        let Some(manager) = remote.manager() else { return Ok(()) };
        let store = manager.store();
        let Some(c) = store.cluster() else { return Ok(()) };
        let token = if role == Role::Manager { &c.manager_token } else { &c.worker_token };
        let request = CertificateRequest {
            csr: REQUEST.into(),
            token: token.clone(),
            availability: Availability::Active,
            expired: String::new(),
        };
        let cert = manager.handler().issue(request).await?;
        let clock: Arc<dyn Clock> = self.clock.clone();
        {
            let mut s = self.lock();
            s.node = Some(cert.node);
            s.role = cert.role;
            s.raft_id = raft_id(&clock);
            s.joined = false;
            s.up = true;
            s.managers = vec![(NodeId::default(), remote.addr.clone())];
        }
        if cert.role == Role::Manager
            && let Ok(m) = self.start_manager(world).await
        {
            self.join_raft(world, m);
        }
        self.start_agent(world).await;
        Ok(())
    }

    async fn start_manager(&self, world: &Arc<World>) -> Result<Arc<Manager>, String> {
        let outlet = self.outlet(world).ok_or("in no swarm")?;
        let (node, raft_id) = {
            let s = self.lock();
            (s.node.unwrap_or_default(), s.raft_id)
        };
        let check: Arc<Checker> = world.check.clone();
        check.restarted(self.index);
        let config = ManagerConfig {
            storage: self.disk().mount(),
            keys: KeyRing { current: Key::new([7; 32]), older: vec![] },
            node,
            raft_id,
            addr: self.addr.clone(),
            links: Arc::new(outlet.clone()),
            clock: self.clock.clone(),
            root_pem: ROOT.into(),
            snapshot_every: 300,
            events: None,
            secrets: None,
            observer: Some(check.observe(self.index)),
        };
        let manager = Arc::new(Manager::start(config).await.map_err(|e| e.to_string())?);
        let kept = {
            let mut s = self.lock();
            let kept = s.incarnation == outlet.incarnation;
            if kept {
                s.manager = Some(manager.clone());
            }
            kept
        };
        if !kept {
            manager.stop().await;
            return Err("killed while it started".into());
        }
        let (world, index, incarnation, mut removed) = (world.clone(), self.index, outlet.incarnation, manager.removed());
        tokio::spawn(async move {
            let told = removed.wait_for(|r| *r).await.is_ok();
            let removed = |h: &Self| h.manager().is_some_and(|m| *m.removed().borrow());
            while told && world.hosts[index].incarnation() == incarnation && removed(&world.hosts[index]) {
                change_role(&world, index, incarnation).await;
            }
        });
        Ok(manager)
    }

    async fn start_agent(&self, world: &Arc<World>) {
        let Some(outlet) = self.outlet(world) else { return };
        let incarnation = outlet.incarnation;
        let mut managers = self.lock().managers.clone();
        let Some(who) = self.identity() else { return };
        let node = who.node;
        if who.role == Role::Manager {
            managers.push((node, self.addr.clone()));
        }
        let config = AgentConfig {
            node,
            memory: self.memory.clone(),
            uplink: Arc::new(outlet),
            clock: self.clock.clone(),
            managers,
            addr: Some([10, 0, 0, u8::try_from(self.index + 1).unwrap_or(255)].into()),
            availability: Availability::Active,
            executor: Arc::new(self.executor.clone()),
        };
        let (agent, events) = Agent::start(config).await;
        {
            let mut s = self.lock();
            if s.incarnation != incarnation {
                return;
            }
            s.agent = Some(agent);
        }
        tokio::spawn(watch(world.clone(), self.index, incarnation, events));
    }

    fn join_raft(&self, world: &Arc<World>, manager: Arc<Manager>) {
        let (world, index, incarnation) = (world.clone(), self.index, self.incarnation());
        tokio::spawn(async move {
            let host = &world.hosts[index];
            while host.incarnation() == incarnation && host.manager().is_some_and(|m| Arc::ptr_eq(&m, &manager)) {
                let managers: Vec<String> = host.lock().managers.iter().map(|(_, a)| a.clone()).collect();
                if manager.join(&managers).await.is_ok() {
                    host.lock().joined = true;
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    /// The daemon dies. Without power its containers die too, and what the disk had not synced is lost in both cases, since the
    /// simulated disk has no cache of a kernel that outlives the process.
    pub(crate) fn kill(&self, power: bool) {
        let (manager, agent) = {
            let mut s = self.lock();
            s.incarnation += 1;
            s.up = false;
            (s.manager.take(), s.agent.take())
        };
        self.disk().crash();
        drop(agent);
        if let Some(m) = manager {
            // Nothing that it still does has any effect: its disk and its network are those of an incarnation that is over.
            tokio::spawn(async move { m.stop().await });
        }
        if power {
            self.executor.power_off();
        }
    }

    /// The daemon starts again from what its disk holds.
    pub(crate) async fn start(&self, world: &Arc<World>) -> Result<(), String> {
        let (role, joined) = {
            let mut s = self.lock();
            if s.up || s.node.is_none() || s.removed {
                return Ok(());
            }
            s.up = true;
            (s.role, s.joined)
        };
        if role == Role::Manager {
            let incarnation = self.incarnation();
            let m = match self.start_manager(world).await {
                Ok(m) => m,
                Err(e) => {
                    let mut s = self.lock();
                    if s.incarnation == incarnation {
                        s.up = false;
                    }
                    return Err(e);
                }
            };
            if !joined {
                self.join_raft(world, m);
            }
        }
        self.start_agent(world).await;
        Ok(())
    }
}

fn raft_id(clock: &Arc<dyn Clock>) -> u64 {
    u64::from_le_bytes(clock.random()).max(1)
}

/// Acts on what the agent hears, until this incarnation is over.
async fn watch(world: Arc<World>, index: usize, incarnation: u64, mut events: mpsc::Receiver<AgentEvent>) {
    let host = &world.hosts[index];
    while let Some(e) = events.recv().await {
        tracing::debug!(index, event = ?e, "sim: the agent hears");
        if host.incarnation() != incarnation {
            return;
        }
        match e {
            AgentEvent::Managers(m) => host.lock().managers = m,
            // Certificates are not simulated.
            AgentEvent::Roots(_) | AgentEvent::Renew => {}
            AgentEvent::Removed => {
                host.lock().removed = true;
                host.kill(false);
                host.disk_wiped();
                return;
            }
            AgentEvent::RoleChanged(_) => {
                change_role(&world, index, incarnation).await;
            }
        }
    }
}

impl Host {
    /// It will never start again.
    pub(crate) fn forget(&self) {
        self.lock().removed = true;
        self.disk_wiped();
    }

    /// Nothing of the swarm is left on it.
    fn disk_wiped(&self) {
        self.memory.wipe();
        self.executor.power_off();
    }
}

/// Asks a manager for a certificate and becomes what it says.
fn change_role(world: &Arc<World>, index: usize, incarnation: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    // A manager that starts watches for the end of its membership, which changes the role again: hence the box.
    Box::pin(role_changes(world, index, incarnation))
}

async fn role_changes(world: &Arc<World>, index: usize, incarnation: u64) {
    let host = &world.hosts[index];
    let (Some(outlet), Some(who)) = (host.outlet(world), host.identity()) else { return };
    let managers = host.lock().managers.clone();
    for (_, addr) in managers {
        let Some(handler) = outlet.handler_at(&addr).await else { continue };
        // A manager that dies meanwhile never answers.
        let cert = match tokio::time::timeout(RENEW, handler.renew(who, REQUEST.into())).await {
            Ok(Ok(c)) => c,
            Ok(Err(e)) => {
                tracing::debug!(index, error = %e, "sim: no certificate");
                continue;
            }
            Err(_) => continue,
        };
        tracing::debug!(index, role = ?cert.role, "sim: new certificate");
        if host.incarnation() != incarnation {
            return;
        }
        let mut running = host.manager();
        if let Some(m) = running.take_if(|m| cert.role == Role::Manager && *m.removed().borrow()) {
            // Demoted and promoted again before this host noticed.
            host.lock().manager = None;
            m.stop().await;
        }
        match (cert.role, running) {
            (Role::Manager, None) => {
                let clock: Arc<dyn Clock> = host.clock.clone();
                {
                    let mut s = host.lock();
                    s.role = Role::Manager;
                    s.raft_id = raft_id(&clock);
                    s.joined = false;
                }
                host.wipe_disk();
                if let Ok(m) = host.start_manager(world).await {
                    host.join_raft(world, m);
                }
            }
            (Role::Worker, Some(m)) => {
                {
                    let mut s = host.lock();
                    s.role = Role::Worker;
                    s.manager = None;
                }
                m.stop().await;
                host.wipe_disk();
            }
            _ => {}
        }
        break;
    }
    tokio::time::sleep(RETRY).await;
    if host.incarnation() == incarnation
        && let Some(a) = &host.lock().agent
    {
        a.reconnect();
    }
}
