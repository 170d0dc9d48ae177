//! The snapshots of a member: the current one, one being built, one being received. Must never replace a newer one by an older.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::SnapshotMeta;
use crate::keys::{Key, KeyId, KeyRing};
use crate::machine::SnapshotFn;
use crate::snapshot_file::{self, SnapshotFile, Writer};
use crate::storage::{background, blocking};
use crate::{LogError, Storage};

/// The current snapshot.
pub(crate) const CURRENT: &str = "snapshot";
/// One being built here.
const BUILDING: &str = "snapshot.building";
/// One being received from the leader.
pub(crate) const INCOMING: &str = "snapshot.incoming";
/// The current one being sealed anew.
const RESEALED: &str = "snapshot.resealed";
/// What the names of snapshots that are kept besides the current one begin with; the index of their last entry follows.
const OLD: &str = "snapshot.old-";
/// Pause before a snapshot that could not be written is tried again; it is not urgent.
const BACK_OFF: Duration = Duration::from_secs(1);

/// A snapshot as it is handed around: its file, not its contents.
pub(crate) type Handle = Arc<SnapshotFile>;

struct State {
    keys: KeyRing,
    current: Option<Handle>,
    /// When the current one was taken, if this process took it.
    taken: Option<Instant>,
}

/// Shared by all who touch snapshots.
pub(crate) struct Snapshots {
    pub(crate) storage: Arc<dyn Storage>,
    state: Mutex<State>,
    /// Older ones that are kept besides the current one.
    keep: AtomicUsize,
    /// Held while a file is given its final name.
    installing: tokio::sync::Mutex<()>,
    stop: watch::Receiver<bool>,
    /// Nobody else may open the files while one of them may still be written.
    _lock: Arc<dyn Send + Sync>,
}

/// What a snapshot that is not older than `meta` covers.
fn covers(h: &SnapshotFile, meta: &SnapshotMeta) -> bool {
    h.meta.last_log_id >= meta.last_log_id
}

impl Snapshots {
    /// Opens the current snapshot and removes what a crash left of others.
    pub(crate) async fn open(
        storage: Arc<dyn Storage>,
        keys: KeyRing,
        stop: watch::Receiver<bool>,
        lock: Arc<dyn Send + Sync>,
    ) -> Result<Arc<Self>, LogError> {
        let (s, k) = (storage.clone(), keys.clone());
        let opened = blocking(&storage, move || {
            for name in [BUILDING, INCOMING, RESEALED] {
                match s.remove(name) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            Ok(SnapshotFile::open(&s, CURRENT, &k))
        })
        .await;
        let current = opened.map_err(|source| LogError::Io { op: "open", path: storage.locate(CURRENT), source })??;
        let state = State { keys, current: current.map(Arc::new), taken: None };
        Ok(Arc::new(Self {
            storage,
            state: Mutex::new(state),
            keep: AtomicUsize::new(0),
            installing: tokio::sync::Mutex::default(),
            stop,
            _lock: lock,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Fields are replaced whole, so a panic elsewhere leaves them usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current one.
    pub(crate) fn current(&self) -> Option<Handle> {
        self.state().current.clone()
    }

    /// How long ago the current one was taken, if this process took or received it.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.state().taken.map(|t| t.elapsed())
    }

    /// From now on so many older ones are kept besides the current one; those of before are removed with the next snapshot.
    pub(crate) fn set_keep(&self, old: usize) {
        self.keep.store(old, Ordering::Relaxed);
    }

    /// Removes all older ones but the newest `keep`.
    fn prune(&self, keep: usize) -> io::Result<()> {
        let mut old: Vec<String> = self.storage.list("")?.into_iter().filter(|n| n.starts_with(OLD)).collect();
        // Indexes have leading zeros, so names are in order.
        old.sort_unstable();
        let surplus = old.len().saturating_sub(keep);
        old.iter().take(surplus).try_for_each(|name| self.storage.remove(name))
    }

    /// Removes older ones that another key than `key` seals: nobody will have it.
    fn prune_others(&self, key: KeyId) -> io::Result<()> {
        let old = self.storage.list("")?.into_iter().filter(|n| n.starts_with(OLD));
        for name in old {
            if snapshot_file::sealed_by(&*self.storage, &name)? != Some(key) {
                self.storage.remove(&name)?;
            }
        }
        self.storage.sync_dir("")
    }

    pub(crate) fn keys(&self) -> KeyRing {
        self.state().keys.clone()
    }

    /// Writes a snapshot with what `make` yields and makes it the current one. Tries until the disk takes it.
    pub(crate) async fn build(self: &Arc<Self>, meta: SnapshotMeta, make: Arc<SnapshotFn>) -> io::Result<Handle> {
        let mut stop = self.stop.clone();
        loop {
            let (me, m, make) = (self.clone(), meta.clone(), make.clone());
            let key = self.keys().current;
            let written = background(&self.storage, move || {
                let mut w = Writer::create(&*me.storage, BUILDING, &key, &m)?;
                make(&mut w)?;
                w.finish()
            })
            .await;
            let r = match written {
                Ok(()) => self.adopt(BUILDING, &meta).await,
                Err(e) => Err(e),
            };
            let e = match r {
                Ok(h) => return Ok(h),
                Err(e) => e,
            };
            if self.storage.is_dead() {
                return Err(e);
            }
            tracing::warn!(error = %e, "raft: snapshot not written; tried again");
            // What there is of it takes room that the log needs.
            let me = self.clone();
            drop(blocking(&self.storage, move || me.storage.remove(BUILDING)).await);
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return Err(e),
                () = tokio::time::sleep(BACK_OFF) => {}
            }
        }
    }

    /// Gives a finished file its final name, unless a newer one has it.
    async fn adopt(self: &Arc<Self>, from: &'static str, meta: &SnapshotMeta) -> io::Result<Handle> {
        let _turn = self.installing.lock().await;
        let before = self.current();
        if let Some(newer) = before.as_ref().filter(|h| covers(h, meta)) {
            return Ok(newer.clone());
        }
        let before = before.and_then(|h| h.meta.last_log_id).map(|l| format!("{OLD}{:020}", l.index));
        let (me, keys) = (self.clone(), self.keys());
        let h = blocking(&self.storage, move || {
            let keep = me.keep.load(Ordering::Relaxed);
            if let (Some(old), true) = (before, keep > 0) {
                me.storage.link(CURRENT, &old)?;
            }
            me.prune(keep)?;
            me.storage.rename(from, CURRENT)?;
            me.storage.sync_dir("")?;
            SnapshotFile::open(&me.storage, CURRENT, &keys).map_err(io::Error::other)
        })
        .await?;
        let h = Arc::new(h.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?);
        let mut state = self.state();
        state.current = Some(h.clone());
        state.taken = Some(Instant::now());
        Ok(h)
    }

    /// Opens what was received.
    pub(crate) async fn received(self: &Arc<Self>) -> io::Result<Handle> {
        let (me, keys) = (self.clone(), self.keys());
        let h = blocking(&self.storage, move || SnapshotFile::open(&me.storage, INCOMING, &keys).map_err(io::Error::other));
        h.await?.map(Arc::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Makes a received snapshot the current one. Tries until the disk takes it.
    pub(crate) async fn install(self: &Arc<Self>, h: &Handle) -> io::Result<()> {
        if h.name == CURRENT {
            return Ok(());
        }
        let mut stop = self.stop.clone();
        loop {
            let e = match self.adopt(h.name, &h.meta).await {
                Ok(_) => return Ok(()),
                Err(e) => e,
            };
            if self.storage.is_dead() {
                return Err(e);
            }
            tracing::warn!(error = %e, "raft: received snapshot not installed; tried again");
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return Err(e),
                () = tokio::time::sleep(BACK_OFF) => {}
            }
        }
    }

    /// From now on snapshots are sealed with `key`, and the current one is sealed anew.
    pub(crate) async fn rekey(self: &Arc<Self>, key: Key) -> io::Result<()> {
        {
            let mut state = self.state();
            if state.keys.current.id() != key.id() {
                let old = std::mem::replace(&mut state.keys.current, key.clone());
                state.keys.older.push(old);
            }
        }
        let _turn = self.installing.lock().await;
        let (me, keys) = (self.clone(), self.keys());
        let Some(old) = self.current().filter(|h| h.key() != key.id()) else {
            // It was made since the key changed, or a crash came before the older ones were removed.
            return blocking(&self.storage, move || me.prune_others(key.id())).await;
        };
        let h = blocking(&self.storage, move || {
            let mut w = Writer::create(&*me.storage, RESEALED, &key, &old.meta)?;
            io::copy(&mut old.reader(), &mut w)?;
            w.finish()?;
            me.storage.rename(RESEALED, CURRENT)?;
            me.prune_others(keys.current.id())?;
            SnapshotFile::open(&me.storage, CURRENT, &keys).map_err(io::Error::other)
        })
        .await?;
        self.state().current = h.map(Arc::new);
        Ok(())
    }

    /// Drops keys that nothing needs any more.
    pub(crate) fn forget_keys(&self, needed: impl Fn(&Key) -> bool) {
        self.state().keys.older.retain(needed);
    }
}
