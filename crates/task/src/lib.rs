//! The worker's task machine: what to do next for one task, and what its state is afterwards (`swarm-semantics` 3.2).
//!
//! One step at a time and never backwards. The machine decides; somebody else acts and tells it the outcome. It must never do
//! anything itself, nor read a clock.

#![deny(unsafe_code)]

use serde::{Deserialize, Serialize};
use skep_types::Time;
use skep_types::object::{ContainerStatus, Task, TaskState, TaskStatus};

/// Docker's words for the end of a task whose health check failed.
const UNHEALTHY: &str = "dockerexec: unhealthy container";

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call [`Machine::advance`]: the state moves without any work.
    Advance,
    /// Make image, networks, volumes and container.
    Prepare,
    /// Start the container.
    Start,
    /// Wait until the container ends or is unhealthy.
    Wait,
    /// Stop the container, which is unhealthy, and tell how it ended.
    GiveUp,
    /// Stop the container.
    Shutdown,
    /// Nothing until the desired state changes.
    Hold,
    /// Nothing ever again.
    Finished,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It worked.
    Done,
    /// The container ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// What the engine says to it.
        error: Option<String>,
    },
    /// The container's health check gave it up; it still runs.
    Unhealthy,
    /// It did not work.
    Failed {
        /// The same step may work a little later.
        temporary: bool,
        /// Why.
        message: String,
    },
}

/// The machine of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    status: TaskStatus,
    desired: TaskState,
}

impl Machine {
    /// The machine of a task as it was last known.
    #[must_use]
    pub fn new(task: &Task) -> Self {
        Self { status: task.status.clone(), desired: task.desired }
    }

    /// What is known of the task.
    #[must_use]
    pub fn status(&self) -> &TaskStatus {
        &self.status
    }

    /// Takes a new desired state; one that goes back is ignored.
    pub fn desire(&mut self, desired: TaskState) {
        self.desired = self.desired.max(desired);
    }

    /// Notes what is known of the container.
    pub fn set_container(&mut self, container: ContainerStatus) {
        self.status.container = Some(container);
    }

    /// Notes the ports that the engine published for the task on its node.
    pub fn set_ports(&mut self, ports: Vec<skep_types::spec::PortConfig>) {
        self.status.ports = ports;
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self) -> Step {
        match self.status.state {
            s if s.is_terminal() => Step::Finished,
            _ if self.desired >= TaskState::Shutdown => Step::Shutdown,
            _ if self.status.draining => Step::GiveUp,
            TaskState::New | TaskState::Pending | TaskState::Assigned | TaskState::Accepted => Step::Advance,
            TaskState::Preparing => Step::Prepare,
            TaskState::Ready if self.desired >= TaskState::Running => Step::Advance,
            TaskState::Ready => Step::Hold,
            TaskState::Starting => Step::Start,
            _ => Step::Wait,
        }
    }

    /// Moves on where no work is needed.
    pub fn advance(&mut self, now: Time) {
        match self.status.state {
            TaskState::New | TaskState::Pending | TaskState::Assigned => self.to(TaskState::Accepted, "accepted", now),
            TaskState::Accepted => self.to(TaskState::Preparing, "preparing", now),
            TaskState::Ready if self.desired >= TaskState::Running => self.to(TaskState::Starting, "starting", now),
            _ => {}
        }
    }

    /// Takes the outcome of `step`. Returns whether the same step must be tried again (about a second later).
    pub fn outcome(&mut self, step: Step, outcome: Outcome, now: Time) -> bool {
        match (step, outcome) {
            (_, Outcome::Failed { temporary: true, .. }) => return true,
            // Something may still run: it must be stopped, however long it takes.
            (Step::Shutdown | Step::GiveUp, Outcome::Failed { .. }) => return true,
            (Step::Prepare, Outcome::Done) => self.to(TaskState::Ready, "prepared", now),
            (Step::Start, Outcome::Done) => self.to(TaskState::Running, "started", now),
            (Step::Shutdown, Outcome::Exited { code, .. }) => {
                self.exit_code(code);
                self.to(TaskState::Shutdown, "shutdown", now);
            }
            (Step::Shutdown, Outcome::Done) => self.to(TaskState::Shutdown, "shutdown", now),
            (Step::Prepare, Outcome::Failed { message, .. }) => self.fail(TaskState::Rejected, message, now),
            (Step::Start, Outcome::Failed { message, .. }) => {
                self.fail(TaskState::Failed, format!("starting container failed: {message}"), now);
            }
            (_, Outcome::Unhealthy) => {
                // Told at once, so that it takes no more requests while it is stopped.
                self.status.draining = true;
                self.status.timestamp = now;
            }
            (step, Outcome::Exited { code, error }) => {
                let error = error.or_else(|| (step == Step::GiveUp).then(|| UNHEALTHY.to_owned()));
                self.exit_code(code);
                match error {
                    None if code == 0 => self.to(TaskState::Complete, "finished", now),
                    None => self.fail(TaskState::Failed, format!("task: non-zero exit ({code})"), now),
                    Some(e) => self.fail(TaskState::Failed, format!("task: non-zero exit ({code}): {e}"), now),
                }
            }
            (_, Outcome::Failed { message, .. }) => self.fail(TaskState::Failed, message, now),
            (_, Outcome::Done) => {}
        }
        false
    }

    fn exit_code(&mut self, code: i32) {
        let c = self.status.container.get_or_insert_with(ContainerStatus::default);
        c.exit_code = code;
        c.pid = 0;
    }

    fn to(&mut self, state: TaskState, message: &str, now: Time) {
        if state > self.status.state {
            self.status.state = state;
            self.status.message = message.into();
            self.status.err = None;
            self.status.timestamp = now;
        }
    }

    /// The message stays that of the state in which it failed, as the reference does.
    fn fail(&mut self, state: TaskState, err: String, now: Time) {
        if state > self.status.state {
            self.status.state = state;
            self.status.err = Some(err);
            self.status.timestamp = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skep_types::{ServiceId, TaskId};

    fn machine(desired: TaskState) -> Machine {
        let status = TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() };
        Machine::new(&Task { desired, status, slot: 1, ..Task::new(TaskId(1), ServiceId(1), "web") })
    }

    #[test]
    fn a_task_lives_through_all_states() {
        let mut m = machine(TaskState::Ready);
        let mut seen = Vec::new();
        for round in 0..20 {
            match m.next() {
                Step::Advance => m.advance(Time(round)),
                Step::Hold => m.desire(TaskState::Running),
                Step::Wait => assert!(!m.outcome(Step::Wait, Outcome::Exited { code: 3, error: None }, Time(round))),
                Step::Finished => break,
                s => assert!(!m.outcome(s, Outcome::Done, Time(round))),
            }
            let s = m.status();
            if seen.last() != Some(&s.message) {
                seen.push(s.message.clone());
            }
        }
        assert_eq!(seen, ["accepted", "preparing", "prepared", "starting", "started"]);
        assert_eq!(m.status().state, TaskState::Failed);
        assert_eq!(m.status().err.as_deref(), Some("task: non-zero exit (3)"));
    }

    #[test]
    fn a_job_s_task_runs_to_its_end() {
        let mut m = machine(TaskState::Ready);
        m.advance(Time(1));
        m.advance(Time(1));
        m.outcome(Step::Prepare, Outcome::Done, Time(1));
        assert_eq!(m.next(), Step::Hold);
        m.desire(TaskState::Complete);
        m.advance(Time(2));
        assert_eq!(m.next(), Step::Start);
        m.outcome(Step::Start, Outcome::Done, Time(2));
        assert_eq!(m.next(), Step::Wait);
        m.outcome(Step::Wait, Outcome::Exited { code: 0, error: None }, Time(3));
        assert_eq!((m.status().state, m.next()), (TaskState::Complete, Step::Finished));
    }

    #[test]
    fn a_failed_preparation_rejects_and_a_failed_stop_is_tried_again() {
        let mut m = machine(TaskState::Running);
        m.advance(Time(1));
        m.advance(Time(2));
        let bad = |temporary| Outcome::Failed { temporary, message: "No such image: x".into() };
        assert!(m.outcome(Step::Prepare, bad(true), Time(3)));
        assert!(!m.outcome(Step::Prepare, bad(false), Time(3)));
        assert_eq!(m.status().state, TaskState::Rejected);
        let mut m = machine(TaskState::Shutdown);
        assert_eq!(m.next(), Step::Shutdown);
        assert!(m.outcome(Step::Shutdown, bad(false), Time(1)));
        assert!(!m.outcome(Step::Shutdown, Outcome::Done, Time(1)));
        assert_eq!(m.status().state, TaskState::Shutdown);
    }

    #[test]
    fn an_unhealthy_container_is_stopped_and_has_failed() {
        for step in [Step::Start, Step::Wait] {
            let mut m = machine(TaskState::Running);
            while m.next() != step {
                let next = m.next();
                m.advance(Time(1));
                let _ = m.outcome(next, Outcome::Done, Time(1));
            }
            assert!(!m.outcome(step, Outcome::Unhealthy, Time(2)));
            assert!(m.status().draining && !m.status().state.is_terminal());
            assert_eq!(m.next(), Step::GiveUp);
            assert!(!m.outcome(Step::GiveUp, Outcome::Exited { code: 137, error: None }, Time(3)));
            assert_eq!(m.status().state, TaskState::Failed);
            let err = m.status().err.as_deref();
            assert_eq!(err, Some("task: non-zero exit (137): dockerexec: unhealthy container"));
        }
    }

    proptest! {
        #[test]
        fn never_backwards(events in prop::collection::vec(0u8..8, 0..60)) {
            let mut m = machine(TaskState::Ready);
            for (i, e) in events.iter().enumerate() {
                let (before, step, now) = (m.status().state, m.next(), Time(i as i64));
                match e {
                    0 => m.desire(TaskState::Running),
                    1 => m.desire(TaskState::Shutdown),
                    2 => m.desire(TaskState::Ready),
                    3 => { m.outcome(step, Outcome::Exited { code: 0, error: None }, now); }
                    4 => { m.outcome(step, Outcome::Failed { temporary: false, message: "x".into() }, now); }
                    5 => m.advance(now),
                    6 => { m.outcome(step, Outcome::Unhealthy, now); }
                    _ => { m.outcome(step, Outcome::Done, now); }
                }
                prop_assert!(m.status().state >= before);
                prop_assert!(!before.is_terminal() || m.next() == Step::Finished);
            }
        }
    }
}
