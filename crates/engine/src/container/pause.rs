//! Pausing: every process of a container stands still until it is let go on. The container counts as running all the while.

use std::sync::Arc;

use super::Container;
use crate::Engine;
use crate::error::{Result, conflict, internal};
use crate::oci::cgroup_path;

impl Engine {
    /// Stops a container's processes in their tracks.
    ///
    /// # Errors
    /// 404, 409 when it does not run or is paused already, 500 when the kernel refuses.
    pub async fn pause(&self, target: &str) -> Result<()> {
        let container = self.find(target)?;
        let _guard = container.ops.lock().await;
        if !container.is_running() {
            return Err(conflict(format!("container {} is not running", container.id)));
        }
        if container.info().paused {
            return Err(conflict(format!("container {} is already paused", container.id)));
        }
        self.freeze(&container, true)?;
        self.container_event(&container, "pause", []);
        Ok(())
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// 404, 409 when it is not paused, 500 when the kernel refuses.
    pub async fn unpause(&self, target: &str) -> Result<()> {
        let container = self.find(target)?;
        let _guard = container.ops.lock().await;
        if !container.info().paused {
            return Err(conflict(format!("Container {} is not paused", container.id)));
        }
        self.freeze(&container, false)?;
        self.container_event(&container, "unpause", []);
        Ok(())
    }

    fn freeze(&self, container: &Container, frozen: bool) -> Result<()> {
        let word = if frozen { "pause" } else { "unpause" };
        let group = cgroup_path(&self.config.cgroup_parent, &container.id);
        self.runtime.freeze(&group, frozen).map_err(|e| internal(&format!("{word} container {}", container.id), e))?;
        container.update(false, |r| r.info.paused = frozen)
    }

    /// Lets a paused container go on, since a signal was sent that it is to act on.
    pub(super) fn thaw(&self, container: &Container) {
        if container.info().paused
            && let Err(e) = self.freeze(container, false)
        {
            tracing::warn!(container = %container.id, error = %e, "a paused container that was signalled could not go on");
        }
    }

    /// What the kernel says, for a container that ran while no daemon did: a pause may have been cut off before it was noted.
    pub(crate) fn note_pause(&self, container: &Arc<Container>) {
        let paused = self.runtime.is_frozen(&cgroup_path(&self.config.cgroup_parent, &container.id));
        if paused != container.info().paused {
            // Memory has it; the disk learns it with the next change.
            let _ = container.update(false, |r| r.info.paused = paused);
        }
    }
}

impl Container {
    /// Refuses what a paused container cannot do.
    pub(super) fn must_not_be_paused(&self, before: &str) -> Result<()> {
        if self.info().paused {
            return Err(conflict(format!("container {} is paused, unpause the container before {before}", self.id)));
        }
        Ok(())
    }
}
