//! The whole playground: hosts up, a swarm over them, a demo service; and everything down again.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_cli::client::Client;
use skep_linux::{cgroup, host as processes};

use crate::demo::{DEMO_IMAGE, DEMO_PORT, write_image};
use crate::host::Host;
use crate::lan::{Lan, netns_path};
use crate::{Place, PlaygroundError};

/// Hosts that fit on the LAN beside the machine, with room for a reader's patience.
const MAX_HOSTS: u8 = 20;
/// How long the demo service may take to run.
const DEMO_LIMIT: Duration = Duration::from_secs(30);
/// How often a directory whose parent vanished is made again: as often as playgrounds could end in that moment, and more.
const MAKE_ATTEMPTS: usize = 100;
/// Port of the managers.
const MANAGER_PORT: u16 = 2377;

/// What is remembered between commands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The hosts.
    pub hosts: Vec<Host>,
}

/// A playground that is up.
#[derive(Debug)]
pub struct Playground {
    /// Where it lives.
    pub place: Place,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Its wires.
    pub lan: Lan,
}

/// Names of `n` hosts: a manager and workers, as the journeys call them.
#[must_use]
pub fn host_names(n: u8) -> Vec<String> {
    (0..n).map(|i| if i == 0 { "manager".to_owned() } else { format!("worker{i}") }).collect()
}

impl Playground {
    fn state_file(place: &Place) -> std::path::PathBuf {
        place.run.join("state.json")
    }

    /// Makes the hosts and starts their daemons, after removing whatever an earlier playground left.
    ///
    /// # Errors
    /// What the kernel or a daemon refused; then nothing is left.
    pub async fn up(place: Place, names: &[String], flags: &[String]) -> Result<Self, PlaygroundError> {
        if names.is_empty() || names.len() > usize::from(MAX_HOSTS) {
            return Err(PlaygroundError::Invalid(format!("a playground has 1 to {MAX_HOSTS} hosts, not {}", names.len())));
        }
        down(&place)?;
        let fail = |e: std::io::Error| PlaygroundError::host(format!("make {}", place.run.display()), e);
        make_dir(&place.run).map_err(fail)?;
        make_dir(&place.data).map_err(fail)?;
        std::fs::write(place.run.join("daemon.json"), "{}").map_err(fail)?;
        let hosts: Vec<Host> = names
            .iter()
            .zip(1u8..)
            .map(|(name, number)| Host {
                name: name.clone(),
                number,
                address: place.address(10 + number),
                flags: flags.to_vec(),
            })
            .collect();
        // Written first, so that a crash from here on is found.
        let state =
            serde_json::to_vec(&State { hosts: hosts.clone() }).map_err(|e| PlaygroundError::host("write the state", e))?;
        std::fs::write(Self::state_file(&place), state).map_err(fail)?;
        let made = Self { lan: Lan::open()?, place, hosts };
        match made.start_all().await {
            Ok(()) => Ok(made),
            Err(e) => {
                down(&made.place)?;
                Err(e)
            }
        }
    }

    async fn start_all(&self) -> Result<(), PlaygroundError> {
        self.lan.make_bridge(&self.place)?;
        for host in &self.hosts {
            self.lan.plug(&self.place, host)?;
            host.spawn_daemon(&self.place)?;
        }
        for host in &self.hosts {
            host.await_daemon(&self.place).await?;
        }
        Ok(())
    }

    /// The playground that is up.
    ///
    /// # Errors
    /// `NotUp`.
    pub fn find(place: Place) -> Result<Self, PlaygroundError> {
        let bytes = std::fs::read(Self::state_file(&place)).map_err(|_| PlaygroundError::NotUp)?;
        let state: State =
            serde_json::from_slice(&bytes).map_err(|e| PlaygroundError::host("read the playground's state", e))?;
        Ok(Self { lan: Lan::open()?, place, hosts: state.hosts })
    }

    /// A host by name.
    ///
    /// # Errors
    /// `NoHost`, with the names there are.
    pub fn host(&self, name: &str) -> Result<&Host, PlaygroundError> {
        self.hosts.iter().find(|h| h.name == name).ok_or_else(|| PlaygroundError::NoHost {
            name: name.to_owned(),
            known: self.hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The API of a host.
    #[must_use]
    pub fn client(&self, host: &Host) -> Client {
        Client::unix(&host.socket(&self.place))
    }

    async fn call(&self, host: &Host, method: &str, path: &str, body: Option<&Value>) -> Result<Value, PlaygroundError> {
        self.client(host).call(method, path, body).await.map_err(|e| PlaygroundError::Daemon {
            operation: format!("{method} {path}"),
            host: host.name.clone(),
            cause: e.to_string(),
        })
    }

    /// Forms a swarm: the first `managers` hosts are managers.
    ///
    /// # Errors
    /// What a daemon refused.
    pub async fn form(&self, managers: usize) -> Result<(), PlaygroundError> {
        let Some((first, others)) = self.hosts.split_first() else { return Ok(()) };
        let address = format!("{}:{MANAGER_PORT}", first.address);
        let init = json!({"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": first.address.to_string(), "Spec": {}});
        self.call(first, "POST", "/swarm/init", Some(&init)).await?;
        let swarm = self.call(first, "GET", "/swarm", None).await?;
        for (host, number) in others.iter().zip(2usize..) {
            let role = if number <= managers { "Manager" } else { "Worker" };
            let join = json!({
                "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": host.address.to_string(), "RemoteAddrs": [address],
                "JoinToken": swarm["JoinTokens"][role],
            });
            self.call(host, "POST", "/swarm/join", Some(&join)).await?;
        }
        Ok(())
    }

    /// Loads an archive of images on every host.
    ///
    /// # Errors
    /// What a daemon refused.
    pub async fn load_everywhere(&self, archive: Bytes) -> Result<(), PlaygroundError> {
        for host in &self.hosts {
            let answer = self.client(host).upload("/images/load?quiet=1", archive.clone()).await.map_err(|e| e.to_string());
            let failed = |cause: String| PlaygroundError::Daemon {
                operation: "load the image".to_owned(),
                host: host.name.clone(),
                cause,
            };
            let text = answer.map_err(failed)?;
            if text.contains("\"error\"") {
                return Err(failed(text));
            }
        }
        Ok(())
    }

    /// Packs the demo image and loads it on every host.
    ///
    /// # Errors
    /// When it cannot be packed or loaded.
    pub async fn load_demo(&self) -> Result<(), PlaygroundError> {
        let mut archive = Vec::new();
        write_image(DEMO_IMAGE, "1.0", &mut archive)?;
        self.load_everywhere(Bytes::from(archive)).await
    }

    /// Creates the demo service and waits until its tasks run.
    ///
    /// # Errors
    /// What the swarm refused, or why tasks do not run.
    pub async fn deploy_demo(&self, replicas: u64, published: u16) -> Result<(), PlaygroundError> {
        let Some(first) = self.hosts.first() else { return Ok(()) };
        let spec = json!({
            "Name": "web", "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {"ContainerSpec": {"Image": DEMO_IMAGE}},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": DEMO_PORT, "PublishedPort": published}]},
        });
        self.call(first, "POST", "/services/create", Some(&spec)).await?;
        let deadline = Instant::now() + DEMO_LIMIT;
        loop {
            let tasks = self.call(first, "GET", "/tasks", None).await?;
            let empty = Vec::new();
            let states: Vec<&Value> = tasks.as_array().unwrap_or(&empty).iter().map(|t| &t["Status"]).collect();
            let running = states.iter().filter(|s| s["State"] == "running").count();
            if running as u64 >= replicas {
                return Ok(());
            }
            if Instant::now() > deadline {
                let why: Vec<&str> = states.iter().filter_map(|s| s["Err"].as_str()).collect();
                let cause = format!("{running} of {replicas} tasks run after {} s; {}", DEMO_LIMIT.as_secs(), why.join("; "));
                return Err(PlaygroundError::host("deploy the demo service", cause));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Loss of power.
    pub fn kill(&self, host: &Host) {
        host.power_off(&self.place, &self.lan);
    }

    /// Power again: network, daemon, and what it finds on its disk.
    ///
    /// # Errors
    /// What the kernel refused, or the daemon's end.
    pub async fn start(&self, host: &Host) -> Result<(), PlaygroundError> {
        if host.daemon(&self.place).is_none() {
            if !netns_path(&self.place, &host.name).exists() {
                self.lan.plug(&self.place, host)?;
            }
            host.start_daemon(&self.place).await?;
        }
        Ok(())
    }
}

/// Makes a directory with its parents, which another playground's `down` may remove in between because they are empty.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    let mut attempts = 0;
    loop {
        match std::fs::create_dir_all(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && attempts < MAKE_ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

/// Removes everything of a playground, whatever state it is in.
///
/// # Errors
/// What is still there after everything was tried.
pub fn down(place: &Place) -> Result<(), PlaygroundError> {
    let lan = Lan::open()?;
    let state: State =
        std::fs::read(Playground::state_file(place)).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    for host in &state.hosts {
        host.power_off(place, &lan);
    }
    lan.remove_bridge(place);
    processes::unmount_below(&place.run);
    processes::unmount_below(&place.data);
    for parent in cgroup::children("/").iter().filter(|c| c.starts_with(&format!("skep-{}-", place.name))) {
        cgroup::remove(parent);
    }
    let mut left = Vec::new();
    for dir in [&place.run, &place.data] {
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => left.push(format!("{}: {e}", dir.display())),
            _ => {}
        }
    }
    // Parents that only existed for this; others may have things of their own there.
    for dir in ["/run/skep", "/var/lib/skep"] {
        let _ = std::fs::remove_dir(Path::new(dir));
    }
    if left.is_empty() { Ok(()) } else { Err(PlaygroundError::host("remove the playground", left.join("; "))) }
}
