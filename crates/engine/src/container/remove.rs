//! Removal: goes on past errors and returns them all.

use std::sync::Arc;

use skep_types::container::ContainerState;

use super::Container;
use crate::Engine;
use crate::error::{Result, conflict, internal};

/// How often a forced removal ends a container that is started again under its hands.
const TRIES: usize = 5;

impl Engine {
    /// Ends a container that is to be removed, if it runs and `force` allows.
    async fn end_for_removal(self: &Arc<Self>, container: &Arc<Container>, force: bool) -> Result<()> {
        let info = container.info();
        if !container.is_running() && !matches!(info.state, ContainerState::Running | ContainerState::Restarting) {
            return Ok(());
        }
        if !force {
            let word = if info.state == ContainerState::Restarting { "restarting" } else { "running" };
            return Err(conflict(format!(
                "cannot remove container \"/{}\": container is {word}: stop the container before removing or force remove",
                info.name
            )));
        }
        container.update(false, |r| {
            r.stopped_by_user = true;
            r.info.host.auto_remove = false;
        })?;
        if container.is_running() {
            self.kill_and_wait(container).await?;
        }
        Ok(())
    }

    /// Removes a container; a running one only with `force`. `volumes` also removes its anonymous volumes.
    ///
    /// # Errors
    /// 404, 409 when it runs, 500 with everything that could not be removed.
    pub async fn remove(self: &Arc<Self>, target: &str, force: bool, volumes: bool) -> Result<()> {
        let container = self.find(target)?;
        let mut tries = 0;
        let _guard = loop {
            self.end_for_removal(&container, force).await?;
            let guard = container.ops.lock().await;
            if !container.is_running() {
                break guard;
            }
            // A start that was under way came first: one of its restart policy's, or somebody's.
            tries += 1;
            if !force || tries == TRIES {
                return Err(conflict(format!("container {} was started again while it was removed", container.id)));
            }
        };
        if !self.registry_remove(&container.id) {
            // Somebody else (--rm) was faster, which is what was asked for.
            return Ok(());
        }
        let mut failures = Vec::new();
        if let Err(e) = self.net.detach(&container.id).await {
            failures.push(e.to_string());
        }
        self.let_go(&container);
        self.finish_log(&container).await;
        let mut note = |result: std::io::Result<()>| match result {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => failures.push(e.to_string()),
            _ => {}
        };
        // The record goes first: what a crash leaves behind is no container any more, and is swept at the next start.
        note(std::fs::remove_file(container.dir.join("container.json")));
        let (dir, bundle) = (container.dir.clone(), container.bundle.clone());
        let removed = tokio::task::spawn_blocking(move || (std::fs::remove_dir_all(&bundle), std::fs::remove_dir_all(&dir)));
        match removed.await {
            Ok((bundle, dir)) => {
                note(bundle);
                note(dir);
            }
            Err(e) => failures.push(e.to_string()),
        }
        if volumes {
            for mount in container.info().mounts.iter().filter(|m| m.kind == "volume") {
                let anonymous = self.volumes.get(&mount.name).is_ok_and(|v| v.anonymous);
                let users = self.volume_users(&mount.name);
                if anonymous
                    && users.is_empty()
                    && let Err(e) = self.remove_volume(&mount.name, true, &users).await
                {
                    failures.push(e.to_string());
                }
            }
        }
        container.drop_pending();
        self.container_event(&container, "destroy", []);
        container.mark_removed();
        if failures.is_empty() {
            Ok(())
        } else {
            Err(internal(&format!("remove container {}", container.id), failures.join("; ")))
        }
    }
}
