//! The peer's side: three daemons of Debian's `docker.io`, each with a network, a /run and a data root of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::api::{Daemon, wait};
use super::contest::{Contestant, run};
use super::memory::processes_in;
use crate::packages::program;

/// How many hosts.
const HOSTS: u8 = 3;
/// Where their data, sockets and logs are.
const PLACE: &str = "/var/lib/skep-peer";
/// Their LAN.
const BRIDGE: &str = "skep-peerbr";

/// Daemons of the peer.
pub(super) struct Peer {
    ip: PathBuf,
    version: String,
    daemons: Vec<Child>,
}

fn netns(number: u8) -> String {
    format!("skep-peer{number}")
}

fn cable(number: u8) -> String {
    format!("skep-peerv{number}")
}

fn address(number: u8) -> String {
    format!("10.88.78.{}", 10 + number)
}

fn place(number: u8) -> PathBuf {
    Path::new(PLACE).join(number.to_string())
}

impl Peer {
    /// The installed peer, if it is.
    pub(super) fn find() -> Option<Self> {
        let said = run(&program("dockerd")?, &["--version"]).ok()?;
        let version = said.split_whitespace().nth(2).unwrap_or("unknown").trim_end_matches(',').to_owned();
        Some(Self { ip: program("ip")?, version, daemons: Vec::new() })
    }

    fn ip(&self, line: &str) -> Result<(), String> {
        run(&self.ip, &line.split(' ').collect::<Vec<_>>()).map(drop)
    }

    fn plug(&self, number: u8) -> Result<(), String> {
        let (ns, cable, address) = (netns(number), cable(number), address(number));
        self.ip(&format!("netns add {ns}"))?;
        self.ip(&format!("link add {cable} type veth peer name eth0 netns {ns}"))?;
        self.ip(&format!("link set {cable} master {BRIDGE} up"))?;
        self.ip(&format!("-n {ns} link set lo up"))?;
        self.ip(&format!("-n {ns} addr add {address}/24 dev eth0"))?;
        self.ip(&format!("-n {ns} link set eth0 up"))?;
        self.ip(&format!("-n {ns} route add default via 10.88.78.1"))
    }

    fn spawn(&self, number: u8) -> Result<Child, String> {
        let dir = place(number);
        let fail = |e: std::io::Error| format!("start dockerd {number}: {e}");
        std::fs::create_dir_all(&dir).map_err(fail)?;
        let log = std::fs::File::create(dir.join("log")).map_err(fail)?;
        // `ip netns exec` would hide the cgroups below /sys; nsenter changes the network alone.
        let script = "mount -t tmpfs tmpfs /run && exec dockerd --host \"unix://$1/docker.sock\" --data-root \"$1/data\" \
                      --cgroup-parent \"$2\" --log-level info";
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", netns(number)))
            .args(["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c"])
            .arg(format!("hostname {}; {script}", netns(number)))
            .args(["sh", &dir.to_string_lossy(), &format!("/{}", netns(number))])
            .env("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fail)?)
            .stderr(log)
            .spawn()
            .map_err(fail)
    }

    /// Takes away what is there, of this run or of one that was killed.
    fn clear(&mut self) {
        for daemon in &self.daemons {
            // SIGTERM lets it unmount and stop its containers; what it leaves is killed below.
            let _ = run(Path::new("kill"), &["-TERM", &daemon.id().to_string()]);
        }
        let namespaces = self.namespaces();
        let begin = Instant::now();
        let _ = wait(begin, Duration::from_secs(20), "the peer to end", || {
            for daemon in &mut self.daemons {
                // Reaped here, else it would count as alive for ever.
                let _ = daemon.try_wait();
            }
            Ok(processes_in(&namespaces).is_empty())
        });
        for pid in processes_in(&namespaces) {
            let _ = run(Path::new("kill"), &["-KILL", &pid.to_string()]);
        }
        for mut daemon in self.daemons.drain(..) {
            let _ = daemon.wait();
        }
        for number in 1..=HOSTS {
            clear_cgroups(&format!("/{}", netns(number)));
            let _ = self.ip(&format!("link del {}", cable(number)));
            let _ = self.ip(&format!("netns del {}", netns(number)));
        }
        let _ = self.ip(&format!("link del {BRIDGE}"));
    }
}

/// Kills what is left in the cgroups of a host's containers, and removes them in every hierarchy.
fn clear_cgroups(parent: &str) {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()));
    for root in roots {
        let dir = root.join(parent.trim_start_matches('/'));
        let children = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir());
        for child in children {
            let pids = std::fs::read_to_string(child.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let _ = run(Path::new("kill"), &["-KILL", pid]);
            }
            let _ = std::fs::remove_dir(&child);
        }
        let _ = std::fs::remove_dir(&dir);
    }
}

impl Contestant for Peer {
    fn name(&self) -> String {
        format!("dockerd {}", self.version)
    }

    fn up(&mut self, archive: &Path) -> Result<Vec<Daemon>, String> {
        self.clear();
        // Left by a run that was killed; if it cannot be removed, dockerd says what is wrong with it.
        let _ = std::fs::remove_dir_all(PLACE);
        self.ip(&format!("link add {BRIDGE} type bridge"))?;
        self.ip(&format!("addr add 10.88.78.1/24 dev {BRIDGE}"))?;
        self.ip(&format!("link set {BRIDGE} up"))?;
        for number in 1..=HOSTS {
            self.plug(number)?;
            let child = self.spawn(number)?;
            self.daemons.push(child);
        }
        let daemons: Vec<Daemon> =
            (1..=HOSTS).map(|n| Daemon { socket: place(n).join("docker.sock"), address: address(n) }).collect();
        for (number, daemon) in (1..).zip(&daemons) {
            let what = format!("dockerd {number} to answer (see {}/log)", place(number).display());
            wait(Instant::now(), Duration::from_secs(60), &what, || Ok(daemon.answers()))?;
            daemon.load(archive)?;
        }
        Ok(daemons)
    }

    fn cut(&mut self) -> Result<(), String> {
        self.ip(&format!("link set {} down", cable(HOSTS)))
    }

    fn heal(&mut self) -> Result<(), String> {
        self.ip(&format!("link set {} up", cable(HOSTS)))
    }

    fn namespaces(&self) -> Vec<PathBuf> {
        (1..=HOSTS).map(|n| Path::new("/run/netns").join(netns(n))).collect()
    }

    fn down(&mut self) -> Result<(), String> {
        self.clear();
        std::fs::remove_dir_all(PLACE).map_err(|e| format!("remove {PLACE}: {e}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.daemons.is_empty() {
            self.clear();
        }
    }
}
