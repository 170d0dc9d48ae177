//! The seam to whatever runs containers on this host.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_types::TaskId;
use skep_types::control::Assignment;
use skep_types::dataplane::DataPlane;
use skep_types::file::StoredFile;
use skep_types::host::{LogOptions, LogRecord};
use skep_types::object::{ContainerStatus, NodeDescription};
use skep_types::spec::PortConfig;
use tokio::sync::mpsc;

use crate::Attachments;

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExecError {
    /// The same call may work a little later.
    pub temporary: bool,
    /// What clients see as the task's error.
    pub message: String,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// What the engine says to it.
    pub error: Option<String>,
    /// Killed for want of memory.
    pub oom: bool,
}

/// What became of a container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It may take requests.
    Healthy,
    /// Its health check gave it up; it still runs.
    Unhealthy,
    /// It ended.
    Ended(Exit),
}

/// A container that was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    /// Its id and process.
    pub container: ContainerStatus,
    /// Ports published on this host for it, with the chosen numbers.
    pub ports: Vec<PortConfig>,
}

/// State of a container found on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObservedState {
    /// Made, never started.
    Created,
    /// Runs, and was not found healthy yet.
    Starting,
    /// Runs.
    Running,
    /// Ended.
    Exited {
        /// With this code.
        code: i32,
    },
}

/// A task's container found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTask {
    /// The task.
    pub task: TaskId,
    /// Its container.
    pub container: ContainerStatus,
    /// State.
    pub state: ObservedState,
}

/// Runs containers. Every call may be made again after it succeeded, with the same result; a call may be dropped half-way and
/// made again later.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// What this host is.
    async fn describe(&self) -> NodeDescription;

    /// Makes the host's network as given; the newest one counts.
    ///
    /// # Errors
    /// [`ExecError`]; it is tried again a second later.
    async fn set_dataplane(&self, plane: DataPlane) -> Result<(), ExecError>;

    /// The network as this host was last made, before a restart too; `None` if it never was, or has left.
    async fn dataplane(&self) -> Option<DataPlane>;

    /// Pulls the image, makes volumes and the container. Waits for networks of the data plane if it needs them.
    ///
    /// # Errors
    /// [`ExecError`]; one that is not temporary rejects the task.
    async fn prepare(&self, assignment: &Assignment) -> Result<ContainerStatus, ExecError>;

    /// Starts the container, with the secrets and configs that its spec names. Must not start again one that has already run, nor
    /// put the files on a disk.
    ///
    /// # Errors
    /// [`ExecError`]; one that is not temporary fails the task.
    async fn start(&self, assignment: &Assignment, files: &[Arc<StoredFile>]) -> Result<Started, ExecError>;

    /// Waits until a started container is healthy, or is given up, or ended. At once [`Turn::Healthy`] for one without a health
    /// check that runs.
    ///
    /// # Errors
    /// [`ExecError`] if there is no such container.
    async fn healthy(&self, task: TaskId) -> Result<Turn, ExecError>;

    /// Waits until the container is given up by its health check or ended; at once if it already did. Never [`Turn::Healthy`].
    ///
    /// # Errors
    /// [`ExecError`] if there is no such container.
    async fn wait(&self, task: TaskId) -> Result<Turn, ExecError>;

    /// Stops the container: its stop signal, then SIGKILL after `grace`. No error if it does not run or does not exist.
    ///
    /// # Errors
    /// [`ExecError`]; it is tried again.
    async fn shutdown(&self, task: TaskId, grace: Duration) -> Result<(), ExecError>;

    /// Removes the container with its anonymous volumes. No error if it does not exist.
    ///
    /// # Errors
    /// [`ExecError`]; it is tried again.
    async fn remove(&self, task: TaskId) -> Result<(), ExecError>;

    /// The log of a task's container. One that is followed goes on until the container has ended, and waits for it to start; one
    /// that has no container has no records.
    ///
    /// # Errors
    /// [`ExecError`] if it cannot be read.
    async fn logs(&self, task: TaskId, options: LogOptions) -> Result<mpsc::Receiver<LogRecord>, ExecError>;

    /// Where the containers of this host that are no tasks ask for their places on overlay networks; `None` if it has none.
    fn attachments(&self) -> Option<Arc<Attachments>> {
        None
    }

    /// Speaks the Engine API of a task's container, and of no other, on a connection; returns when that has ended.
    ///
    /// # Errors
    /// [`ExecError`] if there is no such container.
    async fn tunnel(&self, task: TaskId, io: tokio::io::DuplexStream) -> Result<(), ExecError> {
        drop(io);
        Err(ExecError { temporary: false, message: format!("task {task} has no container that could be talked to") })
    }

    /// Lets the host's network be looked at on a connection; returns when that has ended.
    ///
    /// # Errors
    /// [`ExecError`] if there is nothing to look at.
    async fn network(&self, io: tokio::io::DuplexStream) -> Result<(), ExecError> {
        drop(io);
        Err(ExecError { temporary: false, message: "this host has no network that could be looked at".to_owned() })
    }

    /// The containers of tasks on this host, running and ended ones.
    async fn observe(&self) -> Vec<ObservedTask>;
}
