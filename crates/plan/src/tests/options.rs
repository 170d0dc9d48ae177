//! What Docker has no words for: growing back-off, a deadline for updates, draining by update order; and drivers.

use super::*;

fn label(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

/// When the newest task of the service was made, and from when it may run, in seconds.
fn newest(w: &World) -> (i64, i64) {
    let t = w.store.tasks_of_service(S).max_by_key(|t| (t.meta.created_at, t.id)).unwrap();
    let at = t.not_before.map_or(0, |at| at.0 / SECOND);
    (t.meta.created_at.0 / SECOND, at)
}

#[test]
fn restarts_of_a_crash_loop_come_slower_up_to_the_longest_delay() {
    let mut w = World::new(2);
    w.service(1, |s| {
        s.labels = label("skep.restart.backoff", "1m");
        s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(5), ..RestartPolicy::default() });
    });
    w.settle();
    let mut delays = vec![];
    for round in 0..8 {
        let t = w.running().pop().unwrap();
        if round == 6 {
            // It ran for longer than the longest delay: that was no crash.
            w.pass(61);
        }
        w.report(&t, TaskState::Failed);
        w.plan();
        let (made, due) = newest(&w);
        delays.push(due - made);
        // The next leader knows nothing but the tables.
        w.dirty = Dirty::all();
        w.due.clear();
        w.pass(due - made);
        assert_eq!(w.running().len(), 1, "after {delays:?}");
    }
    assert_eq!(delays, [5, 10, 20, 40, 60, 60, 5, 10]);
}

#[test]
fn without_the_label_the_delay_does_not_grow() {
    let mut w = World::new(2);
    w.service(1, |s| s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(5), ..RestartPolicy::default() }));
    w.settle();
    for _ in 0..4 {
        let t = w.running().pop().unwrap();
        w.report(&t, TaskState::Failed);
        w.plan();
        let (made, due) = newest(&w);
        assert_eq!(due - made, 5);
        w.pass(5);
    }
}

/// A task that is prepared while its restart's delay lasts can fail at that, as without its image: not every moment again.
#[test]
fn what_fails_while_it_is_prepared_waits_for_its_delay() {
    let mut w = World::new(2);
    w.service(1, |s| s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(5), ..RestartPolicy::default() }));
    while w.plan() > 0 {}
    let newest = |w: &World| w.store.tasks_of_service(S).max_by_key(|t| (t.meta.created_at, t.id)).unwrap().clone();
    w.report(&newest(&w), TaskState::Rejected);
    while w.plan() > 0 {}
    for round in 0..3 {
        let next = newest(&w);
        assert_eq!(next.not_before.map(|at| at.since(w.now).as_secs()), Some(5), "round {round}");
        w.now = w.now.after(Duration::from_secs(1));
        w.report(&next, TaskState::Rejected);
        while w.plan() > 0 {}
        assert_eq!(newest(&w).id, next.id, "another one before the delay was over");
        // A new leader comes to the same.
        w.dirty = Dirty::all();
        assert_eq!(w.plan(), 0);
        w.now = next.not_before.unwrap();
        w.dirty = Dirty::all();
        while w.plan() > 0 {}
        assert_ne!(newest(&w).id, next.id, "none when it was over");
    }
}

/// The same of one that is to take over from a drained node.
#[test]
fn what_cannot_take_over_waits_for_its_delay() {
    let mut w = World::new(2);
    w.service(1, |s| {
        s.update = Some(UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() });
        s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(5), ..RestartPolicy::default() });
    });
    w.settle();
    let at = w.running()[0].node.unwrap().0;
    drain(&mut w, at, "update");
    for _ in 0..4 {
        while w.plan() > 0 {}
        let new = w.store.tasks().find(|t| t.takes_over && t.is_wanted()).cloned().unwrap();
        if !new.status.state.is_terminal() {
            w.report(&new, TaskState::Rejected);
        }
    }
    while w.plan() > 0 {}
    let made = w.store.tasks_of_service(S).filter(|t| t.takes_over).count();
    assert_eq!((made, w.running().len()), (2, 1), "one at once, one more that waits");
    w.pass(5);
    assert_eq!(most_in_one_place(&w), 1);
}

/// Four replicas, an update whose new tasks are placed and then do nothing, and what has become of it.
fn stuck(action: FailureAction, ratio: f32, deadline: Option<&str>) -> World {
    let mut w = World::new(3);
    w.service(4, |s| {
        s.labels = deadline.map(|d| label("skep.update.deadline", d)).unwrap_or_default();
        s.update = Some(UpdateConfig { failure_action: action, max_failure_ratio: ratio, ..UpdateConfig::default() });
    });
    w.settle();
    w.update(|s| s.task.container.image = "never ready".into());
    let end = Time(w.now.0 + 200 * SECOND);
    while w.now < end {
        w.plan();
        let all: Vec<_> = w.store.tasks().filter(|t| !t.status.state.is_terminal()).cloned().collect();
        for t in all {
            if t.desired > TaskState::Complete {
                w.report(&t, TaskState::Shutdown);
            } else if t.revision == 1 && t.desired == TaskState::Running && t.status.state == TaskState::Assigned {
                w.report(&t, TaskState::Running);
            }
        }
        w.plan();
        w.now = w.due.first().map_or(end, |(at, _)| *at).max(Time(w.now.0 + 1)).min(end);
    }
    w
}

#[test]
fn an_update_that_stands_still_fails_by_its_failure_action() {
    let w = stuck(FailureAction::Pause, 0.0, None);
    assert_eq!(w.update_state(), Some(UpdateState::Updating));
    // Whatever share may fail, all may not stand still.
    for ratio in [0.0, 0.5] {
        let w = stuck(FailureAction::Pause, ratio, Some("90s"));
        assert_eq!((w.running().len(), w.update_state()), (3, Some(UpdateState::Paused)));
        let status = w.store.service(S).unwrap().update_status.clone().unwrap();
        assert_eq!(status.message, "update paused due to no progress within 90s");
    }
    let w = stuck(FailureAction::Rollback, 0.0, Some("90s"));
    assert_eq!((w.running().len(), w.update_state()), (4, Some(UpdateState::RollbackCompleted)));
    // One after the other is given its chance.
    let w = stuck(FailureAction::Continue, 0.0, Some("90s"));
    assert_eq!((w.running().len(), w.update_state()), (1, Some(UpdateState::Updating)));
}

#[test]
fn an_update_that_goes_on_meets_no_deadline() {
    let mut w = World::new(3);
    w.service(6, |s| {
        s.labels = label("skep.update.deadline", "10s");
        s.update = Some(UpdateConfig { delay: Duration::from_secs(60), ..UpdateConfig::default() });
    });
    w.settle();
    w.update(|s| s.task.container.image = "two".into());
    w.pass(600);
    assert_eq!(w.update_state(), Some(UpdateState::Completed));
}

/// Lets a gentle drain go on, a step at a time; returns the fewest that ran and the most that lived in all.
fn follow(w: &mut World, replicas: usize) -> (usize, usize) {
    let (mut fewest, mut most) = (replicas, replicas);
    for _ in 0..200 {
        let before = (w.index, w.now);
        w.plan();
        // A node takes one step with each of its tasks.
        let all: Vec<_> = w.store.tasks().filter(|t| !t.status.state.is_terminal() && t.node.is_some()).cloned().collect();
        most = most.max(all.iter().filter(|t| t.is_wanted()).count());
        for t in all {
            if t.desired > TaskState::Complete {
                w.report(&t, TaskState::Shutdown);
            } else if t.desired == TaskState::Running && t.status.state == TaskState::Assigned {
                w.report(&t, TaskState::Starting);
            } else if t.desired == TaskState::Running && t.status.state == TaskState::Starting {
                w.report(&t, TaskState::Running);
            }
            w.plan();
            fewest = fewest.min(w.running().len());
        }
        if before == (w.index, w.now) {
            return (fewest, most);
        }
        w.now = Time(w.now.0 + SECOND / 10);
    }
    panic!("does not come to rest: {:?}", w.store.tasks().collect::<Vec<_>>());
}

fn drain(w: &mut World, node: u128, how: &str) {
    w.node(node, |n| {
        n.spec.availability = Availability::Drain;
        n.spec.labels = label("skep.drain", how);
    });
}

fn on(w: &World, node: u128) -> usize {
    w.running().iter().filter(|t| t.node == Some(NodeId(node))).count()
}

#[test]
fn a_node_can_be_drained_as_its_services_are_updated() {
    use UpdateOrder::{StartFirst, StopFirst};
    for (order, parallelism, how, fewest, most) in [
        (StartFirst, 1, "update", 9, 10),
        (StartFirst, 2, "update", 9, 11),
        (StopFirst, 1, "update", 8, 9),
        (StopFirst, 0, "update", 6, 9),
        (StartFirst, 1, "at-once", 6, 9),
    ] {
        let mut w = World::new(3);
        w.service(9, |s| s.update = Some(UpdateConfig { order, parallelism, ..UpdateConfig::default() }));
        w.settle();
        assert_eq!(on(&w, 2), 3);
        drain(&mut w, 2, how);
        let seen = follow(&mut w, 9);
        assert_eq!(seen, (fewest, most), "{order:?} {parallelism} {how}");
        assert_eq!((w.running().len(), on(&w, 2), most_in_one_place(&w)), (9, 0, 1));
        assert!(w.store.tasks().all(|t| !t.takes_over));
    }
}

fn most_in_one_place(w: &World) -> usize {
    let mut places = BTreeMap::<_, usize>::new();
    w.running().iter().for_each(|t| *places.entry(t.slot_key()).or_default() += 1);
    places.into_values().max().unwrap_or(0)
}

#[test]
fn a_drained_task_serves_on_while_it_cannot_start_elsewhere() {
    let mut w = World::new(2);
    w.service(2, |s| {
        s.update = Some(UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() });
        s.task.restart = Some(RestartPolicy { delay: Duration::from_secs(7), ..RestartPolicy::default() });
    });
    w.settle();
    drain(&mut w, 2, "update");
    for round in 0..5 {
        while w.plan() > 0 {}
        let new = w.store.tasks().find(|t| t.takes_over && t.is_wanted()).cloned().unwrap();
        assert_eq!(new.not_before.map(|at| at.since(new.meta.created_at).as_secs()), (round > 0).then_some(7));
        w.now = new.not_before.unwrap_or(w.now);
        while w.plan() > 0 {}
        w.report(&new, TaskState::Failed);
        while w.plan() > 0 {}
        assert_eq!((w.running().len(), on(&w, 2)), (2, 1));
    }
    assert!(w.store.tasks().count() < 10);
    // Taken back: what runs stays, what was begun does not come on top.
    w.node(2, |n| n.spec.availability = Availability::Active);
    w.pass(60);
    assert_eq!((w.running().len(), most_in_one_place(&w)), (2, 1));
}

/// Nodes that are drained and activated in turn can leave two, neither of which is to take over any more. The simulator found it.
#[test]
fn of_two_in_a_place_the_one_that_may_stay_is_kept() {
    let mut w = World::new(2);
    w.service(1, |s| s.update = Some(UpdateConfig { order: UpdateOrder::StartFirst, ..UpdateConfig::default() }));
    w.settle();
    let old = w.running()[0].clone();
    let here = old.node.unwrap().0;
    let twin = Task { id: TaskId(u128::MAX), node: Some(NodeId(3 - here)), ..(*old).clone() };
    w.write(vec![Op::PutTask(Box::new(twin))]);
    drain(&mut w, here, "update");
    w.pass(60);
    assert_eq!((w.running().len(), on(&w, here)), (1, 0));
}

#[test]
fn drivers_are_asked_for_by_name() {
    let has = |names: &[(&str, &str)]| -> Vec<(String, String)> {
        names.iter().map(|(k, n)| ((*k).to_owned(), (*n).to_owned())).collect()
    };
    let volume = |driver: &str| Mount {
        kind: MountKind::Volume,
        source: "data".into(),
        target: "/data".into(),
        read_only: false,
        volume_labels: Labels::new(),
        volume_driver: Some(driver.into()),
        volume_options: Labels::new(),
        no_copy: false,
        tmpfs_size: 0,
        tmpfs_mode: 0,
    };
    let mut w = World::new(3);
    w.node(1, |n| n.description.plugins = has(&[("Log", "json-file"), ("Volume", "rexray:latest")]));
    w.node(2, |n| n.description.plugins = has(&[("Log", "json-file"), ("Log", "syslog")]));
    w.node(3, |n| n.description.plugins = has(&[("Network", "bridge")]));
    w.service(2, |s| s.task.log_driver = Some("syslog".into()));
    w.settle();
    // The third node does not say what logs it can write.
    assert_eq!((on(&w, 1), on(&w, 2), on(&w, 3)), (0, 1, 1));
    w.update(|s| s.task.container.mounts = vec![volume("rexray")]);
    w.update(|s| s.task.log_driver = None);
    w.pass(60);
    assert_eq!((on(&w, 1), w.running().len()), (2, 2));
    w.update(|s| s.task.container.mounts = vec![volume("nobody")]);
    w.pass(60);
    let err = w.store.tasks().filter_map(|t| t.status.err.clone()).next();
    assert_eq!(err.as_deref(), Some("no suitable node (missing plugin on 3 nodes)"));
}
