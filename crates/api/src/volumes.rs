//! `/volumes/…`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::container::VolumeInfo;
use skep_types::control::Code;

use crate::App;
use crate::body::JsonBody;
use crate::containers::{no_content, truth};
use crate::error::{Failure, Handled};
use crate::filters::Filters;

pub(crate) fn shown(v: &VolumeInfo) -> Value {
    let mut out = json!({
        "Name": v.name, "Driver": v.driver(), "Mountpoint": v.mountpoint, "CreatedAt": v.created.rfc3339(), "Labels": v.labels,
        "Scope": if v.global { "global" } else { "local" },
        "Options": if v.options.is_empty() { Value::Null } else { json!(v.options) },
    });
    // It was an object when its driver said it.
    if let Ok(status) = serde_json::from_str::<Value>(&v.status) {
        out["Status"] = status;
    }
    out
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &["dangling", "driver", "label", "name"])?;
    let containers = app.engine.containers();
    let used = |v: &VolumeInfo| containers.iter().any(|c| c.mounts.iter().any(|m| m.kind == "volume" && m.name == v.name));
    let wanted = |v: &&VolumeInfo| {
        filters.any("name", |n| v.name.contains(n))
            && filters.any("driver", |d| d == v.driver())
            && filters.labels("label", &v.labels)
            && filters.flag("dangling").is_none_or(|d| d != used(v))
    };
    let (volumes, warnings) = app.engine.volumes().await;
    let rows: Vec<Value> = volumes.iter().filter(wanted).map(shown).collect();
    let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    Ok(Json(json!({"Volumes": rows, "Warnings": warnings})).into_response())
}

/// Volumes of the whole swarm belong to drivers that speak CSI. The door for them is described in ARCHITECTURE.md.
pub(crate) fn no_cluster_volumes() -> Failure {
    let text = "cluster volumes (CSI) are not built yet in Skep: use a volume of the driver local, which each node has for \
                itself, without --type, --scope, --sharing, --group and --availability";
    Failure::new(Code::Unimplemented, text)
}

/// `docker volume update`, which is for cluster volumes only.
pub(crate) async fn update(State(app): State<App>, Path(name): Path<String>) -> Failure {
    match app.engine.volume(&name).await {
        Ok(_) => no_cluster_volumes(),
        Err(missing) => missing.into(),
    }
}

pub(crate) async fn create(State(app): State<App>, JsonBody(mut body): JsonBody) -> Handled {
    if body.object_option("ClusterVolumeSpec")?.is_some() {
        return Err(no_cluster_volumes());
    }
    let driver: String = body.get("Driver")?;
    let name: String = body.get("Name")?;
    let (labels, options) = (body.get("Labels")?, body.get("DriverOpts")?);
    body.finish()?;
    let volume = app.engine.create_volume(&name, &driver, labels, options).await?;
    Ok((StatusCode::CREATED, Json(shown(&volume))).into_response())
}

pub(crate) async fn inspect(State(app): State<App>, Path(name): Path<String>) -> Handled {
    Ok(Json(shown(&app.engine.volume(&name).await?)).into_response())
}

#[derive(Deserialize)]
pub(crate) struct RemoveQuery {
    force: Option<String>,
}

pub(crate) async fn remove(State(app): State<App>, Path(name): Path<String>, Query(query): Query<RemoveQuery>) -> Handled {
    app.engine.remove_volume(&name, truth(query.force.as_ref())).await?;
    Ok(no_content())
}
