//! Where tasks go: each filter, generic resources, spreading; and a naive scheduler as the judge of the quick one.

use proptest::prelude::*;

use super::*;

fn label(w: &mut World, id: u128, key: &str, value: &str) {
    w.node(id, |n| drop(n.spec.labels.insert(key.into(), value.into())));
}

impl World {
    fn by_label(&self, key: &str) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for t in self.running() {
            let n = self.store.node(t.node.unwrap()).unwrap();
            *out.entry(n.spec.labels.get(key).cloned().unwrap_or_default()).or_default() += 1;
        }
        out
    }

    fn reason(&self) -> String {
        self.store.unplaced().next().and_then(|t| t.status.err.clone()).unwrap_or_default()
    }
}

#[test]
fn every_filter_says_why() {
    let host = PortConfig { mode: PublishMode::Host, ..port(8080) };
    let mut w = World::new(2);
    w.service(3, |s| s.endpoint.ports = vec![host]);
    w.settle();
    assert_eq!(w.per_node(), [1, 1]);
    assert_eq!(w.reason(), "no suitable node (host-mode port already in use on 2 nodes)");
    let t = w.running()[0].clone();
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 2 });
    w.settle();
    assert_eq!(w.store.unplaced().count(), 0);
    // The port is held until the task has ended, also after the service is gone.
    w.write(vec![Op::DeleteService(S)]);
    w.plan();
    assert!(w.store.host_port_taken(t.node.unwrap(), Protocol::Tcp, 8080));
    w.settle();
    assert!(!w.store.host_port_taken(t.node.unwrap(), Protocol::Tcp, 8080));

    let mut w = World::new(2);
    w.service(3, |s| s.task.placement.max_replicas = 1);
    w.settle();
    assert_eq!((w.per_node(), w.reason()), (vec![1, 1], "no suitable node (max replicas per node limit exceed)".into()));
    let mut w = World::new(2);
    w.service(1, |s| s.task.placement.platforms = vec![("linux".into(), "arm64".into())]);
    w.settle();
    assert_eq!(w.reason(), "no suitable node (unsupported platform on 2 nodes)");
    w.node(2, |n| n.description.architecture = "aarch64".into());
    w.settle();
    assert_eq!(w.running()[0].node, Some(NodeId(2)));
    let mut w = World::new(0);
    w.service(1, |_| {});
    w.settle();
    assert_eq!(w.reason(), "no suitable node");
}

#[test]
fn constraints_know_every_field() {
    let mut w = World::new(1);
    w.node(1, |n| {
        n.description.engine_labels.insert("rack".into(), "r1".into());
        n.addr = Some("10.1.2.3".parse().unwrap());
        n.spec.labels.insert("Zone".into(), "A".into());
    });
    let n = w.store.node(NodeId(1)).unwrap().clone();
    let id = format!("node.id=={}", n.id);
    for (text, fits) in [
        (id.as_str(), true),
        ("node.hostname == HOST1", true),
        ("node.hostname!=host1", false),
        ("node.role==worker", true),
        ("NODE.ROLE==manager", false),
        ("node.platform.os==Linux", true),
        ("node.platform.arch==x86_64", true),
        ("node.ip==10.1.2.3", true),
        ("node.ip==10.1.0.0/16", true),
        ("node.ip!=10.1.0.0/16", false),
        ("node.labels.Zone==a", true),
        ("node.labels.zone==a", false),
        ("node.labels.none!=x", true),
        ("engine.labels.rack==r1", true),
        ("engine.labels.rack!=r2", true),
        ("node.labels.Zone==(a|b)*", false),
        ("something.else==x", false),
        ("something.else!=x", false),
    ] {
        assert_eq!(constraint::fits_all(&[text.to_owned()], &n), fits, "{text}");
    }
}

#[test]
fn generic_resources_are_given_out_once() {
    let gpu = |id: &str| GenericResource::Named { kind: "GPU".into(), id: id.into() };
    let ssd = |count| GenericResource::Discrete { kind: "SSD".into(), count };
    let mut w = World::new(2);
    w.node(1, |n| n.description.generic = vec![gpu("a"), gpu("b"), gpu("c"), ssd(5)]);
    w.service(3, |s| s.task.resources.reserve_generic = [("GPU".to_owned(), 1), ("SSD".to_owned(), 2)].into());
    w.settle();
    assert_eq!((w.per_node(), w.reason()), (vec![2], "no suitable node (insufficient resources on 2 nodes)".into()));
    let got: BTreeSet<_> = w.running().iter().flat_map(|t| t.generic.clone()).collect();
    assert_eq!(got, [gpu("a"), gpu("b"), ssd(2)].into());
    // One ends: the next gets what it had.
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Complete);
    w.pass(60);
    assert_eq!(w.running().len(), 2);
    let names: Vec<_> = w.running().iter().flat_map(|t| t.generic.clone()).filter(|r| r.kind() == "GPU").collect();
    assert!(names[0] != names[1], "{names:?}");
}

#[test]
fn tasks_are_spread_over_labels() {
    let mut w = World::new(6);
    // Two zones, one of them much larger; racks within; one node without any label.
    for (id, zone, rack) in [(1, "a", "1"), (2, "b", "1"), (3, "b", "2"), (4, "b", "2"), (5, "b", "2")] {
        label(&mut w, id, "zone", zone);
        label(&mut w, id, "rack", rack);
    }
    let prefs = vec!["node.labels.zone".to_owned(), "node.labels.rack".to_owned(), "nonsense".to_owned()];
    w.service(12, |s| s.task.placement.preferences = prefs);
    w.settle();
    assert_eq!(w.by_label("zone").into_values().collect::<Vec<_>>(), [4, 4, 4]);
    let on = |w: &World, id| w.running().iter().filter(|t| t.node == Some(NodeId(id))).count();
    assert_eq!((on(&w, 2), on(&w, 3) + on(&w, 4) + on(&w, 5)), (2, 2));
    // What a full branch cannot take goes to the others.
    w.node(1, |n| n.spec.availability = Availability::Pause);
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 20 });
    w.settle();
    assert_eq!(w.by_label("zone"), [(String::new(), 8), ("a".to_owned(), 4), ("b".to_owned(), 8)].into());
    // A replacement goes where its like are fewest.
    let victim = w.running().into_iter().find(|t| t.node == Some(NodeId(6))).unwrap();
    w.report(&victim, TaskState::Failed);
    w.pass(10);
    assert_eq!(w.by_label("zone")[""], 8);
}

#[test]
fn nodes_where_a_service_keeps_failing_are_avoided() {
    let mut w = World::new(2);
    // The other node is full of other tasks, so only failures speak against this one.
    w.service(1, |s| {
        s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(1), max_attempts: 100, ..Default::default() })
    });
    w.node(2, |n| n.spec.availability = Availability::Pause);
    w.settle();
    for _ in 0..5 {
        let t = w.running()[0].clone();
        w.report(&t, TaskState::Failed);
        w.pass(2);
    }
    w.node(2, |n| n.spec.availability = Availability::Active);
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Failed);
    w.pass(2);
    assert_eq!(w.running()[0].node, Some(NodeId(2)));
}

#[test]
fn a_node_that_no_longer_fits_loses_its_tasks() {
    let mut w = World::new(2);
    label(&mut w, 1, "disk", "ssd");
    w.service(2, |s| s.task.placement.constraints = vec!["node.labels.disk==ssd".into()]);
    w.settle();
    assert_eq!(w.per_node(), [2]);
    label(&mut w, 2, "disk", "ssd");
    label(&mut w, 1, "disk", "hdd");
    w.settle();
    assert!(w.running().len() == 2 && w.running().iter().all(|t| t.node == Some(NodeId(2))));
    let gone = w.store.tasks_of_node(NodeId(1)).next().unwrap();
    assert_eq!(gone.given_up.as_deref(), Some("assigned node no longer meets constraints"));
    // A change of constraints that its node satisfies replaces nothing.
    let before = w.running();
    w.update(|s| s.task.placement.constraints = vec!["node.hostname==host2".into()]);
    w.pass(60);
    assert_eq!(w.running(), before);
    assert!(before.iter().all(|t| crate::is_left_alone(&w.store, t)));
    let mut w = World::new(1);
    w.service(4, |s| s.task.resources.reserve_memory = 2 << 30);
    w.settle();
    w.node(1, |n| n.description.memory = 5 << 30);
    w.settle();
    assert_eq!(w.per_node(), [2]);
}

/// The best node by the reference's rules, found by looking at everything.
fn naive(w: &World, service: ServiceId, cpus: u64, max: usize) -> Option<(usize, usize)> {
    let active = |t: &&Arc<Task>| t.is_wanted() && !t.status.state.is_terminal() && t.status.state >= TaskState::Assigned;
    let rank = |n: &Arc<Node>| {
        let on: Vec<_> = w.store.tasks().filter(|t| t.node == Some(n.id)).filter(active).collect();
        let own = on.iter().filter(|t| t.service == service).count();
        let reserved: u64 =
            on.iter().map(|t| w.store.revision(t.service, t.revision).unwrap().resources.reserve_nano_cpus).sum();
        let fits = n.takes_tasks() && reserved + cpus <= n.description.nano_cpus && (max == 0 || own < max);
        fits.then_some((own, on.len()))
    };
    w.store.nodes().filter_map(rank).min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// In random clusters each task of a service that is placed one by one lands on a node as good as the naive choice; and
    /// placed all at once they end as evenly.
    #[test]
    fn as_good_as_a_naive_scheduler(
        nodes in prop::collection::vec((1u64..5, 0u8..6), 1..9),
        services in prop::collection::vec((1u64..12, 0u64..3, 0u64..4), 1..5),
    ) {
        let mut w = World::new(nodes.len() as u128);
        for (i, (cpus, kind)) in nodes.iter().enumerate() {
            w.node(i as u128 + 1, |n| {
                n.description.nano_cpus = cpus * 1_000_000_000;
                match kind { 0 => n.state = NodeState::Down, 1 => n.spec.availability = Availability::Pause, _ => {} }
            });
        }
        for (i, (replicas, cpus, max)) in services.iter().enumerate() {
            let (id, cpus) = (ServiceId(100 + i as u128), cpus * 500_000_000);
            let spec = |replicas| {
                let mut task = TaskSpec::default();
                task.resources.reserve_nano_cpus = cpus;
                task.placement.max_replicas = *max;
                ServiceSpec { name: format!("s{i}"), mode: ServiceMode::Replicated { replicas }, task, ..empty_spec() }
            };
            for n in 1..=*replicas {
                let best = naive(&w, id, cpus, *max as usize);
                w.service_of(id, spec(n));
                let before: BTreeSet<TaskId> = w.store.tasks().map(|t| t.id).collect();
                w.settle();
                let new = w.store.tasks().find(|t| !before.contains(&t.id) && t.service == id).unwrap().clone();
                match (new.node, best) {
                    (None, None) => {}
                    (Some(node), Some(best)) => {
                        // Counted with the task itself on it.
                        let on = |f: &dyn Fn(&Arc<Task>) -> bool| w.store.tasks_of_node(node).filter(|t| f(t)).count();
                        prop_assert_eq!((on(&|t| t.service == id) - 1, on(&|_| true) - 1), best);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            // All at once: no node could give a task to another one that has two fewer of the service.
            w.write(vec![Op::DeleteService(id)]);
            w.settle();
            w.service_of(id, spec(*replicas));
            w.settle();
            let (mut least, mut most): (Option<usize>, usize) = (None, 0);
            for n in w.store.nodes().filter(|n| n.takes_tasks()).map(|n| n.id).collect::<Vec<_>>() {
                let own = w.store.tasks_of_service_on(id, n).count();
                most = most.max(own);
                let reserved: u64 = w.store.load(n).nano_cpus;
                if reserved + cpus <= w.store.node(n).unwrap().description.nano_cpus && (*max == 0 || own < *max as usize) {
                    least = Some(least.map_or(own, |l| l.min(own)));
                }
            }
            prop_assert!(least.is_none_or(|l| most <= l + 1), "{:?} {}", least, most);
        }
    }
}
