//! From a created container to a running one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use skep_types::container::{ContainerState, HostConfig, MountPoint};
use skep_types::file::Bytes;
use skep_types::health::Health;
use skep_types::spec::Seccomp;

use super::network::{endpoint_infos, own_addresses, ports};
use super::shared::Lender;
use super::{Container, Record, devices, etc, files};
use crate::Engine;
use crate::error::{Code, EngineError, Result, conflict, internal, invalid};
use crate::files::write_json;
use crate::net::Sandbox;
use crate::oci;
use crate::shim::client::Connection;
use crate::shim::{CONFIG_FILE, CopyUp, EXIT_FILE, Launch, MOUNT_FAILED, Request, Response, ShimConfig};

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// 304 when it runs, 404, 400 when its program cannot be run, 500.
    pub async fn start(self: &Arc<Self>, target: &str) -> Result<()> {
        self.start_with(target, &[]).await
    }

    /// Starts a task's container with its secrets and configs, in the order in which it was created with them.
    ///
    /// # Errors
    /// As [`Engine::start`]; 409 if there are fewer or more of them.
    pub async fn start_with(self: &Arc<Self>, target: &str, files: &[Bytes]) -> Result<()> {
        let container = self.find(target)?;
        let _guard = container.ops.lock().await;
        match container.info().state {
            ContainerState::Running => return Err(EngineError::new(Code::NotModified, "container already started")),
            ContainerState::Removing | ContainerState::Dead => {
                return Err(conflict(format!("container {} is being removed and cannot be started", container.id)));
            }
            _ => {}
        }
        container.update(false, |r| {
            r.stopped_by_user = false;
            r.info.restart_count = 0;
        })?;
        self.start_locked(&container, false, files).await
    }

    /// Starts a container whose `ops` the caller holds.
    pub(super) async fn start_locked(self: &Arc<Self>, container: &Arc<Container>, again: bool, files: &[Bytes]) -> Result<()> {
        let started = self.try_start(container, again, files).await;
        if let Err(e) = &started {
            if let Err(left) = self.net.detach(&container.id).await {
                tracing::warn!(container = %container.id, error = %left, "network of a failed start not wholly removed");
            }
            self.let_go(container);
            self.unmount_soon(&container.id);
            let _ = std::fs::remove_dir_all(&container.bundle);
            container.drop_pending();
            let code = if e.message.starts_with(MOUNT_FAILED) {
                128
            } else if e.message.contains("permission denied") {
                126
            } else if e.message.contains("executable file not found") || e.message.contains("no such file") {
                127
            } else {
                128
            };
            let stored = container.update(false, |r| {
                let fresh = r.info.started_at.0 == 0;
                r.info.state = if fresh { ContainerState::Created } else { ContainerState::Exited };
                r.info.error.clone_from(&e.message);
                r.info.exit_code = code;
                r.info.pid = 0;
                r.sandbox = None;
            });
            if let Err(e) = stored {
                tracing::error!(container = %container.id, error = %e, "a failed start could not be recorded");
            }
            container.count_exit();
            if container.info().host.auto_remove {
                let engine = Arc::clone(self);
                let id = container.id.clone();
                tokio::spawn(async move { engine.remove(&id, true, true).await });
            }
        }
        started
    }

    async fn try_start(self: &Arc<Self>, container: &Arc<Container>, again: bool, files: &[Bytes]) -> Result<()> {
        let mut record = container.record();
        if record.files.len() != files.len() {
            return Err(conflict(format!(
                "container {} has secrets or configs, which this host does not keep: only its swarm can start it",
                container.id
            )));
        }
        let lender = self.lender(container, &record)?;
        let sandbox = self.join_networks(container, &record).await?;
        self.mount_driven(container, &mut record).await?;
        let mut shim = self.shim_config(container, &record, sandbox.as_ref(), lender.as_ref())?;
        // Until it runs, and others can take its mounts.
        let _starting = self.volumes_starting(&record.info.mounts).await;
        shim.filesystems = self.filesystems(&record.info.mounts, &container.id).await?;
        let shipper = self.reach_log_server(&record.info, again).await?;
        let _ = std::fs::remove_file(container.dir.join(EXIT_FILE));
        let _ = std::fs::remove_dir_all(&container.bundle);
        std::fs::create_dir_all(&container.bundle)
            .and_then(|()| write_json(&container.bundle.join(CONFIG_FILE), &shim, false))
            .map_err(|e| internal(&format!("prepare container {}", container.id), e))?;
        match self.runtime.launch(&container.bundle, files).await {
            Ok(Launch::Ready { .. }) => {}
            Ok(Launch::Failed { message }) => return Err(failed_start(&message)),
            Err(e) => return Err(internal(&format!("start the shim of container {}", container.id), e)),
        }
        container.attach_pending().await;
        let talk = |e: std::io::Error| internal(&format!("talk to the shim of container {}", container.id), e);
        let mut connection = Connection::open(&container.bundle).await.map_err(talk)?;
        let pid = match connection.ask(&Request::Start).await.map_err(talk)? {
            Response::Started { pid } => pid,
            Response::Failed { message } => return Err(failed_start(&message)),
            other => return Err(internal("start a container", format!("the shim answered {other:?}"))),
        };
        let stored = container.update(false, |r| {
            r.info.state = ContainerState::Running;
            r.info.pid = pid;
            r.info.mounts.clone_from(&record.info.mounts);
            r.info.started_at = crate::now();
            r.info.error.clear();
            r.info.exit_code = 0;
            r.info.oom_killed = false;
            r.info.health = r.info.config.health.as_ref().and_then(|h| h.command()).map(|_| Health::default());
            if again {
                r.info.restart_count += 1;
            }
            if let Some(sandbox) = &sandbox {
                r.info.endpoints = endpoint_infos(sandbox);
                r.info.ports = ports(sandbox);
                r.info.netns = sandbox.netns.display().to_string();
            }
            r.sandbox = sandbox;
        });
        if let Err(e) = stored {
            // It runs, and the shim knows; the record is made good at the next change.
            tracing::error!(container = %container.id, error = %e, "a start could not be recorded");
        }
        self.ship(container, shipper).await;
        self.monitor(Arc::clone(container), connection);
        self.container_event(container, "start", []);
        self.watch_health(container);
        Ok(())
    }

    /// The host name that a container has.
    pub(super) fn hostname(&self, container: &Container, record: &Record) -> String {
        match (record.info.config.hostname.as_str(), record.info.host.network_mode.as_str()) {
            ("", "host") => self.runtime.facts().hostname,
            ("", _) => container.id[..12].to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    fn shim_config(
        &self,
        container: &Container,
        record: &Record,
        sandbox: Option<&Sandbox>,
        lender: Option<&Lender>,
    ) -> Result<ShimConfig> {
        let info = &record.info;
        let facts = self.runtime.facts();
        let short = &container.id[..12];
        let hostname = lender.map_or_else(|| self.hostname(container, record), |l| l.hostname.clone());
        let etc_dir = lender.map_or_else(|| container.dir.join("etc"), |l| l.etc.clone());
        let addresses: Vec<IpAddr> = sandbox.map(own_addresses).unwrap_or_default();
        // A host without the file has no resolvers to pass on.
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let resolv_conf = sandbox.map_or_else(|| host.clone(), |s| s.resolv_conf(&host));
        if lender.is_none() {
            etc::write(&etc_dir, info, &hostname, &addresses, &resolv_conf)
                .map_err(|e| internal(&format!("write the /etc files of container {short}"), e))?;
        }
        let mut mounts = info.mounts.clone();
        for name in ["hosts", "hostname", "resolv.conf"] {
            let destination = format!("/etc/{name}");
            if !mounts.iter().any(|m| m.destination == destination) {
                let source = etc_dir.join(name).display().to_string();
                mounts.push(MountPoint { kind: "bind".to_owned(), source, destination, rw: true, ..MountPoint::default() });
            }
        }
        mounts.extend(files::mounts(&container.bundle, &record.files));
        let mut capabilities = oci::capabilities(&info.host)?;
        if facts.cgroup_version == 2 && !info.host.privileged {
            // No device filter is installed on the unified hierarchy yet: without this capability no device can be made.
            capabilities.retain(|c| c != "CAP_MKNOD");
        }
        let mut args = vec![info.path.clone()];
        args.extend(info.args.iter().cloned());
        let rootfs = container.dir.join("rootfs");
        let spec = oci::config(&oci::Inputs {
            id: &container.id,
            args,
            config: &info.config,
            host: &info.host,
            hostname: &hostname,
            rootfs: rootfs.display().to_string(),
            netns: sandbox.map(|s| &s.netns).or(lender.and_then(|l| l.netns.as_ref())).map(|p| p.to_str().unwrap_or_default()),
            mounts: &mounts,
            devices: &devices::of(&info.host)?,
            cgroup_parent: &self.config.cgroup_parent,
            cgroup_v2: facts.cgroup_version == 2,
            readonly_cgroups: self.runtime.readonly_cgroups(),
        })?;
        let seccomp = self.filter(&info.host, &capabilities)?;
        let log = self.log_config(info)?;
        Ok(ShimConfig {
            id: container.id.clone(),
            lower: record.lower.clone(),
            upper: container.dir.join("upper"),
            work: container.dir.join("work"),
            rootfs,
            spec,
            user: info.config.user.clone(),
            tty: info.config.tty,
            groups: info.host.groups.clone(),
            open_stdin: info.config.open_stdin,
            stdin_once: info.config.stdin_once,
            log,
            exit_file: container.dir.join(EXIT_FILE),
            seccomp,
            capabilities,
            init: info.host.init,
            console_size: info.host.console_size,
            volumes: record
                .copy_up
                .iter()
                .map(|(volume, target)| CopyUp { volume: volume.clone(), target: target.clone() })
                .collect(),
            filesystems: Vec::new(),
            runtime_root: self.config.exec_root.join("rt"),
            files: files::staged(&record.files),
        })
    }
}

impl Engine {
    /// The compiled filter of a container's system calls, if it is to have one.
    fn filter(&self, host: &HostConfig, capabilities: &[String]) -> Result<Option<PathBuf>> {
        let profile = match &host.seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Default if host.privileged => return Ok(None),
            Seccomp::Default => None,
            Seccomp::Custom(text) => Some(text.as_str()),
        };
        self.runtime.seccomp(capabilities, profile).map(Some).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => invalid(e.to_string()),
            _ => internal("keep the seccomp filter", e),
        })
    }
}

/// Docker's envelope, by which clients choose exit code 126 or 127.
fn failed_start(message: &str) -> EngineError {
    if message.starts_with(MOUNT_FAILED) {
        return EngineError::new(Code::Internal, message);
    }
    let text = format!(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container \
         process: {message}"
    );
    let user =
        ["executable file not found", "no such file or directory", "permission denied", "is a directory", "unable to find"];
    if user.iter().any(|u| message.contains(u)) { invalid(text) } else { EngineError::new(Code::Internal, text) }
}

/// Bytes of a size such as `10m`.
///
/// # Errors
/// 400.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let bad = || invalid(format!("invalid size: '{text}'"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => return Err(bad()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)
}
