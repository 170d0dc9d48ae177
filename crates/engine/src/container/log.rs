//! A container's log: the file that its shim writes, and who sends it on.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skep_types::container::ContainerInfo;
use skep_types::logdriver;
use tokio::time::MissedTickBehavior;

use super::Container;
use crate::Engine;
use crate::error::Result;
use crate::logdriver::{Settings, Shipper, about, attributes, check, with_defaults};
use crate::logfiles;
use crate::shim::LogConfig;

/// How long the last records of a container that is removed may take to be sent.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often rotated files are looked for.
const PACK_PERIOD: Duration = Duration::from_secs(2);

/// Whether `logs` has something to read: the driver may keep nothing, or its user may have said that nothing is read here.
#[must_use]
pub fn has_readable_log(info: &ContainerInfo) -> bool {
    // What was taken when it was created is taken now.
    info.host.log_driver != logdriver::NONE
        && !Settings::read(&info.host.log_driver, &info.host.log_opts).is_ok_and(|s| s.unreadable)
}

impl Engine {
    /// A container as it logs: one that was created by a version without log drivers has the daemon's default.
    fn logging(&self, info: &ContainerInfo) -> Result<(ContainerInfo, Settings)> {
        let mut info = info.clone();
        let (driver, options) = (&mut info.host.log_driver, &mut info.host.log_opts);
        if driver.is_empty() {
            with_defaults(driver, options, &self.config.log_driver, &self.config.log_opts);
        }
        let settings = check(driver, options)?;
        Ok((info, settings))
    }

    /// What the shim is told.
    pub(super) fn log_config(&self, info: &ContainerInfo) -> Result<Option<LogConfig>> {
        let (info, settings) = self.logging(info)?;
        if info.host.log_driver == logdriver::NONE {
            return Ok(None);
        }
        let attrs = attributes(&info, &about(&info, &self.runtime.facts())?);
        let path = PathBuf::from(&info.log_path);
        Ok(Some(LogConfig {
            path,
            max_size: settings.max_size,
            max_files: settings.max_files,
            attrs,
            packs: settings.compress,
        }))
    }

    /// Reaches the server that a container's records go to, before it starts. A restart by its policy does not fail for a server that is
    /// down: what was written waits in the file.
    pub(super) async fn reach_log_server(&self, info: &ContainerInfo, again: bool) -> Result<Option<Shipper>> {
        let (info, settings) = self.logging(info)?;
        let Some(remote) = settings.remote else { return Ok(None) };
        let about = about(&info, &self.runtime.facts())?;
        Ok(Some(if again { Shipper::later(remote, about) } else { Shipper::open(remote, about).await? }))
    }

    /// Sends the records of a container that runs.
    pub(super) async fn ship(&self, container: &Arc<Container>, shipper: Option<Shipper>) {
        let Some(shipper) = shipper else { return };
        let (path, source) = (PathBuf::from(container.info().log_path), Arc::clone(container));
        self.shippers.start(shipper, &path, move || source.is_running()).await;
    }

    /// The same for a container that was found.
    pub(crate) async fn ship_later(&self, container: &Arc<Container>) {
        match self.reach_log_server(&container.info(), true).await {
            Ok(shipper) => self.ship(container, shipper).await,
            Err(e) => tracing::warn!(container = %container.id, error = %e, "its log is not sent"),
        }
    }

    /// Packs what was rotated of each container's log that is to be packed, for as long as there is an engine. One after the other, so
    /// that no more than one CPU is taken; by the daemon, since a shim has one thread, which its container's output waits for.
    pub(crate) async fn pack_logs(engine: Weak<Self>) {
        let mut tick = tokio::time::interval(PACK_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(logs) = engine.upgrade().map(|e| e.packed_logs()) else { return };
            for (path, keep) in logs {
                // Until there is nothing left to do; what the disk refuses is tried again with the next tick.
                while let Ok(true) = tokio::task::spawn_blocking({
                    let path = path.clone();
                    move || logfiles::pack_one(&path, keep)
                })
                .await
                .unwrap_or(Ok(false))
                .inspect_err(|e| tracing::warn!(log = %path.display(), error = %e, "a rotated file could not be packed"))
                {
                }
            }
        }
    }

    /// The logs whose rotated files are packed, with how many files they keep.
    fn packed_logs(&self) -> Vec<(PathBuf, u32)> {
        let settings = |i: &ContainerInfo| self.logging(i).ok().filter(|(_, s)| s.compress).map(|(_, s)| s.max_files);
        self.list().into_iter().filter_map(|i| settings(&i).map(|keep| (PathBuf::from(&i.log_path), keep))).collect()
    }

    /// Lets the last records of a container that is removed be sent.
    pub(super) async fn finish_log(&self, container: &Container) {
        self.shippers.finish(&container.id, FAREWELL).await;
    }
}
