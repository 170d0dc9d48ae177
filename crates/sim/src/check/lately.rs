//! What must hold soon, while other things may still be broken: whoever nothing was wrong with for a while is seen as it is.
//! The end of the faults heals much that a swarm must not need them to end for. Must never blame anybody for a fault of now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_agent::ObservedState;
use skep_manager::Manager;
use skep_state::Store;
use skep_types::object::{Node, NodeState, TaskState};
use skep_types::spec::Role;
use skep_types::{NodeId, TaskId};
use tokio::time::Instant;

use crate::host::Host;
use crate::schedule::Event;
use crate::world::World;

/// Nothing was wrong for so long: an agent has then found a manager among seven, of which some do not answer.
const CALM: Duration = Duration::from_secs(20);
/// A difference may last so long.
const SOON: Duration = Duration::from_secs(12);

/// What was wrong with something, and when it last changed.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    is_on: bool,
    last: Instant,
}

impl Trouble {
    fn was_calm(&self, at: Instant) -> bool {
        !self.is_on && self.last + CALM <= at
    }
}

/// A difference between two views of one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// A container on a host is not as the tables say.
    Task(usize, TaskId),
    /// A member of raft is no manager by the tables, or the other way round.
    Member(NodeId),
    /// A manager says that it leads while another one does in a later term.
    Leads(usize),
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    /// Kinds of faults of each host that are on, and when the last one began or ended.
    hosts: BTreeMap<(usize, &'static str), Trouble>,
    links: BTreeMap<(usize, usize), Trouble>,
    weather: Trouble,
    /// Who leads, in which term, since when.
    leader: Option<(usize, u64, Instant)>,
    /// Role and raft id of each node, and since when.
    roles: BTreeMap<NodeId, ((Role, Role, u64), Instant)>,
    since: BTreeMap<Difference, Instant>,
}

/// Follows faults and differences.
#[derive(Debug)]
pub(crate) struct Lately(Mutex<Inner>);

impl Lately {
    pub(crate) fn new(start: Instant) -> Self {
        let inner = Inner {
            start,
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            weather: Trouble { is_on: false, last: start },
            leader: None,
            roles: BTreeMap::new(),
            since: BTreeMap::new(),
        };
        Self(Mutex::new(inner))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault begins or ends.
    pub(crate) fn note(&self, event: &Event, hosts: usize) {
        let last = Instant::now();
        let mut s = self.lock();
        let mut host = |i: usize, kind, is_on| s.hosts.insert((i, kind), Trouble { is_on, last });
        match event {
            Event::Kill(i) | Event::PowerOff(i) | Event::Forget(i) => host(*i, "down", true),
            Event::Start(i) => host(*i, "down", false),
            Event::Hold(i, ms) => host(*i, "held", *ms > 0),
            Event::SlowDisk(i, ms) => host(*i, "slow", *ms > 0),
            Event::FullDisk(i, full) => host(*i, "full", *full),
            Event::FailSync(i) | Event::Stranger(i, _) => host(*i, "sick", false),
            Event::Cut(a, b, is_on) => s.links.insert((*a, *b), Trouble { is_on: *is_on, last }),
            Event::Isolate(i, is_on) => {
                for other in (0..hosts).filter(|o| o != i) {
                    s.links.insert((*i, other), Trouble { is_on: *is_on, last });
                    s.links.insert((other, *i), Trouble { is_on: *is_on, last });
                }
                None
            }
            Event::Weather(delay, loss, _) => {
                s.weather = Trouble { is_on: delay.1 > 1 || *loss > 0, last };
                None
            }
            Event::Skew(..) | Event::Exit(..) | Event::Failures(_) | Event::Operate(..) | Event::Rogue(_) => None,
        };
    }
}

impl Inner {
    fn is_calm(&self, host: usize, at: Instant) -> bool {
        self.hosts.range((host, "")..(host + 1, "")).all(|(_, t)| t.was_calm(at))
    }

    fn are_linked(&self, a: usize, b: usize, at: Instant) -> bool {
        [(a, b), (b, a)].iter().all(|l| self.links.get(l).is_none_or(|t| t.was_calm(at)))
    }

    /// Whether a host is off, for so long that it must be noticed.
    fn is_off(&self, host: usize, at: Instant) -> bool {
        self.hosts.get(&(host, "down")).is_some_and(|t| t.is_on && t.last + SOON <= at)
    }

    /// Whether nothing of a host reached any other for so long that it must be noticed.
    fn is_cut_off(&self, host: usize, hosts: usize, at: Instant) -> bool {
        let cut = |o: usize| self.links.get(&(host, o)).is_some_and(|t| t.is_on && t.last + SOON <= at);
        (0..hosts).all(|o| o == host || cut(o))
    }

    /// The leader, if one leads for a while.
    fn leader(&mut self, world: &World, at: Instant) -> Option<(usize, Arc<Manager>)> {
        let all = world.hosts.iter().enumerate().filter_map(|(i, h)| Some((i, h.manager()?)));
        let leading: Vec<(usize, u64, Arc<Manager>)> = all.filter_map(|(i, m)| Some((i, m.leads_in()?, m))).collect();
        let newest = leading.iter().max_by_key(|(_, term, _)| *term);
        let others = leading.iter().filter(|(i, ..)| newest.is_some_and(|n| n.0 != *i));
        let others: BTreeSet<Difference> = others.map(|(i, ..)| Difference::Leads(*i)).collect();
        self.differ(|d| matches!(d, Difference::Leads(_)), &others, at);
        let Some((host, term, manager)) = newest else {
            self.leader = None;
            return None;
        };
        if self.leader.is_none_or(|(h, t, _)| (h, t) != (*host, *term)) {
            self.leader = Some((*host, *term, at));
        }
        let lasts = self.leader.is_some_and(|(.., since)| since + CALM <= at);
        lasts.then(|| (*host, manager.clone()))
    }

    /// Notes which differences of a kind there are now.
    fn differ(&mut self, kind: impl Fn(&Difference) -> bool, now: &BTreeSet<Difference>, at: Instant) {
        self.since.retain(|d, _| !kind(d) || now.contains(d));
        for d in now {
            self.since.entry(d.clone()).or_insert(at);
        }
    }

    fn lasts(&self, d: &Difference, at: Instant) -> bool {
        self.since.get(d).is_some_and(|since| *since + SOON <= at)
    }

    /// Whether a node's roles are what they were a while ago.
    fn keeps_role(&mut self, n: &Node, at: Instant) -> bool {
        let now = (n.role, n.spec.role, n.manager.as_ref().map_or(0, |m| m.raft_id));
        let known = self.roles.entry(n.id).or_insert((now, at));
        if known.0 != now {
            *known = (now, at);
        }
        known.1 + CALM <= at && n.role == n.spec.role
    }
}

/// Looks at everything that nothing was wrong with for a while.
pub(crate) fn look(world: &World) -> Result<(), String> {
    let at = Instant::now();
    let mut s = world.check.lately.lock();
    let leader = s.leader(world, at);
    if let Some(Difference::Leads(i)) = s.since.keys().find(|d| matches!(d, Difference::Leads(_)) && s.lasts(d, at)) {
        return Err(format!("host {i} says that it leads, and another one does in a later term"));
    }
    let store = leader.as_ref().map(|(_, m)| m.store());
    // Whose role changes is looked at even while nobody leads for long.
    let any = store.clone().or_else(|| Some(world.leader()?.store()));
    let settled: BTreeSet<NodeId> = any.iter().flat_map(|s| s.nodes()).filter(|n| s.keeps_role(n, at)).map(|n| n.id).collect();
    let Some(((lead, manager), store)) = leader.zip(store) else { return Ok(()) };
    let managers: Vec<usize> = host_of(world, |h| h.manager().is_some()).collect();
    // Writes need a quorum that the leader reaches, and its disks.
    let well = managers.iter().filter(|m| s.is_calm(**m, at) && s.are_linked(**m, lead, at)).count();
    let voters = manager.members().iter().filter(|m| m.voter).count();
    if !s.weather.was_calm(at) || s.start + CALM > at || !s.is_calm(lead, at) || well * 2 <= voters {
        return Ok(());
    }
    let mut wrong = BTreeSet::new();
    for (i, h) in world.hosts.iter().enumerate() {
        let Some(n) = h.node().and_then(|id| store.node(id)) else { continue };
        let is_silent = (s.is_off(i, at) && !h.is_up()) || (i != lead && s.is_cut_off(i, world.hosts.len(), at));
        if is_silent && n.state == NodeState::Ready {
            return Err(format!("host {i} is silent for {SOON:?}, and to the leader its node {} is ready", n.id));
        }
        let well = h.is_up() && s.is_calm(i, at) && s.are_linked(i, lead, at) && settled.contains(&n.id) && !h.is_removed();
        if !well {
            continue;
        }
        if n.state != NodeState::Ready {
            return Err(format!(
                "host {i} reaches the leader, host {lead}, for {CALM:?}, and its node {} is {:?} ({})",
                n.id, n.state, n.message
            ));
        }
        wrong.extend(untold(&store, h, n.id).map(|t| Difference::Task(i, t)));
    }
    if managers.iter().all(|m| s.is_calm(*m, at) && managers.iter().all(|o| s.are_linked(*m, *o, at))) {
        let members: BTreeSet<NodeId> = manager.members().iter().filter_map(|m| m.peer.node_id.parse().ok()).collect();
        let is_manager = |id: NodeId| store.node(id).is_some_and(|n| n.role == Role::Manager);
        let strangers = members.iter().filter(|id| !is_manager(**id));
        let all = store.nodes().filter(|n| settled.contains(&n.id) && n.role == Role::Manager && !members.contains(&n.id));
        let runs = |id: NodeId| host_of(world, |h| h.node() == Some(id) && h.is_up()).any(|i| s.are_linked(i, lead, at));
        wrong.extend(strangers.copied().map(Difference::Member));
        wrong.extend(all.filter(|n| runs(n.id)).map(|n| Difference::Member(n.id)));
    }
    s.differ(|d| !matches!(d, Difference::Leads(_)), &wrong, at);
    match s.since.keys().find(|d| s.lasts(d, at)) {
        Some(Difference::Task(i, t)) => {
            let seen = world.hosts[*i].executor.state(*t);
            let told = store.task(*t).map(|t| (t.status.state, t.desired, t.node, &t.status.err));
            let applied: Vec<_> =
                world.hosts.iter().enumerate().filter_map(|(i, h)| Some((i, h.manager()?.store().applied()))).collect();
            Err(format!(
                "for {SOON:?} the container of task {t} on host {i} is {seen:?}, and to the leader, host {lead}, it is {told:?}; managers have applied {applied:?}"
            ))
        }
        Some(Difference::Member(n)) => {
            let told = store.node(*n).map(|n| (n.role, n.spec.role, n.manager.clone(), n.state));
            Err(format!("for {SOON:?} node {n} is {told:?} to the leader, whose raft has {:?}", manager.members()))
        }
        _ => Ok(()),
    }
}

fn host_of(world: &World, is: impl Fn(&Host) -> bool) -> impl Iterator<Item = usize> {
    world.hosts.iter().enumerate().filter(move |(_, h)| is(h)).map(|(i, _)| i)
}

/// Tasks of a host whose containers are not what the tables say.
fn untold(store: &Store, h: &Host, node: NodeId) -> impl Iterator<Item = TaskId> {
    h.executor
        .states()
        .into_iter()
        .filter(move |(id, state)| match store.task(*id).filter(|t| t.node == Some(node)) {
            None => true,
            Some(t) => match state {
                ObservedState::Exited { .. } => t.is_wanted() && t.status.state == TaskState::Running,
                ObservedState::Running => t.status.state < TaskState::Running || !t.is_wanted(),
                _ => false,
            },
        })
        .map(|(id, _)| id)
}
