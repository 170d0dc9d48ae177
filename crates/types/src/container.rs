//! Containers, images and volumes of one host, as `api` asks for them and `engine` answers.
//!
//! Only what has an effect is here; the API's edge refuses the rest by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::health::{Health, HealthConfig};
use crate::spec::{Labels, Mount, Protocol, Seccomp, Ulimit};
use crate::{Ipv6Net, Time};

/// What a container runs; the image's configuration is already merged in once the container exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ContainerConfig {
    /// Reference as the user gave it.
    pub image: String,
    /// ENTRYPOINT; `None` takes the image's, an empty list clears it.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// CMD.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]`.
    #[serde(default)]
    pub user: String,
    /// Host name; empty means the short id.
    #[serde(default)]
    pub hostname: String,
    /// Domain name.
    #[serde(default)]
    pub domainname: String,
    /// Pseudo-terminal.
    #[serde(default)]
    pub tty: bool,
    /// Standard input stays open.
    #[serde(default)]
    pub open_stdin: bool,
    /// Standard input closes when the first attached client leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// As the client said (shown only).
    #[serde(default)]
    pub attach_stdin: bool,
    /// As the client said (shown only).
    #[serde(default)]
    pub attach_stdout: bool,
    /// As the client said (shown only).
    #[serde(default)]
    pub attach_stderr: bool,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Signal that asks it to stop.
    #[serde(default)]
    pub stop_signal: String,
    /// Seconds between the stop signal and SIGKILL; `None` means 10.
    #[serde(default)]
    pub stop_timeout: Option<i64>,
    /// Ports of the image and of `--expose`, `80/tcp`.
    #[serde(default)]
    pub exposed_ports: Vec<String>,
    /// Health check; `None` takes the image's.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// Anonymous volumes of the image and of `-v /path`.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// When the engine itself starts a container again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct EngineRestart {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// For `on-failure`: most attempts, 0 is unlimited.
    #[serde(default)]
    pub max_retry: u32,
}

/// A port published by `-p`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMap {
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub container_port: u16,
    /// Address on the host; `None` is every address, `0.0.0.0` every one of IPv4 and `::` every one of IPv6.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// Port on the host; 0 lets the engine choose one.
    #[serde(default)]
    pub host_port: u16,
    /// Last of several ports that will do, of which the first free one is taken; 0 if only that one does.
    #[serde(default)]
    pub host_port_end: u16,
}

/// How a container is confined and connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HostConfig {
    /// `-v` in Docker's notation `source:target[:options]`.
    #[serde(default)]
    pub binds: Vec<String>,
    /// `--mount`.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Driver of the volumes that `binds` name and of the image's own (`--volume-driver`); empty is `local`.
    #[serde(default)]
    pub volume_driver: String,
    /// `--network`: `default`, `bridge`, `host`, `none` or a name.
    #[serde(default)]
    pub network_mode: String,
    /// `-p`.
    #[serde(default)]
    pub ports: Vec<PortMap>,
    /// `-P`.
    #[serde(default)]
    pub publish_all: bool,
    /// Restart policy.
    #[serde(default)]
    pub restart: EngineRestart,
    /// `--rm`.
    #[serde(default)]
    pub auto_remove: bool,
    /// Memory limit in bytes; 0 is none.
    #[serde(default)]
    pub memory: u64,
    /// CPU limit in nano-CPUs; 0 is none.
    #[serde(default)]
    pub nano_cpus: u64,
    /// Limit of processes; 0 is none.
    #[serde(default)]
    pub pids_limit: u64,
    /// Relative CPU weight as Docker counts it (2..=262144); 0 is the default.
    #[serde(default)]
    pub cpu_shares: u64,
    /// Capabilities added to the default set, without `CAP_`.
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// `--read-only`.
    #[serde(default)]
    pub readonly_rootfs: bool,
    /// `--add-host name:ip`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    /// Resolvers to ask instead of the host's.
    #[serde(default)]
    pub dns: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Resolver options.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// Where its output goes: `json-file`, `local`, `none`, `syslog`, `journald`, `gelf` or `fluentd`; empty is the daemon's default.
    #[serde(default)]
    pub log_driver: String,
    /// Options of the log driver.
    #[serde(default)]
    pub log_opts: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes; 0 means 64 MiB.
    #[serde(default)]
    pub shm_size: u64,
    /// Kernel parameters.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// tmpfs mounts: path to options.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, String>,
    /// All capabilities, no filter, all devices.
    #[serde(default)]
    pub privileged: bool,
    /// Adjustment of the kernel's out-of-memory score.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Groups of the user besides its own, by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Limits of its processes.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Its processes never gain rights by running a set-id program.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// A small init as the first process.
    #[serde(default)]
    pub init: bool,
    /// The filter of its system calls.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Size of its terminal before the program runs: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Devices of the host.
    #[serde(default)]
    pub devices: Vec<DeviceMap>,
    /// What it may do with other devices, as the device cgroup is told: `c 42:* rmw`.
    #[serde(default)]
    pub device_rules: Vec<String>,
    /// `--security-opt label=`, without that word. Hosts without SELinux have no use for it.
    #[serde(default)]
    pub selinux: Vec<String>,
}

/// A device of the host in a container (`--device`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DeviceMap {
    /// Path on the host: a device, or a directory of devices.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// What may be done with it: letters of `rwm`.
    pub permissions: String,
}

/// A network that a new container joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NetworkJoin {
    /// Name or id; for an overlay network of a task its id.
    pub network: String,
    /// Wanted address.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// For tasks: the managers have given the address already.
    #[serde(default)]
    pub assigned: bool,
    /// Wanted address of IPv6.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
}

/// `POST /containers/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CreateContainer {
    /// Without the leading slash; empty lets the engine choose.
    pub name: String,
    /// What it runs.
    pub config: ContainerConfig,
    /// How it is confined.
    pub host: HostConfig,
    /// Networks beyond `host.network_mode`, or settings for it.
    #[serde(default)]
    pub networks: Vec<NetworkJoin>,
    /// For tasks: address on the ingress network.
    #[serde(default)]
    pub ingress_address: Option<Ipv4Addr>,
    /// For tasks: ports that other nodes send requests to on that address.
    #[serde(default)]
    pub ingress_ports: Vec<(Protocol, u16)>,
    /// For tasks: files of the swarm that it gets when it is started.
    #[serde(default)]
    pub files: Vec<FilePlace>,
}

/// Where a container has a secret or a config. What is in it comes with the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlace {
    /// Absolute path in the container.
    pub path: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// Life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum ContainerState {
    /// Never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Between two starts of its restart policy.
    Restarting,
    /// Its process ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed or started half.
    Dead,
}

impl ContainerState {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }
}

/// A network as a container is attached to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct EndpointInfo {
    /// Name of the network.
    pub network: String,
    /// Its id.
    pub network_id: String,
    /// Id of the attachment.
    pub endpoint_id: String,
    /// MAC address.
    pub mac: String,
    /// Address.
    pub address: Option<Ipv4Addr>,
    /// Prefix length.
    pub prefix: u8,
    /// Gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Other names.
    pub aliases: Vec<String>,
    /// Address of IPv6 with its prefix length.
    #[serde(default)]
    pub address6: Option<Ipv6Net>,
    /// Gateway of IPv6.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
}

/// A mount as a container has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: String,
    /// Volume name.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub destination: String,
    /// Writable.
    pub rw: bool,
    /// Driver of the volume; empty is `local`.
    #[serde(default)]
    pub driver: String,
}

/// A path in a container, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PathStat {
    /// The path's last part, `/` for the root.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Type and permissions as the kernel has them.
    pub mode: u32,
    /// Last change of its content.
    pub mtime: Time,
    /// What a symlink leads to in the end, absolute; empty for anything else.
    pub link: String,
}

/// A container as `inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ContainerInfo {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// When it was created.
    pub created: Time,
    /// `sha256:…` of the image.
    pub image_id: String,
    /// Program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// State.
    pub state: ContainerState,
    /// It runs, but its processes stand still.
    #[serde(default)]
    pub paused: bool,
    /// Process id on the host; 0 when it does not run.
    pub pid: i32,
    /// Last exit code.
    pub exit_code: i32,
    /// Why it did not start.
    pub error: String,
    /// Killed by the kernel for memory.
    pub oom_killed: bool,
    /// Last start.
    pub started_at: Time,
    /// Last end.
    pub finished_at: Time,
    /// Starts by the restart policy.
    pub restart_count: u32,
    /// How it is, if it has a health check and was started.
    #[serde(default)]
    pub health: Option<Health>,
    /// What it runs.
    pub config: ContainerConfig,
    /// How it is confined.
    pub host: HostConfig,
    /// Networks.
    pub endpoints: Vec<EndpointInfo>,
    /// Published ports with the chosen numbers.
    pub ports: Vec<PortMap>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Network namespace, or empty.
    pub netns: String,
    /// Path of the log file.
    pub log_path: String,
    /// Directory of /etc files made for it.
    pub etc_dir: String,
}

/// What `exec` runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ExecConfig {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory; empty is the container's.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]`; empty is the container's.
    #[serde(default)]
    pub user: String,
    /// Pseudo-terminal.
    #[serde(default)]
    pub tty: bool,
    /// Wanted streams.
    #[serde(default)]
    pub attach_stdin: bool,
    /// Wanted streams.
    #[serde(default)]
    pub attach_stdout: bool,
    /// Wanted streams.
    #[serde(default)]
    pub attach_stderr: bool,
    /// All capabilities.
    #[serde(default)]
    pub privileged: bool,
    /// Size of its terminal before the program runs: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
}

/// An `exec` as `inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ExecInfo {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its container.
    pub container: String,
    /// What it runs.
    pub config: ExecConfig,
    /// Still runs.
    pub running: bool,
    /// Once it ended.
    pub exit_code: Option<i32>,
    /// Process id on the host.
    pub pid: i32,
}

/// A volume of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its path on the host.
    pub mountpoint: String,
    /// When it was created.
    pub created: Time,
    /// Labels.
    pub labels: Labels,
    /// Made for one container by `-v /path` or an image.
    #[serde(default)]
    pub anonymous: bool,
    /// Options of its driver; of `local` what is mounted while containers use it.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Name of its driver; empty is `local`.
    #[serde(default)]
    pub driver: String,
    /// Its driver says that every host has the same one (`Scope: global`).
    #[serde(default)]
    pub global: bool,
    /// What its driver says of it, as it says it: JSON, or nothing.
    #[serde(default)]
    pub status: String,
}

impl VolumeInfo {
    /// Name of its driver.
    #[must_use]
    pub fn driver(&self) -> &str {
        if self.driver.is_empty() { "local" } else { &self.driver }
    }
}

/// Something that happened on this host, or in the swarm that it manages (`swarm-semantics` 2.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Event {
    /// `container`, `image`, `network`, `volume`, `daemon`; of the swarm `node`, `service`, `network`.
    pub kind: String,
    /// `create`, `start`, `die`, …
    pub action: String,
    /// Id of the object.
    pub id: String,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Time,
    /// It happened to an object of the swarm, not of this host.
    #[serde(default)]
    pub swarm: bool,
}
