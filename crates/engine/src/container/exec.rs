//! Processes beside a container's first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use skep_types::container::{ExecConfig, ExecInfo};

use super::attach::{AttachStream, ask, channel, pump};
use crate::Engine;
use crate::error::{Code, EngineError, Result, conflict, internal, invalid, not_found};
use crate::oci::{environment, merge_env};
use crate::shim::client::{Connection, Frame};
use crate::shim::{ExecRequest, Request, Response};

/// Finished execs remembered for `inspect`; health checks would otherwise pile up.
const KEPT: usize = 1000;

/// The execs of this host.
#[derive(Debug, Default)]
pub struct ExecTable {
    execs: Mutex<BTreeMap<String, ExecInfo>>,
    order: Mutex<std::collections::VecDeque<String>>,
}

impl ExecTable {
    fn insert(&self, info: ExecInfo) {
        let mut execs = crate::lock(&self.execs);
        let mut order = crate::lock(&self.order);
        order.push_back(info.id.clone());
        execs.insert(info.id.clone(), info);
        // Running ones are kept whatever their age.
        for _ in 0..order.len().saturating_sub(KEPT) {
            let Some(old) = order.pop_front() else { break };
            if execs.get(&old).is_some_and(|e| e.running) {
                order.push_back(old);
            } else {
                execs.remove(&old);
            }
        }
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut ExecInfo)) {
        if let Some(info) = crate::lock(&self.execs).get_mut(id) {
            change(info);
        }
    }

    /// An exec as it stands.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, id: &str) -> Result<ExecInfo> {
        crate::lock(&self.execs).get(id).cloned().ok_or_else(|| not_found(format!("No such exec instance: {id}")))
    }
}

impl Engine {
    /// Prepares an exec; returns its id.
    ///
    /// # Errors
    /// 400, 404, 409 when the container does not run.
    pub fn exec_create(&self, target: &str, config: ExecConfig) -> Result<String> {
        let container = self.find(target)?;
        if config.cmd.is_empty() {
            return Err(invalid("No exec command specified"));
        }
        if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
            return Err(invalid(format!("Cwd must be an absolute path: {}", config.working_dir)));
        }
        if !container.is_running() {
            return Err(conflict(format!("container {} is not running", container.id)));
        }
        container.must_not_be_paused("exec")?;
        let id = crate::random_hex::<32>()?;
        let attributes = [("execID".to_owned(), id.clone())];
        self.container_event(&container, &format!("exec_create: {}", config.cmd.join(" ")), attributes);
        self.execs.insert(ExecInfo { id: id.clone(), container: container.id.clone(), config, ..ExecInfo::default() });
        Ok(id)
    }

    /// Whether an exec may be started.
    ///
    /// # Errors
    /// 404, 409 when it was started before or its container does not run.
    pub fn exec_check(&self, id: &str) -> Result<ExecInfo> {
        let info = self.execs.get(id)?;
        if info.running || info.exit_code.is_some() {
            return Err(conflict(format!("exec command {id} has already run")));
        }
        if !self.find(&info.container)?.is_running() {
            return Err(conflict(format!("container {} is not running", info.container)));
        }
        Ok(info)
    }

    /// Runs an exec.
    ///
    /// # Errors
    /// As [`Engine::exec_check`]; 400 with the runtime's text when the program cannot be run.
    pub async fn exec_start(&self, id: &str) -> Result<AttachStream> {
        let info = self.exec_check(id)?;
        let container = self.find(&info.container)?;
        let record = container.info();
        let hostname = if record.config.hostname.is_empty() { &container.id[..12] } else { &record.config.hostname };
        let mut env = environment(&record.config, hostname);
        if info.config.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        merge_env(&mut env, &info.config.env);
        let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
        let request = Request::Exec(ExecRequest {
            id: id.to_owned(),
            args: info.config.cmd.clone(),
            env,
            cwd: or(&info.config.working_dir, &record.config.working_dir),
            user: or(&info.config.user, &record.config.user),
            tty: info.config.tty,
            stdin: info.config.attach_stdin,
            privileged: info.config.privileged || record.host.privileged,
            console_size: info.config.console_size,
        });
        self.execs.change(id, |e| e.running = true);
        match run(&container.bundle, &request).await {
            Ok((connection, pid)) => {
                self.execs.change(id, |e| e.pid = pid);
                // One that came while the shim was at it found no terminal yet.
                let size = self.execs.get(id)?.config.console_size;
                if let Some((height, width)) = size.filter(|_| size != info.config.console_size) {
                    let _ = ask(&container.bundle, &Request::Resize { exec: Some(id.to_owned()), height, width }).await;
                }
                self.container_event(&container, &format!("exec_start: {}", info.config.cmd.join(" ")), []);
                let (stream, ends) = channel();
                let (execs, events, id) = (Arc::clone(&self.execs), Arc::clone(&self.events), id.to_owned());
                let on_exit = move |last: Option<Response>| {
                    let code = match last {
                        Some(Response::Exited(exit)) => exit.code,
                        _ => 137,
                    };
                    execs.change(&id, |e| {
                        e.running = false;
                        e.exit_code = Some(code);
                    });
                    let attributes = [("execID".to_owned(), id.clone()), ("exitCode".to_owned(), code.to_string())];
                    events.emit("container", "exec_die", &container.id, attributes);
                };
                pump(connection, ends, Some(Box::new(on_exit)));
                Ok(stream)
            }
            Err(e) => {
                let code = if e.message.contains("permission denied") { 126 } else { 127 };
                self.execs.change(id, |x| {
                    x.running = false;
                    x.exit_code = Some(code);
                });
                Err(e)
            }
        }
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn exec_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let info = self.execs.get(id)?;
        let container = self.find(&info.container)?;
        // Clients tell the size before they know that the process runs: it begins with it.
        self.execs.change(id, |e| e.config.console_size = Some((height, width)));
        let request = Request::Resize { exec: Some(id.to_owned()), height, width };
        // A terminal that is already closed has no size any more.
        let _ = ask(&container.bundle, &request).await;
        Ok(())
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// 404, 409 when it does not run.
    pub async fn resize(&self, target: &str, height: u16, width: u16) -> Result<()> {
        let container = self.find(target)?;
        if !container.is_running() {
            return Err(conflict(format!("cannot resize a stopped container: container {} is not running", container.id)));
        }
        let _ = ask(&container.bundle, &Request::Resize { exec: None, height, width }).await;
        Ok(())
    }
}

async fn run(bundle: &std::path::Path, request: &Request) -> Result<(Connection, i32)> {
    let talk = |e: std::io::Error| internal("talk to the shim", e);
    let mut connection = Connection::open(bundle).await.map_err(talk)?;
    connection.send(request).await.map_err(talk)?;
    loop {
        match connection.next().await.map_err(talk)? {
            Frame::Message(Response::Started { pid }) => return Ok((connection, pid)),
            Frame::Message(Response::Failed { message }) => {
                let text = format!("OCI runtime exec failed: exec failed: unable to start container process: {message}");
                return Err(EngineError::new(Code::InvalidArgument, text));
            }
            Frame::Message(other) => return Err(internal("exec", format!("the shim answered {other:?}"))),
            Frame::Output(..) => {}
        }
    }
}
