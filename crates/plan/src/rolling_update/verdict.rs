//! Whether an update goes well: which of its tasks have failed or are overdue, how long they may take, and what follows.

use std::sync::Arc;

use skep_types::Time;
use skep_types::object::{Service, Task, TaskState, UpdateState};
use skep_types::spec::{FailureAction, UpdateOrder};

use super::{Update, next_revision};
use crate::draft::Draft;
use crate::slot::has_had_its_turn;
use crate::{allocate, has_stopped, restart};

impl Update {
    /// Until when a new task is to find a node, counted from when it was allowed to run.
    fn placed_by(&self, t: &Task) -> Time {
        t.not_before.unwrap_or(t.meta.created_at).max(t.meta.created_at).after(self.config.monitor)
    }

    /// What of the service still stops may hold the port, or the share of a node, that a new task waits for; with start-first so
    /// may the old task beside a new one that is on its way. The time of those that wait is counted anew as long as that goes on,
    /// for twice as long at most as a replacement waits for the task before it.
    pub(super) fn give_time(&self, d: &mut Draft<'_>, s: &Service) {
        let new = self.unsettled(d, s);
        let on_its_way = |t: &Arc<Task>| t.status.state >= TaskState::Assigned;
        let frees = self.config.order == UpdateOrder::StartFirst && new.iter().any(on_its_way);
        if !frees && !d.work.stopping(s.id).any(|t| !has_stopped(&d.work, t)) {
            return;
        }
        let now = d.now;
        for t in new {
            let waits = !on_its_way(&t) && t.desired != TaskState::Ready;
            if waits && self.placed_by(&t) <= now && now < t.meta.created_at.max(self.since).after(2 * restart::STOP_WAIT) {
                d.edit(t.id, |t| t.not_before = Some(now));
            }
        }
    }

    /// Whether a task of the update counts as failed: it ended before it had run for the monitor period, or found no node in
    /// that time.
    pub(super) fn has_failed(&self, d: &mut Draft<'_>, s: &Service, t: &Task) -> bool {
        if self.is_overdue(d, s, t) {
            return true;
        }
        if t.status.state < TaskState::Assigned {
            if t.desired == TaskState::Ready {
                // It waits for the one before it, whose port or share of the node it may need.
                return false;
            }
            let due = self.placed_by(t);
            if t.status.err.is_some() && d.now < due {
                d.wake(due, s.id, t.slot_key());
            }
            return t.status.err.is_some() && d.now >= due;
        }
        t.status.state > TaskState::Running
            // On request is no failure, nor is the loss of a node.
            && has_had_its_turn(t)
            && t.running_since.is_none_or(|at| t.status.timestamp < at.after(self.config.monitor))
    }

    /// Whether a new task had the whole deadline to come to run, and does not.
    fn is_overdue(&self, d: &mut Draft<'_>, s: &Service, t: &Task) -> bool {
        let Some(deadline) = self.deadline.filter(|_| t.status.state < TaskState::Running) else { return false };
        let due = t.meta.created_at.after(deadline);
        if d.now < due {
            d.wake(due, s.id, t.slot_key());
        }
        d.now >= due
    }

    /// Whether `overdue`, a task that is, is the sign of an update that stands still: no other came to run in that time either.
    fn stands_still(&self, d: &mut Draft<'_>, s: &Service, overdue: &Task) -> bool {
        let deadline = self.deadline.unwrap_or_default();
        let from = Time(d.now.0.saturating_sub(i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX)));
        let progress = self.settled(d, s, from).into_iter().filter_map(|t| t.running_since).max();
        match progress.map(|at| at.after(deadline)).filter(|due| d.now < *due) {
            Some(due) => {
                d.wake(due, s.id, overdue.slot_key());
                false
            }
            None => true,
        }
    }

    /// Counts failures and acts on them. Returns whether the update ended by that.
    pub(super) fn judge(&self, d: &mut Draft<'_>, s: &Service) -> bool {
        if self.config.failure_action == FailureAction::Continue {
            return false;
        }
        let mut all: Vec<Arc<Task>> = d.work.ended(s.id, s.revision).filter(|t| self.made(t)).cloned().collect();
        all.extend(self.unsettled(d, s));
        all.retain(|t| self.has_failed(d, s, t));
        let Some(last) = all.iter().max_by_key(|t| (t.status.timestamp, t.id)) else { return false };
        let overdue = all.iter().find(|t| self.is_overdue(d, s, t)).cloned();
        let stands_still = overdue.is_some_and(|t| self.stands_still(d, s, &t));
        // A few thousand at most: exact in 32 bits.
        if !stands_still && all.len() as f32 / self.slots as f32 <= self.config.max_failure_ratio {
            return false;
        }
        let mut next = s.clone();
        let Some(status) = next.update_status.as_mut() else { return false };
        let why = match self.deadline {
            Some(deadline) if stands_still => format!("due to no progress within {deadline:?}"),
            _ => format!("due to failure or early termination of task {}", last.id),
        };
        match (self.rollback, self.config.failure_action) {
            (true, _) => {
                status.state = UpdateState::RollbackPaused;
                status.message = format!("rollback paused {why}");
            }
            (false, FailureAction::Rollback) if next.previous_spec.is_some() => {
                status.state = UpdateState::RollbackStarted;
                status.message = format!("update rolled back {why}");
                // Told apart from the update that it undoes, even within one tick of the clock.
                status.started_at = d.now.max(Time(status.started_at.0.saturating_add(1)));
                status.slots = 0;
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
