//! Whatever happens: what must never be, and what must come of it.

use proptest::prelude::*;

use super::*;

/// A spec from dice: every mode, and what placement, updates and restarts can say.
fn spec(dice: &[u8; 8]) -> impl Fn(&mut ServiceSpec) {
    let dice = *dice;
    move |s| {
        s.mode = match dice[0] % 8 {
            0 => ServiceMode::Global,
            1 => {
                ServiceMode::ReplicatedJob { max_concurrent: u64::from(dice[1] % 4), total_completions: u64::from(dice[1] % 9) }
            }
            2 => ServiceMode::GlobalJob,
            _ => ServiceMode::Replicated { replicas: u64::from(dice[1] % 9) },
        };
        if dice[2] & 16 != 0 {
            s.labels.insert("skep.restart.backoff".into(), "40s".into());
        }
        if dice[2] & 32 != 0 {
            s.labels.insert("skep.update.deadline".into(), "20s".into());
        }
        s.task.resources.reserve_nano_cpus = u64::from(dice[2] % 4) * 500_000_000;
        s.task.placement.max_replicas = if s.mode.is_global() { 0 } else { u64::from(dice[3] % 4) };
        if dice[3] & 16 != 0 {
            s.task.placement.constraints = vec!["node.labels.disk != hdd".into()];
        }
        if dice[3] & 32 != 0 {
            s.task.placement.preferences = vec!["node.labels.disk".into()];
        }
        if dice[4].is_multiple_of(4) {
            s.endpoint.ports = vec![PortConfig { mode: PublishMode::Host, ..port(9000) }];
        } else if dice[4] % 4 == 1 {
            s.endpoint.ports = vec![port(0)];
        }
        s.task.restart = Some(RestartPolicy {
            condition: [RestartCondition::Any, RestartCondition::Any, RestartCondition::OnFailure, RestartCondition::None]
                [usize::from(dice[5] % 4)],
            delay: Duration::from_secs(u64::from(dice[5] % 7)),
            max_attempts: u64::from(dice[5] / 64),
            window: Duration::from_secs(u64::from(dice[5] % 3) * 10),
        });
        if !s.mode.is_job() {
            s.update = Some(UpdateConfig {
                parallelism: u64::from(dice[6] % 4),
                delay: Duration::from_secs(u64::from(dice[6] % 3)),
                failure_action: [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback]
                    [usize::from(dice[6] % 3)],
                monitor: Duration::from_secs(u64::from(dice[7] % 6)),
                max_failure_ratio: f32::from(dice[7] % 3) / 2.0,
                order: if dice[7] & 8 != 0 { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst },
            });
        }
    }
}

fn happen(w: &mut World, (kind, i, node): (u8, u8, u128)) {
    match kind % 12 {
        0 => w.node(node, |n| n.state = NodeState::Down),
        1 | 2 => w.node(node, |n| n.state = NodeState::Ready),
        3 => {
            let to = [Availability::Active, Availability::Drain, Availability::Pause, Availability::Active][usize::from(i % 4)];
            let drain = ["update", "at-once"][usize::from(i / 4 % 2)];
            w.node(node, |n| {
                n.spec.availability = to;
                n.spec.labels.insert("skep.drain".into(), drain.into());
            });
        }
        4 => w.node(node, |n| drop(n.spec.labels.insert("disk".into(), ["ssd", "hdd"][usize::from(i % 2)].into()))),
        5 => w.update(|s| match &mut s.mode {
            ServiceMode::Replicated { replicas } => *replicas = u64::from(i % 12),
            ServiceMode::ReplicatedJob { total_completions, .. } => *total_completions = u64::from(i % 12),
            _ => s.labels = [("n".to_owned(), i.to_string())].into(),
        }),
        6 => w.update(|s| s.task.force_update += 1),
        7 | 8 => {
            let r = w.running();
            let ready = |t: &&Arc<Task>| w.store.node(t.node.unwrap()).is_some_and(|n| n.state == NodeState::Ready);
            let state = [TaskState::Failed, TaskState::Complete][usize::from(i % 2)];
            if let Some(t) = r.iter().filter(ready).nth(usize::from(i) % 5).cloned() {
                w.report(&t, state);
            }
        }
        9 if i < 40 => w.write(vec![Op::DeleteNode(NodeId(node))]),
        _ => w.pass(i64::from(i % 20)),
    }
    w.plan();
    if !i.is_multiple_of(3) {
        w.run_nodes();
    }
}

fn events() -> impl Strategy<Value = Vec<(u8, u8, u128)>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), 1u128..5), 1..20)
}

/// Any spec, any events: every step keeps the invariants, no event is missed, and it comes to rest.
fn anything(dice: &[u8; 8], events: Vec<(u8, u8, u128)>) {
    let mut w = World::new(4);
    w.service(0, spec(dice));
    w.plan();
    for e in events {
        happen(&mut w, e);
    }
    w.pass(600);
    w.write(vec![Op::DeleteService(S)]);
    for id in 1..=4 {
        w.node(id, |n| n.state = NodeState::Ready);
    }
    w.pass(120);
    assert_eq!((w.store.tasks().count(), w.store.revisions(S).count()), (0, 0));
    assert!((1..=4).all(|id| w.store.load(NodeId(id)) == skep_state::Load::default()));
}

/// Ten thousand cases in all, in parts that run beside each other; always the same ones, so that a failure is no accident.
fn part(seed: u64) -> ProptestConfig {
    let rng_seed = proptest::test_runner::RngSeed::Fixed(seed);
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(2_500) }
}

proptest! {
    #![proptest_config(part(1))]
    #[test]
    fn anything_may_happen_one(dice in any::<[u8; 8]>(), events in events()) { anything(&dice, events); }
}

proptest! {
    #![proptest_config(part(2))]
    #[test]
    fn anything_may_happen_two(dice in any::<[u8; 8]>(), events in events()) { anything(&dice, events); }
}

proptest! {
    #![proptest_config(part(3))]
    #[test]
    fn anything_may_happen_three(dice in any::<[u8; 8]>(), events in events()) { anything(&dice, events); }
}

proptest! {
    #![proptest_config(part(4))]
    #[test]
    fn anything_may_happen_four(dice in any::<[u8; 8]>(), events in events()) { anything(&dice, events); }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever happens to nodes, tasks and the spec: once it stops, exactly the wanted places run, on nodes that take tasks,
    /// and planning again yields nothing.
    #[test]
    fn converges(events in events()) {
        let mut w = World::new(4);
        w.service(5, |s| {
            s.endpoint.ports = vec![port(8080)];
            s.update = Some(UpdateConfig { parallelism: 2, failure_action: FailureAction::Continue, ..UpdateConfig::default() });
        });
        for e in events {
            happen(&mut w, e);
        }
        for id in 1..=4 {
            w.node(id, |n| {
                n.state = NodeState::Ready;
                n.spec.availability = Availability::Active;
            });
        }
        w.pass(600);
        let r = w.running();
        let service = w.store.service(S).unwrap().clone();
        let slots: BTreeSet<u64> = r.iter().map(|t| t.slot).collect();
        prop_assert_eq!((r.len() as u64, slots.len() as u64), (service.spec.mode.replicas(), service.spec.mode.replicas()));
        prop_assert_eq!(w.plan(), 0);
        prop_assert_eq!(w.store.tasks().filter(|t| !t.status.state.is_terminal()).count(), r.len());
        prop_assert!(r.iter().all(|t| t.revision == service.revision));
    }
}

#[test]
fn a_crash_loop_of_ten_days_stays_within_its_bounds() {
    let mut w = World::new(2);
    w.service(2, |s| s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(60), ..Default::default() }));
    w.settle();
    let end = Time(w.now.0 + 10 * 24 * 3600 * SECOND);
    let mut restarts = 0;
    while w.now < end {
        for t in w.running() {
            w.report(&t, TaskState::Failed);
            restarts += 1;
        }
        w.settle();
        let next = w.wake.unwrap();
        assert!(next > w.now && w.due.len() < 10, "{:?}", w.due);
        w.now = next;
        w.settle();
        assert!(w.store.tasks().count() <= 2 * 5 + 2, "{}", w.store.tasks().count());
    }
    assert!(restarts > 28_000, "{restarts}");
    assert_eq!(w.store.revisions(S).count(), 1);
}
