//! Locked managers (`swarm-semantics` 6.5): opening sealed keys, and sealing them anew whenever the swarm's unlock key changes. A
//! manager learns of that from its own tables. Must never show a key.

use std::sync::{Arc, Weak};
use std::time::Duration;

use skep_manager::Manager;
use skep_pki::UnlockKey;
use skep_types::control::{ControlError, LocalState};
use skep_types::object::Cluster;
use tokio::sync::MutexGuard;

use crate::error::{
    certificates_expired, internal, invalid, no_manager_inactive, no_manager_worker, not_locked, wrong_unlock_key,
};
use crate::node::Shared;
use crate::resume::{Obstacle, resume};
use crate::running::Running;

/// Pause before keys that could not be written are written again.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn unlock(shared: &Arc<Shared>, key: &str) -> Result<(), ControlError> {
    let view = shared.view();
    match view.state {
        LocalState::Locked => {}
        LocalState::Inactive => return Err(no_manager_inactive()),
        _ if view.manager.is_none() && view.role == skep_types::spec::Role::Worker => return Err(no_manager_worker()),
        _ => return Err(not_locked()),
    }
    let key = UnlockKey::parse(key).map_err(invalid)?;
    let disk = shared.files.load().map_err(|e| internal("read swarm state", e))?;
    let disk = disk.ok_or_else(no_manager_inactive)?;
    match resume(shared, disk, Some(&key)).await {
        Ok(()) => Ok(()),
        Err(Obstacle::WrongKey | Obstacle::Locked) => Err(wrong_unlock_key()),
        Err(Obstacle::Expired) => Err(certificates_expired()),
        Err(Obstacle::Failed(e)) => Err(internal("swarm component could not be started", e)),
    }
}

/// Keeps the keys of this manager sealed as the swarm wants it, until the manager is gone.
pub(crate) fn follow(shared: &Arc<Shared>, manager: &Arc<Manager>) {
    let (shared, weak): (Weak<Shared>, Weak<Manager>) = (Arc::downgrade(shared), Arc::downgrade(manager));
    let mut changed = manager.watch();
    tokio::spawn(async move {
        let mut seen = None;
        loop {
            let pause = match step(&shared, &weak, &mut seen).await {
                None => return,
                Some(Ok(())) => None,
                Some(Err(e)) => {
                    seen = None;
                    tracing::error!(error = %e, "swarm: cannot seal the keys of this manager as the swarm wants it");
                    Some(RETRY)
                }
            };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None if changed.changed().await.is_err() => return,
                None => {}
            }
        }
    });
}

/// One look at the tables; `None` when the manager is gone. `seen` is the version of the cluster that was dealt with last.
async fn step(
    shared: &Weak<Shared>,
    manager: &Weak<Manager>,
    seen: &mut Option<skep_types::object::Version>,
) -> Option<Result<(), ControlError>> {
    let (shared, manager) = shared.upgrade().zip(manager.upgrade())?;
    let store = manager.store();
    let Some(c) = store.cluster().filter(|c| *seen != Some(c.meta.version)) else { return Some(Ok(())) };
    let slot = shared.running.lock().await;
    let Some(r) = slot.as_ref() else { return Some(Ok(())) };
    if !r.manager.as_ref().is_some_and(|p| Arc::ptr_eq(&p.manager, &manager)) {
        // Not shown yet, or not any more.
        return Some(Ok(()));
    }
    *seen = Some(c.meta.version);
    Some(reseal(&shared, &manager, slot, c).await)
}

/// Seals the keys as the cluster wants it, with another key for the raft log, and has that log sealed with it.
async fn reseal(
    shared: &Shared,
    manager: &Manager,
    mut slot: MutexGuard<'_, Option<Running>>,
    c: &Cluster,
) -> Result<(), ControlError> {
    let Some(r) = slot.as_mut() else { return Ok(()) };
    if let Some(keys) = r.keys.resealed(&c.unlock_key, c.meta.version)? {
        keys.save(&shared.files)?;
        r.keys = keys;
        tracing::info!(locked = !c.unlock_key.is_empty(), "swarm: the keys of this manager are sealed as the swarm wants it");
    }
    let ring = r.keys.ring()?;
    if ring.older.is_empty() {
        return Ok(());
    }
    // A large log takes a while: nothing else waits for it. Not finished here, it is at the next start.
    drop(slot);
    manager.rotate_key(ring.current.clone()).await.map_err(|e| internal("seal the raft log with another key", e))?;
    let mut slot = shared.running.lock().await;
    let Some(r) = slot.as_mut() else { return Ok(()) };
    let keys = r.keys.with_only(&ring.current);
    keys.ring()?;
    keys.save(&shared.files)?;
    r.keys = keys;
    Ok(())
}
