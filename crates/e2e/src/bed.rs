//! A playground of a test's own, with the docker CLI at hand. Cleans up when dropped, after a panic too.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use skep_cli::client::ClientError;
use skep_playground::Place;
use skep_playground::host::Host;
use skep_playground::swarm::{Playground, down, host_names};
use tokio::runtime::Runtime;

use crate::client::Client;
use crate::{Run, images, that, wait};

/// How long anything may take that has no limit of its own: generous, for machines with little to spare.
pub const LONG: Duration = Duration::from_secs(60);

/// The skep binary under test.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(|d| Path::new(&d).join("debug/skep"));
    // Without `..`, which no archive of the demo's image may have.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/skep").canonicalize().ok();
    let candidates = [std::env::var_os("SKEP_BIN").map(PathBuf::from), target, own];
    let found = candidates.into_iter().flatten().find(|p| p.exists());
    found.unwrap_or_else(|| panic!("no skep binary: build it with `cargo build -p skep`, or set SKEP_BIN"))
}

/// A test's hosts.
#[derive(Debug)]
pub struct Bed {
    /// The hosts and their wires.
    pub playground: Playground,
    runtime: Runtime,
    client: Client,
    /// Held until everything is cleaned up: fields are dropped after [`Bed`] itself.
    _place: File,
}

/// Waits until no other run of the tests on this machine uses the place.
fn claim(number: u8) -> File {
    let path = format!("/run/lock/skep-e2e-{number}");
    let file = File::create(&path).unwrap_or_else(|e| panic!("make {path}: {e}"));
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap_or_else(|e| panic!("lock {path}: {e}"));
    file
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let p = &self.playground;
            for h in &p.hosts {
                let log = std::fs::read_to_string(h.log(&p.place)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- log of {}:\n{}", h.name, lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        if let Err(e) = down(&self.playground.place) {
            eprintln!("clean up: {e}");
        }
    }
}

/// Removes what `up` made if it did not get through.
struct Half(Option<Place>);

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            let _ = down(place);
        }
    }
}

impl Bed {
    /// Hosts with a daemon each and no swarm.
    ///
    /// # Panics
    /// If they cannot be made.
    #[must_use]
    pub fn bare(number: u8, hosts: u8, flags: &[String]) -> Self {
        let claimed = claim(number);
        let runtime = Runtime::new().unwrap_or_else(|e| panic!("make a runtime: {e}"));
        let place = Place::test(number, binary());
        let mut half = Half(Some(place.clone()));
        let playground = runtime
            .block_on(Playground::up(place, &host_names(hosts), flags))
            .unwrap_or_else(|e| panic!("bring the hosts up: {e}"));
        half.0 = None;
        Self { playground, runtime, client: Client::Docker, _place: claimed }
    }

    /// Hosts in a swarm, the first `managers` of them managers, all of them ready.
    ///
    /// # Panics
    /// If the swarm cannot be formed.
    #[must_use]
    pub fn swarm(number: u8, hosts: u8, managers: usize) -> Self {
        let bed = Self::bare(number, hosts, &[]);
        bed.form(managers);
        bed
    }

    /// Forms the swarm and waits until all nodes are ready.
    ///
    /// # Panics
    /// If that fails.
    pub fn form(&self, managers: usize) {
        self.runtime.block_on(self.playground.form(managers)).unwrap_or_else(|e| panic!("form the swarm: {e}"));
        let all = self.playground.hosts.len();
        wait("all nodes to be ready", LONG, || {
            let ls = self.docker("manager", &["node", "ls", "--format", "{{.Status}}"]);
            that(ls.out.lines().filter(|l| *l == "Ready").count() == all, format!("{}{}", ls.out, ls.err))
        });
    }

    /// Loads the demo image under a tag of its own on every host.
    ///
    /// # Panics
    /// If that fails.
    pub fn load_demo(&self, tag: &str, version: &str) {
        self.load(images::demo(tag, version));
    }

    /// Loads an archive on every host.
    ///
    /// # Panics
    /// If that fails.
    pub fn load(&self, archive: Vec<u8>) {
        self.runtime.block_on(self.playground.load_everywhere(archive.into())).unwrap_or_else(|e| panic!("load an image: {e}"));
    }

    /// Loads an archive on one host.
    ///
    /// # Panics
    /// If that fails.
    pub fn load_on(&self, host: &str, archive: Vec<u8>) {
        let client = self.playground.client(self.host(host));
        let answer = self.runtime.block_on(client.upload("/images/load?quiet=1", archive.into()));
        let text = answer.unwrap_or_else(|e| panic!("load an image on {host}: {e}"));
        assert!(!text.contains("\"error\""), "load an image on {host}: {text}");
    }

    /// A host by name.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.playground.host(name).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs the client, the stock one unless the test chose another, against a host's daemon.
    #[must_use]
    pub fn docker(&self, host: &str, args: &[&str]) -> Run {
        Run::of(&mut self.command(host, args))
    }

    /// Like [`Bed::docker`], split at spaces.
    #[must_use]
    pub fn d(&self, host: &str, args: &str) -> Run {
        self.docker(host, &args.split_whitespace().collect::<Vec<_>>())
    }

    /// With another client for what a test types.
    #[must_use]
    pub fn by(self, client: Client) -> Self {
        let mut bed = self;
        bed.client = client;
        bed
    }

    /// The client's command for a host's daemon.
    #[must_use]
    pub fn command(&self, host: &str, args: &[&str]) -> Command {
        self.command_of(self.client, host, args)
    }

    /// The same for `skep`, whichever client the test types.
    #[must_use]
    pub fn skep_command(&self, host: &str, args: &[&str]) -> Command {
        self.command_of(Client::Skep, host, args)
    }

    /// The command of a client for a host's daemon.
    #[must_use]
    pub fn command_of(&self, client: Client, host: &str, args: &[&str]) -> Command {
        let mut command = match client {
            Client::Docker => Command::new("docker"),
            Client::Skep => Command::new(&self.playground.place.binary),
        };
        let socket = self.host(host).socket(&self.playground.place);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        // The user's own file must not change what is tested.
        command.env("DOCKER_CONFIG", &self.playground.place.run);
        command.args(args);
        command
    }

    /// Starts the docker CLI without waiting for its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_docker(&self, host: &str, args: &str) -> std::process::Child {
        let mut c = self.command(host, &args.split_whitespace().collect::<Vec<_>>());
        c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        c.spawn().unwrap_or_else(|e| panic!("start docker {args}: {e}"))
    }

    /// A call to a host's API.
    ///
    /// # Errors
    /// What the daemon said, with its status.
    pub fn api(&self, host: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let client = self.playground.client(self.host(host));
        self.runtime.block_on(client.call(method, path, body)).map_err(|e| e.to_string())
    }

    /// What a host's API answers to a call that it must refuse: status and text.
    ///
    /// # Panics
    /// If it does not refuse.
    #[must_use]
    pub fn refused(&self, host: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let client = self.playground.client(self.host(host));
        match self.runtime.block_on(client.call(method, path, body)) {
            Err(ClientError::Refused { status, message }) => (status, message),
            other => panic!("{method} {path} with {body:?} was not refused: {other:?}"),
        }
    }

    /// What a host's API answers to any call: its status (200 for each that succeeds) and JSON, or its text.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn answer(&self, host: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let client = self.playground.client(self.host(host));
        match self.runtime.block_on(client.call(method, path, body)) {
            Ok(answer) => (200, answer),
            Err(ClientError::Refused { status, message }) => (status, Value::String(message)),
            Err(e) => panic!("{method} {path} with {body:?}: {e}"),
        }
    }

    /// The tasks of a service that run and shall run, as (id, slot, node id, container id).
    #[must_use]
    pub fn running(&self, host: &str, service: &str) -> Vec<Live> {
        let filter = format!("%7B%22service%22%3A%5B%22{service}%22%5D%7D");
        let tasks = self.api(host, "GET", &format!("/tasks?filters={filter}"), None).unwrap_or_default();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let live = |t: &&Value| t["Status"]["State"] == "running" && t["DesiredState"] == "running";
        let mut found: Vec<Live> = tasks
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(live)
            .map(|t| Live {
                id: text(&t["ID"]),
                slot: t["Slot"].as_u64().unwrap_or_default(),
                node: text(&t["NodeID"]),
                container: text(&t["Status"]["ContainerStatus"]["ContainerID"]),
                pid: t["Status"]["ContainerStatus"]["PID"].as_i64().unwrap_or_default(),
            })
            .collect();
        found.sort_by_key(|l| l.slot);
        found
    }

    /// Waits until exactly `n` tasks of a service run.
    ///
    /// # Panics
    /// If that takes too long, with `service ps`.
    pub fn await_running(&self, host: &str, service: &str, n: usize, limit: Duration) -> Vec<Live> {
        wait(&format!("{n} tasks of {service}"), limit, || {
            let live = self.running(host, service);
            if live.len() == n {
                return Ok(live);
            }
            Err(self.docker(host, &["service", "ps", "--no-trunc", service]).out)
        })
    }

    /// Id of the node that a host is.
    #[must_use]
    pub fn node_id(&self, host: &str) -> String {
        self.docker(host, &["info", "--format", "{{.Swarm.NodeID}}"]).ok()
    }

    /// Names of the running containers of a host.
    #[must_use]
    pub fn containers(&self, host: &str) -> Vec<String> {
        let mut names: Vec<String> =
            self.docker(host, &["ps", "--format", "{{.Names}}"]).ok().lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// (container id, process id) of the running containers of a host.
    #[must_use]
    pub fn processes(&self, host: &str) -> Vec<(String, i64)> {
        let ids = self.docker(host, &["ps", "-q", "--no-trunc"]).ok();
        let mut all: Vec<(String, i64)> = ids
            .lines()
            .map(|id| {
                let pid = self.docker(host, &["inspect", "--format", "{{.State.Pid}}", id]).ok();
                (id.to_owned(), pid.parse().unwrap_or_default())
            })
            .collect();
        all.sort();
        all
    }

    /// `status availability manager-status` of a node, as another one tells it.
    #[must_use]
    pub fn node(&self, teller: &str, id: &str) -> String {
        let format = "{{.ID}} {{.Status}} {{.Availability}} {{.ManagerStatus}}";
        let ls = self.docker(teller, &["node", "ls", "--format", format]);
        let line = ls.out.lines().find_map(|l| l.strip_prefix(id)).map(|l| l.trim().to_owned());
        line.unwrap_or_else(|| format!("not listed {}", ls.err.trim()))
    }

    /// Waits until a node is shown so.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn await_node(&self, teller: &str, id: &str, shown: &str, limit: Duration) {
        wait(&format!("node {id} to be {shown}"), limit, || {
            let now = self.node(teller, id);
            that(now == shown, now)
        });
    }

    /// The leader's host, as a host tells it.
    ///
    /// # Errors
    /// When it knows none.
    pub fn leader(&self, teller: &str) -> Result<String, String> {
        let ls = self.docker(teller, &["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]);
        let found = ls.out.lines().find_map(|l| l.strip_suffix(" Leader").map(str::to_owned));
        found.ok_or_else(|| format!("{}{}", ls.out, ls.err))
    }

    /// Loss of power.
    pub fn power_off(&self, host: &str) {
        self.playground.kill(self.host(host));
    }

    /// Power again.
    ///
    /// # Panics
    /// If the host does not come up.
    pub fn power_on(&self, host: &str) {
        self.runtime.block_on(self.playground.start(self.host(host))).unwrap_or_else(|e| panic!("start {host}: {e}"));
    }

    /// Kills a daemon alone.
    pub fn kill_daemon(&self, host: &str) {
        self.host(host).kill_daemon(&self.playground.place);
    }

    /// Stops a daemon in its tracks, or lets it go on.
    pub fn pause_daemon(&self, host: &str, paused: bool) {
        self.signal_daemon(host, if paused { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT });
    }

    /// Sends a daemon SIGHUP.
    pub fn hang_up(&self, host: &str) {
        self.signal_daemon(host, rustix::process::Signal::HUP);
    }

    fn signal_daemon(&self, host: &str, signal: rustix::process::Signal) {
        let pid = self.host(host).daemon(&self.playground.place).and_then(rustix::process::Pid::from_raw);
        // One that is gone meanwhile needs none.
        let _ = pid.map(|p| rustix::process::kill_process(p, signal));
    }

    /// Stops a daemon alone.
    pub fn stop_daemon(&self, host: &str) {
        self.host(host).stop_daemon(&self.playground.place);
    }

    /// Starts a daemon again.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_daemon(&self, host: &str) {
        let started = self.runtime.block_on(self.host(host).start_daemon(&self.playground.place));
        started.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Drops a host's traffic.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn cut(&self, host: &str) {
        self.playground.lan.cut(&self.playground.place, self.host(host)).unwrap_or_else(|e| panic!("cut {host}: {e}"));
    }

    /// Lets a host's traffic pass again.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn heal(&self, host: &str) {
        self.playground.lan.heal(&self.playground.place, self.host(host)).unwrap_or_else(|e| panic!("heal {host}: {e}"));
    }

    /// Starts a daemon again that has another clock: the machine's plus so many minutes. `None` where libfaketime is missing.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start_daemon_with_clock(&self, host: &str, minutes: i64) -> Option<()> {
        let dirs = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library = dirs.map(|d| d.path().join("faketime/libfaketimeMT.so.1")).find(|p| p.exists())?;
        let (host, place) = (self.host(host), &self.playground.place);
        let offset = format!("{minutes:+}m");
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap_or_default()),
            ("FAKETIME", offset.as_str()),
            // Timers go on as ever: only the time of day is another one.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // Only the daemon: the programs in containers have other libraries.
            ("FAKETIME_DONT_RESET", "1"),
        ];
        host.spawn_daemon_with(place, &environment).unwrap_or_else(|e| panic!("{e}"));
        self.runtime.block_on(host.await_daemon(place)).unwrap_or_else(|e| panic!("{e}"));
        Some(())
    }

    /// Drops what passes between two hosts.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn cut_pair(&self, one: &str, other: &str) {
        let p = &self.playground;
        p.lan.cut_pair(&p.place, self.host(one), self.host(other)).unwrap_or_else(|e| panic!("cut {one} from {other}: {e}"));
    }

    /// Lets two hosts hear each other again.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn heal_pair(&self, one: &str, other: &str) {
        let p = &self.playground;
        p.lan.heal_pair(&p.place, self.host(one), self.host(other)).unwrap_or_else(|e| panic!("heal {one} and {other}: {e}"));
    }

    /// Runs `skep` against a host's daemon.
    #[must_use]
    pub fn skep(&self, host: &str, args: &[&str]) -> Run {
        Run::of(&mut self.skep_command(host, args))
    }

    /// A directory for files of the test, gone with the hosts.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.playground.place.run
    }

    /// Where a host keeps what it knows of its swarm.
    #[must_use]
    pub fn swarm_dir(&self, host: &str) -> PathBuf {
        self.host(host).data_root(&self.playground.place).join("swarm")
    }

    /// A host's address on the LAN.
    #[must_use]
    pub fn address(&self, host: &str) -> String {
        self.host(host).address.to_string()
    }

    /// Its address of IPv6 there.
    #[must_use]
    pub fn address6(&self, host: &str) -> String {
        skep_playground::Place::address6(self.host(host).address).to_string()
    }

    /// A daemon's log.
    #[must_use]
    pub fn log(&self, host: &str) -> String {
        std::fs::read_to_string(self.host(host).log(&self.playground.place)).unwrap_or_default()
    }
}

/// A task that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its id.
    pub id: String,
    /// Its slot.
    pub slot: u64,
    /// The node it runs on.
    pub node: String,
    /// Its container.
    pub container: String,
    /// Its main process.
    pub pid: i64,
}
