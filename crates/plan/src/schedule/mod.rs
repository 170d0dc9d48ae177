//! Placing tasks (`swarm-semantics` 5): filters in the reference's order with its texts, then spread. The tasks of one revision
//! of a service are placed together, and among as many nodes as they need: a task with room everywhere costs a look at a few
//! nodes, however many there are. Must never move a task that has a node.

mod filter;
mod generic;
mod spread;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use skep_state::Key;
use skep_types::object::{Node, Task, TaskState};
use skep_types::spec::PublishMode;
use skep_types::{NodeId, ServiceId};

use crate::draft::Draft;
use filter::{Group, PoolKey};
use spread::Tree;

/// Failures that count against a node are this young …
const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);
/// … and count from this number on.
const FAILURES: u32 = 5;

/// How well a node suits: recent failures of this revision there, tasks of the service, tasks in all. Less is better.
type Rank = (u32, u32, u32, NodeId);

/// Tries to place what waits: of some services, or, when there may be room that was not there before, of all.
pub(crate) fn run(d: &mut Draft<'_>, of: Option<&BTreeSet<ServiceId>>) {
    let groups: Vec<(ServiceId, u64)> = match of {
        None => d.work.unplaced_groups(None),
        Some(some) => some.iter().flat_map(|s| d.work.unplaced_groups(Some(*s))).collect(),
    };
    let mut pools = Pools::default();
    for (service, revision) in groups {
        let mut tasks: Vec<Arc<Task>> = d.work.unplaced_of(service, revision).cloned().collect();
        tasks.sort_by_key(|t| (t.slot_key(), t.id));
        if d.is_full() {
            // What this plan writes anyway costs nothing more.
            let all = tasks.len();
            tasks.retain(|t| d.is_touched(t.id));
            if tasks.len() < all {
                d.rest.services.insert(service);
            }
        }
        address(d, &mut tasks);
        let Some(group) = Group::of(d, service, revision) else { continue };
        let (pinned, free): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|t| t.pinned);
        for t in pinned {
            confirm(d, &group, &t, &mut pools);
        }
        if !free.is_empty() {
            place(d, &group, free, &mut pools);
        }
    }
}

/// Tasks whose addresses could not be had before; those that still have none are left out.
fn address(d: &mut Draft<'_>, tasks: &mut Vec<Arc<Task>>) {
    for t in tasks.iter_mut().filter(|t| t.status.state < TaskState::Pending) {
        let Some(service) = d.work.service(t.service).cloned() else { continue };
        let Some(spec) = d.work.revision(t.service, t.revision).cloned() else { continue };
        let ingress = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
        let mut next = (**t).clone();
        if crate::allocate::task(d, ingress, &spec, &mut next).is_ok() {
            next.status.state = TaskState::Pending;
            next.status.message = "pending task scheduling".into();
            next.status.err = None;
            next.status.timestamp = d.now;
            d.put_task(next);
            if let Some(now) = d.work.task(t.id) {
                *t = now.clone();
            }
        }
    }
    tasks.retain(|t| t.status.state >= TaskState::Pending);
}

/// A task that belongs to its node: only whether the node has what it needs.
fn confirm(d: &mut Draft<'_>, g: &Group, t: &Arc<Task>, pools: &mut Pools) {
    let Some(node) = t.node.and_then(|n| d.work.node(n)).cloned() else { return };
    let refused = if node.takes_tasks() { g.failing(&d.work, &node) } else { Some(filter::Filter::Ready) };
    match refused {
        Some(f) => explain(d, t, f.explain(1)),
        None => {
            let before = d.work.load(node.id).tasks;
            assign(d, g, t, &node, "scheduler confirmed task can run on preassigned node");
            pools.note(node.id, before, d.work.load(node.id).tasks);
        }
    }
}

fn explain(d: &mut Draft<'_>, t: &Task, err: String) {
    if t.status.err.as_deref() != Some(&err) && (!d.is_full() || d.is_touched(t.id)) {
        let now = d.now;
        d.edit(t.id, |t| {
            t.status.err = Some(err);
            t.status.timestamp = now;
        });
    }
}

fn assign(d: &mut Draft<'_>, g: &Group, t: &Task, node: &Node, message: &str) {
    let now = d.now;
    let generic = generic::claim(&d.work, node, &g.spec.resources.reserve_generic).unwrap_or_default();
    d.rely_on(Key::Node(node.id));
    d.edit(t.id, |t| {
        t.node = Some(node.id);
        t.generic = generic;
        t.status.state = TaskState::Assigned;
        t.status.message = message.into();
        t.status.err = None;
        t.status.timestamp = now;
    });
}

/// What ranks nodes for one group, apart from how much they have to do.
struct Ranking {
    service: ServiceId,
    failures: BTreeMap<NodeId, u32>,
}

impl Ranking {
    fn of(d: &Draft<'_>, g: &Group) -> Self {
        let mut failures: BTreeMap<NodeId, u32> = BTreeMap::new();
        for t in d.work.ended(g.service, g.revision) {
            let failed = matches!(t.status.state, TaskState::Failed | TaskState::Rejected);
            if failed && d.now.since(t.status.timestamp) < FAILURE_WINDOW {
                t.node.into_iter().for_each(|n| *failures.entry(n).or_default() += 1);
            }
        }
        failures.retain(|_, n| *n >= FAILURES);
        Self { service: g.service, failures }
    }

    fn rank(&self, d: &Draft<'_>, active: u32, n: NodeId) -> Rank {
        (self.failures.get(&n).copied().unwrap_or(0), d.work.live_on(self.service, n), active, n)
    }
}

/// One more task of the service on a node.
fn after(r: Rank) -> Rank {
    (r.0, r.1 + 1, r.2 + 1, r.3)
}

/// Nodes that groups may ever use, ranked as the store ranks all: without it, those that a constraint forbids stay the emptiest
/// and would be looked at first by every group with that constraint.
#[derive(Default)]
struct Pools(BTreeMap<PoolKey, BTreeSet<(u32, NodeId)>>);

/// So many different constraints are remembered within one plan; each is to be kept up with each placement.
const POOLS: usize = 16;

impl Pools {
    /// The group's nodes that take tasks, those with the fewest first.
    fn of<'a>(&'a mut self, d: &'a Draft<'_>, g: &Group) -> Box<dyn Iterator<Item = (u32, NodeId)> + 'a> {
        let Some(key) = g.key().filter(|k| self.0.contains_key(k) || self.0.len() < POOLS) else {
            return Box::new(d.work.ranked());
        };
        let usable = |n: &(u32, NodeId)| d.work.node(n.1).is_some_and(|n| g.may_use(n));
        Box::new(self.0.entry(key).or_insert_with(|| d.work.ranked().filter(usable).collect()).iter().copied())
    }

    /// A node got one more task than the `before` it had.
    fn note(&mut self, node: NodeId, before: u32, now: u32) {
        for pool in self.0.values_mut() {
            if pool.remove(&(before, node)) {
                pool.insert((now, node));
            }
        }
    }
}

fn place(d: &mut Draft<'_>, g: &Group, tasks: Vec<Arc<Task>>, pools: &mut Pools) {
    let ranking = Ranking::of(d, g);
    // The first task of a service may go to any branch.
    let first = tasks.len() == 1 && d.work.spread_of(g.service).next().is_none();
    let mut choice = if g.has_preferences() && !first {
        Choice::Tree(tree(d, g, &ranking, pools))
    } else {
        Choice::Heap(heap(d, g, &ranking, tasks.len(), pools))
    };
    let mut left = tasks.into_iter();
    for t in left.by_ref() {
        let Some(r) = choice.best() else {
            give_reason(d, g, std::iter::once(t).chain(left));
            return;
        };
        let Some(node) = d.work.node(r.3).cloned() else { continue };
        let before = d.work.load(node.id).tasks;
        assign(d, g, &t, &node, "scheduler assigned task to node");
        pools.note(node.id, before, d.work.load(node.id).tasks);
        let again = g.failing(&d.work, &node).is_none().then(|| after(r));
        choice.used(r, again);
    }
}

/// The nodes to choose from, the best one first.
enum Choice {
    Heap(BinaryHeap<Reverse<Rank>>),
    Tree(Tree),
}

impl Choice {
    fn best(&self) -> Option<Rank> {
        match self {
            Self::Heap(h) => h.peek().map(|r| r.0),
            Self::Tree(t) => t.best(),
        }
    }

    /// The best one was used; whether it can be used again, and how it ranks then.
    fn used(&mut self, r: Rank, again: Option<Rank>) {
        match self {
            Self::Heap(h) => {
                h.pop();
                h.extend(again.map(Reverse));
            }
            Self::Tree(t) => t.used(r, again),
        }
    }
}

/// As many of the best nodes as there are tasks: those with the fewest tasks in all among those with as few of the service as
/// any node can have, if there are enough of these; else all that pass.
fn heap(d: &Draft<'_>, g: &Group, ranking: &Ranking, count: usize, pools: &mut Pools) -> BinaryHeap<Reverse<Rank>> {
    let best = (0, d.work.fewest_of(g.service));
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (active, n) in pools.of(d, g) {
        let Some(node) = d.work.node(n) else { continue };
        if g.failing(&d.work, node).is_some() {
            continue;
        }
        let r = ranking.rank(d, active, n);
        if (r.0, r.1) == best {
            first.push(Reverse(r));
            if first.len() == count {
                return first.into();
            }
        } else {
            others.push(Reverse(r));
        }
    }
    first.extend(others);
    first.into()
}

/// All nodes that pass, by the values of their labels.
fn tree(d: &Draft<'_>, g: &Group, ranking: &Ranking, pools: &mut Pools) -> Tree {
    let mut tree = Tree::default();
    // What runs already counts in its branch, whether its node takes more or not.
    for (n, own) in d.work.spread_of(g.service) {
        if let Some(node) = d.work.node(n) {
            tree.count(&g.branch(node), u64::from(own));
        }
    }
    for (active, n) in pools.of(d, g) {
        let Some(node) = d.work.node(n) else { continue };
        if g.failing(&d.work, node).is_none() {
            tree.add(&g.branch(node), ranking.rank(d, active, n));
        }
    }
    tree
}

/// Tells tasks that found no node why.
fn give_reason(d: &mut Draft<'_>, g: &Group, tasks: impl Iterator<Item = Arc<Task>>) {
    let mut refused: BTreeMap<filter::Filter, usize> = BTreeMap::new();
    let (ready, all) = d.work.node_counts();
    if all > ready {
        refused.insert(filter::Filter::Ready, all - ready);
    }
    for (_, n) in d.work.ranked() {
        if let Some(f) = d.work.node(n).and_then(|node| g.failing(&d.work, node)) {
            *refused.entry(f).or_default() += 1;
        }
    }
    let text = filter::explanation(&refused);
    for t in tasks {
        explain(d, &t, text.clone());
    }
}
