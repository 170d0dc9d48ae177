//! Invariants of the tables, read from the objects alone, never from the indexes that should uphold them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use skep_state::{Change, Op, Store, Transaction};
use skep_types::object::{Node, NodeState, SlotKey, Task, TaskState, UpdateState};
use skep_types::spec::{Availability, PublishMode, Role, ServiceMode, UpdateOrder};
use skep_types::{NetworkId, NodeId, ServiceId, TaskId, options};

use crate::executor::{MEMORY, NANO_CPUS};

/// 5 and 10: states go forward only, and what an agent observes is told by the task's own node.
pub(super) fn forward(t: &Transaction, changes: &[Change]) -> Result<(), String> {
    let mut reported: BTreeMap<TaskId, Vec<NodeId>> = BTreeMap::new();
    let mut put: BTreeSet<TaskId> = BTreeSet::new();
    for op in &t.ops {
        match op {
            Op::Status { node, report } => reported.entry(report.task).or_default().push(*node),
            Op::PutTask(t) => {
                put.insert(t.id);
            }
            _ => {}
        }
    }
    for c in changes {
        let Change::Task { id, old: Some(old), new: Some(new) } = c else { continue };
        if new.status.state < old.status.state || new.desired < old.desired {
            return Err(format!("task {id} went back from {:?}/{:?}", old.status.state, old.desired));
        }
        if old.node.is_some() && new.node != old.node {
            return Err(format!("task {id} moved from one node to another"));
        }
        if old.status.state.is_terminal() && new.status.state != old.status.state {
            return Err(format!("task {id} had ended as {:?} and is now {:?}", old.status.state, new.status.state));
        }
        if new.status.state == old.status.state {
            continue;
        }
        if let Some(by) = reported.get(id).filter(|_| !put.contains(id)) {
            if by.iter().all(|n| Some(*n) != old.node) {
                return Err(format!("task {id} of {:?} was moved by a report of {by:?}", old.node));
            }
            continue;
        }
        let observed = new.status.state >= TaskState::Accepted && new.status.state != TaskState::Orphaned;
        let never_given = old.status.state < TaskState::Assigned;
        if observed && !never_given {
            return Err(format!("task {id} was set to {:?} by the managers", new.status.state));
        }
    }
    Ok(())
}

fn holds(t: &Task) -> bool {
    !t.status.state.is_terminal()
}

/// 6: no address, identifier or port is held twice.
pub(super) fn held_once(store: &Store) -> Result<(), String> {
    let mut addresses: BTreeMap<(NetworkId, Ipv4Addr), String> = BTreeMap::new();
    let mut hold = |n: NetworkId, a: Ipv4Addr, by: String| match addresses.insert((n, a), by.clone()) {
        Some(other) => Err(format!("address {a} on network {n} is held by {other} and {by}")),
        None => Ok(()),
    };
    let (mut vnis, mut ports) = (BTreeSet::new(), BTreeMap::new());
    for n in store.networks() {
        hold(n.id, n.gateway, format!("the gateway of {}", n.spec.name))?;
        if !vnis.insert(n.vni) {
            return Err(format!("identifier {} is held twice", n.vni));
        }
    }
    for s in store.services() {
        for v in &s.vips {
            hold(v.network, v.addr.addr, format!("service {}", s.spec.name))?;
        }
        for p in s.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0) {
            if let Some(other) = ports.insert((p.protocol, p.published), s.id) {
                return Err(format!("port {} is published by {other} and {}", p.published, s.id));
            }
        }
    }
    let ingress = store.ingress().map(|n| n.id);
    for n in store.nodes() {
        if let Some((net, a)) = ingress.zip(n.ingress_addr) {
            hold(net, a, format!("node {}", n.id))?;
        }
        for h in &n.attached.held {
            hold(h.network, h.addr.addr, format!("container {} of node {}", h.container, n.id))?;
        }
    }
    for t in store.tasks().filter(|t| holds(t)) {
        for a in &t.networks {
            hold(a.network, a.addr.addr, format!("task {}", t.id))?;
        }
    }
    Ok(())
}

/// 7: a task is placed where it may run.
pub(super) fn placed(changes: &[Change], store: &Store) -> Result<(), String> {
    for c in changes {
        let Change::Task { id, old, new: Some(new) } = c else { continue };
        let given = |t: &Task| t.status.state >= TaskState::Assigned && !t.status.state.is_terminal();
        let Some(node) = new.node.filter(|_| given(new) && !old.as_ref().is_some_and(|o| given(o))) else { continue };
        let n = store.node(node).ok_or_else(|| format!("task {id} was given to node {node}, which does not exist"))?;
        if n.state != NodeState::Ready || n.spec.availability != Availability::Active {
            return Err(format!("task {id} was given to node {node}, which takes none"));
        }
        let Some(spec) = store.revision(new.service, new.revision) else { continue };
        for k in &spec.placement.constraints {
            let fits = match k.as_str() {
                "node.role==manager" => n.role == Role::Manager,
                "node.role==worker" => n.role == Role::Worker,
                _ => true,
            };
            if !fits {
                return Err(format!("task {id} was given to node {node} against {k}"));
            }
        }
        let max = spec.placement.max_replicas;
        let beside = |t: &&std::sync::Arc<Task>| t.service == new.service && holds(t) && t.desired <= TaskState::Running;
        let count = store.tasks_of_node(node).filter(beside).count() as u64;
        if max > 0 && count > max {
            let tasks: Vec<_> =
                store.tasks_of_node(node).filter(|t| beside(t)).map(|t| (t.slot, t.revision, t.status.state)).collect();
            return Err(format!("node {node} has {count} tasks of service {}, more than {max}: {tasks:?}", new.service));
        }
    }
    Ok(())
}

/// 7: no node is given more than it has.
pub(super) fn resources(store: &Store) -> Result<(), String> {
    for n in store.nodes() {
        let (mut cpus, mut memory) = (0, 0);
        // One that belongs to a node may wait for it to have room.
        let given = |t: &&std::sync::Arc<Task>| t.status.state >= TaskState::Assigned;
        for t in store.tasks_of_node(n.id).filter(|t| holds(t) && t.desired <= TaskState::Running).filter(given) {
            if let Some(spec) = store.revision(t.service, t.revision) {
                cpus += spec.resources.reserve_nano_cpus;
                memory += spec.resources.reserve_memory;
            }
        }
        if cpus > NANO_CPUS || memory > MEMORY {
            let tasks: Vec<_> = store
                .tasks_of_node(n.id)
                .filter(|t| holds(t))
                .map(|t| {
                    let reserved = store.revision(t.service, t.revision).map_or(0, |s| s.resources.reserve_nano_cpus);
                    (&t.service_name, t.slot_key(), t.revision, t.status.state, t.desired, reserved)
                })
                .collect();
            return Err(format!("node {} was given {cpus} nano-CPUs and {memory} bytes: {tasks:?}", n.id));
        }
    }
    Ok(())
}

/// 8: an update takes down no more at once than its parallelism allows.
pub(super) fn parallelism(changes: &[Change], store: &Store) -> Result<(), String> {
    let mut taken: BTreeMap<ServiceId, BTreeSet<SlotKey>> = BTreeMap::new();
    for c in changes {
        let Change::Task { old: Some(old), new: Some(new), .. } = c else { continue };
        let healthy = old.status.state == TaskState::Running
            && old
                .node
                .and_then(|n| store.node(n))
                .is_some_and(|n| n.state == NodeState::Ready && n.spec.availability == Availability::Active);
        let another = || {
            store.tasks_of_service(new.service).any(|t| {
                t.slot_key() == new.slot_key()
                    && t.id != new.id
                    && t.desired == TaskState::Running
                    && t.status.state == TaskState::Running
            })
        };
        // By an update, that is: what its node may no longer have, or what was on a node that was down when this was planned, goes
        // at once, whatever an update allows.
        let updated = || {
            changes.iter().any(|c| match c {
                Change::Task { old: None, new: Some(n), .. } => n.slot_key() == new.slot_key() && n.update.is_some(),
                _ => false,
            })
        };
        let healthy = healthy && new.given_up.is_none() && updated();
        if healthy && old.desired <= TaskState::Running && new.desired == TaskState::Shutdown && !another() {
            taken.entry(new.service).or_default().insert(new.slot_key());
        }
    }
    for (id, slots) in taken {
        let count = slots.len() as u64;
        let Some(s) = store.service(id) else { continue };
        let Some(u) = &s.update_status else { continue };
        let config = match u.state {
            UpdateState::Updating => &s.spec.update,
            UpdateState::RollbackStarted => &s.spec.rollback,
            _ => continue,
        };
        let limit = config.clone().unwrap_or_default().parallelism;
        if limit > 0 && count > limit {
            return Err(format!(
                "update of {} to revision {} ({:?}) took down the healthy slots {slots:?} at once, more than {limit}: {:?}",
                s.spec.name,
                s.revision,
                s.update_status,
                changed(changes, id)
            ));
        }
    }
    Ok(())
}

/// 8: a node that is drained by update order gives up no more of a service at once than its parallelism allows, and with
/// start-first nothing before another runs.
pub(super) fn gently(t: &Transaction, changes: &[Change], store: &Store) -> Result<(), String> {
    let mut taken: BTreeMap<ServiceId, BTreeSet<SlotKey>> = BTreeMap::new();
    for c in changes {
        let Change::Task { old: Some(old), new: Some(new), .. } = c else { continue };
        // What was decided before the node was drained so is no matter of this.
        let since = |n: &Node| t.time > n.meta.updated_at;
        let gentle = |n: &Node| {
            n.state == NodeState::Ready
                && n.spec.availability == Availability::Drain
                && options::drains_by_update(&n.spec.labels)
        };
        let stays = old.status.state == TaskState::Running
            && new.status.state == TaskState::Running
            && old.node.and_then(|n| store.node(n)).is_some_and(|n| gentle(n) && since(n));
        let another = || {
            let others = store.tasks_of_slot(new.service, new.slot_key()).filter(|o| o.id != new.id);
            others.into_iter().any(|o| o.is_wanted() && o.status.state == TaskState::Running)
        };
        if stays && old.is_wanted() && new.desired == TaskState::Shutdown && !another() {
            taken.entry(new.service).or_default().insert(new.slot_key());
        }
    }
    for (id, slots) in taken {
        let Some(s) = store.service(id).filter(|s| matches!(s.spec.mode, ServiceMode::Replicated { .. })) else { continue };
        if s.update_status.as_ref().is_some_and(|u| u.state.is_under_way()) {
            // It replaces the same tasks by its own rules.
            continue;
        }
        let config = s.spec.update.clone().unwrap_or_default();
        let limit = match (config.order, config.parallelism) {
            (UpdateOrder::StartFirst, _) => 0,
            (UpdateOrder::StopFirst, 0) => u64::MAX,
            (UpdateOrder::StopFirst, n) => n,
        };
        if slots.len() as u64 > limit {
            let all = changed(changes, id);
            return Err(format!("{} gave up {slots:?} on drained nodes at once, more than {limit}: {all:?}", s.spec.name));
        }
    }
    Ok(())
}

/// What became of the tasks of a service, for a message.
fn changed(changes: &[Change], service: ServiceId) -> Vec<String> {
    let of_task = |c: &Change| match c {
        Change::Task { old, new: Some(n), .. } if n.service == service => {
            let before = old.as_ref().map(|o| (o.desired, o.status.state));
            Some(format!(
                "{:?} revision {} on {:?}: {before:?} → {:?}, {:?}",
                n.slot_key(),
                n.revision,
                n.node,
                (n.desired, n.status.state),
                n.status.err
            ))
        }
        _ => None,
    };
    changes.iter().filter_map(of_task).collect()
}

/// 13: history is bounded. A few more than the limit may be there for a moment.
pub(super) fn bounded(store: &Store) -> Result<(), String> {
    let limit = store.cluster().map_or(5, |c| c.spec.task_history_limit);
    let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
    let mut ended: BTreeMap<(ServiceId, SlotKey), usize> = BTreeMap::new();
    // What is to be removed is no history: the next plan does it, also when many end at once.
    for t in store.tasks().filter(|t| t.status.state.is_terminal() && t.desired != TaskState::Remove) {
        *ended.entry((t.service, t.slot_key())).or_default() += 1;
    }
    match ended.iter().find(|(_, n)| **n > limit + 3) {
        Some(((s, slot), n)) => {
            let all =
                store.tasks_of_slot(*s, *slot).map(|t| (t.status.state, t.desired, t.revision, t.status.timestamp, t.update));
            let service = store.service(*s).map(|s| (&s.spec.mode, s.revision, &s.update_status));
            Err(format!("slot {slot:?} of service {s} keeps {n} ended tasks: {:?} of {service:?}", all.collect::<Vec<_>>()))
        }
        None => Ok(()),
    }
}
