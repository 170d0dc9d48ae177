//! What the agent remembers over a restart: assignments with their newest status, the data plane, the managers. Each file is
//! replaced whole. Must never leave a half-written file under its final name.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_types::TaskId;
use skep_types::control::Assignment;
use skep_types::object::TaskStatus;

/// Small named files that survive a crash. Names are relative, with at most one folder. A trait, so that a simulation can be
/// the disk.
pub trait Memory: Send + Sync + 'static {
    /// Writes a file whole, durably.
    ///
    /// # Errors
    /// If the disk refuses; the older content is still there then.
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()>;
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// If the disk refuses.
    fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>>;
    /// Removes a file. No error if there is none.
    ///
    /// # Errors
    /// If the disk refuses.
    fn delete(&self, name: &str) -> std::io::Result<()>;
    /// Names of the files in a folder, with the folder's name, in order.
    fn list(&self, folder: &str) -> Vec<String>;
}

/// A directory.
#[derive(Debug, Clone)]
pub struct DirMemory(PathBuf);

impl DirMemory {
    /// Uses a directory, which is made if absent.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir.join(TASKS))?;
        Ok(Self(dir.to_path_buf()))
    }
}

impl Memory for DirMemory {
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.0.join(name);
        let tmp = path.with_extension("tmp");
        let mut f = std::fs::File::create(&tmp)?;
        f.write_all(bytes)?;
        f.sync_data()?;
        std::fs::rename(&tmp, path)
    }

    fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Ok(b) => Ok(Some(b)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.0.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.0.join(folder)) else { return vec![] };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|e| Some(format!("{folder}/{}", e.file_name().to_str()?)))
            .filter(|n| n.ends_with(".json"))
            .collect();
        names.sort();
        names
    }
}

const TASKS: &str = "tasks";

#[derive(Clone)]
pub(crate) struct Files {
    memory: Arc<dyn Memory>,
    /// The statuses that were written down, as many as there are tasks: they are asked for with each change of an assignment.
    statuses: Arc<Mutex<BTreeMap<TaskId, TaskStatus>>>,
}

fn task(id: TaskId) -> String {
    format!("{TASKS}/{id}.json")
}

impl Files {
    pub(crate) fn new(memory: Arc<dyn Memory>) -> Self {
        Self { memory, statuses: Arc::default() }
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<TaskId, TaskStatus>> {
        // Entries are inserted and removed whole.
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put_task(&self, a: &Assignment) {
        let written = self.put_named(&task(a.task.id), a);
        let mut statuses = self.statuses();
        // What the disk refused is not known after a restart; the file says what is.
        statuses.remove(&a.task.id);
        if written {
            statuses.insert(a.task.id, a.task.status.clone());
        }
    }

    pub(crate) fn delete_task(&self, id: TaskId) {
        self.statuses().remove(&id);
        if let Err(e) = self.memory.delete(&task(id)) {
            tracing::warn!(task = %id, error = %e, "agent: cannot delete assignment");
        }
    }

    /// The newest status of a task that was written down.
    pub(crate) fn tasks_status(&self, id: TaskId) -> Option<TaskStatus> {
        let known = self.statuses().get(&id).cloned();
        known.or_else(|| self.named::<Assignment>(&task(id)).map(|a| a.task.status))
    }

    /// All assignments that can be read; one that cannot be is told and left to the managers to send again.
    pub(crate) fn tasks(&self) -> Vec<Assignment> {
        let all: Vec<Assignment> = self.memory.list(TASKS).iter().filter_map(|n| self.named(n)).collect();
        self.statuses().extend(all.iter().map(|a| (a.task.id, a.task.status.clone())));
        all
    }

    /// Writes a value down. Returns whether it is on the disk.
    pub(crate) fn put_named<T: Serialize>(&self, name: &str, value: &T) -> bool {
        let written = serde_json::to_vec(value).map_err(std::io::Error::other).and_then(|b| self.memory.put(name, &b));
        if let Err(e) = &written {
            // The task goes on; after a restart the managers send it again.
            tracing::warn!(name, error = %e, "agent: cannot write");
        }
        written.is_ok()
    }

    pub(crate) fn named<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = self.memory.get(name).map_err(|e| tracing::warn!(name, error = %e, "agent: cannot read")).ok()??;
        serde_json::from_slice(&bytes).map_err(|e| tracing::warn!(name, error = %e, "agent: cannot read")).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use skep_types::ServiceId;
    use skep_types::object::{Task, TaskState};
    use skep_types::spec::TaskSpec;

    use super::*;

    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        files: Mutex<BTreeMap<String, Vec<u8>>>,
    }

    impl Memory for Disk {
        fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
            if self.full.load(Ordering::Relaxed) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        }

        fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            Ok(self.files.lock().unwrap().get(name).cloned())
        }

        fn delete(&self, name: &str) -> std::io::Result<()> {
            self.files.lock().unwrap().remove(name);
            Ok(())
        }

        fn list(&self, _: &str) -> Vec<String> {
            self.files.lock().unwrap().keys().cloned().collect()
        }
    }

    #[test]
    fn the_status_of_a_task_is_what_its_file_says() {
        let id = TaskId(7);
        let assignment = |state| {
            let mut task = Task::new(id, ServiceId(1), "web");
            task.status.state = state;
            let (ports, networks, service_labels) = Default::default();
            Assignment { task, spec: TaskSpec::default(), ports, networks, service_labels }
        };
        let disk = Arc::new(Disk::default());
        let files = Files::new(disk.clone());
        let state = |f: &Files| f.tasks_status(id).map(|s| s.state);
        assert_eq!(state(&files), None);
        files.put_task(&assignment(TaskState::Starting));
        files.put_task(&assignment(TaskState::Running));
        assert_eq!(state(&files), Some(TaskState::Running));
        disk.full.store(true, Ordering::Relaxed);
        files.put_task(&assignment(TaskState::Complete));
        assert_eq!(state(&files), Some(TaskState::Running), "after a restart it runs");
        disk.full.store(false, Ordering::Relaxed);
        files.put_task(&assignment(TaskState::Complete));
        let again = Files::new(disk);
        assert_eq!(again.tasks().len(), 1);
        assert_eq!(state(&again), Some(TaskState::Complete));
        again.delete_task(id);
        assert_eq!(state(&again), None);
    }
}
