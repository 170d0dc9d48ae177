//! One task: asks its machine what to do, does it through the executor, remembers and reports what came of it. The state is
//! written down before the act, so that nothing is done twice after a crash. Must never act on a task that has ended, except to
//! remove its container.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use skep_task::{Machine, Outcome, Step};
use skep_types::NetworkId;
use skep_types::clock::Clock;
use skep_types::control::Assignment;
use skep_types::object::{TaskState, TaskStatus};
use tokio::sync::watch;

use crate::files::Files;
use crate::plane::Plane;
use crate::reporter::Reporter;
use crate::stored::Stored;
use crate::{ExecError, Executor, Started, Turn};

/// Pause before the same step is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Time between stop signal and SIGKILL unless the spec says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// What is wanted of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Desired(TaskState),
    /// The task object is gone: stop and remove everything of it.
    Remove,
}

pub(crate) struct Driver {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) files: Files,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) plane: Plane,
    pub(crate) stored: Stored,
    pub(crate) assignment: Assignment,
    pub(crate) goal: watch::Receiver<Goal>,
}

fn failed(e: ExecError) -> Outcome {
    Outcome::Failed { temporary: e.temporary, message: e.message }
}

/// Where a task is reached.
pub(crate) fn addresses(a: &Assignment) -> BTreeSet<(NetworkId, Ipv4Addr)> {
    a.networks.iter().map(|n| (n.id, n.addr.addr)).collect()
}

/// Whether a task takes no requests any more: it has ended, or its health check has failed.
pub(crate) fn takes_none(status: &TaskStatus) -> bool {
    status.state.is_terminal() || status.draining
}

/// Starts a task's container with the files that it needs.
async fn start(executor: &dyn Executor, assignment: &Assignment, stored: &Stored) -> Result<Started, ExecError> {
    let files = stored.wait(assignment.task.id, &assignment.spec.container.files).await?;
    executor.start(assignment, &files).await
}

fn ended(turn: Turn) -> Outcome {
    match turn {
        Turn::Healthy => Outcome::Done,
        Turn::Unhealthy => Outcome::Unhealthy,
        Turn::Ended(exit) => Outcome::Exited { code: exit.code, error: exit.error },
    }
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let mut m = Machine::new(&self.assignment.task);
        loop {
            let goal = *self.goal.borrow_and_update();
            match goal {
                Goal::Desired(d) => m.desire(d),
                Goal::Remove => {
                    self.remove().await;
                    return;
                }
            }
            let step = m.next();
            match step {
                Step::Hold | Step::Finished => {
                    if self.goal.changed().await.is_err() {
                        return;
                    }
                }
                Step::Advance => {
                    m.advance(self.clock.now());
                    self.note(m.status());
                }
                _ => {
                    let Some(outcome) = self.act(step, &mut m).await else { continue };
                    let before = m.status().clone();
                    let again = m.outcome(step, outcome, self.clock.now());
                    if *m.status() != before {
                        self.note(m.status());
                    }
                    if again {
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(RETRY) => {}
                            c = self.goal.changed() => if c.is_err() { return },
                        }
                    }
                }
            }
        }
    }

    /// Does a step; `None` if something else is wanted meanwhile.
    async fn act(&mut self, step: Step, m: &mut Machine) -> Option<Outcome> {
        let id = self.assignment.task.id;
        let executor = self.executor.clone();
        let serves = self.assignment.task.status.state >= TaskState::Running && !self.assignment.networks.is_empty();
        if step == Step::Shutdown {
            if serves {
                // The managers told of the change before they told this task to stop.
                self.plane.drain(0).await;
            }
            // Goes on whatever is wanted next: it can only be removal, which comes after the stop.
            return Some(match executor.shutdown(id, self.grace()).await {
                Ok(()) => Outcome::Done,
                Err(e) => failed(e),
            });
        }
        if step == Step::GiveUp {
            if serves {
                // The managers hear of it by the report of now; without any the other nodes do.
                self.plane.drain(self.plane.told()).await;
                self.plane.spread(&addresses(&self.assignment)).await;
            }
            let stopped = match executor.shutdown(id, self.grace()).await {
                Ok(()) => executor.wait(id).await,
                Err(e) => Err(e),
            };
            return Some(stopped.map_or_else(failed, ended));
        }
        let mut goal = self.goal.clone();
        let other = async move {
            // Release of a task that is being prepared does not disturb it.
            let _ = goal.wait_for(|g| !matches!(g, Goal::Desired(d) if *d <= TaskState::Complete)).await;
        };
        let assignment = &self.assignment;
        let plane = &self.plane;
        let work = async {
            match step {
                Step::Prepare => {
                    plane.settled().await;
                    match executor.prepare(assignment).await {
                        Ok(c) => {
                            m.set_container(c);
                            Outcome::Done
                        }
                        Err(e) => failed(e),
                    }
                }
                Step::Start => match start(&*executor, assignment, &self.stored).await {
                    Ok(s) => {
                        m.set_container(s.container);
                        m.set_ports(s.ports);
                        executor.healthy(id).await
                    }
                    Err(e) => Err(e),
                }
                .map_or_else(failed, ended),
                _ => executor.wait(id).await.map_or_else(failed, ended),
            }
        };
        tokio::select! {
            biased;
            o = work => Some(o),
            () = other => None,
        }
    }

    fn grace(&self) -> Duration {
        self.assignment.spec.container.stop_grace.unwrap_or(GRACE)
    }

    fn note(&mut self, status: &TaskStatus) {
        self.assignment.task.status = status.clone();
        if let Goal::Desired(d) = *self.goal.borrow() {
            self.assignment.task.desired = d;
        }
        self.files.put_task(&self.assignment);
        self.reporter.put(self.assignment.task.id, status);
        if takes_none(status) {
            self.plane.ended(self.assignment.task.id, addresses(&self.assignment));
        }
    }

    async fn remove(&self) {
        let id = self.assignment.task.id;
        loop {
            let stopped = match self.assignment.task.status.state.is_terminal() {
                true => Ok(()),
                false => self.executor.shutdown(id, self.grace()).await,
            };
            match stopped {
                Ok(()) => match self.executor.remove(id).await {
                    Ok(()) => break,
                    Err(e) => tracing::warn!(task = %id, error = %e, "agent: cannot remove container yet"),
                },
                Err(e) => tracing::warn!(task = %id, error = %e, "agent: cannot stop container yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.files.delete_task(id);
        self.reporter.forget(id);
        self.plane.forget(id);
    }
}
