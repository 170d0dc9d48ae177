//! The daemon's start: what runs is adopted, what ended meanwhile is recorded, what a crash left is removed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skep_types::container::ContainerState;

use crate::container::{Container, ExecTable, Record, found_exit};
use crate::error::Code;
use crate::files::read_json;
use crate::host::Runtime;
use crate::images::Images;
use crate::net::{NetConfig, NetHost, NetworkManager, Sandbox};
use crate::oci::cgroup_path;
use crate::plugin::Plugins;
use crate::shim::client::Connection;
use crate::shim::{Request, Response};
use crate::volumes::Volumes;
use crate::{Attachments, Engine, EngineConfig};

/// A container on an overlay network waits for the managers, and one with a plugin's volume for the plugin, so long at first after the host's start, longer each time, …
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// … and not any more when this is reached, after some four minutes.
const LAST_PAUSE: Duration = Duration::from_secs(128);

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory of the data or exec root.
    #[error("{operation} {path}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The networks.
    #[error("set up the networks")]
    Network(#[source] crate::net::NetError),
}

impl Engine {
    /// Opens the data root, adopts running containers and starts those whose restart policy says so.
    ///
    /// # Errors
    /// When directories cannot be made or the networks cannot be set up.
    pub async fn open(
        config: EngineConfig,
        runtime: Arc<dyn Runtime>,
        images: Arc<dyn Images>,
        net_host: Arc<dyn NetHost>,
        net_config: NetConfig,
        attachments: Arc<dyn Attachments>,
    ) -> Result<Arc<Self>, OpenError> {
        let disk = |operation: &'static str, path: &std::path::Path| {
            let path = path.display().to_string();
            move |cause| OpenError::Disk { operation, path, cause }
        };
        let containers = config.data_root.join("containers");
        for dir in [&containers, &config.exec_root.join("c"), &config.exec_root.join("rt")] {
            std::fs::create_dir_all(dir).map_err(disk("make", dir))?;
            // Shims' sockets and containers' files are the daemon's alone.
            std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(disk("close", dir))?;
        }
        let volumes = Volumes::open(&config.data_root).map_err(disk("open the volumes of", &config.data_root))?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&containers).map_err(disk("read", &containers))?.flatten() {
            let dir = entry.path();
            match read_json::<Record>(&dir.join("container.json")) {
                Ok(record) if record.info.id.len() == 64 => {
                    let bundle = config.exec_root.join("c").join(&record.info.id[..24]);
                    found.push(Arc::new(Container::new(record, dir, bundle)));
                }
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    tracing::error!(dir = %dir.display(), error = %e, "a container's record is damaged; it is left as it is");
                }
                _ => {
                    // Its creation or removal was cut off; nothing of it was acknowledged or is wanted.
                    let _ = std::fs::remove_dir_all(&dir);
                }
            }
        }
        let mut alive = Vec::new();
        for container in &found {
            if container.info().state == ContainerState::Running {
                alive.push(connect(container).await);
            } else {
                alive.push(None);
            }
        }
        let sandboxes: Vec<Sandbox> =
            found.iter().zip(&alive).filter(|(_, a)| a.is_some()).filter_map(|(c, _)| c.record().sandbox).collect();
        let net = NetworkManager::open(net_host, net_config, sandboxes).await.map_err(OpenError::Network)?;
        let plugins = Arc::new(Plugins::new(config.plugins.clone()));
        let engine = Arc::new(Self {
            config,
            plugins,
            runtime,
            images,
            attachments,
            net: Arc::new(net),
            volumes: Arc::new(volumes),
            events: Arc::default(),
            execs: Arc::new(ExecTable::default()),
            shippers: crate::logdriver::Shippers::default(),
            registry: Mutex::default(),
        });
        for container in &found {
            engine.registry_insert(Arc::clone(container));
            let held: Vec<_> = container.record().places.into_iter().map(|p| p.held).collect();
            engine.attachments.adopt(&held);
        }
        for (container, connection) in found.into_iter().zip(alive) {
            engine.take_over(container, connection).await;
        }
        tokio::spawn(Self::pack_logs(Arc::downgrade(&engine)));
        tokio::spawn(Plugins::watch(Arc::downgrade(&engine.plugins)));
        tokio::spawn(Self::sweep_mounts(Arc::downgrade(&engine)));
        Ok(engine)
    }

    async fn take_over(self: &Arc<Self>, container: Arc<Container>, connection: Option<Connection>) {
        let info = container.info();
        // Of one that ended, too: its last records may not be sent yet.
        if info.started_at.0 != 0 {
            self.ship_later(&container).await;
        }
        match (info.state, connection) {
            (ContainerState::Running, Some(connection)) => {
                tracing::info!(container = %container.id, pid = info.pid, "adopted");
                self.note_pause(&container);
                self.monitor(Arc::clone(&container), connection);
                self.watch_health(&container);
            }
            (ContainerState::Running, None) => {
                // The shim wrote how it ended, or was killed with it; then nothing of it may go on unseen.
                self.runtime.clear_cgroup(&cgroup_path(&self.config.cgroup_parent, &container.id));
                let rebooted = !container.bundle.exists();
                let exit = found_exit(&container);
                self.ended(Arc::clone(&container), exit).await;
                let policy = info.host.restart.name.as_str();
                if rebooted && container.info().state != ContainerState::Restarting && policy == "always" {
                    self.start_soon(container);
                }
            }
            (ContainerState::Restarting, _) => self.restart_later(container, info.restart_count),
            (ContainerState::Exited, _) if info.host.auto_remove => {
                if let Err(e) = self.remove(&container.id, true, true).await {
                    tracing::warn!(container = %container.id, error = %e, "a container with --rm could not be removed");
                }
            }
            // `always` starts again with the daemon even if a user had stopped it.
            (ContainerState::Exited, _) if info.host.restart.name == "always" => self.start_soon(container),
            _ => {
                self.let_go(&container);
                let _ = std::fs::remove_dir_all(&container.bundle);
            }
        }
    }

    /// Whether others must be there before a container can start.
    async fn waits_for_others(&self, container: &Arc<Container>) -> bool {
        self.is_on_others(container).await || container.info().mounts.iter().any(|m| !m.driver.is_empty())
    }

    fn start_soon(self: &Arc<Self>, container: Arc<Container>) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                match engine.start(&container.id).await {
                    Ok(()) => return,
                    // This host is not back in its swarm yet, or its plugins are not.
                    Err(e)
                        if pause < LAST_PAUSE && e.code != Code::NotModified && engine.waits_for_others(&container).await =>
                    {
                        tracing::info!(container = %container.id, error = %e, "is started again as soon as its networks and volumes are there");
                    }
                    Err(e) => {
                        tracing::warn!(container = %container.id, error = %e, "could not be started again");
                        return;
                    }
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        });
    }
}

/// A connection to the shim of a container that its record calls running, if it still is.
async fn connect(container: &Container) -> Option<Connection> {
    let mut connection = Connection::open(&container.bundle).await.ok()?;
    match connection.ask(&Request::Hello).await {
        Ok(Response::Hello { pid, started: true, .. }) if pid == container.info().pid => Some(connection),
        _ => None,
    }
}
