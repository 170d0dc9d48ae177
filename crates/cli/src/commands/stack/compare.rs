//! What differs between the spec that a service has and the one that a stack wants. Pure.
//!
//! The daemon fills in defaults, and clients leave them out or write them: both sides are brought to one form first, so that a
//! deploy which changes nothing updates nothing.

use serde_json::{Map, Value, json};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where: `TaskTemplate.ContainerSpec.Image`.
    pub path: String,
    /// What is there; nothing if it is new.
    pub old: Option<String>,
    /// What is wanted; nothing if it goes.
    pub new: Option<String>,
}

/// What differs, sorted by path.
#[must_use]
pub fn changes(current: &Value, wanted: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    walk(&normal(current), &normal(wanted), "", &mut found);
    found
}

const FIVE_SECONDS: i64 = 5_000_000_000;

/// A service's spec with what is a default left out, and lists without an order sorted.
fn normal(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let task = &mut spec["TaskTemplate"];
    // An update carries it over.
    remove(task, "ForceUpdate");
    remove_if(task, "Runtime", &json!("container"));
    remove_if(&mut task["ContainerSpec"], "Isolation", &json!("default"));
    let policy = json!({"Condition": "any", "Delay": FIVE_SECONDS, "MaxAttempts": 0, "Window": 0});
    defaulted(task, "RestartPolicy", &policy);
    sort(&mut task["Networks"], &["Target"]);
    sort(&mut task["ContainerSpec"]["Mounts"], &["Target"]);
    sort(&mut task["ContainerSpec"]["Secrets"], &["SecretName", "File"]);
    sort(&mut task["ContainerSpec"]["Configs"], &["ConfigName", "File"]);
    let update = json!({"Parallelism": 1, "Delay": 0, "FailureAction": "pause", "Monitor": FIVE_SECONDS, "MaxFailureRatio": 0,
                        "Order": "stop-first"});
    for key in ["UpdateConfig", "RollbackConfig"] {
        if spec[key]["Monitor"] == 0 {
            remove(&mut spec[key], "Monitor");
        }
        defaulted(&mut spec, key, &update);
    }
    remove_if(&mut spec["EndpointSpec"], "Mode", &json!("vip"));
    for port in spec["EndpointSpec"]["Ports"].as_array_mut().into_iter().flatten() {
        remove_if(port, "Protocol", &json!("tcp"));
        remove_if(port, "PublishMode", &json!("ingress"));
    }
    sort(&mut spec["EndpointSpec"]["Ports"], &["PublishedPort", "TargetPort", "Protocol"]);
    for mount in task_mounts(&mut spec) {
        remove_if(&mut mount["TmpfsOptions"], "Mode", &json!(0));
        remove_if(&mut mount["VolumeOptions"]["DriverConfig"], "Name", &json!("local"));
    }
    if spec["Mode"].as_object().is_none_or(Map::is_empty) {
        spec["Mode"] = json!({"Replicated": {"Replicas": 1}});
    }
    without_defaults(&mut spec);
    spec
}

fn task_mounts(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array_mut().into_iter().flatten()
}

fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}

fn remove_if(object: &mut Value, key: &str, default: &Value) {
    if object.get(key) == Some(default) {
        remove(object, key);
    }
}

/// Fills an object's defaults in; one that has nothing else is none.
fn defaulted(parent: &mut Value, key: &str, defaults: &Value) {
    let Some(own) = parent.get_mut(key).and_then(Value::as_object_mut) else { return };
    own.retain(|_, v| !v.is_null() && v != "");
    for (name, value) in defaults.as_object().into_iter().flatten() {
        own.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let same = defaults
        .as_object()
        .is_some_and(|d| d.len() == own.len() && d.iter().all(|(k, v)| own.get(k).is_some_and(|o| equal(o, v))));
    if same {
        remove(parent, key);
    }
}

fn sort(list: &mut Value, keys: &[&str]) {
    if let Some(list) = list.as_array_mut() {
        let number = |v: &Value| v.as_u64().unwrap_or(0);
        let key = |v: &Value| keys.iter().map(|k| (number(&v[*k]), v[*k].to_string())).collect::<Vec<_>>();
        list.sort_by_cached_key(key);
    }
}

/// Keys whose zero, false or empty value says something else than their absence.
const KEPT: &[&str] = &[
    "Init",
    "Replicas",
    "MaxConcurrent",
    "TotalCompletions",
    "Global",
    "GlobalJob",
    "Parallelism",
    "StopGracePeriod",
    "Mode",
    "Soft",
    "Hard",
    "MaxAttempts",
];

fn without_defaults(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for inner in map.values_mut() {
                without_defaults(inner);
            }
            map.retain(|key, v| match v {
                Value::Null => false,
                _ if KEPT.contains(&key.as_str()) => true,
                Value::Bool(b) => *b,
                Value::Number(n) => n.as_f64() != Some(0.0),
                Value::String(s) => !s.is_empty(),
                Value::Array(a) => !a.is_empty(),
                Value::Object(o) => !o.is_empty(),
            });
        }
        Value::Array(list) => list.iter_mut().for_each(without_defaults),
        _ => {}
    }
}

/// Equal, numbers by their value: a ratio comes back as Go's float32.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x == y,
            #[allow(clippy::cast_possible_truncation)] // that is the point
            _ => x.as_f64().zip(y.as_f64()).is_some_and(|(x, y)| (x as f32).to_bits() == (y as f32).to_bits()),
        },
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w)))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(v, w)| equal(v, w)),
        _ => a == b,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn walk(old: &Value, new: &Value, path: &str, found: &mut Vec<Change>) {
    if equal(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => walk(x, y, &path, found),
                    (x, y) => one_side(x, y, &path, found),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let lacks = |list: &[Value], v: &Value| !list.iter().any(|w| equal(v, w));
            let before = found.len();
            for gone in a.iter().filter(|v| lacks(b, v)) {
                found.push(Change { path: path.to_owned(), old: Some(shown(gone)), new: None });
            }
            for come in b.iter().filter(|v| lacks(a, v)) {
                found.push(Change { path: path.to_owned(), old: None, new: Some(shown(come)) });
            }
            if found.len() == before {
                found.push(Change { path: path.to_owned(), old: Some(shown(old)), new: Some(shown(new)) });
            }
        }
        _ => found.push(Change { path: path.to_owned(), old: Some(shown(old)), new: Some(shown(new)) }),
    }
}

/// What only one side has, by its fields and items.
fn one_side(old: Option<&Value>, new: Option<&Value>, path: &str, found: &mut Vec<Change>) {
    let Some(value) = old.or(new) else { return };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                one_side(old.map(|_| inner), new.map(|_| inner), &format!("{path}.{key}"), found);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for inner in list {
                let text = Some(shown(inner));
                let (old, new) = if old.is_some() { (text, None) } else { (None, text) };
                found.push(Change { path: path.to_owned(), old, new });
            }
        }
        _ => found.push(Change { path: path.to_owned(), old: old.map(shown), new: new.map(shown) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_no_change() {
        let current = json!({
            "Name": "app_web", "Labels": {"a": "b"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "i", "Labels": {}, "Isolation": "default", "Init": false, "Env": ["A=1"],
                                  "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1, "Mode": 0}},
                                             {"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"o": "x"}}}}]},
                "Resources": {"Limits": {}, "Reservations": {}}, "Placement": {}, "ForceUpdate": 3, "Runtime": "container",
                "RestartPolicy": {"Condition": "on-failure", "Delay": 5_000_000_000_i64, "MaxAttempts": 0},
                "Networks": [{"Target": "n2"}, {"Target": "n1", "Aliases": ["web"]}],
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "UpdateConfig": {"Parallelism": 2, "FailureAction": "pause", "Monitor": 5_000_000_000_i64, "MaxFailureRatio": 0.3_f32, "Order": "stop-first"},
            "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 80, "PublishMode": "ingress"}]},
        });
        let wanted = json!({
            "Name": "app_web", "Labels": {"a": "b"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "i", "Init": false, "Env": ["A=1"],
                                  "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1}},
                                             {"Type": "volume", "Target": "/v", "VolumeOptions": {"DriverConfig": {"Options": {"o": "x"}}}}]},
                "Placement": {},
                "RestartPolicy": {"Condition": "on-failure"},
                "Networks": [{"Target": "n1", "Aliases": ["web"]}, {"Target": "n2"}],
            },
            "Mode": {},
            "UpdateConfig": {"Parallelism": 2, "MaxFailureRatio": 0.3, "Delay": 0},
            "RollbackConfig": {"Parallelism": 1},
            "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 80}]},
        });
        assert_eq!(changes(&current, &wanted), []);
    }

    #[test]
    fn each_difference_is_told_by_its_path() {
        let current = json!({"Mode": {"Replicated": {"Replicas": 1}}, "TaskTemplate": {"ContainerSpec": {
            "Image": "i:1", "Env": ["A=1", "B=2"], "Init": false, "Args": ["x", "y"]}}});
        let wanted = json!({"Mode": {"Replicated": {"Replicas": 0}}, "Labels": {"l": "v"}, "TaskTemplate": {"ContainerSpec": {
            "Image": "i:2", "Env": ["A=1", "B=3"], "Args": ["y", "x"]}}, "UpdateConfig": {"Parallelism": 0}});
        let lines: Vec<String> = changes(&current, &wanted)
            .iter()
            .map(|c| format!("{} {} {}", c.path, c.old.as_deref().unwrap_or("-"), c.new.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            lines,
            [
                "Labels.l - v",
                "Mode.Replicated.Replicas 1 0",
                "TaskTemplate.ContainerSpec.Args [\"x\",\"y\"] [\"y\",\"x\"]",
                "TaskTemplate.ContainerSpec.Env B=2 -",
                "TaskTemplate.ContainerSpec.Env - B=3",
                "TaskTemplate.ContainerSpec.Image i:1 i:2",
                "TaskTemplate.ContainerSpec.Init false -",
                "UpdateConfig.FailureAction - pause",
                "UpdateConfig.Monitor - 5000000000",
                "UpdateConfig.Order - stop-first",
                "UpdateConfig.Parallelism - 0",
            ]
        );
    }

    #[test]
    fn a_change_of_mode_is_one() {
        let current = json!({"Mode": {"Replicated": {"Replicas": 1}}});
        let paths: Vec<String> = changes(&current, &json!({"Mode": {"Global": {}}})).into_iter().map(|c| c.path).collect();
        assert_eq!(paths, ["Mode.Global", "Mode.Replicated.Replicas"]);
    }
}
