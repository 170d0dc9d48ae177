//! How the managers are doing, and a backup of the tables. Must never wait for the leader where it could tell what it knows.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_types::NodeId;
use skep_types::control::{Code, ControlError, ControlRequest, ControlResponse, ManagerPosition, SwarmStatus};

use crate::Manager;
use crate::error::rpc;
use crate::shared::Shared;

/// A manager that is this far behind the leader cannot make a backup.
const CATCH_UP: Duration = Duration::from_secs(10);

impl Shared {
    /// As this manager sees it.
    pub(crate) fn status(&self) -> SwarmStatus {
        let (m, store) = (self.raft.metrics(), self.store());
        let names: BTreeMap<NodeId, &str> = store.nodes().map(|n| (n.id, n.description.hostname.as_str())).collect();
        let position = |p: &skep_raft::Member| {
            let node: NodeId = p.peer.node_id.parse().unwrap_or_default();
            ManagerPosition {
                node,
                hostname: names.get(&node).copied().unwrap_or_default().to_owned(),
                addr: p.peer.addr.clone(),
                raft_id: p.peer.id,
                leader: p.leader,
                voter: p.voter,
                reachable: p.reachable,
                matched: if p.peer.id == self.config.raft_id { Some(m.last_log) } else { p.matched },
            }
        };
        let certificates = store
            .nodes()
            .filter_map(|n| n.description.certificate.map(|(from, until)| (n.id, n.description.hostname.clone(), from, until)));
        SwarmStatus {
            cluster: store.cluster().map(|c| c.id).unwrap_or_default(),
            by: self.config.node,
            by_leader: self.is_leading(),
            term: m.term,
            last_log: m.last_log,
            committed: m.committed,
            snapshot: m.snapshot,
            snapshot_age: m.snapshot_age,
            snapshot_bytes: m.snapshot_bytes,
            log_bytes: m.log_bytes,
            time: self.clock.now(),
            managers: m.members.iter().map(position).collect(),
            certificates: certificates.collect(),
        }
    }
}

impl Manager {
    /// How the managers are doing: the leader's view, or this manager's own if there is no leader.
    pub async fn status(&self) -> SwarmStatus {
        match self.call(ControlRequest::GetStatus).await {
            Ok(ControlResponse::Status(s)) => *s,
            _ => self.shared.status(),
        }
    }

    /// The tables (MessagePack of [`skep_state::Dump`]) with everything acknowledged before this call, keys included.
    ///
    /// # Errors
    /// [`ControlError`] if there is no leader, or this manager is too far behind it.
    pub async fn dump(&self) -> Result<Vec<u8>, ControlError> {
        let internal = |e: &dyn std::fmt::Display| rpc(Code::Internal, e);
        let applied = match self.call(ControlRequest::GetApplied).await? {
            ControlResponse::Applied(index) => index,
            other => return Err(internal(&format!("the leader answered something else: {other:?}"))),
        };
        if tokio::time::timeout(CATCH_UP, self.shared.tables.reached(applied)).await.is_err() {
            return Err(rpc(Code::Unavailable, "this manager is too far behind the leader: make the backup on another one"));
        }
        let dump = self.store().dump();
        let encoded = tokio::task::spawn_blocking(move || rmp_serde::to_vec_named(&dump)).await.map_err(|e| internal(&e))?;
        encoded.map_err(|e| internal(&e))
    }
}
