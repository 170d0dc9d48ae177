//! A view of the tasks in one place of a service. Must never change anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_state::Store;
use skep_types::ServiceId;
use skep_types::object::{SlotKey, Task, TaskState};

/// The tasks in one place, oldest first. Tasks that are to be removed are not part of it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) tasks: Vec<Arc<Task>>,
    /// There are others in the place, which are to be removed.
    pub(crate) has_leavings: bool,
}

impl Slot {
    fn of<'a>(tasks: impl Iterator<Item = &'a Arc<Task>>) -> Self {
        let mut has_leavings = false;
        let stays = |t: &&Arc<Task>| {
            has_leavings |= t.desired >= TaskState::Remove;
            t.desired < TaskState::Remove
        };
        let mut tasks: Vec<_> = tasks.filter(stays).cloned().collect();
        tasks.sort_by_key(|t| (t.meta.created_at, t.id));
        Self { tasks, has_leavings }
    }

    /// Tasks that are meant to live.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|t| t.is_wanted())
    }

    /// Of several tasks that run here and that all have been replaced by the spec of now, all but that of the newest revision. Not
    /// by the times when they were made: leaders' clocks differ.
    pub(crate) fn left_over(&self, current: u64) -> Vec<Arc<Task>> {
        let mut running: Vec<_> = self.wanted().filter(|t| t.status.state == TaskState::Running).cloned().collect();
        running.sort_by_key(|t| (t.revision, t.id));
        let serves = running.pop();
        if serves.is_none() || running.iter().chain(&serves).any(|t| t.revision == current) { vec![] } else { running }
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks.last()
    }
}

/// Whether a task ended by itself; what was asked to stop is somebody else's business.
pub(crate) fn has_had_its_turn(t: &Task) -> bool {
    matches!(t.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected)
}

/// One place of a service.
pub(crate) fn slot(store: &Store, service: ServiceId, key: SlotKey) -> Slot {
    Slot::of(store.tasks_of_slot(service, key))
}

/// All places of a service that have tasks.
pub(crate) fn slots(store: &Store, service: ServiceId) -> BTreeMap<SlotKey, Slot> {
    let mut out: BTreeMap<SlotKey, Vec<&Arc<Task>>> = BTreeMap::new();
    for t in store.tasks_of_service(service) {
        out.entry(t.slot_key()).or_default().push(t);
    }
    let all = out.into_iter().map(|(k, v)| (k, Slot::of(v.into_iter())));
    all.filter(|(_, s)| !s.tasks.is_empty()).collect()
}
