//! Health checks: a program is run in the container again and again, and what comes of it is its health. Must never touch a
//! container that was started again meanwhile, nor run two probes of one container at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use skep_types::container::{ContainerState, ExecConfig};
use skep_types::health::{Health, HealthConfig, HealthStatus, Probe};

use super::Container;
use super::attach::ask;
use crate::Engine;
use crate::shim::Request;

/// Bytes of a probe's output that are kept, as many as Docker keeps.
const OUTPUT: usize = 4096;
/// How long a probe that was killed for its time may take to be gone.
const GONE: Duration = Duration::from_secs(5);

impl Engine {
    /// Probes a running container until it ends, if it has a health check.
    pub(crate) fn watch_health(self: &Arc<Self>, container: &Arc<Container>) {
        let info = container.info();
        let Some(config) = info.config.health else { return };
        let Some(command) = config.command() else { return };
        let (engine, container) = (Arc::downgrade(self), Arc::clone(container));
        let started = info.started_at;
        let mut phase = container.watch();
        let exits = phase.borrow().exits;
        tokio::spawn(async move {
            let probing = async {
                loop {
                    let starting = container.info().health.is_some_and(|h| h.status == HealthStatus::Starting);
                    let early = || starting && crate::now().since(started) < config.start_period;
                    tokio::time::sleep(config.pause(early())).await;
                    if container.info().paused {
                        // It cannot answer, which says nothing of its health.
                        continue;
                    }
                    let Some(probe) = probe(&engine, &container, &config, &command).await else { return };
                    let Some(engine) = engine.upgrade() else { return };
                    engine.note_health(&container, &config, probe, early());
                }
            };
            tokio::select! {
                () = probing => {}
                // The sender lives as long as the container.
                _ = phase.wait_for(|p| p.removed || p.exits != exits || p.state != ContainerState::Running) => {}
            }
        });
    }

    fn note_health(&self, container: &Container, config: &HealthConfig, probe: Probe, early: bool) {
        let mut changed = None;
        let change = |r: &mut super::Record| {
            if r.info.state == ContainerState::Running {
                let health = r.info.health.get_or_insert_with(Health::default);
                changed = health.note(config, probe, early).then_some(health.status);
            }
        };
        // Only what a status is worth goes to the disk; the log of probes may be lost with the daemon.
        let _ = container.note(change);
        let Some(status) = changed else { return };
        if let Err(e) = container.update(false, |_| {}) {
            tracing::error!(container = %container.id, error = %e, "a change of health could not be recorded");
        }
        self.container_event(container, &format!("health_status: {}", status.as_str()), []);
    }
}

/// One probe; `None` when there is nothing to probe any more.
async fn probe(engine: &Weak<Engine>, container: &Container, config: &HealthConfig, command: &[String]) -> Option<Probe> {
    let engine = engine.upgrade()?;
    let mut probe = Probe { start: crate::now(), exit_code: -1, ..Probe::default() };
    let exec = ExecConfig { cmd: command.to_vec(), attach_stdout: true, attach_stderr: true, ..ExecConfig::default() };
    let id = engine.exec_create(&container.id, exec).ok()?;
    let mut output = Vec::new();
    let run = async {
        let mut stream = engine.exec_start(&id).await?;
        while let Some((_, data)) = stream.output.recv().await {
            let room = OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(data.get(..room).unwrap_or(&data));
        }
        engine.execs.get(&id)
    };
    match tokio::time::timeout(config.limit(), run).await {
        Ok(Ok(info)) => probe.exit_code = info.exit_code.unwrap_or(-1),
        Ok(Err(e)) => output = e.message.into_bytes(),
        Err(_) => {
            let kill = Request::KillExec { exec: id, signal: 9 };
            // One that does not even take the signal is left to the shim.
            let _ = tokio::time::timeout(GONE, ask(&container.bundle, &kill)).await;
            output = format!("Health check exceeded timeout ({})", words(config.limit())).into_bytes();
        }
    }
    probe.output = String::from_utf8_lossy(&output).into_owned();
    probe.end = crate::now();
    Some(probe)
}

/// A time as Go prints it, for round numbers.
fn words(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (0, millis) => format!("{millis}ms"),
        (seconds, 0) if seconds < 60 => format!("{seconds}s"),
        (seconds, 0) if seconds < 3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        (seconds, 0) => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
        _ => format!("{}s", time.as_secs_f64()),
    }
}
