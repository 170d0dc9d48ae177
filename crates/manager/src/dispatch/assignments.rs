//! What a node must run, from the tables. Pure. Must never leave out a task whose container may still be there.

use std::collections::{BTreeMap, BTreeSet};

use skep_state::Store;
use skep_types::control::{AssignedNetwork, Assignment};
use skep_types::file::DriverAsk;
use skep_types::object::{Task, TaskState};
use skep_types::spec::{EndpointSpec, PublishMode};
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

/// The secrets and configs that a node's tasks need, and those among them that a driver is asked for, for each task by itself.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// From the tables.
    pub(crate) kept: BTreeSet<FileId>,
    /// From drivers, with whether the task's container is still to start.
    pub(crate) driven: BTreeMap<(TaskId, FileId), bool>,
}

/// What a node's tasks that have not ended need.
pub(crate) fn files_of_node(store: &Store, node: NodeId) -> Needed {
    let mut out = Needed::default();
    let unfinished = store.tasks_of_node(node).filter(|t| is_assigned(t) && !t.status.state.is_terminal());
    for t in unfinished {
        let Some(spec) = store.revision(t.service, t.revision) else { continue };
        for id in spec.container.files.iter().map(|f| f.id) {
            match store.file(id).map(|f| f.spec.driver.is_some()) {
                Some(false) => drop(out.kept.insert(id)),
                Some(true) => {
                    let starts = t.status.state < TaskState::Running && t.desired <= TaskState::Running;
                    out.driven.insert((t.id, id), starts);
                }
                None => {}
            }
        }
    }
    out
}

/// What the driver of a secret is asked for a task; nothing if one of them is gone.
pub(crate) fn ask(store: &Store, task: TaskId, file: FileId) -> Option<DriverAsk> {
    let (t, f) = (store.task(task)?, store.file(file)?);
    let spec = store.revision(t.service, t.revision)?;
    let service = store.service(t.service)?;
    Some(DriverAsk {
        driver: f.spec.driver.as_ref()?.name.clone(),
        name: f.spec.name.clone(),
        labels: f.spec.labels.clone(),
        service_id: t.service.to_string(),
        service: t.service_name.to_string(),
        service_labels: service.spec.labels.clone(),
        hostname: spec.container.hostname.clone(),
        endpoint: EndpointSpec { ports: service.ports.clone(), ..service.spec.endpoint.clone() },
        task_id: t.id.to_string(),
        task: t.container_name(),
        image: spec.container.image.clone(),
        node: t.node.map(|n| n.to_string()).unwrap_or_default(),
    })
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
    // A node must lead to the container before any other sends packets there, and until none does any more: what the mesh says of it
    // comes to all nodes at once, so its own node knows the ports from the first.
    let mesh = service.into_iter().flat_map(|s| &s.ports).filter(|p| p.mode == PublishMode::Ingress);
    let ports = t.host_ports.iter().chain(mesh).cloned().collect();
    Some(Assignment { task: t.clone(), spec: (**spec).clone(), ports, networks, service_labels: labels.unwrap_or_default() })
}
