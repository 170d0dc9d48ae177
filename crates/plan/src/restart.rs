//! Replacing dead tasks (`swarm-semantics` 4.4): whether, when, and releasing the replacement. Must never run a replacement
//! while the task before it may still run, except after a minute of waiting.

use std::time::Duration;

use skep_types::object::{Service, Task, TaskState};
use skep_types::spec::{Availability, RestartCondition, RestartPolicy};
use skep_types::{ServiceId, Time};

use crate::draft::Draft;
use crate::slot::{Slot, slots};
use crate::{has_stopped, is_lost, is_wanted, replicated};

/// A replacement waits at most this long for the task before it to stop.
const STOP_WAIT: Duration = Duration::from_secs(60);

pub(crate) fn policy(d: &Draft<'_>, t: &Task) -> RestartPolicy {
    d.work.revision(t.service, t.revision).and_then(|s| s.restart.clone()).unwrap_or_default()
}

/// Whether the policy allows to replace `t`, by its state and the history of its slot.
pub(crate) fn allowed(p: &RestartPolicy, slot: &Slot, t: &Task) -> bool {
    match p.condition {
        RestartCondition::None => return false,
        RestartCondition::OnFailure if t.status.state == TaskState::Complete => return false,
        _ => {}
    }
    if p.max_attempts == 0 {
        return true;
    }
    let same = slot.tasks.iter().filter(|x| x.revision == t.revision);
    // Every task of this revision after the first one in the slot was a restart.
    let restarts = same.skip(1).filter(|x| p.window.is_zero() || t.status.timestamp.since(x.meta.created_at) <= p.window);
    (restarts.count() as u64) < p.max_attempts
}

/// Replaces the tasks of a slot that died, or whose node is gone or gives its tasks away.
pub(crate) fn replace_dead(d: &mut Draft<'_>, service: &Service, slot: &Slot) {
    for t in slot.wanted() {
        let node = t.node.and_then(|n| d.work.node(n));
        let lost = t.node.is_some_and(|n| is_lost(&d.work, n));
        let drained = node.is_some_and(|n| n.spec.availability == Availability::Drain);
        let dead = t.status.state.is_terminal();
        if !dead && !lost && !drained {
            continue;
        }
        let p = policy(d, t);
        let replace = allowed(&p, slot, t);
        d.edit(t.id, |t| t.desired = TaskState::Shutdown);
        if replace && slot.wanted().filter(|x| !x.status.state.is_terminal()).all(|x| x.id == t.id) {
            let not_before = if dead && !lost && !drained { Some(d.now.after(p.delay)) } else { None };
            replicated::create(d, service, t.slot, TaskState::Ready, not_before);
        }
    }
}

/// Lets replacements run whose time has come.
pub(crate) fn release(d: &mut Draft<'_>, service: ServiceId) {
    for slot in slots(&d.work, service).into_values() {
        for t in slot.tasks.iter().filter(|t| t.desired == TaskState::Ready && !t.status.state.is_terminal()) {
            let due = t.not_before.unwrap_or(Time(0));
            if due > d.now {
                d.wake(due);
                continue;
            }
            let since = due.max(t.meta.created_at);
            let give_up = since.after(STOP_WAIT);
            let number = t.slot;
            let waits = d.work.tasks_of_service(service).any(|o| {
                o.id != t.id
                    && o.slot == number
                    && !is_wanted(o)
                    && !has_stopped(&d.work, o)
                    && (o.meta.created_at, o.id) < (t.meta.created_at, t.id)
            });
            if waits && d.now < give_up {
                d.wake(give_up);
                continue;
            }
            d.edit(t.id, |t| t.desired = TaskState::Running);
        }
    }
}
