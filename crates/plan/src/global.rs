//! Services and jobs with one task on each node that fits (`swarm-semantics` 4.2, 4.3). Must never place a task on a node that
//! gives its tasks away, nor a new one on a node that takes none.

use std::collections::BTreeSet;

use skep_types::NodeId;
use skep_types::object::{NodeState, Service, SlotKey, TaskState};
use skep_types::spec::Availability;

use crate::constraint::fits_all;
use crate::create::{Place, create};
use crate::draft::Draft;
use crate::slot::{Slot, has_had_its_turn, slot};
use crate::{job, reaper, restart, rolling_update};

/// Looks after every node.
pub(crate) fn run(d: &mut Draft<'_>, service: &Service) {
    let mut nodes: BTreeSet<NodeId> = d.work.nodes().map(|n| n.id).collect();
    nodes.extend(d.work.tasks_of_service(service.id).map(|t| NodeId(t.slot_key().0)));
    for n in nodes {
        if d.is_full() {
            d.rest.services.insert(service.id);
            return;
        }
        one(d, service, n);
    }
}

/// Looks after one node, which may be gone.
pub(crate) fn one(d: &mut Draft<'_>, service: &Service, id: NodeId) {
    let key = SlotKey::node(id);
    let node = d.work.node(id).cloned();
    let unfit = node.as_ref().is_some_and(|n| !fits_all(&service.spec.task.placement.constraints, n));
    let may_stay =
        !unfit && node.as_ref().is_some_and(|n| n.state != NodeState::Down && n.spec.availability != Availability::Drain);
    let takes_tasks = node.as_ref().is_some_and(|n| n.takes_tasks());
    job::end_older(d, service, key);
    if !service.spec.mode.is_job() {
        rolling_update::leave_newest(d, service, key);
    }
    let s = slot(&d.work, service.id, key);
    if node.is_none() {
        // Not even its history is of use.
        for t in &s.tasks {
            d.edit(t.id, |t| t.desired = TaskState::Remove);
        }
    } else if !may_stay || !takes_tasks {
        // A node that is paused or not heard of keeps what lives; nothing is replaced there, and nothing waits for it.
        let lives = |t: &skep_types::object::Task| t.status.state >= TaskState::Assigned && !t.status.state.is_terminal();
        for t in s.wanted().filter(|t| !may_stay || !lives(t)) {
            if service.spec.mode.is_job() && t.status.state == TaskState::Complete {
                continue;
            }
            d.edit(t.id, |t| {
                t.desired = TaskState::Shutdown;
                t.given_up = unfit.then(|| restart::UNFIT.to_owned());
            });
        }
    } else {
        restart::replace_dead(d, service, &s);
        let s = slot(&d.work, service.id, key);
        if s.wanted().next().is_none() && is_free(d, service, &s) {
            // It waits for the one before to stop; there is none on a new node.
            let desired = if s.tasks.is_empty() { service.goal() } else { TaskState::Ready };
            create(d, service, Place::Node(id), desired, None);
        }
    }
    restart::release(d, service, key);
    reaper::run(d, service.id, key);
}

/// Whether a node without a live task may have one: its last one did not end for good by itself.
fn is_free(d: &Draft<'_>, service: &Service, s: &Slot) -> bool {
    let newest = s.newest().filter(|t| t.iteration == service.iteration());
    newest.filter(|t| has_had_its_turn(t)).is_none_or(|t| restart::allowed(&restart::policy(d, service, t), s, t))
}
