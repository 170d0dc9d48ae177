//! Roles: what operators want of a node becomes its role and its place in raft (`swarm-semantics` 6.3). Must never remove the
//! last manager.

use std::sync::Arc;
use std::time::Duration;

use skep_state::Change;
use skep_types::NodeId;
use skep_types::spec::Role;

use crate::error::WriteError;
use crate::shared::Shared;
use crate::tables::{News, Watcher};

/// Also looked at without an event this often: removing a member may have failed for want of a quorum.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(s: &Arc<Shared>) {
    let mut watcher = s.tables.follow();
    loop {
        let (_, store) = watcher.take(&s.tables);
        for n in store.nodes().filter(|n| n.spec.role != n.role) {
            let done = match n.spec.role {
                Role::Manager => set_role(s, n.id, Role::Manager).await,
                Role::Worker => demote(s, n.id).await,
            };
            if let Err(e) = done {
                tracing::warn!(node = %n.id, error = %e, "roles: cannot change role yet");
            }
        }
        remove_strangers(s).await;
        if let Err(e) = retire_lost(s).await {
            tracing::warn!(error = %e, "roles: cannot note who is no member any more");
        }
        tokio::select! {
            biased;
            () = other_nodes(s, &mut watcher) => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Waits for a change of a node. Most changes are of tasks, which have no role.
async fn other_nodes(s: &Shared, watcher: &mut Watcher) {
    loop {
        watcher.changed().await;
        let of_node = |c: &Change| matches!(c, Change::Node { .. });
        match watcher.take(&s.tables).0 {
            News::Changes(all) if !all.iter().flat_map(|c| c.iter()).any(of_node) => {}
            _ => return,
        }
    }
}

/// Removes members whose node was removed from the swarm, or is no manager.
async fn remove_strangers(s: &Shared) {
    let _one_at_a_time = s.membership.lock().await;
    let store = s.store();
    for m in s.raft.metrics().members {
        let node = m.peer.node_id.parse::<NodeId>().ok().and_then(|id| store.node(id));
        if node.is_none_or(|n| n.role != Role::Manager)
            && m.peer.id != s.config.raft_id
            && let Err(e) = s.raft.remove(m.peer.id).await
        {
            tracing::warn!(node = m.peer.node_id, error = %e, "roles: cannot remove member yet");
        }
    }
}

/// Raft ids that the tables know and the group does not.
fn lost(s: &Shared) -> Vec<(NodeId, u64)> {
    let members = s.raft.metrics().members;
    let known = |raft_id| members.iter().any(|m| m.peer.id == raft_id);
    let store = s.store();
    store.nodes().filter_map(|n| Some((n.id, n.manager.as_ref()?.raft_id))).filter(|(_, raft_id)| !known(*raft_id)).collect()
}

/// A manager that was taken out of the group and promoted again before its role changed, or before its leader could note it,
/// must join anew: its old raft id is retired, so that it is told.
async fn retire_lost(s: &Arc<Shared>) -> Result<(), WriteError> {
    let _one_at_a_time = s.membership.lock().await;
    let before = lost(s);
    if before.is_empty() {
        return Ok(());
    }
    // What the core shows of its members may be a moment old.
    tokio::time::sleep(AGAIN).await;
    let now = lost(s);
    for (node, raft_id) in before.into_iter().filter(|l| now.contains(l)) {
        tracing::info!(%node, "roles: no member of the managers any more; it joins them anew");
        s.edit_node(node, |n| {
            if n.manager.as_ref().is_some_and(|m| m.raft_id == raft_id) {
                n.manager = None;
                n.retired_raft_id = raft_id;
            }
        })
        .await?;
    }
    Ok(())
}

async fn demote(s: &Arc<Shared>, node: NodeId) -> Result<(), WriteError> {
    let _one_at_a_time = s.membership.lock().await;
    if s.store().node(node).is_none_or(|n| n.spec.role != Role::Worker) {
        // Promoted again while this waited.
        return Ok(());
    }
    let members = s.raft.metrics().members;
    let id = node.to_string();
    if node == s.config.node {
        // The leader hands over first; its successor removes it.
        let successor = members.iter().find(|m| m.voter && m.reachable && m.peer.id != s.config.raft_id);
        if let Some(m) = successor {
            s.raft.transfer_leader(m.peer.id).await?;
            tokio::time::sleep(AGAIN).await;
        }
        return Ok(());
    }
    for m in members.iter().filter(|m| m.peer.node_id == id) {
        s.raft.remove(m.peer.id).await?;
    }
    set_role(s, node, Role::Worker).await
}

async fn set_role(s: &Arc<Shared>, node: NodeId, role: Role) -> Result<(), WriteError> {
    s.edit_node(node, |n| {
        if n.role != role && n.spec.role == role {
            n.role = role;
            if role == Role::Worker {
                n.retired_raft_id = n.manager.take().map_or(n.retired_raft_id, |m| m.raft_id);
            }
        }
    })
    .await
}
