//! What a container of a service is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Labels;
use crate::file::FileRef;
use crate::health::HealthConfig;

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ContainerSpec {
    /// Image reference, with digest when it was pinned.
    pub image: String,
    /// Labels of the container.
    #[serde(default)]
    pub labels: Labels,
    /// Replaces the image's ENTRYPOINT.
    #[serde(default)]
    pub command: Vec<String>,
    /// Replaces the image's CMD.
    #[serde(default)]
    pub args: Vec<String>,
    /// Host name inside; empty means the short container id.
    #[serde(default)]
    pub hostname: String,
    /// `KEY=value` (or `KEY`, which removes a variable of the image).
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(default)]
    pub dir: String,
    /// `user[:group]`.
    #[serde(default)]
    pub user: String,
    /// Pseudo-terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep standard input open.
    #[serde(default)]
    pub open_stdin: bool,
    /// Root filesystem read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Mounts.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Signal that asks it to stop; empty means the image's or SIGTERM.
    #[serde(default)]
    pub stop_signal: String,
    /// Time between the stop signal and SIGKILL; absent means 10 s.
    #[serde(default)]
    pub stop_grace: Option<Duration>,
    /// Health check; absent takes the image's.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// Extra lines of /etc/hosts in the form `IP name`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// A small init as the first process, which forwards signals and reaps processes.
    #[serde(default)]
    pub init: Option<bool>,
    /// Secrets and configs that it gets, in the order given within each kind.
    #[serde(default)]
    pub files: Vec<FileRef>,
    /// Groups of the user besides its own, by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Resolvers and search domains instead of the node's.
    #[serde(default)]
    pub dns: DnsConfig,
    /// Kernel parameters of its namespaces.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities added to the default set.
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// Limits of its processes.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Adjustment of the kernel's out-of-memory score, -1000..=1000.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Its processes never gain rights by running a set-id program.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// The filter of its system calls.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Its label for SELinux, if one is asked for.
    #[serde(default)]
    pub selinux: Option<SelinuxContext>,
}

/// A label for SELinux; parts that are empty are the host's to choose. Hosts without SELinux have no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SelinuxContext {
    /// No label confines the container.
    #[serde(default)]
    pub disable: bool,
    /// User.
    #[serde(default)]
    pub user: String,
    /// Role.
    #[serde(default)]
    pub role: String,
    /// Type.
    #[serde(default)]
    pub kind: String,
    /// Level.
    #[serde(default)]
    pub level: String,
}

impl SelinuxContext {
    /// The same as words of `--security-opt label=`, in Docker's order.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let parts = [("user", &self.user), ("role", &self.role), ("type", &self.kind), ("level", &self.level)];
        let given = parts.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}:{v}"));
        self.disable.then(|| "disable".to_owned()).into_iter().chain(given).collect()
    }
}

/// The filter of a container's system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON.
    Custom(String),
}

/// Resolvers of a container; empty lists take the node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DnsConfig {
    /// Addresses.
    #[serde(default)]
    pub nameservers: Vec<String>,
    /// Domains to search.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A limit of processes as setrlimit(2) knows it; -1 is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// In effect.
    pub soft: i64,
    /// The most that a process may raise it to.
    pub hard: i64,
}

impl Ulimit {
    /// Limits that there are, as Docker names them.
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];

    /// Whether it can be set.
    ///
    /// # Errors
    /// Docker's texts (go-units' `ulimit`).
    pub fn check(&self) -> Result<(), String> {
        if !Self::NAMES.contains(&self.name.as_str()) {
            return Err(format!("invalid ulimit type: {}", self.name));
        }
        if self.hard != -1 && (self.soft == -1 || self.soft > self.hard) {
            return Err(format!("ulimit soft limit must be less than or equal to hard limit: {} > {}", self.soft, self.hard));
        }
        Ok(())
    }
}

/// Kind of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or file of the host.
    Bind,
    /// A volume of the node.
    Volume,
    /// Memory.
    Tmpfs,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What kind.
    pub kind: MountKind,
    /// Host path or volume name; empty for tmpfs and anonymous volumes.
    #[serde(default)]
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Not writable.
    #[serde(default)]
    pub read_only: bool,
    /// Labels for a volume created by this mount.
    #[serde(default)]
    pub volume_labels: Labels,
    /// Driver of a volume, if another than `local` is asked for; only nodes that have it are used.
    #[serde(default)]
    pub volume_driver: Option<String>,
    /// Options of the driver for a volume created by this mount (`type`, `device`, `o`).
    #[serde(default)]
    pub volume_options: BTreeMap<String, String>,
    /// Do not copy the image's content into a new volume.
    #[serde(default)]
    pub no_copy: bool,
    /// Size limit of a tmpfs in bytes; 0 is unlimited.
    #[serde(default)]
    pub tmpfs_size: u64,
    /// Mode of a tmpfs; 0 means 1777.
    #[serde(default)]
    pub tmpfs_mode: u32,
}
