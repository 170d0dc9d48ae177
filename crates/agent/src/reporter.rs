//! The newest status of each task until a manager acknowledged it: at most one per task, so it is bounded by the tasks of this
//! host. Must never forget one before its commit.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skep_types::TaskId;
use skep_types::control::StatusReport;
use skep_types::object::TaskStatus;
use tokio::sync::Notify;

/// Reports in one message, as the managers accept them.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Reporter {
    pending: Mutex<BTreeMap<TaskId, TaskStatus>>,
    pub(crate) news: Notify,
}

impl Reporter {
    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, TaskStatus>> {
        // Entries are inserted and removed whole.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, task: TaskId, status: &TaskStatus) {
        self.pending().insert(task, status.clone());
        self.news.notify_one();
    }

    pub(crate) fn forget(&self, task: TaskId) {
        self.pending().remove(&task);
    }

    pub(crate) fn batch(&self) -> Vec<StatusReport> {
        self.pending().iter().take(MOST).map(|(task, status)| StatusReport { task: *task, status: status.clone() }).collect()
    }

    /// Drops what was committed, unless there is something newer already.
    pub(crate) fn acknowledged(&self, batch: &[StatusReport]) {
        let mut p = self.pending();
        for r in batch {
            if p.get(&r.task) == Some(&r.status) {
                p.remove(&r.task);
            }
        }
        if !p.is_empty() {
            self.news.notify_one();
        }
    }
}
