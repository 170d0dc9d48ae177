//! What a simulated agent remembers: files that survive crashes. Must never lose what was put.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use skep_agent::Memory;

#[derive(Debug, Default)]
pub(crate) struct SimMemory(Mutex<BTreeMap<String, Vec<u8>>>);

impl SimMemory {
    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As after the swarm was left.
    pub(crate) fn wipe(&self) {
        self.files().clear();
    }
}

impl Memory for SimMemory {
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.files().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.files().get(name).cloned())
    }

    fn delete(&self, name: &str) -> std::io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let folder = format!("{folder}/");
        self.files().keys().filter(|n| n.starts_with(&folder)).cloned().collect()
    }
}
