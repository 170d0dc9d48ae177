//! `/images/…` and `/distribution/…`. Image names hold slashes, so the last part of the path tells the action.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_types::container::ContainerInfo;
use skep_types::host::{ImageInfo, Removed};
use tokio_stream::wrappers::ReceiverStream;

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

/// Whether a name of an image (`web:1`, `web@sha256:…`) fits a pattern, by itself or by its repository.
fn named(name: &str, pattern: &str) -> bool {
    let repository = name.split_once('@').or_else(|| name.rsplit_once(':')).map_or(name, |(r, _)| r);
    [name, repository, short(name), short(repository)].iter().any(|n| glob(pattern, n))
}

/// An image with those of its names only that were asked for.
fn as_asked(image: &ImageInfo, filters: &Filters) -> ImageInfo {
    let mut image = image.clone();
    let wanted = |name: &String| filters.any("reference", |pattern| named(name, pattern));
    image.repo_tags.retain(wanted);
    image.repo_digests.retain(wanted);
    image
}

fn matches(image: &ImageInfo, filters: &Filters, all: &[ImageInfo]) -> bool {
    let reference = |pattern: &str| image.repo_tags.iter().chain(&image.repo_digests).any(|name| named(name, pattern));
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
    let rows: Vec<Value> =
        all.iter().filter(|i| matches(i, &filters, &all)).map(|i| row(&as_asked(i, &filters), &containers)).collect();
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

/// `GET /images/NAME/json`, `…/history`, `…/get`.
pub(crate) async fn get(
    State(app): State<App>,
    Path(path): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Handled {
    only_own_platform(&query)?;
    match path.rsplit_once('/') {
        Some((name, "json")) => Ok(Json(detail(&app.engine.image(name)?)).into_response()),
        Some((name, "history")) => history(&app, name),
        Some((name, "get")) => save(&app, vec![name.to_owned()]),
        None if path == "search" => {
            Err(Failure::unbuilt("searching for images, which only Docker's own hub can do (see https://hub.docker.com),"))
        }
        _ => Err(Failure::unbuilt(format!("GET /images/{path}"))),
    }
}

/// Images are of one platform each, so that none can be chosen.
fn only_own_platform(query: &[(String, String)]) -> Handled<()> {
    if query.iter().any(|(k, v)| k == "platform" && !v.is_empty()) {
        return Err(Failure::unbuilt("choosing one of an image's platforms (--platform)"));
    }
    Ok(())
}

fn history(app: &App, name: &str) -> Handled {
    let image = app.engine.image(name)?;
    let steps = app.engine.image_history(name)?;
    let row = |(n, s): (usize, &crate::ImageStep)| {
        // Only the whole has an id: the steps below it are no images.
        let (id, tags) = if n == 0 { (image.id.as_str(), json!(image.repo_tags)) } else { ("<missing>", Value::Null) };
        json!({
            "Id": id, "Created": s.created.unix_seconds(), "CreatedBy": s.created_by, "Tags": tags, "Size": s.size,
            "Comment": s.comment,
        })
    };
    Ok(Json(steps.iter().enumerate().map(row).collect::<Vec<_>>()).into_response())
}

fn save(app: &App, names: Vec<String>) -> Handled {
    let archive = app.engine.save(names)?;
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(ReceiverStream::new(archive))).into_response())
}

/// `GET /images/get?names=…`: several images in one archive. `names` may come several times, and hold several with commas.
pub(crate) async fn save_all(State(app): State<App>, Query(query): Query<Vec<(String, String)>>) -> Handled {
    only_own_platform(&query)?;
    let names = query.iter().filter(|(k, _)| k == "names").flat_map(|(_, v)| v.split(',')).filter(|n| !n.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Failure::invalid("no image was named: give their names as `names`"));
    }
    save(&app, names)
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

/// Pull and import, of which `changes` may come several times, each with a line of a Dockerfile.
pub(crate) async fn create(
    State(app): State<App>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let all = |key: &str| query.iter().filter(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    let one = |key: &str| all(key).pop();
    let tag = one("tag");
    if let Some(image) = one("fromImage") {
        if let Some(platform) = one("platform") {
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
    match one("fromSrc").as_deref() {
        Some("-") => {}
        Some(url) => return Err(Failure::unbuilt(format!("importing from the URL {url}"))),
        None => return Err(Failure::invalid("fromImage or fromSrc must be given")),
    }
    let reference = match (one("repo"), tag) {
        (Some(repo), Some(tag)) => format!("{repo}:{tag}"),
        (Some(repo), None) => repo,
        _ => String::new(),
    };
    let id = app.engine.import(upload(body), &reference, all("changes"), &one("message").unwrap_or_default()).await?;
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
    #[test]
    fn only_names_that_were_asked_for_are_told() {
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let image = ImageInfo {
            repo_tags: texts(&["web:1", "web:2", "localhost:5000/other:1"]),
            repo_digests: texts(&["web@sha256:00"]),
            ..ImageInfo::default()
        };
        let told = |pattern: &str| {
            let filters = Filters::parse(Some(&format!("{{\"reference\":[\"{pattern}\"]}}")), &FILTERS).expect("filters");
            let fits = matches(&image, &filters, &[]);
            let image = as_asked(&image, &filters);
            (fits, [image.repo_tags, image.repo_digests].concat().join(" "))
        };
        assert_eq!(told("web"), (true, "web:1 web:2 web@sha256:00".to_owned()));
        assert_eq!(told("web:2"), (true, "web:2".to_owned()));
        assert_eq!(told("*/other"), (true, "localhost:5000/other:1".to_owned()));
        assert_eq!(told("none"), (false, String::new()));
        let all = Filters::parse(None, &FILTERS).expect("filters");
        assert_eq!(as_asked(&image, &all), image);
    }
}
