//! The secrets and configs that this host's tasks need. In memory only: must never be written anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_types::file::{FileRef, StoredFile};
use skep_types::{FileId, TaskId};
use tokio::sync::watch;

use crate::ExecError;

/// A task is told of after its files, so that this wait ends at once but after a restart of the agent, when the managers must be
/// found first. What was removed meanwhile never comes: the task fails, and says why.
const WAIT: Duration = Duration::from_secs(30);

/// Refusals that are kept for tasks which have not asked yet; more than tasks begin at once on a host.
const REFUSALS: usize = 1000;

#[derive(Default)]
struct All {
    files: BTreeMap<FileId, Arc<StoredFile>>,
    refused: BTreeMap<(TaskId, FileId), String>,
}

impl All {
    /// What a driver gave for the task alone comes before what is for all.
    fn find(&self, task: TaskId, file: FileId) -> Option<&Arc<StoredFile>> {
        self.files.get(&StoredFile::id_for(file, task)).or_else(|| self.files.get(&file))
    }

    fn is_settled(&self, task: TaskId, file: FileId) -> bool {
        self.find(task, file).is_some() || self.refused.contains_key(&(task, file))
    }
}

#[derive(Clone)]
pub(crate) struct Stored(watch::Sender<All>);

impl Default for Stored {
    fn default() -> Self {
        Self(watch::channel(All::default()).0)
    }
}

impl Stored {
    pub(crate) fn put(&self, file: Arc<StoredFile>) {
        self.0.send_modify(|all| drop(all.files.insert(file.id, file)));
    }

    pub(crate) fn forget(&self, ids: &[FileId]) {
        self.0.send_modify(|all| all.files.retain(|id, _| !ids.contains(id)));
    }

    /// A task does not get a file, and why.
    pub(crate) fn refuse(&self, task: TaskId, file: FileId, why: String) {
        self.0.send_modify(|all| {
            if all.refused.len() >= REFUSALS {
                all.refused.pop_first();
            }
            all.refused.insert((task, file), why);
        });
    }

    /// Which are here.
    pub(crate) fn ids(&self) -> Vec<FileId> {
        self.0.borrow().files.keys().copied().collect()
    }

    /// Those that a task's container names, in its order, once they are here.
    pub(crate) async fn wait(&self, task: TaskId, wanted: &[FileRef]) -> Result<Vec<Arc<StoredFile>>, ExecError> {
        let mut all = self.0.subscribe();
        let settled = |all: &All| {
            let refused = wanted.iter().any(|f| all.refused.contains_key(&(task, f.id)));
            refused || wanted.iter().all(|f| all.is_settled(task, f.id))
        };
        // What did not come in time is told below.
        let _ = tokio::time::timeout(WAIT, all.wait_for(settled)).await;
        let found = wanted.iter().map(|f| self.0.borrow().find(task, f.id).cloned()).collect::<Option<Vec<_>>>();
        found.ok_or_else(|| {
            let mut why = None;
            self.0.send_if_modified(|all| {
                why = wanted.iter().find_map(|f| all.refused.remove(&(task, f.id)));
                false
            });
            let all = self.0.borrow();
            let missing = wanted.iter().find(|f| all.find(task, f.id).is_none());
            let (kind, name) = missing.map_or(("file", ""), |f| (f.kind.as_str(), f.name.as_str()));
            let message = why.unwrap_or_else(|| {
                format!("the managers did not give this node the {kind} {name} of the task within {} s", WAIT.as_secs())
            });
            ExecError { temporary: false, message }
        })
    }
}

#[cfg(test)]
mod tests {
    use skep_types::file::{FileKind, FileSpec};
    use skep_types::object::Meta;
    use skep_types::spec::Labels;

    use super::*;

    fn file(id: FileId, data: &str) -> Arc<StoredFile> {
        let data = data.as_bytes().to_vec().into();
        let (kind, name, labels) = (FileKind::Secret, "s".to_owned(), Labels::new());
        Arc::new(StoredFile {
            id,
            meta: Meta::default(),
            spec: FileSpec { kind, name, labels, data, template: false, driver: None },
        })
    }

    fn named(id: FileId) -> FileRef {
        FileRef { kind: FileKind::Secret, id, name: "s".into(), target: "s".into(), uid: 0, gid: 0, mode: 0o400 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_gets_its_own_copy_or_the_reason_why_not() {
        let (stored, secret, task) = (Stored::default(), FileId(7), TaskId(1));
        let got = async |task: TaskId| {
            let files = stored.wait(task, &[named(secret)]).await.map_err(|e| e.message)?;
            Ok::<_, String>(String::from_utf8_lossy(&files[0].spec.data.0).into_owned())
        };
        assert!(got(task).await.expect_err("nothing came").contains("did not give this node the secret s"));
        stored.put(file(StoredFile::id_for(secret, task), "own"));
        assert_eq!(got(task).await.as_deref(), Ok("own"));
        stored.refuse(TaskId(2), secret, "the vault is sealed".into());
        let begun = tokio::time::Instant::now();
        assert_eq!(got(TaskId(2)).await.expect_err("refused"), "the vault is sealed");
        assert!(begun.elapsed() < WAIT, "at once");
        stored.put(file(secret, "all"));
        assert_eq!((got(TaskId(3)).await.as_deref(), got(task).await.as_deref()), (Ok("all"), Ok("own")));
    }
}
