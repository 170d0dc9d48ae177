//! Replacing dead tasks (`swarm-semantics` 4.4): whether, when, and releasing the replacement. Must never run a replacement
//! while the task before it may still run, except after a minute of waiting.

use std::time::Duration;

use skep_types::object::{Service, SlotKey, Task, TaskState};
use skep_types::spec::{Availability, RestartCondition, RestartPolicy};
use skep_types::{Time, options};

use crate::constraint::fits_all;
use crate::create::{Place, create};
use crate::draft::Draft;
use crate::slot::{Slot, slot};
use crate::{drain, has_stopped, is_lost};

/// A replacement waits at most this long for the task before it to stop.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(60);
/// What a growing delay grows from at least: zero would stay zero.
const LEAST_GROWING: Duration = Duration::from_secs(1);

/// What is told of a task that its node's labels, or its service's constraints, have turned away.
pub(crate) const UNFIT: &str = "assigned node no longer meets constraints";

/// Whether a task that ended may be replaced under a policy, its history aside.
#[must_use]
pub fn should_restart(p: &RestartPolicy, state: TaskState) -> bool {
    match p.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => state != TaskState::Complete,
        RestartCondition::Any => true,
    }
}

/// The policy that holds for a task: its own revision's. A job's task that is complete is never run again.
pub(crate) fn policy(d: &Draft<'_>, service: &Service, t: &Task) -> RestartPolicy {
    let mut p = d.work.revision(t.service, t.revision).and_then(|s| s.restart.clone()).unwrap_or_default();
    if service.spec.mode.is_job() && p.condition == RestartCondition::Any {
        p.condition = RestartCondition::OnFailure;
    }
    p
}

/// Whether the policy allows to replace `t`, by its state and the history of its place.
pub(crate) fn allowed(p: &RestartPolicy, slot: &Slot, t: &Task) -> bool {
    if !should_restart(p, t.status.state) {
        return false;
    }
    if p.max_attempts == 0 {
        return true;
    }
    let same = slot.tasks.iter().filter(|x| x.revision == t.revision && x.iteration == t.iteration);
    // Every task of this revision after the first one in the place was a restart.
    let restarts = same.skip(1).filter(|x| p.window.is_zero() || t.status.timestamp.since(x.meta.created_at) <= p.window);
    (restarts.count() as u64) < p.max_attempts
}

/// Why a task that is meant to live cannot go on, and whether its replacement need not wait for the policy's delay.
fn loss(d: &Draft<'_>, service: &Service, t: &Task) -> Option<(Option<&'static str>, bool)> {
    let given = t.node.filter(|_| t.status.state >= TaskState::Assigned);
    if let Some(id) = given {
        let node = d.work.node(id);
        if is_lost(&d.work, id) {
            return Some((None, true));
        }
        if let Some(n) = node.filter(|n| n.spec.availability == Availability::Drain) {
            return (!drain::stays(service, n, t)).then_some((None, true));
        }
    }
    if t.status.state.is_terminal() {
        return Some((None, false));
    }
    // A paused node keeps what it runs.
    let node = given.and_then(|n| d.work.node(n)).filter(|n| n.spec.availability == Availability::Active)?;
    let spec = d.work.revision(t.service, t.revision)?;
    let constraints = &spec.placement.constraints;
    if !constraints.is_empty() && !fits_all(constraints, node) {
        return Some((Some(UNFIT), true));
    }
    let (r, has, load) = (&spec.resources, &node.description, d.work.load(node.id));
    let short =
        (r.reserve_nano_cpus > 0 && load.nano_cpus > has.nano_cpus) || (r.reserve_memory > 0 && load.memory > has.memory);
    // Each one that goes makes room, until what is left fits.
    short.then_some((Some("assigned node no longer has the resources"), true))
}

/// Whether a place has one task only, which lives, is as it is wanted, and may stay where it is: most places, at most times.
pub(crate) fn is_at_rest(d: &Draft<'_>, service: &Service, s: &Slot) -> bool {
    let [t] = s.tasks.as_slice() else { return false };
    let as_wanted = t.desired == service.goal() && !t.status.state.is_terminal() && !t.takes_over && !s.has_leavings;
    let drained = || t.node.and_then(|n| d.work.node(n)).is_some_and(|n| n.spec.availability == Availability::Drain);
    as_wanted && !drained() && loss(d, service, t).is_none()
}

/// How many tasks of a place have crashed in a row with `t`, and how long its replacement waits: the policy's delay, doubled for
/// each crash before it if the service wants that. One that ran for longer than the longest delay has not crashed.
fn next_delay(service: &Service, p: &RestartPolicy, t: &Task) -> (u32, Option<Duration>) {
    let Some(longest) = options::backoff(&service.spec.labels) else { return (0, Some(p.delay)) };
    let ran = t.running_since.map_or(Duration::ZERO, |since| t.status.timestamp.since(since));
    let before = if ran > longest { 0 } else { t.crashes };
    if before == 0 {
        return (1, Some(p.delay));
    }
    let doubled = p.delay.max(LEAST_GROWING).saturating_mul(1u32.checked_shl(before).unwrap_or(u32::MAX));
    (before.saturating_add(1), Some(doubled.min(longest.max(p.delay))))
}

/// Until when a replacement that died before its delay was over keeps its place: what a node rejects while it prepares it would else be
/// replaced without any delay (`swarm-semantics` 4.4, 6). Another spec does not wait for it.
pub(crate) fn waits_until(d: &Draft<'_>, service: &Service, t: &Task) -> Option<Time> {
    let early = t.desired == TaskState::Ready && t.status.state.is_terminal() && t.revision == service.revision;
    t.not_before.filter(|due| early && *due > d.now)
}

/// Replaces the tasks of a place that died, or whose node is gone, gives its tasks away, or fits no longer.
pub(crate) fn replace_dead(d: &mut Draft<'_>, service: &Service, slot: &Slot) {
    let mut replaced = false;
    for t in slot.wanted() {
        if service.spec.mode.is_job() && t.status.state == TaskState::Complete {
            continue;
        }
        let Some((why, at_once)) = loss(d, service, t) else { continue };
        let p = policy(d, service, t);
        let replace = allowed(&p, slot, t);
        if let Some(due) = waits_until(d, service, t).filter(|_| replace && !at_once) {
            d.wake(due, service.id, t.slot_key());
            continue;
        }
        d.edit(t.id, |t| {
            t.desired = TaskState::Shutdown;
            t.given_up = why.map(str::to_owned);
        });
        // Another one of the place lives, if this is in the middle of an update.
        let alone = slot.wanted().filter(|x| !x.status.state.is_terminal()).all(|x| x.id == t.id);
        if replace && alone && !replaced {
            let (crashes, delay) = if at_once { (t.crashes, None) } else { next_delay(service, &p, t) };
            let not_before = delay.map(|wait| d.now.after(wait));
            if let Some(new) = create(d, service, Place::of(t), TaskState::Ready, not_before) {
                let takes_over = t.takes_over;
                d.edit(new, |n| (n.crashes, n.takes_over) = (crashes, takes_over));
            }
            replaced = true;
        }
    }
}

/// Lets replacements live whose time has come.
pub(crate) fn release(d: &mut Draft<'_>, service: &Service, key: SlotKey) {
    let waits = |t: &&std::sync::Arc<Task>| t.desired == TaskState::Ready && !t.status.state.is_terminal();
    let all = slot(&d.work, service.id, key);
    for t in all.tasks.iter().filter(waits) {
        let due = t.not_before.unwrap_or(Time(0));
        if due > d.now {
            d.wake(due, service.id, key);
            continue;
        }
        let give_up = due.max(t.meta.created_at).after(STOP_WAIT);
        let stops = d.work.tasks_of_slot(service.id, key).any(|o| {
            o.id != t.id && !o.is_wanted() && !has_stopped(&d.work, o) && (o.meta.created_at, o.id) < (t.meta.created_at, t.id)
        });
        if stops && d.now < give_up {
            d.wake(give_up, service.id, key);
            continue;
        }
        let now = d.now;
        d.edit(t.id, |t| (t.desired, t.not_before) = (service.goal(), Some(now)));
    }
}
