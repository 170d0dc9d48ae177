//! A service's spec as clients send it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use skep_types::file::{FileKind, FileRef};
use skep_types::spec::{
    ContainerSpec, DnsConfig, EndpointMode, EndpointSpec, FailureAction, NetworkAttachmentSpec, Placement, PortConfig,
    Protocol, PublishMode, Resources, RestartCondition, RestartPolicy, Seccomp, SelinuxContext, ServiceMode, ServiceSpec,
    TaskSpec, UpdateConfig, UpdateOrder,
};
use skep_types::{limits, logdriver};

use crate::create_json::{custom_seccomp, mount, ulimits};
use crate::error::{Failure, Handled};
use crate::fields::Fields;

/// Networks of a spec as the client named them; resolved to ids afterwards.
pub(crate) type NamedNetworks = Vec<(String, Vec<String>)>;

/// They are for Windows, and nobody's Linux has a use for them.
pub(crate) const NO_CREDENTIAL_SPECS: &str =
    "credential specs are for containers of Windows: this swarm runs containers of Linux, leave --credential-spec out";

fn invalid(message: impl std::fmt::Display) -> Failure {
    Failure::invalid(format!("rpc error: code = InvalidArgument desc = {message}"))
}

/// A duration in nanoseconds; a negative one is refused by the name that Docker gives it.
fn duration(f: &mut Fields, key: &str, name: &str) -> Handled<Option<Duration>> {
    let value: Option<i64> = f.option(key)?;
    let fits = |n: i64| u64::try_from(n).map_err(|_| invalid(format!("{name} cannot be negative")));
    Ok(value.map(fits).transpose()?.map(Duration::from_nanos))
}

/// The spec without its networks, and the networks by name.
pub(crate) fn service(mut f: Fields) -> Handled<(ServiceSpec, NamedNetworks)> {
    let mut template = f.object("TaskTemplate")?;
    let mut networks = networks(&mut template)?;
    networks.extend(self::networks(&mut f)?);
    let spec = ServiceSpec {
        name: f.get("Name")?,
        labels: f.get("Labels")?,
        mode: mode(f.object("Mode")?)?,
        task: task(template)?,
        update: f.object_option("UpdateConfig")?.map(|u| update(u, "update")).transpose()?,
        rollback: f.object_option("RollbackConfig")?.map(|u| update(u, "rollback")).transpose()?,
        endpoint: endpoint(f.object("EndpointSpec")?)?,
    };
    f.finish()?;
    Ok((spec, networks))
}

fn networks(f: &mut Fields) -> Handled<NamedNetworks> {
    let mut out = Vec::new();
    for mut n in f.objects("Networks")? {
        out.push((n.get("Target")?, n.get("Aliases")?));
        n.finish()?;
    }
    Ok(out)
}

/// A number of tasks that clients send as a signed or as an unsigned one: Go's cast of -1 is refused like -1 itself.
fn count(f: &mut Fields, key: &str, negative: &str) -> Handled<Option<u64>> {
    let number: Option<serde_json::Number> = f.option(key)?;
    let fits = |n: serde_json::Number| n.as_u64().filter(|n| i64::try_from(*n).is_ok()).ok_or_else(|| invalid(negative));
    number.map(fits).transpose()
}

fn mode(mut f: Fields) -> Handled<ServiceMode> {
    let mut found = Vec::new();
    if let Some(mut r) = f.object_option("Replicated")? {
        let replicas = count(&mut r, "Replicas", "Number of replicas must be non-negative")?.unwrap_or(1);
        r.finish()?;
        found.push(ServiceMode::Replicated { replicas });
    }
    if let Some(g) = f.object_option("Global")? {
        g.finish()?;
        found.push(ServiceMode::Global);
    }
    if let Some(mut j) = f.object_option("ReplicatedJob")? {
        let max_concurrent = count(&mut j, "MaxConcurrent", "Maximum concurrent jobs must not be negative")?.unwrap_or(1);
        let total = count(&mut j, "TotalCompletions", "Total completed jobs must not be negative")?;
        j.finish()?;
        found.push(ServiceMode::ReplicatedJob { max_concurrent, total_completions: total.unwrap_or(max_concurrent) });
    }
    if let Some(j) = f.object_option("GlobalJob")? {
        j.finish()?;
        found.push(ServiceMode::GlobalJob);
    }
    f.finish()?;
    if found.len() > 1 {
        return Err(Failure::invalid("must specify only one service mode"));
    }
    Ok(found.pop().unwrap_or(ServiceMode::Replicated { replicas: 1 }))
}

fn task(mut f: Fields) -> Handled<TaskSpec> {
    match f.get::<String>("Runtime")?.as_str() {
        "" | "container" => {}
        "plugin" | "attachment" => return Err(Failure::unbuilt("a service that runs no containers")),
        _ => return Err(Failure::invalid("unsupported runtime")),
    }
    let mut log = f.object("LogDriver")?;
    let name: String = log.get("Name")?;
    let options: BTreeMap<String, String> = log.get("Options")?;
    log.finish()?;
    match logdriver::check(&name, &options) {
        // A driver that no node has is the scheduler's to refuse, as in Docker.
        Ok(()) | Err(logdriver::Fault::Unknown(_)) => {}
        Err(logdriver::Fault::Unbuilt(what)) => return Err(Failure::unbuilt(what)),
        Err(logdriver::Fault::Invalid(text)) => return Err(Failure::invalid(text)),
    }
    let log_driver = if name.is_empty() && !options.is_empty() { Some("json-file".to_owned()) } else { Some(name) };
    let spec = TaskSpec {
        container: container(
            f.object_option("ContainerSpec")?.ok_or_else(|| Failure::invalid("mismatched Runtime and *Spec fields"))?,
        )?,
        resources: resources(f.object("Resources")?)?,
        restart: f.object_option("RestartPolicy")?.map(restart).transpose()?,
        placement: placement(f.object("Placement")?)?,
        networks: Vec::new(),
        force_update: f.get("ForceUpdate")?,
        registry_auth: None,
        log_driver: log_driver.filter(|d| !d.is_empty()),
        log_options: options,
    };
    f.finish()?;
    Ok(spec)
}

fn container(mut f: Fields) -> Handled<ContainerSpec> {
    let (no_new_privileges, seccomp, selinux) = privileges(f.object("Privileges")?)?;
    let spec = ContainerSpec {
        image: f.get("Image")?,
        labels: f.get("Labels")?,
        command: f.get("Command")?,
        args: f.get("Args")?,
        hostname: f.get("Hostname")?,
        env: f.get("Env")?,
        dir: f.get("Dir")?,
        user: f.get("User")?,
        tty: f.get("TTY")?,
        open_stdin: f.get("OpenStdin")?,
        read_only: f.get("ReadOnly")?,
        mounts: f
            .objects("Mounts")?
            .into_iter()
            .map(|m| mount(m, |kind| format!("invalid MountType: {kind:?}")))
            .collect::<Handled<Vec<_>>>()?,
        stop_signal: f.get("StopSignal")?,
        stop_grace: duration(&mut f, "StopGracePeriod", "ContainerSpec: stop-grace-period")?,
        health: f
            .object_option("Healthcheck")?
            .map(|h| {
                crate::health_json::read(h, "HealthConfig").map_err(|e| invalid(format!("ContainerSpec: {}", e.0.message)))
            })
            .transpose()?,
        hosts: f.get("Hosts")?,
        init: f.option("Init")?,
        files: [FileKind::Secret, FileKind::Config]
            .into_iter()
            .map(|kind| files(&mut f, kind))
            .collect::<Handled<Vec<_>>>()?
            .concat(),
        groups: f.get("Groups")?,
        dns: dns(f.object("DNSConfig")?)?,
        sysctls: f.get("Sysctls")?,
        cap_add: f.get("CapabilityAdd")?,
        cap_drop: f.get("CapabilityDrop")?,
        ulimits: ulimits(&mut f)?,
        oom_score_adj: f.get("OomScoreAdj")?,
        no_new_privileges,
        seccomp,
        selinux,
    };
    let isolation: String = f.get("Isolation")?;
    if !matches!(isolation.as_str(), "" | "default") {
        return Err(Failure::unbuilt(format!("--isolation {isolation}")));
    }
    f.finish()?;
    Ok(spec)
}

fn dns(mut f: Fields) -> Handled<DnsConfig> {
    let out = DnsConfig { nameservers: f.get("Nameservers")?, search: f.get("Search")?, options: f.get("Options")? };
    if let Some(bad) = out.nameservers.iter().find(|n| n.parse::<std::net::IpAddr>().is_err()) {
        return Err(invalid(format!("ContainerSpec: invalid nameserver {bad:?}: it must be an IP address")));
    }
    f.finish()?;
    Ok(out)
}

/// Whether new privileges are kept away, the filter of system calls, and the label for SELinux.
fn privileges(mut f: Fields) -> Handled<(bool, Seccomp, Option<SelinuxContext>)> {
    let mut of = f.object("Seccomp")?;
    let (mode, profile): (String, String) = (of.get("Mode")?, of.get("Profile")?);
    of.finish()?;
    let seccomp = match mode.as_str() {
        "" | "default" => Seccomp::Default,
        "unconfined" => Seccomp::Unconfined,
        // Bytes in Docker's JSON.
        "custom" => {
            let text = BASE64.decode(&profile).ok().and_then(|b| String::from_utf8(b).ok());
            custom_seccomp(&text.ok_or_else(|| invalid("Seccomp: the custom profile is no text in base64"))?)?
        }
        other => return Err(invalid(format!("invalid Seccomp mode: {other:?}"))),
    };
    if seccomp == Seccomp::Default && !profile.is_empty() {
        return Err(invalid("a Seccomp profile needs the mode custom"));
    }
    let mut of = f.object("AppArmor")?;
    // Nothing is confined by AppArmor here, so that it is always disabled.
    match of.get::<String>("Mode")?.as_str() {
        "" | "default" | "disabled" => {}
        other => return Err(invalid(format!("invalid AppArmor mode: {other:?}"))),
    }
    of.finish()?;
    if f.object_option("CredentialSpec")?.is_some() {
        return Err(Failure::invalid(NO_CREDENTIAL_SPECS));
    }
    let selinux = match f.object_option("SELinuxContext")? {
        None => None,
        Some(mut s) => {
            let context = SelinuxContext {
                disable: s.get("Disable")?,
                user: s.get("User")?,
                role: s.get("Role")?,
                kind: s.get("Type")?,
                level: s.get("Level")?,
            };
            s.finish()?;
            Some(context)
        }
    };
    let no_new = f.get("NoNewPrivileges")?;
    f.finish()?;
    Ok((no_new, seccomp, selinux))
}

/// The secrets or configs that a container gets.
fn files(f: &mut Fields, kind: FileKind) -> Handled<Vec<FileRef>> {
    let (list, word) = match kind {
        FileKind::Secret => ("Secrets", "Secret"),
        FileKind::Config => ("Configs", "Config"),
    };
    let mut out = Vec::new();
    for mut r in f.objects(list)? {
        let (id, name): (String, String) = (r.get(&format!("{word}ID"))?, r.get(&format!("{word}Name"))?);
        if id.is_empty() || name.is_empty() {
            return Err(invalid(format!("malformed {} reference", kind.as_str())));
        }
        if r.object_option("Runtime")?.is_some() {
            return Err(Failure::invalid(NO_CREDENTIAL_SPECS));
        }
        let no_target = || invalid(format!("malformed {} reference, no target provided", kind.as_str()));
        let mut file = r.object_option("File")?.ok_or_else(no_target)?;
        let number = |f: &mut Fields, key: &str| -> Handled<u32> {
            let text: String = f.get(key)?;
            let bad =
                || Failure::invalid(format!("invalid {key} {text:?} of {} {name}: only numbers are allowed", kind.as_str()));
            if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| bad()) }
        };
        out.push(FileRef {
            kind,
            // One that is no id names nothing, which is what the managers say then.
            id: id.parse().unwrap_or_default(),
            target: file.get("Name")?,
            uid: number(&mut file, "UID")?,
            gid: number(&mut file, "GID")?,
            mode: file.option("Mode")?.unwrap_or(0o444),
            name,
        });
        file.finish()?;
        r.finish()?;
    }
    Ok(out)
}

fn resources(mut f: Fields) -> Handled<Resources> {
    let mut limits = f.object("Limits")?;
    let mut reserve = f.object("Reservations")?;
    let mut generic = BTreeMap::new();
    for mut g in reserve.objects("GenericResources")? {
        if g.object_option("NamedResourceSpec")?.is_some() {
            return Err(invalid("a service reserves a number of a generic resource, never a name"));
        }
        let mut d = g.object("DiscreteResourceSpec")?;
        let (kind, value): (String, u64) = (d.get("Kind")?, d.number("Value")?);
        if kind.is_empty() || generic.insert(kind.clone(), value).is_some() {
            return Err(invalid(format!("generic resource {kind:?} is named twice or not at all")));
        }
        d.finish()?;
        g.finish()?;
    }
    generic.retain(|_, value| *value > 0);
    let cpus = |f: &mut Fields| limits::nano_cpus(f.get("NanoCPUs")?).map_err(invalid);
    let memory = |f: &mut Fields| limits::memory(f.get("MemoryBytes")?).map_err(invalid);
    let out = Resources {
        reserve_generic: generic,
        limit_nano_cpus: cpus(&mut limits)?,
        limit_memory: memory(&mut limits)?,
        limit_pids: limits.number("Pids")?,
        reserve_nano_cpus: cpus(&mut reserve)?,
        reserve_memory: memory(&mut reserve)?,
    };
    for rest in [f, limits, reserve] {
        rest.finish()?;
    }
    Ok(out)
}

fn restart(mut f: Fields) -> Handled<RestartPolicy> {
    let condition = match f.get::<String>("Condition")?.as_str() {
        "" | "any" => RestartCondition::Any,
        "none" => RestartCondition::None,
        "on-failure" | "on_failure" => RestartCondition::OnFailure,
        other => return Err(Failure::invalid(format!("invalid RestartCondition: {other:?}"))),
    };
    let out = RestartPolicy {
        condition,
        delay: duration(&mut f, "Delay", "TaskSpec: restart-delay")?.unwrap_or(RestartPolicy::default().delay),
        max_attempts: f.number("MaxAttempts")?,
        window: duration(&mut f, "Window", "TaskSpec: restart-window")?.unwrap_or_default(),
    };
    f.finish()?;
    Ok(out)
}

fn placement(mut f: Fields) -> Handled<Placement> {
    let mut platforms = Vec::new();
    for mut p in f.objects("Platforms")? {
        platforms.push((p.get("OS")?, p.get("Architecture")?));
        p.finish()?;
    }
    let mut preferences = Vec::new();
    for mut p in f.objects("Preferences")? {
        let mut spread = p.object("Spread")?;
        preferences.push(spread.get("SpreadDescriptor")?);
        spread.finish()?;
        p.finish()?;
    }
    let (constraints, max_replicas) = (f.get("Constraints")?, f.number("MaxReplicas")?);
    let out = Placement { constraints, max_replicas, platforms, preferences };
    f.finish()?;
    Ok(out)
}

/// `of`: what it is about, `update` or `rollback`; a rollback is not rolled back.
fn update(mut f: Fields, of: &str) -> Handled<UpdateConfig> {
    let defaults = UpdateConfig::default();
    let failure_action = match f.get::<String>("FailureAction")?.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" if of == "update" => FailureAction::Rollback,
        other => return Err(Failure::invalid(format!("unrecognized update failure action {other}"))),
    };
    let order = match f.get::<String>("Order")?.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        other => return Err(Failure::invalid(format!("unrecognized update order {other}"))),
    };
    let out = UpdateConfig {
        // An explicit zero means all at once.
        parallelism: f.number("Parallelism")?,
        delay: duration(&mut f, "Delay", &format!("TaskSpec: {of}-delay"))?.unwrap_or_default(),
        failure_action,
        monitor: duration(&mut f, "Monitor", &format!("TaskSpec: {of}-monitor"))?
            .filter(|m| !m.is_zero())
            .unwrap_or(defaults.monitor),
        max_failure_ratio: f.get("MaxFailureRatio")?,
        order,
    };
    f.finish()?;
    Ok(out)
}

fn endpoint(mut f: Fields) -> Handled<EndpointSpec> {
    let mode = match f.get::<String>("Mode")?.as_str() {
        "" | "vip" => EndpointMode::Vip,
        "dnsrr" => EndpointMode::Dnsrr,
        other => return Err(Failure::invalid(format!("invalid resolution mode: {other:?}"))),
    };
    let mut ports = Vec::new();
    for mut p in f.objects("Ports")? {
        let protocol = match p.get::<String>("Protocol")?.as_str() {
            "" => Protocol::default(),
            name => Protocol::named(name).ok_or_else(|| invalid(format!("EndpointSpec: invalid protocol: {name:?}")))?,
        };
        let mode = match p.get::<String>("PublishMode")?.as_str() {
            "" | "ingress" => PublishMode::Ingress,
            "host" => PublishMode::Host,
            other => return Err(invalid(format!("EndpointSpec: invalid publish mode: {other:?}"))),
        };
        let port =
            |n: u64| u16::try_from(n).map_err(|_| invalid(format!("EndpointSpec: invalid port {n}: it must be at most 65535")));
        ports.push(PortConfig {
            name: p.get("Name")?,
            protocol,
            target: port(p.number("TargetPort")?)?,
            published: port(p.number("PublishedPort")?)?,
            mode,
            host_ip: address(&p.get::<String>("HostIP")?)?,
        });
        p.finish()?;
    }
    f.finish()?;
    Ok(EndpointSpec { mode, ports })
}

/// A host's address that a port is published at; every address is none in particular.
fn address(text: &str) -> Handled<Option<std::net::Ipv4Addr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip = text.parse::<std::net::Ipv4Addr>();
    let ip = ip.map_err(|_| invalid(format!("EndpointSpec: invalid host IP {text:?}: it must be an IPv4 address")))?;
    Ok(Some(ip).filter(|ip| !ip.is_unspecified()))
}

/// Fills in the networks by id; `find` knows them.
pub(crate) fn attach(
    spec: &mut ServiceSpec,
    networks: NamedNetworks,
    find: impl Fn(&str) -> Handled<skep_types::NetworkId>,
) -> Handled<()> {
    for (name, aliases) in networks {
        spec.task.networks.push(NetworkAttachmentSpec { target: find(&name)?, aliases });
    }
    // Order matters for equality of specs, and means nothing.
    spec.task.networks.sort_by_key(|n| n.target);
    spec.task.networks.dedup_by_key(|n| n.target);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Handled<ServiceSpec> {
        service(Fields::of(value, "").expect("object")).map(|(s, _)| s)
    }

    #[test]
    fn the_stock_clients_spec_is_read() {
        let spec = read(json!({
            "Name": "ws", "Labels": {}, "Mode": {"Replicated": {"Replicas": 5}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "ws:1.0", "Init": false, "DNSConfig": {}, "Isolation": "default"},
                "Resources": {"Limits": {}, "Reservations": {}}, "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000},
                "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}, "ForceUpdate": 0
            },
            "UpdateConfig": {"Parallelism": 1, "Delay": 10_000_000_000_u64, "FailureAction": "pause", "Order": "stop-first"},
            "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 8000, "PublishedPort": 80, "PublishMode": "ingress"}]}
        }))
        .expect("read");
        assert_eq!(spec.mode.replicas(), 5);
        assert_eq!(spec.update.expect("given").delay, Duration::from_secs(10));
        assert_eq!(spec.endpoint.ports[0].published, 80);
    }

    #[test]
    fn ports_of_each_protocol_are_shown_as_they_were_sent() {
        // As both clients send them; the last as a client sends it that leaves out what is the default.
        let sent = json!([
            {"Protocol": "tcp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"},
            {"Protocol": "udp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"},
            {"Protocol": "sctp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"},
            {"Protocol": "sctp", "TargetPort": 7, "PublishMode": "host"},
            {"TargetPort": 80},
        ]);
        let spec = read(json!({
            "Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}, "EndpointSpec": {"Ports": sent.clone()},
        }))
        .expect("read");
        let protocols: Vec<Protocol> = spec.endpoint.ports.iter().map(|p| p.protocol).collect();
        assert_eq!(protocols, [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Sctp, Protocol::Tcp]);
        let mut shown = sent;
        shown[4] = json!({"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"});
        assert_eq!(crate::spec_write::endpoint(&spec.endpoint)["Ports"], shown);
    }

    #[test]
    fn modes_have_docker_s_defaults() {
        let mode = |value: serde_json::Value| {
            read(json!({"Name": "x", "Mode": value, "TaskTemplate": {"ContainerSpec": {"Image": "i"}}})).expect("read").mode
        };
        assert_eq!(mode(json!({})), ServiceMode::Replicated { replicas: 1 });
        assert_eq!(mode(json!({"Global": {}})), ServiceMode::Global);
        assert_eq!(mode(json!({"GlobalJob": {}})), ServiceMode::GlobalJob);
        let job = ServiceMode::ReplicatedJob { max_concurrent: 3, total_completions: 3 };
        assert_eq!(mode(json!({"ReplicatedJob": {"MaxConcurrent": 3}})), job);
    }

    #[test]
    fn what_is_not_built_or_wrong_is_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut spec = json!({"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "i"}}});
            spec[key] = value;
            read(spec).expect_err("refused").0.message
        };
        assert_eq!(with("Mode", json!({"Global": {}, "Replicated": {}})), "must specify only one service mode");
        let negative = with("Mode", json!({"ReplicatedJob": {"MaxConcurrent": -1}}));
        assert!(negative.ends_with("Maximum concurrent jobs must not be negative"), "{negative}");
        let cast = with("Mode", json!({"Replicated": {"Replicas": u64::MAX}}));
        assert!(cast.ends_with("Number of replicas must be non-negative"), "{cast}");
        assert!(with("EndpointSpec", json!({"Ports": [{"TargetPort": 70000}]})).contains("70000"));
        assert!(with("UpdateConfig", json!({"Monitor": -1})).ends_with("TaskSpec: update-monitor cannot be negative"));
        let container = |key: &str, value: serde_json::Value| {
            let mut container = json!({"Image": "i"});
            container[key] = value;
            with("TaskTemplate", json!({"ContainerSpec": container}))
        };
        assert!(container("Secrets", json!([{"SecretID": "x"}])).ends_with("malformed secret reference"));
        let untargeted = container("Configs", json!([{"ConfigID": "x", "ConfigName": "y"}]));
        assert!(untargeted.ends_with("malformed config reference, no target provided"), "{untargeted}");
        assert!(container("Secrets", json!([{"SecretID": "x", "SecretName": "y", "File": {"UID": "me"}}])).contains("UID"));
        assert!(container("Privileges", json!({"AppArmor": {"Mode": "mine"}})).ends_with("invalid AppArmor mode: \"mine\""));
        assert!(container("Privileges", json!({"SELinuxContext": {"Colour": "red"}})).contains("SELinuxContext.Colour"));
        assert_eq!(container("Privileges", json!({"CredentialSpec": {"Config": "x"}})), NO_CREDENTIAL_SPECS);
        assert_eq!(container("Configs", json!([{"ConfigID": "x", "ConfigName": "y", "Runtime": {}}])), NO_CREDENTIAL_SPECS);
        let logs = |driver: &str, options: serde_json::Value| {
            let spec = json!({"ContainerSpec": {"Image": "i"}, "LogDriver": {"Name": driver, "Options": options}});
            with("TaskTemplate", spec)
        };
        assert_eq!(logs("gcplogs", json!({})), "the log driver gcplogs is not built yet in Skep");
        assert_eq!(logs("gelf", json!({"x": "y"})), "unknown log opt 'x' for gelf log driver");
        let profile = container("Privileges", json!({"Seccomp": {"Mode": "custom", "Profile": "bm9uZQ=="}}));
        assert!(profile.starts_with("Decoding seccomp profile failed: "), "{profile}");
    }
}
