//! Nodes that are drained with the label `skep.drain=update`: a replicated task that runs there stays until its service's update
//! order lets it go, start-first once another runs elsewhere, stop-first when no more than the parallelism are under way. Must
//! never take more than that from a service at once.
//!
//! Where rules conflict: a running update goes first, for it replaces the same tasks; a task that does not run serves nobody and
//! leaves at once; one that fails to start elsewhere is tried again after the restart delay, and the old one serves on meanwhile.

use std::sync::Arc;

use skep_types::object::{Node, Service, Task, TaskState};
use skep_types::spec::{Availability, ServiceMode, UpdateOrder};
use skep_types::{NodeId, ServiceId, options};

use crate::create::{Place, create};
use crate::draft::Draft;
use crate::rolling_update::NOT_YET;
use crate::slot::{Slot, slot};
use crate::{reaper, restart};

/// Whether a node gives its tasks away as their services wish.
pub(crate) fn is_gentle(n: &Node) -> bool {
    n.spec.availability == Availability::Drain && options::drains_by_update(&n.spec.labels)
}

/// Whether a task on a node that is drained stays there for now.
pub(crate) fn stays(service: &Service, n: &Node, t: &Task) -> bool {
    matches!(service.spec.mode, ServiceMode::Replicated { .. }) && t.status.state == TaskState::Running && is_gentle(n)
}

/// Looks at one place: ends what a task that runs now has taken over from, and notes whether the service has any to move.
pub(crate) fn note(d: &mut Draft<'_>, service: &Service, s: &Slot) {
    let on_its_way = |t: &Arc<Task>| {
        t.takes_over || (t.is_wanted() && t.node.and_then(|n| d.work.node(n)).is_some_and(|n| stays(service, n, t)))
    };
    let Some(key) = s.tasks.iter().find(|t| on_its_way(t)).map(|t| t.slot_key()) else { return };
    d.moving.insert(service.id);
    let s = slot(&d.work, service.id, key);
    for t in s.tasks.iter().filter(|t| t.takes_over) {
        if !t.is_wanted() || t.status.state != TaskState::Running {
            continue;
        }
        let before = |o: &&Arc<Task>| (o.meta.created_at, o.id) < (t.meta.created_at, t.id);
        for o in s.wanted().filter(before) {
            d.edit(o.id, |o| o.desired = TaskState::Shutdown);
        }
        d.edit(t.id, |t| t.takes_over = false);
    }
}

/// Moves as many tasks of a service as may be under way, if [`note`] found that there may be any.
pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId) {
    if !d.moving.remove(&id) {
        return;
    }
    let Some(service) = d.work.service(id).cloned() else { return };
    if service.update_status.as_ref().is_some_and(|u| u.state.is_under_way()) {
        return;
    }
    let config = service.spec.update.clone().unwrap_or_default();
    let limit = match usize::try_from(config.parallelism) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(n) => n,
    };
    let not_yet = d.work.wanted(id, service.revision, NOT_YET..=NOT_YET);
    let mut under_way = not_yet.filter(|t| t.takes_over && !t.status.state.is_terminal()).count();
    for n in d.gentle_nodes() {
        let all: Vec<Arc<Task>> = d.work.tasks_of_service_on(id, n).cloned().collect();
        for t in all {
            let node = d.work.node(n).cloned();
            if !t.is_wanted() || !node.is_some_and(|n| stays(&service, &n, &t)) {
                continue;
            }
            let s = slot(&d.work, id, t.slot_key());
            // Whichever of them was to take over, as nodes were drained and activated in turn: one that serves and may stay is enough.
            let may_stay = |n: NodeId| d.work.node(n).is_some_and(|n| n.spec.availability != Availability::Drain);
            let serves = |o: &Arc<Task>| o.status.state == TaskState::Running && o.node.is_some_and(may_stay);
            if s.wanted().any(|o| o.id != t.id && serves(o)) {
                d.edit(t.id, |t| t.desired = TaskState::Shutdown);
                continue;
            }
            let stays = |o: &Arc<Task>| !o.status.state.is_terminal() || restart::waits_until(d, &service, o).is_some();
            if under_way >= limit || s.wanted().any(|o| o.id != t.id && stays(o)) {
                continue;
            }
            if d.is_full() {
                d.rest.slots.insert((id, t.slot_key()));
                return;
            }
            under_way += 1;
            begin(d, &service, &s, &t, config.order);
        }
    }
}

fn begin(d: &mut Draft<'_>, service: &Service, s: &Slot, t: &Task, order: UpdateOrder) {
    // The last one that was to take over has failed.
    let failed = s.tasks.iter().filter(|o| o.takes_over && o.status.state.is_terminal()).map(|o| o.status.timestamp).max();
    let delay = restart::policy(d, service, t).delay;
    let not_before = failed.map(|at| at.after(delay)).filter(|at| *at > d.now);
    let waits = not_before.is_some() || order == UpdateOrder::StopFirst;
    let desired = if waits { TaskState::Ready } else { service.goal() };
    let Some(new) = create(d, service, Place::of(t), desired, not_before) else { return };
    d.edit(new, |n| n.takes_over = true);
    if order == UpdateOrder::StopFirst {
        d.edit(t.id, |t| t.desired = TaskState::Shutdown);
    }
    restart::release(d, service, t.slot_key());
    reaper::run(d, service.id, t.slot_key());
}

/// The nodes whose tasks leave gently, found once per plan.
pub(crate) fn gentle_nodes<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Vec<NodeId> {
    nodes.filter(|n| is_gentle(n)).map(|n| n.id).collect()
}
