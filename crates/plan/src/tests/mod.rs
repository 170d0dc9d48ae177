//! Tests over whole plans: a small world that runs plans and reports for the nodes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_state::{Op, Store, Transaction};
use skep_types::control::StatusReport;
use skep_types::object::*;
use skep_types::spec::*;
use skep_types::{ClusterId, Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

use super::*;

mod modes;
mod options;
mod placement;
mod random;
mod services;
mod updates;

const S: ServiceId = ServiceId(7);
const SECOND: i64 = 1_000_000_000;

struct World {
    store: Store,
    index: u64,
    now: Time,
    next: u128,
    wake: Option<Time>,
    /// What changed since it was last planned, and what time will make due, as the leader's loop keeps it.
    dirty: Dirty,
    due: BTreeSet<(Time, Due)>,
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

impl World {
    fn new(nodes: u128) -> Self {
        let mut w = Self {
            store: Store::default(),
            index: 0,
            now: Time(SECOND),
            next: 1000,
            wake: None,
            dirty: Dirty::default(),
            due: BTreeSet::new(),
        };
        let cluster = Cluster {
            id: ClusterId(1),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            root_ca_cert: String::new(),
            root_ca_key: skep_types::Secret::default(),
            intermediate: String::new(),
            root_rotation: None,
            last_forced_rotation: 0,
            unlock_key: skep_types::Secret::default(),
            blacklist: Default::default(),
            tls: Default::default(),
            worker_token: String::new(),
            manager_token: String::new(),
            address_pools: vec![net("10.0.0.0/8")],
            subnet_size: 24,
            data_path_port: 4789,
        };
        let spec = NetworkSpec { name: "ingress".into(), ingress: true, ..NetworkSpec::default() };
        let ingress = Network {
            id: NetworkId(1),
            meta: Meta::default(),
            spec,
            subnet: net("10.0.0.0/24"),
            gateway: "10.0.0.1".parse().unwrap(),
            vni: 4096,
            v6: None,
        };
        w.write(vec![Op::PutCluster(Box::new(cluster)), Op::PutNetwork(Box::new(ingress))]);
        for id in 1..=nodes {
            w.node(id, |_| {});
        }
        w
    }

    fn write(&mut self, ops: Vec<Op>) {
        self.index += 1;
        self.apply(&Transaction::new(self.now, vec![], ops));
    }

    fn apply(&mut self, t: &Transaction) {
        let changes = self.store.apply(self.index, t).unwrap();
        changes.iter().for_each(|c| self.dirty.note(c));
    }

    fn node(&mut self, id: u128, f: impl FnOnce(&mut Node)) {
        let fresh = || Node {
            description: NodeDescription {
                hostname: format!("host{id}"),
                nano_cpus: 4_000_000_000,
                memory: 8 << 30,
                os: "linux".into(),
                architecture: "x86_64".into(),
                ..Default::default()
            },
            state: NodeState::Ready,
            ..Node::new(NodeId(id), Role::Worker, Availability::Active)
        };
        let mut n = self.store.node(NodeId(id)).map(|n| (**n).clone()).unwrap_or_else(fresh);
        f(&mut n);
        self.write(vec![Op::PutNode(Box::new(n))]);
    }

    fn service(&mut self, replicas: u64, f: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = ServiceSpec { mode: ServiceMode::Replicated { replicas }, ..empty_spec() };
        f(&mut spec);
        self.service_of(S, spec);
    }

    /// A service with its first revision, or with another number of replicas.
    fn service_of(&mut self, id: ServiceId, spec: ServiceSpec) {
        let mut s = Service::new(id, spec, self.now);
        allocate::service(&self.store, &mut s).unwrap();
        let spec = Arc::new(s.spec.task.clone());
        self.write(vec![Op::PutService(Box::new(s)), Op::PutRevision { service: id, revision: 1, spec }]);
    }

    /// As the manager does it: a new revision when the task changed.
    fn update(&mut self, f: impl FnOnce(&mut ServiceSpec)) {
        let mut s = (**self.store.service(S).unwrap()).clone();
        let old = s.spec.clone();
        f(&mut s.spec);
        let mut ops = vec![];
        if let Some(j) = &mut s.job {
            j.iteration += 1;
        }
        if s.spec.task != old.task {
            s.revision += 1;
            ops.push(Op::PutRevision { service: S, revision: s.revision, spec: Arc::new(s.spec.task.clone()) });
        }
        s.previous_spec = Some(Box::new(old));
        s.update_status = None;
        ops.push(Op::PutService(Box::new(s)));
        self.write(ops);
    }

    /// Plans what changed or is due until nothing is left to do; returns the number of transactions. Everything is checked on the
    /// way; and in the end a look at everything finds nothing that an event has missed.
    fn plan(&mut self) -> usize {
        let mut transactions = 0;
        for _ in 0..4000 {
            let now = self.now;
            for (at, what) in self.due.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
                let _ = at;
                self.dirty.due(what);
            }
            let last = self.dirty.is_empty();
            let dirty = if last { Dirty::all() } else { std::mem::take(&mut self.dirty) };
            let next = &mut self.next;
            let mut ids = || {
                *next += 1;
                *next
            };
            let p = plan(&self.store, &dirty, self.now, &mut ids);
            if last {
                // Reasons why a task waits are told again when something may help it, not when others got what was left.
                let reasons = p.transaction.iter().flat_map(|t| &t.ops).all(|op| match op {
                    Op::PutTask(t) => self.store.task(t.id).is_some_and(|o| o.status.err.is_some() && o.node == t.node),
                    _ => false,
                });
                assert!(reasons, "an event was missed: {:?} in {:?}", p.transaction, self.store.tasks().collect::<Vec<_>>());
                let soon: BTreeSet<_> = p.due.iter().map(|(at, _)| *at).collect();
                assert!(soon.iter().all(|at| self.due.iter().any(|(x, _)| x <= at)), "{soon:?} {:?}", self.due);
                self.wake = p.wake_at;
                return transactions;
            }
            self.due.extend(p.due);
            self.dirty.merge(p.rest);
            let Some(t) = p.transaction else { continue };
            transactions += 1;
            self.index += 1;
            let before = self.store.clone();
            self.apply(&t);
            self.check();
            self.placed(&before, &t);
        }
        panic!("planning does not come to an end");
    }

    fn check(&self) {
        let mut addresses = BTreeSet::new();
        let mut live: BTreeMap<(ServiceId, SlotKey), usize> = BTreeMap::new();
        for t in self.store.tasks() {
            if !t.status.state.is_terminal() {
                for a in &t.networks {
                    assert!(addresses.insert((a.network, a.addr.addr)), "{} held twice", a.addr);
                }
            }
            if t.is_wanted() && !t.status.state.is_terminal() {
                *live.entry((t.service, t.slot_key())).or_default() += 1;
            }
        }
        let start_first =
            self.store.service(S).and_then(|s| s.spec.update.clone()).is_some_and(|u| u.order == UpdateOrder::StartFirst);
        assert!(live.values().all(|n| *n == 1 || (start_first && *n == 2)), "{live:?}");
    }

    /// What the transaction placed is where it may be.
    fn placed(&self, before: &Store, t: &Transaction) {
        let given = |t: &Task| t.status.state >= TaskState::Assigned && !t.status.state.is_terminal();
        for op in &t.ops {
            let Op::PutTask(t) = op else { continue };
            if !given(t) || before.task(t.id).is_some_and(|o| given(o)) {
                continue;
            }
            let n = self.store.node(t.node.unwrap()).unwrap();
            let spec = self.store.revision(t.service, t.revision).unwrap();
            assert!(n.takes_tasks() && constraint::fits_all(&spec.placement.constraints, n), "{t:?} on {n:?}");
            let beside: Vec<_> = self.store.tasks_of_node(n.id).filter(|o| given(o)).collect();
            let own = beside.iter().filter(|o| o.service == t.service && o.is_wanted()).count() as u64;
            assert!(spec.placement.max_replicas == 0 || own <= spec.placement.max_replicas, "{own} tasks on {}", n.id);
            let reserved = |o: &&&Arc<Task>| self.store.revision(o.service, o.revision).unwrap().resources.reserve_nano_cpus;
            let sum: u64 = beside.iter().map(|o| reserved(&o)).sum();
            assert!(sum <= n.description.nano_cpus, "{sum} nano-CPUs on {}", n.id);
            let load = self.store.load(n.id);
            let live = beside.iter().filter(|o| o.is_wanted()).count();
            assert_eq!((load.nano_cpus, load.tasks as usize), (sum, live), "the sums of the store are wrong");
            let ports: Vec<_> = beside.iter().flat_map(|o| &o.host_ports).map(|p| (p.protocol, p.published)).collect();
            assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "a port is published twice on {}", n.id);
        }
    }

    fn report(&mut self, t: &Task, state: TaskState) {
        let status = TaskStatus { state, timestamp: self.now, ..TaskStatus::default() };
        let report = StatusReport { task: t.id, status };
        self.write(vec![Op::Status { node: t.node.unwrap(), report }]);
    }

    /// Every live node brings its tasks to what is desired.
    fn run_nodes(&mut self) {
        let all: Vec<_> = self.store.tasks().cloned().collect();
        for t in all {
            let Some(n) = t.node.and_then(|n| self.store.node(n)) else { continue };
            if n.state != NodeState::Ready || t.status.state.is_terminal() {
                continue;
            }
            let to = match t.desired {
                d if d > TaskState::Complete => TaskState::Shutdown,
                // A job's task runs until the test lets it end.
                d => d.min(TaskState::Running),
            };
            if to > t.status.state && t.status.state >= TaskState::Assigned {
                self.report(&t, to);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            let planned = self.plan();
            let before = self.index;
            self.run_nodes();
            if planned == 0 && self.index == before {
                return;
            }
        }
        panic!("does not settle");
    }

    /// Lets time pass until nothing is due for `most` seconds.
    fn pass(&mut self, most: i64) {
        let end = Time(self.now.0 + most * SECOND);
        loop {
            self.settle();
            match self.wake.filter(|w| *w <= end) {
                Some(w) => self.now = w.max(Time(self.now.0 + 1)),
                None => break,
            }
        }
        self.now = end;
        self.settle();
    }

    fn running(&self) -> Vec<Arc<Task>> {
        let mut v: Vec<_> =
            self.store.tasks_of_service(S).filter(|t| t.status.state == TaskState::Running && t.is_wanted()).cloned().collect();
        v.sort_by_key(|t| t.slot);
        v
    }

    fn per_node(&self) -> Vec<usize> {
        let mut m: BTreeMap<NodeId, usize> = BTreeMap::new();
        for t in self.running() {
            *m.entry(t.node.unwrap()).or_default() += 1;
        }
        m.into_values().collect()
    }

    fn update_state(&self) -> Option<UpdateState> {
        self.store.service(S).unwrap().update_status.as_ref().map(|u| u.state)
    }
}

fn empty_spec() -> ServiceSpec {
    ServiceSpec {
        name: "web".into(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas: 0 },
        task: TaskSpec::default(),
        update: None,
        rollback: None,
        endpoint: EndpointSpec::default(),
    }
}

fn port(published: u16) -> PortConfig {
    PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published,
        mode: PublishMode::Ingress,
        host_ip: None,
    }
}
