//! The tables at their largest: 10,000 nodes, 1,000 services, 1,000,000 tasks, in a manager's raft on a real disk. What they take
//! in memory, how long writes stand still while a snapshot of them is begun and written, and how long a restart takes.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skep_raft::{
    DirStorage, Key, KeyRing, MessageKind, Peer, Raft, RaftConfig, SnapshotFn, StateMachine, Transport, TransportError,
};
use skep_state::{Dump, Op, Store, Transaction};
use skep_types::object::{Attachment, Node, Service, Task, TaskState, TaskStatus};
use skep_types::spec::{Availability, EndpointSpec, Role, ServiceMode, ServiceSpec, TaskSpec};
use skep_types::{Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

const TASKS_OF_A_SERVICE: u128 = 1000;
/// Tasks of one transaction: an entry of about half a megabyte.
const BATCH: u128 = 500;

/// The tables, as a manager has them.
#[derive(Default)]
struct Tables(Mutex<Store>);

impl Tables {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateMachine for Tables {
    fn apply(&self, index: u64, bytes: &[u8]) -> Vec<u8> {
        let applied = rmp_serde::from_slice::<Transaction>(bytes)
            .map_err(|e| e.to_string())
            .and_then(|t| self.lock().apply(index, &t).map(drop).map_err(|e| e.to_string()));
        applied.err().unwrap_or_default().into_bytes()
    }

    fn snapshot(&self) -> SnapshotFn {
        let store = self.lock().clone();
        Box::new(move |out| rmp_serde::encode::write_named(out, &store.dump()).map_err(std::io::Error::other))
    }

    fn restore(&self, bytes: &mut dyn Read) -> Result<(), String> {
        let dump: Dump = rmp_serde::from_read(BufReader::new(bytes)).map_err(|e| e.to_string())?;
        *self.lock() = Store::restore(dump).map_err(|e| e.to_string())?;
        Ok(())
    }
}

/// A group of one has nobody to call.
struct Alone;

#[async_trait]
impl Transport for Alone {
    async fn call(&self, target: &Peer, _: MessageKind, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::Unreachable { addr: target.addr.clone(), cause: "there is nobody else".into() })
    }
}

fn objects(nodes: u128, tasks: u128) -> impl Iterator<Item = Vec<Op>> {
    let all: Vec<Op> = (1..=nodes)
        .map(|n| {
            let mut node = Node::new(NodeId(n), Role::Worker, Availability::Active);
            node.description.hostname = format!("host{n}");
            Op::PutNode(Box::new(node))
        })
        .collect();
    let services = (1..=tasks.div_ceil(TASKS_OF_A_SERVICE)).flat_map(|s| {
        let mut spec = ServiceSpec {
            name: format!("service{s}"),
            labels: Default::default(),
            mode: ServiceMode::Replicated { replicas: TASKS_OF_A_SERVICE as u64 },
            task: TaskSpec::default(),
            update: None,
            rollback: None,
            endpoint: EndpointSpec::default(),
        };
        spec.task.container.image = "registry.example.com/team/app:1.2.3".into();
        let task = Arc::new(spec.task.clone());
        let service = Service::new(ServiceId(s), spec, Time(1));
        [Op::PutRevision { service: ServiceId(s), revision: 1, spec: task }, Op::PutService(Box::new(service))]
    });
    let services: Vec<Op> = services.collect();
    let tasks = (0..tasks)
        .step_by(BATCH as usize)
        .map(move |from| (from..tasks.min(from + BATCH)).map(|i| Op::PutTask(Box::new(task(i, nodes)))).collect::<Vec<Op>>());
    let objects: Vec<Vec<Op>> = all.chunks(500).chain(services.chunks(500)).map(<[Op]>::to_vec).collect();
    objects.into_iter().chain(tasks)
}

fn task(i: u128, nodes: u128) -> Task {
    let service = i / TASKS_OF_A_SERVICE + 1;
    // Below 2^24 tasks, one address each in 10.0.0.0/8.
    let addr = Ipv4Net::new(std::net::Ipv4Addr::from(0x0a00_0000 + i as u32 + 2), 8);
    Task {
        slot: (i % TASKS_OF_A_SERVICE) as u64 + 1,
        node: Some(NodeId(i % nodes + 1)),
        status: TaskStatus { state: TaskState::Running, message: "started".into(), ..TaskStatus::default() },
        networks: vec![Attachment { network: NetworkId(1), addr }],
        running_since: Some(Time(1)),
        ..Task::new(TaskId(i + 1), ServiceId(service), &format!("service{service}"))
    }
}

/// Resident memory of this process in MiB, once free memory is given back as the daemon does from time to time.
fn resident() -> u64 {
    skep_linux::memory::trim();
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn open(dir: &Path) -> Result<(Raft, Arc<Tables>), String> {
    let tables = Arc::new(Tables::default());
    let mut config = RaftConfig::new(1);
    config.snapshot_every = u64::MAX;
    let storage = Arc::new(DirStorage::new(dir.to_path_buf()));
    let raft = Raft::open(config, storage, KeyRing::new(Key::new([1; 32])), Arc::new(Alone), tables.clone());
    Ok((raft.await.map_err(|e| e.to_string())?, tables))
}

async fn write(raft: &Raft, ops: Vec<Op>) -> Result<(), String> {
    let t = Transaction::new(Time(1), vec![], ops);
    let bytes = rmp_serde::to_vec_named(&t).map_err(|e| e.to_string())?;
    let (_, answer) = raft.propose(bytes).await.map_err(|e| e.to_string())?;
    if answer.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
}

/// Runs it in a directory that is empty; a second process runs the restart, so that its memory is its own.
pub(crate) fn run(dir: &Path, options: &[&str]) -> Result<(), String> {
    skep_linux::memory::keep_until_trimmed();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("start tokio: {e}"))?;
    match options {
        ["--again"] => runtime.block_on(again(dir)),
        [] => runtime.block_on(fill(dir, 10_000, 1_000_000)),
        ["--smoke"] => runtime.block_on(fill(dir, 100, 10_000)),
        _ => Err("usage: skep-bench tables DIRECTORY [--smoke]".into()),
    }
}

async fn fill(dir: &Path, nodes: u128, tasks: u128) -> Result<(), String> {
    let (raft, tables) = open(dir).await?;
    raft.initialize(&Peer { id: 1, node_id: "n".into(), addr: "127.0.0.1:1".into() }).await.map_err(|e| e.to_string())?;
    raft.leadership().wait_for(|l| l.is_leader).await.map_err(|e| e.to_string())?;
    let begin = Instant::now();
    for ops in objects(nodes, tasks) {
        write(&raft, ops).await?;
    }
    println!(
        "| {tasks} tasks on {nodes} nodes agreed on | {:.1} s, {} MiB resident |",
        begin.elapsed().as_secs_f64(),
        resident()
    );
    // One small write after the other, while a snapshot is made.
    raft.set_snapshot_every(1);
    let (mut longest, begin) = (Duration::ZERO, Instant::now());
    let before = raft.metrics().snapshot;
    let mut done = None;
    while done.is_none() && begin.elapsed() < Duration::from_secs(300) {
        let one = Instant::now();
        write(&raft, vec![]).await?;
        longest = longest.max(one.elapsed());
        if raft.metrics().snapshot > before {
            done = Some(begin.elapsed());
        }
    }
    raft.set_snapshot_every(u64::MAX);
    let took = done.ok_or("no snapshot was made")?;
    let size = raft.metrics().snapshot_bytes >> 20;
    println!("| a snapshot of it, {size} MiB | {:.1} s, {} MiB resident meanwhile |", took.as_secs_f64(), resident());
    let (mut after, begin) = (Duration::ZERO, Instant::now());
    while begin.elapsed() < took {
        let one = Instant::now();
        write(&raft, vec![]).await?;
        after = after.max(one.elapsed());
    }
    let millis = |d: Duration| d.as_secs_f64() * 1000.0;
    println!(
        "| the longest write beside it; in as long a time after it, while the log is cut | {:.1} ms; {:.1} ms |",
        millis(longest),
        millis(after)
    );
    raft.shutdown().await;
    drop((raft, tables));
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let status = std::process::Command::new(me).arg("tables").arg(dir).arg("--again").status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err("the restart failed".into()) }
}

async fn again(dir: &Path) -> Result<(), String> {
    let begin = Instant::now();
    let (raft, tables) = open(dir).await?;
    let mut leads = raft.leadership();
    leads.wait_for(|l| l.is_leader).await.map_err(|e| e.to_string())?;
    write(&raft, vec![]).await?;
    let n = tables.lock().tasks().count();
    println!(
        "| restart with {n} tasks, to the first write | {:.1} s, {} MiB resident |",
        begin.elapsed().as_secs_f64(),
        resident()
    );
    raft.shutdown().await;
    Ok(())
}
