//! Handing leadership over. Must never leave a leader behind that takes no proposals.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Inner;
use crate::{Leadership, RaftConfig};

/// Asks voters in turn, the one that lacks least first, until one of them leads. Returns whether another member leads.
pub(crate) async fn to_best(
    raft: &Inner,
    config: &RaftConfig,
    leadership: &watch::Receiver<Leadership>,
    within: Duration,
) -> bool {
    let end = Instant::now() + within;
    let mut leadership = leadership.clone();
    let mut asked = false;
    while leadership.borrow_and_update().is_leader && Instant::now() < end {
        let candidates = candidates(raft, config);
        if candidates.is_empty() {
            break;
        }
        for to in candidates {
            if raft.trigger().transfer_leader(to).await.is_err() {
                return false;
            }
            asked = true;
            // A voter that can take over does so within milliseconds; the next one is asked after its longest election.
            let turn = end.min(Instant::now() + config.election_max);
            let other = leadership.wait_for(|l| !l.is_leader && l.leader.is_some());
            if matches!(tokio::time::timeout_at(turn, other).await, Ok(Ok(_))) {
                return true;
            }
            if Instant::now() >= end || !leadership.borrow().is_leader {
                break;
            }
        }
    }
    if asked && leadership.borrow().is_leader {
        reclaim(raft).await;
    }
    let l = leadership.borrow();
    !l.is_leader && l.leader.is_some()
}

/// A leader that asked another one to take over proposes nothing any more; a new term makes it a leader again.
pub(crate) async fn reclaim(raft: &Inner) {
    // Fails only when the core has stopped.
    drop(raft.trigger().elect(false).await);
}

/// Voters that answered lately, the one with most of the log first.
fn candidates(raft: &Inner, config: &RaftConfig) -> Vec<u64> {
    let rx = raft.metrics();
    let m = rx.borrow_watched();
    let (Some(beats), Some(progress)) = (&m.heartbeat, &m.replication) else { return Vec::new() };
    let fresh = |id: &u64| beats.get(id).and_then(|t| t.as_ref()).is_some_and(|t| t.elapsed() < config.election_max);
    let mut all: Vec<u64> = m.membership_config.voter_ids().filter(|id| *id != m.id && fresh(id)).collect();
    all.sort_by_key(|id| (std::cmp::Reverse(progress.get(id).and_then(|l| l.map(|l| l.index))), *id));
    all
}
