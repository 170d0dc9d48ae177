//! Containers as `ps` and `inspect` show them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use skep_types::container::{ContainerInfo, ContainerState, EndpointInfo, MountPoint, PortMap};
use skep_types::health::HealthStatus;
use skep_types::spec::Seccomp;

use crate::filters::Filters;
use crate::spec_write;

/// Seconds in words, as Docker's clients say them.
fn duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

fn now() -> skep_types::Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    skep_types::Time::default().after(since)
}

/// The API's word for its state.
fn word(info: &ContainerInfo) -> &'static str {
    if info.paused { "paused" } else { info.state.as_str() }
}

fn status(info: &ContainerInfo) -> String {
    let ago = |t: skep_types::Time| duration(now().since(t).as_secs());
    match info.state {
        ContainerState::Running if info.paused => format!("Up {} (Paused)", ago(info.started_at)),
        ContainerState::Running => match info.health.as_ref().map(|h| h.status) {
            None => format!("Up {}", ago(info.started_at)),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", ago(info.started_at)),
            Some(status) => format!("Up {} ({})", ago(info.started_at), status.as_str()),
        },
        ContainerState::Restarting => format!("Restarting ({}) {} ago", info.exit_code, ago(info.finished_at)),
        ContainerState::Exited => format!("Exited ({}) {} ago", info.exit_code, ago(info.finished_at)),
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Removing => "Removal In Progress".to_owned(),
        ContainerState::Dead => "Dead".to_owned(),
    }
}

fn exposed(text: &str) -> (u64, &str) {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    (port.parse().unwrap_or(0), protocol)
}

fn port_rows(info: &ContainerInfo) -> Vec<Value> {
    if info.pid == 0 {
        return Vec::new();
    }
    let ip = |p: &PortMap| p.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |i| i.to_string());
    let published = info
        .ports
        .iter()
        .map(|p| json!({"IP": ip(p), "PrivatePort": p.container_port, "PublicPort": p.host_port, "Type": p.protocol.as_str()}));
    let hidden = |e: &&String| {
        let (port, protocol) = exposed(e);
        !info.ports.iter().any(|p| u64::from(p.container_port) == port && p.protocol.as_str() == protocol)
    };
    let open = info.config.exposed_ports.iter().filter(hidden).map(|e| {
        let (port, protocol) = exposed(e);
        json!({"PrivatePort": port, "Type": protocol})
    });
    published.chain(open).collect()
}

fn text6(address: Option<std::net::Ipv6Addr>) -> String {
    address.map(|a| a.to_string()).unwrap_or_default()
}

fn endpoint(e: &EndpointInfo, info: &ContainerInfo) -> Value {
    let text = |a: Option<std::net::Ipv4Addr>| a.map(|a| a.to_string()).unwrap_or_default();
    let mut names = vec![info.name.clone()];
    names.extend(e.aliases.iter().cloned());
    names.push(info.id.chars().take(12).collect());
    let (address6, prefix6) = e.address6.map_or((String::new(), 0), |n| (n.addr.to_string(), n.prefix));
    json!({
        "IPAMConfig": null, "Links": null, "Aliases": e.aliases, "MacAddress": e.mac, "DriverOpts": null, "GwPriority": 0,
        "NetworkID": e.network_id, "EndpointID": e.endpoint_id, "Gateway": text(e.gateway), "IPAddress": text(e.address),
        "IPPrefixLen": e.prefix, "IPv6Gateway": text6(e.gateway6), "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": prefix6, "DNSNames": names,
    })
}

fn networks(info: &ContainerInfo) -> Value {
    let mut out: Map<String, Value> = info.endpoints.iter().map(|e| (e.network.clone(), endpoint(e, info))).collect();
    if out.is_empty() {
        let name = if info.host.network_mode.is_empty() { "bridge" } else { &info.host.network_mode };
        let name = if name == "default" { "bridge" } else { name };
        let none = EndpointInfo { network: name.to_owned(), ..EndpointInfo::default() };
        out.insert(name.to_owned(), endpoint(&none, info));
    }
    Value::Object(out)
}

fn mount(m: &MountPoint) -> Value {
    let mut out = json!({
        "Type": m.kind, "Source": if m.kind == "tmpfs" { "" } else { &m.source }, "Destination": m.destination, "Mode": "",
        "RW": m.rw, "Propagation": if m.kind == "bind" { "rprivate" } else { "" },
    });
    if m.kind == "volume" {
        out["Name"] = json!(m.name);
        out["Driver"] = json!(if m.driver.is_empty() { "local" } else { &m.driver });
    }
    out
}

fn command(info: &ContainerInfo) -> String {
    std::iter::once(&info.path).chain(&info.args).map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A row of `ps`.
pub(crate) fn row(info: &ContainerInfo) -> Value {
    let mode = if info.host.network_mode.is_empty() { "default" } else { &info.host.network_mode };
    json!({
        "Id": info.id, "Names": [format!("/{}", info.name)], "Image": info.config.image, "ImageID": info.image_id,
        "Command": command(info), "Created": info.created.unix_seconds(), "Ports": port_rows(info),
        "Labels": info.config.labels, "State": word(info), "Status": status(info),
        "HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks(info)},
        "Mounts": info.mounts.iter().map(mount).collect::<Vec<_>>(),
    })
}

/// Whether a container passes the filters of `ps`.
pub(crate) fn row_matches(info: &ContainerInfo, all: &[ContainerInfo], filters: &Filters) -> bool {
    let find = |target: &str| all.iter().find(|c| c.name == target || c.id.starts_with(target));
    let is_task = info.config.labels.contains_key("com.docker.swarm.task.id");
    filters.any("id", |v| info.id.starts_with(v))
        && filters.any("name", |v| info.name.contains(v.trim_start_matches('^').trim_start_matches('/').trim_end_matches('$')))
        && filters.any("status", |v| word(info) == v)
        && filters.any("exited", |v| info.finished_at.0 != 0 && v.parse() == Ok(info.exit_code))
        && filters.any("ancestor", |v| {
            info.config.image == v
                || info.config.image.split(':').next() == Some(v)
                || info.image_id.trim_start_matches("sha256:").starts_with(v.trim_start_matches("sha256:"))
        })
        && filters.any("network", |v| info.endpoints.iter().any(|e| e.network == v || e.network_id.starts_with(v)))
        && filters.any("volume", |v| info.mounts.iter().any(|m| m.name == v || m.destination == v))
        && filters.any("health", |v| v == info.health.as_ref().map_or("none", |h| h.status.as_str()))
        && filters.any("before", |v| find(v).is_some_and(|o| info.created < o.created))
        && filters.any("since", |v| find(v).is_some_and(|o| info.created > o.created))
        && filters.flag("is-task").is_none_or(|wanted| wanted == is_task)
        && filters.labels("label", &info.config.labels)
}

fn bindings(ports: &[PortMap], fill_ip: bool) -> Value {
    let mut out: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for p in ports {
        let ip = p.host_ip.map_or_else(|| if fill_ip { "0.0.0.0".to_owned() } else { String::new() }, |i| i.to_string());
        let port = match (p.host_port, p.host_port_end) {
            (0, _) => String::new(),
            (first, 0) => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        out.entry(format!("{}/{}", p.container_port, p.protocol.as_str()))
            .or_default()
            .push(json!({"HostIp": ip, "HostPort": port}));
    }
    json!(out)
}

fn host_config(info: &ContainerInfo) -> Value {
    let h = &info.host;
    let list = |l: &[String]| if l.is_empty() { Value::Null } else { json!(l) };
    let restart = if h.restart.name.is_empty() { "no" } else { &h.restart.name };
    let log_driver = if h.log_driver.is_empty() { "json-file" } else { &h.log_driver };
    let mut security: Vec<String> = h.no_new_privileges.then(|| "no-new-privileges".to_owned()).into_iter().collect();
    match &h.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => security.push("seccomp=unconfined".to_owned()),
        Seccomp::Custom(profile) => security.push(format!("seccomp={profile}")),
    }
    security.extend(h.selinux.iter().map(|label| format!("label={label}")));
    let devices: Vec<Value> = h
        .devices
        .iter()
        .map(|d| json!({"PathOnHost": d.host, "PathInContainer": d.container, "CgroupPermissions": d.permissions}))
        .collect();
    let mode = if h.network_mode.is_empty() || h.network_mode == "default" { "bridge" } else { &h.network_mode };
    let mut out = json!({
        "Binds": list(&h.binds), "ContainerIDFile": "", "LogConfig": {"Type": log_driver, "Config": h.log_opts},
        "NetworkMode": mode, "PortBindings": bindings(&h.ports, false),
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": h.restart.max_retry}, "AutoRemove": h.auto_remove,
        "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": h.console_size.unwrap_or_default(), "CapAdd": list(&h.cap_add),
        "CapDrop": list(&h.cap_drop), "CgroupnsMode": "host", "Dns": h.dns, "DnsOptions": h.dns_options,
        "DnsSearch": h.dns_search, "ExtraHosts": list(&h.extra_hosts), "GroupAdd": list(&h.groups), "IpcMode": "private", "Cgroup": "",
        "Links": null, "OomScoreAdj": h.oom_score_adj, "PidMode": "", "Privileged": h.privileged,
        "PublishAllPorts": h.publish_all, "ReadonlyRootfs": h.readonly_rootfs, "SecurityOpt": list(&security), "UTSMode": "",
        "UsernsMode": "", "ShmSize": if h.shm_size == 0 { 64 << 20 } else { h.shm_size }, "Runtime": "runc", "Isolation": "",
        "CpuShares": h.cpu_shares, "Memory": h.memory, "NanoCpus": h.nano_cpus, "CgroupParent": "", "BlkioWeight": 0,
        "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
    });
    let more = json!({
        "CpusetCpus": "", "CpusetMems": "", "Devices": devices, "DeviceCgroupRules": list(&h.device_rules), "DeviceRequests": null,
        "MemoryReservation": 0, "MemorySwap": h.memory.saturating_mul(2), "MemorySwappiness": null, "OomKillDisable": false,
        "PidsLimit": if h.pids_limit == 0 { Value::Null } else { json!(h.pids_limit) }, "Ulimits": spec_write::ulimits(&h.ulimits), "CpuCount": 0,
        "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    });
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
        if !h.mounts.is_empty() {
            out.insert("Mounts".to_owned(), h.mounts.iter().map(crate::spec_write::mount).collect());
        }
        if !h.sysctls.is_empty() {
            out.insert("Sysctls".to_owned(), json!(h.sysctls));
        }
        if !h.tmpfs.is_empty() {
            out.insert("Tmpfs".to_owned(), json!(h.tmpfs));
        }
    }
    out
}

fn config(info: &ContainerInfo) -> Value {
    let c = &info.config;
    let set = |keys: &[String]| keys.iter().map(|k| (k.clone(), json!({}))).collect::<Map<_, _>>();
    let hostname = if c.hostname.is_empty() { info.id.chars().take(12).collect() } else { c.hostname.clone() };
    let mut out = json!({
        "Hostname": hostname, "Domainname": c.domainname, "User": c.user, "AttachStdin": c.attach_stdin,
        "AttachStdout": c.attach_stdout, "AttachStderr": c.attach_stderr, "Tty": c.tty, "OpenStdin": c.open_stdin,
        "StdinOnce": c.stdin_once, "Env": c.env, "Cmd": if c.cmd.is_empty() { Value::Null } else { json!(c.cmd) },
        "Image": c.image, "Volumes": if c.volumes.is_empty() { Value::Null } else { Value::Object(set(&c.volumes)) },
        "WorkingDir": c.working_dir, "Entrypoint": c.entrypoint, "OnBuild": null, "Labels": c.labels,
    });
    if !c.exposed_ports.is_empty() {
        out["ExposedPorts"] = Value::Object(set(&c.exposed_ports));
    }
    if !c.stop_signal.is_empty() {
        out["StopSignal"] = json!(c.stop_signal);
    }
    if let Some(timeout) = c.stop_timeout {
        out["StopTimeout"] = json!(timeout);
    }
    if let Some(health) = &c.health {
        out["Healthcheck"] = crate::health_json::config(health);
    }
    out
}

/// `inspect`.
pub(crate) fn detail(info: &ContainerInfo) -> Value {
    let running = info.state == ContainerState::Running;
    let live_ports = if info.pid == 0 { json!({}) } else { bindings(&info.ports, true) };
    let first = info.endpoints.first();
    let six = first.and_then(|e| e.address6);
    let text = |a: Option<std::net::Ipv4Addr>| a.map(|a| a.to_string()).unwrap_or_default();
    let file = |name: &str| format!("{}/{name}", info.etc_dir);
    let mut state = json!({
        "Status": word(info), "Running": running || info.state == ContainerState::Restarting, "Paused": info.paused,
        "Restarting": info.state == ContainerState::Restarting, "OOMKilled": info.oom_killed,
        "Dead": info.state == ContainerState::Dead, "Pid": info.pid, "ExitCode": info.exit_code, "Error": info.error,
        "StartedAt": info.started_at.rfc3339(), "FinishedAt": info.finished_at.rfc3339(),
    });
    if let Some(health) = &info.health {
        state["Health"] = crate::health_json::state(health);
    }
    let is_file = matches!(info.host.log_driver.as_str(), "" | "json-file");
    let log_path = if is_file { info.log_path.as_str() } else { "" };
    json!({
        "Id": info.id, "Created": info.created.rfc3339(), "Path": info.path, "Args": info.args,
        "State": state,
        "Image": info.image_id, "ResolvConfPath": file("resolv.conf"), "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"), "LogPath": log_path, "Name": format!("/{}", info.name),
        "RestartCount": info.restart_count, "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
        "AppArmorProfile": "", "ExecIDs": null, "HostConfig": host_config(info),
        "GraphDriver": {"Name": "overlay2", "Data": null},
        "Mounts": info.mounts.iter().map(mount).collect::<Vec<_>>(), "Config": config(info),
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": info.netns, "Ports": live_ports,
            "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null, "EndpointID": first.map(|e| e.endpoint_id.clone()).unwrap_or_default(),
            "Gateway": first.map(|e| text(e.gateway)).unwrap_or_default(), "GlobalIPv6Address": text6(six.map(|n| n.addr)), "GlobalIPv6PrefixLen": six.map_or(0, |n| n.prefix),
            "IPAddress": first.map(|e| text(e.address)).unwrap_or_default(), "IPPrefixLen": first.map_or(0, |e| e.prefix),
            "IPv6Gateway": text6(first.and_then(|e| e.gateway6)), "MacAddress": first.map(|e| e.mac.clone()).unwrap_or_default(), "Networks": networks(info),
        },
    })
}

#[cfg(test)]
mod tests {
    use skep_types::spec::Protocol;

    use super::*;

    #[test]
    fn ages_are_said_as_docker_says_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (125, "2 minutes"),
            (3600, "About an hour"),
            (47 * 3600, "47 hours"),
            (72 * 3600, "3 days"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn published_ports_are_shown_with_number_and_protocol() {
        let mut info = ContainerInfo { pid: 7, state: ContainerState::Running, ..ContainerInfo::default() };
        info.config.exposed_ports = vec!["80/tcp".to_owned(), "81/udp".to_owned(), "80/sctp".to_owned(), "82/sctp".to_owned()];
        let port = |protocol, host_port| PortMap { protocol, container_port: 80, host_ip: None, host_port, host_port_end: 0 };
        info.ports = vec![port(Protocol::Tcp, 32768), port(Protocol::Sctp, 32769)];
        let row = row(&info);
        assert_eq!(row["Ports"][0]["PublicPort"], 32768);
        let shown: Vec<_> =
            row["Ports"].as_array().into_iter().flatten().map(|p| (p["PrivatePort"].clone(), p["Type"].clone())).collect();
        let wanted = [(80, "tcp"), (80, "sctp"), (81, "udp"), (82, "sctp")];
        assert_eq!(shown, wanted.map(|(port, kind)| (json!(port), json!(kind))));
        let ports = &detail(&info)["NetworkSettings"]["Ports"];
        assert_eq!((&ports["80/tcp"][0]["HostPort"], &ports["80/sctp"][0]["HostPort"]), (&json!("32768"), &json!("32769")));
    }
}
