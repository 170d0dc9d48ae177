//! Nodes: their specs, demotion, removal, leaving (`swarm-semantics` 6.3). Must never let the swarm lose its last manager or
//! its quorum by a call.

use skep_state::{Key, Op, Transaction};
use skep_types::control::{Code, ControlError, ControlResponse};
use skep_types::object::{NodeState, Version};
use skep_types::spec::{NodeSpec, Role};
use skep_types::{NodeId, options};

use super::lookup;
use super::service::{No, out_of_sequence};
use crate::ca;
use crate::error::{WriteError, invalid, rpc};
use crate::shared::Shared;

/// Whether a manager may become a worker.
fn may_demote(s: &Shared, store: &skep_state::Store, node: NodeId) -> Result<(), ControlError> {
    let refuse = |text: &str| rpc(Code::FailedPrecondition, text);
    if store.nodes().filter(|n| n.spec.role == Role::Manager).count() <= 1 {
        return Err(refuse("attempting to demote the last manager of the swarm"));
    }
    let members = s.raft.metrics().members;
    let id = node.to_string();
    if !members.iter().any(|m| m.peer.node_id == id) {
        // Promoted, but not yet taken in.
        return Err(rpc(Code::NotFound, "can't find manager in raft memberlist"));
    }
    let reachable = members.iter().filter(|m| m.reachable && m.peer.node_id != id).count();
    if reachable < (members.len() - 1) / 2 + 1 {
        return Err(refuse("can't remove member from the raft: this would result in a loss of quorum"));
    }
    Ok(())
}

pub(crate) async fn update(
    s: &Shared,
    target: &str,
    version: Version,
    spec: &NodeSpec,
) -> Result<ControlResponse, ControlError> {
    options::check_node(&spec.labels).map_err(invalid)?;
    s.decide(|store| -> Result<_, No> {
        let old = lookup::node(store, target)?;
        if old.meta.version != version {
            return Err(out_of_sequence().into());
        }
        if old.spec.role == Role::Manager && spec.role == Role::Worker {
            may_demote(s, store, old.id)?;
        }
        let mut n = (*old).clone();
        n.spec = spec.clone();
        let reads = vec![(Key::Node(old.id), version)];
        Ok((Transaction::new(s.clock.now(), reads, vec![Op::PutNode(Box::new(n))]), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}

pub(crate) async fn remove(s: &Shared, target: &str, force: bool) -> Result<ControlResponse, ControlError> {
    s.decide(|store| -> Result<_, No> {
        let n = lookup::node(store, target)?;
        let refuse = |text: String| No::from(rpc(Code::FailedPrecondition, text));
        let id = n.id.to_string();
        let member = s.raft.metrics().members.iter().any(|m| m.peer.node_id == id);
        if n.spec.role == Role::Manager && member {
            return Err(refuse(format!(
                "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
            )));
        }
        if !force && n.state == NodeState::Ready {
            return Err(refuse(format!("node {id} is not down and can't be removed")));
        }
        // The planner orphans what it ran.
        let now = s.clock.now();
        let mut reads = vec![(Key::Node(n.id), n.meta.version)];
        let mut ops = vec![Op::DeleteNode(n.id)];
        if let Some(c) = store.cluster() {
            reads.push((Key::Cluster, c.meta.version));
            let mut c = (**c).clone();
            ca::blacklist(&mut c, n.id, now);
            ops.push(Op::PutCluster(Box::new(c)));
        }
        Ok((Transaction::new(now, reads, ops), ()))
    })
    .await?;
    Ok(ControlResponse::Done)
}

pub(crate) async fn leaves(s: &Shared, node: NodeId) -> Result<ControlResponse, ControlError> {
    let op = Op::NodeState { node, state: NodeState::Down, message: "node left the swarm".into() };
    s.write_ops(vec![op]).await.map_err(WriteError::into_control)?;
    Ok(ControlResponse::Done)
}
