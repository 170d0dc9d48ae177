//! Rolling updates and rollbacks, step by step.

use super::*;

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
fn places_that_are_added_with_an_update_come_first() {
    let mut w = World::new(3);
    let config = UpdateConfig { parallelism: 3, delay: Duration::from_secs(60), ..UpdateConfig::default() };
    w.service(3, |s| s.update = Some(config));
    w.settle();
    w.update(|s| {
        s.task.container.image = "two".into();
        s.mode = ServiceMode::Replicated { replicas: 6 };
    });
    while w.plan() > 0 {}
    // Nothing is taken away while the new places do not serve, nor in the delay after them.
    assert_eq!(w.running().len(), 3);
    w.settle();
    assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 3);
    w.pass(59);
    assert_eq!(w.running().iter().filter(|t| t.revision == 1).count(), 3);
    w.pass(2);
    assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 6);
    w.pass(90);
    assert_eq!((w.running().len(), w.update_state()), (6, Some(UpdateState::Completed)));
}

#[test]
fn places_that_are_added_and_find_no_node_hold_an_update_up_no_longer_than_its_monitor() {
    let mut w = World::new(3);
    w.service(3, |s| s.task.placement.max_replicas = 1);
    w.settle();
    w.update(|s| {
        s.task.container.image = "two".into();
        s.mode = ServiceMode::Replicated { replicas: 5 };
    });
    w.pass(60);
    assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 3);
    assert_eq!(w.update_state(), Some(UpdateState::Completed));
}

/// The new tasks of a start-first update that has just begun.
fn begin_start_first(w: &mut World, parallelism: u64, mode: Option<ServiceMode>) -> Vec<Arc<Task>> {
    let config = UpdateConfig { order: UpdateOrder::StartFirst, parallelism, ..UpdateConfig::default() };
    w.service(4, |s| {
        s.update = Some(config);
        if let Some(m) = mode {
            s.mode = m;
        }
    });
    w.settle();
    w.update(|s| s.task.container.image = "two".into());
    while w.plan() > 0 {}
    w.store.tasks().filter(|t| t.revision == 2 && t.node.is_some()).cloned().collect()
}

fn most_in_a_place(w: &World) -> usize {
    let mut places = std::collections::BTreeMap::<_, usize>::new();
    w.running().iter().for_each(|t| *places.entry(t.slot_key()).or_default() += 1);
    places.into_values().max().unwrap_or(0)
}

#[test]
fn a_paused_update_leaves_one_task_in_the_places_that_it_has_begun() {
    let mut w = World::new(3);
    let new = begin_start_first(&mut w, 2, None);
    assert_eq!(new.len(), 2);
    w.report(&new[0], TaskState::Failed);
    while w.plan() > 0 {}
    assert_eq!(w.update_state(), Some(UpdateState::Paused));
    w.report(&new[1], TaskState::Running);
    w.settle();
    assert_eq!((w.running().len(), most_in_a_place(&w)), (4, 1));
}

#[test]
fn a_global_task_that_was_replaced_goes_though_its_node_is_paused_meanwhile() {
    let mut w = World::new(3);
    let new = begin_start_first(&mut w, 1, Some(ServiceMode::Global));
    assert_eq!(new.len(), 1);
    let Some(NodeId(node)) = new[0].node else { panic!("it was placed") };
    w.node(node, |n| n.spec.availability = Availability::Pause);
    w.pass(60);
    assert_eq!((w.running().len(), most_in_a_place(&w)), (3, 1));
}

/// One after the other: what the first had begun on a node is not left there when the second passes over it (simulator, seeds
/// 1304 and 1001178).
#[test]
fn a_second_update_leaves_no_two_global_tasks_on_a_node_that_is_paused() {
    let mut w = World::new(3);
    let new = begin_start_first(&mut w, 1, Some(ServiceMode::Global));
    let node = new[0].node.unwrap();
    w.update(|s| s.task.container.env = vec!["C=2".into()]);
    w.node(node.0, |n| n.spec.availability = Availability::Pause);
    w.report(&new[0], TaskState::Running);
    for _ in 0..4 {
        w.settle();
        w.pass(60_000);
    }
    assert_eq!(w.update_state(), Some(UpdateState::Completed));
    let there: Vec<_> = w.running().into_iter().filter(|t| t.node == Some(node)).collect();
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(there[0].id, new[0].id);
}

/// The second update stands still before it comes to the places that the first had begun (simulator, seed 1001284).
#[test]
fn an_update_that_is_paused_leaves_no_two_tasks_that_the_one_before_it_had_begun() {
    let mut w = World::new(3);
    let new = begin_start_first(&mut w, 2, None);
    assert_eq!(new.len(), 2);
    new.iter().for_each(|t| w.report(t, TaskState::Running));
    w.update(|s| {
        s.task.container.image = "broken".into();
        s.update = Some(UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() });
    });
    w.plan();
    let broken: Vec<_> = w.store.tasks().filter(|t| t.revision == 3 && t.node.is_some()).cloned().collect();
    assert!(!broken.is_empty());
    broken.iter().for_each(|t| w.report(t, TaskState::Failed));
    w.settle();
    assert_eq!(w.update_state(), Some(UpdateState::Paused));
    assert_eq!((w.running().len(), most_in_a_place(&w)), (4, 1));
}

/// What a node rejects is made again once in each restart delay, not by the update as well.
#[test]
fn an_update_does_not_replace_what_waits_for_its_delay() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut w = World::new(2);
        let action = FailureAction::Continue;
        w.service(2, |s| s.update = Some(UpdateConfig { order, failure_action: action, ..UpdateConfig::default() }));
        w.settle();
        w.update(|s| s.task.container.image = "missing".into());
        let (end, mut rejected) = (Time(w.now.0 + 60 * SECOND), 0);
        while w.now < end {
            loop {
                let planned = w.plan();
                let open = |t: &&Arc<Task>| t.node.is_some() && t.revision == 2 && !t.status.state.is_terminal();
                let tasks: Vec<_> = w.store.tasks().filter(open).cloned().collect();
                tasks.iter().for_each(|t| w.report(t, TaskState::Rejected));
                rejected += tasks.len();
                assert!(rejected < 100, "a loop without a delay");
                w.run_nodes();
                if planned == 0 && tasks.is_empty() {
                    break;
                }
            }
            w.now = w.wake.map_or(end, |at| at.clamp(Time(w.now.0 + 1), end));
        }
        assert!(rejected >= 10, "{rejected} in a minute");
    }
}

/// A port of the host, or a share of the node, is free once the task before has stopped, and that may take longer than the monitor
/// period: the new one has not failed by waiting for it.
#[test]
fn a_task_that_waits_for_the_one_before_it_to_stop_is_no_failure() {
    let mut w = World::new(1);
    w.service(1, |s| s.endpoint.ports = vec![PortConfig { mode: PublishMode::Host, ..port(81) }]);
    w.settle();
    let old = w.running()[0].clone();
    w.update(|s| s.task.container.image = "two".into());
    while w.plan() > 0 {}
    let waits = w.store.unplaced().next().and_then(|t| t.status.err.clone());
    assert_eq!(waits.as_deref(), Some("no suitable node (host-mode port already in use on 1 node)"));
    w.now = w.now.after(Duration::from_secs(9));
    w.plan();
    w.report(&old, TaskState::Shutdown);
    while w.plan() > 0 {}
    assert_eq!(w.update_state(), Some(UpdateState::Updating));
    w.pass(60);
    assert_eq!((w.running()[0].revision, w.update_state()), (2, Some(UpdateState::Completed)));

    // Once it waits for nobody, it has the monitor period to find a node.
    let old = w.running()[0].clone();
    w.update(|s| s.task.placement.constraints = vec!["node.hostname==nowhere".into()]);
    while w.plan() > 0 {}
    w.now = w.now.after(Duration::from_secs(9));
    w.plan();
    w.report(&old, TaskState::Shutdown);
    w.pass(4);
    assert_eq!(w.update_state(), Some(UpdateState::Updating));
    w.pass(2);
    assert_eq!(w.update_state(), Some(UpdateState::Paused));
}

/// Those that find no node are fewer than may fail: the others have their turn.
#[test]
fn an_update_goes_past_places_whose_new_task_finds_no_node() {
    for action in [FailureAction::Pause, FailureAction::Continue] {
        let mut w = World::new(2);
        let config = UpdateConfig {
            order: UpdateOrder::StartFirst,
            failure_action: action,
            max_failure_ratio: 0.5,
            ..UpdateConfig::default()
        };
        w.service(4, |s| s.update = Some(config));
        w.settle();
        w.update(|s| s.task.placement.constraints = vec!["node.hostname==nowhere".into()]);
        w.pass(60);
        let begun: BTreeSet<_> = w.store.tasks().filter(|t| t.revision == 2).map(|t| t.slot_key()).collect();
        match action {
            FailureAction::Pause => assert_eq!((begun.len(), w.update_state()), (3, Some(UpdateState::Paused))),
            _ => assert_eq!(begun.len(), 4),
        }
        assert_eq!(w.running().len(), 4, "nothing is taken away");
    }
}

/// With start-first it is another place's old task that has the port: it holds it until it has stopped.
#[test]
fn a_task_that_waits_for_another_place_to_stop_is_no_failure() {
    for stops in [true, false] {
        let mut w = World::new(3);
        let config = UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() };
        w.service(2, |s| {
            s.update = Some(config);
            s.endpoint.ports = vec![PortConfig { mode: PublishMode::Host, ..port(81) }];
        });
        w.settle();
        w.update(|s| s.task.container.image = "two".into());
        while w.plan() > 0 {}
        let first = w.store.tasks().find(|t| t.revision == 2).cloned().unwrap();
        w.report(&first, TaskState::Running);
        while w.plan() > 0 {}
        let old = w.store.tasks_of_slot(S, first.slot_key()).find(|t| t.revision == 1).cloned().unwrap();
        assert_eq!(old.desired, TaskState::Shutdown);
        assert_eq!(w.store.unplaced().count(), 1, "the second place waits for the port of the first");
        let mut pass = |seconds: u64| {
            for _ in 0..seconds {
                w.now = w.now.after(Duration::from_secs(1));
                w.plan();
            }
            w.update_state()
        };
        assert_eq!(pass(40), Some(UpdateState::Updating));
        if stops {
            w.report(&old, TaskState::Shutdown);
            w.pass(60);
            assert_eq!((w.running().len(), w.update_state()), (2, Some(UpdateState::Completed)));
        } else {
            assert_eq!(pass(90), Some(UpdateState::Paused), "not for ever");
        }
    }
}

/// What an update that is paused has begun is on its way in the next one, and as many others fewer may be.
#[test]
fn what_another_update_has_begun_counts_as_under_way() {
    let mut w = World::new(3);
    let config = UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() };
    w.service(3, |s| {
        s.update = Some(config);
        s.endpoint.ports = vec![PortConfig { mode: PublishMode::Host, ..port(81) }];
    });
    w.settle();
    w.update(|s| s.task.container.image = "two".into());
    w.pass(10);
    assert_eq!(w.update_state(), Some(UpdateState::Paused));
    w.update(|s| s.mode = ServiceMode::Replicated { replicas: 2 });
    while w.plan() > 0 {}
    let under_way =
        |w: &World| w.store.tasks().filter(|t| t.revision == 2 && t.is_wanted() && t.status.state < TaskState::Running).count();
    assert_eq!(under_way(&w), 1, "one at a time");
    let surplus = w.store.tasks().find(|t| t.desired == TaskState::Remove).cloned().unwrap();
    w.now = w.now.after(Duration::from_secs(9));
    w.plan();
    w.report(&surplus, TaskState::Shutdown);
    while w.plan() > 0 {}
    assert_eq!((under_way(&w), w.update_state()), (1, Some(UpdateState::Updating)));
    w.pass(60);
    assert_eq!((w.running().len(), w.update_state()), (2, Some(UpdateState::Completed)));
    assert!(w.running().iter().all(|t| t.revision == 2));
}
