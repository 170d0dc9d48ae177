//! What a member knows of the group and of itself. Must never wait.

use std::collections::BTreeSet;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::facade::peer;
use crate::monitor::Health;
use crate::{KeyId, Leadership, Member, Metrics, Peer, Raft};

impl Raft {
    /// The leader as this member knows it.
    #[must_use]
    pub fn leader(&self) -> Option<Peer> {
        self.leadership.borrow().leader.clone()
    }

    /// Watches who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Whether this member leads and has heard from a quorum within the last two longest election timeouts.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let rx = self.raft.metrics();
        let m = rx.borrow_watched();
        let alone = m.membership_config.voter_ids().count() <= 1;
        m.state == ServerState::Leader
            && (alone || m.last_quorum_acked.is_some_and(|t| t.elapsed() < self.config.election_max * 2))
    }

    /// The members and what is known of them.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let rx = self.raft.metrics();
        let m = rx.borrow_watched();
        let voters: BTreeSet<u64> = m.membership_config.voter_ids().collect();
        let fresh = self.config.election_max * 2;
        let members = m
            .membership_config
            .nodes()
            .map(|(&id, n)| Member {
                peer: peer(id, n),
                voter: voters.contains(&id),
                reachable: id == m.id
                    || m.heartbeat
                        .as_ref()
                        .is_none_or(|h| h.get(&id).and_then(|t| t.as_ref()).is_some_and(|t| t.elapsed() < fresh)),
                leader: m.current_leader == Some(id),
                matched: if id == m.id {
                    m.last_log_index
                } else {
                    m.replication.as_ref().and_then(|r| r.get(&id)).and_then(|l| l.map(|l| l.index))
                },
            })
            .collect();
        let usage = self.disk.usage();
        let snapshot = self.snapshots.current();
        Metrics {
            members,
            term: m.current_term,
            last_log: m.last_log_index.unwrap_or(0),
            committed: m.local_committed.map_or(0, |l| l.index),
            last_applied: m.last_applied.map_or(0, |l| l.index),
            snapshot: snapshot.as_ref().and_then(|h| h.meta.last_log_id).map_or(0, |l| l.index),
            snapshot_age: self.snapshots.age(),
            snapshot_bytes: snapshot.map_or(0, |h| h.size()),
            segments: usage.segments,
            log_bytes: usage.bytes,
            waiting_bytes: self.disk.waiting().0,
            quorum_ack: m.last_quorum_acked.map(|t| t.elapsed()),
            key: Some(self.snapshots.keys().current.id()),
        }
    }

    /// From now on a snapshot is also written after `entries` (at least one). With [`crate::RaftConfig::snapshot_every`] out of
    /// reach, this alone decides, and may be changed while the member runs.
    pub fn set_snapshot_every(&self, entries: u64) {
        self.snapshot_every.store(entries.max(1), std::sync::atomic::Ordering::Relaxed);
    }

    /// From now on so many older snapshots stay on the disk besides the current one, for whoever wants to look back; this member
    /// never reads them. They go when the key changes.
    pub fn set_snapshots_kept(&self, old: usize) {
        self.snapshots.set_keep(old);
    }

    /// Whether this member's disk takes what is written.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Becomes true when another member says that this one was removed from the group. It does not campaign any more then.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.removed.clone()
    }

    /// The keys that something on this disk is sealed with.
    #[must_use]
    pub fn keys_in_use(&self) -> BTreeSet<KeyId> {
        let mut all = self.disk.usage().keys;
        all.extend(self.snapshots.current().map(|h| h.key()));
        all
    }
}
