//! Global services and jobs.

use super::*;

fn image(s: &mut ServiceSpec) {
    s.task.container.image = "two".into();
}

fn job(at_once: u64, total: u64) -> ServiceMode {
    ServiceMode::ReplicatedJob { max_concurrent: at_once, total_completions: total }
}

impl World {
    fn nodes_running(&self) -> Vec<u128> {
        let mut v: Vec<u128> = self.running().iter().map(|t| t.node.unwrap().0).collect();
        v.sort_unstable();
        v
    }

    /// Of the current iteration: how many run, and how many are complete.
    fn job(&self) -> (usize, usize) {
        let now = self.store.service(S).unwrap().iteration();
        let of = |state| {
            self.store.tasks_of_service(S).filter(|t| t.iteration == now && t.is_wanted() && t.status.state == state).count()
        };
        (of(TaskState::Running), of(TaskState::Complete))
    }

    fn end(&mut self, state: TaskState) {
        for t in self.running() {
            self.report(&t, state);
        }
        self.settle();
    }
}

#[test]
fn a_global_service_has_a_task_on_each_node_that_fits() {
    let mut w = World::new(4);
    w.node(4, |n| n.spec.availability = Availability::Pause);
    w.node(3, |n| drop(n.spec.labels.insert("disk".into(), "ssd".into())));
    w.service(0, |s| s.mode = ServiceMode::Global);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3]);
    let t = w.running()[0].clone();
    assert_eq!((t.slot, t.pinned, t.name()), (0, true, format!("web.{}", t.node.unwrap())));
    w.node(5, |_| {});
    w.node(4, |n| n.spec.availability = Availability::Active);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3, 4, 5]);
    // Paused: keeps its task, but a dead one is not replaced.
    w.node(5, |n| n.spec.availability = Availability::Pause);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3, 4, 5]);
    let last = w.running().into_iter().find(|t| t.node == Some(NodeId(5))).unwrap();
    w.report(&last, TaskState::Failed);
    w.pass(60);
    assert_eq!(w.nodes_running(), [1, 2, 3, 4]);
    // Drained, lost, gone.
    w.node(1, |n| n.spec.availability = Availability::Drain);
    w.node(2, |n| n.state = NodeState::Down);
    w.write(vec![Op::DeleteNode(NodeId(4))]);
    w.settle();
    assert_eq!(w.nodes_running(), [3]);
    assert!(w.store.tasks_of_node(NodeId(4)).next().is_none(), "not even its history is left");
    // Back, at once and once.
    w.node(2, |n| n.state = NodeState::Ready);
    w.node(1, |n| n.spec.availability = Availability::Active);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3]);
    // A label that goes takes the task with it.
    w.update(|s| s.task.placement.constraints = vec!["node.labels.disk==ssd".into()]);
    w.pass(60);
    assert_eq!(w.nodes_running(), [3]);
    w.node(3, |n| n.spec.labels.clear());
    w.node(2, |n| drop(n.spec.labels.insert("disk".into(), "ssd".into())));
    w.settle();
    assert_eq!(w.nodes_running(), [2]);
    let gone = w.store.tasks_of_node(NodeId(3)).max_by_key(|t| t.meta.created_at).unwrap();
    assert_eq!(gone.given_up.as_deref(), Some("assigned node no longer meets constraints"));
}

#[test]
fn a_global_service_restarts_updates_and_says_why_a_task_waits() {
    let mut w = World::new(3);
    w.node(3, |n| n.description.memory = 1 << 30);
    w.service(0, |s| {
        s.mode = ServiceMode::Global;
        s.task.resources.reserve_memory = 2 << 30;
    });
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2]);
    let waits = w.store.unplaced().next().unwrap().clone();
    assert_eq!(waits.status.err.as_deref(), Some("insufficient resources on 1 node"));
    w.node(3, |n| n.description.memory = 4 << 30);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3]);
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Failed);
    w.settle();
    assert_eq!(w.running().len(), 2);
    w.pass(6);
    assert_eq!(w.nodes_running(), [1, 2, 3]);
    w.update(image);
    w.settle();
    assert_eq!(w.running().iter().filter(|t| t.revision == 2).count(), 3, "one after the other, without a delay");
    assert_eq!(w.update_state(), Some(UpdateState::Updating));
    w.pass(10);
    assert_eq!(w.update_state(), Some(UpdateState::Completed));
    // A restart policy that says no is kept, until an update.
    w.update(|s| s.task.restart = Some(RestartPolicy { condition: RestartCondition::None, ..Default::default() }));
    w.pass(60);
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Failed);
    w.pass(600);
    assert_eq!(w.running().len(), 2);
    w.update(image);
    w.pass(60);
    w.update(|s| s.task.force_update += 1);
    w.pass(60);
    assert_eq!(w.nodes_running(), [1, 2, 3]);
}

#[test]
fn a_job_runs_so_many_at_a_time_until_enough_are_complete() {
    let mut w = World::new(3);
    w.service(0, |s| s.mode = job(2, 5));
    w.settle();
    assert_eq!(w.job(), (2, 0));
    assert_eq!(w.running().iter().map(|t| t.slot).collect::<Vec<_>>(), [0, 1]);
    w.end(TaskState::Complete);
    assert_eq!(w.job(), (2, 2));
    // One that fails is tried again after its delay, and holds its place meanwhile.
    let t = w.running()[0].clone();
    w.report(&t, TaskState::Failed);
    w.settle();
    assert_eq!(w.job(), (1, 2));
    w.pass(6);
    assert_eq!(w.job(), (2, 2));
    w.end(TaskState::Complete);
    assert_eq!(w.job(), (1, 4));
    w.end(TaskState::Complete);
    w.pass(600);
    assert_eq!(w.job(), (0, 5));
    // An update runs it again; what is left of the iteration before goes.
    w.update(|s| s.labels = [("a".to_owned(), "b".to_owned())].into());
    w.settle();
    assert_eq!(w.job(), (2, 0));
    w.update(|s| s.mode = job(3, 3));
    w.settle();
    assert_eq!((w.job(), w.running().len()), ((3, 0), 3));
    w.end(TaskState::Complete);
    assert_eq!(w.job(), (0, 3));
    // A job that nobody runs again keeps its bounds.
    for _ in 0..20 {
        w.update(|s| s.task.force_update += 1);
        w.settle();
        w.end(TaskState::Complete);
    }
    assert!(w.store.tasks().count() <= 5 * 5, "{}", w.store.tasks().count());
    assert_eq!(w.store.revisions(S).count() as u64, w.store.tasks().map(|t| t.revision).collect::<BTreeSet<_>>().len() as u64);
}

#[test]
fn a_job_s_failures_are_limited_by_its_policy() {
    let mut w = World::new(2);
    let limited = RestartPolicy { max_attempts: 2, delay: Duration::ZERO, ..Default::default() };
    w.service(0, |s| {
        s.mode = job(1, 2);
        s.task.restart = Some(limited);
    });
    w.settle();
    for _ in 0..3 {
        assert_eq!(w.running()[0].slot, 0);
        w.end(TaskState::Failed);
        w.pass(1);
    }
    assert_eq!(w.running()[0].slot, 1, "the next place has its turn");
    w.end(TaskState::Complete);
    w.pass(600);
    assert_eq!(w.job(), (0, 1));
    w.update(|s| s.task.force_update += 1);
    w.settle();
    assert_eq!(w.job(), (1, 0));
}

#[test]
fn a_global_job_runs_once_on_each_node() {
    let mut w = World::new(3);
    w.service(0, |s| s.mode = ServiceMode::GlobalJob);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3]);
    w.end(TaskState::Complete);
    w.node(4, |_| {});
    w.node(1, |n| n.spec.availability = Availability::Drain);
    w.pass(60);
    assert_eq!((w.nodes_running(), w.job()), (vec![4], (1, 3)));
    // A node that is lost with its task has its turn when it is back.
    w.node(4, |n| n.state = NodeState::Down);
    w.pass(60);
    assert_eq!(w.job(), (0, 3));
    w.node(4, |n| n.state = NodeState::Ready);
    w.settle();
    assert_eq!(w.nodes_running(), [4]);
    w.end(TaskState::Complete);
    w.node(1, |n| n.spec.availability = Availability::Active);
    w.pass(60);
    assert_eq!(w.job(), (0, 4));
    w.update(|s| s.task.force_update += 1);
    w.settle();
    assert_eq!(w.nodes_running(), [1, 2, 3, 4]);
    w.write(vec![Op::DeleteService(S)]);
    w.settle();
    assert_eq!((w.store.tasks().count(), w.store.revisions(S).count()), (0, 0));
}
