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
