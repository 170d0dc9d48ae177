//! A view of the tasks of one slot. Must never change anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_state::Store;
use skep_types::ServiceId;
use skep_types::object::{Task, TaskState};

use crate::is_wanted;

/// The tasks of one slot, oldest first. Tasks that are to be removed are not part of it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) tasks: Vec<Arc<Task>>,
}

impl Slot {
    /// Tasks that are meant to run.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(|t| is_wanted(t))
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks.last()
    }
}

/// All slots of a service by number.
pub(crate) fn slots(store: &Store, service: ServiceId) -> BTreeMap<u64, Slot> {
    let mut out: BTreeMap<u64, Slot> = BTreeMap::new();
    for t in store.tasks_of_service(service).filter(|t| t.desired < TaskState::Remove) {
        out.entry(t.slot).or_default().tasks.push(t.clone());
    }
    for s in out.values_mut() {
        s.tasks.sort_by_key(|t| (t.meta.created_at, t.id));
    }
    out
}
