//! `/tasks/…`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::control::{Code, ControlRequest, ControlResponse, TaskView};
use skep_types::object::{Network, Service, TaskState};
use skep_types::{NetworkId, NodeId, ServiceId};

use crate::App;
use crate::body;
use crate::cluster::unexpected;
use crate::error::{Failure, Handled};
use crate::filters::Filters;
use crate::services::all_tasks;
use crate::spec_write;

const FILTERS: [&str; 8] = ["desired-state", "id", "label", "name", "node", "service", "_up-to-date", "runtime"];

/// What can be wanted of a task, as far as a filter may name it.
const STATES: [TaskState; 14] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

fn shown(view: &TaskView, networks: &BTreeMap<NetworkId, Arc<Network>>) -> Value {
    let t = &view.task;
    let mut status = json!({
        "Timestamp": t.status.timestamp.rfc3339(), "State": t.status.state.as_str(), "Message": t.status.message,
        "PortStatus": {},
    });
    if let Some(err) = t.status.err.as_ref().or(t.given_up.as_ref()) {
        status["Err"] = json!(err);
    }
    if let Some(c) = &t.status.container {
        status["ContainerStatus"] = json!({"ContainerID": c.id, "PID": c.pid, "ExitCode": c.exit_code});
    }
    if !t.status.ports.is_empty() {
        status["PortStatus"] = json!({"Ports": t.status.ports.iter().map(spec_write::port).collect::<Vec<_>>()});
    }
    let mut out = json!({
        "ID": t.id, "Version": {"Index": t.meta.version.0}, "CreatedAt": t.meta.created_at.rfc3339(),
        "UpdatedAt": t.meta.updated_at.rfc3339(), "Labels": {},
        "Spec": view.spec.as_ref().map_or(json!({}), |s| spec_write::task(s, false)), "ServiceID": t.service,
        "Status": status, "DesiredState": t.desired.as_str(),
    });
    if t.slot != 0 {
        out["Slot"] = json!(t.slot);
    }
    if let Some(node) = t.node {
        out["NodeID"] = json!(node);
    }
    if let Some(iteration) = t.iteration {
        out["JobIteration"] = json!({"Index": iteration});
    }
    if !t.generic.is_empty() {
        out["GenericResources"] = spec_write::generic(&t.generic);
    }
    let attachments: Vec<Value> = t
        .networks
        .iter()
        .filter_map(|a| {
            let n = networks.get(&a.network)?;
            let mut configs = vec![json!({"Subnet": n.subnet.to_string(), "Gateway": n.gateway.to_string()})];
            configs.extend(n.v6.map(|v6| json!({"Subnet": v6.subnet.to_string(), "Gateway": v6.gateway.to_string()})));
            let mut spec = json!({
                "Name": n.spec.name, "Labels": n.spec.labels, "DriverConfiguration": {}, "Ingress": n.spec.ingress, "Scope": "swarm",
            });
            if n.v6.is_some() {
                spec["IPv6Enabled"] = true.into();
            }
            Some(json!({
                "Network": {
                    "ID": n.id, "Version": {"Index": n.meta.version.0}, "CreatedAt": n.meta.created_at.rfc3339(),
                    "UpdatedAt": n.meta.updated_at.rfc3339(),
                    "Spec": spec,
                    "DriverState": {"Name": "overlay"},
                    "IPAMOptions": {"Driver": {"Name": "default"}, "Configs": configs},
                },
                "Addresses": n.both(a.addr).iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))
        })
        .collect();
    if !attachments.is_empty() {
        out["NetworksAttachments"] = Value::Array(attachments);
    }
    out
}

async fn networks(app: &App) -> Handled<BTreeMap<NetworkId, Arc<Network>>> {
    match app.cluster.call(ControlRequest::ListNetworks).await? {
        ControlResponse::Networks(list) => Ok(list.into_iter().map(|n| (n.id, n)).collect()),
        other => Err(unexpected(&other)),
    }
}

async fn services(app: &App) -> Handled<BTreeMap<ServiceId, Arc<Service>>> {
    match app.cluster.call(ControlRequest::ListServices).await? {
        ControlResponse::Services(list) => Ok(list.into_iter().map(|s| (s.id, s)).collect()),
        other => Err(unexpected(&other)),
    }
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    filters.check("desired-state", &STATES.map(TaskState::as_str))?;
    let tasks = all_tasks(&app).await?;
    let (networks, services) = (networks(&app).await?, services(&app).await?);
    let (of_services, on_nodes) = (named_services(&app, &filters).await?, named_nodes(&app, &filters).await?);
    let none = BTreeMap::new();
    let up_to_date = filters.flag("_up-to-date");
    let wanted = |v: &&TaskView| {
        let t = &v.task;
        filters.any("id", |f| t.id.to_string().starts_with(f))
            && (of_services.is_empty() || of_services.contains(&t.service))
            && filters.any("name", |f| t.container_name().starts_with(f))
            && filters.any("desired-state", |f| t.desired.as_str().eq_ignore_ascii_case(f))
            && filters.any("runtime", |f| f == "container")
            && filters.labels("label", services.get(&t.service).map_or(&none, |s| &s.spec.labels))
            && (on_nodes.is_empty() || t.node.is_some_and(|n| on_nodes.contains(&n)))
            && up_to_date.is_none_or(|fresh| services.get(&t.service).is_some_and(|s| is_fresh(s, v) == fresh))
    };
    Ok(body::rows(tasks.iter().filter(wanted).map(|v| shown(v, &networks))))
}

/// Whether a task runs what its service says now, or what is as good, of a job in its current iteration.
fn is_fresh(s: &Service, view: &TaskView) -> bool {
    let t = &view.task;
    (s.revision == t.revision || view.left_alone) && s.iteration() == t.iteration
}

/// The services that a filter names, each by full id, exact name or unique id prefix, as an argument would be.
async fn named_services(app: &App, filters: &Filters) -> Handled<BTreeSet<ServiceId>> {
    let mut out = BTreeSet::new();
    for target in filters.values("service").map(str::to_owned) {
        match app.cluster.call(ControlRequest::GetService { target }).await? {
            ControlResponse::Services(found) => out.extend(found.iter().map(|s| s.id)),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(out)
}

/// The nodes that a filter names, this one as `self`.
async fn named_nodes(app: &App, filters: &Filters) -> Handled<BTreeSet<NodeId>> {
    let mut out = BTreeSet::new();
    for target in filters.values("node").map(str::to_owned) {
        let target = crate::nodes::own(app, target).await;
        match app.cluster.call(ControlRequest::GetNode { target }).await? {
            ControlResponse::Nodes(found) => out.extend(found.iter().map(|v| v.node.id)),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(out)
}

pub(crate) async fn inspect(State(app): State<App>, Path(target): Path<String>) -> Handled {
    let missing = Failure::new(Code::NotFound, format!("task {target} not found"));
    match app.cluster.call(ControlRequest::GetTask { target }).await? {
        ControlResponse::Tasks(tasks) => {
            let networks = networks(&app).await?;
            tasks.first().map(|t| Json(shown(t, &networks)).into_response()).ok_or(missing)
        }
        other => Err(unexpected(&other)),
    }
}
