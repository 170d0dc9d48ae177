//! The daemon's configuration: flags and `daemon.json`, in dockerd's words where they mean the same.
//!
//! Unknown flags and keys are errors. What dockerd knows and Skep has no need of is taken with a note in the log; what would
//! change behaviour and is not built is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;
use serde_json::Value;
use skep_types::Ipv6Net;
use skep_types::logdriver::DEFAULT as DEFAULT_LOG;
use skep_types::spec::GenericResource;

/// The daemon cannot run with this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// Runs containers and takes part in a swarm.
#[derive(Debug, Parser, Default)]
#[command(name = "skep daemon", bin_name = "skep daemon")]
struct Flags {
    /// Socket to listen on, `unix://PATH`; may be given several times.
    #[arg(short = 'H', long = "host")]
    host: Vec<String>,
    /// Directory of what must survive: images, containers, volumes, the swarm's state.
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// Directory of what lives as long as the host is up.
    #[arg(long)]
    exec_root: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, default_value = "/etc/docker/daemon.json")]
    config_file: PathBuf,
    /// trace, debug, info, warn, error.
    #[arg(short = 'l', long)]
    log_level: Option<String>,
    /// Same as --log-level debug.
    #[arg(short = 'D', long)]
    debug: bool,
    /// File for the process id.
    #[arg(short = 'p', long)]
    pidfile: Option<PathBuf>,
    /// Registry (host:port) to talk to without TLS.
    #[arg(long)]
    insecure_registry: Vec<String>,
    /// Mirror of Docker Hub to ask first.
    #[arg(long)]
    registry_mirror: Vec<String>,
    /// Address or interface to advertise when `swarm init` or `join` names none.
    #[arg(long)]
    swarm_default_advertise_addr: Option<String>,
    /// Group of the socket.
    #[arg(short = 'G', long)]
    group: Option<String>,
    /// Label of this daemon, key=value.
    #[arg(long)]
    label: Vec<String>,
    /// What this host has besides CPU and memory, kind=value: a number, or a name.
    #[arg(long)]
    node_generic_resource: Vec<String>,
    /// Parent of the containers' cgroups.
    #[arg(long)]
    cgroup_parent: Option<String>,
    /// Option of the log driver for containers that do not say otherwise, key=value.
    #[arg(long)]
    log_opt: Vec<String>,
    /// Log driver of containers that name none: json-file, local, none, syslog, journald, gelf, fluentd, splunk or awslogs.
    #[arg(long)]
    log_driver: Option<String>,
    /// Only overlay2 (alias overlayfs) is built.
    #[arg(short = 's', long)]
    storage_driver: Option<String>,
    /// Taken for dockerd's sake; there is nothing to set up.
    #[arg(long)]
    containerd: Option<String>,
    /// As --containerd.
    #[arg(long)]
    containerd_namespace: Option<String>,
    /// As --containerd.
    #[arg(long)]
    containerd_plugins_namespace: Option<String>,
    /// Published ports never need a proxy.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    userland_proxy: Option<String>,
    /// As --userland-proxy.
    #[arg(long)]
    userland_proxy_path: Option<String>,
    /// Rules are always kept, by nftables.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    iptables: Option<String>,
    /// As --iptables.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip6tables: Option<String>,
    /// Forwarding is always on.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip_forward: Option<String>,
    /// Masquerading is always on.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ip_masq: Option<String>,
    /// Containers always outlive the daemon.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    live_restore: Option<String>,
    /// Only cgroupfs is built.
    #[arg(long)]
    exec_opt: Vec<String>,
    /// No feature is experimental.
    #[arg(long)]
    experimental: bool,
    /// Metrics come later.
    #[arg(long)]
    metrics_addr: Option<String>,
    /// Payload size of bridges.
    #[arg(long)]
    mtu: Option<u32>,
    /// Containers on the default bridge reach one another.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    icc: Option<bool>,
    /// The default bridge has IPv6, too.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ipv6: Option<bool>,
    /// Subnet of IPv6 of the default bridge.
    #[arg(long)]
    fixed_cidr_v6: Option<String>,
    /// Not built: TCP is not served yet.
    #[arg(long)]
    tls: bool,
    /// Not built: TCP is not served yet.
    #[arg(long)]
    tlsverify: bool,
}

/// `daemon.json`.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    hosts: Option<Vec<String>>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    log_level: Option<String>,
    debug: Option<bool>,
    pidfile: Option<PathBuf>,
    insecure_registries: Option<Vec<String>>,
    registry_mirrors: Option<Vec<String>>,
    swarm_default_advertise_addr: Option<String>,
    group: Option<String>,
    labels: Option<Vec<String>>,
    node_generic_resources: Option<Vec<String>>,
    cgroup_parent: Option<String>,
    log_opts: Option<BTreeMap<String, String>>,
    log_driver: Option<String>,
    storage_driver: Option<String>,
    mtu: Option<u32>,
    icc: Option<bool>,
    ipv6: Option<bool>,
    fixed_cidr_v6: Option<String>,
    /// What is left: taken with a note, refused, or unknown.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// How the daemon runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) hosts: Vec<PathBuf>,
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) log_level: String,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) labels: Vec<String>,
    /// What this host has besides CPU and memory.
    pub(crate) generic: Vec<GenericResource>,
    pub(crate) cgroup_parent: String,
    pub(crate) log_driver: String,
    pub(crate) log_opts: BTreeMap<String, String>,
    pub(crate) mtu: u32,
    pub(crate) icc: bool,
    /// The default bridge has IPv6 …
    pub(crate) ipv6: bool,
    /// … in this subnet.
    pub(crate) fixed_cidr6: Option<Ipv6Net>,
    /// What was taken without an effect.
    pub(crate) notes: Vec<String>,
}

/// Keys of `daemon.json` that Skep has no need of.
const NEEDLESS: [&str; 15] = [
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "experimental",
    "features",
    "ip6tables",
    "ip-forward",
    "ip-masq",
    "iptables",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "shutdown-timeout",
    "userland-proxy",
    "userland-proxy-path",
];
/// Keys that dockerd knows and that would change behaviour.
const UNBUILT: [&str; 34] = [
    "add-runtime",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugins",
    "bip",
    "bridge",
    "builder",
    "cgroup-driver",
    "cluster-advertise",
    "cluster-store",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "default-address-pools",
    "default-cgroupns-mode",
    "default-gateway",
    "default-ipc-mode",
    "default-runtime",
    "default-shm-size",
    "default-ulimits",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-opts",
    "fixed-cidr",
    "host-gateway-ip",
    "init",
    "ip",
    "metrics-addr",
    "runtimes",
    "seccomp-profile",
    "selinux-enabled",
    "storage-opts",
    "tls",
    "tlsverify",
];

impl Config {
    /// Reads flags and file. Help and version come back as a text to print.
    ///
    /// # Errors
    /// With dockerd's words where it has some.
    pub(crate) fn read(args: &[String]) -> Result<Result<Self, String>, ConfigError> {
        let name = std::iter::once("skep daemon".to_owned());
        let flags = match Flags::try_parse_from(name.chain(args.iter().cloned())) {
            Ok(flags) => flags,
            Err(e) if e.use_stderr() => return Err(ConfigError(e.to_string())),
            Err(e) => return Ok(Err(e.to_string())),
        };
        let given = args.iter().any(|a| a == "--config-file" || a.starts_with("--config-file="));
        let file = match std::fs::read_to_string(&flags.config_file) {
            Ok(text) => parse_file(&flags, &text)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !given => File::default(),
            Err(e) => return Err(unusable(&flags, e)),
        };
        merge(flags, file).map(Ok)
    }
}

fn unusable(flags: &Flags, cause: impl std::fmt::Display) -> ConfigError {
    ConfigError(format!("unable to configure the daemon with file {}: {cause}", flags.config_file.display()))
}

fn parse_file(flags: &Flags, text: &str) -> Result<File, ConfigError> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_json::from_str(text).map_err(|e| unusable(flags, e))
}

/// One setting from two places.
fn one<T>(name: &str, flag: Option<T>, file: Option<T>) -> Result<Option<T>, ConfigError> {
    match (flag, file) {
        (Some(_), Some(_)) => Err(ConfigError(format!(
            "the following directives are specified both as a flag and in the configuration file: {name}"
        ))),
        (flag, file) => Ok(flag.or(file)),
    }
}

fn many<T>(flags: Vec<T>) -> Option<Vec<T>> {
    if flags.is_empty() { None } else { Some(flags) }
}

fn pairs(list: Vec<String>, flag: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let split = |p: String| {
        p.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .ok_or_else(|| ConfigError(format!("{flag} {p}: expected key=value")))
    };
    list.into_iter().map(split).collect()
}

/// `SSD=3` is a number of a kind, `GPU=UUID1` one of a kind by name; several may stand in one word, parted by commas.
fn generic_resources(list: Vec<String>) -> Result<Vec<GenericResource>, ConfigError> {
    let mut out: Vec<GenericResource> = Vec::new();
    for word in list.iter().flat_map(|w| w.split(',')) {
        let refuse = |why: &str| Err(ConfigError(format!("--node-generic-resource {word}: {why}")));
        let Some((kind, value)) = word.split_once('=').filter(|(k, v)| !k.is_empty() && !v.is_empty()) else {
            return refuse("expected kind=value");
        };
        let kind = kind.to_owned();
        let new = match value.parse() {
            Ok(count) => GenericResource::Discrete { kind, count },
            Err(_) => GenericResource::Named { kind, id: value.to_owned() },
        };
        let counted = matches!(new, GenericResource::Discrete { .. });
        let other = |o: &&GenericResource| o.kind() == new.kind();
        if out.iter().filter(other).any(|o| counted || matches!(o, GenericResource::Discrete { .. }) || *o == new) {
            return refuse("a kind is either one number or different names");
        }
        out.push(new);
    }
    Ok(out)
}

fn socket(text: &str) -> Result<PathBuf, ConfigError> {
    let refuse = |why: &str| Err(ConfigError(format!("-H {text}: {why}")));
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(("unix", "")) => Ok(PathBuf::from("/var/run/docker.sock")),
        Some(("unix", _)) => refuse("the path of a unix socket must be absolute"),
        Some(("tcp", _)) => refuse("serving the API over TCP is not built yet (it needs mutual TLS)"),
        Some(("fd", _)) => refuse("socket activation is not built yet; name the socket with unix://"),
        _ => refuse("expected unix:///path/of/socket"),
    }
}

fn merge(flags: Flags, file: File) -> Result<Config, ConfigError> {
    let mut notes = Vec::new();
    let mut unknown = Vec::new();
    for (key, value) in &file.rest {
        let off = value == &Value::Bool(false) && matches!(key.as_str(), "iptables" | "ip6tables" | "ip-masq" | "ip-forward");
        if UNBUILT.contains(&key.as_str()) || off {
            return Err(unusable(&flags, format!("{key} = {value} is not built yet in Skep")));
        } else if NEEDLESS.contains(&key.as_str()) {
            notes.push(format!("{key} in the configuration file has no effect: Skep has no need of it"));
        } else {
            unknown.push(key.as_str());
        }
    }
    if !unknown.is_empty() {
        let text = format!("the following directives don't match any configuration option: {}", unknown.join(", "));
        return Err(unusable(&flags, text));
    }
    for (name, value, off_means) in [
        ("--iptables", &flags.iptables, Some("publishing ports without rules")),
        ("--ip-masq", &flags.ip_masq, Some("networks without masquerading")),
        ("--ip-forward", &flags.ip_forward, Some("a host that does not forward")),
        ("--ip6tables", &flags.ip6tables, Some("networks of IPv6 without rules")),
        ("--userland-proxy", &flags.userland_proxy, None),
        ("--live-restore", &flags.live_restore, None),
    ] {
        match (value.as_deref(), off_means) {
            (None, _) => {}
            (Some("true"), _) | (Some("false"), None) => notes.push(format!("{name} has no effect: Skep has no need of it")),
            (Some("false"), Some(what)) => return Err(ConfigError(format!("{name}=false: {what} is not built yet in Skep"))),
            (Some(other), _) => return Err(ConfigError(format!("{name}={other}: expected true or false"))),
        }
    }
    for (name, value) in [
        ("--containerd", &flags.containerd),
        ("--containerd-namespace", &flags.containerd_namespace),
        ("--containerd-plugins-namespace", &flags.containerd_plugins_namespace),
        ("--userland-proxy-path", &flags.userland_proxy_path),
    ] {
        if value.is_some() {
            notes.push(format!("{name} has no effect: Skep has no need of it"));
        }
    }
    if flags.experimental {
        notes.push("--experimental has no effect: no feature is experimental".to_owned());
    }
    if flags.tls || flags.tlsverify || flags.metrics_addr.is_some() {
        return Err(ConfigError("--tls, --tlsverify and --metrics-addr are not built yet in Skep".to_owned()));
    }
    for option in &flags.exec_opt {
        if option != "native.cgroupdriver=cgroupfs" {
            return Err(ConfigError(format!("--exec-opt {option} is not built yet in Skep (native.cgroupdriver=cgroupfs is)")));
        }
    }
    if let Some(driver) = one("storage-driver", flags.storage_driver, file.storage_driver)?
        && !matches!(driver.as_str(), "overlay2" | "overlayfs" | "overlay")
    {
        return Err(ConfigError(format!("--storage-driver {driver} is not built in Skep: it has overlay2 only")));
    }
    let exec_root = one("exec-root", flags.exec_root, file.exec_root)?.unwrap_or_else(|| PathBuf::from("/run/skep"));
    let hosts = match one("hosts", many(flags.host), file.hosts)? {
        Some(list) => list.iter().map(|h| socket(h)).collect::<Result<Vec<_>, _>>()?,
        None => vec![PathBuf::from("/run/skep/docker.sock")],
    };
    let debug = flags.debug || file.debug.unwrap_or(false);
    let level = one("log-level", flags.log_level, file.log_level)?;
    let log_level = level.unwrap_or_else(|| if debug { "debug" } else { "info" }.to_owned());
    let log_level = if log_level == "fatal" { "error".to_owned() } else { log_level };
    if !["trace", "debug", "info", "warn", "error"].contains(&log_level.as_str()) {
        return Err(ConfigError(format!("invalid logging level: {log_level}")));
    }
    let data_root = one("data-root", flags.data_root, file.data_root)?.unwrap_or_else(|| PathBuf::from("/var/lib/skep"));
    for (name, path) in [("--data-root", &data_root), ("--exec-root", &exec_root)] {
        if !path.is_absolute() {
            return Err(ConfigError(format!("{name} {}: the path must be absolute", path.display())));
        }
    }
    let flag_opts = pairs(flags.log_opt, "--log-opt")?;
    let log_opts = one("log-opts", (!flag_opts.is_empty()).then_some(flag_opts), file.log_opts)?.unwrap_or_default();
    let log_driver = one("log-driver", flags.log_driver, file.log_driver)?.unwrap_or_else(|| DEFAULT_LOG.to_owned());
    skep_engine::check_log_driver(&log_driver, &log_opts)
        .map_err(|e| ConfigError(format!("failed to set log opts: {}", e.message)))?;
    let labels = one("labels", many(flags.label), file.labels)?.unwrap_or_default();
    pairs(labels.clone(), "--label")?;
    let cidr = one("fixed-cidr-v6", flags.fixed_cidr_v6, file.fixed_cidr_v6)?;
    let cidr =
        cidr.map(|text| text.parse::<Ipv6Net>().map_err(|e| ConfigError(format!("--fixed-cidr-v6: {e}")))).transpose()?;
    let generic = one("node-generic-resources", many(flags.node_generic_resource), file.node_generic_resources)?;
    Ok(Config {
        generic: generic_resources(generic.unwrap_or_default())?,
        hosts,
        data_root,
        exec_root,
        log_level,
        pidfile: one("pidfile", flags.pidfile, file.pidfile)?,
        insecure_registries: one("insecure-registries", many(flags.insecure_registry), file.insecure_registries)?
            .unwrap_or_default(),
        registry_mirrors: one("registry-mirrors", many(flags.registry_mirror), file.registry_mirrors)?.unwrap_or_default(),
        advertise: one("swarm-default-advertise-addr", flags.swarm_default_advertise_addr, file.swarm_default_advertise_addr)?,
        group: one("group", flags.group, file.group)?,
        labels,
        cgroup_parent: one("cgroup-parent", flags.cgroup_parent, file.cgroup_parent)?.unwrap_or_else(|| "/skep".to_owned()),
        log_driver,
        log_opts,
        mtu: one("mtu", flags.mtu, file.mtu)?.unwrap_or(1500),
        icc: one("icc", flags.icc, file.icc)?.unwrap_or(true),
        ipv6: one("ipv6", flags.ipv6, file.ipv6)?.unwrap_or(false),
        fixed_cidr6: cidr,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: &[&str], file: &str) -> Result<Config, ConfigError> {
        let name = std::iter::once("skep daemon");
        let flags = Flags::try_parse_from(name.chain(args.iter().copied())).map_err(|e| ConfigError(e.to_string()))?;
        let file = parse_file(&flags, file)?;
        merge(flags, file)
    }

    #[test]
    fn a_usual_unit_file_works_unchanged() {
        let config = with(
            &[
                "-H",
                "unix:///run/a.sock",
                "--containerd=/run/containerd/containerd.sock",
                "--userland-proxy=false",
                "-s",
                "overlay2",
            ],
            r#"{"log-opts": {"max-size": "10m"}, "live-restore": true}"#,
        )
        .expect("taken");
        assert_eq!(config.hosts, [PathBuf::from("/run/a.sock")]);
        assert_eq!(config.notes.len(), 3);
        let config = with(&["--node-generic-resource", "GPU=a,GPU=b", "--node-generic-resource=SSD=3"], "").expect("taken");
        assert_eq!(config.generic.len(), 3);
    }

    #[test]
    fn what_is_unknown_doubled_or_not_built_is_an_error() {
        for (args, file, words) in [
            (&["--frobnicate"][..], "", "--frobnicate"),
            (&[], r#"{"frobnicate": 1}"#, "don't match any configuration option: frobnicate"),
            (&["--data-root", "/a"], r#"{"data-root": "/b"}"#, "both as a flag and in the configuration file: data-root"),
            (&[], r#"{"bip": "10.0.0.1/24"}"#, "not built yet"),
            (&["--iptables=false"], "", "not built yet"),
            (&["-H", "tcp://0.0.0.0:2375"], "", "not built yet"),
            (&["-H", "fd://"], "", "socket activation"),
            (&["--storage-driver", "zfs"], "", "overlay2 only"),
            (&["--log-driver", "gcplogs"], "", "the log driver gcplogs is not built yet in Skep"),
            (&["--log-driver", "splunk"], "", "splunk-url is expected"),
            (&["--log-opt", "tag=x"], r#"{"log-driver": "none"}"#, "unknown log opt 'tag' for none log driver"),
            (&[], r#"{"log-driver": "gelf"}"#, "gelf-address is a required parameter"),
            (&["--node-generic-resource", "GPU"], "", "expected kind=value"),
            (&["--node-generic-resource", "GPU=a,GPU=2"], "", "either one number or different names"),
            (&["--log-level", "loud"], "", "invalid logging level: loud"),
            (&[], "{", "unable to configure the daemon with file"),
        ] {
            let error = with(args, file).expect_err("refused").0;
            assert!(error.contains(words), "{error}");
        }
    }
}
