//! `/images/…` and `/distribution/…`. Image names hold slashes, so the last part of the path tells the action.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_types::container::ContainerInfo;
use skep_types::host::{ImageInfo, Removed};

use crate::App;
use crate::auth;
use crate::body::{progress, upload};
use crate::containers::truth;
use crate::error::{Failure, Handled};
use crate::filters::Filters;

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
    all: Option<String>,
    #[serde(rename = "shared-size")]
    shared_size: Option<String>,
    digests: Option<String>,
    manifests: Option<String>,
}

const FILTERS: [&str; 5] = ["before", "dangling", "label", "reference", "since"];

fn short(reference: &str) -> &str {
    reference.trim_start_matches("docker.io/").trim_start_matches("library/")
}

fn matches(image: &ImageInfo, filters: &Filters, all: &[ImageInfo]) -> bool {
    let reference = |pattern: &str| {
        image.repo_tags.iter().any(|tag| {
            let repository = tag.rsplit_once(':').map_or(tag.as_str(), |(r, _)| r);
            glob(pattern, tag) || glob(pattern, repository) || glob(pattern, short(tag)) || glob(pattern, short(repository))
        })
    };
    let find = |v: &str| all.iter().find(|i| i.id.contains(v) || i.repo_tags.iter().any(|t| t == v));
    filters.any("reference", reference)
        && filters.flag("dangling").is_none_or(|d| d == image.repo_tags.is_empty())
        && filters.labels("label", &image.labels)
        && filters.any("before", |v| find(v).is_some_and(|o| image.created < o.created))
        && filters.any("since", |v| find(v).is_some_and(|o| image.created > o.created))
}

/// `*` stands for anything but a slash.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            let stop = tail.find('/').unwrap_or(tail.len());
            (0..=stop).filter(|i| tail.is_char_boundary(*i)).any(|i| glob(rest, &tail[i..]))
        }),
    }
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let _ = (query.all, query.shared_size, query.digests, query.manifests);
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let mut all = app.engine.images();
    all.sort_by_key(|i| std::cmp::Reverse(i.created));
    let containers = app.engine.containers();
    let rows: Vec<Value> = all.iter().filter(|i| matches(i, &filters, &all)).map(|i| row(i, &containers)).collect();
    Ok(Json(rows).into_response())
}

/// A row of `images`.
pub(crate) fn row(i: &ImageInfo, containers: &[ContainerInfo]) -> Value {
    let users = containers.iter().filter(|c| c.image_id == i.id).count();
    json!({
        "Id": i.id, "ParentId": "", "RepoTags": i.repo_tags, "RepoDigests": i.repo_digests,
        "Created": i.created.unix_seconds(), "Size": i.size, "SharedSize": -1, "Labels": i.labels, "Containers": users,
    })
}

fn detail(i: &ImageInfo) -> Value {
    let set = |keys: &[String]| keys.iter().map(|k| (k.clone(), json!({}))).collect::<Map<_, _>>();
    let list = |l: &[String]| if l.is_empty() { Value::Null } else { json!(l) };
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": i.user, "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": i.env, "Cmd": list(&i.cmd), "Image": "",
        "Volumes": if i.volumes.is_empty() { Value::Null } else { Value::Object(set(&i.volumes)) },
        "WorkingDir": i.working_dir, "Entrypoint": list(&i.entrypoint), "OnBuild": null, "Labels": i.labels,
    });
    if !i.exposed_ports.is_empty() {
        config["ExposedPorts"] = Value::Object(set(&i.exposed_ports));
    }
    if !i.stop_signal.is_empty() {
        config["StopSignal"] = json!(i.stop_signal);
    }
    if let Some(health) = &i.health {
        config["Healthcheck"] = crate::health_json::config(health);
    }
    json!({
        "Id": i.id, "RepoTags": i.repo_tags, "RepoDigests": i.repo_digests, "Parent": "", "Comment": "",
        "Created": i.created.rfc3339(), "DockerVersion": "", "Author": i.author, "Config": config,
        "Architecture": i.architecture, "Os": i.os, "Size": i.size, "GraphDriver": {"Name": "overlay2", "Data": null},
        "RootFS": {"Type": "layers", "Layers": i.layers}, "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    })
}

/// `GET /images/NAME/json`.
pub(crate) async fn get(State(app): State<App>, Path(path): Path<String>) -> Handled {
    match path.rsplit_once('/') {
        Some((name, "json")) => Ok(Json(detail(&app.engine.image(name)?)).into_response()),
        Some((name, "history")) => {
            let image = app.engine.image(name)?;
            let row = json!({
                "Id": image.id, "Created": image.created.unix_seconds(), "CreatedBy": "", "Tags": image.repo_tags,
                "Size": image.size, "Comment": "the steps of the image's build are not kept",
            });
            Ok(Json(json!([row])).into_response())
        }
        _ => Err(Failure::unbuilt(format!("GET /images/{path}"))),
    }
}

#[derive(Deserialize)]
pub(crate) struct PostQuery {
    repo: Option<String>,
    tag: Option<String>,
    platform: Option<String>,
}

/// `POST /images/NAME/push` and `…/tag`.
pub(crate) async fn post(
    State(app): State<App>,
    Path(path): Path<String>,
    Query(query): Query<PostQuery>,
    headers: HeaderMap,
) -> Handled {
    match path.rsplit_once('/') {
        Some((name, "tag")) => {
            let repo = query.repo.filter(|r| !r.is_empty()).ok_or_else(|| Failure::invalid("invalid reference format"))?;
            let target = match query.tag.filter(|t| !t.is_empty()) {
                Some(tag) => format!("{repo}:{tag}"),
                None => repo,
            };
            app.engine.tag(name, &target).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        Some((name, "push")) => {
            if query.platform.is_some_and(|p| !p.is_empty()) {
                return Err(Failure::unbuilt("push --platform"));
            }
            let reference = match query.tag.filter(|t| !t.is_empty()) {
                Some(tag) => format!("{name}:{tag}"),
                None => return Err(Failure::unbuilt("push --all-tags")),
            };
            Ok(progress(app.engine.push(&reference, auth::credentials(&headers)).await?))
        }
        _ => Err(Failure::unbuilt(format!("POST /images/{path}"))),
    }
}

#[derive(Deserialize)]
pub(crate) struct CreateQuery {
    #[serde(rename = "fromImage")]
    from_image: Option<String>,
    #[serde(rename = "fromSrc")]
    from_src: Option<String>,
    repo: Option<String>,
    tag: Option<String>,
    message: Option<String>,
    changes: Option<String>,
    platform: Option<String>,
}

/// Pull and import.
pub(crate) async fn create(
    State(app): State<App>,
    Query(query): Query<CreateQuery>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let tag = query.tag.filter(|t| !t.is_empty());
    if let Some(image) = query.from_image.filter(|i| !i.is_empty()) {
        if let Some(platform) = query.platform.filter(|p| !p.is_empty()) {
            let own = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
            if !platform.starts_with(own) {
                return Err(Failure::unbuilt(format!("pulling for another platform ({platform})")));
            }
        }
        let reference = match tag {
            Some(tag) if tag.contains(':') => format!("{image}@{tag}"),
            Some(tag) => format!("{image}:{tag}"),
            None if image.contains('@') || image.rsplit('/').next().is_some_and(|n| n.contains(':')) => image,
            None => return Err(Failure::unbuilt("pull --all-tags")),
        };
        return Ok(progress(app.engine.pull(&reference, auth::credentials(&headers)).await?));
    }
    match query.from_src.as_deref() {
        Some("-") => {}
        Some(url) => return Err(Failure::unbuilt(format!("importing from the URL {url}"))),
        None => return Err(Failure::invalid("fromImage or fromSrc must be given")),
    }
    let reference = match (query.repo.filter(|r| !r.is_empty()), tag) {
        (Some(repo), Some(tag)) => format!("{repo}:{tag}"),
        (Some(repo), None) => repo,
        _ => String::new(),
    };
    let changes = query.changes.map(|c| vec![c]).unwrap_or_default();
    let id = app.engine.import(upload(body), &reference, changes, query.message.as_deref().unwrap_or_default()).await?;
    Ok(Json(json!({"status": id})).into_response())
}

#[derive(Deserialize)]
pub(crate) struct LoadQuery {
    quiet: Option<String>,
    platform: Option<String>,
}

pub(crate) async fn load(State(app): State<App>, Query(query): Query<LoadQuery>, body: Body) -> Handled {
    let _ = truth(query.quiet.as_ref());
    if query.platform.is_some_and(|p| !p.is_empty()) {
        return Err(Failure::unbuilt("load --platform"));
    }
    Ok(progress(app.engine.load(upload(body)).await?))
}

#[derive(Deserialize)]
pub(crate) struct RemoveQuery {
    force: Option<String>,
    noprune: Option<String>,
}

pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<RemoveQuery>,
    _: Method,
) -> Handled {
    let _ = query.noprune;
    let removed = app.engine.remove_image(&name, truth(query.force.as_ref())).await?;
    let rows: Vec<Value> = removed
        .into_iter()
        .map(|r| match r {
            Removed::Untagged(name) => json!({"Untagged": name}),
            Removed::Deleted(id) => json!({"Deleted": id}),
        })
        .collect();
    Ok(Json(rows).into_response())
}

/// `GET /distribution/NAME/json`.
pub(crate) async fn distribution(State(app): State<App>, Path(path): Path<String>, headers: HeaderMap) -> Handled {
    let Some((name, "json")) = path.rsplit_once('/') else {
        return Err(Failure::unbuilt(format!("GET /distribution/{path}")));
    };
    let found = app.engine.distribution(name, auth::credentials(&headers)).await?;
    let platforms: Vec<Value> = found.platforms.iter().map(|(os, arch)| json!({"os": os, "architecture": arch})).collect();
    Ok(Json(json!({
        "Descriptor": {"mediaType": found.media_type, "digest": found.digest, "size": found.size},
        "Platforms": platforms,
    }))
    .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_by_pattern() {
        assert!(glob("skep/*", "skep/whoami") && glob("*:1.0", "ws:1.0") && glob("a*c", "abc"));
        assert!(!glob("*", "skep/whoami") && !glob("a", "ab"));
    }
}
