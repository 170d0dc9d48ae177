//! Containers that do not exist: they take time to be made, start, exit when told so, and survive their daemon, but not a loss
//! of power. Must never let one task start twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skep_agent::{ExecError, Executor, Exit, ObservedState, ObservedTask, Started, Turn};
use skep_types::TaskId;
use skep_types::control::Assignment;
use skep_types::dataplane::DataPlane;
use skep_types::file::StoredFile;
use skep_types::host::{LogOptions, LogRecord};
use skep_types::object::{ContainerStatus, NodeDescription};
use tokio::sync::{mpsc, watch};

use crate::rng::Rng;

#[derive(Debug, Clone)]
struct Container {
    state: ObservedState,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    containers: BTreeMap<TaskId, Container>,
    rng: Rng,
    /// In 1,000: how many preparations fail.
    failures: u64,
    /// As on a host, it is on disk: a loss of power leaves it.
    plane: Option<DataPlane>,
}

/// The containers of one host.
#[derive(Debug, Clone)]
pub(crate) struct SimExecutor {
    name: String,
    inner: Arc<Mutex<Inner>>,
}

/// What every simulated host has.
pub(crate) const NANO_CPUS: u64 = 4_000_000_000;
pub(crate) const MEMORY: u64 = 8 << 30;

fn no_such(task: TaskId) -> ExecError {
    ExecError { temporary: false, message: format!("No such container: {task}") }
}

impl SimExecutor {
    pub(crate) fn new(name: &str, rng: Rng) -> Self {
        let inner = Inner { containers: BTreeMap::new(), rng, failures: 0, plane: None };
        Self { name: name.to_owned(), inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn takes(&self, ms: std::ops::Range<u64>) {
        let ms = self.lock().rng.range(ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Power is gone: so are the containers.
    pub(crate) fn power_off(&self) {
        for c in std::mem::take(&mut self.lock().containers).into_values() {
            c.changed.send_modify(|n| *n += 1);
        }
    }

    pub(crate) fn set_failures(&self, per_mille: u64) {
        self.lock().failures = per_mille;
    }

    pub(crate) fn running(&self) -> Vec<TaskId> {
        self.lock().containers.iter().filter(|(_, c)| c.state == ObservedState::Running).map(|(t, _)| *t).collect()
    }

    /// All containers, ended ones too.
    pub(crate) fn all(&self) -> Vec<TaskId> {
        self.lock().containers.keys().copied().collect()
    }

    /// All containers as they are.
    pub(crate) fn states(&self) -> Vec<(TaskId, ObservedState)> {
        self.lock().containers.iter().map(|(t, c)| (*t, c.state)).collect()
    }

    /// How the container of a task is, if there is one.
    pub(crate) fn state(&self, task: TaskId) -> Option<ObservedState> {
        self.lock().containers.get(&task).map(|c| c.state)
    }

    /// A container runs whose task nobody knows: left by another swarm, say.
    pub(crate) fn add_stranger(&self, task: TaskId) {
        let stranger = Container { state: ObservedState::Running, changed: watch::channel(0).0 };
        self.lock().containers.insert(task, stranger);
    }

    /// One of the running containers ends by itself.
    pub(crate) fn exit_one(&self, which: u64, code: i32) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        // A remainder below a length fits a usize.
        let task = running[(which % running.len() as u64) as usize];
        self.end(task, code);
    }

    fn end(&self, task: TaskId, code: i32) {
        if let Some(c) = self.lock().containers.get_mut(&task) {
            c.state = ObservedState::Exited { code };
            c.changed.send_modify(|n| *n += 1);
        }
    }

    fn status(task: TaskId) -> ContainerStatus {
        ContainerStatus { id: format!("{task}{task}"), pid: 1, ..ContainerStatus::default() }
    }
}

#[async_trait]
impl Executor for SimExecutor {
    async fn describe(&self) -> NodeDescription {
        NodeDescription {
            hostname: self.name.clone(),
            os: "linux".into(),
            architecture: "x86_64".into(),
            nano_cpus: NANO_CPUS,
            memory: MEMORY,
            engine_version: "sim".into(),
            form: skep_types::object::FORM,
            ..NodeDescription::default()
        }
    }

    async fn set_dataplane(&self, plane: DataPlane) -> Result<(), ExecError> {
        self.takes(1..5).await;
        self.lock().plane = (plane != DataPlane::default()).then_some(plane);
        Ok(())
    }

    async fn dataplane(&self) -> Option<DataPlane> {
        self.lock().plane.clone()
    }

    async fn prepare(&self, a: &Assignment) -> Result<ContainerStatus, ExecError> {
        self.takes(20..400).await;
        let mut inner = self.lock();
        let failures = inner.failures;
        if inner.rng.chance(failures) {
            let temporary = inner.rng.chance(500);
            return Err(ExecError { temporary, message: "No such image: sim".into() });
        }
        let fresh = || Container { state: ObservedState::Created, changed: watch::channel(0).0 };
        inner.containers.entry(a.task.id).or_insert_with(fresh);
        Ok(Self::status(a.task.id))
    }

    async fn start(&self, a: &Assignment, _: &[Arc<StoredFile>]) -> Result<Started, ExecError> {
        let task = a.task.id;
        self.takes(5..100).await;
        let mut inner = self.lock();
        let c = inner.containers.get_mut(&task).ok_or_else(|| no_such(task))?;
        if c.state == ObservedState::Created {
            c.state = ObservedState::Running;
            c.changed.send_modify(|n| *n += 1);
        }
        Ok(Started { container: Self::status(task), ports: vec![] })
    }

    async fn logs(&self, task: TaskId, _: LogOptions) -> Result<mpsc::Receiver<LogRecord>, ExecError> {
        Err(ExecError { temporary: false, message: format!("task {task} has no log in this world") })
    }

    async fn healthy(&self, task: TaskId) -> Result<Turn, ExecError> {
        let inner = self.lock();
        Ok(match inner.containers.get(&task).ok_or_else(|| no_such(task))?.state {
            ObservedState::Exited { code } => Turn::Ended(Exit { code, ..Exit::default() }),
            // No container of this world has a health check.
            _ => Turn::Healthy,
        })
    }

    async fn wait(&self, task: TaskId) -> Result<Turn, ExecError> {
        loop {
            let (state, mut changed) = {
                let inner = self.lock();
                let c = inner.containers.get(&task).ok_or_else(|| no_such(task))?;
                (c.state, c.changed.subscribe())
            };
            if let ObservedState::Exited { code } = state {
                return Ok(Turn::Ended(Exit { code, ..Exit::default() }));
            }
            if changed.changed().await.is_err() {
                return Err(no_such(task));
            }
        }
    }

    async fn shutdown(&self, task: TaskId, _: Duration) -> Result<(), ExecError> {
        self.takes(10..300).await;
        let running = self.lock().containers.get(&task).is_some_and(|c| c.state == ObservedState::Running);
        if running {
            self.end(task, 143);
        }
        Ok(())
    }

    async fn remove(&self, task: TaskId) -> Result<(), ExecError> {
        self.takes(1..20).await;
        self.lock().containers.remove(&task);
        Ok(())
    }

    async fn observe(&self) -> Vec<ObservedTask> {
        let of = |(t, c): (&TaskId, &Container)| ObservedTask { task: *t, container: Self::status(*t), state: c.state };
        self.lock().containers.iter().map(of).collect()
    }
}
