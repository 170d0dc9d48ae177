//! Calls that operators make, answered by the leader. Must never answer from tables that may be behind: every call begins with
//! a read barrier.

mod cluster;
mod file;
mod lookup;
mod network;
mod node;
mod service;
mod validate;

pub use cluster::shown;
pub(crate) use lookup::{network as find_network, node as find_node, service as find_service, task as find_task};
pub(crate) use service::No;

use std::sync::Arc;

use skep_state::Store;
use skep_types::control::{ControlError, ControlRequest, ControlResponse, ManagerHealth, NodeView, TaskView};
use skep_types::object::{Node, NodeState, Task};

use crate::error::no_leader;
use crate::shared::Shared;

/// Waits until these tables hold everything that was agreed on before the call. `false` if this manager has stopped leading: the
/// next leader is to be asked, and if there can be none, whoever asks it says so.
///
/// # Errors
/// If no quorum can be reached.
pub(crate) async fn catch_up(s: &Shared) -> Result<bool, ControlError> {
    tokio::select! {
        biased;
        b = s.raft.read_barrier() => Ok(b.is_ok()),
        () = s.quorum_lost() => Err(no_leader(s.quorum())),
    }
}

/// Answers one call, after [`catch_up`].
pub(crate) async fn answer(s: &Shared, r: ControlRequest) -> Result<ControlResponse, ControlError> {
    let store = s.store();
    match r {
        ControlRequest::GetCluster => cluster::get(&store),
        ControlRequest::GetUnlockKey => cluster::unlock_key(&store),
        ControlRequest::GetStatus => Ok(ControlResponse::Status(Box::new(s.status()))),
        ControlRequest::GetApplied => Ok(ControlResponse::Applied(store.applied())),
        ControlRequest::UpdateCluster { version, spec, rotate_worker, rotate_manager, rotate_unlock } => {
            let rotate = cluster::Rotate { worker: rotate_worker, manager: rotate_manager, unlock: rotate_unlock };
            cluster::update(s, version, &spec, rotate).await
        }
        ControlRequest::ListNodes => Ok(ControlResponse::Nodes(store.nodes().map(|n| view(s, n)).collect())),
        ControlRequest::GetNode { target } => lookup::node(&store, &target).map(|n| ControlResponse::Nodes(vec![view(s, &n)])),
        ControlRequest::UpdateNode { target, version, spec } => node::update(s, &target, version, &spec).await,
        ControlRequest::RemoveNode { target, force } => node::remove(s, &target, force).await,
        ControlRequest::NodeLeaves { node } => node::leaves(s, node).await,
        ControlRequest::CreateService { spec } => service::create(s, &spec).await,
        ControlRequest::ListServices => Ok(ControlResponse::Services(store.services().cloned().collect())),
        ControlRequest::GetService { target } => lookup::service(&store, &target).map(|x| ControlResponse::Services(vec![x])),
        ControlRequest::UpdateService { target, version, spec, rollback } => {
            service::update(s, &target, version, &spec, rollback).await
        }
        ControlRequest::RemoveService { target } => service::remove(s, &target).await,
        ControlRequest::ListTasks => Ok(ControlResponse::Tasks(store.tasks().map(|t| task_view(&store, t)).collect())),
        ControlRequest::GetTask { target } => {
            lookup::task(&store, &target).map(|t| ControlResponse::Tasks(vec![task_view(&store, &t)]))
        }
        ControlRequest::CreateNetwork { spec } => network::create(s, &spec).await,
        ControlRequest::ListNetworks => Ok(ControlResponse::Networks(store.networks().cloned().collect())),
        ControlRequest::GetNetwork { target } => lookup::network(&store, &target).map(|n| ControlResponse::Networks(vec![n])),
        ControlRequest::RemoveNetwork { target } => network::remove(s, &target).await,
        ControlRequest::CreateFile { spec } => file::create(s, &spec).await,
        ControlRequest::ListFiles { kind } => Ok(file::list(&store, kind)),
        ControlRequest::GetFile { kind, target } => file::get(&store, kind, &target),
        ControlRequest::UpdateFile { target, version, spec } => file::update(s, &target, version, &spec).await,
        ControlRequest::RemoveFile { kind, target } => file::remove(s, kind, &target).await,
    }
}

/// Whether a call may change something.
pub(crate) fn writes(r: &ControlRequest) -> bool {
    match r {
        ControlRequest::GetCluster
        | ControlRequest::GetUnlockKey
        | ControlRequest::GetStatus
        | ControlRequest::GetApplied
        | ControlRequest::ListNodes
        | ControlRequest::GetNode { .. }
        | ControlRequest::ListServices
        | ControlRequest::GetService { .. }
        | ControlRequest::ListTasks
        | ControlRequest::GetTask { .. }
        | ControlRequest::ListNetworks
        | ControlRequest::GetNetwork { .. }
        | ControlRequest::ListFiles { .. }
        | ControlRequest::GetFile { .. } => false,
        ControlRequest::UpdateCluster { .. }
        | ControlRequest::UpdateNode { .. }
        | ControlRequest::RemoveNode { .. }
        | ControlRequest::NodeLeaves { .. }
        | ControlRequest::CreateService { .. }
        | ControlRequest::UpdateService { .. }
        | ControlRequest::RemoveService { .. }
        | ControlRequest::CreateNetwork { .. }
        | ControlRequest::RemoveNetwork { .. }
        | ControlRequest::CreateFile { .. }
        | ControlRequest::UpdateFile { .. }
        | ControlRequest::RemoveFile { .. } => true,
    }
}

fn view(s: &Shared, n: &Arc<Node>) -> NodeView {
    let id = n.id.to_string();
    let member = s.raft.metrics().members.into_iter().find(|m| m.peer.node_id == id);
    let health = member.map(|m| ManagerHealth { leader: m.leader, reachable: m.reachable });
    let mut node = n.clone();
    if node.state == NodeState::Ready && !s.heard_since_it_leads(n.id) {
        // Nobody has heard it since this manager leads; it has some seconds left before it counts as down.
        Arc::make_mut(&mut node).state = NodeState::Unknown;
    }
    NodeView { node, health: health.filter(|_| n.manager.is_some()) }
}

fn task_view(store: &Store, t: &Arc<Task>) -> TaskView {
    TaskView {
        task: t.clone(),
        spec: store.revision(t.service, t.revision).cloned(),
        left_alone: skep_plan::is_left_alone(store, t),
    }
}
