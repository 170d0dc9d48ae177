//! One host: its daemon's life, and power-off.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use skep_cli::client::Client;
use skep_linux::{cgroup, host as processes};

use crate::lan::{Lan, netns_path};
use crate::{Place, PlaygroundError};

/// How long a daemon may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long killed processes may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A host of the playground.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name, as `node ls` shows it.
    pub name: String,
    /// Counts from 1.
    pub number: u8,
    /// Its address on the LAN.
    pub address: Ipv4Addr,
    /// Flags for its daemon beyond the usual ones.
    #[serde(default)]
    pub flags: Vec<String>,
}

impl Host {
    /// Its API socket.
    #[must_use]
    pub fn socket(&self, place: &Place) -> PathBuf {
        place.run.join(format!("{}.sock", self.name))
    }

    /// What lives as long as it has power.
    #[must_use]
    pub fn exec_root(&self, place: &Place) -> PathBuf {
        place.run.join(&self.name)
    }

    /// What survives a loss of power.
    #[must_use]
    pub fn data_root(&self, place: &Place) -> PathBuf {
        place.data.join(&self.name)
    }

    /// Its daemon's log.
    #[must_use]
    pub fn log(&self, place: &Place) -> PathBuf {
        place.run.join(format!("{}.log", self.name))
    }

    fn pid_file(&self, place: &Place) -> PathBuf {
        place.run.join(format!("{}.pid", self.name))
    }

    fn cgroup_parent(&self, place: &Place) -> String {
        format!("/skep-{}-{}", place.name, self.name)
    }

    /// Process id of its daemon, if it runs.
    #[must_use]
    pub fn daemon(&self, place: &Place) -> Option<i32> {
        let pid: i32 = std::fs::read_to_string(self.pid_file(place)).ok()?.trim().parse().ok()?;
        let here = processes::processes_in(&netns_path(place, &self.name));
        (here.contains(&pid) && processes::any_alive(&[pid])).then_some(pid)
    }

    /// Starts its daemon; returns when it answers.
    ///
    /// # Errors
    /// When it ends or does not answer, with the end of its log.
    pub async fn start_daemon(&self, place: &Place) -> Result<(), PlaygroundError> {
        self.spawn_daemon(place)?;
        self.await_daemon(place).await
    }

    /// Starts its daemon without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn spawn_daemon(&self, place: &Place) -> Result<(), PlaygroundError> {
        self.spawn_daemon_with(place, &[])
    }

    /// Starts its daemon with more environment, without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn spawn_daemon_with(&self, place: &Place, environment: &[(&str, &str)]) -> Result<(), PlaygroundError> {
        let fail = |e: std::io::Error| PlaygroundError::host(format!("start the daemon of {}", self.name), e);
        std::fs::create_dir_all(self.exec_root(place)).map_err(fail)?;
        std::fs::create_dir_all(self.data_root(place)).map_err(fail)?;
        let log = std::fs::File::options().create(true).append(true).open(self.log(place)).map_err(fail)?;
        let mut command = Command::new(&place.binary);
        command
            .arg("playground-host")
            .arg(netns_path(place, &self.name))
            .arg(&self.name)
            .arg(&place.binary)
            .arg("daemon")
            .arg("-H")
            .arg(format!("unix://{}", self.socket(place).display()))
            .arg("--data-root")
            .arg(self.data_root(place))
            .arg("--exec-root")
            .arg(self.exec_root(place))
            .arg("--cgroup-parent")
            .arg(self.cgroup_parent(place))
            // The machine's own file would change what the hosts are.
            .arg("--config-file")
            .arg(place.run.join("daemon.json"))
            .args(&self.flags)
            // A playground's images are loaded, and its network may have no registry to ask.
            .env("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fail)?)
            .stderr(log);
        let child = command.spawn().map_err(fail)?;
        std::fs::write(self.pid_file(place), child.id().to_string()).map_err(fail)
    }

    /// Waits until the daemon answers.
    ///
    /// # Errors
    /// When it ends or does not answer, with the end of its log.
    pub async fn await_daemon(&self, place: &Place) -> Result<(), PlaygroundError> {
        let client = Client::unix(&self.socket(place));
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if client.call("GET", "/_ping", None).await.is_ok() {
                return Ok(());
            }
            let gone = self.daemon(place).is_none() && Instant::now() + START_LIMIT > deadline + Duration::from_secs(1);
            if gone || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.log(place)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(5).collect();
                let tail = lines.into_iter().rev().collect::<Vec<_>>().join("\n  ");
                let what = if gone { "it ended" } else { "it does not answer" };
                return Err(PlaygroundError::host(format!("start the daemon of {}: {what}", self.name), format!("\n  {tail}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the daemon alone with SIGKILL; shims and containers go on.
    pub fn kill_daemon(&self, place: &Place) {
        if let Some(pid) = self.daemon(place) {
            processes::kill_all(&[pid]);
            await_gone(&[pid]);
        }
    }

    /// Tells the daemon to end and waits for it; shims and containers go on.
    pub fn stop_daemon(&self, place: &Place) {
        if let Some(pid) = self.daemon(place) {
            if let Some(id) = rustix::process::Pid::from_raw(pid) {
                // One that is already gone needs no signal.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
            }
            await_gone(&[pid]);
        }
    }

    /// Loss of power: daemon, shims and containers are killed at once, then the network goes, and what a reboot would clear.
    pub fn power_off(&self, place: &Place, lan: &Lan) {
        let netns = netns_path(place, &self.name);
        let parent = self.cgroup_parent(place);
        let deadline = Instant::now() + KILL_LIMIT;
        loop {
            let mut pids = processes::processes_in(&netns);
            for child in cgroup::children(&parent) {
                pids.extend(cgroup::processes(&format!("{parent}/{child}")));
            }
            if pids.is_empty() || !processes::any_alive(&pids) || Instant::now() > deadline {
                break;
            }
            processes::kill_all(&pids);
            await_gone(&pids);
        }
        lan.unplug(place, self);
        processes::unmount_below(&self.exec_root(place));
        processes::unmount_below(&self.data_root(place));
        cgroup::remove(&parent);
        // What cannot be removed now is found by the next `up` or `down`.
        let _ = std::fs::remove_dir_all(self.exec_root(place));
        let _ = std::fs::remove_file(self.socket(place));
        let _ = std::fs::remove_file(self.pid_file(place));
    }
}

fn await_gone(pids: &[i32]) {
    let deadline = Instant::now() + KILL_LIMIT;
    while processes::any_alive(pids) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}
