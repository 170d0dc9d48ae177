//! What must hold once nothing is broken any more (invariants 3, 4, 12): what is wanted runs, once, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::object::{Node, NodeState, Service, SlotKey, TaskState};
use skep_types::spec::{Availability, Role, ServiceMode};
use skep_types::{NodeId, TaskId};

use crate::world::World;

/// Whether everything is as it should be; else what is not.
pub(crate) fn converged(world: &World) -> Result<(), String> {
    let leader = world.leader().ok_or("there is no leader")?;
    let store = leader.store();
    let managers: BTreeSet<&str> = store.nodes().filter_map(|n| n.manager.as_ref().map(|m| m.addr.as_str())).collect();
    let found_by_none = |h: &crate::host::Host| h.is_lost(&managers);
    let is_lost = |n: NodeId| world.hosts.iter().any(|h| h.node() == Some(n) && found_by_none(h));
    for n in store.nodes() {
        if is_lost(n.id) {
            continue;
        }
        if n.spec.role != n.role || (n.role == Role::Manager) != n.manager.is_some() {
            return Err(format!("node {} is still changing its role", n.id));
        }
        let host = world.hosts.iter().find(|h| h.node() == Some(n.id) && !h.is_removed());
        if host.is_some_and(|h| h.is_up()) && n.state != NodeState::Ready {
            return Err(format!("node {} of host {:?} is {:?}", n.id, host.map(|h| &h.addr), n.state));
        }
        let manages = host.is_some_and(|h| h.manager().is_some());
        if host.is_some() && manages != (n.role == Role::Manager) {
            return Err(format!("host {:?} does not run what its role {:?} says", host.map(|h| &h.addr), n.role));
        }
    }
    for (i, h) in world.hosts.iter().enumerate().filter(|(_, h)| !found_by_none(h)) {
        if let Some(m) = h.manager() {
            let (a, b) = (m.store().applied(), store.applied());
            if a != b {
                let (mine, leaders) = (m.members(), leader.members());
                return Err(format!(
                    "host {i} has applied {a}, the leader {b}; members to it {mine:?}, to the leader {leaders:?}; its node {:?}",
                    h.node().and_then(|n| store.node(n)).map(|n| (n.role, n.spec.role, n.manager.clone(), n.state))
                ));
            }
        }
    }
    let is_told = |n: NodeId| store.node(n).is_some() && !is_lost(n);
    let mut running: BTreeSet<TaskId> = BTreeSet::new();
    for s in store.services() {
        if has_no_room(&store, s) {
            let runs = |t: &&std::sync::Arc<skep_types::object::Task>| t.is_wanted() && t.status.state == TaskState::Running;
            running.extend(store.tasks_of_service(s.id).filter(runs).map(|t| t.id));
            continue;
        }
        if s.update_status.as_ref().is_some_and(|u| u.state.is_under_way()) {
            let tasks: Vec<String> = store
                .tasks_of_service(s.id)
                .filter(|t| t.desired <= TaskState::Running)
                .map(|t| {
                    format!("slot {} revision {} {:?}/{:?} {:?}", t.slot, t.revision, t.status.state, t.desired, t.status.err)
                })
                .collect();
            return Err(format!(
                "service {} is still being updated to revision {}: {:?} {tasks:?}",
                s.spec.name, s.revision, s.update_status
            ));
        }
        let mut places: BTreeMap<SlotKey, u64> = BTreeMap::new();
        for t in store.tasks_of_service(s.id) {
            if !t.is_wanted() && !t.status.state.is_terminal() && t.node.is_some_and(is_told) {
                return Err(format!("task {} of {} has not ended yet", t.id, s.spec.name));
            }
            if t.is_wanted() && t.status.state == TaskState::Running {
                running.insert(t.id);
                *places.entry(t.slot_key()).or_default() += 1;
                let ok = t
                    .node
                    .and_then(|n| store.node(n))
                    .is_some_and(|n| n.state == NodeState::Ready && n.spec.availability != Availability::Drain);
                if !ok {
                    let node = t.node.and_then(|n| store.node(n)).map(|n| (n.id, n.state, n.spec.availability, &n.spec.labels));
                    let place: Vec<_> = store
                        .tasks_of_slot(s.id, t.slot_key())
                        .map(|t| (t.id, t.status.state, t.desired, t.revision, t.takes_over, t.node, &t.status.err))
                        .collect();
                    return Err(format!(
                        "task {} runs on a node that should have none: {node:?}; in its place {place:?}; {:?}, revision {}, update {:?} by {:?}",
                        t.id, s.spec.mode, s.revision, s.update_status, s.spec.update
                    ));
                }
            }
        }
        if places.values().any(|n| *n != 1) || !as_many_as_wanted(&store, s, &places) {
            let waiting = store.tasks_of_service(s.id).find(|t| t.is_wanted() && t.status.state < TaskState::Running);
            let why = waiting.map(|t| {
                let node = t.node.and_then(|n| store.node(n)).map(|n| (n.id, n.state));
                format!("{:?} wanted {:?} on {node:?}, {:?}", t.status.state, t.desired, t.status.err)
            });
            let others = store.tasks_of_service(s.id).filter(|t| !places.contains_key(&t.slot_key()));
            let others: Vec<_> =
                others.map(|t| (t.slot_key(), t.status.state, t.desired, t.revision, t.status.timestamp)).collect();
            let doubled = store.tasks_of_service(s.id).filter(|t| places.get(&t.slot_key()).is_some_and(|n| *n != 1));
            let doubled = doubled.map(|t| (t.slot_key(), t.status.state, t.desired, t.revision, t.update, t.meta.created_at));
            let doubled: Vec<_> = doubled.collect();
            let idle = |n: &&std::sync::Arc<Node>| n.takes_tasks() && !places.contains_key(&SlotKey::node(n.id));
            let nodes: Vec<_> = store.nodes().filter(idle).map(|n| (n.id, n.role, n.meta, n.addr, n.ingress_addr)).collect();
            return Err(format!(
                "service {} ({:?}) has {} places running; one task is {why:?}; revision {}, update {:?}; other places {others:?}; nodes without one {nodes:?}; more than one {doubled:?}",
                s.spec.name,
                s.spec.mode,
                places.len(),
                s.revision,
                s.update_status,
            ));
        }
    }
    let gone = store.tasks().find(|t| store.service(t.service).is_none() && t.node.is_some_and(is_told));
    if let Some(t) = gone {
        return Err(format!("task {} of a removed service is still there", t.id));
    }
    let mut found: BTreeSet<TaskId> = BTreeSet::new();
    for (i, h) in world.hosts.iter().enumerate().filter(|(_, h)| !found_by_none(h)) {
        for t in h.executor.running() {
            if !running.contains(&t) {
                return Err(format!("host {i} runs a container of task {t}, which should not run"));
            }
            if !found.insert(t) {
                return Err(format!("task {t} runs on two hosts"));
            }
        }
        if let Some(t) = h.executor.all().into_iter().find(|t| store.task(*t).is_none()) {
            return Err(format!("host {i} keeps a container of task {t}, which does not exist"));
        }
    }
    match running.difference(&found).next() {
        Some(t) => Err(format!("task {t} is said to run, but has no container")),
        None => Ok(()),
    }
}

/// Whether a service has what its mode asks for.
fn as_many_as_wanted(store: &skep_state::Store, s: &Service, running: &BTreeMap<SlotKey, u64>) -> bool {
    // In its current iteration: places that are complete, and those whose last task failed for good.
    let tasks = || store.tasks_of_service(s.id).filter(|t| t.iteration == s.iteration());
    let complete: BTreeSet<SlotKey> = tasks().filter(|t| t.status.state == TaskState::Complete).map(|t| t.slot_key()).collect();
    let done = complete.len() as u64;
    let fits = |n: &Node| {
        n.takes_tasks() && s.spec.task.placement.constraints.iter().all(|c| c != "node.role==worker" || n.role == Role::Worker)
    };
    match s.spec.mode {
        ServiceMode::Replicated { replicas } => running.len() as u64 == replicas,
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            running.len() as u64 == max_concurrent.min(total_completions.saturating_sub(done))
        }
        ServiceMode::Global | ServiceMode::GlobalJob => store.nodes().filter(|n| fits(n)).all(|n| {
            let key = SlotKey::node(n.id);
            running.contains_key(&key) || (s.iteration().is_some() && complete.contains(&key))
        }),
    }
}

/// Whether tasks of a service wait because there is no room for them, and say so: a full network, or limits of its own spec.
fn has_no_room(store: &skep_state::Store, s: &skep_types::object::Service) -> bool {
    let limited = s.spec.task.placement.max_replicas > 0
        || s.spec.task.resources.reserve_nano_cpus > 0
        || store.nodes().all(|n| !n.takes_tasks())
        || (!s.spec.task.placement.constraints.is_empty()
            && store.nodes().all(|n| !n.takes_tasks() || n.role == Role::Manager));
    store.tasks_of_service(s.id).any(|t| {
        let waits = t.is_wanted() && t.status.state <= TaskState::Pending;
        let says = |text| t.status.err.as_ref().is_some_and(|e| e.starts_with(text));
        let placeless = says("no suitable node") || says("insufficient resources") || says("max replicas");
        waits && (says("could not find an available IP") || (limited && placeless))
    })
}
