//! The agent's [`Executor`] over the engine: a task is a container with Docker's swarm labels.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skep_agent::{Attachments, ExecError, Executor, Exit, ObservedState, ObservedTask, Started, Turn};
use skep_api::App;
use skep_engine::Engine;
use skep_engine::container::{Phase, has_readable_log};
use skep_engine::logs;
use skep_types::TaskId;
use skep_types::container::{
    ContainerConfig, ContainerInfo, ContainerState, CreateContainer, FilePlace, HostConfig, NetworkJoin, PortMap,
};
use skep_types::control::{Assignment, Code, ControlError};
use skep_types::dataplane::DataPlane;
use skep_types::file::{Bytes, FileKind, StoredFile};
use skep_types::health::HealthStatus;
use skep_types::host::{LogOptions, LogRecord, RegistryAuth};
use skep_types::object::{ContainerStatus, NodeDescription};
use skep_types::spec::{ContainerSpec, GenericResource, PortConfig, PublishMode};
use skep_types::template::{self, Asked, Context};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::images::ImageAdapter;

/// Label that says which task a container is.
const TASK_LABEL: &str = "com.docker.swarm.task.id";
/// How long a task waits for its networks to appear in the data plane.
const NETWORK_WAIT: Duration = Duration::from_secs(30);
/// How often it looks.
const NETWORK_POLL: Duration = Duration::from_millis(20);
/// How often a container that is not there yet is looked for by whoever follows its log.
const LOG_POLL: Duration = Duration::from_millis(100);
/// Records that are read ahead.
const LOG_QUEUE: usize = 64;
/// Addresses of its own that a host tells of; each is in all other hosts' tables.
const MOST_ADDRESSES: usize = 16;
/// The drivers that the engine has.
const DRIVERS: [(&str, &str); 14] = [
    ("Log", "awslogs"),
    ("Log", "fluentd"),
    ("Log", "gelf"),
    ("Log", "journald"),
    ("Log", "json-file"),
    ("Log", "local"),
    ("Log", "none"),
    ("Log", "splunk"),
    ("Log", "syslog"),
    ("Network", "bridge"),
    ("Network", "host"),
    ("Network", "null"),
    ("Network", "overlay"),
    ("Volume", "local"),
];

/// Runs tasks as containers of the engine.
pub(crate) struct EngineExecutor {
    engine: Arc<Engine>,
    images: Arc<ImageAdapter>,
    labels: BTreeMap<String, String>,
    generic: Vec<GenericResource>,
    /// Overlay networks that the data plane now has, by id.
    networks: Mutex<Vec<String>>,
    attachments: Arc<Attachments>,
    /// The API, for those who are brought to a task's container; it is made after this.
    api: OnceLock<App>,
}

fn failed(error: ControlError) -> ExecError {
    // What the user must change is final; the rest may work a second later.
    let temporary = matches!(error.code, Code::Unavailable);
    ExecError { temporary, message: error.message }
}

fn is_missing(error: &ControlError) -> bool {
    error.code == Code::NotFound
}

impl EngineExecutor {
    pub(crate) fn new(
        engine: Arc<Engine>,
        images: Arc<ImageAdapter>,
        labels: BTreeMap<String, String>,
        generic: Vec<GenericResource>,
        attachments: Arc<Attachments>,
    ) -> Self {
        Self { engine, images, labels, generic, networks: Mutex::default(), attachments, api: OnceLock::new() }
    }

    /// Whose calls are served to those who are brought to a task's container.
    pub(crate) fn serves(&self, app: App) {
        // It is told once.
        let _ = self.api.set(app);
    }

    /// Drivers by kind and name: the engine's own, and what plugins of the host are.
    fn plugins(&self) -> Vec<(String, String)> {
        let own = DRIVERS.iter().map(|(kind, name)| ((*kind).to_owned(), (*name).to_owned()));
        own.chain(self.engine.plugins.volume_drivers().into_iter().map(|name| ("Volume".to_owned(), name))).collect()
    }

    fn find(&self, task: TaskId) -> Option<ContainerInfo> {
        self.engine.labelled(TASK_LABEL, &task.to_string()).map(|c| c.info())
    }

    /// Pulls the image unless a digest that is here already names it; a registry that cannot be asked is no error if the
    /// image is here (`swarm-semantics` 7.1).
    async fn fetch(&self, assignment: &Assignment) -> Result<(), ExecError> {
        let image = &assignment.spec.container.image;
        let here = self.images.has(image);
        if here && (image.contains('@') || std::env::var_os("DOCKER_SERVICE_PREFER_OFFLINE_IMAGE").is_some_and(|v| v == "1")) {
            return Ok(());
        }
        let auth: RegistryAuth = assignment.spec.registry_auth.as_deref().map(skep_api::decode_auth).unwrap_or_default();
        match self.images.pull_quietly(image, auth).await {
            Ok(()) => Ok(()),
            Err(_) if here => Ok(()),
            // Docker's text first, then what Docker keeps to itself.
            Err(e) => Err(ExecError { temporary: false, message: format!("No such image: {image} ({})", e.message) }),
        }
    }

    /// Waits until the data plane has the task's networks, which arrives beside its assignment.
    async fn await_networks(&self, assignment: &Assignment) -> Result<(), ExecError> {
        let wanted: Vec<String> = assignment.networks.iter().filter(|n| !n.ingress).map(|n| n.id.to_string()).collect();
        let all = || {
            let known = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.iter().all(|w| known.contains(w))
        };
        let deadline = tokio::time::Instant::now() + NETWORK_WAIT;
        while !all() {
            if tokio::time::Instant::now() > deadline {
                let message = "the managers did not tell of the task's networks within 30 s".to_owned();
                return Err(ExecError { temporary: true, message });
            }
            tokio::time::sleep(NETWORK_POLL).await;
        }
        Ok(())
    }

    /// Waits until a task's container ended or its health is what is waited for.
    async fn turn(&self, task: TaskId, met: impl Fn(&Phase) -> bool + Send) -> Result<Turn, ExecError> {
        let info = self.find(task).ok_or_else(|| gone(task))?;
        let container = self.engine.find(&info.id).map_err(failed)?;
        let mut watch = container.watch();
        let ended = |p: &Phase| p.removed || !matches!(p.state, ContainerState::Running | ContainerState::Restarting);
        // The sender lives as long as the container.
        let phase = watch.wait_for(|p| ended(p) || met(p)).await.map(|p| p.clone()).map_err(|_| gone(task))?;
        Ok(match phase.health {
            _ if ended(&phase) => Turn::Ended(Exit { code: phase.exit_code, error: None, oom: phase.oom }),
            Some(HealthStatus::Unhealthy) => Turn::Unhealthy,
            _ => Turn::Healthy,
        })
    }

    /// What placeholders stand for in a task.
    fn context(&self, assignment: &Assignment) -> Context {
        let task = &assignment.task;
        let (node, facts) = (task.node.map(|n| n.to_string()).unwrap_or_default(), self.engine.facts());
        Context {
            service_id: task.service.to_string(),
            service_name: task.service_name.to_string(),
            service_labels: assignment.service_labels.clone(),
            node_hostname: facts.hostname,
            architecture: facts.architecture,
            os: "linux".to_owned(),
            task_id: task.id.to_string(),
            task_name: task.container_name(),
            task_slot: if task.pinned { node.clone() } else { task.slot.to_string() },
            node_id: node,
        }
    }

    /// The bytes of a task's secrets and configs, in its order, with the placeholders of those that are templates filled in.
    fn contents(&self, assignment: &Assignment, env: &[String], files: &[Arc<StoredFile>]) -> Result<Vec<Bytes>, ExecError> {
        let refs = &assignment.spec.container.files;
        let of = |kind: FileKind, target: &str| {
            let at = refs.iter().position(|r| r.kind == kind && r.target == target);
            let text = at.and_then(|at| files.get(at)).and_then(|f| std::str::from_utf8(&f.spec.data.0).ok());
            text.map(str::to_owned).ok_or_else(|| format!("the task has no {} {target:?} that is text", kind.as_str()))
        };
        let find = |asked: Asked<'_>| match asked {
            Asked::Secret(target) => of(FileKind::Secret, target),
            Asked::Config(target) => of(FileKind::Config, target),
            Asked::Env(name) => {
                let value = env.iter().find_map(|e| e.split_once('=').filter(|(n, _)| *n == name));
                Ok(value.map(|(_, v)| v.to_owned()).unwrap_or_default())
            }
        };
        let one = |f: &Arc<StoredFile>| {
            if !f.spec.template {
                return Ok(f.spec.data.clone());
            }
            let text = std::str::from_utf8(&f.spec.data.0).map_err(|e| e.to_string());
            let filled = text.and_then(|text| template::expand_payload(text, &self.context(assignment), find));
            let failed = |e| format!("expanding {} {} failed: {e}", f.spec.kind.as_str(), f.spec.name);
            filled.map(|t| t.into_bytes().into()).map_err(|e| ExecError { temporary: false, message: failed(e) })
        };
        files.iter().map(one).collect()
    }

    /// What the task's container is, its placeholders filled in and its generic resources told.
    fn container(&self, assignment: &Assignment) -> Result<ContainerSpec, ExecError> {
        let mut c = assignment.spec.container.clone();
        let task = &assignment.task;
        if template::is_used(&c) {
            let context = self.context(assignment);
            template::fill(&mut c, &context).map_err(|message| ExecError { temporary: false, message })?;
        }
        let mut generic: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for r in &task.generic {
            let value = match r {
                GenericResource::Discrete { count, .. } => count.to_string(),
                GenericResource::Named { id, .. } => id.clone(),
            };
            generic.entry(r.kind()).or_default().push(value);
        }
        c.env.extend(generic.into_iter().map(|(k, v)| format!("DOCKER_RESOURCE_{}={}", k.to_uppercase(), v.join(","))));
        Ok(c)
    }

    fn request(assignment: &Assignment, c: &ContainerSpec) -> CreateContainer {
        let (task, spec) = (&assignment.task, &assignment.spec);
        let mut labels = c.labels.clone();
        let node = task.node.map(|n| n.to_string()).unwrap_or_default();
        labels.extend([
            ("com.docker.swarm.task".to_owned(), String::new()),
            (TASK_LABEL.to_owned(), task.id.to_string()),
            ("com.docker.swarm.task.name".to_owned(), task.container_name()),
            ("com.docker.swarm.node.id".to_owned(), node),
            ("com.docker.swarm.service.id".to_owned(), task.service.to_string()),
            ("com.docker.swarm.service.name".to_owned(), task.service_name.to_string()),
        ]);
        let networks: Vec<NetworkJoin> = assignment
            .networks
            .iter()
            .filter(|n| !n.ingress)
            .map(|n| NetworkJoin {
                network: n.id.to_string(),
                address: Some(n.addr.addr),
                aliases: n.aliases.clone(),
                assigned: true,
                address6: None,
            })
            .collect();
        let ingress_address = assignment.networks.iter().find(|n| n.ingress).map(|n| n.addr.addr);
        let host_ports = assignment.ports.iter().filter(|p| p.mode == PublishMode::Host).map(|p| PortMap {
            protocol: p.protocol,
            container_port: p.target,
            host_ip: p.host_ip.map(IpAddr::from),
            host_port: p.published,
            host_port_end: 0,
        });
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        // A task without networks and without published ports lives on the default bridge, as in Docker.
        let lone = networks.is_empty() && ingress_address.is_none();
        let own = spec.networks.iter().find_map(|n| n.target.of_each_host()).or(lone.then_some("bridge"));
        CreateContainer {
            name: task.container_name(),
            config: ContainerConfig {
                image: c.image.clone(),
                entrypoint: (!c.command.is_empty()).then(|| c.command.clone()),
                cmd: c.args.clone(),
                env: c.env.clone(),
                working_dir: c.dir.clone(),
                user: c.user.clone(),
                hostname: c.hostname.clone(),
                tty: c.tty,
                open_stdin: c.open_stdin,
                labels,
                stop_signal: c.stop_signal.clone(),
                stop_timeout: c.stop_grace.map(seconds),
                health: c.health.clone(),
                ..ContainerConfig::default()
            },
            host: HostConfig {
                mounts: c.mounts.clone(),
                network_mode: own.unwrap_or_default().to_owned(),
                ports: host_ports.collect(),
                memory: spec.resources.limit_memory,
                nano_cpus: spec.resources.limit_nano_cpus,
                pids_limit: spec.resources.limit_pids,
                readonly_rootfs: c.read_only,
                log_driver: spec.log_driver.clone().unwrap_or_default(),
                log_opts: spec.log_options.clone(),
                groups: c.groups.clone(),
                dns: c.dns.nameservers.clone(),
                dns_search: c.dns.search.clone(),
                dns_options: c.dns.options.clone(),
                sysctls: c.sysctls.clone(),
                cap_add: c.cap_add.clone(),
                cap_drop: c.cap_drop.clone(),
                ulimits: c.ulimits.clone(),
                oom_score_adj: c.oom_score_adj,
                no_new_privileges: c.no_new_privileges,
                init: c.init.unwrap_or(false),
                seccomp: c.seccomp.clone(),
                selinux: c.selinux.as_ref().map(|s| s.options()).unwrap_or_default(),
                extra_hosts: c
                    .hosts
                    .iter()
                    .filter_map(|h| h.split_once(' ').map(|(ip, name)| format!("{name}:{ip}")))
                    .collect(),
                ..HostConfig::default()
            },
            networks,
            ingress_address,
            ingress_ports: assignment
                .ports
                .iter()
                .filter(|p| p.mode == PublishMode::Ingress)
                .map(|p| (p.protocol, p.target))
                .collect(),
            files: c.files.iter().map(|f| FilePlace { path: f.path(), uid: f.uid, gid: f.gid, mode: f.mode }).collect(),
        }
    }
}

fn status(info: &ContainerInfo) -> ContainerStatus {
    ContainerStatus { id: info.id.clone(), pid: info.pid, exit_code: info.exit_code }
}

fn started(info: &ContainerInfo) -> Started {
    // That of IPv6 goes with the one of IPv4.
    let port = |p: &PortMap| {
        let host_ip = match p.host_ip {
            Some(IpAddr::V6(_)) => return None,
            Some(IpAddr::V4(ip)) => Some(ip),
            None => None,
        };
        let (protocol, target, published) = (p.protocol, p.container_port, p.host_port);
        Some(PortConfig { name: String::new(), protocol, target, published, mode: PublishMode::Host, host_ip })
    };
    Started { container: status(info), ports: info.ports.iter().filter_map(port).collect() }
}

fn gone(task: TaskId) -> ExecError {
    ExecError { temporary: false, message: format!("No such container for task {task}") }
}

#[async_trait]
impl Executor for EngineExecutor {
    async fn describe(&self) -> NodeDescription {
        let facts = self.engine.facts();
        let wireguard = self.engine.net.wireguard_key().await.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "encrypted networks will not reach this host");
        });
        NodeDescription {
            hostname: facts.hostname,
            os: "linux".to_owned(),
            architecture: facts.architecture,
            nano_cpus: facts.cpus * 1_000_000_000,
            memory: facts.memory,
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            engine_labels: self.labels.clone(),
            generic: self.generic.clone(),
            plugins: self.plugins(),
            // Told by the agent, which has the certificates.
            tls: None,
            certificate: None,
            wireguard: wireguard.ok(),
            ipv6: self.engine.net.has_ipv6().then(|| skep_linux::runtime::addresses6(MOST_ADDRESSES)),
            form: skep_types::object::FORM,
        }
    }

    async fn set_dataplane(&self, plane: DataPlane) -> Result<(), ExecError> {
        if plane == DataPlane::default() {
            // This host has left.
            self.networks.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.engine.evict_all().await;
            let cleared = self.engine.net.clear_swarm().await;
            return cleared.map_err(|e| ExecError { temporary: true, message: ControlError::from(e).message });
        }
        let (Some(node), Some(addr)) = (plane.node, plane.addr) else {
            return Err(ExecError { temporary: true, message: "the managers do not know this host's address yet".to_owned() });
        };
        let known: Vec<String> = plane.networks.iter().map(|n| n.id.to_string()).collect();
        let applied = self.engine.net.set_dataplane(node, addr, plane).await;
        *self.networks.lock().unwrap_or_else(PoisonError::into_inner) = known;
        applied.map_err(|e| ExecError { temporary: true, message: ControlError::from(e).message })
    }

    async fn dataplane(&self) -> Option<DataPlane> {
        self.engine.net.dataplane().await
    }

    async fn prepare(&self, assignment: &Assignment) -> Result<ContainerStatus, ExecError> {
        if let Some(info) = self.find(assignment.task.id) {
            return Ok(status(&info));
        }
        self.fetch(assignment).await?;
        self.await_networks(assignment).await?;
        let container = self.container(assignment)?;
        let id = match self.engine.create(Self::request(assignment, &container)).await {
            Ok(id) => id,
            // A second call while the first was under way.
            Err(e) if e.code == Code::Conflict => match self.find(assignment.task.id) {
                Some(info) => info.id,
                None => return Err(failed(e)),
            },
            Err(e) => return Err(failed(e)),
        };
        Ok(ContainerStatus { id, pid: 0, exit_code: 0 })
    }

    async fn start(&self, assignment: &Assignment, files: &[Arc<StoredFile>]) -> Result<Started, ExecError> {
        let task = assignment.task.id;
        let info = self.find(task).ok_or_else(|| gone(task))?;
        match info.state {
            ContainerState::Created if info.error.is_empty() => {}
            // It ran already; `wait` tells how that ended.
            _ => return Ok(started(&info)),
        }
        let contents = self.contents(assignment, &info.config.env, files)?;
        match self.engine.start_with(&info.id, &contents).await {
            Ok(()) => {}
            Err(e) if e.code == Code::NotModified => {}
            Err(e) => return Err(ExecError { temporary: false, message: e.message }),
        }
        Ok(started(&self.find(task).ok_or_else(|| gone(task))?))
    }

    async fn logs(&self, task: TaskId, options: LogOptions) -> Result<mpsc::Receiver<LogRecord>, ExecError> {
        let (tx, rx) = mpsc::channel(LOG_QUEUE);
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            let label = task.to_string();
            let container = loop {
                let found = engine.labelled(TASK_LABEL, &label);
                match found {
                    Some(c) if !options.follow || c.info().started_at.0 != 0 => break c,
                    None if !options.follow => return,
                    // A task that is being prepared: it has no log yet.
                    _ => {}
                }
                if tokio::time::timeout(LOG_POLL, tx.closed()).await.is_ok() {
                    return;
                }
            };
            let info = container.info();
            if !has_readable_log(&info) {
                return;
            }
            let path = info.log_path.into();
            let mut records = logs::stream(path, options, move || container.is_running());
            while let Some(record) = records.recv().await {
                if tx.send(record).await.is_err() {
                    return;
                }
            }
        });
        Ok(rx)
    }

    async fn tunnel(&self, task: TaskId, io: DuplexStream) -> Result<(), ExecError> {
        let (found, app) = self.find(task).zip(self.api.get().cloned()).ok_or_else(|| gone(task))?;
        skep_api::serve_container(app, found.id, io).await;
        Ok(())
    }

    async fn network(&self, io: DuplexStream) -> Result<(), ExecError> {
        let none = || ExecError { temporary: true, message: "the daemon is not up yet".to_owned() };
        skep_api::serve_network(self.api.get().cloned().ok_or_else(none)?, io).await;
        Ok(())
    }

    async fn healthy(&self, task: TaskId) -> Result<Turn, ExecError> {
        self.turn(task, |p| p.health != Some(HealthStatus::Starting)).await
    }

    async fn wait(&self, task: TaskId) -> Result<Turn, ExecError> {
        self.turn(task, |p| p.health == Some(HealthStatus::Unhealthy)).await
    }

    async fn shutdown(&self, task: TaskId, grace: Duration) -> Result<(), ExecError> {
        let Some(info) = self.find(task) else { return Ok(()) };
        let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        match self.engine.stop(&info.id, Some(seconds), None).await {
            Ok(()) => Ok(()),
            Err(e) if e.code == Code::NotModified || is_missing(&e) => Ok(()),
            Err(e) => Err(ExecError { temporary: true, message: e.message }),
        }
    }

    async fn remove(&self, task: TaskId) -> Result<(), ExecError> {
        let Some(info) = self.find(task) else { return Ok(()) };
        match self.engine.remove(&info.id, true, true).await {
            Ok(()) => Ok(()),
            Err(e) if is_missing(&e) => Ok(()),
            Err(e) => Err(ExecError { temporary: true, message: e.message }),
        }
    }

    fn attachments(&self) -> Option<Arc<Attachments>> {
        Some(Arc::clone(&self.attachments))
    }

    async fn observe(&self) -> Vec<ObservedTask> {
        let observed = |info: &ContainerInfo| {
            let task = info.config.labels.get(TASK_LABEL)?.parse().ok()?;
            let state = match info.state {
                ContainerState::Created if info.error.is_empty() => ObservedState::Created,
                ContainerState::Running | ContainerState::Restarting => match &info.health {
                    Some(h) if h.status == HealthStatus::Starting => ObservedState::Starting,
                    _ => ObservedState::Running,
                },
                _ => ObservedState::Exited { code: info.exit_code },
            };
            Some(ObservedTask { task, container: status(info), state })
        };
        self.engine.list().iter().filter_map(observed).collect()
    }
}
