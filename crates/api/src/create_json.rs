//! The body of `POST /containers/create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use skep_types::container::{ContainerConfig, CreateContainer, DeviceMap, EngineRestart, HostConfig, NetworkJoin, PortMap};
use skep_types::logdriver::{self, Fault};
use skep_types::spec::{Mount, MountKind, Protocol, Seccomp, Ulimit};

use crate::error::{Failure, Handled};
use crate::fields::Fields;
use crate::volumes;

pub(crate) fn read(mut body: Fields) -> Handled<CreateContainer> {
    let host = host_config(body.object("HostConfig")?)?;
    let networks = networking(body.object("NetworkingConfig")?)?;
    let config = config(body)?;
    Ok(CreateContainer { name: String::new(), config, host, networks, ..CreateContainer::default() })
}

/// A list, or one string.
fn words(fields: &mut Fields, key: &str) -> Handled<Option<Vec<String>>> {
    match fields.option::<Value>(key)? {
        None => Ok(None),
        Some(Value::String(one)) => Ok(Some(if one.is_empty() { Vec::new() } else { vec![one] })),
        Some(other) => serde_json::from_value(other)
            .map(Some)
            .map_err(|_| Failure::invalid(format!("invalid JSON: {key} must be a list of strings"))),
    }
}

fn config(mut f: Fields) -> Handled<ContainerConfig> {
    let keys = |map: BTreeMap<String, Value>| map.into_keys().collect::<Vec<_>>();
    let config = ContainerConfig {
        image: f.get("Image")?,
        entrypoint: words(&mut f, "Entrypoint")?.filter(|e| !e.is_empty()).map(clear_single_empty),
        cmd: words(&mut f, "Cmd")?.unwrap_or_default(),
        env: f.get("Env")?,
        working_dir: f.get("WorkingDir")?,
        user: f.get("User")?,
        hostname: f.get("Hostname")?,
        domainname: f.get("Domainname")?,
        tty: f.get("Tty")?,
        open_stdin: f.get("OpenStdin")?,
        stdin_once: f.get("StdinOnce")?,
        attach_stdin: f.get("AttachStdin")?,
        attach_stdout: f.get("AttachStdout")?,
        attach_stderr: f.get("AttachStderr")?,
        labels: f.get("Labels")?,
        stop_signal: f.get("StopSignal")?,
        stop_timeout: f.option("StopTimeout")?,
        exposed_ports: keys(f.get("ExposedPorts")?),
        volumes: keys(f.get("Volumes")?),
        health: f.object_option("Healthcheck")?.map(|h| crate::health_json::read(h, "Healthcheck")).transpose()?,
    };
    f.skip(&["ArgsEscaped", "OnBuild", "Shell", "MacAddress", "NetworkDisabled"]);
    f.finish()?;
    Ok(config)
}

/// `--entrypoint ""` arrives as one empty string and clears the image's.
fn clear_single_empty(words: Vec<String>) -> Vec<String> {
    if words.len() == 1 && words[0].is_empty() { Vec::new() } else { words }
}

fn host_config(mut f: Fields) -> Handled<HostConfig> {
    let mut restart = f.object("RestartPolicy")?;
    let mut log = f.object("LogConfig")?;
    let driver: String = log.get("Type")?;
    let log_opts: BTreeMap<String, String> = log.get("Config")?;
    logdriver::check(&driver, &log_opts).map_err(|fault| match fault {
        Fault::Unknown(name) => Failure::invalid(format!("logger: no log driver named '{name}' is registered")),
        Fault::Unbuilt(what) => Failure::unbuilt(what),
        Fault::Invalid(text) => Failure::invalid(text),
    })?;
    let bindings: BTreeMap<String, Option<Vec<Value>>> = f.get("PortBindings")?;
    let mounts = f
        .objects("Mounts")?
        .into_iter()
        .map(|m| mount(m, |kind| format!("invalid mount config for type {kind:?}: mount type unknown")));
    let mounts = mounts.collect::<Handled<Vec<_>>>()?;
    for (key, fits) in [("IpcMode", ["", "private", "shareable"]), ("CgroupnsMode", ["", "host", "private"])] {
        let value: String = f.get(key)?;
        if !fits.contains(&value.as_str()) {
            return Err(Failure::unbuilt(format!("{key} = {value}")));
        }
    }
    let security = Security::read(&f.get::<Vec<String>>("SecurityOpt")?)?;
    let host = HostConfig {
        binds: f.get("Binds")?,
        mounts,
        volume_driver: f.get("VolumeDriver")?,
        network_mode: f.get("NetworkMode")?,
        ports: ports(bindings)?,
        publish_all: f.get("PublishAllPorts")?,
        restart: EngineRestart {
            name: restart.get("Name")?,
            max_retry: u32::try_from(restart.number("MaximumRetryCount")?)
                .map_err(|_| Failure::invalid("invalid restart policy: maximum retry count is too large"))?,
        },
        auto_remove: f.get("AutoRemove")?,
        memory: f.number("Memory")?,
        nano_cpus: f.number("NanoCpus")?,
        pids_limit: f.number("PidsLimit")?,
        cpu_shares: f.number("CpuShares")?,
        cap_add: f.get("CapAdd")?,
        cap_drop: f.get("CapDrop")?,
        readonly_rootfs: f.get("ReadonlyRootfs")?,
        extra_hosts: f.get("ExtraHosts")?,
        dns: f.get("Dns")?,
        dns_search: f.get("DnsSearch")?,
        dns_options: f.get("DnsOptions")?,
        log_driver: driver,
        log_opts,
        shm_size: f.number("ShmSize")?,
        sysctls: f.get("Sysctls")?,
        tmpfs: f.get("Tmpfs")?,
        privileged: f.get("Privileged")?,
        oom_score_adj: f.get("OomScoreAdj")?,
        groups: f.get("GroupAdd")?,
        ulimits: ulimits(&mut f)?,
        no_new_privileges: security.no_new_privileges,
        init: f.option("Init")?.unwrap_or(false),
        seccomp: security.seccomp,
        console_size: crate::exec::console_size(&mut f)?,
        devices: f.objects("Devices")?.into_iter().map(device).collect::<Handled<Vec<_>>>()?,
        device_rules: f.get("DeviceCgroupRules")?,
        selinux: security.selinux,
    };
    if let Some(bad) = host.device_rules.iter().find(|r| !is_device_rule(r)) {
        return Err(Failure::invalid(format!("invalid device cgroup rule format: '{bad}'")));
    }
    // What only describes the client, and lists whose null means the defaults that apply anyway.
    f.skip(&["MaskedPaths", "ReadonlyPaths", "ContainerIDFile", "Annotations"]);
    let runtime: String = f.get("Runtime")?;
    if !matches!(runtime.as_str(), "" | "runc" | "io.containerd.runc.v2") {
        return Err(Failure::invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    f.finish()?;
    Ok(host)
}

fn device(mut f: Fields) -> Handled<DeviceMap> {
    let host: String = f.get("PathOnHost")?;
    let (container, permissions): (String, String) = (f.get("PathInContainer")?, f.get("CgroupPermissions")?);
    f.finish()?;
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let map = DeviceMap { container: or(container, &host), permissions: or(permissions, "rwm"), host };
    if !is_access(&map.permissions) {
        return Err(Failure::invalid(format!("invalid device mode: {}", map.permissions)));
    }
    let absolute = |p: &str| p.starts_with('/') && !p.split('/').any(|part| part == "..");
    if !absolute(&map.host) || !absolute(&map.container) {
        return Err(Failure::invalid(format!("invalid device specification: {}:{}", map.host, map.container)));
    }
    Ok(map)
}

/// One to three different letters of `rwm`.
fn is_access(text: &str) -> bool {
    let once = |c| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && "rwm".chars().all(once)
}

/// `c 42:* rmw`.
fn is_device_rule(rule: &str) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && n.parse::<u32>().is_ok());
    match words.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers.split_once(':').is_some_and(|(a, b)| number(a) && number(b))
                && is_access(access)
        }
        _ => false,
    }
}

/// What `--security-opt` says.
#[derive(Default)]
struct Security {
    no_new_privileges: bool,
    seccomp: Seccomp,
    selinux: Vec<String>,
}

impl Security {
    fn read(options: &[String]) -> Handled<Self> {
        let mut out = Self::default();
        for option in options {
            // Both separators are in use.
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => out.no_new_privileges = true,
                ("no-new-privileges", "false") => out.no_new_privileges = false,
                ("seccomp", "unconfined") => out.seccomp = Seccomp::Unconfined,
                ("seccomp", "builtin") => out.seccomp = Seccomp::Default,
                ("seccomp", profile) => out.seccomp = custom_seccomp(profile)?,
                // Nothing is confined by it here.
                ("apparmor", "unconfined") => {}
                ("label", label) => {
                    let (part, rest) = label.split_once(':').unwrap_or((label, ""));
                    let whole = matches!(part, "user" | "role" | "type" | "level" | "filetype") && !rest.is_empty();
                    if !whole && !matches!(label, "disable" | "nested") {
                        return Err(Failure::invalid(format!(
                            "bad label option {label:?}, valid options are 'disable', or 'user', 'role', 'type', 'level' followed by \
                             ':' and a value"
                        )));
                    }
                    out.selinux.push(label.to_owned());
                }
                ("credentialspec", _) => return Err(Failure::invalid(crate::spec_read::NO_CREDENTIAL_SPECS)),
                _ => return Err(Failure::unbuilt(format!("--security-opt {option}"))),
            }
        }
        Ok(out)
    }
}

/// A profile of system calls; whether its rules can be compiled is the host's to say.
pub(crate) fn custom_seccomp(profile: &str) -> Handled<Seccomp> {
    match serde_json::from_str::<BTreeMap<String, Value>>(profile) {
        Ok(_) => Ok(Seccomp::Custom(profile.to_owned())),
        Err(e) => Err(Failure::invalid(format!("Decoding seccomp profile failed: {e}"))),
    }
}

/// Limits of processes.
pub(crate) fn ulimits(f: &mut Fields) -> Handled<Vec<Ulimit>> {
    let mut out = Vec::new();
    for mut u in f.objects("Ulimits")? {
        let limit = Ulimit { name: u.get("Name")?, soft: u.get("Soft")?, hard: u.get("Hard")? };
        u.finish()?;
        limit.check().map_err(Failure::invalid)?;
        out.push(limit);
    }
    Ok(out)
}

/// Reads a mount; `unknown` is what is said of a type that nobody knows.
pub(crate) fn mount(mut f: Fields, unknown: impl Fn(&str) -> String) -> Handled<Mount> {
    let kind: String = f.get("Type")?;
    let kind = match kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" | "" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        "cluster" => return Err(volumes::no_cluster_volumes()),
        "npipe" | "image" => return Err(Failure::unbuilt(format!("a mount of type {kind}"))),
        other => return Err(Failure::invalid(unknown(other))),
    };
    let mut volume = f.object("VolumeOptions")?;
    let mut tmpfs = f.object("TmpfsOptions")?;
    let mut bind = f.object("BindOptions")?;
    let propagation: String = bind.get("Propagation")?;
    match propagation.as_str() {
        "" | "rprivate" | "private" => {}
        "rshared" | "shared" | "rslave" | "slave" => {
            return Err(Failure::unbuilt(format!("bind propagation {propagation}")));
        }
        other => return Err(Failure::invalid(format!("invalid MountPropagation: {other:?}"))),
    }
    let mut driver = volume.object("DriverConfig")?;
    let name: String = driver.get("Name")?;
    let driver_options: BTreeMap<String, String> = driver.get("Options")?;
    if matches!(name.as_str(), "" | "local") {
        skep_types::volume::read(&driver_options).map_err(|why| Failure::invalid(format!("invalid mount config: {why}")))?;
    }
    let out = Mount {
        kind,
        source: f.get("Source")?,
        target: f.get("Target")?,
        read_only: f.get("ReadOnly")?,
        volume_labels: volume.get("Labels")?,
        volume_options: driver_options,
        volume_driver: (!matches!(name.as_str(), "" | "local")).then_some(name),
        no_copy: volume.get("NoCopy")?,
        tmpfs_size: tmpfs.number("SizeBytes")?,
        tmpfs_mode: tmpfs.get("Mode")?,
    };
    f.skip(&["Consistency"]);
    for rest in [f, volume, tmpfs, bind, driver] {
        rest.finish()?;
    }
    Ok(out)
}

fn ports(bindings: BTreeMap<String, Option<Vec<Value>>>) -> Handled<Vec<PortMap>> {
    let mut out = Vec::new();
    for (key, hosts) in bindings {
        let (port, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let protocol = Protocol::named(protocol).ok_or_else(|| Failure::unbuilt(format!("publishing {protocol} ports")))?;
        let number =
            |text: &str| text.parse::<u16>().map_err(|_| Failure::invalid(format!("invalid port specification: \"{text}\"")));
        let container_port = number(port)?;
        for host in hosts.unwrap_or_default() {
            let mut f = Fields::of(host, "HostConfig.PortBindings")?;
            let (ip, port): (String, String) = (f.get("HostIp")?, f.get("HostPort")?);
            let host_ip = match ip.as_str() {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| Failure::invalid(format!("invalid IP address: {text}")))?),
            };
            // Of a range the first free port is taken.
            let (first, last) = port.split_once('-').unwrap_or((&port, ""));
            let some = |text: &str| if text.is_empty() { Ok(0) } else { number(text) };
            let (host_port, host_port_end) = (some(first)?, some(last)?);
            if !last.is_empty() && host_port_end < host_port {
                return Err(Failure::invalid(format!("invalid port specification: \"{port}\"")));
            }
            out.push(PortMap { protocol, container_port, host_ip, host_port, host_port_end });
        }
    }
    Ok(out)
}

fn networking(mut f: Fields) -> Handled<Vec<NetworkJoin>> {
    let endpoints: BTreeMap<String, Value> = f.get("EndpointsConfig")?;
    let mut out = Vec::new();
    for (network, value) in endpoints {
        out.push(endpoint(network, Fields::of(value, "NetworkingConfig.EndpointsConfig")?)?);
    }
    Ok(out)
}

/// How a container is to be on a network.
pub(crate) fn endpoint(network: String, mut e: Fields) -> Handled<NetworkJoin> {
    let mut ipam = e.object("IPAMConfig")?;
    let wanted: String = ipam.get("IPv4Address")?;
    let address = if wanted.is_empty() {
        None
    } else {
        Some(wanted.parse().map_err(|_| Failure::invalid(format!("invalid IPv4 address: {wanted}")))?)
    };
    let wanted: String = ipam.get("IPv6Address")?;
    let address6 = if wanted.is_empty() {
        None
    } else {
        Some(wanted.parse().map_err(|_| Failure::invalid(format!("invalid IPv6 address: {wanted}")))?)
    };
    ipam.finish()?;
    let join = NetworkJoin { network, address, aliases: e.get("Aliases")?, assigned: false, address6 };
    // What the engine answers itself when a client sends an inspected object back.
    e.skip(&[
        "NetworkID",
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "DNSNames",
    ]);
    e.finish()?;
    Ok(join)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stock_clients_defaults_are_taken() {
        let body = json!({
            "Hostname": "", "AttachStdout": true, "Tty": false, "Env": null, "Cmd": ["true"], "Image": "busybox", "Volumes": {},
            "Entrypoint": null, "OnBuild": null, "Labels": {},
            "HostConfig": {
                "Binds": null, "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}], "80/sctp": [{"HostIp": "", "HostPort": "8080"}],
                    "9/udp": [{"HostIp": "", "HostPort": ""}],
                },
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true, "ConsoleSize": [24, 80],
                "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "BlkioDeviceReadBps": [], "CgroupnsMode": ""
            },
            "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": {}, "Links": null, "Aliases": null}}}
        });
        let read = read(Fields::of(body, "").expect("object")).expect("taken");
        let ports: Vec<_> = read.host.ports.iter().map(|p| (p.protocol, p.container_port, p.host_port)).collect();
        assert_eq!(ports, [(Protocol::Sctp, 80, 8080), (Protocol::Tcp, 80, 8080), (Protocol::Udp, 9, 0)]);
        assert_eq!(read.config.cmd, ["true"]);
    }

    #[test]
    fn what_is_not_built_is_named() {
        for (body, name) in [
            (json!({"Image": "x", "HostConfig": {"DeviceRequests": [{"Driver": "nvidia"}]}}), "DeviceRequests"),
            (json!({"Image": "x", "HostConfig": {"PortBindings": {"80/dccp": []}}}), "publishing dccp ports is not built yet"),
            (
                json!({"Image": "x", "HostConfig": {"LogConfig": {"Type": "gcplogs"}}}),
                "the log driver gcplogs is not built yet",
            ),
        ] {
            let refused = read(Fields::of(body, "").expect("object")).expect_err("refused");
            assert!(refused.0.message.contains(name), "{}", refused.0.message);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let host = |config: Value| host_config(Fields::of(config, "HostConfig").expect("object"));
        for (config, text) in [
            (json!({"LogConfig": {"Type": "loki"}}), "logger: no log driver named 'loki' is registered"),
            (json!({"LogConfig": {"Type": "gelf", "Config": {"x": "y"}}}), "unknown log opt 'x' for gelf log driver"),
            (json!({"Devices": [{"PathOnHost": "/dev/kvm", "CgroupPermissions": "rx"}]}), "invalid device mode: rx"),
            (json!({"Devices": [{"PathOnHost": "/dev/../etc"}]}), "invalid device specification: /dev/../etc:/dev/../etc"),
            (json!({"DeviceCgroupRules": ["c 1:3 rwx"]}), "invalid device cgroup rule format: 'c 1:3 rwx'"),
            (json!({"SecurityOpt": ["credentialspec=file://a.json"]}), super::super::spec_read::NO_CREDENTIAL_SPECS),
            (
                json!({"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"type": "nfs"}}}}]}),
                "invalid mount config: missing required option: \"device\"",
            ),
        ] {
            let refused = host(config).expect_err("refused").0;
            assert_eq!((refused.message.as_str(), refused.code), (text, skep_types::control::Code::InvalidArgument));
        }
        let taken = host(json!({
            "SecurityOpt": ["label=type:svirt_t", "label:disable"], "DeviceCgroupRules": ["c 42:* rmw", "a *:* rwm"],
            "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f", "CgroupPermissions": "r"}],
        }))
        .expect("taken");
        assert_eq!(taken.selinux, ["type:svirt_t", "disable"]);
        assert_eq!(taken.devices[0].container, "/dev/f");
    }
}
