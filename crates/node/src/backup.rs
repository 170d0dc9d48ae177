//! Backups of a swarm: what the managers agree on, in one file. Must never put a key into a backup unsealed where the swarm seals
//! its keys.

use skep_manager::Manager;
use skep_pki::{BackupHead, UnlockKey, write_backup};
use skep_types::clock::Clock;
use skep_types::control::ControlError;
use skep_wire::SystemClock;

use crate::error::internal;

pub(crate) async fn make(manager: &Manager) -> Result<Vec<u8>, ControlError> {
    let content = manager.dump().await?;
    let store = manager.store();
    let cluster = store.cluster().ok_or_else(|| internal("make backup", "the swarm is not set up yet"))?;
    let kek = match &*cluster.unlock_key {
        "" => None,
        key => Some(UnlockKey::parse(key).map_err(|e| internal("read the swarm's unlock key", e))?),
    };
    let head = BackupHead {
        time: SystemClock.now().rfc3339(),
        cluster: cluster.id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sealed: false,
        length: 0,
        sha256: String::new(),
    };
    let nonce = (&SystemClock as &dyn Clock).random();
    Ok(write_backup(head, &content, kek.as_ref(), nonce))
}
