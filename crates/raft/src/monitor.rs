//! Watches over a running member: its disk, and how much a snapshot would save. Must never decide anything that another member
//! could contradict.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Inner, LogId};
use crate::facade::peer;
use crate::log::{Shared, WeakLog};
use crate::network::Directory;
use crate::{Leadership, RaftConfig, handover};

/// How often the monitor looks. Costs next to nothing, and a stalled disk is noticed soon enough.
const TICK: Duration = Duration::from_millis(100);

/// How long a stalled leader looks for another one before it looks again.
const HAND_OVER: Duration = Duration::from_secs(3);

/// A member whose disk stalls hands leadership over once in this time (`swarm-semantics` 3.1): where the disks of all stall, as those
/// of virtual machines on one host do, it would go round with each look, and no leader would last until they recover.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether the disk takes what is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// It does.
    #[default]
    Ok,
    /// It has not for at least a second. Nothing acknowledged is lost; writes are tried again until they succeed.
    Stalled {
        /// Since when.
        since: Instant,
        /// The last error, or that there is none yet.
        cause: String,
    },
}

pub(crate) struct Monitor {
    pub(crate) raft: Inner,
    pub(crate) log: WeakLog,
    pub(crate) disk: Arc<Shared>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) removed: watch::Receiver<bool>,
    pub(crate) directory: Directory,
    pub(crate) config: RaftConfig,
    pub(crate) snapshot_every: Arc<AtomicU64>,
}

impl Monitor {
    /// Runs until `alive` has no sender any more.
    pub(crate) async fn run(self, mut alive: watch::Receiver<()>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next = Instant::now();
        let mut noted = None;
        loop {
            tokio::select! {
                biased;
                _ = alive.changed() => return,
                _ = tick.tick() => {}
            }
            self.look();
            self.note_addresses(&mut noted);
            if *self.removed.borrow() {
                // It cannot win and would only disturb.
                self.raft.runtime_config().elect(false);
            }
            self.bound().await;
            let stalled = *self.health.borrow() != Health::Ok;
            if stalled && self.leadership.borrow().is_leader && Instant::now() >= next {
                // The others can go on without this disk.
                let over = handover::to_best(&self.raft, &self.config, &self.leadership, HAND_OVER);
                tokio::select! {
                    biased;
                    _ = alive.changed() => return,
                    led = over => {
                        next = Instant::now() + if led { AGAIN } else { HAND_OVER };
                        tracing::warn!(led, "raft: leadership handed over because of the disk");
                    }
                }
            }
        }
    }

    /// Where members are reached now; connections made earlier go there too. `noted` is the membership that is known already.
    fn note_addresses(&self, noted: &mut Option<Option<LogId>>) {
        let rx = self.raft.metrics();
        let m = rx.borrow_watched();
        let of = *m.membership_config.log_id();
        if noted.replace(of) == Some(of) {
            return;
        }
        let now = m.membership_config.nodes().map(|(&id, n)| (id, peer(id, n))).collect();
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Keeps what is in memory and on disk small also when entries are large.
    async fn bound(&self) {
        let (applied, snapshot) = {
            let rx = self.raft.metrics();
            let m = rx.borrow_watched();
            (m.last_applied.map(|l| l.index), m.snapshot.map(|l| l.index))
        };
        // These fail only when the core has stopped.
        let entries = applied.unwrap_or(0).saturating_sub(snapshot.unwrap_or(0));
        let many = entries >= self.snapshot_every.load(Ordering::Relaxed);
        if applied > snapshot && (many || self.log.exceeds(snapshot, self.config.snapshot_bytes)) {
            drop(self.raft.trigger().snapshot().await);
        }
        if let Some(upto) =
            self.log.excess(self.config.snapshot_bytes).and_then(|_| self.log.excess(self.config.snapshot_bytes / 2))
            && let Some(s) = snapshot
        {
            drop(self.raft.trigger().purge_log(upto.min(s)).await);
        }
    }

    fn look(&self) {
        let now = match self.disk.stalled() {
            Some((since, cause)) => Health::Stalled { since, cause: cause.unwrap_or_else(|| "the disk is too slow".into()) },
            _ => Health::Ok,
        };
        self.health.send_if_modified(|old| {
            let changed = *old != now;
            if changed {
                tracing::warn!(health = ?now, "raft: disk");
                *old = now;
            }
            changed
        });
    }
}
