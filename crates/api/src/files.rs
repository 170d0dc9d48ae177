//! `/secrets/…` and `/configs/…`, which differ in what is shown only.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::control::{Code, ControlRequest, ControlResponse};
use skep_types::file::{Bytes, FileDriver, FileKind, FileSpec, StoredFile};

use crate::App;
use crate::body::{self, JsonBody};
use crate::cluster::{unexpected, version};
use crate::containers::no_content;
use crate::error::{Failure, Handled};
use crate::fields::Fields;
use crate::filters::Filters;

/// As the documentation says data is sent; Go's clients send the standard alphabet.
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new());
/// The names that clients know: what they ask for, and a list of names that are asked for exactly.
const FILTERS: [&str; 4] = ["id", "label", "name", "names"];

/// The routes of one kind.
pub(crate) fn routes(kind: FileKind) -> Router<App> {
    let path = |rest: &str| format!("/{}s{rest}", kind.as_str());
    Router::new()
        .route(&path(""), get(move |app, query| list(kind, app, query)))
        .route(&path("/create"), post(move |app, body| create(kind, app, body)))
        .route(&path("/{id}"), get(move |app, id| inspect(kind, app, id)).delete(move |app, id| remove(kind, app, id)))
        .route(&path("/{id}/update"), post(move |app, id, query, body| update(kind, app, id, query, body)))
}

fn shown(f: &StoredFile) -> Value {
    let mut spec = json!({"Name": f.spec.name, "Labels": f.spec.labels});
    if f.spec.kind == FileKind::Config {
        spec["Data"] = json!(STANDARD.encode(&f.spec.data.0));
    }
    if let Some(driver) = &f.spec.driver {
        spec["Driver"] = json!({"Name": driver.name, "Options": driver.options});
    }
    if f.spec.template {
        spec["Templating"] = json!({"Name": "golang"});
    }
    json!({
        "ID": f.id, "Version": {"Index": f.meta.version.0}, "CreatedAt": f.meta.created_at.rfc3339(),
        "UpdatedAt": f.meta.updated_at.rfc3339(), "Spec": spec,
    })
}

fn read(kind: FileKind, mut body: Fields) -> Handled<FileSpec> {
    let text: String = body.get("Data")?;
    let data = STANDARD.decode(&text).or_else(|_| URL.decode(&text));
    let word = kind.as_str();
    let data: Bytes =
        data.map_err(|e| Failure::invalid(format!("invalid JSON: the data of the {word} is not base64: {e}")))?.into();
    let driver = match body.object_option("Driver")? {
        Some(mut d) => {
            let driver = FileDriver { name: d.get("Name")?, options: d.get("Options")? };
            d.finish()?;
            Some(driver)
        }
        None => None,
    };
    let mut templating = body.object("Templating")?;
    let template: String = templating.get("Name")?;
    if !matches!(template.as_str(), "" | "golang") {
        return Err(Failure::invalid(format!("unsupported template driver {template:?} of {word}: only golang is known")));
    }
    templating.finish()?;
    let (name, labels) = (body.get("Name")?, body.get("Labels")?);
    let spec = FileSpec { kind, name, labels, data, template: !template.is_empty(), driver };
    body.finish()?;
    Ok(spec)
}

async fn fetch(app: &App, request: ControlRequest) -> Handled<Vec<Arc<StoredFile>>> {
    match app.cluster.call(request).await? {
        ControlResponse::Files(files) => Ok(files),
        other => Err(unexpected(&other)),
    }
}

#[derive(Deserialize)]
struct ListQuery {
    filters: Option<String>,
}

async fn list(kind: FileKind, State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let files = fetch(&app, ControlRequest::ListFiles { kind }).await?;
    let wanted = |f: &&Arc<StoredFile>| {
        filters.any("id", |v| f.id.to_string().starts_with(v))
            && filters.any("name", |v| f.spec.name.starts_with(v))
            && filters.any("names", |v| f.spec.name == v)
            && filters.labels("label", &f.spec.labels)
    };
    Ok(body::rows(files.iter().filter(wanted).map(|f| shown(f))))
}

async fn create(kind: FileKind, State(app): State<App>, JsonBody(body): JsonBody) -> Handled {
    let spec = Box::new(read(kind, body)?);
    match app.cluster.call(ControlRequest::CreateFile { spec }).await? {
        ControlResponse::FileCreated { id } => Ok((StatusCode::CREATED, Json(json!({"ID": id}))).into_response()),
        other => Err(unexpected(&other)),
    }
}

async fn inspect(kind: FileKind, State(app): State<App>, Path(target): Path<String>) -> Handled {
    let missing = Failure::new(Code::NotFound, format!("{} {target} not found", kind.as_str()));
    let found = fetch(&app, ControlRequest::GetFile { kind, target }).await?;
    found.first().map(|f| Json(shown(f)).into_response()).ok_or(missing)
}

#[derive(Deserialize)]
struct UpdateQuery {
    version: Option<String>,
}

async fn update(
    kind: FileKind,
    State(app): State<App>,
    Path(target): Path<String>,
    Query(query): Query<UpdateQuery>,
    JsonBody(body): JsonBody,
) -> Handled {
    let version = version(query.version.as_ref(), kind.as_str())?;
    let spec = Box::new(read(kind, body)?);
    app.cluster.call(ControlRequest::UpdateFile { target, version, spec }).await?;
    Ok(StatusCode::OK.into_response())
}

async fn remove(kind: FileKind, State(app): State<App>, Path(target): Path<String>) -> Handled {
    app.cluster.call(ControlRequest::RemoveFile { kind, target }).await?;
    Ok(no_content())
}
