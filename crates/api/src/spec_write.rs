//! Specs as clients read them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use skep_types::file::{FileKind, FileRef};
use skep_types::spec::{
    ContainerSpec, DnsConfig, EndpointMode, EndpointSpec, FailureAction, GenericResource, Mount, MountKind, PortConfig,
    PublishMode, Resources, RestartCondition, RestartPolicy, Seccomp, ServiceMode, ServiceSpec, TaskSpec, Ulimit, UpdateConfig,
    UpdateOrder,
};

use crate::swarm::nanos;

pub(crate) fn mount(m: &Mount) -> Value {
    let kind = match m.kind {
        MountKind::Bind => "bind",
        MountKind::Volume => "volume",
        MountKind::Tmpfs => "tmpfs",
    };
    let mut out = json!({"Type": kind, "Target": m.target});
    if !m.source.is_empty() {
        out["Source"] = json!(m.source);
    }
    if m.read_only {
        out["ReadOnly"] = json!(true);
    }
    if m.no_copy || !m.volume_labels.is_empty() {
        out["VolumeOptions"] = json!({"NoCopy": m.no_copy, "Labels": m.volume_labels});
    }
    if m.volume_driver.is_some() || !m.volume_options.is_empty() {
        let driver = m.volume_driver.as_deref().unwrap_or("local");
        out["VolumeOptions"]["DriverConfig"] = json!({"Name": driver});
        if !m.volume_options.is_empty() {
            out["VolumeOptions"]["DriverConfig"]["Options"] = json!(m.volume_options);
        }
    }
    if m.tmpfs_size != 0 || m.tmpfs_mode != 0 {
        out["TmpfsOptions"] = json!({"SizeBytes": m.tmpfs_size, "Mode": m.tmpfs_mode});
    }
    out
}

/// Adds a text, list or map that is not empty.
fn put(out: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    };
    if !empty {
        out.insert(key.to_owned(), value);
    }
}

fn container(c: &ContainerSpec, defaults: bool) -> Value {
    let mut out = Map::new();
    put(&mut out, "Image", json!(c.image));
    put(&mut out, "Labels", json!(c.labels));
    put(&mut out, "Command", json!(c.command));
    put(&mut out, "Args", json!(c.args));
    put(&mut out, "Hostname", json!(c.hostname));
    put(&mut out, "Env", json!(c.env));
    put(&mut out, "Dir", json!(c.dir));
    put(&mut out, "User", json!(c.user));
    put(&mut out, "TTY", json!(c.tty));
    put(&mut out, "OpenStdin", json!(c.open_stdin));
    put(&mut out, "ReadOnly", json!(c.read_only));
    put(&mut out, "Mounts", c.mounts.iter().map(mount).collect());
    put(&mut out, "StopSignal", json!(c.stop_signal));
    put(&mut out, "Hosts", json!(c.hosts));
    let grace = c.stop_grace.or(defaults.then_some(Duration::from_secs(10)));
    if let Some(grace) = grace {
        out.insert("StopGracePeriod".to_owned(), json!(nanos(grace)));
    }
    if let Some(health) = &c.health {
        out.insert("Healthcheck".to_owned(), crate::health_json::config(health));
    }
    if let Some(init) = c.init {
        out.insert("Init".to_owned(), json!(init));
    }
    put(&mut out, "Groups", json!(c.groups));
    put(&mut out, "Sysctls", json!(c.sysctls));
    put(&mut out, "CapabilityAdd", json!(c.cap_add));
    put(&mut out, "CapabilityDrop", json!(c.cap_drop));
    put(&mut out, "Ulimits", ulimits(&c.ulimits));
    if c.oom_score_adj != 0 {
        out.insert("OomScoreAdj".to_owned(), json!(c.oom_score_adj));
    }
    let mut privileges = Map::new();
    match &c.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => drop(privileges.insert("Seccomp".to_owned(), json!({"Mode": "unconfined"}))),
        Seccomp::Custom(profile) => {
            let profile = json!({"Mode": "custom", "Profile": BASE64.encode(profile)});
            privileges.insert("Seccomp".to_owned(), profile);
        }
    }
    if c.no_new_privileges {
        privileges.insert("NoNewPrivileges".to_owned(), json!(true));
    }
    if let Some(s) = &c.selinux {
        let context = json!({"Disable": s.disable, "User": s.user, "Role": s.role, "Type": s.kind, "Level": s.level});
        privileges.insert("SELinuxContext".to_owned(), context);
    }
    if !privileges.is_empty() {
        out.insert("Privileges".to_owned(), Value::Object(privileges));
    }
    if c.dns != DnsConfig::default() || defaults {
        let mut dns = Map::new();
        put(&mut dns, "Nameservers", json!(c.dns.nameservers));
        put(&mut dns, "Search", json!(c.dns.search));
        put(&mut dns, "Options", json!(c.dns.options));
        out.insert("DNSConfig".to_owned(), Value::Object(dns));
    }
    put(&mut out, "Secrets", files(c, FileKind::Secret));
    put(&mut out, "Configs", files(c, FileKind::Config));
    out.insert("Isolation".to_owned(), json!("default"));
    Value::Object(out)
}

/// Limits of processes.
pub(crate) fn ulimits(all: &[Ulimit]) -> Value {
    all.iter().map(|u| json!({"Name": u.name, "Soft": u.soft, "Hard": u.hard})).collect()
}

fn files(c: &ContainerSpec, kind: FileKind) -> Value {
    let word = match kind {
        FileKind::Secret => "Secret",
        FileKind::Config => "Config",
    };
    let one = |f: &FileRef| {
        let mut out = json!({"File": {"Name": f.target, "UID": f.uid.to_string(), "GID": f.gid.to_string(), "Mode": f.mode}});
        out[format!("{word}ID")] = json!(f.id);
        out[format!("{word}Name")] = json!(f.name);
        out
    };
    c.files.iter().filter(|f| f.kind == kind).map(one).collect()
}

fn resources(r: &Resources) -> Value {
    let side = |cpus: u64, memory: u64, pids: u64| {
        let mut out = Map::new();
        for (key, value) in [("NanoCPUs", cpus), ("MemoryBytes", memory), ("Pids", pids)] {
            if value != 0 {
                out.insert(key.to_owned(), json!(value));
            }
        }
        Value::Object(out)
    };
    let mut reserved = side(r.reserve_nano_cpus, r.reserve_memory, 0);
    if !r.reserve_generic.is_empty() {
        let one = |(kind, value)| json!({"DiscreteResourceSpec": {"Kind": kind, "Value": value}});
        reserved["GenericResources"] = r.reserve_generic.iter().map(one).collect();
    }
    json!({"Limits": side(r.limit_nano_cpus, r.limit_memory, r.limit_pids), "Reservations": reserved})
}

/// Generic resources of a node or a task.
pub(crate) fn generic(all: &[GenericResource]) -> Value {
    let one = |r: &GenericResource| match r {
        GenericResource::Discrete { kind, count } => json!({"DiscreteResourceSpec": {"Kind": kind, "Value": count}}),
        GenericResource::Named { kind, id } => json!({"NamedResourceSpec": {"Kind": kind, "Value": id}}),
    };
    all.iter().map(one).collect()
}

fn restart(r: &RestartPolicy) -> Value {
    let condition = match r.condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    let mut out = json!({"Condition": condition, "Delay": nanos(r.delay), "MaxAttempts": r.max_attempts});
    if !r.window.is_zero() {
        out["Window"] = json!(nanos(r.window));
    }
    out
}

pub(crate) fn task(t: &TaskSpec, defaults: bool) -> Value {
    let networks: Vec<Value> = t
        .networks
        .iter()
        .map(|n| {
            let mut out = json!({"Target": n.target});
            if !n.aliases.is_empty() {
                out["Aliases"] = json!(n.aliases);
            }
            out
        })
        .collect();
    let mut placement = Map::new();
    put(&mut placement, "Constraints", json!(t.placement.constraints));
    let spread = |p: &String| json!({"Spread": {"SpreadDescriptor": p}});
    put(&mut placement, "Preferences", t.placement.preferences.iter().map(spread).collect());
    if t.placement.max_replicas != 0 {
        placement.insert("MaxReplicas".to_owned(), json!(t.placement.max_replicas));
    }
    let platforms = t.placement.platforms.iter().map(|(os, arch)| json!({"Architecture": arch, "OS": os})).collect();
    put(&mut placement, "Platforms", platforms);
    let mut out = json!({
        "ContainerSpec": container(&t.container, defaults), "Resources": resources(&t.resources), "Placement": placement,
        "ForceUpdate": t.force_update, "Runtime": "container",
    });
    if let Some(policy) = t.restart.clone().or(defaults.then(RestartPolicy::default)) {
        out["RestartPolicy"] = restart(&policy);
    }
    if !networks.is_empty() {
        out["Networks"] = Value::Array(networks);
    }
    if let Some(driver) = &t.log_driver {
        out["LogDriver"] = json!({"Name": driver});
        if !t.log_options.is_empty() {
            out["LogDriver"]["Options"] = json!(t.log_options);
        }
    }
    out
}

fn update(u: &UpdateConfig) -> Value {
    let action = match u.failure_action {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
    };
    let order = match u.order {
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::StartFirst => "start-first",
    };
    let mut out = json!({
        "Parallelism": u.parallelism, "FailureAction": action, "Monitor": nanos(u.monitor),
        "MaxFailureRatio": u.max_failure_ratio, "Order": order,
    });
    if !u.delay.is_zero() {
        out["Delay"] = json!(nanos(u.delay));
    }
    out
}

pub(crate) fn port(p: &PortConfig) -> Value {
    let mode = match p.mode {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    let mut out = json!({"Protocol": p.protocol.as_str(), "TargetPort": p.target, "PublishMode": mode});
    if p.published != 0 {
        out["PublishedPort"] = json!(p.published);
    }
    if !p.name.is_empty() {
        out["Name"] = json!(p.name);
    }
    if let Some(ip) = p.host_ip {
        out["HostIP"] = json!(ip);
    }
    out
}

pub(crate) fn endpoint(e: &EndpointSpec) -> Value {
    let mode = match e.mode {
        EndpointMode::Vip => "vip",
        EndpointMode::Dnsrr => "dnsrr",
    };
    let mut out = json!({ "Mode": mode });
    if !e.ports.is_empty() {
        out["Ports"] = e.ports.iter().map(port).collect();
    }
    out
}

/// A service's spec; with `defaults`, what applies where it says nothing is filled in.
pub(crate) fn service(s: &ServiceSpec, defaults: bool) -> Value {
    let mode = match s.mode {
        ServiceMode::Replicated { replicas } => json!({"Replicated": {"Replicas": replicas}}),
        ServiceMode::Global => json!({"Global": {}}),
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            json!({"ReplicatedJob": {"MaxConcurrent": max_concurrent, "TotalCompletions": total_completions}})
        }
        ServiceMode::GlobalJob => json!({"GlobalJob": {}}),
    };
    let mut out = json!({
        "Name": s.name, "Labels": s.labels, "TaskTemplate": task(&s.task, defaults),
        "Mode": mode, "EndpointSpec": endpoint(&s.endpoint),
    });
    for (key, config) in [("UpdateConfig", &s.update), ("RollbackConfig", &s.rollback)] {
        if let Some(config) = config.clone().or((defaults && !s.mode.is_job()).then(UpdateConfig::default)) {
            out[key] = update(&config);
        }
    }
    out
}
