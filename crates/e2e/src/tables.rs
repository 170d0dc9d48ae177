//! Whether every host's kernel and resolvers have what the running tasks need, and nothing else: the exported dump beside the tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::bed::Bed;
use crate::wait;

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_owned()
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bare(addr: &Value) -> String {
    text(addr).split('/').next().unwrap_or_default().to_owned()
}

/// The dump of a host.
///
/// # Errors
/// What the daemon said.
pub fn dump(bed: &Bed, host: &str) -> Result<Value, String> {
    bed.api(host, "GET", "/skep/v1/network/dump", None)
}

/// A running task.
struct Task {
    service: String,
    node: String,
    /// Address by network.
    at: BTreeMap<String, String>,
    /// Its addresses of both families, by network.
    both: BTreeMap<String, Vec<String>>,
}

/// What the managers say, as the API tells it.
struct Truth {
    tasks: Vec<Task>,
    services: Vec<Value>,
    ingress: String,
}

fn truth(bed: &Bed, teller: &str) -> Result<Truth, String> {
    let get = |path: &str| bed.api(teller, "GET", path, None);
    let services = list(&get("/services")?).to_vec();
    let networks = get("/networks?filters=%7B%22scope%22%3A%5B%22swarm%22%5D%7D")?;
    let ingress = list(&networks).iter().find(|n| n["Ingress"] == true).map(|n| text(&n["Id"])).unwrap_or_default();
    let mut tasks = Vec::new();
    for t in list(&get("/tasks")?) {
        let (state, desired) = (text(&t["Status"]["State"]), text(&t["DesiredState"]));
        let over = ["complete", "failed", "rejected", "shutdown", "orphaned", "remove"].contains(&state.as_str());
        if over {
            continue;
        }
        if state != "running" || desired != "running" {
            return Err(format!("task {} is {state}, and should be {desired}", text(&t["ID"])));
        }
        let at = list(&t["NetworksAttachments"]).iter().map(|a| (text(&a["Network"]["ID"]), bare(&a["Addresses"][0])));
        let every = |a: &Value| list(&a["Addresses"]).iter().map(bare).collect();
        let both = list(&t["NetworksAttachments"]).iter().map(|a| (text(&a["Network"]["ID"]), every(a)));
        let (at, both) = (at.collect(), both.collect());
        tasks.push(Task { service: text(&t["ServiceID"]), node: text(&t["NodeID"]), at, both });
    }
    Ok(Truth { tasks, services, ingress })
}

/// Waits until nothing moves any more and each of the hosts has exactly what the tasks need.
///
/// # Panics
/// After `limit`, with the first thing that is not as it should be.
pub fn await_equal(bed: &Bed, hosts: &[&str], teller: &str, limit: Duration) {
    wait("the tables of all hosts to be those of the running tasks", limit, || {
        let truth = truth(bed, teller)?;
        hosts.iter().try_for_each(|host| host_equal(bed, host, &truth).map_err(|why| format!("{host}: {why}")))
    });
}

fn host_equal(bed: &Bed, host: &str, truth: &Truth) -> Result<(), String> {
    let dump = dump(bed, host)?;
    let node = text(&dump["NodeID"]);
    for space in list(&dump["Spaces"]) {
        if let Some(difference) = list(&space["Differences"]).first() {
            return Err(format!("{}: {difference}", text(&space["Name"])));
        }
    }
    let running = bed.api(host, "GET", "/containers/json", None)?;
    let networked =
        list(&running).iter().filter(|c| !["host", "none"].contains(&text(&c["HostConfig"]["NetworkMode"]).as_str()));
    let spaces = |kind: &str| list(&dump["Spaces"]).iter().filter(|s| text(&s["Name"]).starts_with(kind)).collect::<Vec<_>>();
    same("namespaces of containers", spaces("ct-").len(), networked.count())?;
    mesh(&dump, &node, truth)?;
    for space in spaces("ct-") {
        balancers(space, truth)?;
    }
    for space in spaces("ov-") {
        forwarding(space, &node, truth)?;
    }
    names(&dump, &running, truth)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: T, should: T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?} instead of {should:?}")) }
}

/// Values of a set by all but the last part of their keys.
fn grouped(set: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in set.as_object().into_iter().flatten() {
        let (group, _) = key.rsplit_once(" . ").unwrap_or((key, ""));
        out.entry(group.to_owned()).or_default().insert(text(value));
    }
    out
}

/// Published ports lead to the running tasks of their services: those elsewhere by their mesh addresses.
fn mesh(dump: &Value, node: &str, truth: &Truth) -> Result<(), String> {
    let host = list(&dump["Spaces"]).iter().find(|s| s["Name"] == "host").ok_or("no namespace of the host")?;
    mesh_of(&host["Sets"]["ip skep pubbe"], 0, node, truth)?;
    // A mesh of the version before, or a kernel without IPv6, has one family.
    match host["Sets"].get("ip6 skep pubbe") {
        Some(six) => mesh_of(six, 1, node, truth),
        None => Ok(()),
    }
}

/// The same of one family, whose addresses are at this place in lists of both.
fn mesh_of(set: &Value, family: usize, node: &str, truth: &Truth) -> Result<(), String> {
    let is = grouped(set);
    let mut ports = BTreeSet::new();
    for service in &truth.services {
        let tasks: Vec<&Task> = truth.tasks.iter().filter(|t| t.service == text(&service["ID"])).collect();
        for port in list(&service["Endpoint"]["Ports"]).iter().filter(|p| p["PublishMode"] == "ingress") {
            let key = format!("{} . {}", text(&port["Protocol"]), port["PublishedPort"]);
            let targets = is.get(&key).cloned().unwrap_or_default();
            same(&format!("targets of {key}"), targets.len(), tasks.len())?;
            for task in tasks.iter().filter(|t| t.node != node) {
                let addr = task.both.get(&truth.ingress).and_then(|both| both.get(family)).map_or("", String::as_str);
                let wanted = format!("{addr} . {}", port["TargetPort"]);
                if !targets.contains(&wanted) {
                    return Err(format!("{key} does not lead to {wanted}, but to {targets:?}"));
                }
            }
            if !tasks.is_empty() {
                ports.insert(key);
            }
        }
    }
    same("published ports", is.into_keys().collect(), ports)
}

/// A virtual address leads to the running tasks of its service.
fn balancers(space: &Value, truth: &Truth) -> Result<(), String> {
    ["ip skep be", "ip6 skep be"].iter().try_for_each(|set| balancers_of(space, set, truth))
}

fn balancers_of(space: &Value, set: &str, truth: &Truth) -> Result<(), String> {
    let is = grouped(&space["Sets"][set]);
    let mut known = BTreeSet::new();
    for service in &truth.services {
        for vip in list(&service["Endpoint"]["VirtualIPs"]) {
            let (network, addr) = (text(&vip["NetworkID"]), bare(&vip["Addr"]));
            let tasks = truth.tasks.iter().filter(|t| t.service == text(&service["ID"]));
            let all = tasks.filter_map(|t| t.both.get(&network)).flatten();
            let wanted: BTreeSet<String> = all.filter(|a| a.contains(':') == addr.contains(':')).cloned().collect();
            if let Some(backends) = is.get(&addr) {
                same(&format!("{}: backends of {addr}", text(&space["Name"])), backends, &wanted)?;
            }
            known.insert(addr);
        }
    }
    match is.keys().find(|vip| !known.contains(*vip)) {
        Some(vip) => Err(format!("{}: {vip} is no service's address", text(&space["Name"]))),
        None => Ok(()),
    }
}

/// VXLAN devices know the tasks on other nodes, and no others that are none.
fn forwarding(space: &Value, node: &str, truth: &Truth) -> Result<(), String> {
    let mac = |addr: &str| {
        let bytes = addr.split('.').filter_map(|b| b.parse::<u8>().ok()).map(|b| format!(":{b:02x}"));
        format!("02:42{} dev vx0", bytes.collect::<String>())
    };
    let is: BTreeSet<String> = space["Forwarding"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    let name = text(&space["Name"]);
    let here = |id: &String| name.strip_prefix("ov-").is_some_and(|short| id.starts_with(short));
    let away = truth.tasks.iter().filter(|t| t.node != node);
    let wanted: BTreeSet<String> = away.flat_map(|t| t.at.iter().filter(|(id, _)| here(id)).map(|(_, a)| mac(a))).collect();
    match wanted.difference(&is).next() {
        Some(missing) => Err(format!("{name}: {missing} has no forwarding entry")),
        None => Ok(()),
    }
}

/// The resolver of each container names the services of its networks, with their running tasks.
fn names(dump: &Value, running: &Value, truth: &Truth) -> Result<(), String> {
    for resolver in list(&dump["Names"]) {
        let container = list(running).iter().find(|c| c["Id"] == resolver["Container"]);
        let network = text(&resolver["Network"]);
        let id = container.map(|c| text(&c["NetworkSettings"]["Networks"][&network]["NetworkID"])).unwrap_or_default();
        for service in &truth.services {
            let attached = list(&service["Spec"]["TaskTemplate"]["Networks"]).iter().any(|n| text(&n["Target"]) == id);
            if !attached || id.is_empty() {
                continue;
            }
            let tasks = truth.tasks.iter().filter(|t| t.service == text(&service["ID"]));
            let wanted: BTreeSet<String> = tasks.filter_map(|t| t.both.get(&id)).flatten().cloned().collect();
            let key = format!("tasks.{}", text(&service["Spec"]["Name"]));
            let is: BTreeSet<String> = list(&resolver["Names"][&key]).iter().map(text).collect();
            same(&format!("{key} in {}", text(&resolver["Container"])), is, wanted)?;
        }
    }
    Ok(())
}
