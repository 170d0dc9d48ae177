//! What the engine asks of the kernel's side: the trait that `linux` implements.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use skep_types::file::Bytes;
use skep_types::usage::{NewLimits, Process, Usage};

use crate::shim::Launch;

/// What the host is, for `info` and for the swarm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// As uname says it: `x86_64`.
    pub architecture: String,
    /// PRETTY_NAME of os-release.
    pub os: String,
    /// Number of CPUs the process may use.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// SELinux is in force.
    pub selinux: bool,
}

/// System calls around containers, apart from networking.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Starts the shim of a bundle, gives it the bytes of its container's files, and returns what it said of itself.
    ///
    /// # Errors
    /// When the shim could not be started or said nothing.
    async fn launch(&self, bundle: &Path, files: &[Bytes]) -> std::io::Result<Launch>;

    /// File with the system call filter for a set of capabilities, by the default profile or another one in Docker's JSON.
    ///
    /// # Errors
    /// When it cannot be compiled (`InvalidInput`) or written.
    fn seccomp(&self, capabilities: &[String], profile: Option<&str>) -> std::io::Result<PathBuf>;

    /// Paths below /sys/fs/cgroup that a container may read but not write on this host.
    fn readonly_cgroups(&self) -> Vec<String>;

    /// What the host is.
    fn facts(&self) -> HostFacts;

    /// Kills every process of a container's group and removes the group: what is left when a shim was killed.
    fn clear_cgroup(&self, path: &str);

    /// Starts the helper that reaches into a container's files; it reads [`crate::reach::Plan`] on its standard input. It is killed when
    /// the value is dropped.
    ///
    /// # Errors
    /// When the process cannot be made.
    fn reach(&self) -> std::io::Result<tokio::process::Child>;

    /// What a container's group has used; of networks only if it has one of its own, whose first process is `pid`.
    fn usage(&self, cgroup: &str, pid: i32, own_network: bool) -> Usage;

    /// The processes of a container's group, by id.
    fn processes(&self, cgroup: &str) -> Vec<Process>;

    /// Stops all processes of a group in their tracks, or lets them go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn freeze(&self, cgroup: &str, frozen: bool) -> std::io::Result<()>;

    /// Whether a group is frozen.
    fn is_frozen(&self, cgroup: &str) -> bool;

    /// Sets new limits of a running container's group.
    ///
    /// # Errors
    /// What the kernel refused, and why; what came before it stands.
    fn limit(&self, cgroup: &str, limits: &NewLimits) -> std::io::Result<()>;
}
