//! Assignments and data plane of a node, from tables that tests make.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::sync::Arc;

use skep_state::{Op, Store, Transaction};
use skep_types::control::StatusReport;
use skep_types::file::*;
use skep_types::object::*;
use skep_types::session::ManagerMessage;
use skep_types::spec::*;
use skep_types::{FileId, Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

use super::assignments;
use super::dataplane::Views;
use super::told::Told;
use crate::tables::News;

fn net(t: &str) -> Ipv4Net {
    t.parse().unwrap()
}

fn network(id: u128, name: &str, subnet: &str, ingress: bool) -> Op {
    let subnet = net(subnet);
    let spec = NetworkSpec { name: name.into(), ingress, ..NetworkSpec::default() };
    let (id, meta, gateway, vni) = (NetworkId(id), Meta::default(), subnet.nth(1).unwrap(), 4095 + id as u32);
    Op::PutNetwork(Box::new(Network { id, meta, spec, subnet, gateway, vni, v6: None }))
}

fn task(id: u128, node: u128) -> Op {
    let attach = |n: u128, a: String| Attachment { network: NetworkId(n), addr: net(&a) };
    Op::PutTask(Box::new(Task {
        slot: id as u64,
        node: Some(NodeId(node)),
        status: TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() },
        networks: vec![attach(1, format!("10.0.0.{}/24", 10 + id)), attach(2, format!("10.0.1.{}/24", 10 + id))],
        ..Task::new(TaskId(id), ServiceId(1), "web")
    }))
}

/// Applies operations; what is kept between changes must then be what is made anew.
fn apply(store: &mut Store, kept: &mut Views, ops: Vec<Op>) {
    let n = store.applied() + 1;
    let changes = store.apply(n, &Transaction::new(Time(0), vec![], ops)).unwrap();
    changes.iter().for_each(|c| kept.note(c));
    for node in (1..4).map(NodeId) {
        assert_eq!(kept.of_node(store, node), Views::default().of_node(store, node));
    }
}

#[test]
fn a_node_gets_its_tasks_and_the_networks_they_need() {
    let mut store = Store::default();
    let port = PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published: 8080,
        mode: PublishMode::Ingress,
        host_ip: None,
    };
    let networks = vec![NetworkAttachmentSpec { target: NetworkId(2), aliases: vec!["w".into()] }];
    let spec = ServiceSpec {
        name: "web".into(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas: 2 },
        task: TaskSpec { networks, ..TaskSpec::default() },
        update: None,
        rollback: None,
        endpoint: EndpointSpec { mode: EndpointMode::Vip, ports: vec![port.clone()] },
    };
    let revision = Op::PutRevision { service: ServiceId(1), revision: 1, spec: Arc::new(spec.task.clone()) };
    let service = Service {
        ports: vec![port.clone()],
        vips: vec![VirtualIp { network: NetworkId(2), addr: net("10.0.1.2/24") }],
        ..Service::new(ServiceId(1), spec, Time(1))
    };
    let running = Op::Status {
        node: NodeId(2),
        report: StatusReport { task: TaskId(2), status: TaskStatus { state: TaskState::Running, ..TaskStatus::default() } },
    };
    let ops = vec![
        network(1, "ingress", "10.0.0.0/24", true),
        network(2, "back", "10.0.1.0/24", false),
        revision,
        Op::PutService(Box::new(service)),
        task(1, 1),
        task(2, 2),
        running,
    ];
    let mut kept = Views::default();
    apply(&mut store, &mut kept, ops);

    let mine = assignments::of_node(&store, NodeId(1));
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].networks[1].aliases, ["web", "w"]);
    assert!(mine[0].networks[0].ingress);
    assert_eq!(mine[0].ports, [port], "its node leads to it before others do");

    let plane = Views::default().of_node(&store, NodeId(1));
    assert_eq!(plane.networks.len(), 1);
    assert_eq!(plane.networks[0].endpoints.len(), 2);
    assert_eq!(plane.networks[0].services[0].vip, Some("10.0.1.2".parse().unwrap()));
    assert_eq!(plane.networks[0].services[0].backends, ["10.0.1.12".parse::<std::net::Ipv4Addr>().unwrap()]);
    let mesh = plane.ingress.unwrap();
    assert_eq!(mesh.ports[0].backends.len(), 1);
    // A node without tasks has no overlay network, but the mesh.
    let plane = Views::default().of_node(&store, NodeId(3));
    assert!(plane.networks.is_empty() && plane.ingress.is_some());

    // Asked to stop: no longer among those that take requests, but still reachable.
    let mut t = (**store.task(TaskId(2)).unwrap()).clone();
    t.desired = TaskState::Shutdown;
    apply(&mut store, &mut kept, vec![Op::PutTask(Box::new(t))]);
    let plane = Views::default().of_node(&store, NodeId(1));
    assert!(plane.networks[0].services[0].backends.is_empty());
    assert_eq!(plane.networks[0].endpoints.len(), 2);

    // Each kind of change reaches what is kept.
    apply(&mut store, &mut kept, vec![task(3, 3)]);
    let mut t = (**store.task(TaskId(3)).unwrap()).clone();
    t.status.container = Some(ContainerStatus { id: "c".repeat(64), ..ContainerStatus::default() });
    let mut s = (**store.service(ServiceId(1)).unwrap()).clone();
    s.spec.name = "other".into();
    s.ports[0].published = 9090;
    apply(&mut store, &mut kept, vec![Op::PutTask(Box::new(t))]);
    apply(&mut store, &mut kept, vec![Op::PutService(Box::new(s))]);
    apply(&mut store, &mut kept, vec![network(3, "more", "10.0.2.0/24", false)]);
    let mut t = (**store.task(TaskId(1)).unwrap()).clone();
    t.status.state = TaskState::Failed;
    apply(&mut store, &mut kept, vec![Op::PutTask(Box::new(t))]);
    apply(&mut store, &mut kept, vec![Op::DeleteTask(TaskId(2))]);
    apply(&mut store, &mut kept, vec![Op::DeleteService(ServiceId(1))]);
}

#[test]
fn a_node_gets_the_files_of_its_unfinished_tasks_once_and_before_them() {
    let mut store = Store::default();
    let mut kept = Views::default();
    let file = |id: u128| {
        let (name, data) = (format!("f{id}"), vec![1].into());
        let spec = FileSpec { kind: FileKind::Secret, name, labels: Labels::new(), data, template: false, driver: None };
        Op::PutFile(Box::new(StoredFile { id: FileId(id), meta: Meta::default(), spec }))
    };
    let of = |id: u128| FileRef {
        kind: FileKind::Secret,
        id: FileId(id),
        name: format!("f{id}"),
        target: "t".into(),
        uid: 0,
        gid: 0,
        mode: 0o444,
    };
    let container = ContainerSpec { files: vec![of(1)], ..ContainerSpec::default() };
    let spec = Arc::new(TaskSpec { container, ..TaskSpec::default() });
    let revision = Op::PutRevision { service: ServiceId(1), revision: 1, spec };
    let node = |id| Op::PutNode(Box::new(Node::new(NodeId(id), Role::Worker, Availability::Active)));
    apply(&mut store, &mut kept, vec![file(1), file(2), revision, node(1), node(2), task(1, 1)]);
    let told = |t: &mut Told, store: &Store, changes: Vec<skep_state::Change>| {
        let news = News::Changes(vec![changes.into()]);
        let all = t.differences(store, &news, &|| Views::default().of_node(store, NodeId(1)));
        let words = |m: &ManagerMessage| match m {
            ManagerMessage::File(f) => Some(format!("file {}", { f.id.0 })),
            ManagerMessage::ForgetFiles(ids) => Some(format!("forget {}", { ids[0].0 })),
            ManagerMessage::Changes { put, .. } => Some(format!("put {}", put.len())),
            _ => None,
        };
        all.iter().filter_map(words).collect::<Vec<_>>()
    };
    let begin = |t: &mut Told, n: u128| -> Vec<FileId> {
        let all = t.begin(&store, &|| Views::default().of_node(&store, NodeId(n)));
        all.iter().filter_map(|m| if let ManagerMessage::File(f) = m { Some(f.id) } else { None }).collect()
    };
    let fresh = |n: u128, has: Vec<FileId>| Told::new(NodeId(n), Role::Worker, vec![], 0, has);
    assert_eq!(begin(&mut fresh(1, vec![]), 1), [FileId(1)]);
    // Not again to an agent that has it, and not to a node that has no task with it.
    assert!(begin(&mut fresh(1, vec![FileId(1)]), 1).is_empty());
    assert!(begin(&mut fresh(2, vec![]), 2).is_empty());
    let mut t = fresh(1, vec![]);
    begin(&mut t, 1);
    let mut done = (**store.task(TaskId(1)).unwrap()).clone();
    done.status.state = TaskState::Failed;
    let mut next = |ops: Vec<Op>| {
        let n = store.applied() + 1;
        let changes = store.apply(n, &Transaction::new(Time(0), vec![], ops)).unwrap();
        told(&mut t, &store, changes)
    };
    assert_eq!(next(vec![Op::PutTask(Box::new(done))]), ["forget 1"]);
    assert_eq!(next(vec![task(2, 1)]), ["file 1", "put 1"]);
    assert_eq!(next(vec![task(3, 1)]), ["put 1"]);
}

#[test]
fn a_driver_is_asked_for_each_task_that_starts_until_it_says_that_all_may_have_it() {
    let mut store = Store::default();
    let mut kept = Views::default();
    let driver = Some(FileDriver { name: "vault".into(), options: BTreeMap::new() });
    let spec = FileSpec {
        kind: FileKind::Secret,
        name: "s".into(),
        labels: Labels::new(),
        data: Bytes::default(),
        template: false,
        driver,
    };
    let secret = Op::PutFile(Box::new(StoredFile { id: FileId(9), meta: Meta::default(), spec }));
    let named =
        FileRef { kind: FileKind::Secret, id: FileId(9), name: "s".into(), target: "s".into(), uid: 0, gid: 0, mode: 0o400 };
    let container = ContainerSpec { files: vec![named], image: "i".into(), ..ContainerSpec::default() };
    let revision =
        Op::PutRevision { service: ServiceId(1), revision: 1, spec: Arc::new(TaskSpec { container, ..TaskSpec::default() }) };
    let node = Op::PutNode(Box::new(Node::new(NodeId(1), Role::Worker, Availability::Active)));
    let in_state = |id: u128, state: TaskState| {
        let Op::PutTask(mut t) = task(id, 1) else { unreachable!("a task") };
        (t.status.state, t.desired) = (state, TaskState::Running);
        Op::PutTask(t)
    };
    let starting = |id: u128| in_state(id, TaskState::Preparing);
    let running = in_state(3, TaskState::Running);
    apply(&mut store, &mut kept, vec![secret, revision, node, starting(1), starting(2), running]);
    let planes = |store: &Store| Views::default().of_node(store, NodeId(1));
    let mut told = Told::new(NodeId(1), Role::Worker, vec![], 0, vec![]);
    let first = told.begin(&store, &|| planes(&store));
    assert!(!first.iter().any(|m| matches!(m, ManagerMessage::File(_))), "nothing is stored");
    // The third runs already.
    let pair = |t: u128| (TaskId(t), FileId(9));
    assert_eq!(told.take_asks(), [pair(1), pair(2)]);
    let answer = |once| Ok(DriverAnswer { data: b"x".to_vec().into(), once });
    let given = |m: Option<ManagerMessage>| match m {
        Some(ManagerMessage::File(f)) => Some(f.id),
        _ => None,
    };
    let own = StoredFile::id_for(FileId(9), TaskId(1));
    assert_eq!(given(told.driven(&store, pair(1), answer(true), true)), Some(own));
    let refused = told.driven(&store, pair(2), Err("sealed".into()), true);
    assert!(matches!(refused, Some(ManagerMessage::FileRefused { task: TaskId(2), file: FileId(9), .. })));
    assert!(told.driven(&store, pair(2), Err("sealed".into()), false).is_none(), "an older agent");
    // Its own copy goes with the task; one that all may have is not asked for again.
    let mut next = |told: &mut Told, ops: Vec<Op>| {
        let n = store.applied() + 1;
        let changes = store.apply(n, &Transaction::new(Time(0), vec![], ops)).unwrap();
        let news = News::Changes(vec![changes.into()]);
        let all = told.differences(&store, &news, &|| planes(&store));
        let forgets = |m: &ManagerMessage| if let ManagerMessage::ForgetFiles(ids) = m { ids.clone() } else { vec![] };
        (all.iter().flat_map(forgets).collect::<Vec<_>>(), told.take_asks(), store.clone())
    };
    let (forgotten, asks, _) = next(&mut told, vec![in_state(1, TaskState::Failed)]);
    assert_eq!((forgotten, asks), (vec![own], vec![]));
    let (_, asks, now) = next(&mut told, vec![starting(4)]);
    assert_eq!(asks, [pair(4)]);
    assert_eq!(given(told.driven(&now, pair(4), answer(false), true)), Some(FileId(9)));
    let (_, asks, _) = next(&mut told, vec![starting(5)]);
    assert!(asks.is_empty());
    // A new session of an agent that has it asks nobody.
    let mut again = Told::new(NodeId(1), Role::Worker, vec![], 0, vec![FileId(9)]);
    again.begin(&now, &|| planes(&now));
    assert!(again.take_asks().is_empty());
}
