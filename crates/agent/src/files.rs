//! What the agent remembers over a restart: assignments with their newest status, the data plane, the managers. Each file is
//! replaced whole. Must never leave a half-written file under its final name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
pub(crate) struct Files(pub(crate) Arc<dyn Memory>);

fn task(id: TaskId) -> String {
    format!("{TASKS}/{id}.json")
}

impl Files {
    pub(crate) fn put_task(&self, a: &Assignment) {
        self.put_named(&task(a.task.id), a);
    }

    pub(crate) fn delete_task(&self, id: TaskId) {
        if let Err(e) = self.0.delete(&task(id)) {
            tracing::warn!(task = %id, error = %e, "agent: cannot delete assignment");
        }
    }

    /// The newest status of a task that was written down.
    pub(crate) fn tasks_status(&self, id: TaskId) -> Option<TaskStatus> {
        self.named::<Assignment>(&task(id)).map(|a| a.task.status)
    }

    /// All assignments that can be read; one that cannot be is told and left to the managers to send again.
    pub(crate) fn tasks(&self) -> Vec<Assignment> {
        self.0.list(TASKS).iter().filter_map(|n| self.named(n)).collect()
    }

    pub(crate) fn put_named<T: Serialize>(&self, name: &str, value: &T) {
        let written = serde_json::to_vec(value).map_err(std::io::Error::other).and_then(|b| self.0.put(name, &b));
        if let Err(e) = written {
            // The task goes on; after a restart the managers send it again.
            tracing::warn!(name, error = %e, "agent: cannot write");
        }
    }

    pub(crate) fn named<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = self.0.get(name).map_err(|e| tracing::warn!(name, error = %e, "agent: cannot read")).ok()??;
        serde_json::from_slice(&bytes).map_err(|e| tracing::warn!(name, error = %e, "agent: cannot read")).ok()
    }
}
