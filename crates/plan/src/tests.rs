//! Tests over whole plans: a small world that runs plans and reports for the nodes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skep_state::{Op, Store, Transaction};
use skep_types::control::StatusReport;
use skep_types::object::*;
use skep_types::spec::*;
use skep_types::{ClusterId, Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

use super::*;

const S: ServiceId = ServiceId(7);
const SECOND: i64 = 1_000_000_000;

struct World {
    store: Store,
    index: u64,
    now: Time,
    next: u128,
    wake: Option<Time>,
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

impl World {
    fn new(nodes: u128) -> Self {
        let mut w = Self { store: Store::default(), index: 0, now: Time(SECOND), next: 1000, wake: None };
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
            address_pool: net("10.0.0.0/8"),
            subnet_size: 24,
            data_path_port: 4789,
        };
        let spec = NetworkSpec {
            name: "ingress".into(),
            labels: Labels::new(),
            subnet: None,
            gateway: None,
            internal: false,
            attachable: false,
            ingress: true,
            options: BTreeMap::new(),
        };
        let ingress = Network {
            id: NetworkId(1),
            meta: Meta::default(),
            spec,
            subnet: net("10.0.0.0/24"),
            gateway: "10.0.0.1".parse().unwrap(),
            vni: 4096,
        };
        w.write(vec![Op::PutCluster(Box::new(cluster)), Op::PutNetwork(Box::new(ingress))]);
        for id in 1..=nodes {
            w.node(id, |_| {});
        }
        w
    }

    fn write(&mut self, ops: Vec<Op>) {
        self.index += 1;
        self.store.apply(self.index, &Transaction { time: self.now, reads: vec![], ops }).unwrap();
    }

    fn node(&mut self, id: u128, f: impl FnOnce(&mut Node)) {
        let mut n = self.store.node(NodeId(id)).map(|n| (**n).clone()).unwrap_or_else(|| Node {
            id: NodeId(id),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            role: Role::Worker,
            description: NodeDescription {
                nano_cpus: 4_000_000_000,
                memory: 8 << 30,
                os: "linux".into(),
                ..Default::default()
            },
            state: NodeState::Ready,
            message: String::new(),
            addr: None,
            ingress_addr: None,
            manager: None,
            retired_raft_id: 0,
            renew: false,
        });
        f(&mut n);
        self.write(vec![Op::PutNode(Box::new(n))]);
    }

    fn service(&mut self, replicas: u64, f: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = ServiceSpec {
            name: "web".into(),
            labels: Labels::new(),
            mode: ServiceMode::Replicated { replicas },
            task: TaskSpec::default(),
            update: None,
            rollback: None,
            endpoint: EndpointSpec::default(),
        };
        f(&mut spec);
        let mut s = Service {
            id: S,
            meta: Meta::default(),
            revision: 1,
            previous_spec: None,
            ports: vec![],
            vips: vec![],
            update_status: None,
            spec,
        };
        allocate::service(&self.store, &mut s).unwrap();
        let spec = Arc::new(s.spec.task.clone());
        self.write(vec![Op::PutService(Box::new(s)), Op::PutRevision { service: S, revision: 1, spec }]);
    }

    /// As the manager does it: a new revision when the task changed.
    fn update(&mut self, f: impl FnOnce(&mut ServiceSpec)) {
        let mut s = (**self.store.service(S).unwrap()).clone();
        let old = s.spec.clone();
        f(&mut s.spec);
        let mut ops = vec![];
        if s.spec.task != old.task {
            s.revision += 1;
            ops.push(Op::PutRevision { service: S, revision: s.revision, spec: Arc::new(s.spec.task.clone()) });
        }
        s.previous_spec = Some(Box::new(old));
        s.update_status = None;
        ops.push(Op::PutService(Box::new(s)));
        self.write(ops);
    }

    /// Plans until nothing is left to do; returns the number of transactions. Everything is checked on the way.
    fn plan(&mut self) -> usize {
        for round in 0..200 {
            let next = &mut self.next;
            let mut ids = || {
                *next += 1;
                *next
            };
            let p = plan(&self.store, &Dirty::all(), self.now, &mut ids);
            self.wake = p.wake_at;
            let Some(t) = p.transaction else { return round };
            self.index += 1;
            self.store.apply(self.index, &t).unwrap();
            self.check();
        }
        panic!("planning does not come to an end");
    }

    fn check(&self) {
        let mut addresses = BTreeSet::new();
        let mut live: BTreeMap<(ServiceId, u64), usize> = BTreeMap::new();
        for t in self.store.tasks() {
            if !t.status.state.is_terminal() {
                for a in &t.networks {
                    assert!(addresses.insert((a.network, a.addr.addr)), "{} held twice", a.addr);
                }
            }
            if is_wanted(t) {
                *live.entry((t.service, t.slot)).or_default() += 1;
            }
        }
        let start_first =
            self.store.service(S).and_then(|s| s.spec.update.clone()).is_some_and(|u| u.order == UpdateOrder::StartFirst);
        assert!(live.values().all(|n| *n == 1 || (start_first && *n == 2)), "{live:?}");
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
                d if d > TaskState::Running => TaskState::Shutdown,
                d => d,
            };
            if to > t.status.state {
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
            self.store.tasks_of_service(S).filter(|t| t.status.state == TaskState::Running && is_wanted(t)).cloned().collect();
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

fn port(published: u16) -> PortConfig {
    PortConfig { name: String::new(), protocol: Protocol::Tcp, target: 80, published, mode: PublishMode::Ingress }
}

#[test]
fn one_transaction_creates_addresses_and_places_and_then_there_is_nothing_to_do() {
    let mut w = World::new(3);
    w.service(6, |s| s.endpoint.ports = vec![port(0)]);
    assert_eq!(w.plan(), 1);
    assert_eq!(w.store.service(S).unwrap().ports[0].published, 30_000);
    let tasks: Vec<_> = w.store.tasks().cloned().collect();
    assert!(tasks.iter().all(|t| t.status.state == TaskState::Assigned && t.networks.len() == 1));
    w.settle();
    assert_eq!(w.per_node(), [2, 2, 2]);
    assert_eq!(w.running().iter().map(|t| t.slot).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(w.store.nodes().all(|n| n.ingress_addr.is_some()));
    assert_eq!(w.plan(), 0);
    assert_eq!(w.wake, None);
}

#[test]
fn scaling_keeps_the_balance_and_reuses_slots() {
    let mut w = World::new(3);
    w.service(7, |_| {});
    w.settle();
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 3 });
    w.settle();
    assert_eq!(w.per_node(), [1, 1, 1]);
    assert_eq!(w.store.tasks().count(), 3);
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 0 });
    w.settle();
    assert_eq!(w.store.tasks().count(), 0);
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 2 });
    w.settle();
    assert_eq!(w.running().iter().map(|t| t.slot).collect::<Vec<_>>(), [1, 2]);
    w.write(vec![Op::DeleteService(S)]);
    w.settle();
    assert_eq!((w.store.tasks().count(), w.store.revisions(S).count()), (0, 0));
}

#[test]
fn a_dead_task_is_replaced_after_the_delay_and_history_is_kept() {
    let mut w = World::new(1);
    w.service(1, |_| {});
    w.settle();
    for _ in 0..8 {
        let t = w.running()[0].clone();
        w.report(&t, TaskState::Failed);
        let died = w.now;
        w.settle();
        assert!(w.running().is_empty());
        assert_eq!(w.wake, Some(died.after(Duration::from_secs(5))));
        w.pass(6);
        assert_ne!(w.running()[0].id, t.id);
    }
    assert_eq!(w.store.tasks().count(), 5);
}

#[test]
fn attempts_are_limited_and_condition_none_is_kept() {
    let mut w = World::new(1);
    w.service(1, |s| s.task.restart = Some(RestartPolicy { max_attempts: 2, delay: Duration::ZERO, ..Default::default() }));
    w.settle();
    for _ in 0..3 {
        let t = w.running()[0].clone();
        w.report(&t, TaskState::Failed);
        w.pass(100);
    }
    assert!(w.running().is_empty());
    assert_eq!(w.store.tasks().count(), 3);
    let mut w = World::new(1);
    w.service(1, |s| s.task.restart = Some(RestartPolicy { condition: RestartCondition::None, ..Default::default() }));
    w.settle();
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Complete);
    w.pass(100);
    assert_eq!((w.running().len(), w.store.tasks().count()), (0, 1));
}

#[test]
fn a_lost_node_is_replaced_at_once_and_a_drained_one_too() {
    let mut w = World::new(3);
    w.service(6, |_| {});
    w.settle();
    w.node(1, |n| n.state = NodeState::Down);
    assert_eq!(w.plan(), 1);
    assert!(w.store.tasks().filter(|t| is_wanted(t)).all(|t| t.desired == TaskState::Running && t.node != Some(NodeId(1))));
    w.settle();
    assert_eq!(w.per_node(), [3, 3]);
    w.node(1, |n| n.state = NodeState::Ready);
    w.settle();
    assert_eq!(w.per_node(), [3, 3]);
    w.node(2, |n| n.spec.availability = Availability::Drain);
    w.settle();
    assert_eq!(w.per_node(), [3, 3]);
    assert!(w.running().iter().all(|t| t.node != Some(NodeId(2))));
    w.write(vec![Op::DeleteNode(NodeId(3))]);
    w.settle();
    assert_eq!(w.per_node(), [6]);
    assert!(w.store.tasks_of_node(NodeId(3)).all(|t| t.status.state == TaskState::Orphaned));
}

#[test]
fn nothing_suitable_is_explained_and_tried_again() {
    let mut w = World::new(3);
    w.node(3, |n| n.spec.availability = Availability::Pause);
    w.node(2, |n| drop(n.spec.labels.insert("disk".into(), "hdd".into())));
    w.service(1, |s| s.task.placement.constraints = vec!["node.labels.disk == SSD".into()]);
    w.settle();
    let t = w.store.tasks().next().unwrap().clone();
    let err = "no suitable node (scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks)";
    assert_eq!(t.status.err.as_deref(), Some(err));
    w.node(1, |n| drop(n.spec.labels.insert("disk".into(), "ssd".into())));
    w.settle();
    assert_eq!(w.running()[0].node, Some(NodeId(1)));
    let mut w = World::new(2);
    w.service(9, |s| s.task.resources.reserve_memory = 2 << 30);
    w.settle();
    assert_eq!(w.per_node(), [4, 4]);
    assert!(
        w.store.unplaced().all(|t| t.status.err.as_deref() == Some("no suitable node (insufficient resources on 2 nodes)"))
    );
}

#[test]
fn a_rolling_update_goes_slot_by_slot_and_completes() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut w = World::new(3);
        let config = UpdateConfig { order, delay: Duration::from_secs(2), ..UpdateConfig::default() };
        w.service(4, |s| s.update = Some(config));
        w.settle();
        assert_eq!(w.update_state(), None);
        w.update(|s| s.task.container.image = "two".into());
        w.settle();
        assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 1);
        assert_eq!((w.running().len(), w.update_state()), (4, Some(UpdateState::Updating)));
        w.pass(3);
        assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 2);
        w.pass(60);
        assert!(w.running().len() == 4 && w.running().iter().all(|t| t.revision == 2));
        assert_eq!(w.update_state(), Some(UpdateState::Completed));
        assert_eq!(w.plan(), 0);
    }
}

#[test]
fn a_failing_update_pauses_or_rolls_back() {
    for action in [FailureAction::Pause, FailureAction::Rollback, FailureAction::Continue] {
        let mut w = World::new(3);
        w.service(3, |s| s.update = Some(UpdateConfig { failure_action: action, ..UpdateConfig::default() }));
        w.settle();
        w.update(|s| s.task.container.image = "broken".into());
        for _ in 0..40 {
            w.plan();
            let broken: Vec<_> = w.store.tasks().filter(|t| t.revision == 2 && t.node.is_some()).cloned().collect();
            for t in broken.iter().filter(|t| !t.status.state.is_terminal() && t.desired == TaskState::Running) {
                w.report(t, TaskState::Failed);
            }
            w.run_nodes();
            w.plan();
            w.now = w.now.after(Duration::from_secs(1));
        }
        let old = w.running().iter().filter(|t| t.revision == 1).count();
        match action {
            FailureAction::Pause => assert_eq!((old, w.update_state()), (2, Some(UpdateState::Paused))),
            FailureAction::Rollback => {
                assert_eq!((old, w.update_state()), (3, Some(UpdateState::RollbackCompleted)));
                let s = w.store.service(S).unwrap();
                assert!(s.previous_spec.is_none() && s.spec.task.container.image.is_empty());
            }
            FailureAction::Continue => assert_eq!(old, 0),
        }
    }
}

#[test]
fn subnets_and_constraints() {
    let w = World::new(0);
    assert_eq!(allocate::subnet(&w.store, net("10.0.0.0/8"), 24).unwrap(), net("10.0.1.0/24"));
    assert!(allocate::subnet(&w.store, net("10.0.0.0/24"), 24).is_err());
    assert_eq!(allocate::vni(&w.store), Ok(4097));
    for (text, err) in [
        ("node.role=manager", "constraint expected one operator from ==, !="),
        ("node..role ü==x", "key 'node..role ü' is invalid"),
        ("node.role==", "value '' is invalid"),
    ] {
        assert_eq!(constraint::Constraint::parse(text).unwrap_err(), err);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever happens to nodes, tasks and the spec: once it stops, exactly the wanted slots run, on nodes that take tasks,
    /// and planning again yields nothing.
    #[test]
    fn converges(events in prop::collection::vec((0u8..7, 0usize..20, 1u128..5), 1..25)) {
        let mut w = World::new(4);
        w.service(5, |s| {
            s.endpoint.ports = vec![port(8080)];
            s.update = Some(UpdateConfig { parallelism: 2, failure_action: FailureAction::Continue, ..UpdateConfig::default() });
        });
        let mut replicas = 5;
        for (kind, i, node) in events {
            match kind {
                0 => w.node(node, |n| n.state = NodeState::Down),
                1 => w.node(node, |n| n.state = NodeState::Ready),
                2 => w.node(node, |n| n.spec.availability = if i % 2 == 0 { Availability::Drain } else { Availability::Active }),
                3 => {
                    replicas = i as u64;
                    w.update(|s| s.mode = ServiceMode::Replicated { replicas });
                }
                4 => w.update(|s| s.task.force_update += 1),
                5 => {
                    let r = w.running();
                    if let Some(t) = r.get(i) && w.store.node(t.node.unwrap()).unwrap().state == NodeState::Ready {
                        w.report(t, TaskState::Failed);
                    }
                }
                _ => w.pass(i as i64),
            }
            w.plan();
            w.run_nodes();
        }
        for id in 1..=4 {
            w.node(id, |n| {
                n.state = NodeState::Ready;
                n.spec.availability = Availability::Active;
            });
        }
        w.pass(600);
        let r = w.running();
        prop_assert_eq!(r.len() as u64, replicas);
        let slots: BTreeSet<u64> = r.iter().map(|t| t.slot).collect();
        prop_assert_eq!(slots.len() as u64, replicas);
        prop_assert_eq!(w.plan(), 0);
        prop_assert!(w.store.tasks().filter(|t| !t.status.state.is_terminal()).count() as u64 == replicas);
        let current = w.store.service(S).unwrap().revision;
        prop_assert!(r.iter().all(|t| t.revision == current));
        let _ = TaskId(0);
    }
}
