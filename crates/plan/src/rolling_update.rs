//! Rolling updates and rollbacks (`swarm-semantics` 4.5). Everything is read from the tables: which slots run an old revision,
//! which tasks this update made, and when they ran. Must never replace more slots at once than the parallelism allows.

use std::sync::Arc;
use std::time::Duration;

use skep_types::object::{Service, Task, TaskState, UpdateState, UpdateStatus};
use skep_types::spec::{FailureAction, UpdateConfig, UpdateOrder};
use skep_types::{ServiceId, Time};

use crate::draft::Draft;
use crate::slot::{Slot, slots};
use crate::{allocate, is_wanted, replicated};

/// How one slot stands in the update.
struct Progress {
    slot: u64,
    /// The first task that this update made in the slot.
    made: Option<Arc<Task>>,
    /// Wanted tasks of another revision.
    old: Vec<Arc<Task>>,
    /// Has a wanted task of the current revision.
    renewed: Option<Arc<Task>>,
    /// Nothing is wanted in it, and what ended is of another revision.
    ended: bool,
}

fn progress(slot: u64, s: &Slot, revision: u64, since: Time) -> Progress {
    let made = s.tasks.iter().find(|t| t.revision == revision && t.meta.created_at >= since).cloned();
    let old: Vec<_> = s.wanted().filter(|t| t.revision != revision).cloned().collect();
    let renewed = s.wanted().find(|t| t.revision == revision).cloned();
    let ended = s.wanted().next().is_none() && s.newest().is_some_and(|t| t.revision != revision);
    Progress { slot, made, old, renewed, ended }
}

pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId) {
    let Some(service) = d.work.service(id).cloned() else { return };
    let state = service.update_status.as_ref().map(|u| u.state);
    if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
        return;
    }
    let rollback = state == Some(UpdateState::RollbackStarted);
    let since = service.update_status.as_ref().map_or(d.now, |u| u.started_at);
    let all: Vec<Progress> = slots(&d.work, id).iter().map(|(n, s)| progress(*n, s, service.revision, since)).collect();
    // A rollback leaves alone what ended, so that it always comes to an end.
    let dirty = |p: &&Progress| !p.old.is_empty() || (p.ended && !rollback);
    let running = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
    if !running {
        if all.iter().any(|p| dirty(&p)) {
            start(d, &service);
            run(d, id);
        }
        return;
    }
    let config = if rollback { &service.spec.rollback } else { &service.spec.update };
    let config = config.clone().unwrap_or_default();
    if judge_failures(d, &service, &config, &all, rollback) {
        return;
    }
    let mut in_flight = all.iter().filter(|p| is_in_flight(d, p, &config)).count();
    let limit = match usize::try_from(config.parallelism) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(n) => n,
    };
    for p in &all {
        retire_old(d, p);
    }
    let mut left = 0;
    for p in all.iter().filter(dirty) {
        if p.renewed.is_some() {
            left += 1;
            continue;
        }
        if in_flight >= limit || d.is_full() {
            left += 1;
            continue;
        }
        left += 1;
        in_flight += 1;
        match config.order {
            UpdateOrder::StartFirst => {
                replicated::create(d, &service, p.slot, TaskState::Running, None);
            }
            UpdateOrder::StopFirst => {
                replicated::create(d, &service, p.slot, TaskState::Ready, None);
                for o in &p.old {
                    d.edit(o.id, |t| t.desired = TaskState::Shutdown);
                }
            }
        }
    }
    if left == 0 {
        finish(d, &service, &config, &all, rollback);
    }
}

/// With start-first the old task goes as soon as the new one runs.
fn retire_old(d: &mut Draft<'_>, p: &Progress) {
    if p.renewed.as_ref().is_some_and(|t| t.status.state == TaskState::Running) {
        for o in &p.old {
            d.edit(o.id, |t| t.desired = TaskState::Shutdown);
        }
    }
}

/// When the task that this update made in a slot no longer holds a place: it runs, or ended, and the delay is over.
fn is_in_flight(d: &mut Draft<'_>, p: &Progress, config: &UpdateConfig) -> bool {
    let Some(t) = &p.made else { return false };
    let settled = match t.running_since {
        Some(at) => at,
        None if t.status.state.is_terminal() => t.status.timestamp,
        None => return is_wanted(t),
    };
    let due = settled.after(config.delay);
    if d.now < due {
        d.wake(due);
        return true;
    }
    false
}

fn start(d: &mut Draft<'_>, service: &Service) {
    let mut s = service.clone();
    s.update_status = Some(UpdateStatus {
        state: UpdateState::Updating,
        started_at: d.now,
        completed_at: None,
        message: "update in progress".into(),
    });
    d.put_service(s);
}

/// Whether a task of the update counts as failed: it ended before it had run for the monitor period.
fn has_failed(t: &Task, monitor: Duration) -> bool {
    t.status.state > TaskState::Running
        // On request is no failure, unless nothing was requested.
        && t.status.state != TaskState::Shutdown
        && t.running_since.is_none_or(|at| t.status.timestamp < at.after(monitor))
}

/// Counts failures and acts on them. Returns whether the update ended by that.
fn judge_failures(d: &mut Draft<'_>, s: &Service, c: &UpdateConfig, all: &[Progress], rollback: bool) -> bool {
    if c.failure_action == FailureAction::Continue {
        return false;
    }
    let total = all.iter().filter(|p| p.made.is_some() || !p.old.is_empty() || p.ended).count();
    let failed: Vec<&Arc<Task>> = all.iter().filter_map(|p| p.made.as_ref()).filter(|t| has_failed(t, c.monitor)).collect();
    let Some(last) = failed.iter().max_by_key(|t| t.status.timestamp) else { return false };
    if failed.len() as f32 / total as f32 <= c.max_failure_ratio {
        return false;
    }
    let mut next = s.clone();
    let Some(status) = next.update_status.as_mut() else { return false };
    let why = format!("due to failure or early termination of task {}", last.id);
    match (rollback, c.failure_action) {
        (true, _) => {
            status.state = UpdateState::RollbackPaused;
            status.message = format!("rollback paused {why}");
        }
        (false, FailureAction::Rollback) if next.previous_spec.is_some() => {
            status.state = UpdateState::RollbackStarted;
            status.message = format!("update rolled back {why}");
            status.started_at = d.now;
            roll_back(d, &mut next);
            next.previous_spec = None;
        }
        (false, _) => {
            status.state = UpdateState::Paused;
            status.message = format!("update paused {why}");
        }
    }
    d.put_service(next);
    true
}

/// Puts the previous spec in force, under the number of the revision that ran it if that is still known.
fn roll_back(d: &mut Draft<'_>, s: &mut Service) {
    let Some(previous) = s.previous_spec.take() else { return };
    let same_endpoint = previous.endpoint == s.spec.endpoint;
    let known = d.work.revisions(s.id).find(|(r, t)| *r != s.revision && ***t == previous.task).map(|(r, _)| r);
    let revision = next_revision(&d.work, s, same_endpoint, known);
    s.spec = *previous;
    if known != Some(revision) {
        d.put_revision(s.id, revision, Arc::new(s.spec.task.clone()));
    }
    s.revision = revision;
    // The restored spec had its addresses before; if it can have none now, its tasks wait and say so.
    let _ = allocate::service(&d.work, s);
}

/// The number for the revision of a spec: a known one if the endpoint did not change, else a new one.
pub fn next_revision(store: &skep_state::Store, s: &Service, same_endpoint: bool, known: Option<u64>) -> u64 {
    let highest = store.revisions(s.id).map(|(r, _)| r).max().unwrap_or(0).max(s.revision);
    known.filter(|_| same_endpoint).unwrap_or(highest + 1)
}

/// All slots are renewed: watch for one more monitor period, then say that it is done.
fn finish(d: &mut Draft<'_>, s: &Service, c: &UpdateConfig, all: &[Progress], rollback: bool) {
    let mut due = d.now;
    for t in all.iter().filter_map(|p| p.made.as_ref()) {
        match t.running_since {
            Some(at) => {
                let watch = if c.delay >= c.monitor { c.delay + Duration::from_secs(1) } else { c.monitor };
                due = due.max(at.after(watch));
            }
            None if t.status.state.is_terminal() => {}
            // It has not run yet; its own report wakes the planner.
            None if is_wanted(t) => return,
            None => {}
        }
    }
    if due > d.now {
        d.wake(due);
        return;
    }
    let mut next = s.clone();
    if let Some(u) = next.update_status.as_mut() {
        u.completed_at = Some(d.now);
        (u.state, u.message) = if rollback {
            (UpdateState::RollbackCompleted, "rollback completed".into())
        } else {
            (UpdateState::Completed, "update completed".into())
        };
    }
    d.put_service(next);
}
