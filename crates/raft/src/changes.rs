//! Who takes part and who leads: changes that callers ask for. Must never leave a leader behind that takes no proposals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};

use crate::config::{NodeInfo, TypeConfig};
use crate::facade::info;
use crate::{Peer, ProposeError, Raft, handover};

/// Pause before a change of members is tried again; the one under way takes a few milliseconds.
const CHANGE_PAUSE: Duration = Duration::from_millis(20);

impl Raft {
    /// Adds a member: first as a learner until it has caught up, then as a voter. If it cannot catch up it is removed again.
    ///
    /// # Errors
    /// [`ProposeError`]; [`ProposeError::Members`] names the address of a member that did not catch up.
    pub async fn add_learner_then_voter(&self, peer: &Peer) -> Result<(), ProposeError> {
        // Catching up may need a snapshot, so it gets longer than a proposal.
        let wait = self.config.propose_timeout * 3;
        let added = match self.change(wait, || self.raft.add_learner(peer.id, info(peer), false)).await {
            Ok(()) if !self.caught_up(peer.id, wait).await => Err(ProposeError::NoQuorum),
            Ok(()) => {
                let voters = || ChangeMembers::AddVoterIds(BTreeSet::from([peer.id]));
                self.change(self.config.propose_timeout, || self.raft.change_membership(voters(), true)).await
            }
            e => e,
        };
        let Err(e) = added else { return Ok(()) };
        let Some((_, reachable)) = self.known(peer.id).filter(|(voter, _)| !voter) else { return Err(e) };
        let cleaned = self.remove(peer.id).await;
        if e != ProposeError::NoQuorum || !self.has_quorum() {
            return Err(e);
        }
        let why = if reachable { "did not catch up" } else { "cannot be reached" };
        let left = if cleaned.is_err() { "; it is still listed as a learner and must be removed" } else { "" };
        Err(ProposeError::Members(format!(
            "the manager at {} {why} within {} s: see that the other managers can connect to this address and try again{left}",
            peer.addr,
            wait.as_secs()
        )))
    }

    /// Waits until a member has what this leader has now. A voter that has nothing would cost the quorum if it never answered.
    async fn caught_up(&self, id: u64, within: Duration) -> bool {
        let goal = self.raft.metrics().borrow_watched().last_log_index;
        let wait = self.raft.wait(Some(within));
        let there = wait.metrics(
            |m| m.replication.as_ref().is_none_or(|r| r.get(&id).is_some_and(|l| l.map(|l| l.index) >= goal)),
            "a new member catches up",
        );
        there.await.is_ok_and(|m| m.replication.is_some())
    }

    /// Whether this id is a voter, and whether it answers.
    fn known(&self, id: u64) -> Option<(bool, bool)> {
        self.metrics().members.iter().find(|m| m.peer.id == id).map(|m| (m.voter, m.reachable))
    }

    /// The member `id` is reached at `addr` from now on. One that is reached there already is no error.
    ///
    /// # Errors
    /// [`ProposeError`]; [`ProposeError::Members`] if there is no such member.
    pub async fn update_peer(&self, id: u64, addr: &str) -> Result<(), ProposeError> {
        let node = {
            let rx = self.raft.metrics();
            let m = rx.borrow_watched();
            let node = m.membership_config.get_node(&id).cloned();
            node.ok_or_else(|| ProposeError::Members(format!("no member has the raft id {id}")))?
        };
        if node.addr == addr {
            return Ok(());
        }
        let new = BTreeMap::from([(id, NodeInfo { addr: addr.to_owned(), ..node })]);
        self.change(self.config.propose_timeout, || self.raft.change_membership(ChangeMembers::SetNodes(new.clone()), true))
            .await
    }

    /// Removes a member, voter or learner. Removing one that is not there is no error.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn remove(&self, id: u64) -> Result<(), ProposeError> {
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        let ids = BTreeSet::from([id]);
        let change = if membership.voter_ids().any(|v| v == id) {
            ChangeMembers::RemoveVoters(ids)
        } else if membership.get_node(&id).is_some() {
            ChangeMembers::RemoveNodes(ids)
        } else {
            return Ok(());
        };
        self.change(self.config.propose_timeout, || self.raft.change_membership(change.clone(), false)).await
    }

    /// Changes the members; tried again while another change is under way, or this member is just becoming the leader.
    async fn change<T, F>(&self, limit: Duration, f: impl Fn() -> F) -> Result<(), ProposeError>
    where
        F: Future<Output = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
    {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let e = match tokio::time::timeout_at(end, f()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(e)) => e,
                Err(_) => return Err(ProposeError::NoQuorum),
            };
            let again = match &e {
                RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => true,
                RaftError::APIError(ClientWriteError::ForwardToLeader(f)) => {
                    f.leader_id.is_none_or(|id| id == self.config.id) && self.leadership.borrow().is_leader
                }
                _ => false,
            };
            if !again || tokio::time::Instant::now() + CHANGE_PAUSE >= end {
                return Err(self.write_error(e));
            }
            tokio::time::sleep(CHANGE_PAUSE).await;
        }
    }

    /// Asks the member `to` to take over. Returns when the request is sent; watch [`Raft::leadership`] for the result.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn transfer_leader(&self, to: u64) -> Result<(), ProposeError> {
        self.raft.trigger().transfer_leader(to).await.map_err(|e| ProposeError::Stopped(e.to_string()))
    }

    /// If this member leads, hands over to the voter that lacks least and answers, and waits until it leads, for at most
    /// `within`. Returns whether another member leads. Proposals are refused meanwhile, for a few milliseconds.
    pub async fn hand_over(&self, within: Duration) -> bool {
        handover::to_best(&self.raft, &self.config, &self.leadership, within).await
    }
}
