//! What a swarm does not do: each such key is named, with its path and what to do instead (`swarm-semantics` 9.4).

use crate::node::{Node, Value};
use crate::place::{Place, Report, Warning, WarningKind};

use WarningKind::{Deprecated, Note, Unsupported};

/// Keys of a service. The stock client's lists come first.
const SERVICE: &[(&str, WarningKind, &str)] = &[
    ("build", Unsupported, "a swarm builds no images; build and push the image before, and name it with image"),
    ("cgroupns_mode", Unsupported, NOT_A_SERVICE),
    ("cgroup_parent", Unsupported, NOT_A_SERVICE),
    ("devices", Unsupported, "services get no devices; use deploy.resources.reservations.generic_resources"),
    ("domainname", Unsupported, "use hostname with the whole name"),
    ("external_links", Unsupported, "services reach each other by name over networks"),
    ("ipc", Unsupported, NOT_A_SERVICE),
    ("links", Unsupported, "services on one network reach each other by name; use networks.NAME.aliases for other names"),
    ("mac_address", Unsupported, NOT_A_SERVICE),
    ("network_mode", Unsupported, "use networks; the host's network is an external network of the name host"),
    ("pid", Unsupported, NOT_A_SERVICE),
    ("privileged", Unsupported, "services are never privileged; use cap_add"),
    ("restart", Unsupported, "it is used where deploy.restart_policy is absent; write deploy.restart_policy"),
    ("security_opt", Unsupported, NOT_A_SERVICE),
    ("shm_size", Unsupported, "use a volume of type tmpfs with target /dev/shm and tmpfs.size"),
    ("userns_mode", Unsupported, NOT_A_SERVICE),
    ("container_name", Deprecated, "Setting the container name is not supported."),
    (
        "expose",
        Deprecated,
        "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
    ),
    ("annotations", Note, NOT_A_SERVICE),
    ("attach", Note, "logs are read with service logs"),
    ("blkio_config", Note, NOT_A_SERVICE),
    ("cgroup", Note, NOT_A_SERVICE),
    ("cpu_count", Note, NOT_A_SERVICE),
    ("cpu_percent", Note, NOT_A_SERVICE),
    ("cpu_period", Note, "use deploy.resources.limits.cpus"),
    ("cpu_quota", Note, "use deploy.resources.limits.cpus"),
    ("cpu_rt_period", Note, NOT_A_SERVICE),
    ("cpu_rt_runtime", Note, NOT_A_SERVICE),
    ("cpu_shares", Note, "use deploy.resources.reservations.cpus"),
    ("cpuset", Note, NOT_A_SERVICE),
    ("credential_spec", Note, "credential specs are for Windows; all hosts of this swarm run Linux"),
    ("develop", Note, "it is for development on one machine"),
    ("device_cgroup_rules", Note, NOT_A_SERVICE),
    ("gpus", Note, "use deploy.resources.reservations.generic_resources"),
    ("isolation", Note, "isolation is for Windows; all hosts of this swarm run Linux"),
    ("mem_swappiness", Note, NOT_A_SERVICE),
    ("memswap_limit", Note, NOT_A_SERVICE),
    ("models", Note, "a swarm runs no models"),
    ("oom_kill_disable", Note, NOT_A_SERVICE),
    ("post_start", Note, "services have no hooks"),
    ("pre_stop", Note, "services have no hooks; a task gets stop_signal and has stop_grace_period to end"),
    ("provider", Note, "a swarm runs containers only"),
    ("pull_policy", Note, "each node pulls what it lacks; stack deploy pins the image by its digest (--resolve-image)"),
    ("pull_refresh_after", Note, "stack deploy pins the image by its digest (--resolve-image)"),
    ("runtime", Note, NOT_A_SERVICE),
    ("storage_opt", Note, NOT_A_SERVICE),
    ("use_api_socket", Note, "mount the socket with volumes, and place the service on managers"),
    ("uts", Note, NOT_A_SERVICE),
    ("volumes_from", Note, "name the same volumes in both services"),
];

const NOT_A_SERVICE: &str = "services have no such setting; it has no effect";

/// Looks through a merged file.
pub(crate) fn warn(root: &Node, report: &mut Report) {
    for (name, entry) in root.get("services").into_iter().flat_map(Node::entries) {
        let path = format!("services.{name}");
        for (key, entry) in entry.node.entries() {
            if let Some((_, kind, text)) = SERVICE.iter().find(|(k, _, _)| k == key) {
                tell(report, &entry.key, *kind, key, format!("{path}.{key}"), text);
            }
        }
        inside(&entry.node, &path, report);
    }
    if let Some(entry) = root.map().and_then(|m| m.get("models")) {
        tell(report, &entry.key, Note, "models", "models".to_owned(), "a swarm runs no models");
    }
}

fn tell(report: &mut Report, place: &Place, kind: WarningKind, key: &str, path: String, text: &str) {
    report.warn(Warning { place: place.clone(), kind, key: key.to_owned(), path, text: text.to_owned() });
}

/// Keys within the keys of a service.
fn inside(service: &Node, path: &str, report: &mut Report) {
    let mut note = |node: &Node, key: &str, below: &str, text: &str| {
        if let Some(entry) = node.map().and_then(|m| m.get(key)) {
            tell(report, &entry.key, Note, key, format!("{path}.{below}.{key}"), text);
        }
    };
    for (name, entry) in service.get("depends_on").into_iter().flat_map(Node::entries) {
        let below = format!("depends_on.{name}");
        if entry.node.get("condition").and_then(Node::str).is_some_and(|c| c != "service_started") {
            let text = "services start at once and in no order; let the service try again until the other one serves";
            note(&entry.node, "condition", &below, text);
        }
        if matches!(entry.node.get("restart").map(|n| &n.value), Some(Value::Bool(true))) {
            note(&entry.node, "restart", &below, "services do not restart with others");
        }
    }
    for (name, entry) in service.get("networks").into_iter().flat_map(Node::entries) {
        for key in ["ipv4_address", "ipv6_address", "link_local_ips", "mac_address"] {
            let text = "a task's addresses are chosen by the swarm; use the service's name";
            note(&entry.node, key, &format!("networks.{name}"), text);
        }
        for key in ["interface_name", "priority", "gw_priority"] {
            note(&entry.node, key, &format!("networks.{name}"), NOT_A_SERVICE);
        }
    }
    for (n, port) in service.get("ports").map(Node::items).unwrap_or_default().iter().enumerate() {
        if let Some(ip) = port.get("host_ip").and_then(Node::str)
            && !["0.0.0.0", "::"].contains(&ip)
        {
            let published = port.get("published").and_then(Node::scalar).unwrap_or_default();
            let target = port.get("target").and_then(Node::scalar).unwrap_or_default();
            let text = format!("ignoring IP-address ({ip}:{published}:{target}) service will listen on '0.0.0.0'");
            let path = format!("{path}.ports.{n}");
            tell(report, &port.at, Note, "host_ip", path, &text);
        }
    }
    let mut note = |node: Option<&Node>, key: &str, below: &str, text: &str| {
        if let Some(entry) = node.and_then(Node::map).and_then(|m| m.get(key)) {
            tell(report, &entry.key, Note, key, format!("{path}.{below}.{key}"), text);
        }
    };
    for (n, mount) in service.get("volumes").map(Node::items).unwrap_or_default().iter().enumerate() {
        let bind = mount.get("bind");
        note(bind, "selinux", &format!("volumes.{n}.bind"), NOT_A_SERVICE);
        let text = "the host's directory must exist on every node that runs a task; services do not create it";
        if matches!(bind.and_then(|b| b.get("create_host_path")).map(|n| &n.value), Some(Value::Bool(true))) {
            note(bind, "create_host_path", &format!("volumes.{n}.bind"), text);
        }
    }
    let reservations = service.get("deploy").and_then(|d| d.get("resources")).and_then(|r| r.get("reservations"));
    let text = "use generic_resources; nodes name theirs with --node-generic-resource";
    note(reservations, "devices", "deploy.resources.reservations", text);
}
