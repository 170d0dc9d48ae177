//! The planner alone, on one thread: what placing, replacing and updating cost in clusters of up to a million tasks. Reports of
//! nodes are made up; every transaction is applied, so that each plan is made from the tables that the one before left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_plan::{Dirty, Due, plan};
use skep_state::{Op, Store, Transaction};
use skep_types::control::StatusReport;
use skep_types::object::{Node, NodeDescription, NodeState, Service, Task, TaskState, TaskStatus};
use skep_types::spec::{Availability, EndpointSpec, Labels, Role, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig};
use skep_types::{NodeId, ServiceId, TaskId, Time};

use crate::numbers::quantile;

/// A cluster whose nodes do as they are told, one step behind.
struct Cluster {
    store: Store,
    index: u64,
    now: Time,
    dice: u128,
    dirty: Dirty,
    due: BTreeSet<(Time, Due)>,
    /// Tasks that were written since the nodes last looked.
    told: BTreeSet<TaskId>,
    planning: Duration,
    applying: Duration,
    plans: u64,
}

impl Cluster {
    fn new(nodes: u64) -> Self {
        let mut c = Self {
            store: Store::default(),
            index: 0,
            now: Time(1_000_000_000_000),
            dice: 1,
            dirty: Dirty::default(),
            due: BTreeSet::new(),
            told: BTreeSet::new(),
            planning: Duration::ZERO,
            applying: Duration::ZERO,
            plans: 0,
        };
        let node = |i: u64| {
            let label = |k: &str, v: String| (k.to_owned(), v);
            let mut n = Node::new(NodeId(u128::from(i) + 1), Role::Worker, Availability::Active);
            n.state = NodeState::Ready;
            n.spec.labels = [label("zone", format!("z{}", i % 3)), label("disk", format!("d{}", i % 2))].into();
            n.description = NodeDescription {
                hostname: format!("node{i}"),
                os: "linux".into(),
                architecture: "x86_64".into(),
                nano_cpus: 64_000_000_000,
                memory: 256 << 30,
                ..NodeDescription::default()
            };
            Op::PutNode(Box::new(n))
        };
        c.write((0..nodes).map(node).collect());
        c.dirty = Dirty::default();
        c
    }

    fn id(&mut self) -> u128 {
        // A fixed sequence that is spread like random ids (splitmix).
        let mut half = || {
            self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.dice as u64;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            u128::from(z ^ (z >> 31))
        };
        (half() << 64) | half()
    }

    fn write(&mut self, ops: Vec<Op>) {
        let t = Transaction::new(self.now, vec![], ops);
        self.apply(&t);
    }

    fn apply(&mut self, t: &Transaction) {
        self.index += 1;
        let begin = Instant::now();
        let changes = self.store.apply(self.index, t);
        self.applying += begin.elapsed();
        // What the planner proposes always applies here: nobody else writes.
        for c in changes.iter().flatten() {
            self.dirty.note(c);
            if let skep_state::Change::Task { id, .. } = c {
                self.told.insert(*id);
            }
        }
    }

    fn create(&mut self, services: u64, replicas: u64, f: impl Fn(&mut ServiceSpec)) {
        for i in 0..services {
            let mut spec = ServiceSpec {
                name: format!("service{i}"),
                labels: Labels::new(),
                mode: ServiceMode::Replicated { replicas },
                task: TaskSpec::default(),
                update: None,
                rollback: None,
                endpoint: EndpointSpec::default(),
            };
            f(&mut spec);
            let id = ServiceId(self.id());
            let task = Arc::new(spec.task.clone());
            let service = Op::PutService(Box::new(Service::new(id, spec, self.now)));
            self.write(vec![service, Op::PutRevision { service: id, revision: 1, spec: task }]);
        }
    }

    /// One plan, applied; returns how long planning took and whether it wrote anything.
    fn step(&mut self) -> (Duration, bool) {
        let now = self.now;
        let mut dirty = std::mem::take(&mut self.dirty);
        while self.due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, what)) = self.due.pop_first()
        {
            dirty.due(what);
        }
        let mut ids: Vec<u128> = (0..4000).map(|_| self.id()).collect();
        let begin = Instant::now();
        let p = plan(&self.store, &dirty, now, &mut || ids.pop().unwrap_or_default());
        let took = begin.elapsed();
        self.planning += took;
        self.plans += 1;
        self.due.extend(p.due);
        self.dirty.merge(p.rest);
        match p.transaction {
            Some(t) => {
                self.apply(&t);
                (took, true)
            }
            None => (took, false),
        }
    }

    /// Plans until nothing is left to do.
    fn settle(&mut self) {
        while self.step().1 || !self.dirty.is_empty() {}
    }

    /// The nodes do what they were told; returns whether anything was to be done.
    fn report(&mut self) -> bool {
        let told = std::mem::take(&mut self.told);
        let mut ops = Vec::new();
        for id in told {
            let Some(t) = self.store.task(id) else { continue };
            let state = if t.is_wanted() { t.desired.min(TaskState::Running) } else { TaskState::Shutdown };
            if t.status.state >= TaskState::Assigned && t.status.state < state {
                ops.extend(status(t, state, self.now));
            }
        }
        let any = !ops.is_empty();
        while !ops.is_empty() {
            let rest = ops.split_off(ops.len().min(1000));
            self.write(std::mem::replace(&mut ops, rest));
        }
        any
    }

    fn run_all(&mut self) {
        while self.report() {
            self.settle();
        }
    }

    fn placed(&self) -> u64 {
        self.store.tasks().filter(|t| t.node.is_some()).count() as u64
    }

    fn forget_times(&mut self) {
        (self.planning, self.applying, self.plans) = (Duration::ZERO, Duration::ZERO, 0);
    }
}

fn status(t: &Task, state: TaskState, timestamp: Time) -> Option<Op> {
    let status = TaskStatus { state, timestamp, ..TaskStatus::default() };
    t.node.map(|node| Op::Status { node, report: StatusReport { task: t.id, status } })
}

/// Most memory that this process has had, in MiB.
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

/// A task that fails, again and again another one: how long its replacement took to plan.
fn failures(c: &mut Cluster, count: usize) -> Vec<u64> {
    let all: Vec<TaskId> = c.store.tasks().filter(|t| t.status.state == TaskState::Running).map(|t| t.id).collect();
    let mut took = Vec::new();
    for id in all.iter().step_by((all.len() / count).max(1)).take(count) {
        let Some(t) = c.store.task(*id).cloned() else { continue };
        c.write(status(&t, TaskState::Failed, c.now).into_iter().collect());
        took.push(c.step().0.as_nanos() as u64);
        c.settle();
    }
    took.sort_unstable();
    took
}

/// A node that goes down, with how many tasks.
fn node_down(c: &mut Cluster, id: u128) -> (Duration, usize) {
    let count = c.store.tasks_of_node(NodeId(id)).filter(|t| t.is_wanted()).count();
    c.write(vec![Op::NodeState { node: NodeId(id), state: NodeState::Down, message: "heartbeat failure".into() }]);
    let before = c.planning;
    c.settle();
    (c.planning - before, count)
}

/// Runs all of it, or a hundredth with `--smoke`, or one part of it.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let (smoke, only) = match options {
        [] => (false, None),
        ["--smoke"] => (true, None),
        ["--only", part] => (false, Some(*part)),
        other => return Err(format!("bench plan: unknown words {other:?}")),
    };
    let scale = if smoke { 100 } else { 1 };
    println!("| What | Measured | Must be |\n|---|---|---|");
    for (name, part) in [("million", million as fn(u64)), ("constrained", constrained), ("rolling", rolling)] {
        if only.is_none_or(|o| o == name) {
            part(scale);
        }
    }
    if only.is_some_and(|o| o != "growth") {
        return Ok(());
    }
    println!("\n| Nodes | Tasks | placing, µs a task | one failure, p50 µs | node down, µs a task |\n|---|---|---|---|---|");
    for (nodes, services) in [(100, 10), (1_000, 10), (1_000, 100), (10_000, 100), (10_000, 1_000)] {
        growth(nodes / scale.min(10), services / scale.min(10));
    }
    Ok(())
}

fn million(scale: u64) {
    let mut c = Cluster::new(10_000 / scale);
    c.create(1_000 / scale, 1_000, |_| {});
    c.settle();
    let placed = c.placed();
    let (plan, apply) = (c.planning.as_secs_f64(), c.applying.as_secs_f64());
    let most = peak();
    row(
        &format!("place {placed} tasks of {} services on {} nodes from nothing", 1_000 / scale, 10_000 / scale),
        &format!("{:.1} s ({plan:.1} s planning, {apply:.1} s applying), {most} MiB", plan + apply),
        "≤ 20 s, ≤ 1.5 GiB",
    );
    c.run_all();
    let took = failures(&mut c, 1_000);
    let (p50, p99) = (quantile(&took, 0.5) as f64 / 1e3, quantile(&took, 0.99) as f64 / 1e3);
    row("one task fails in it: planning its replacement", &format!("p50 {p50:.0} µs, p99 {p99:.0} µs"), "≤ 200 µs");
    let (took, tasks) = node_down(&mut c, 17);
    row(
        &format!("one node of {tasks} tasks goes down in it"),
        &format!("{:.1} ms", took.as_secs_f64() * 1e3),
        "≤ 10 ms (100 tasks)",
    );
}

fn constrained(scale: u64) {
    for (services, replicas, what, target) in [
        (200 / scale.min(20), 1_000, "services of 1,000 tasks", "≥ 50,000, aim 200,000"),
        (20_000 / scale, 1, "one-off tasks", "≥ 35,000"),
    ] {
        let mut c = Cluster::new(5_000 / scale);
        c.create(services, replicas, |s| {
            s.task.placement.constraints = vec!["node.labels.disk==d1".into()];
            s.task.placement.preferences = vec!["node.labels.zone".into()];
            s.task.resources.reserve_nano_cpus = 10_000_000;
            s.task.resources.reserve_memory = 16 << 20;
        });
        c.settle();
        let placed = c.placed();
        let (plan, whole) = (c.planning.as_secs_f64(), (c.planning + c.applying).as_secs_f64());
        row(
            &format!("placements a second, {} nodes, constraint, preference and reservations: {what}", 5_000 / scale),
            &format!("{:.0} ({:.0} with applying)", placed as f64 / plan, placed as f64 / whole),
            target,
        );
    }
}

fn rolling(scale: u64) {
    let tasks = 10_000 / scale;
    let mut c = Cluster::new(1_000 / scale.min(10));
    let config = UpdateConfig { parallelism: 100, monitor: Duration::from_secs(1), ..UpdateConfig::default() };
    c.create(1, tasks, |s| s.update = Some(config.clone()));
    c.settle();
    c.run_all();
    c.forget_times();
    let Some(mut s) = c.store.services().next().map(|s| (**s).clone()) else { return };
    s.spec.task.container.image = "two".into();
    s.revision = 2;
    let revision = Op::PutRevision { service: s.id, revision: 2, spec: Arc::new(s.spec.task.clone()) };
    let id = s.id;
    c.write(vec![revision, Op::PutService(Box::new(s))]);
    let mut rounds = 0;
    loop {
        c.settle();
        c.run_all();
        rounds += 1;
        c.now = c.now.after(Duration::from_millis(500));
        let done = c.store.service(id).and_then(|s| s.update_status.as_ref().and_then(|u| u.completed_at)).is_some();
        if done || rounds > 10_000 {
            break;
        }
    }
    let new = c.store.tasks_of_service(id).filter(|t| t.revision == 2 && t.status.state == TaskState::Running).count();
    row(
        &format!("a rolling update of {new} tasks, parallelism 100, planner time in all"),
        &format!("{:.2} s in {} plans", c.planning.as_secs_f64(), c.plans),
        "≤ 1 s",
    );
}

fn growth(nodes: u64, services: u64) {
    let mut c = Cluster::new(nodes);
    c.create(services, 1_000, |_| {});
    c.settle();
    let placing = c.planning.as_secs_f64() * 1e6 / c.placed().max(1) as f64;
    c.run_all();
    let took = failures(&mut c, 200);
    let (down, tasks) = node_down(&mut c, 3);
    println!(
        "| {nodes} | {} | {placing:.1} | {:.0} | {:.0} |",
        services * 1_000,
        quantile(&took, 0.5) as f64 / 1e3,
        down.as_secs_f64() * 1e6 / tasks.max(1) as f64
    );
}
