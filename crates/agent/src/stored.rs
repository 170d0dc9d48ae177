//! The secrets and configs that this host's tasks need. In memory only: must never be written anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_types::FileId;
use skep_types::file::{FileRef, StoredFile};
use tokio::sync::watch;

use crate::ExecError;

/// A task is told of after its files, so that this wait ends at once but after a restart of the agent, when the managers must be
/// found first. What was removed meanwhile never comes: the task fails, and says why.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Stored(watch::Sender<BTreeMap<FileId, Arc<StoredFile>>>);

impl Default for Stored {
    fn default() -> Self {
        Self(watch::channel(BTreeMap::new()).0)
    }
}

impl Stored {
    pub(crate) fn put(&self, file: Arc<StoredFile>) {
        self.0.send_modify(|all| drop(all.insert(file.id, file)));
    }

    pub(crate) fn forget(&self, ids: &[FileId]) {
        self.0.send_modify(|all| all.retain(|id, _| !ids.contains(id)));
    }

    /// Which are here.
    pub(crate) fn ids(&self) -> Vec<FileId> {
        self.0.borrow().keys().copied().collect()
    }

    /// Those that a container names, in its order, once they are here.
    pub(crate) async fn wait(&self, wanted: &[FileRef]) -> Result<Vec<Arc<StoredFile>>, ExecError> {
        let find = |all: &BTreeMap<FileId, Arc<StoredFile>>| wanted.iter().map(|f| all.get(&f.id).cloned()).collect();
        let mut all = self.0.subscribe();
        let here = tokio::time::timeout(WAIT, all.wait_for(|all| wanted.iter().all(|f| all.contains_key(&f.id)))).await;
        let found: Option<Vec<_>> = here.ok().and_then(Result::ok).and_then(|all| find(&all));
        found.ok_or_else(|| {
            let all = self.0.borrow();
            let missing = wanted.iter().find(|f| !all.contains_key(&f.id));
            let (kind, name) = missing.map_or(("file", ""), |f| (f.kind.as_str(), f.name.as_str()));
            let message = format!("the managers did not give this node the {kind} {name} of the task within 30 s");
            ExecError { temporary: false, message }
        })
    }
}
