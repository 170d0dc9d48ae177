//! Replicated services, restarts and placement, step by step.

use super::*;

#[test]
fn one_transaction_creates_addresses_and_places_and_then_there_is_nothing_to_do() {
    let mut w = World::new(3);
    w.service(6, |s| s.endpoint.ports = vec![port(0)]);
    assert!(w.plan() <= 2);
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
    assert!(w.store.tasks().filter(|t| t.is_wanted()).all(|t| t.desired == TaskState::Running && t.node != Some(NodeId(1))));
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
fn subnets_and_constraints() {
    let w = World::new(0);
    assert_eq!(allocate::subnet(&w.store, &[net("10.0.0.0/8")], 24).unwrap(), net("10.0.1.0/24"));
    assert!(allocate::subnet(&w.store, &[net("10.0.0.0/24")], 24).is_err());
    // the first pool is used up: the next one has room
    let pools = [net("10.0.0.0/24"), net("172.30.0.0/16")];
    assert_eq!(allocate::subnet(&w.store, &pools, 24).unwrap(), net("172.30.0.0/24"));
    assert_eq!(allocate::vni(&w.store), Ok(4097));
    let first = allocate::subnet6(&w.store, ClusterId(7)).unwrap();
    assert_eq!((first.prefix, first.addr.octets()[0]), (64, 0xfd));
    assert_ne!(allocate::subnet6(&w.store, ClusterId(7 << 100)).unwrap(), first, "each swarm has a range of its own");
    let of = |subnet6: Option<&str>, gateway6: Option<&str>| {
        let subnet6 = subnet6.map(|s| s.parse().unwrap());
        let spec = NetworkSpec { subnet6, gateway6: gateway6.map(|g| g.parse().unwrap()), ..NetworkSpec::default() };
        allocate::side6(&w.store, ClusterId(7), &spec, net("10.9.0.0/24"))
    };
    assert_eq!(of(None, None).unwrap().subnet, first);
    assert_eq!(of(Some("fd00::5/120"), None).unwrap().gateway.to_string(), "fd00::1");
    assert!(of(Some("fd00::/121"), None).unwrap_err().contains("is too small"));
    assert!(of(Some("fd00::/64"), Some("fd00:0:0:1::1")).unwrap_err().contains("no matching subnet for gateway"));
    for (text, err) in [
        ("node.role=manager", "constraint expected one operator from ==, !="),
        ("node..role ü==x", "key 'node..role ü' is invalid"),
        ("node.role==", "value '' is invalid"),
        ("node.hostname==!host1", "value '!host1' is invalid"),
        ("node.labels.a==b==c", "value 'b==c' is invalid"),
        ("node.labels.a!=<b", "value '<b' is invalid"),
        ("1a==x", "key '1a' is invalid"),
        ("a==x", "key 'a' is invalid"),
    ] {
        assert_eq!(constraint::Constraint::parse(text).unwrap_err(), err);
    }
}

#[test]
fn what_a_node_holds_for_its_own_containers_is_released_when_it_was_down_for_a_day() {
    use skep_types::attach::{Held, HeldList};
    let mut w = World::new(2);
    w.plan();
    let subnet = "10.7.0.0/24".parse().unwrap();
    let (spec, meta) = (w.store.ingress().unwrap().spec.clone(), Meta::default());
    let spec = NetworkSpec { name: "open".into(), ingress: false, attachable: true, ..spec };
    let network = Network { id: NetworkId(70), meta, spec, subnet, gateway: "10.7.0.1".parse().unwrap(), vni: 4100, v6: None };
    w.write(vec![Op::PutNetwork(Box::new(network))]);
    let addr = "10.7.0.2/24".parse().unwrap();
    let held = Held { container: "c".repeat(64), network: NetworkId(70), addr, names: vec!["c".into()] };
    w.node(2, |n| {
        n.state = NodeState::Down;
        n.attached = HeldList { number: 3, held: vec![held] };
    });
    w.plan();
    w.now = Time(w.now.0 + 23 * 3600 * SECOND);
    w.plan();
    assert_eq!(w.store.attached(NetworkId(70)).count(), 1);
    w.now = Time(w.now.0 + 2 * 3600 * SECOND);
    w.plan();
    assert_eq!(w.store.attached(NetworkId(70)).count(), 0);
    // The number stays: a list from before must not count.
    assert_eq!(w.store.node(NodeId(2)).unwrap().attached.number, 3);
}

#[test]
fn what_a_node_rejects_is_tried_again_once_in_each_delay() {
    let job = ServiceMode::ReplicatedJob { max_concurrent: 1, total_completions: 1 };
    for mode in [ServiceMode::Replicated { replicas: 1 }, ServiceMode::Global, job, ServiceMode::GlobalJob] {
        let mut w = World::new(1);
        w.service(1, |s| s.mode = mode.clone());
        let (end, mut rejected) = (Time(w.now.0 + 60 * SECOND), 0);
        while w.now < end {
            // Rejected while it is prepared, which does not wait for the delay.
            loop {
                let planned = w.plan();
                let open = |t: &&Arc<Task>| t.node.is_some() && !t.status.state.is_terminal();
                let tasks: Vec<_> = w.store.tasks().filter(open).cloned().collect();
                tasks.iter().for_each(|t| w.report(t, TaskState::Rejected));
                rejected += tasks.len();
                assert!(rejected < 100, "a loop without a delay");
                if planned == 0 && tasks.is_empty() {
                    break;
                }
            }
            w.now = w.wake.map_or(end, |at| at.clamp(Time(w.now.0 + 1), end));
        }
        assert!((12..=14).contains(&rejected), "{rejected} in a minute: {mode:?}");
        // Another spec does not wait for it.
        w.update(|s| s.task.container.image = "other".into());
        w.plan();
        let revision = w.store.service(S).unwrap().revision;
        let fresh = w.store.tasks().any(|t| !t.status.state.is_terminal() && t.revision == revision);
        assert!(fresh, "{mode:?}");
    }
}

#[test]
fn a_network_that_is_full_is_told_by_its_name() {
    let mut w = World::new(1);
    let spec = NetworkSpec { name: "tiny".into(), ..NetworkSpec::default() };
    let (subnet, gateway) = (net("10.9.0.0/30"), "10.9.0.1".parse().unwrap());
    let tiny = Network { id: NetworkId(9), meta: Meta::default(), spec, subnet, gateway, vni: 5000, v6: None };
    w.write(vec![Op::PutNetwork(Box::new(tiny))]);
    w.service(2, |s| {
        s.endpoint.mode = EndpointMode::Dnsrr;
        s.task.networks = vec![NetworkAttachmentSpec { target: NetworkId(9), aliases: vec![] }];
    });
    w.settle();
    let waits: Vec<_> = w.store.unplaced().filter_map(|t| t.status.err.clone()).collect();
    assert_eq!(waits, ["could not find an available IP while allocating an address on network tiny (10.9.0.0/30)"]);
}
