//! The state machine: the caller's, wrapped as the consensus library wants it. Must never look into the bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use crate::config::{Blob, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::snapshots::{Handle, Snapshots};
use crate::storage::blocking;

/// Serialises a view into a stream, off the apply path. May be called again after a failed write; must write the same then.
pub type SnapshotFn = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

/// What the agreed bytes are applied to. Calls come one at a time and in order.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies one entry and returns the response for its proposer. Must be deterministic.
    fn apply(&self, index: u64, bytes: &[u8]) -> Vec<u8>;
    /// Takes an O(1) view now; the returned function serialises it later on another thread.
    fn snapshot(&self) -> SnapshotFn;
    /// Replaces everything with a snapshot. On an error nothing may have changed.
    ///
    /// # Errors
    /// A text saying why the bytes are not a snapshot.
    fn restore(&self, bytes: &mut dyn Read) -> Result<(), String>;
}

/// The wrapper.
pub(crate) struct Machine {
    user: Arc<dyn StateMachine>,
    snapshots: Arc<Snapshots>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    pub(crate) fn new(user: Arc<dyn StateMachine>, snapshots: Arc<Snapshots>) -> Self {
        Self { user, snapshots, applied: None, membership: StoredMembership::default() }
    }
}

/// A view waiting to be serialised.
pub(crate) struct Builder {
    make: Arc<SnapshotFn>,
    meta: SnapshotMeta,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Handle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let h = self.snapshots.build(self.meta.clone(), self.make.clone()).await?;
        Ok(Snapshot { meta: h.meta.clone(), snapshot: h })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Handle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            let response = match entry.payload {
                EntryPayload::Blank => Blob::default(),
                EntryPayload::Normal(b) => Blob(self.user.apply(entry.log_id.index, &b.0)),
                EntryPayload::Membership(m) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), m);
                    Blob::default()
                }
            };
            if let Some(r) = responder {
                r.send(response);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            make: Arc::new(self.user.snapshot()),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Handle) -> Result<(), io::Error> {
        let (user, from) = (self.user.clone(), snapshot.clone());
        blocking(&self.snapshots.storage, move || {
            user.restore(&mut from.reader()).map_err(|e| io::Error::other(format!("restore snapshot: {e}")))
        })
        .await?;
        self.snapshots.install(&snapshot).await?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current().map(|h| Snapshot { meta: h.meta.clone(), snapshot: h }))
    }
}
