//! `/containers/{id}/{archive,changes,export}` and `/commit`: what is in containers.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::container::PathStat;
use skep_types::usage::ChangeKind;
use tokio_stream::wrappers::ReceiverStream;

use crate::body::{JsonBody, upload};
use crate::containers::truth;
use crate::error::{Failure, Handled};
use crate::{App, Archive, NewImage};

/// Where clients find what is at the path.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// A mode as Go writes it: permissions, and types as bits of its own.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => (1 << 26) | (1 << 21),
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let set = |bit: u32, go: u32| if mode & bit != 0 { 1 << go } else { 0 };
    (mode & 0o777) | kind | set(0o4000, 23) | set(0o2000, 22) | set(0o1000, 20)
}

fn stat_header(stat: &PathStat) -> HeaderMap {
    let text = json!({
        "name": stat.name, "size": stat.size, "mode": go_mode(stat.mode), "mtime": stat.mtime.rfc3339(), "linkTarget": stat.link,
    });
    let mut headers = HeaderMap::new();
    // Base64 is always a header's value.
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(text.to_string())) {
        headers.insert(PATH_STAT, value);
    }
    headers
}

#[derive(Deserialize)]
pub(crate) struct PathQuery {
    path: Option<String>,
    #[serde(rename = "noOverwriteDirNonDir")]
    keep_kinds: Option<String>,
    #[serde(rename = "copyUIDGID")]
    to_user: Option<String>,
}

pub(crate) async fn stat(State(app): State<App>, Path(id): Path<String>, Query(query): Query<PathQuery>) -> Handled {
    let stat = app.engine.path_stat(&id, query.path.as_deref().unwrap_or_default()).await?;
    Ok(stat_header(&stat).into_response())
}

pub(crate) async fn copy_out(State(app): State<App>, Path(id): Path<String>, Query(query): Query<PathQuery>) -> Handled {
    let (stat, archive) = app.engine.copy_out(&id, query.path.as_deref().unwrap_or_default()).await?;
    Ok((stat_header(&stat), tar(archive, "application/x-tar")).into_response())
}

/// A body that breaks off, rather than ends, when the archive is not whole.
fn tar(archive: Archive, kind: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(ReceiverStream::new(archive))).into_response()
}

pub(crate) async fn copy_in(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<PathQuery>,
    body: Body,
) -> Handled {
    let (keep_kinds, to_user) = (truth(query.keep_kinds.as_ref()), truth(query.to_user.as_ref()));
    let path = query.path.as_deref().unwrap_or_default();
    app.engine.copy_in(&id, path, keep_kinds, to_user, upload(body)).await?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn changes(State(app): State<App>, Path(id): Path<String>) -> Handled {
    let kind = |k: ChangeKind| match k {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    let changes = app.engine.changes(&id).await?;
    let rows: Vec<Value> = changes.iter().map(|c| json!({"Path": c.path, "Kind": kind(c.kind)})).collect();
    // As Docker says that there are none.
    Ok(Json(if rows.is_empty() { Value::Null } else { Value::Array(rows) }).into_response())
}

pub(crate) async fn export(State(app): State<App>, Path(id): Path<String>) -> Handled {
    Ok(tar(app.engine.export(&id).await?, "application/octet-stream"))
}

/// `changes` may come several times, each with a line of a Dockerfile.
pub(crate) async fn commit(
    State(app): State<App>,
    Query(query): Query<Vec<(String, String)>>,
    JsonBody(body): JsonBody,
) -> Handled {
    body.finish()?;
    let all = |key: &str| query.iter().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    let one = |key: &str| all(key).pop().unwrap_or_default();
    let container = one("container");
    if container.is_empty() {
        return Err(Failure::invalid("no container was named"));
    }
    let reference = match (one("repo"), one("tag")) {
        (repo, tag) if tag.is_empty() => repo,
        (repo, tag) => format!("{repo}:{tag}"),
    };
    let changes = all("changes").iter().flat_map(|c| c.lines()).filter(|l| !l.trim().is_empty()).map(str::to_owned).collect();
    let (author, comment, pause) = (one("author"), one("comment"), query.iter().find(|(k, _)| k == "pause"));
    let pause = pause.is_none_or(|(_, v)| truth(Some(v)));
    let id = app.engine.commit(NewImage { container, reference, changes, author, comment, pause }).await?;
    Ok((StatusCode::CREATED, Json(json!({"Id": id}))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_as_go_writes_them() {
        for (kernel, go) in [
            (0o100_644, 0o644),
            (0o040_755, (1 << 31) | 0o755),
            (0o120_777, (1 << 27) | 0o777),
            (0o041_777, (1 << 31) | (1 << 20) | 0o777),
            (0o104_755, (1 << 23) | 0o755),
            (0o020_620, (1 << 26) | (1 << 21) | 0o620),
        ] {
            assert_eq!(go_mode(kernel), go, "{kernel:o}");
        }
    }
}
