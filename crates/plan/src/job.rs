//! Jobs (`swarm-semantics` 4.3): tasks that are to end, each place once an iteration. A task that failed is replaced by its
//! restart policy; where the policy says no, its place stays empty until the next iteration. Must never run a place again that is
//! complete.

use std::collections::BTreeMap;

use skep_types::object::{Service, SlotKey, TaskState};

use crate::create::{Place, create};
use crate::draft::Draft;
use crate::slot::{Slot, slot, slots};
use crate::{reaper, restart, tend};

/// Ends tasks of older iterations in one place; those that have ended are history from now on.
pub(crate) fn end_older(d: &mut Draft<'_>, service: &Service, key: SlotKey) {
    let Some(now) = service.iteration() else { return };
    let older = d.work.tasks_of_slot(service.id, key).filter(|t| t.iteration != Some(now)).map(|t| t.id);
    for t in older.collect::<Vec<_>>() {
        d.edit(t, |t| {
            let end = if t.status.state.is_terminal() { TaskState::Shutdown } else { TaskState::Remove };
            t.desired = t.desired.max(end);
        });
    }
}

/// The tasks of the current iteration in a place.
fn current(service: &Service, s: Slot) -> Slot {
    let tasks = s.tasks.into_iter().filter(|t| t.iteration == service.iteration()).collect();
    Slot { tasks, ..s }
}

/// Runs as many tasks of a replicated job as it may at a time, until enough are complete.
pub(crate) fn run(d: &mut Draft<'_>, service: &Service, at_once: u64, total: u64) {
    let id = service.id;
    let keys: Vec<SlotKey> = {
        let mut keys: Vec<SlotKey> = d.work.tasks_of_service(id).map(|t| t.slot_key()).collect();
        keys.dedup();
        keys
    };
    for key in keys {
        if d.is_full() {
            d.rest.services.insert(id);
            return;
        }
        end_older(d, service, key);
        if key >= SlotKey::number(total) {
            // Fewer completions are wanted than before.
            let live: Vec<_> = d.work.tasks_of_slot(id, key).filter(|t| !t.status.state.is_terminal()).map(|t| t.id).collect();
            for t in live {
                d.edit(t, |t| t.desired = TaskState::Remove);
            }
            reaper::run(d, id, key);
        } else {
            let s = slot(&d.work, id, key);
            tend(d, service, key, &s);
        }
    }
    let all: BTreeMap<SlotKey, Slot> =
        slots(&d.work, id).into_iter().map(|(k, s)| (k, current(service, s))).filter(|(_, s)| !s.tasks.is_empty()).collect();
    let is_live = |d: &Draft<'_>, s: &Slot| {
        s.wanted().any(|t| !t.status.state.is_terminal() || restart::waits_until(d, service, t).is_some())
    };
    let active = all.values().filter(|s| is_live(d, s)).count() as u64;
    let mut room = at_once.saturating_sub(active);
    // Places that were tried are complete, live, or failed for good: only new ones are filled.
    let mut number = 0;
    while room > 0 && number < total {
        if d.is_full() {
            d.rest.services.insert(id);
            return;
        }
        let s = all.get(&SlotKey::number(number));
        if s.is_none_or(|s| !is_live(d, s) && was_taken_away(d, service, s)) {
            create(d, service, Place::Number(number), service.goal(), None);
            reaper::run(d, id, SlotKey::number(number));
            room -= 1;
        }
        number += 1;
    }
}

/// Whether the last task in a place ended without having had its chance.
fn was_taken_away(d: &Draft<'_>, service: &Service, s: &Slot) -> bool {
    s.newest().is_some_and(|t| match t.status.state {
        TaskState::Complete => false,
        TaskState::Failed | TaskState::Rejected => restart::allowed(&restart::policy(d, service, t), s, t),
        _ => true,
    })
}
