//! Hosts for the tests: real sockets, real raft logs, containers that exist in memory only.
#![allow(clippy::unwrap_used, dead_code, unused_imports)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skep_agent::{ExecError, Executor, Exit, ObservedState, ObservedTask, Started, Turn};
use skep_node::SwarmNode;
use skep_types::control::*;
use skep_types::dataplane::DataPlane;
use skep_types::file::StoredFile;
use skep_types::host::{LogOptions, LogRecord};
use skep_types::object::*;
use skep_types::spec::*;
use skep_types::{NodeId, TaskId};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum State {
    Created,
    Running,
    Exited(i32),
}

/// A container engine in memory. It outlives the daemons that use it, as containers do.
pub(crate) struct Host {
    pub(crate) containers: watch::Sender<BTreeMap<TaskId, State>>,
    pub(crate) starts: Mutex<BTreeMap<TaskId, usize>>,
    pub(crate) plane: Mutex<DataPlane>,
    pub(crate) name: String,
}

impl Host {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            containers: watch::channel(BTreeMap::new()).0,
            starts: Mutex::default(),
            plane: Mutex::default(),
            name: name.into(),
        })
    }

    pub(crate) fn running(&self) -> usize {
        self.containers.borrow().values().filter(|s| **s == State::Running).count()
    }

    pub(crate) fn status(&self, t: TaskId) -> ContainerStatus {
        ContainerStatus { id: format!("{:0>64}", t.to_string()), pid: 7, exit_code: 0 }
    }

    pub(crate) fn kill_one(&self, code: i32) -> TaskId {
        let mut killed = None;
        self.containers.send_modify(|c| {
            let (id, s) = c.iter_mut().find(|(_, s)| **s == State::Running).unwrap();
            *s = State::Exited(code);
            killed = Some(*id);
        });
        killed.unwrap()
    }
}

#[async_trait]
impl Executor for Host {
    async fn describe(&self) -> NodeDescription {
        NodeDescription {
            hostname: self.name.clone(),
            os: "linux".into(),
            nano_cpus: 4_000_000_000,
            memory: 8 << 30,
            form: skep_types::object::FORM,
            ..Default::default()
        }
    }
    async fn set_dataplane(&self, plane: DataPlane) -> Result<(), ExecError> {
        *self.plane.lock().unwrap() = plane;
        Ok(())
    }
    async fn dataplane(&self) -> Option<DataPlane> {
        Some(self.plane.lock().unwrap().clone()).filter(|p| *p != DataPlane::default())
    }
    async fn prepare(&self, a: &Assignment) -> Result<ContainerStatus, ExecError> {
        if a.spec.container.image == "missing" {
            return Err(ExecError { temporary: false, message: "No such image: missing".into() });
        }
        self.containers.send_modify(|c| {
            c.entry(a.task.id).or_insert(State::Created);
        });
        Ok(self.status(a.task.id))
    }
    async fn start(&self, a: &Assignment, _: &[Arc<StoredFile>]) -> Result<Started, ExecError> {
        let t = a.task.id;
        self.containers.send_modify(|c| {
            if c.get(&t) == Some(&State::Created) {
                *self.starts.lock().unwrap().entry(t).or_default() += 1;
                c.insert(t, State::Running);
            }
        });
        Ok(Started { container: self.status(t), ports: vec![] })
    }
    async fn logs(&self, task: TaskId, _: LogOptions) -> Result<mpsc::Receiver<LogRecord>, ExecError> {
        Err(ExecError { temporary: false, message: format!("task {task} has no log in this world") })
    }
    async fn healthy(&self, _: TaskId) -> Result<Turn, ExecError> {
        Ok(Turn::Healthy)
    }
    async fn wait(&self, t: TaskId) -> Result<Turn, ExecError> {
        let mut rx = self.containers.subscribe();
        let r = rx.wait_for(|c| !matches!(c.get(&t), Some(State::Running | State::Created))).await;
        match r.unwrap().get(&t) {
            Some(State::Exited(code)) => Ok(Turn::Ended(Exit { code: *code, ..Exit::default() })),
            _ => Err(ExecError { temporary: false, message: "No such container".into() }),
        }
    }
    async fn shutdown(&self, t: TaskId, _: Duration) -> Result<(), ExecError> {
        self.containers.send_modify(|c| {
            if let Some(s) = c.get_mut(&t) {
                *s = State::Exited(143);
            }
        });
        Ok(())
    }
    async fn remove(&self, t: TaskId) -> Result<(), ExecError> {
        self.containers.send_modify(|c| {
            c.remove(&t);
        });
        Ok(())
    }
    async fn observe(&self) -> Vec<ObservedTask> {
        let state = |s: &State| match s {
            State::Created => ObservedState::Created,
            State::Running => ObservedState::Running,
            State::Exited(code) => ObservedState::Exited { code: *code },
        };
        let all = self.containers.borrow().clone();
        all.iter().map(|(t, s)| ObservedTask { task: *t, container: self.status(*t), state: state(s) }).collect()
    }
}

pub(crate) struct Machine {
    pub(crate) dir: TempDir,
    pub(crate) host: Arc<Host>,
    pub(crate) node: SwarmNode,
    pub(crate) addr: String,
}

impl Machine {
    pub(crate) async fn new(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let host = Host::new(name);
        let node = SwarmNode::open(dir.path(), host.clone()).await.unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, host, node, addr: format!("127.0.0.1:{port}") }
    }

    pub(crate) async fn init(&self) -> NodeId {
        self.init_with(ClusterSpec::default()).await.unwrap()
    }

    pub(crate) async fn init_with(&self, spec: ClusterSpec) -> Result<NodeId, ControlError> {
        let r = InitRequest {
            listen_addr: self.addr.clone(),
            advertise_addr: self.addr.clone(),
            advertise_from: AdvertiseFrom::Given,
            data_path_addr: None,
            data_path_port: 0,
            availability: Availability::Active,
            spec,
            address_pools: (vec![skep_types::Ipv4Net::new([10, 0, 0, 0].into(), 8)], 24),
            force_new_cluster: false,
        };
        self.node.init(r).await
    }

    pub(crate) async fn join(&self, to: &Machine, token: &str) -> Result<NodeId, ControlError> {
        let r = JoinRequest {
            listen_addr: self.addr.clone(),
            advertise_addr: self.addr.clone(),
            advertise_from: AdvertiseFrom::Given,
            data_path_addr: None,
            remote_addrs: vec![to.addr.clone()],
            token: token.into(),
            availability: Availability::Active,
        };
        self.node.join(r).await
    }

    pub(crate) async fn reopen(&mut self) {
        self.node = SwarmNode::open(self.dir.path(), self.host.clone()).await.unwrap();
    }
}

pub(crate) async fn cluster(m: &Machine) -> Arc<Cluster> {
    match m.node.call(ControlRequest::GetCluster).await.unwrap() {
        ControlResponse::Cluster(c) => c,
        r => panic!("{r:?}"),
    }
}

/// Changes the swarm's settings and secrets.
pub(crate) async fn update_swarm(
    m: &Machine,
    f: impl Fn(&mut ClusterSpec),
    (rotate_worker, rotate_manager, rotate_unlock): (bool, bool, bool),
) -> Result<(), ControlError> {
    loop {
        let c = cluster(m).await;
        let mut spec = c.spec.clone();
        f(&mut spec);
        let version = c.meta.version;
        let r = ControlRequest::UpdateCluster { version, spec, rotate_worker, rotate_manager, rotate_unlock };
        match m.node.call(r).await {
            Ok(_) => return Ok(()),
            Err(e) if e.message.ends_with("update out of sequence") => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) async fn unlock_key(m: &Machine) -> String {
    match m.node.call(ControlRequest::GetUnlockKey).await.unwrap() {
        ControlResponse::UnlockKey(key) => key.0,
        r => panic!("{r:?}"),
    }
}

pub(crate) async fn nodes(m: &Machine) -> Vec<NodeView> {
    match m.node.call(ControlRequest::ListNodes).await {
        Ok(ControlResponse::Nodes(n)) => n,
        _ => vec![],
    }
}

pub(crate) async fn tasks(m: &Machine) -> Vec<Arc<Task>> {
    match m.node.call(ControlRequest::ListTasks).await {
        Ok(ControlResponse::Tasks(t)) => t.into_iter().map(|v| v.task).collect(),
        _ => vec![],
    }
}

pub(crate) async fn service(m: &Machine) -> Arc<Service> {
    match m.node.call(ControlRequest::GetService { target: "web".into() }).await.unwrap() {
        ControlResponse::Services(s) => s[0].clone(),
        r => panic!("{r:?}"),
    }
}

pub(crate) async fn update(m: &Machine, f: impl Fn(&mut ServiceSpec)) {
    loop {
        let s = service(m).await;
        let mut spec = s.spec.clone();
        f(&mut spec);
        let r = ControlRequest::UpdateService {
            target: "web".into(),
            version: s.meta.version,
            spec: Box::new(spec),
            rollback: false,
        };
        match m.node.call(r).await {
            Ok(_) => return,
            Err(e) => assert_eq!(e.message, "rpc error: code = Unknown desc = update out of sequence"),
        }
    }
}

pub(crate) async fn set_node(m: &Machine, id: NodeId, f: impl Fn(&mut NodeSpec)) -> Result<(), ControlError> {
    loop {
        let n = nodes(m).await.into_iter().find(|n| n.node.id == id).unwrap().node;
        let mut spec = n.spec.clone();
        f(&mut spec);
        match m.node.call(ControlRequest::UpdateNode { target: id.to_string(), version: n.meta.version, spec }).await {
            Ok(_) => return Ok(()),
            Err(e) if e.message.ends_with("update out of sequence") => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn web(replicas: u64) -> ServiceSpec {
    let port = PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published: 8080,
        mode: PublishMode::Ingress,
        host_ip: None,
    };
    ServiceSpec {
        name: "web".into(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas },
        task: TaskSpec { container: ContainerSpec { image: "web:1".into(), ..Default::default() }, ..Default::default() },
        update: None,
        rollback: None,
        endpoint: EndpointSpec { mode: EndpointMode::Vip, ports: vec![port] },
    }
}

pub(crate) async fn create(m: &Machine, spec: ServiceSpec) -> Result<ControlResponse, ControlError> {
    m.node.call(ControlRequest::CreateService { spec: Box::new(spec) }).await
}

macro_rules! until {
    ($what:expr, $cond:expr) => {{
        let begin = Instant::now();
        while !$cond {
            assert!(begin.elapsed() < Duration::from_secs(30), "waited too long for: {}", $what);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("{}: {:?}", $what, begin.elapsed());
    }};
}

pub(crate) async fn three() -> Vec<Machine> {
    three_with(ClusterSpec::default()).await
}

pub(crate) async fn three_with(spec: ClusterSpec) -> Vec<Machine> {
    // Shown with --nocapture and RUST_LOG set; may be set already by another test.
    let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
    let all = vec![Machine::new("one").await, Machine::new("two").await, Machine::new("three").await];
    all[0].init_with(spec).await.unwrap();
    let token = cluster(&all[0]).await.manager_token.clone();
    for m in &all[1..] {
        m.join(&all[0], &token).await.unwrap();
    }
    until!("three ready nodes", nodes(&all[1]).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 3);
    all
}

pub(crate) fn spread(all: &[Machine]) -> Vec<usize> {
    all.iter().map(|m| m.host.running()).collect()
}

pub(crate) use until;
