//! What the script asks of a daemon, whichever it is: Docker's Engine API as of 1.41.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http;

/// How often a state is looked at: well under what is measured, and seldom enough not to keep a daemon busy.
const POLL: Duration = Duration::from_millis(20);

/// A daemon.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    /// Its API.
    pub(super) socket: PathBuf,
    /// Its address for the swarm; needed only if it is not in one yet.
    pub(super) address: String,
}

/// Waits until `done` says so; returns how long it took since `begin`.
pub(super) fn wait(
    begin: Instant,
    limit: Duration,
    what: &str,
    mut done: impl FnMut() -> Result<bool, String>,
) -> Result<f64, String> {
    loop {
        if done()? {
            return Ok(begin.elapsed().as_secs_f64());
        }
        if begin.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()));
        }
        std::thread::sleep(POLL);
    }
}

impl Daemon {
    pub(super) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let answer = http::request(&self.socket, method, path, "application/json", text.as_bytes())?;
        self.read(method, path, &answer)
    }

    /// Asks for something and throws it away: what reading it would take here is not the daemon's time.
    pub(super) fn fetch(&self, path: &str) -> Result<(), String> {
        let answer = http::request(&self.socket, "GET", path, "text/plain", b"")?;
        if answer.status == 200 { Ok(()) } else { self.read("GET", path, &answer).map(drop) }
    }

    fn read(&self, method: &str, path: &str, answer: &http::Answer) -> Result<Value, String> {
        if answer.status >= 400 {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(format!("{method} {path} on {}: status {}: {}", self.socket.display(), answer.status, text.trim()));
        }
        Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// Whether it answers.
    pub(super) fn answers(&self) -> bool {
        self.answers_to("/_ping")
    }

    /// Whether it has something at a path.
    pub(super) fn answers_to(&self, path: &str) -> bool {
        http::request(&self.socket, "GET", path, "text/plain", b"").is_ok_and(|a| a.status == 200)
    }

    /// Loads an archive of images.
    pub(super) fn load(&self, archive: &Path) -> Result<(), String> {
        let bytes = std::fs::read(archive).map_err(|e| format!("read {}: {e}", archive.display()))?;
        let path = "/images/load?quiet=1";
        let answer = http::request(&self.socket, "POST", path, "application/x-tar", &bytes)?;
        self.read("POST", path, &answer)?;
        let text = String::from_utf8_lossy(&answer.body);
        if text.contains("\"error\"") { Err(format!("load an image on {}: {text}", self.socket.display())) } else { Ok(()) }
    }

    /// Its place in a swarm: `active`, `inactive`…
    pub(super) fn swarm_state(&self) -> Result<String, String> {
        let info = self.call("GET", "/info", None)?;
        Ok(info["Swarm"]["LocalNodeState"].as_str().unwrap_or("inactive").to_owned())
    }

    /// Its name as a host.
    pub(super) fn node_id(&self) -> Result<String, String> {
        let info = self.call("GET", "/info", None)?;
        let id = info["Swarm"]["NodeID"].as_str().unwrap_or_default();
        if id.is_empty() { Err(format!("{} is in no swarm", self.socket.display())) } else { Ok(id.to_owned()) }
    }

    /// Running containers.
    pub(super) fn containers(&self) -> Result<usize, String> {
        Ok(self.call("GET", "/containers/json", None)?.as_array().map_or(0, Vec::len))
    }

    /// Creates a service; returns its id.
    pub(super) fn create_service(&self, name: &str, image: &str, replicas: u64) -> Result<String, String> {
        let spec = json!({
            "Name": name, "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {"ContainerSpec": {"Image": image}},
        });
        let answer = self.call("POST", "/services/create", Some(&spec))?;
        answer["ID"].as_str().map(str::to_owned).ok_or_else(|| format!("create service {name}: no ID in the answer"))
    }

    /// Sets the number of replicas.
    pub(super) fn scale(&self, service: &str, replicas: u64) -> Result<(), String> {
        let now = self.call("GET", &format!("/services/{service}"), None)?;
        let mut spec = now["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
        let version = &now["Version"]["Index"];
        self.call("POST", &format!("/services/{service}/update?version={version}"), Some(&spec)).map(drop)
    }

    /// Tasks of all services whose observed state is one of `states`, wanted running or not.
    fn tasks(&self) -> Result<Vec<Value>, String> {
        Ok(self.call("GET", "/tasks", None)?.as_array().cloned().unwrap_or_default())
    }

    /// Tasks that run and shall run, on other nodes than `except`.
    pub(super) fn running(&self, except: Option<&str>) -> Result<u64, String> {
        let counts = |t: &&Value| {
            t["Status"]["State"] == "running" && t["DesiredState"] == "running" && except.is_none_or(|node| t["NodeID"] != node)
        };
        Ok(self.tasks()?.iter().filter(counts).count() as u64)
    }

    /// Tasks that are at work, or on their way to it.
    pub(super) fn busy(&self) -> Result<usize, String> {
        let rest = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
        Ok(self.tasks()?.iter().filter(|t| !rest.contains(&t["Status"]["State"].as_str().unwrap_or_default())).count())
    }

    /// Nodes that are ready.
    pub(super) fn ready_nodes(&self) -> Result<usize, String> {
        let nodes = self.call("GET", "/nodes", None)?;
        Ok(nodes.as_array().into_iter().flatten().filter(|n| n["Status"]["State"] == "ready").count())
    }
}

/// Makes managers of all nodes.
pub(super) fn promote(daemons: &[Daemon]) -> Result<(), String> {
    let Some(manager) = daemons.first() else { return Ok(()) };
    for daemon in daemons {
        let path = format!("/nodes/{}", daemon.node_id()?);
        let node = manager.call("GET", &path, None)?;
        let mut spec = node["Spec"].clone();
        if spec["Role"] != "manager" {
            spec["Role"] = json!("manager");
            manager.call("POST", &format!("{path}/update?version={}", node["Version"]["Index"]), Some(&spec))?;
        }
    }
    wait(Instant::now(), Duration::from_secs(60), "all nodes to be managers", || {
        let nodes = manager.call("GET", "/nodes", None)?;
        let reachable = |n: &&Value| n["ManagerStatus"]["Reachability"] == "reachable";
        // Each of them has to know the swarm before it can be asked.
        let serve = |d: &Daemon| d.call("GET", "/services", None).is_ok();
        Ok(nodes.as_array().into_iter().flatten().filter(reachable).count() == daemons.len() && daemons.iter().all(serve))
    })
    .map(drop)
}

/// Makes a swarm of daemons, the first its manager, unless they are in one already. Returns how long the last worker took to join
/// and be ready, if it was not in one.
pub(super) fn form(daemons: &[Daemon]) -> Result<Option<f64>, String> {
    let Some((manager, workers)) = daemons.split_first() else { return Ok(None) };
    let need = |d: &Daemon| {
        if d.address.is_empty() {
            return Err(format!("{} is in no swarm, and no address is given for it (SOCKET=ADDRESS)", d.socket.display()));
        }
        Ok(())
    };
    let place = |d: &Daemon| json!({"ListenAddr": format!("{}:2377", d.address), "AdvertiseAddr": d.address});
    if manager.swarm_state()? != "active" {
        need(manager)?;
        let mut init = place(manager);
        init["Spec"] = json!({});
        manager.call("POST", "/swarm/init", Some(&init))?;
    }
    let token = manager.call("GET", "/swarm", None)?["JoinTokens"]["Worker"].clone();
    let mut joined = None;
    for (i, worker) in workers.iter().enumerate() {
        if worker.swarm_state()? != "active" {
            need(worker)?;
            let mut join = place(worker);
            join["RemoteAddrs"] = json!([format!("{}:2377", manager.address)]);
            join["JoinToken"] = token.clone();
            let begin = Instant::now();
            worker.call("POST", "/swarm/join", Some(&join))?;
            let ready = || Ok(manager.ready_nodes()? >= i + 2);
            joined = Some(wait(begin, Duration::from_secs(60), "the swarm's nodes to be ready", ready)?);
        }
    }
    Ok(joined)
}
