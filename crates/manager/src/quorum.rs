//! Whether enough managers can be reached for anything to be agreed on, told from what this manager itself hears. Must never
//! wait.

use std::time::Duration;

use crate::shared::Shared;

/// A member not heard for so long cannot be reached: longer than the pauses between the attempts of an election.
const FRESH: Duration = Duration::from_millis(2500);
/// A leader hears each follower many times in this.
const FRESH_TO_LEADER: Duration = Duration::from_millis(1000);

/// How many managers there are, and how many of them can be reached, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quorum {
    pub(crate) reachable: usize,
    pub(crate) voters: usize,
}

impl Shared {
    pub(crate) fn quorum(&self) -> Quorum {
        let me = self.config.raft_id;
        let limit = if self.is_leading() { FRESH_TO_LEADER } else { FRESH };
        let fresh = |id| self.contacts.last(id).is_some_and(|at| at.elapsed() < limit);
        let voters: Vec<_> = self.raft.metrics().members.into_iter().filter(|m| m.voter).collect();
        let reachable = voters.iter().filter(|m| m.peer.id == me || fresh(m.peer.id)).count();
        Quorum { reachable, voters: voters.len() }
    }

    /// Whether there can be no leader now. Other followers are heard in elections only, so that nothing is known of them
    /// until this manager has missed the leader for a while.
    pub(crate) fn quorum_is_lost(&self) -> bool {
        let q = self.quorum();
        let knows = self.is_leading() || (!*self.attached.borrow() && self.started.elapsed() > FRESH);
        knows && q.reachable < q.voters / 2 + 1
    }

    /// Waits until no quorum can be reached.
    pub(crate) async fn quorum_lost(&self) {
        while !self.quorum_is_lost() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
