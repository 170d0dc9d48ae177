//! Flags of `service update` that add to lists of a spec and take from them. Pure; what is kept keeps its order.

use serde_json::{Value, json};

use super::create::{capabilities, each};
use super::spec::{CONTAINER, container};
use crate::app::Failure;
use crate::grammar::Matches;
use crate::options::{environment, map, mount, port, put, refs};

/// The list at a path; empty if there is none.
fn at(spec: &Value, path: &[&str]) -> Vec<Value> {
    let found = path.iter().try_fold(spec, |v, key| v.get(key));
    found.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Puts a list back, if it has changed.
fn back(spec: &mut Value, path: &[&str], list: Vec<Value>) {
    if list != at(spec, path) {
        put(spec, path, list);
    }
}

/// A list of texts: those taken away, then those added that are not there yet. `is` tells whether an element is meant.
fn texts(spec: &mut Value, path: &[&str], remove: &[String], add: Vec<String>, is: impl Fn(&str, &str) -> bool) {
    let mut list = at(spec, path);
    list.retain(|v| !remove.iter().any(|r| is(v.as_str().unwrap_or_default(), r)));
    for one in add {
        if !list.iter().any(|v| v == one.as_str()) {
            list.push(one.into());
        }
    }
    back(spec, path, list);
}

/// A list of objects with a key each: those taken away, then those added in place of the ones of the same key.
fn keyed(spec: &mut Value, path: &[&str], remove: &[String], add: Vec<Value>, key: impl Fn(&Value) -> String) {
    let mut list = at(spec, path);
    list.retain(|v| !remove.contains(&key(v)));
    for one in add {
        match list.iter_mut().find(|v| key(v) == key(&one)) {
            Some(old) => *old = one,
            None => list.push(one),
        }
    }
    back(spec, path, list);
}

/// Labels and settings: added, changed, taken away.
fn pairs(spec: &mut Value, path: &[&str], remove: &[String], add: &[String]) {
    if remove.is_empty() && add.is_empty() {
        return;
    }
    let found = path.iter().try_fold(&*spec, |v, key| v.get(key));
    let mut all = found.and_then(Value::as_object).cloned().unwrap_or_default();
    all.retain(|k, _| !remove.contains(k));
    if let Value::Object(added) = map(add) {
        all.extend(added);
    }
    put(spec, path, Value::Object(all));
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_owned()
}

/// Applies them all.
pub(super) fn change(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    const T: &str = "TaskTemplate";
    let same = |a: &str, b: &str| a == b;
    let dns = |key: &'static str| [CONTAINER, &["DNSConfig", key]].concat();
    for (flag, path) in [
        ("dns", dns("Nameservers")),
        ("dns-search", dns("Search")),
        ("dns-option", dns("Options")),
        ("group", container("Groups")),
        ("constraint", vec![T, "Placement", "Constraints"]),
    ] {
        texts(spec, &path, m.list(&format!("{flag}-rm")), m.list(&format!("{flag}-add")).to_vec(), same);
    }
    for (flag, path) in [("label", vec!["Labels"]), ("container-label", container("Labels")), ("sysctl", container("Sysctls"))]
    {
        pairs(spec, &path, m.list(&format!("{flag}-rm")), m.list(&format!("{flag}-add")));
    }
    let env: Vec<Value> = environment(&[], m.list("env-add")).map_err(Failure::new)?.into_iter().map(Value::from).collect();
    let name = |v: &Value| text(v).split('=').next().unwrap_or_default().to_owned();
    keyed(spec, &container("Env"), m.list("env-rm"), env, name);
    let hosts = each(m, "host-add", refs::host)?;
    // `name:ip` takes one away, a name alone all of it.
    texts(spec, &container("Hosts"), m.list("host-rm"), hosts, |have, gone| {
        let (ip, names) = have.split_once(' ').unwrap_or((have, ""));
        let (name, of) = gone.split_once(':').unwrap_or((gone, ""));
        names.split(' ').any(|n| n == name) && (of.is_empty() || of == ip)
    });
    keyed(spec, &container("Mounts"), m.list("mount-rm"), each(m, "mount-add", mount::parse)?, |v| text(&v["Target"]));
    keyed(spec, &container("Ulimits"), m.list("ulimit-rm"), each(m, "ulimit-add", refs::ulimit)?, |v| text(&v["Name"]));
    keyed(
        spec,
        &[T, "Resources", "Reservations", "GenericResources"],
        m.list("generic-resource-rm"),
        each(m, "generic-resource-add", refs::generic)?,
        |v| text(&v["DiscreteResourceSpec"]["Kind"]) + &text(&v["NamedResourceSpec"]["Kind"]),
    );
    for (kind, flag) in [("Secret", "secret"), ("Config", "config")] {
        let path = container(if kind == "Secret" { "Secrets" } else { "Configs" });
        let add = each(m, &format!("{flag}-add"), |v| refs::file(kind, v))?;
        let mut list = at(spec, &path);
        list.retain(|v| !m.list(&format!("{flag}-rm")).contains(&text(&v[format!("{kind}Name")])));
        // One that is given again is given so from now on.
        list.retain(|v| {
            !add.iter().any(|a| a[format!("{kind}Name")] == v[format!("{kind}Name")] && a["File"]["Name"] == v["File"]["Name"])
        });
        list.extend(add);
        back(spec, &path, list);
    }
    let mut preferences = at(spec, &[T, "Placement", "Preferences"]);
    let gone = each(m, "placement-pref-rm", refs::preference)?;
    preferences.retain(|p| !gone.contains(p));
    preferences.extend(each(m, "placement-pref-add", refs::preference)?);
    back(spec, &[T, "Placement", "Preferences"], preferences);
    capability(spec, m);
    ports(spec, m)
}

/// What is added is dropped no more, and the other way round.
fn capability(spec: &mut Value, m: &Matches) {
    let (add, drop) = (capabilities(m.list("cap-add")), capabilities(m.list("cap-drop")));
    for (path, more, less) in [("CapabilityAdd", &add, &drop), ("CapabilityDrop", &drop, &add)] {
        let path = container(path);
        let mut list = at(spec, &path);
        list.retain(|c| !less.contains(c));
        list.extend(more.iter().filter(|c| !list.contains(c)).cloned().collect::<Vec<_>>());
        back(spec, &path, list);
    }
}

fn ports(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    let mut list = at(spec, &["EndpointSpec", "Ports"]);
    for gone in each(m, "publish-rm", port::short)?.into_iter().flatten() {
        let published: Option<u64> = gone.published.parse().ok();
        list.retain(|p| {
            let fits = p["TargetPort"] == gone.target && p["Protocol"].as_str().unwrap_or("tcp") == gone.protocol;
            !(fits && published.is_none_or(|n| p["PublishedPort"] == n))
        });
    }
    let key = |p: &Value| json!([p["TargetPort"], p["Protocol"], p["PublishMode"], p["PublishedPort"]]);
    for one in each(m, "publish-add", port::service)?.into_iter().flatten() {
        if !list.iter().any(|p| key(p) == key(&one)) {
            list.push(one);
        }
    }
    back(spec, &["EndpointSpec", "Ports"], list);
    Ok(())
}
