//! What a node must run, from the tables. Pure. Must never leave out a task whose container may still be there.

use std::collections::BTreeSet;

use skep_state::Store;
use skep_types::control::{AssignedNetwork, Assignment};
use skep_types::object::{Task, TaskState};
use skep_types::{FileId, NodeId, TaskId};

/// All assignments of a node, ended tasks included: their containers stay until the task object is deleted.
pub(crate) fn of_node(store: &Store, node: NodeId) -> Vec<Assignment> {
    store.tasks_of_node(node).filter(|t| is_assigned(t)).filter_map(|t| assignment(store, t)).collect()
}

/// The assignment of one task, if it is this node's.
pub(crate) fn of_task(store: &Store, node: NodeId, id: TaskId) -> Option<Assignment> {
    let t = store.task(id).filter(|t| t.node == Some(node) && is_assigned(t))?;
    assignment(store, t)
}

/// The secrets and configs that a node's tasks need: those of tasks that have not ended.
pub(crate) fn files_of_node(store: &Store, node: NodeId) -> BTreeSet<FileId> {
    let unfinished = store.tasks_of_node(node).filter(|t| is_assigned(t) && !t.status.state.is_terminal());
    let specs = unfinished.filter_map(|t| store.revision(t.service, t.revision));
    let files = specs.flat_map(|s| s.container.files.iter().map(|f| f.id));
    files.filter(|id| store.file(*id).is_some()).collect()
}

fn is_assigned(t: &Task) -> bool {
    t.status.state >= TaskState::Assigned && t.status.state != TaskState::Orphaned
}

fn assignment(store: &Store, t: &Task) -> Option<Assignment> {
    let spec = store.revision(t.service, t.revision)?;
    let networks = t
        .networks
        .iter()
        .filter_map(|a| {
            let n = store.network(a.network)?;
            let extra = spec.networks.iter().find(|x| x.target == a.network);
            let mut aliases = vec![t.service_name.to_string()];
            aliases.extend(extra.into_iter().flat_map(|x| x.aliases.iter().cloned()));
            Some(AssignedNetwork {
                id: n.id,
                name: n.spec.name.clone(),
                addr: a.addr,
                ingress: n.spec.ingress,
                internal: n.spec.internal,
                aliases,
            })
        })
        .collect();
    let service = store.service(t.service);
    // Only templates need them.
    let labels = service.filter(|_| skep_types::template::is_used(&spec.container)).map(|s| s.spec.labels.clone());
    let ports = t.host_ports.clone();
    Some(Assignment { task: t.clone(), spec: (**spec).clone(), ports, networks, service_labels: labels.unwrap_or_default() })
}
