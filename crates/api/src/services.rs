//! `/services/…`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::control::{Code, ControlRequest, ControlResponse, TaskView};
use skep_types::object::{Network, Service, TaskState, VirtualIp};
use skep_types::spec::{EndpointMode, ServiceMode, ServiceSpec};
use skep_types::{NetworkId, ServiceId};

use crate::body::{self, JsonBody};
use crate::cluster::{unexpected, version};
use crate::containers::truth;
use crate::error::{Failure, Handled};
use crate::fields::Fields;
use crate::filters::Filters;
use crate::{App, auth, spec_read, spec_write};

const FILTERS: [&str; 5] = ["id", "label", "mode", "name", "runtime"];

/// Tasks of a service as `service ls` counts them.
#[derive(Default, Clone, Copy)]
struct Counts {
    running: u64,
    /// That shall live.
    wanted: u64,
    completed: u64,
}

/// Of a job only the current iteration counts.
fn counts(tasks: &[TaskView], services: &[Arc<Service>]) -> BTreeMap<ServiceId, Counts> {
    let iterations: BTreeMap<ServiceId, Option<u64>> = services.iter().map(|s| (s.id, s.iteration())).collect();
    let mut out: BTreeMap<ServiceId, Counts> = BTreeMap::new();
    for view in tasks {
        let task = &view.task;
        if iterations.get(&task.service).is_none_or(|i| *i != task.iteration) {
            continue;
        }
        let c = out.entry(task.service).or_default();
        let live = task.is_wanted() && !task.status.state.is_terminal();
        c.wanted += u64::from(live);
        c.running += u64::from(live && task.status.state == TaskState::Running);
        c.completed += u64::from(task.iteration.is_some() && task.status.state == TaskState::Complete);
    }
    out
}

fn status(s: &Service, c: Counts) -> Value {
    let desired = match s.spec.mode {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::ReplicatedJob { max_concurrent, .. } => max_concurrent,
        ServiceMode::Global | ServiceMode::GlobalJob => c.wanted,
    };
    json!({"RunningTasks": c.running, "DesiredTasks": desired, "CompletedTasks": c.completed})
}

/// The networks that virtual addresses are on, for their other side; none if no service has any.
async fn networks(app: &App, services: &[Arc<Service>]) -> Handled<Vec<Arc<Network>>> {
    if services.iter().all(|s| s.vips.is_empty()) {
        return Ok(Vec::new());
    }
    match app.cluster.call(ControlRequest::ListNetworks).await? {
        ControlResponse::Networks(list) => Ok(list),
        other => Err(unexpected(&other)),
    }
}

/// The virtual addresses of a service: on a network of both families one of each.
fn virtual_addresses(s: &Service, networks: &[Arc<Network>]) -> Value {
    let both = |v: &VirtualIp| {
        let network = networks.iter().find(|n| n.id == v.network);
        let all = network.map_or_else(|| vec![v.addr.into()], |n| n.both(v.addr));
        all.into_iter().map(|addr| json!({"NetworkID": v.network, "Addr": addr.to_string()})).collect::<Vec<_>>()
    };
    s.vips.iter().flat_map(both).collect()
}

fn shown(s: &Service, networks: &[Arc<Network>], defaults: bool) -> Value {
    let vip = s.spec.endpoint.mode == EndpointMode::Vip;
    let mut endpoint = json!({});
    if vip || !s.ports.is_empty() {
        endpoint["Spec"] = spec_write::endpoint(&s.spec.endpoint);
    }
    if !s.ports.is_empty() {
        endpoint["Ports"] = s.ports.iter().map(spec_write::port).collect();
    }
    if !s.vips.is_empty() {
        endpoint["VirtualIPs"] = virtual_addresses(s, networks);
    }
    let mut out = json!({
        "ID": s.id, "Version": {"Index": s.meta.version.0}, "CreatedAt": s.meta.created_at.rfc3339(),
        "UpdatedAt": s.meta.updated_at.rfc3339(), "Spec": spec_write::service(&s.spec, defaults), "Endpoint": endpoint,
    });
    if let Some(previous) = &s.previous_spec {
        out["PreviousSpec"] = spec_write::service(previous, defaults);
    }
    if let Some(j) = &s.job {
        let last = j.last_execution.rfc3339();
        out["JobStatus"] = json!({"JobIteration": {"Index": j.iteration}, "LastExecution": last});
    }
    if let Some(u) = &s.update_status {
        out["UpdateStatus"] = json!({"State": u.state.as_str(), "StartedAt": u.started_at.rfc3339(), "Message": u.message});
        if let Some(done) = u.completed_at {
            out["UpdateStatus"]["CompletedAt"] = json!(done.rfc3339());
        }
    }
    out
}

async fn fetch(app: &App, request: ControlRequest) -> Handled<Vec<Arc<Service>>> {
    match app.cluster.call(request).await? {
        ControlResponse::Services(services) => Ok(services),
        other => Err(unexpected(&other)),
    }
}

/// All tasks of the swarm.
pub(crate) async fn all_tasks(app: &App) -> Handled<Vec<TaskView>> {
    match app.cluster.call(ControlRequest::ListTasks).await? {
        ControlResponse::Tasks(tasks) => Ok(tasks),
        other => Err(unexpected(&other)),
    }
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
    status: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let services = fetch(&app, ControlRequest::ListServices).await?;
    let counted = if truth(query.status.as_ref()) { Some(counts(&all_tasks(&app).await?, &services)) } else { None };
    let wanted = |s: &&Arc<Service>| {
        filters.any("id", |v| s.id.to_string().starts_with(v))
            && filters.any("name", |v| s.spec.name.starts_with(v))
            && filters.any("mode", |v| v == s.spec.mode.word())
            && filters.any("runtime", |v| v == "container")
            && filters.labels("label", &s.spec.labels)
    };
    let networks = networks(&app, &services).await?;
    let row = |s: &Arc<Service>| {
        let mut out = shown(s, &networks, false);
        if let Some(counted) = &counted {
            out["ServiceStatus"] = status(s, counted.get(&s.id).copied().unwrap_or_default());
        }
        out
    };
    Ok(body::rows(services.iter().filter(wanted).map(row)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InspectQuery {
    insert_defaults: Option<String>,
}

pub(crate) async fn inspect(State(app): State<App>, Path(target): Path<String>, Query(query): Query<InspectQuery>) -> Handled {
    let missing = missing(&target);
    let found = fetch(&app, ControlRequest::GetService { target }).await?;
    let defaults = truth(query.insert_defaults.as_ref());
    let networks = networks(&app, &found).await?;
    found.first().map(|s| Json(shown(s, &networks, defaults)).into_response()).ok_or(missing)
}

/// Reads a spec and resolves its networks.
async fn read(app: &App, body: Fields) -> Handled<ServiceSpec> {
    let (mut spec, networks) = spec_read::service(body)?;
    if !networks.is_empty() {
        let known = match app.cluster.call(ControlRequest::ListNetworks).await? {
            ControlResponse::Networks(known) => known,
            other => return Err(unexpected(&other)),
        };
        let local = app.engine.networks().await;
        let find = |name: &str| -> Handled<NetworkId> {
            if let Some(own) = NetworkId::find_of_each_host(name) {
                return Ok(own);
            }
            let found = known.iter().find(|n| n.id.to_string() == name).or_else(|| known.iter().find(|n| n.spec.name == name));
            match found {
                Some(n) if n.spec.ingress => Err(Failure::invalid(format!(
                    "rpc error: code = InvalidArgument desc = Service cannot be explicitly attached to the ingress network \
                     \"{}\"",
                    n.spec.name
                ))),
                Some(n) => Ok(n.id),
                None if local.iter().any(|n| n.name == name || n.id == name) => Err(Failure::new(
                    Code::PermissionDenied,
                    format!(
                        "The network {name} cannot be used with services. Only networks scoped to the swarm can be used, such \
                         as those created with the overlay driver."
                    ),
                )),
                None => Err(Failure::new(Code::NotFound, format!("network {name} not found"))),
            }
        };
        spec_read::attach(&mut spec, networks, find)?;
    }
    Ok(spec)
}

/// What of a spec may have no effect; nothing if all of it has.
fn warnings(spec: &ServiceSpec) -> Option<Vec<String>> {
    let labelled = spec.task.container.selinux.as_ref().is_some_and(|s| s.options().iter().any(|o| o != "disable"));
    labelled
        .then(|| vec!["the SELinux context has no effect on nodes without SELinux, and is refused by those with it".to_owned()])
}

pub(crate) async fn create(State(app): State<App>, headers: HeaderMap, JsonBody(body): JsonBody) -> Handled {
    let mut spec = read(&app, body).await?;
    spec.task.registry_auth = auth::header(&headers);
    let warnings = warnings(&spec);
    match app.cluster.call(ControlRequest::CreateService { spec: Box::new(spec) }).await? {
        ControlResponse::ServiceCreated { id } => {
            Ok((StatusCode::CREATED, Json(json!({"ID": id, "Warnings": warnings}))).into_response())
        }
        other => Err(unexpected(&other)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateQuery {
    version: Option<String>,
    registry_auth_from: Option<String>,
    rollback: Option<String>,
}

/// The credentials that go on to be used when an update brings none: those of one of the specs that the service has.
fn kept_auth(current: &Service, from: &str) -> Handled<Option<String>> {
    let spec = match from {
        "" | "spec" => &current.spec,
        "previous-spec" => match &current.previous_spec {
            Some(previous) => previous,
            None => return Err(Failure::new(Code::FailedPrecondition, "service does not have a previous spec")),
        },
        _ => return Err(Failure::invalid("unsupported registryAuthFrom value")),
    };
    Ok(spec.task.registry_auth.clone())
}

fn missing(target: &str) -> Failure {
    Failure::new(Code::NotFound, format!("service {target} not found"))
}

pub(crate) async fn update(
    State(app): State<App>,
    Path(target): Path<String>,
    Query(query): Query<UpdateQuery>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Handled {
    let version = version(query.version.as_ref(), "service")?;
    let rollback = match query.rollback.as_deref().unwrap_or_default() {
        "" | "none" => false,
        "previous" => true,
        other => return Err(Failure::invalid(format!("unrecognized rollback option {other}"))),
    };
    let mut spec = read(&app, body).await?;
    spec.task.registry_auth = match auth::header(&headers) {
        Some(auth) => Some(auth),
        None => {
            let current = fetch(&app, ControlRequest::GetService { target: target.clone() }).await?;
            let Some(current) = current.first() else { return Err(missing(&target)) };
            kept_auth(current, query.registry_auth_from.as_deref().unwrap_or_default())?
        }
    };
    let warnings = warnings(&spec);
    let request = ControlRequest::UpdateService { target, version, spec: Box::new(spec), rollback };
    app.cluster.call(request).await?;
    Ok(Json(json!({"Warnings": warnings})).into_response())
}

pub(crate) async fn remove(State(app): State<App>, Path(target): Path<String>) -> Handled {
    app.cluster.call(ControlRequest::RemoveService { target }).await?;
    Ok(StatusCode::OK.into_response())
}
