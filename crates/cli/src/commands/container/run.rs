//! `run`, `create`, `start`, `attach`: a container's life from the user's side, with the exit codes of `swarm-semantics` 1.9.

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::body::{attached, body};
use super::session::{Ended, Keys, Session, resize};
use crate::app::{App, Failure};
use crate::client::{Client, ClientError, Stream, escape, query};
use crate::commands::image;
use crate::grammar::Matches;
use crate::output::{print, warn};

/// Signals that are passed on to a container's process.
const SIGNALS: [(&str, SignalKind); 6] = [
    ("INT", SignalKind::interrupt()),
    ("TERM", SignalKind::terminate()),
    ("HUP", SignalKind::hangup()),
    ("QUIT", SignalKind::quit()),
    ("USR1", SignalKind::user_defined1()),
    ("USR2", SignalKind::user_defined2()),
];

/// How `run` tells that it could not: with the program's name, and the code that says why.
fn failed(app: &App, m: &Matches, failure: Failure) -> Failure {
    if failure.message.is_empty() {
        return failure;
    }
    let text = failure.message.to_ascii_lowercase();
    let has = |all: &[&str]| all.iter().any(|t| text.contains(t));
    let code = if has(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
        127
    } else if has(&["permission denied", "is a directory"]) && !has(&["docker daemon socket"]) {
        126
    } else {
        125
    };
    Failure::with(code, format!("{0}: {1}\n\nRun '{0} {2} --help' for more information", app.program, failure.message, m.path))
}

/// Makes the container, with its image pulled before if need be; its id.
async fn make(app: &App, client: &Client, m: &Matches, detach: bool) -> Result<String, Failure> {
    let mut body = body(m, detach)?;
    if let Some(size) = crate::terminal::size().filter(|_| m.on("tty")) {
        body["HostConfig"]["ConsoleSize"] = serde_json::json!(size);
    }
    let image = m.arg(0);
    let policy = m.text("pull").unwrap_or("missing");
    if !matches!(policy, "always" | "missing" | "never") {
        return Err(Failure::with(
            125,
            format!("invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""),
        ));
    }
    if let Some(file) = m.text("cidfile")
        && std::path::Path::new(file).exists()
    {
        return Err(Failure::new(format!(
            "container ID file found, make sure the other container isn't running or delete {file}"
        )));
    }
    if policy == "always" {
        image::pull::pull(app, client, image, m.text_or_empty("platform"), m.on("quiet"), true).await?;
    }
    let path = query("/containers/create", &[("name", m.text_or_empty("name")), ("platform", m.text_or_empty("platform"))]);
    let made = match client.call("POST", &path, Some(&body)).await {
        Err(ClientError::Refused { status: 404, message }) if policy == "missing" && message.contains("No such image") => {
            warn(&format!("Unable to find image '{}' locally", image::pull::tagged(image)));
            image::pull::pull(app, client, image, m.text_or_empty("platform"), m.on("quiet"), true).await?;
            client.call("POST", &path, Some(&body)).await?
        }
        other => other?,
    };
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        warn(&format!("WARNING: {warning}"));
    }
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(file) = m.text("cidfile") {
        std::fs::write(file, &id).map_err(|e| Failure::new(format!("failed to write the container ID to the file: {e}")))?;
    }
    Ok(id)
}

pub(super) async fn create(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await.map_err(|e| failed(app, m, e))?;
    // A container that is made now is attached to when it is started.
    let id = make(app, client, m, false).await.map_err(|e| failed(app, m, e))?;
    print(&format!("{id}\n"))?;
    Ok(0)
}

pub(super) async fn run(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await.map_err(|e| failed(app, m, e))?;
    let detach = m.on("detach");
    if detach && m.given("attach") {
        return Err(failed(app, m, Failure::new("conflicting options: cannot specify both --attach and --detach")));
    }
    if m.on("tty") && m.on("interactive") && !detach && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys = Keys::parse(detach_keys(app, m)).map_err(|e| failed(app, m, e))?;
    let id = make(app, client, m, detach).await.map_err(|e| failed(app, m, e))?;
    let start = format!("/containers/{id}/start");
    if detach {
        client.call("POST", &start, None).await.map_err(|e| failed(app, m, e.into()))?;
        print(&format!("{id}\n"))?;
        return Ok(0);
    }
    let input = attached(m, "stdin", false);
    let streams = (input, attached(m, "stdout", false), attached(m, "stderr", false));
    let wanted =
        Wanted { id: &id, streams, tty: m.on("tty"), keys, proxy: m.switch("sig-proxy").unwrap_or(true), removed: m.on("rm") };
    wanted.start(client, Some(&start)).await.map_err(|e| failed(app, m, e))
}

fn detach_keys<'a>(app: &'a App, m: &'a Matches) -> &'a str {
    m.text("detach-keys").or_else(|| app.config.text("detachKeys")).unwrap_or_default()
}

/// A container that is attached to.
struct Wanted<'a> {
    id: &'a str,
    /// Input, output, errors.
    streams: (bool, bool, bool),
    tty: bool,
    keys: Keys,
    /// Whether signals are passed on.
    proxy: bool,
    /// Whether it is removed at its end, which is waited for then.
    removed: bool,
}

impl Wanted<'_> {
    /// Attaches, starts it (unless it runs) and stays until its end; its exit code.
    async fn start(self, client: &Client, start: Option<&str>) -> Result<u8, Failure> {
        let flag = |on: bool| if on { "1" } else { "" };
        let (stdin, stdout, stderr) = self.streams;
        let attach = query(
            &format!("/containers/{}/attach", self.id),
            &[("stream", "1"), ("stdin", flag(stdin)), ("stdout", flag(stdout)), ("stderr", flag(stderr))],
        );
        // Both before the start, so that neither output nor the end is missed.
        let raw = client.hijack(&attach, None).await?;
        let condition = match (self.removed, start) {
            (true, _) => "removed",
            (false, Some(_)) => "next-exit",
            (false, None) => "",
        };
        let wait = query(&format!("/containers/{}/wait", self.id), &[("condition", condition)]);
        let waiting = client.open("POST", &wait, &[]).await?;
        let resize_path = format!("/containers/{}/resize", self.id);
        let session = Session { client, input: stdin, tty: self.tty, resize: resize_path.clone(), keys: self.keys };
        let kept = session.raw()?;
        if let Some(start) = start {
            client.call("POST", start, None).await?;
        }
        if self.tty {
            resize(client, &resize_path).await;
        }
        let ended = {
            let proxied = pass_signals(client, self.id, self.proxy && !self.tty);
            tokio::select! {
                ended = session.run(raw) => ended?,
                () = proxied => Ended::Output,
            }
        };
        drop(kept);
        if ended == Ended::Detached {
            return Ok(0);
        }
        exit_code(waiting).await
    }
}

/// Passes signals on for ever.
async fn pass_signals(client: &Client, id: &str, on: bool) {
    if !on {
        return std::future::pending().await;
    }
    let (sender, mut told) = tokio::sync::mpsc::channel::<&str>(SIGNALS.len());
    for (name, kind) in SIGNALS {
        let sender = sender.clone();
        if let Ok(mut caught) = signal(kind) {
            tokio::spawn(async move {
                while caught.recv().await.is_some() {
                    if sender.send(name).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
    while let Some(name) = told.recv().await {
        // One that has ended needs no signal.
        let _ = client.call("POST", &format!("/containers/{}/kill?signal={name}", escape(id)), None).await;
    }
}

/// The exit code that a wait tells.
async fn exit_code(mut waiting: Stream) -> Result<u8, Failure> {
    let Some(answer) = waiting.json().await? else {
        return Err(Failure::with(125, "the daemon did not tell how the container ended"));
    };
    if let Some(error) = answer["Error"]["Message"].as_str().filter(|e| !e.is_empty()) {
        return Err(Failure::with(125, format!("error waiting for container: {error}")));
    }
    Ok(u8::try_from(answer["StatusCode"].as_i64().unwrap_or(0)).unwrap_or(255))
}

pub(super) async fn start(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    if m.on("attach") || m.on("interactive") {
        if m.args().len() > 1 {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        }
        let found = client.call("GET", &format!("/containers/{}/json", escape(m.arg(0))), None).await?;
        let id = found["Id"].as_str().unwrap_or_default();
        let config = &found["Config"];
        let wanted = Wanted {
            id,
            streams: (m.on("interactive") && config["OpenStdin"] == true, true, true),
            tty: config["Tty"] == true,
            keys: Keys::parse(detach_keys(app, m))?,
            proxy: true,
            removed: found["HostConfig"]["AutoRemove"] == true,
        };
        return wanted.start(client, Some(&format!("/containers/{id}/start"))).await;
    }
    let mut bad = Vec::new();
    for name in m.args() {
        match client.call("POST", &format!("/containers/{}/start", escape(name)), None).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(e) => {
                warn(&Failure::from(e).message);
                bad.push(name.clone());
            }
        }
    }
    if bad.is_empty() { Ok(0) } else { Err(Failure::new(format!("Error: failed to start containers: {}", bad.join(", ")))) }
}

pub(crate) async fn attach(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let found = client.call("GET", &format!("/containers/{}/json", escape(m.arg(0))), None).await?;
    if found["State"]["Running"] != true {
        return Err(Failure::new("cannot attach to a stopped container, start it first"));
    }
    if found["State"]["Paused"] == true {
        return Err(Failure::new("cannot attach to a paused container, unpause it first"));
    }
    let config = &found["Config"];
    let wanted = Wanted {
        id: found["Id"].as_str().unwrap_or_default(),
        streams: (!m.on("no-stdin") && config["OpenStdin"] == true, true, true),
        tty: config["Tty"] == true,
        keys: Keys::parse(detach_keys(app, m))?,
        proxy: m.switch("sig-proxy").unwrap_or(true),
        removed: false,
    };
    wanted.start(client, None).await
}

pub(crate) async fn exec(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let (detach, tty, input) = (m.on("detach"), m.on("tty"), m.on("interactive") && !m.on("detach"));
    if tty && input && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let env = crate::options::environment(m.list("env-file"), m.list("env")).map_err(Failure::new)?;
    let mut body = serde_json::json!({
        "AttachStdin": input, "AttachStdout": !detach, "AttachStderr": !detach, "Tty": tty, "Detach": detach, "Env": env,
        "Cmd": &m.args()[1..], "Privileged": m.on("privileged"), "User": m.text_or_empty("user"),
        "WorkingDir": m.text_or_empty("workdir"), "DetachKeys": m.text_or_empty("detach-keys"),
    });
    if let Some(size) = crate::terminal::size().filter(|_| tty) {
        body["ConsoleSize"] = serde_json::json!(size);
    }
    let made = client.call("POST", &format!("/containers/{}/exec", escape(m.arg(0))), Some(&body)).await?;
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    let start = format!("/exec/{id}/start");
    let how = serde_json::json!({"Detach": detach, "Tty": tty});
    if detach {
        client.call("POST", &start, Some(&how)).await?;
        return Ok(0);
    }
    let resize_path = format!("/exec/{id}/resize");
    let keys = Keys::parse(detach_keys(app, m))?;
    let session = Session { client, input, tty, resize: resize_path.clone(), keys };
    let raw = client.hijack(&start, Some(&how)).await?;
    let kept = session.raw()?;
    if tty {
        resize(client, &resize_path).await;
    }
    let ended = session.run(raw).await?;
    drop(kept);
    if ended == Ended::Detached {
        return Ok(0);
    }
    let done = client.call("GET", &format!("/exec/{id}/json"), None).await?;
    match done["ExitCode"].as_i64() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(255)),
        // A daemon notes the code before it ends the output.
        None => Err(Failure::new(format!("the connection to the command in {} broke: it may still run there", m.arg(0)))),
    }
}
