//! Each call of the Engine API, from its description: served, or refused with 501 and listed with a reason; and nothing in an
//! answer that the description does not know. `data/engine-api.json` holds the paths and the fields of the answers of the
//! description that moby publishes (Apache-2.0), without its texts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skep_e2e::bed::{Bed, LONG};

use crate::needs;

const API: &str = include_str!("../../data/engine-api.json");
const REFUSED: &str = include_str!("../../data/refused.txt");

/// Fields that the newest description has dropped and clients of the versions served still read; and what it describes as an
/// engine's network where Docker, and so Skep, sends the swarm's.
const OLDER: [&str; 8] = [
    "/system/df.",
    "/containers/{id}/json.NetworkSettings.",
    "/images/{name}/json.Config.",
    "/images/{name}/json.DockerVersion",
    "/images/{name}/json.Parent",
    "/networks/{id}.Containers",
    "].Containers",
    ".NetworksAttachments[",
];

/// Fields of an answer that its shape does not know.
fn unknown(value: &Value, shape: &Value, api: &Value, at: &str, out: &mut Vec<String>) {
    match shape {
        Value::String(name) => {
            if let Some(shape) = api["definitions"].get(name) {
                unknown(value, shape, api, at, out);
            }
        }
        Value::Array(of) => {
            for (i, v) in value.as_array().into_iter().flatten().enumerate() {
                unknown(v, &of[0], api, &format!("{at}[{i}]"), out);
            }
        }
        Value::Object(_) => {
            let known = fields(shape, api);
            for (key, v) in value.as_object().into_iter().flatten() {
                match known.get(key).or_else(|| known.get("*")) {
                    Some(shape) => unknown(v, shape, api, &format!("{at}.{key}"), out),
                    None => out.push(format!("{at}.{key}")),
                }
            }
        }
        _ => {}
    }
}

/// All fields of an object, with those of the shapes that it extends.
fn fields(shape: &Value, api: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for (key, v) in shape.as_object().into_iter().flatten() {
        match key.strip_prefix('<') {
            Some(base) => all.extend(fields(&api["definitions"][base], api)),
            None => drop(all.insert(key.clone(), v.clone())),
        }
    }
    all
}

/// The path with an object that is there, or, for calls that change something, one that is not.
fn fill(path: &str, real: bool) -> String {
    let kind = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let id = match kind {
        "containers" => "one",
        "images" | "distribution" => "web:1",
        "networks" => "back",
        "volumes" => "data",
        "services" => "web",
        "secrets" | "configs" => "file",
        "nodes" => "self",
        kind => kind,
    };
    let name = if real { id } else { "nothing-of-this-name" };
    path.replace("{id}", name).replace("{name}", name)
}

#[test]
fn every_call_is_served_or_listed_as_refused() {
    needs!();
    let api: Value = serde_json::from_str(API).expect("the description");
    let refused: BTreeMap<(&str, &str), &str> = REFUSED
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| {
            let mut words = l.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default().trim();
            ((word(), word()), word())
        })
        .collect();
    assert!(refused.values().all(|reason| !reason.is_empty()));
    let bed = Bed::swarm(50, 1, 1);
    bed.load_demo("web:1", "1.0");
    let d = |args: &str| bed.d("manager", args).ok();
    let file = json!({"Name": "file", "Data": "eA=="});
    for path in ["/secrets/create", "/configs/create"] {
        bed.api("manager", "POST", path, Some(&file)).expect("made");
    }
    let _ = d("network create -d overlay back");
    let _ = d("volume create data");
    let _ = d(
        "service create -d --name web --network back --secret file --config file -p 8080:8000 --mount src=data,dst=/data web:1",
    );
    let task = bed.await_running("manager", "web", 1, LONG).remove(0);
    let _ = d("run -d --name one -p 9090:8000 web:1");
    let node = bed.api("manager", "GET", "/nodes", None).expect("nodes")[0]["ID"].as_str().unwrap_or_default().to_owned();

    let (mut faults, mut seen) = (Vec::new(), 0);
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for method in methods.as_array().into_iter().flatten().filter_map(Value::as_str) {
            seen += 1;
            let reads = method == "GET";
            let full =
                fill(path, reads).replace("/self", &format!("/{node}")).replace("/tasks/tasks", &format!("/tasks/{}", task.id));
            let query = match path.as_str() {
                "/events" => "?since=1&until=2",
                "/images/get" => "?names=web:1",
                p if p.ends_with("/logs") => "?stdout=1",
                p if p.ends_with("/push") => "?tag=1",
                p if p.ends_with("/archive") => "?path=/etc",
                p if p.ends_with("/stats") => "?stream=false",
                _ => "",
            };
            let body = (!reads && method != "HEAD").then(|| json!({}));
            let answer = bed.answer("manager", method, &format!("{full}{query}"), body.as_ref());
            let listed = refused.contains_key(&(method, path.as_str()));
            match answer {
                (501, text) if !listed => faults.push(format!("{method} {path} is refused and not listed: {text}")),
                (status, _) if listed && status != 501 => {
                    faults.push(format!("{method} {path} is listed as refused but answers {status}"));
                }
                (501, text) if method != "HEAD" && !text.to_string().contains("not built yet in Skep") => {
                    faults.push(format!("{method} {path} does not say that it is not built: {text}"));
                }
                (status, text) if reads && !listed => {
                    // What has no answer here: execs are gone at once, registries are not asked, managers are not locked.
                    let absent =
                        path.starts_with("/exec/") || path.starts_with("/distribution/") || path.starts_with("/plugins/");
                    if status != 200 && !absent {
                        faults.push(format!("{method} {path} answers {status}: {text}"));
                    }
                    if let Some(shape) = api["answers"].get(path).filter(|_| status == 200) {
                        unknown(&text, shape, &api, path, &mut faults);
                    }
                }
                (500, text) => faults.push(format!("{method} {path} fails: {text}")),
                _ => {}
            }
        }
    }
    faults.retain(|f| !OLDER.iter().any(|older| f.contains(older)));
    assert!(seen > 100);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
