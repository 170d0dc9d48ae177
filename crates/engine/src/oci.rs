//! From a container's record to the OCI runtime configuration, with Docker's defaults. Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skep_types::container::{ContainerConfig, HostConfig, MountPoint};
use skep_types::spec::Ulimit;

use crate::error::{Result, invalid};

/// What a container may do unless told otherwise, as in Docker.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
];

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const MASKED_IF_PRESENT: &str = "/sys/devices/virtual/powercap";
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Size of /dev/shm unless told otherwise, in bytes.
const SHM_SIZE: u64 = 64 << 20;
/// Period of the CPU quota, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Kind of the mounts of secrets and configs, which nothing is ever run from.
pub(crate) const FILE_KIND: &str = "file";

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub path: String,
    /// A block device.
    pub block: bool,
    /// Number of the driver.
    pub major: i64,
    /// Number of the device.
    pub minor: i64,
    /// Permissions of the node.
    pub mode: u32,
    /// Owner of the node.
    pub uid: u32,
    /// Group of the node.
    pub gid: u32,
    /// What the container may do: letters of `rwm`.
    pub access: String,
}

/// What the configuration is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    /// Program and arguments.
    pub args: Vec<String>,
    /// What it runs.
    pub config: &'a ContainerConfig,
    /// How it is confined.
    pub host: &'a HostConfig,
    /// Host name.
    pub hostname: &'a str,
    /// Root filesystem on the host.
    pub rootfs: String,
    /// Network namespace; `None` is the host's.
    pub netns: Option<&'a str>,
    /// Mounts, files made for /etc included.
    pub mounts: &'a [MountPoint],
    /// Devices of the host.
    pub devices: &'a [Device],
    /// Parent of its cgroup.
    pub cgroup_parent: &'a str,
    /// The host has only the unified hierarchy.
    pub cgroup_v2: bool,
    /// Cgroup paths to make read-only.
    pub readonly_cgroups: Vec<String>,
}

/// Capabilities of a container (`CAP_…`, sorted), from the default set and its `--cap-add` and `--cap-drop`.
///
/// # Errors
/// 400 for an unknown name.
pub fn capabilities(host: &HostConfig) -> Result<Vec<String>> {
    if host.privileged {
        return Ok(ALL_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect());
    }
    let normal = |name: &str| -> Result<String> {
        let upper = name.to_ascii_uppercase();
        let full = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if full == "ALL" || ALL_CAPABILITIES.contains(&full.as_str()) {
            Ok(full)
        } else {
            Err(invalid(format!("invalid capability: \"{name}\"")))
        }
    };
    let add = host.cap_add.iter().map(|c| normal(c)).collect::<Result<Vec<_>>>()?;
    let drop = host.cap_drop.iter().map(|c| normal(c)).collect::<Result<Vec<_>>>()?;
    let all = |list: &[String]| list.iter().any(|c| c == "ALL");
    let mut set: BTreeSet<String> = match (all(&add), all(&drop)) {
        (true, _) => ALL_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
        (false, true) => BTreeSet::new(),
        (false, false) => DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect(),
    };
    for cap in &drop {
        set.remove(cap);
    }
    set.extend(add.into_iter().filter(|c| c != "ALL"));
    Ok(set.into_iter().collect())
}

/// Path of a container's cgroup.
#[must_use]
pub fn cgroup_path(parent: &str, id: &str) -> String {
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// The environment: Docker's own variables first, then the image's and the user's.
#[must_use]
pub fn environment(config: &ContainerConfig, hostname: &str) -> Vec<String> {
    let mut env =
        vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(), format!("HOSTNAME={hostname}")];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge_env(&mut env, &config.env);
    env
}

/// Sets `KEY=value` entries of `more` in `env`; a bare `KEY` removes the variable.
pub fn merge_env(env: &mut Vec<String>, more: &[String]) {
    for entry in more {
        let key = entry.split('=').next().unwrap_or_default();
        let place = env.iter().position(|e| e.split('=').next() == Some(key));
        match (place, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

/// The whole configuration.
///
/// # Errors
/// 400 for values that no container can have.
pub fn config(inputs: &Inputs<'_>) -> Result<Value> {
    let host = inputs.host;
    let mut namespaces = vec![json!({"type": "pid"}), json!({"type": "mount"}), json!({"type": "uts"}), json!({"type": "ipc"})];
    if let Some(netns) = inputs.netns {
        namespaces.push(json!({"type": "network", "path": netns}));
    }
    if inputs.cgroup_v2 {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut masked: Vec<&str> = MASKED.to_vec();
    masked.push(MASKED_IF_PRESENT);
    let mut readonly: Vec<String> = READONLY.iter().map(|p| (*p).to_owned()).collect();
    readonly.extend(inputs.readonly_cgroups.iter().cloned());
    if host.privileged {
        masked.clear();
        readonly.clear();
    }
    let cwd = if inputs.config.working_dir.is_empty() { "/" } else { &inputs.config.working_dir };
    let mut sysctls = serde_json::Map::new();
    if inputs.netns.is_some() {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), json!("0"));
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), json!("0 2147483647"));
    }
    sysctls.extend(host.sysctls.iter().map(|(k, v)| (k.clone(), json!(v))));
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": inputs.config.tty,
            "user": {"uid": 0, "gid": 0},
            "args": inputs.args,
            "env": environment(inputs.config, inputs.hostname),
            "cwd": cwd,
            "noNewPrivileges": host.no_new_privileges,
            "oomScoreAdj": host.oom_score_adj,
            "rlimits": rlimits(&host.ulimits),
        },
        "root": {"path": inputs.rootfs, "readonly": host.readonly_rootfs},
        "hostname": inputs.hostname,
        "mounts": mounts(inputs),
        "linux": {
            "sysctl": sysctls,
            "namespaces": namespaces,
            "cgroupsPath": cgroup_path(inputs.cgroup_parent, inputs.id),
            "resources": resources(host, inputs.devices),
            "devices": nodes(inputs.devices),
            "maskedPaths": masked,
            "readonlyPaths": readonly,
        },
    }))
}

/// Limits as the kernel names them; -1 is none.
fn rlimits(ulimits: &[Ulimit]) -> Value {
    let limit = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let one =
        |u: &Ulimit| json!({"type": format!("RLIMIT_{}", u.name.to_uppercase()), "soft": limit(u.soft), "hard": limit(u.hard)});
    ulimits.iter().map(one).collect()
}

/// Below /dev the runtime library makes nodes; elsewhere the host's own are mounted (see [`mounts`]).
fn is_made(d: &Device) -> bool {
    d.path.starts_with("/dev/")
}

fn nodes(devices: &[Device]) -> Value {
    let node = |d: &Device| {
        json!({
            "path": d.path, "type": if d.block { "b" } else { "c" }, "major": d.major, "minor": d.minor, "fileMode": d.mode,
            "uid": d.uid, "gid": d.gid,
        })
    };
    devices.iter().filter(|d| is_made(d)).map(node).collect()
}

/// A rule of the device cgroup as Docker writes it, `c 42:* rwm`; it was looked at when the container was created.
fn rule(text: &str) -> Option<Value> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |n: &str| n.parse::<i64>().ok();
    Some(json!({"allow": true, "type": kind, "major": number(major), "minor": number(minor), "access": access}))
}

fn resources(host: &HostConfig, given: &[Device]) -> Value {
    let device = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
    let mut devices = if host.privileged {
        vec![json!({"allow": true, "access": "rwm"})]
    } else {
        vec![
            json!({"allow": false, "access": "rwm"}),
            device("c", None, None, "m"),
            device("b", None, None, "m"),
            device("c", Some(1), Some(3), "rwm"),
            device("c", Some(1), Some(5), "rwm"),
            device("c", Some(1), Some(7), "rwm"),
            device("c", Some(1), Some(8), "rwm"),
            device("c", Some(1), Some(9), "rwm"),
            device("c", Some(5), Some(0), "rwm"),
            device("c", Some(5), Some(1), "rwm"),
            device("c", Some(5), Some(2), "rwm"),
            device("c", Some(136), None, "rwm"),
        ]
    };
    if !host.privileged {
        let of = |d: &Device| device(if d.block { "b" } else { "c" }, Some(d.major), Some(d.minor), &d.access);
        devices.extend(given.iter().map(of));
        devices.extend(host.device_rules.iter().filter_map(|r| rule(r)));
    }
    let mut out = json!({ "devices": devices });
    if host.memory > 0 {
        // Docker's default: as much swap as memory.
        out["memory"] = json!({"limit": host.memory, "swap": host.memory.saturating_mul(2)});
    }
    let mut cpu = serde_json::Map::new();
    if host.nano_cpus > 0 {
        cpu.insert("period".to_owned(), json!(CPU_PERIOD));
        cpu.insert("quota".to_owned(), json!(host.nano_cpus.saturating_mul(CPU_PERIOD) / 1_000_000_000));
    }
    if host.cpu_shares > 0 {
        cpu.insert("shares".to_owned(), json!(host.cpu_shares));
    }
    if !cpu.is_empty() {
        out["cpu"] = Value::Object(cpu);
    }
    if host.pids_limit > 0 {
        out["pids"] = json!({"limit": host.pids_limit});
    }
    out
}

fn mounts(inputs: &Inputs<'_>) -> Vec<Value> {
    let host = inputs.host;
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let shm = if host.shm_size == 0 { SHM_SIZE } else { host.shm_size };
    let shm_size = format!("size={shm}");
    let sys = if host.privileged { "rw" } else { "ro" };
    let mut out = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size]),
    ];
    for (path, options) in &host.tmpfs {
        let given = options.split(',').filter(|o| !o.is_empty());
        let options: Vec<&str> = ["nosuid", "nodev", "noexec"].into_iter().chain(given).collect();
        out.push(mount(path, "tmpfs", "tmpfs", &options));
    }
    // Parents before children, so that a mount inside another is not hidden by it.
    let mut user: Vec<&MountPoint> = inputs.mounts.iter().collect();
    user.sort_by_key(|m| m.destination.matches('/').count());
    for point in user {
        let access = if point.rw { "rw" } else { "ro" };
        if point.kind == "tmpfs" {
            let options: Vec<&str> =
                ["nosuid", "nodev", "noexec"].into_iter().chain(point.source.split(',').filter(|o| !o.is_empty())).collect();
            out.push(mount(&point.destination, "tmpfs", "tmpfs", &options));
        } else {
            let mut options = vec!["rbind", "rprivate", access];
            if point.kind == FILE_KIND {
                options.extend(["nosuid", "nodev", "noexec"]);
            }
            out.push(mount(&point.destination, "bind", &point.source, &options));
        }
    }
    for d in inputs.devices.iter().filter(|d| !is_made(d)) {
        out.push(mount(&d.path, "bind", &d.host, &["bind", "rprivate", "rw", "nosuid", "noexec"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_follow_add_and_drop() {
        let of = |add: &[&str], drop: &[&str]| {
            let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
            capabilities(&HostConfig { cap_add: list(add), cap_drop: list(drop), ..Default::default() })
        };
        assert_eq!(of(&[], &[]).expect("default").len(), 14);
        assert_eq!(of(&[], &["ALL"]).expect("none"), Vec::<String>::new());
        assert_eq!(of(&["net_admin"], &["all"]).expect("one"), ["CAP_NET_ADMIN"]);
        assert!(!of(&["ALL"], &["SYS_ADMIN"]).expect("most").contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(of(&["FLY"], &[]).is_err());
    }

    #[test]
    fn environment_is_overridden_by_key() {
        let config =
            ContainerConfig { env: vec!["PATH=/x".to_owned(), "A=1".to_owned(), "HOSTNAME".to_owned()], ..Default::default() };
        assert_eq!(environment(&config, "h"), ["PATH=/x", "A=1"]);
    }

    #[test]
    fn devices_are_nodes_and_rules() {
        let device = |path: &str, access: &str| Device {
            host: "/dev/fuse".into(),
            path: path.into(),
            block: false,
            major: 10,
            minor: 229,
            mode: 0o666,
            uid: 0,
            gid: 0,
            access: access.into(),
        };
        let host = HostConfig { device_rules: vec!["b 8:* r".into()], ..HostConfig::default() };
        let resources = resources(&host, &[device("/dev/fuse", "rw")]);
        let rules = resources["devices"].as_array().expect("rules");
        assert_eq!(rules[rules.len() - 2], json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}));
        assert_eq!(rules[rules.len() - 1], json!({"allow": true, "type": "b", "major": 8, "minor": null, "access": "r"}));
        assert_eq!(nodes(&[device("/dev/fuse", "rw"), device("/srv/fuse", "rw")]).as_array().map(Vec::len), Some(1));
    }
}
