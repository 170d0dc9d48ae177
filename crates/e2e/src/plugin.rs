//! A plugin by Docker's protocol of legacy plugins: a volume driver whose volumes are directories, and a driver of secrets. It notes
//! what it is asked, and can be told to hang or to say no.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Where daemons look for sockets.
const SOCKETS: &str = "/run/docker/plugins";

/// What a plugin knows, and what it was told to do.
#[derive(Debug, Default)]
pub struct State {
    /// Volumes, with the ids that have them mounted.
    pub volumes: BTreeMap<String, BTreeSet<String>>,
    /// Secrets, by name.
    pub secrets: BTreeMap<String, String>,
    /// Secrets are for one task alone, and end in its id.
    pub once: bool,
    /// Each call with what it was asked.
    pub calls: Vec<(String, Value)>,
    /// A call that is never answered.
    pub hangs: Option<String>,
}

/// A plugin that runs; gone with its socket when dropped. What it knows stays with whoever has a clone of it.
#[derive(Debug)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Woken up, the listener sees that it has ended.
        let _ = UnixStream::connect(socket(&self.name));
        let _ = std::fs::remove_file(socket(&self.name));
    }
}

fn socket(name: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{name}.sock"))
}

impl Plugin {
    /// Starts a plugin whose volumes are below `dir`.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(name: &str, dir: &Path) -> Self {
        Self::revived(name, dir, Arc::default())
    }

    /// Starts one again with what it knew.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn revived(name: &str, dir: &Path, state: Arc<Mutex<State>>) -> Self {
        std::fs::create_dir_all(SOCKETS).unwrap_or_else(|e| panic!("make {SOCKETS}: {e}"));
        let _ = std::fs::remove_file(socket(name));
        let listener = UnixListener::bind(socket(name)).unwrap_or_else(|e| panic!("listen for plugin {name}: {e}"));
        let ended = Arc::new(AtomicBool::new(false));
        let plugin = Self { name: name.to_owned(), state: state.clone(), ended: ended.clone() };
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (state, dir, ended) = (state.clone(), dir.clone(), ended.clone());
                // A daemon that breaks off is no fault.
                std::thread::spawn(move || serve(stream, &state, &dir, &ended));
            }
        });
        plugin
    }

    /// What it knows after it ended.
    #[must_use]
    pub fn kept(&self) -> Arc<Mutex<State>> {
        self.state.clone()
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many have a volume mounted.
    #[must_use]
    pub fn mounts(&self, volume: &str) -> usize {
        self.state().volumes.get(volume).map_or(0, BTreeSet::len)
    }

    /// What a call was asked, each time.
    #[must_use]
    pub fn asked(&self, call: &str) -> Vec<Value> {
        self.state().calls.iter().filter(|(c, _)| c == call).map(|(_, body)| body.clone()).collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: UnixStream, state: &Mutex<State>, dir: &Path, ended: &AtomicBool) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                return;
            }
            let line = line.trim();
            if path.is_empty() {
                line.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let call = path.trim_start_matches('/').to_owned();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        while lock(state).hangs.as_ref() == Some(&call) && !ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if ended.load(Ordering::SeqCst) {
            return;
        }
        let said = answer(&mut lock(state), dir, &call, asked).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", said.len());
        if out.write_all(format!("{head}{said}").as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(state: &mut State, dir: &Path, call: &str, asked: Value) -> Value {
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let (name, id) = (text("Name"), text("ID"));
    let at = dir.join(&name).display().to_string();
    let none = json!({"Err": format!("no volume {name}")});
    let said = match call {
        "Plugin.Activate" => return json!({"Implements": ["VolumeDriver", "secretprovider"]}),
        "VolumeDriver.Create" if asked["Opts"]["fail"].is_string() => json!({"Err": "the disk is full"}),
        "VolumeDriver.Create" => match std::fs::create_dir_all(&at) {
            Ok(()) => {
                state.volumes.entry(name).or_default();
                json!({"Err": ""})
            }
            Err(e) => json!({"Err": e.to_string()}),
        },
        "VolumeDriver.Remove" => match state.volumes.remove(&name) {
            Some(held) if !held.is_empty() => {
                state.volumes.insert(name, held);
                json!({"Err": "it is mounted"})
            }
            Some(_) => json!({"Err": ""}),
            None => none,
        },
        "VolumeDriver.Mount" => match state.volumes.get_mut(&name) {
            Some(held) => {
                held.insert(id);
                json!({"Mountpoint": at, "Err": ""})
            }
            None => none,
        },
        "VolumeDriver.Unmount" => match state.volumes.get_mut(&name).map(|held| held.remove(&id)) {
            Some(true) => json!({"Err": ""}),
            _ => json!({"Err": "it is not mounted"}),
        },
        "VolumeDriver.Get" if state.volumes.contains_key(&name) => {
            json!({"Volume": {"Name": name, "Mountpoint": at, "Status": {"kind": "directory"}}, "Err": ""})
        }
        "VolumeDriver.Get" => none,
        "VolumeDriver.List" => {
            let all: Vec<Value> = state.volumes.keys().map(|n| json!({"Name": n})).collect();
            json!({"Volumes": all, "Err": ""})
        }
        "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
        "SecretProvider.GetSecret" => match state.secrets.get(&text("SecretName")) {
            Some(value) => {
                let value = if state.once { format!("{value}/{}", text("TaskID")) } else { value.clone() };
                json!({"Value": STANDARD.encode(value), "DoNotReuse": state.once})
            }
            None => json!({"Err": format!("the vault has no {}", text("SecretName"))}),
        },
        _ => json!({"Err": format!("what is {call}?")}),
    };
    state.calls.push((call.to_owned(), asked));
    said
}
