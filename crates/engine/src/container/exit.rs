//! What happens when a container's process ended: one path, whether it was seen live or found after the daemon's restart.

use std::sync::Arc;
use std::time::Duration;

use skep_types::Time;
use skep_types::container::ContainerState;
use skep_types::health::HealthStatus;

use super::Container;
use crate::Engine;
use crate::files::read_json;
use crate::oci::cgroup_path;
use crate::shim::client::{Connection, Frame};
use crate::shim::{EXIT_FILE, Exit, Request, Response};

/// First wait of a restart policy; it doubles with each attempt.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait of a restart policy.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A container that ran this long starts with the first wait again.
const STEADY: Duration = Duration::from_secs(10);
/// Exit code of a container whose shim was killed with it: nothing knows better.
const UNKNOWN: i32 = 137;

impl Engine {
    /// Follows a running container until it ends.
    pub(crate) fn monitor(self: &Arc<Self>, container: Arc<Container>, connection: Connection) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let exit = wait_exit(&container, connection).await;
            if exit.at == 0 {
                // Its shim was killed: nothing of the container may go on unseen.
                engine.runtime.clear_cgroup(&cgroup_path(&engine.config.cgroup_parent, &container.id));
            }
            engine.ended(container, exit).await;
        });
    }

    /// Records the end, takes the network away, and does what the restart policy says.
    pub(crate) async fn ended(self: &Arc<Self>, container: Arc<Container>, exit: Exit) {
        let guard = container.ops.lock().await;
        let before = container.record();
        if before.info.state != ContainerState::Running {
            return;
        }
        if let Err(e) = self.net.detach(&container.id).await {
            tracing::warn!(container = %container.id, error = %e, "network of an ended container not wholly removed");
        }
        let at = if exit.at > 0 { Time(exit.at) } else { crate::now() };
        let ran = at.since(before.info.started_at);
        let attempt = if ran >= STEADY { 0 } else { before.info.restart_count };
        let again = wants_restart(&before, exit.code);
        let stored = container.update(false, |r| {
            r.info.state = if again { ContainerState::Restarting } else { ContainerState::Exited };
            r.info.exit_code = exit.code;
            r.info.oom_killed = exit.oom;
            r.info.finished_at = at;
            r.info.pid = 0;
            r.info.paused = false;
            if let Some(health) = &mut r.info.health {
                // As Docker shows a container that is probed no more.
                health.status = HealthStatus::Unhealthy;
            }
            r.sandbox = None;
        });
        if let Err(e) = stored {
            tracing::error!(container = %container.id, error = %e, "the end of a container could not be recorded");
        }
        // The bundle is only of use to a running container.
        let _ = std::fs::remove_dir_all(&container.bundle);
        if exit.oom {
            self.container_event(&container, "oom", []);
        }
        let attributes =
            [("exitCode".to_owned(), exit.code.to_string()), ("execDuration".to_owned(), ran.as_secs().to_string())];
        self.container_event(&container, "die", attributes);
        container.count_exit();
        if !again {
            self.let_go(&container);
        }
        self.unmount_soon(&container.id);
        drop(guard);
        if again {
            self.restart_later(container, attempt);
        } else if before.info.host.auto_remove
            && let Err(e) = self.remove(&container.id, true, true).await
        {
            tracing::warn!(container = %container.id, error = %e, "a container with --rm could not be removed");
        }
    }

    pub(crate) fn restart_later(self: &Arc<Self>, container: Arc<Container>, attempt: u32) {
        let engine = Arc::clone(self);
        let wait = FIRST_BACKOFF.saturating_mul(1u32 << attempt.min(16)).min(MAX_BACKOFF);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _guard = container.ops.lock().await;
            if container.record().info.state != ContainerState::Restarting {
                return;
            }
            if let Err(e) = engine.start_locked(&container, true, &[]).await {
                tracing::warn!(container = %container.id, error = %e, "restart failed");
            }
        });
    }
}

fn wants_restart(record: &super::Record, code: i32) -> bool {
    if record.stopped_by_user {
        return false;
    }
    let policy = &record.info.host.restart;
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => code != 0 && (policy.max_retry == 0 || record.info.restart_count < policy.max_retry),
        _ => false,
    }
}

async fn wait_exit(container: &Container, mut connection: Connection) -> Exit {
    if connection.send(&Request::Wait).await.is_ok() {
        while let Ok(frame) = connection.next().await {
            if let Frame::Message(Response::Exited(exit)) = frame {
                return exit;
            }
        }
    }
    found_exit(container)
}

/// What a shim wrote before it went, or that it was killed.
pub(crate) fn found_exit(container: &Container) -> Exit {
    let pid = container.info().pid;
    read_json::<Exit>(&container.dir.join(EXIT_FILE)).ok().filter(|e| e.pid == pid).unwrap_or(Exit {
        code: UNKNOWN,
        oom: false,
        at: 0,
        pid,
    })
}
