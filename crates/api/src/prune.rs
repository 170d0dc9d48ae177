//! `/containers/prune`, `/images/prune`, `/volumes/prune` and `/system/df`: what takes room, and what of it nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::Time;
use skep_types::container::{ContainerInfo, ContainerState, VolumeInfo};
use skep_types::host::{ImageInfo, Removed};
use skep_types::spec::Labels;

use crate::App;
use crate::error::{Failure, Handled};
use crate::filters::Filters;
use crate::inspect_json::row;
use crate::{images, volumes};

#[derive(Deserialize)]
pub(crate) struct PruneQuery {
    filters: Option<String>,
}

/// What the filters `until`, `label` and `label!` leave.
pub(crate) struct Wanted {
    filters: Filters,
    until: Option<Time>,
}

impl Wanted {
    pub(crate) fn read(text: Option<&str>, more: &[&str]) -> Handled<Self> {
        let known: Vec<&str> = ["until", "label", "label!"].iter().chain(more).copied().collect();
        let filters = Filters::parse(text, &known)?;
        let untils: Vec<&str> = filters.values("until").collect();
        let until = match untils[..] {
            [] => None,
            [one] => Some(before(one)?),
            _ => return Err(Failure::invalid("more than one until filter specified")),
        };
        Ok(Self { filters, until })
    }

    pub(crate) fn fits(&self, created: Time, labels: &Labels) -> bool {
        let spared = |wanted: &str| match wanted.split_once('=') {
            Some((k, v)) => labels.get(k).is_some_and(|have| have == v),
            None => labels.contains_key(wanted),
        };
        self.until.is_none_or(|until| created < until)
            && self.filters.labels("label", labels)
            && !self.filters.values("label!").any(spared)
    }
}

/// `24h`, seconds since 1970, or RFC 3339.
fn before(text: &str) -> Handled<Time> {
    let bad = || Failure::invalid(format!("invalid until filter: {text:?}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    if let Ok(seconds) = text.parse::<f64>() {
        return std::time::Duration::try_from_secs_f64(seconds).map(|d| Time::default().after(d)).map_err(|_| bad());
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Time::default().after(now.saturating_sub(ago)));
    }
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
    at.duration_since(std::time::UNIX_EPOCH).map(|d| Time::default().after(d)).map_err(|_| bad())
}

pub(crate) async fn containers(State(app): State<App>, Query(query): Query<PruneQuery>) -> Handled {
    let wanted = Wanted::read(query.filters.as_deref(), &[])?;
    let stopped = |c: &ContainerInfo| !matches!(c.state, ContainerState::Running | ContainerState::Restarting);
    // What a task left is its swarm's to clear away.
    let own = |c: &ContainerInfo| !c.config.labels.contains_key("com.docker.swarm.task.id");
    let (mut deleted, mut space) = (Vec::new(), 0u64);
    for c in app.engine.containers() {
        if !stopped(&c) || !own(&c) || !wanted.fits(c.created, &c.config.labels) {
            continue;
        }
        let size = app.engine.written(&c.id).await.unwrap_or(0);
        // One that was started or removed meanwhile is not there to be pruned.
        if app.engine.remove(&c.id, false, false).await.is_ok() {
            space += size;
            deleted.push(c.id);
        }
    }
    Ok(Json(json!({"ContainersDeleted": list(deleted), "SpaceReclaimed": space})).into_response())
}

/// As Docker says that nothing was.
fn list<T: Into<Value>>(items: Vec<T>) -> Value {
    if items.is_empty() { Value::Null } else { items.into_iter().map(Into::into).collect() }
}

pub(crate) async fn images(State(app): State<App>, Query(query): Query<PruneQuery>) -> Handled {
    let wanted = Wanted::read(query.filters.as_deref(), &["dangling"])?;
    let all = wanted.filters.flag("dangling") == Some(false);
    let used: BTreeSet<String> = app.engine.containers().into_iter().map(|c| c.image_id).collect();
    let room = || app.engine.layer_sizes().values().sum::<u64>();
    let before = room();
    let mut removed = Vec::new();
    for image in app.engine.images() {
        let nameless = image.repo_tags.is_empty();
        if used.contains(&image.id) || !(all || nameless) || !wanted.fits(image.created, &image.labels) {
            continue;
        }
        // One that a container came to use meanwhile is refused, and stays.
        for name in names(&image) {
            removed.extend(app.engine.remove_image(&name, false).await.unwrap_or_default());
        }
    }
    let rows = removed.iter().map(|r| match r {
        Removed::Untagged(name) => json!({"Untagged": name}),
        Removed::Deleted(id) => json!({"Deleted": id}),
    });
    let space = before.saturating_sub(room());
    Ok(Json(json!({"ImagesDeleted": list(rows.collect::<Vec<_>>()), "SpaceReclaimed": space})).into_response())
}

/// Nothing is built here, so nothing of a build is kept.
pub(crate) async fn build_cache() -> Handled {
    Ok(Json(json!({"CachesDeleted": null, "SpaceReclaimed": 0})).into_response())
}

/// What an image must be removed by: each of its names, or its id if it has none.
fn names(image: &ImageInfo) -> Vec<String> {
    if image.repo_tags.is_empty() { vec![image.id.clone()] } else { image.repo_tags.clone() }
}

pub(crate) async fn volumes(State(app): State<App>, Query(query): Query<PruneQuery>) -> Handled {
    let wanted = Wanted::read(query.filters.as_deref(), &["all"])?;
    if wanted.until.is_some() {
        return Err(Failure::invalid("The \"until\" filter is not supported for volumes"));
    }
    let all = wanted.filters.flag("all") == Some(true);
    let (mut deleted, mut space) = (Vec::new(), 0u64);
    for v in app.engine.volumes().await.0 {
        // What a plugin has may be others', too; Docker leaves it as well.
        if v.driver() != "local" || !(all || v.anonymous) || !wanted.fits(v.created, &v.labels) || users(&app, &v) > 0 {
            continue;
        }
        let size = app.engine.volume_size(&v.name).await.unwrap_or(0);
        // One that a container came to use meanwhile is refused, and stays.
        if app.engine.remove_volume(&v.name, false).await.is_ok() {
            space += size;
            deleted.push(v.name);
        }
    }
    Ok(Json(json!({"VolumesDeleted": list(deleted), "SpaceReclaimed": space})).into_response())
}

fn users(app: &App, v: &VolumeInfo) -> usize {
    let has = |c: &ContainerInfo| c.mounts.iter().any(|m| m.kind == "volume" && m.name == v.name);
    app.engine.containers().iter().filter(|c| has(c)).count()
}

/// `type` may come several times.
pub(crate) async fn df(State(app): State<App>, Query(query): Query<Vec<(String, String)>>) -> Handled {
    let types: Vec<&str> = query.iter().filter(|(k, _)| k == "type").map(|(_, v)| v.as_str()).collect();
    if let Some(odd) = types.iter().find(|t| !matches!(**t, "container" | "image" | "volume" | "build-cache")) {
        return Err(Failure::invalid(format!("unknown object type: {odd}")));
    }
    let asked = |kind: &str| types.is_empty() || types.contains(&kind);
    let mut out = json!({"LayersSize": 0, "Images": null, "Containers": null, "Volumes": null, "BuildCache": null});
    if asked("image") {
        let (containers, images, sizes) = (app.engine.containers(), app.engine.images(), app.engine.layer_sizes());
        let row = |i: &ImageInfo| {
            let mut row = images::row(i, &containers);
            row["SharedSize"] = json!(shared(i, &images, &sizes));
            row
        };
        out["Images"] = images.iter().map(row).collect();
        out["LayersSize"] = json!(sizes.values().sum::<u64>());
    }
    if asked("container") {
        let mut rows = Vec::new();
        for c in app.engine.containers() {
            let size = app.engine.written(&c.id).await.unwrap_or(0);
            let image = app.engine.image(&c.image_id).map_or(0, |i| i.size);
            let mut shown = row(&c);
            shown["SizeRw"] = json!(size);
            shown["SizeRootFs"] = json!(size + image);
            rows.push(shown);
        }
        out["Containers"] = rows.into();
    }
    if asked("volume") {
        let mut rows = Vec::new();
        for v in app.engine.volumes().await.0 {
            // What another host or device has is not counted, as in Docker.
            let size = if v.options.is_empty() && v.driver() == "local" {
                json!(app.engine.volume_size(&v.name).await.unwrap_or(0))
            } else {
                json!(-1)
            };
            let mut shown = volumes::shown(&v);
            shown["UsageData"] = json!({"Size": size, "RefCount": users(&app, &v)});
            rows.push(shown);
        }
        out["Volumes"] = rows.into();
    }
    if asked("build-cache") {
        out["BuildCache"] = json!([]);
    }
    Ok(Json(out).into_response())
}

/// Bytes of an image's layers that other images have too.
fn shared(image: &ImageInfo, all: &[ImageInfo], sizes: &BTreeMap<String, u64>) -> u64 {
    let elsewhere = |layer: &&String| all.iter().any(|o| o.id != image.id && o.layers.contains(layer));
    image.layers.iter().filter(elsewhere).filter_map(|l| sizes.get(l)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_what_is_pruned() {
        let read = |text: &str| Wanted::read(Some(text), &[]);
        let labels: Labels = [("keep".to_owned(), "yes".to_owned())].into();
        let now = before("0s").expect("a duration");
        assert!(read("{}").expect("none").fits(now, &labels));
        assert!(!read(r#"{"until":["1h"]}"#).expect("good").fits(now, &labels));
        assert!(read(r#"{"until":["1h"]}"#).expect("good").fits(Time(1), &labels));
        assert!(!read(r#"{"label!":["keep"]}"#).expect("good").fits(now, &labels));
        assert!(read(r#"{"label":["keep=yes"]}"#).expect("good").fits(now, &labels));
        assert!(read(r#"{"until":["1h","2h"]}"#).is_err() && read(r#"{"until":["soon"]}"#).is_err());
        assert!(read(r#"{"colour":["red"]}"#).is_err());
        assert_eq!(before("10").expect("seconds"), Time(10_000_000_000));
    }
}
