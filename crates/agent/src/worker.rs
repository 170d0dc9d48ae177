//! All tasks of this host. Must never start a driver twice for one task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_types::TaskId;
use skep_types::clock::Clock;
use skep_types::control::{Assignment, KnownTask, newer};
use skep_types::object::TaskState;
use skep_types::spec::PortConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::driver::{Driver, Goal, addresses, takes_none};
use crate::files::Files;
use crate::plane::Plane;
use crate::reporter::Reporter;
use crate::stored::Stored;
use crate::{Executor, ObservedState};

struct Running {
    goal: watch::Sender<Goal>,
    join: JoinHandle<()>,
}

pub(crate) struct Worker {
    executor: Arc<dyn Executor>,
    clock: Arc<dyn Clock>,
    files: Files,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) plane: Plane,
    pub(crate) stored: Stored,
    tasks: BTreeMap<TaskId, Running>,
    /// What the managers have told, once they have told everything since this agent started.
    told: BTreeMap<TaskId, (TaskState, Vec<PortConfig>)>,
    complete: bool,
}

impl Drop for Worker {
    /// The containers stay; only what watches them ends.
    fn drop(&mut self) {
        self.tasks.values().for_each(|r| r.join.abort());
    }
}

impl Worker {
    /// Takes up what was assigned before a restart.
    pub(crate) async fn start(executor: Arc<dyn Executor>, clock: Arc<dyn Clock>, files: Files) -> Self {
        let plane = Plane::start(executor.clone()).await;
        let mut w = Self {
            executor: executor.clone(),
            clock,
            files: files.clone(),
            reporter: Arc::default(),
            plane,
            stored: Stored::default(),
            tasks: BTreeMap::new(),
            told: BTreeMap::new(),
            complete: false,
        };
        let observed: BTreeMap<TaskId, _> = executor.observe().await.into_iter().map(|o| (o.task, o)).collect();
        let all = files.tasks();
        // Ended tasks that the managers have heard of hold their addresses no more.
        let held: BTreeSet<_> = all.iter().filter(|a| !takes_none(&a.task.status)).flat_map(addresses).collect();
        for mut a in all {
            let status = &mut a.task.status;
            if let Some(o) = observed.get(&a.task.id)
                && status.state == TaskState::Starting
                && !matches!(o.state, ObservedState::Created | ObservedState::Starting)
            {
                // It was started, and the restart came before that was noted: it must not be started again.
                status.state = TaskState::Running;
                status.message = "started".into();
                status.container = Some(o.container.clone());
            }
            // Whatever was not acknowledged before the restart is reported again.
            w.reporter.put(a.task.id, &a.task.status);
            if takes_none(&a.task.status) {
                w.plane.ended(a.task.id, addresses(&a).difference(&held).copied().collect());
            }
            w.spawn(a);
        }
        w
    }

    fn spawn(&mut self, a: Assignment) {
        let (goal, rx) = watch::channel(Goal::Desired(a.task.desired));
        let id = a.task.id;
        let driver = Driver {
            executor: self.executor.clone(),
            clock: self.clock.clone(),
            files: self.files.clone(),
            reporter: self.reporter.clone(),
            plane: self.plane.clone(),
            stored: self.stored.clone(),
            assignment: a,
            goal: rx,
        };
        self.tasks.insert(id, Running { goal, join: tokio::spawn(driver.run()) });
    }

    /// Everything that this host must run; the rest goes.
    pub(crate) async fn complete(&mut self, all: Vec<Assignment>) {
        let wanted: BTreeSet<TaskId> = all.iter().map(|a| a.task.id).collect();
        let gone: Vec<TaskId> = self.tasks.keys().filter(|t| !wanted.contains(t)).copied().collect();
        self.remove(&gone);
        self.told.clear();
        if !self.complete {
            // Containers of tasks nobody knows of, for example after the directory was lost.
            self.complete = true;
            for o in self.executor.observe().await {
                if !wanted.contains(&o.task) && !self.tasks.contains_key(&o.task) {
                    self.remove_stranger(o.task);
                }
            }
        }
        self.put(all);
    }

    /// New or changed assignments.
    pub(crate) fn put(&mut self, all: Vec<Assignment>) {
        for a in all {
            self.told.insert(a.task.id, (a.task.desired, a.ports.clone()));
            match self.tasks.get(&a.task.id) {
                Some(r) if !r.join.is_finished() => {
                    let desired = a.task.desired;
                    r.goal.send_if_modified(|g| match g {
                        Goal::Desired(d) if *d < desired => {
                            *g = Goal::Desired(desired);
                            true
                        }
                        _ => false,
                    });
                }
                _ => {
                    self.files.put_task(&a);
                    self.spawn(a);
                }
            }
        }
        self.tasks.retain(|_, r| !r.join.is_finished());
    }

    /// Tasks whose objects are gone.
    pub(crate) fn remove(&mut self, ids: &[TaskId]) {
        for id in ids {
            self.told.remove(id);
            if let Some(r) = self.tasks.get(id) {
                r.goal.send_replace(Goal::Remove);
            }
        }
    }

    /// What a manager need not tell again.
    pub(crate) fn known(&self) -> Vec<KnownTask> {
        if !self.complete {
            return Vec::new();
        }
        let known = |(task, (desired, ports)): (&TaskId, &(TaskState, Vec<PortConfig>))| {
            let state = self.files.tasks_status(*task)?.state;
            Some(KnownTask { task: *task, desired: *desired, state, ports: ports.clone() })
        };
        self.told.iter().filter_map(known).collect()
    }

    fn remove_stranger(&self, id: TaskId) {
        let executor = self.executor.clone();
        tokio::spawn(async move {
            let done = match executor.shutdown(id, std::time::Duration::from_secs(10)).await {
                Ok(()) => executor.remove(id).await,
                e => e,
            };
            if let Err(e) = done {
                tracing::warn!(task = %id, error = %e, "agent: cannot remove a container that nobody assigned");
            }
        });
    }

    /// Reports again what the managers know otherwise, for example after they lost a report with their leader.
    pub(crate) fn compare(&self, all: &[Assignment]) {
        for a in all {
            let mine = self.files.tasks_status(a.task.id);
            if let Some(s) = mine.filter(|s| newer(s, &a.task.status)) {
                self.reporter.put(a.task.id, &s);
            }
        }
    }
}
