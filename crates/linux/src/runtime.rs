//! The engine's [`Runtime`] on this kernel: starting shims, compiled filters, facts of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skep_engine::host::{HostFacts, Runtime};
use skep_engine::shim::Launch;
use skep_types::file::Bytes;
use skep_types::usage::{NewLimits, Process, Usage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;

use crate::{cgroup, processes, seccomp, usage};

/// Longest line that a shim prints about itself.
const MAX_LAUNCH: u64 = 64 << 10;
/// How long a shim may take to create its container; a disk that is this slow is as good as broken.
const LAUNCH_LIMIT: Duration = Duration::from_secs(120);

/// This kernel.
#[derive(Debug)]
pub struct LinuxRuntime {
    exec_root: PathBuf,
    /// Filters by the set of capabilities that they are for.
    filters: Mutex<BTreeMap<BTreeSet<String>, PathBuf>>,
    facts: HostFacts,
}

impl LinuxRuntime {
    /// Looks at the host.
    ///
    /// # Errors
    /// When the exec root cannot be made.
    pub fn new(exec_root: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(exec_root.join("seccomp"))?;
        Ok(Self { exec_root: exec_root.to_owned(), filters: Mutex::default(), facts: facts() })
    }

    /// Keeps a compiled filter where shims find it. Named by its content: a container of an earlier daemon loads its own filter
    /// again at each exec.
    fn keep_filter(&self, program: &[seccomp::Insn]) -> std::io::Result<PathBuf> {
        let bytes = seccomp::to_bytes(program);
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        let path = self.exec_root.join("seccomp").join(format!("{hash:016x}.bpf"));
        std::fs::write(&path, bytes)?;
        Ok(path)
    }
}

fn facts() -> HostFacts {
    let uname = rustix::system::uname();
    let info = rustix::system::sysinfo();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    HostFacts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        os: pretty.to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        memory: info.totalram.saturating_mul(u64::from(info.mem_unit)),
        cgroup_version: if cgroup::is_v2() { 2 } else { 1 },
        selinux: std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|t| t.trim() == "1"),
    }
}

/// Gives a shim its container's files: each after its length.
async fn give(mut shim: ChildStdin, files: &[Bytes]) -> std::io::Result<()> {
    for f in files {
        let length = u32::try_from(f.0.len()).map_err(std::io::Error::other)?;
        shim.write_all(&length.to_le_bytes()).await?;
        shim.write_all(&f.0).await?;
    }
    shim.shutdown().await
}

#[async_trait]
impl Runtime for LinuxRuntime {
    async fn launch(&self, bundle: &Path, files: &[Bytes]) -> std::io::Result<Launch> {
        let errors = std::fs::File::create(bundle.join("shim.err"))?;
        let mut child = tokio::process::Command::new("/proc/self/exe")
            .arg("shim")
            .arg(bundle)
            .env_clear()
            .current_dir("/")
            .stdin(if files.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let mut line = Vec::new();
        let stdin = child.stdin.take();
        let read = async {
            if let Some(stdin) = stdin {
                // A shim that does not take them says why on its standard output.
                let _ = give(stdin, files).await;
            }
            if let Some(out) = child.stdout.take() {
                BufReader::new(out.take(MAX_LAUNCH)).read_until(b'\n', &mut line).await?;
            }
            child.wait().await
        };
        match tokio::time::timeout(LAUNCH_LIMIT, read).await {
            Ok(done) => done.map(drop)?,
            Err(_) => return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the shim did not create its container")),
        }
        serde_json::from_slice(&line).map_err(|_| {
            let said = std::fs::read_to_string(bundle.join("shim.err")).unwrap_or_default();
            let said: String = said.chars().take(400).collect();
            std::io::Error::other(format!("the shim ended without a word: {said}"))
        })
    }

    fn seccomp(&self, capabilities: &[String], profile: Option<&str>) -> std::io::Result<PathBuf> {
        let set: BTreeSet<String> = capabilities.iter().cloned().collect();
        let malformed = |e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e);
        if let Some(profile) = profile {
            return self.keep_filter(&seccomp::compile(profile, &set).map_err(malformed)?);
        }
        // A panic while the map was held leaves a map that is still right.
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = filters.get(&set) {
            return Ok(path.clone());
        }
        let path = self.keep_filter(&seccomp::compile(seccomp::DEFAULT_PROFILE, &set).map_err(malformed)?)?;
        filters.insert(set, path.clone());
        Ok(path)
    }

    fn readonly_cgroups(&self) -> Vec<String> {
        if cgroup::is_v2() {
            return Vec::new();
        }
        // The mount's own `ro` is not honoured by v1 (a container could raise its limits), so each hierarchy is remounted.
        let entries = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path().display().to_string()).collect()
    }

    fn facts(&self) -> HostFacts {
        self.facts.clone()
    }

    fn clear_cgroup(&self, path: &str) {
        for pid in cgroup::processes(path) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // One that is already gone needs no signal.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        cgroup::remove(path);
    }

    fn reach(&self) -> std::io::Result<tokio::process::Child> {
        tokio::process::Command::new("/proc/self/exe")
            .arg("container-files")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }

    fn usage(&self, cgroup: &str, pid: i32, own_network: bool) -> Usage {
        usage::usage(cgroup, pid, own_network)
    }

    fn processes(&self, cgroup: &str) -> Vec<Process> {
        processes::list(cgroup)
    }

    fn freeze(&self, cgroup: &str, frozen: bool) -> std::io::Result<()> {
        usage::freeze(cgroup, frozen)
    }

    fn is_frozen(&self, cgroup: &str) -> bool {
        usage::is_frozen(cgroup)
    }

    fn limit(&self, cgroup: &str, limits: &NewLimits) -> std::io::Result<()> {
        usage::limit(cgroup, limits)
    }
}

/// IPv4 addresses of this host's own interfaces that are up: (interface, address). Bridges and links that the engine made are
/// left out, since nobody outside can reach them.
#[must_use]
pub fn interface_addresses() -> Vec<(String, std::net::Ipv4Addr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter(|i| i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP) && !made_by_engines(&i.interface_name))
        .filter_map(|i| {
            let address = i.address?.as_sockaddr_in()?.ip();
            Some((i.interface_name, address))
        })
        .collect()
}

/// Links that container engines make.
fn made_by_engines(name: &str) -> bool {
    matches!(name, "docker0" | "docker_gwbridge" | "sking" | "skgw") || name.starts_with("br-") || name.starts_with("veth")
}

/// This host's own addresses of IPv6 that others may see as its packets' source: of links that are up, neither of the loopback device nor
/// link-local. At most so many, the lowest ones.
#[must_use]
pub fn addresses6(most: usize) -> Vec<std::net::Ipv6Addr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let own = |i: nix::ifaddrs::InterfaceAddress| {
        let address = i.address?.as_sockaddr_in6()?.ip();
        let seen = !address.is_loopback() && !address.is_unicast_link_local();
        (seen && !made_by_engines(&i.interface_name)).then_some(address)
    };
    let found: std::collections::BTreeSet<std::net::Ipv6Addr> = all.filter_map(own).collect();
    found.into_iter().take(most).collect()
}
