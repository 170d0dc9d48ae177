//! The body of `POST /containers/create`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;
use skep_types::container::{ContainerConfig, CreateContainer, EngineRestart, HostConfig, NetworkJoin, PortMap};
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
    if !matches!(driver.as_str(), "" | "json-file" | "none") {
        return Err(Failure::unbuilt(format!("the log driver {driver}")));
    }
    let bindings: BTreeMap<String, Option<Vec<Value>>> = f.get("PortBindings")?;
    let mounts = f
        .objects("Mounts")?
        .into_iter()
        .map(|m| mount(m, |kind| format!("invalid mount config for type {kind:?}: mount type unknown")));
    let mounts = mounts.collect::<Handled<Vec<_>>>()?;
    if let Some(driver) = mounts.iter().find_map(|m| m.volume_driver.as_ref()) {
        return Err(Failure::unbuilt(format!("the volume driver {driver}")));
    }
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
        log_opts: log.get("Config")?,
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
    };
    // What only describes the client, and lists whose null means the defaults that apply anyway.
    f.skip(&["MaskedPaths", "ReadonlyPaths", "ContainerIDFile", "Annotations"]);
    let runtime: String = f.get("Runtime")?;
    if !matches!(runtime.as_str(), "" | "runc" | "io.containerd.runc.v2") {
        return Err(Failure::invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    f.finish()?;
    Ok(host)
}

/// What `--security-opt` says.
#[derive(Default)]
struct Security {
    no_new_privileges: bool,
    seccomp: Seccomp,
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
                // Nothing is confined by either here.
                ("apparmor", "unconfined") | ("label", "disable") => {}
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
    let out = Mount {
        kind,
        source: f.get("Source")?,
        target: f.get("Target")?,
        read_only: f.get("ReadOnly")?,
        volume_labels: volume.get("Labels")?,
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
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(Failure::unbuilt(format!("publishing {other} ports"))),
        };
        let number =
            |text: &str| text.parse::<u16>().map_err(|_| Failure::invalid(format!("invalid port specification: \"{text}\"")));
        let container_port = number(port)?;
        for host in hosts.unwrap_or_default() {
            let mut f = Fields::of(host, "HostConfig.PortBindings")?;
            let (ip, port): (String, String) = (f.get("HostIp")?, f.get("HostPort")?);
            let host_ip = match ip.as_str() {
                "" | "0.0.0.0" => None,
                "::" => continue,
                text => Some(
                    text.parse::<Ipv4Addr>()
                        .map_err(|_| Failure::unbuilt(format!("publishing on {text}, which is not an IPv4 address")))?,
                ),
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
    ipam.finish()?;
    let join = NetworkJoin { network, address, aliases: e.get("Aliases")?, assigned: false };
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
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
                "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true, "ConsoleSize": [24, 80],
                "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "BlkioDeviceReadBps": [], "CgroupnsMode": ""
            },
            "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": {}, "Links": null, "Aliases": null}}}
        });
        let read = read(Fields::of(body, "").expect("object")).expect("taken");
        assert_eq!(read.host.ports[0].host_port, 8080);
        assert_eq!(read.config.cmd, ["true"]);
    }

    #[test]
    fn what_is_not_built_is_named() {
        for (body, name) in [
            (json!({"Image": "x", "HostConfig": {"Devices": [{"PathOnHost": "/dev/kvm"}]}}), "Devices"),
            (json!({"Image": "x", "HostConfig": {"LogConfig": {"Type": "syslog"}}}), "syslog"),
        ] {
            let refused = read(Fields::of(body, "").expect("object")).expect_err("refused");
            assert!(refused.0.message.contains(name), "{}", refused.0.message);
        }
    }
}
