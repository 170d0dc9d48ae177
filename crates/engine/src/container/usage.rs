//! What a container uses, and changes of what it may use.

use std::sync::Arc;

use skep_types::usage::{NewLimits, Process, Usage};

use super::create::{MIN_MEMORY, check_restart};
use crate::Engine;
use crate::error::{Result, conflict, internal, invalid};
use crate::oci::cgroup_path;

impl Engine {
    /// What a container uses now; `None` when it does not run.
    ///
    /// # Errors
    /// 404, 500 when its figures could not be read.
    pub async fn usage(&self, target: &str) -> Result<Option<Usage>> {
        let container = self.find(target)?;
        let info = container.info();
        if !container.is_running() {
            return Ok(None);
        }
        let (runtime, group) = (Arc::clone(&self.runtime), cgroup_path(&self.config.cgroup_parent, &container.id));
        // The kernel adds a container's counters up when they are read.
        let read = tokio::task::spawn_blocking(move || runtime.usage(&group, info.pid, !info.netns.is_empty()));
        read.await.map(Some).map_err(|e| internal(&format!("read the figures of container {}", container.id), e))
    }

    /// The processes of a running container.
    ///
    /// # Errors
    /// 404, 409 when it does not run.
    pub async fn processes(&self, target: &str) -> Result<Vec<Process>> {
        let container = self.find(target)?;
        if !container.is_running() {
            return Err(conflict(format!("container {} is not running", container.id)));
        }
        let (runtime, group) = (Arc::clone(&self.runtime), cgroup_path(&self.config.cgroup_parent, &container.id));
        let read = tokio::task::spawn_blocking(move || runtime.processes(&group));
        read.await.map_err(|e| internal(&format!("read the processes of container {}", container.id), e))
    }

    /// Gives a container other limits, at once if it runs.
    ///
    /// # Errors
    /// 400 for limits that none can have, 404, 409 when it is being removed, 500 when the kernel refuses.
    pub async fn update_limits(&self, target: &str, limits: NewLimits) -> Result<()> {
        let container = self.find(target)?;
        if limits.memory.is_some_and(|m| m > 0 && m < MIN_MEMORY) {
            return Err(invalid("Minimum memory limit allowed is 6MB"));
        }
        let _guard = container.ops.lock().await;
        if let Some(policy) = &limits.restart {
            check_restart(policy)?;
            if container.info().host.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
                return Err(conflict("Restart policy cannot be updated because AutoRemove is enabled for the container"));
            }
        }
        if container.is_running() {
            let group = cgroup_path(&self.config.cgroup_parent, &container.id);
            let set = self.runtime.limit(&group, &limits);
            set.map_err(|e| internal(&format!("Cannot update container {}", container.id), e))?;
        }
        container.update(true, |r| {
            let host = &mut r.info.host;
            for (field, value) in [
                (&mut host.memory, limits.memory),
                (&mut host.nano_cpus, limits.nano_cpus),
                (&mut host.cpu_shares, limits.cpu_shares),
                (&mut host.pids_limit, limits.pids),
            ] {
                *field = value.unwrap_or(*field);
            }
            if let Some(policy) = limits.restart {
                host.restart = policy;
            }
        })?;
        self.container_event(&container, "update", []);
        Ok(())
    }
}
