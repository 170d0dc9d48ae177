//! A new key for what is on the disk. Must never drop a key that something is still sealed with.

use crate::{Key, LogError, OpenError, Raft};

impl Raft {
    /// From now on everything is written under `key`. When this returns, nothing on this disk is sealed with another key; until
    /// then (also after an error or a crash) the keys before it are still needed.
    ///
    /// # Errors
    /// [`OpenError::Log`] if the disk refused; call it again.
    pub async fn rotate_key(&self, key: Key) -> Result<(), OpenError> {
        let io = |source| LogError::Io { op: "seal anew", path: self.snapshots.storage.locate(""), source };
        // The snapshot first: one that is being built is either sealed anew here or begun with the new key.
        self.snapshots.rekey(key.clone()).await.map_err(io)?;
        self.log.rekey(key.clone()).await.map_err(io)?;
        // Once more for one that was being built meanwhile.
        self.snapshots.rekey(key).await.map_err(io)?;
        let used = self.keys_in_use();
        self.snapshots.forget_keys(|k| used.contains(&k.id()));
        Ok(())
    }
}
