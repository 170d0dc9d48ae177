//! `/nodes/…`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::control::{Code, ControlRequest, ControlResponse, NodeView};
use skep_types::spec::{Availability, NodeSpec, Role};

use crate::App;
use crate::body::{self, JsonBody};
use crate::cluster::{unexpected, version};
use crate::containers::truth;
use crate::error::{Failure, Handled};
use crate::filters::Filters;
use crate::spec_write;
use crate::swarm::tls_json;

const FILTERS: [&str; 6] = ["id", "label", "node.label", "membership", "name", "role"];

fn shown(view: &NodeView) -> Value {
    let n = &view.node;
    let plugin = |kind: &str, name: &str| json!({"Type": kind, "Name": name});
    let mut status = json!({"State": n.state.as_str(), "Addr": n.addr.map(|a| a.to_string()).unwrap_or_default()});
    if !n.message.is_empty() {
        status["Message"] = json!(n.message);
    }
    let mut spec = json!({"Labels": n.spec.labels, "Role": n.spec.role.as_str(), "Availability": n.spec.availability.as_str()});
    if let Some(name) = &n.spec.name {
        spec["Name"] = json!(name);
    }
    let mut out = json!({
        "ID": n.id, "Version": {"Index": n.meta.version.0}, "CreatedAt": n.meta.created_at.rfc3339(),
        "UpdatedAt": n.meta.updated_at.rfc3339(), "Spec": spec,
        "Description": {
            "Hostname": n.description.hostname,
            "Platform": {"Architecture": n.description.architecture, "OS": n.description.os},
            "Resources": {"NanoCPUs": n.description.nano_cpus, "MemoryBytes": n.description.memory},
            "Engine": {
                "EngineVersion": n.description.engine_version, "Labels": n.description.engine_labels,
                "Plugins": n.description.plugins.iter().map(|(kind, name)| plugin(kind, name)).collect::<Vec<_>>(),
            },
            "TLSInfo": n.description.tls.as_ref().map_or_else(|| json!({}), tls_json),
        },
        "Status": status,
    });
    if !n.description.generic.is_empty() {
        out["Description"]["Resources"]["GenericResources"] = spec_write::generic(&n.description.generic);
    }
    if let (Some(manager), Some(health)) = (&n.manager, &view.health) {
        let reachability = if health.reachable { "reachable" } else { "unreachable" };
        out["ManagerStatus"] = json!({"Reachability": reachability, "Addr": manager.addr});
        if health.leader {
            out["ManagerStatus"]["Leader"] = json!(true);
        }
    }
    out
}

async fn fetch(app: &App, request: ControlRequest) -> Handled<Vec<NodeView>> {
    match app.cluster.call(request).await? {
        ControlResponse::Nodes(nodes) => Ok(nodes),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn own(app: &App, target: String) -> String {
    if target != "self" {
        return target;
    }
    app.cluster.info().await.node_id.map_or(target, |id| id.to_string())
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    filters.check("role", &["manager", "worker"])?;
    filters.check("membership", &["accepted", "pending"])?;
    let nodes = fetch(&app, ControlRequest::ListNodes).await?;
    let wanted = |v: &&NodeView| {
        let n = &v.node;
        filters.any("id", |f| n.id.to_string().starts_with(f))
            && filters.any("name", |f| n.description.hostname.starts_with(f))
            && filters.any("role", |f| n.role.as_str().eq_ignore_ascii_case(f))
            && filters.any("membership", |f| f.eq_ignore_ascii_case("accepted"))
            && filters.labels("label", &n.description.engine_labels)
            && filters.labels("node.label", &n.spec.labels)
    };
    Ok(body::rows(nodes.iter().filter(wanted).map(shown)))
}

pub(crate) async fn inspect(State(app): State<App>, Path(target): Path<String>) -> Handled {
    let target = own(&app, target).await;
    let missing = Failure::new(Code::NotFound, format!("node {target} not found"));
    let nodes = fetch(&app, ControlRequest::GetNode { target }).await?;
    nodes.first().map(|n| Json(shown(n)).into_response()).ok_or(missing)
}

#[derive(Deserialize)]
pub(crate) struct UpdateQuery {
    version: Option<String>,
}

pub(crate) async fn update(
    State(app): State<App>,
    Path(target): Path<String>,
    Query(query): Query<UpdateQuery>,
    JsonBody(mut f): JsonBody,
) -> Handled {
    let role = match f.get::<String>("Role")?.to_ascii_lowercase().as_str() {
        "manager" => Role::Manager,
        "worker" => Role::Worker,
        other => return Err(Failure::invalid(format!("invalid Role: {other:?}"))),
    };
    let availability = match f.get::<String>("Availability")?.to_ascii_lowercase().as_str() {
        "active" => Availability::Active,
        "pause" => Availability::Pause,
        "drain" => Availability::Drain,
        other => return Err(Failure::invalid(format!("invalid Availability: {other:?}"))),
    };
    let name: String = f.get("Name")?;
    let spec = NodeSpec { name: (!name.is_empty()).then_some(name), labels: f.get("Labels")?, role, availability };
    f.finish()?;
    let version = version(query.version.as_ref(), "node")?;
    let target = own(&app, target).await;
    app.cluster.call(ControlRequest::UpdateNode { target, version, spec }).await?;
    Ok(StatusCode::OK.into_response())
}

#[derive(Deserialize)]
pub(crate) struct RemoveQuery {
    force: Option<String>,
}

pub(crate) async fn remove(State(app): State<App>, Path(target): Path<String>, Query(query): Query<RemoveQuery>) -> Handled {
    let force = truth(query.force.as_ref());
    let target = own(&app, target).await;
    app.cluster.call(ControlRequest::RemoveNode { target, force }).await?;
    Ok(StatusCode::OK.into_response())
}
