//! Transactions against the tables: what is refused, and what each change leaves behind.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::Key;
use proptest::prelude::*;
use skep_types::control::StatusReport;
use skep_types::file::*;
use skep_types::net::V6Range;
use skep_types::object::*;
use skep_types::spec::*;
use skep_types::{FileId, Ipv4Net, Ipv6Net, NetworkId, NodeId, ServiceId, TaskId};
use std::net::Ipv4Addr;

fn service(id: u128, name: &str, port: u16) -> Service {
    let spec = ServiceSpec {
        name: name.into(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas: 1 },
        task: TaskSpec::default(),
        update: None,
        rollback: None,
        endpoint: EndpointSpec::default(),
    };
    let ports = vec![PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published: port,
        mode: PublishMode::Ingress,
        host_ip: None,
    }];
    Service { ports, ..Service::new(ServiceId(id), spec, Time(0)) }
}

fn task(id: u128, addr: u8, state: TaskState) -> Task {
    Task {
        slot: 1,
        node: Some(NodeId(1)),
        status: TaskStatus { state, ..TaskStatus::default() },
        networks: vec![Attachment { network: NetworkId(1), addr: Ipv4Net::new(Ipv4Addr::new(10, 0, 0, addr), 24) }],
        ..Task::new(TaskId(id), ServiceId(1), "web")
    }
}

fn tx(ops: Vec<Op>) -> Transaction {
    Transaction::new(Time(1000), vec![], ops)
}

#[test]
fn a_stale_read_is_refused_and_changes_nothing() {
    let mut s = Store::default();
    s.apply(5, &tx(vec![Op::PutService(Box::new(service(1, "web", 80)))])).unwrap();
    assert_eq!(s.version(Key::Service(ServiceId(1))), Version(5));
    let mut t = tx(vec![Op::DeleteService(ServiceId(1))]);
    t.reads = vec![(Key::Service(ServiceId(1)), Version(4))];
    let e = s.apply(6, &t).unwrap_err();
    assert_eq!(e.to_string(), "update out of sequence");
    assert!(s.service_by_name("web").is_some());
    t.reads = vec![(Key::Service(ServiceId(1)), Version(5))];
    s.apply(7, &t).unwrap();
    assert!(s.service_by_name("web").is_none() && s.port_owner(Protocol::Tcp, 80).is_none());
}

#[test]
fn names_ports_addresses_have_one_owner() {
    let mut s = Store::default();
    s.apply(1, &tx(vec![Op::PutService(Box::new(service(1, "web", 80)))])).unwrap();
    let e = s.apply(2, &tx(vec![Op::PutService(Box::new(service(2, "web", 81)))])).unwrap_err();
    assert_eq!(e.to_string(), "name conflicts with an existing object: service web already exists");
    let e = s.apply(3, &tx(vec![Op::PutService(Box::new(service(2, "db", 80)))])).unwrap_err();
    assert!(e.to_string().starts_with("port '80' is already in use by service 'web' ("), "{e}");
    s.apply(4, &tx(vec![Op::PutTask(Box::new(task(1, 9, TaskState::Running)))])).unwrap();
    let second = Op::PutTask(Box::new(task(2, 9, TaskState::Pending)));
    assert!(matches!(s.apply(5, &tx(vec![second.clone()])), Err(Refused::Address { .. })));
    // An ended task holds its address no longer.
    s.apply(6, &tx(vec![Op::PutTask(Box::new(task(1, 9, TaskState::Failed)))])).unwrap();
    s.apply(7, &tx(vec![second])).unwrap();
}

#[test]
fn networks_share_no_addresses_of_either_family() {
    let network = |id: u128, net: u8, net6: Option<&str>| {
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, 0, net, 0), 24);
        let v6 = net6.map(|n| n.parse::<Ipv6Net>().unwrap()).map(|n| V6Range { subnet: n, gateway: n.nth(1).unwrap() });
        let spec = NetworkSpec { name: format!("n{id}"), ..NetworkSpec::default() };
        let (meta, gateway, id) = (Meta::default(), subnet.nth(1).unwrap(), NetworkId(id));
        tx(vec![Op::PutNetwork(Box::new(Network { id, meta, spec, subnet, gateway, vni: 4096 + u32::from(net), v6 }))])
    };
    let mut s = Store::default();
    s.apply(1, &network(1, 1, Some("fd00:1::/64"))).unwrap();
    s.apply(2, &network(2, 2, None)).unwrap();
    let refused = s.apply(3, &network(3, 3, Some("fd00:1::/56"))).unwrap_err();
    assert!(matches!(refused, Refused::Subnet { owner: NetworkId(1) }), "{refused}");
    s.apply(4, &network(3, 3, Some("fd00:2::/64"))).unwrap();
    let both = s.network(NetworkId(3)).unwrap().both("10.0.3.9/24".parse().unwrap());
    assert_eq!(both.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.3.9/24", "fd00:2::9/64"]);
}

/// The tables refuse what the allocator would avoid, on a change as on a creation, and within one service too.
#[test]
fn a_published_port_has_one_owner_whoever_proposes_it() {
    let mut s = Store::default();
    s.apply(1, &tx(vec![Op::PutService(Box::new(service(1, "web", 80)))])).unwrap();
    s.apply(2, &tx(vec![Op::PutService(Box::new(service(2, "db", 81)))])).unwrap();
    let e = s.apply(3, &tx(vec![Op::PutService(Box::new(service(2, "db", 80)))])).unwrap_err();
    assert!(matches!(e, Refused::Port { port: 80, owner: ServiceId(1), .. }), "{e}");
    assert_eq!((s.port_owner(Protocol::Tcp, 80), s.port_owner(Protocol::Tcp, 81)), (Some(ServiceId(1)), Some(ServiceId(2))));
    let mut twice = service(3, "both", 82);
    twice.ports.push(twice.ports[0].clone());
    assert!(matches!(s.apply(4, &tx(vec![Op::PutService(Box::new(twice))])), Err(Refused::Port { port: 82, .. })));
    assert!(s.port_owner(Protocol::Tcp, 82).is_none());
    let mut other = service(3, "gate", 80);
    other.ports[0].protocol = Protocol::Sctp;
    s.apply(4, &tx(vec![Op::PutService(Box::new(other))])).unwrap();
    assert_eq!(s.port_owner(Protocol::Sctp, 80), Some(ServiceId(3)), "another protocol's port");
    // Freed with its owner.
    s.apply(5, &tx(vec![Op::DeleteService(ServiceId(1)), Op::PutService(Box::new(service(2, "db", 80)))])).unwrap();
    assert_eq!(s.port_owner(Protocol::Tcp, 80), Some(ServiceId(2)));
}

#[test]
fn reports_move_forward_and_only_from_the_own_node() {
    let mut s = Store::default();
    s.apply(1, &tx(vec![Op::PutTask(Box::new(task(1, 9, TaskState::Assigned)))])).unwrap();
    let report = |node, state| Op::Status {
        node: NodeId(node),
        report: StatusReport { task: TaskId(1), status: TaskStatus { state, ..TaskStatus::default() } },
    };
    assert!(s.apply(2, &tx(vec![report(2, TaskState::Running)])).unwrap().is_empty());
    assert_eq!(s.apply(3, &tx(vec![report(1, TaskState::Running)])).unwrap().len(), 1);
    assert_eq!(s.task(TaskId(1)).unwrap().running_since, Some(Time(1000)));
    assert!(s.apply(4, &tx(vec![report(1, TaskState::Preparing)])).unwrap().is_empty());
    let back = Op::PutTask(Box::new(task(1, 9, TaskState::Pending)));
    assert!(matches!(s.apply(5, &tx(vec![back])), Err(Refused::Backwards { .. })));
}

proptest! {
    /// Two stores fed the same transactions are equal, and so is one restored from a dump; no address is held twice.
    #[test]
    fn deterministic_and_restorable(ops in prop::collection::vec((0u128..6, 1u8..6, 0usize..4, any::<bool>()), 1..60)) {
        let states = [TaskState::Pending, TaskState::Running, TaskState::Failed, TaskState::Shutdown];
        let (mut a, mut b) = (Store::default(), Store::default());
        for (i, (id, addr, state, delete)) in ops.iter().enumerate() {
            let op = if *delete { Op::DeleteTask(TaskId(*id)) } else { Op::PutTask(Box::new(task(*id, *addr, states[*state]))) };
            let t = tx(vec![op]);
            prop_assert_eq!(a.apply(i as u64 + 1, &t), b.apply(i as u64 + 1, &t));
        }
        let mut held = std::collections::BTreeSet::new();
        for t in a.tasks().filter(|t| !t.status.state.is_terminal()) {
            prop_assert!(held.insert(t.networks[0].addr.addr));
            prop_assert_eq!(a.address_owner(NetworkId(1), t.networks[0].addr.addr), Some(crate::AddressOwner::Task(t.id)));
        }
        prop_assert_eq!(held.len(), a.index.addresses.iter().count());
        let r = Store::restore(a.dump()).unwrap();
        prop_assert_eq!(r.tasks().collect::<Vec<_>>(), a.tasks().collect::<Vec<_>>());
        prop_assert_eq!(r.index.addresses, a.index.addresses.clone());
        prop_assert_eq!(r.index.by_node, a.index.by_node.clone());
    }
}

/// An operation of any kind on one of a few objects, by numbers.
fn some_op((kind, id, n): (u8, u128, u8)) -> Op {
    let states = [TaskState::Pending, TaskState::Running, TaskState::Failed, TaskState::Shutdown];
    let named = format!("name{}", n % 3);
    match kind {
        0 => Op::PutTask(Box::new(task(id, n % 6 + 1, states[usize::from(n) % 4]))),
        1 => Op::DeleteTask(TaskId(id)),
        2 => Op::PutService(Box::new(service(id, &named, 80 + u16::from(n % 2)))),
        3 => Op::DeleteService(ServiceId(id)),
        4 => {
            let mut spec = TaskSpec::default();
            spec.resources.reserve_memory = u64::from(n);
            Op::PutRevision { service: ServiceId(1), revision: id as u64 % 2, spec: Arc::new(spec) }
        }
        5 => Op::PutNode(Box::new(Node::new(NodeId(id % 2), Role::Worker, Availability::Active))),
        6 => Op::NodeState { node: NodeId(id % 2), state: NodeState::Ready, message: named },
        7 => Op::DeleteNode(NodeId(id % 2)),
        8 => file(id, FileKind::Secret, &named),
        9 => Op::DeleteFile(FileId(id)),
        10 => Op::DeleteRevision { service: ServiceId(1), revision: id as u64 % 2 },
        _ => {
            let status = TaskStatus { state: states[usize::from(n) % 4], ..TaskStatus::default() };
            Op::Status { node: NodeId(1), report: StatusReport { task: TaskId(id), status } }
        }
    }
}

proptest! {
    /// Whatever operations come first: a refusal leaves the tables and every index as they were.
    #[test]
    fn what_is_refused_leaves_nothing_behind(all in prop::collection::vec(prop::collection::vec((0u8..12, 0u128..4, any::<u8>()), 1..8), 1..40)) {
        let mut s = Store::default();
        for (i, ops) in all.into_iter().enumerate() {
            let before = s.clone();
            if s.apply(i as u64 + 1, &tx(ops.into_iter().map(some_op).collect())).is_err() {
                prop_assert_eq!(&s.index, &before.index);
                prop_assert!(s.tasks == before.tasks && s.services == before.services && s.nodes == before.nodes);
                prop_assert!(s.files == before.files && s.revisions == before.revisions && s.cluster == before.cluster);
            }
        }
    }
}

fn file(id: u128, kind: FileKind, name: &str) -> Op {
    let spec =
        FileSpec { kind, name: name.into(), labels: Labels::new(), data: vec![7; 9].into(), template: false, driver: None };
    Op::PutFile(Box::new(StoredFile { id: FileId(id), meta: Meta::default(), spec }))
}

#[test]
fn what_a_service_names_is_not_removed_and_names_are_unique_by_kind() {
    let mut s = Store::default();
    let (secret, config) = (FileKind::Secret, FileKind::Config);
    s.apply(1, &tx(vec![file(1, secret, "a"), file(2, config, "a"), file(3, secret, "b")])).unwrap();
    let refused = s.apply(2, &tx(vec![file(4, secret, "a")])).unwrap_err();
    assert_eq!(refused.to_string(), "name conflicts with an existing object: secret a already exists");
    let mut x = service(1, "web", 80);
    let of = |id, kind| FileRef { kind, id: FileId(id), name: "a".into(), target: "a".into(), uid: 0, gid: 0, mode: 0o444 };
    x.spec.task.container.files = vec![of(1, secret)];
    x.spec.task.networks = vec![NetworkAttachmentSpec { target: NetworkId(5), aliases: vec![] }];
    s.apply(3, &tx(vec![Op::PutService(Box::new(x))])).unwrap();
    // The removal was decided before the service came to be.
    for op in [Op::DeleteFile(FileId(1)), Op::DeleteNetwork(NetworkId(5))] {
        assert_eq!(s.apply(4, &tx(vec![op])), Err(Refused::InUse { by: ServiceId(1) }));
    }
    s.apply(5, &tx(vec![Op::DeleteFile(FileId(2)), Op::DeleteService(ServiceId(1)), Op::DeleteFile(FileId(1))])).unwrap();
    let s = Store::restore(s.dump()).unwrap();
    assert_eq!(s.files(secret).map(|f| f.spec.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(s.files(config).next().is_none() && s.file_by_name(secret, "b").is_some());
}
