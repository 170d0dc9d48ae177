//! New tasks: of a service's current revision, with addresses, in a place of the service. Must never give a task a node, unless
//! the place is that node.

use skep_state::Key;
use skep_types::object::{Service, SlotKey, Task, TaskState, TaskStatus};
use skep_types::spec::PublishMode;
use skep_types::{NodeId, TaskId, Time};

use crate::allocate;
use crate::draft::Draft;

/// Where a new task belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Number(u64),
    Node(NodeId),
}

impl Place {
    /// The place that another task has.
    pub(crate) fn of(t: &Task) -> Self {
        match t.node {
            Some(n) if t.pinned => Self::Node(n),
            _ => Self::Number(t.slot),
        }
    }

    /// The place behind a key of this service's.
    pub(crate) fn at(service: &Service, key: SlotKey) -> Self {
        if service.spec.mode.is_global() {
            Self::Node(NodeId(key.0))
        } else {
            // Numbered places have 64 bits.
            Self::Number(key.0 as u64)
        }
    }
}

/// A new task. With the desired state `ready` it waits for its release, no earlier than `not_before`.
pub(crate) fn create(
    d: &mut Draft<'_>,
    service: &Service,
    place: Place,
    desired: TaskState,
    not_before: Option<Time>,
) -> Option<TaskId> {
    let spec = d.work.revision(service.id, service.revision).cloned()?;
    let ingress = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    let mut t = Task::new(d.new_id(), service.id, &service.spec.name);
    match place {
        Place::Number(n) => t.slot = n,
        Place::Node(n) => {
            t.node = Some(n);
            t.pinned = true;
        }
    }
    t.iteration = service.iteration();
    t.revision = service.revision;
    t.desired = desired;
    t.not_before = not_before;
    t.host_ports = service.ports.iter().filter(|p| p.mode == PublishMode::Host).cloned().collect();
    t.status = TaskStatus {
        timestamp: d.now,
        state: TaskState::Pending,
        message: "pending task scheduling".into(),
        ..TaskStatus::default()
    };
    if let Err(e) = allocate::task(d, ingress, &spec, &mut t) {
        t.status.state = TaskState::New;
        t.status.message = "created".into();
        t.status.err = Some(e.to_string());
    }
    d.rely_on(Key::Service(service.id));
    let id = t.id;
    d.put_task(t).then_some(id)
}
