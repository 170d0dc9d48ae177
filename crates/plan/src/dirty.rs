//! What may need planning. Events wake the planner, they never inform it: here is only where to look.

use std::collections::BTreeSet;

use skep_state::{Change, Store};
use skep_types::object::{Node, Service, SlotKey, Task, TaskState};
use skep_types::{NodeId, ServiceId};

use crate::Due;

/// What may need planning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Everything: after a leader change.
    pub all: bool,
    /// These services, whole.
    pub services: BTreeSet<ServiceId>,
    /// These places of services.
    pub slots: BTreeSet<(ServiceId, SlotKey)>,
    /// These nodes.
    pub nodes: BTreeSet<NodeId>,
    /// Tasks without a node may find one now.
    pub room: bool,
}

impl Dirty {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Up to `most` services from one id on, to find from time to time what an event missed, and the id to go on with; `None`
    /// at the end, where the nodes come.
    #[must_use]
    pub fn slice(store: &Store, from: ServiceId, most: usize) -> (Self, Option<ServiceId>) {
        let mut services: BTreeSet<ServiceId> = store.services_from(from).take(most).map(|s| s.id).collect();
        services.extend(store.services_with_tasks(from, most));
        let services: BTreeSet<ServiceId> = services.into_iter().take(most).collect();
        let last = services.last().copied().filter(|_| services.len() == most);
        let next = last.and_then(|l| l.0.checked_add(1)).map(ServiceId);
        let mut d = Self { services, room: true, ..Self::default() };
        if next.is_none() {
            d.nodes = store.nodes().map(|n| n.id).collect();
            d.nodes.extend(store.nodes_with_tasks());
        }
        (d, next)
    }

    /// Whether there is nothing to plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How much there is, to be compared with planning everything.
    #[must_use]
    pub fn len(&self) -> usize {
        self.services.len() + self.slots.len() + self.nodes.len()
    }

    /// Takes in what another one says.
    pub fn merge(&mut self, other: Self) {
        self.all |= other.all;
        self.room |= other.room;
        self.services.extend(other.services);
        self.slots.extend(other.slots);
        self.nodes.extend(other.nodes);
    }

    /// Takes in what time has made due.
    pub fn due(&mut self, due: Due) {
        match due {
            Due::Slot(s, k) => {
                self.slots.insert((s, k));
            }
            Due::Node(n) => {
                self.nodes.insert(n);
            }
        }
    }

    /// Takes in what a change may require.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::Cluster | Change::File { .. } => {}
            // Nodes need addresses on a new mesh.
            Change::Network { new, .. } => self.all |= new.as_ref().is_some_and(|n| n.spec.ingress),
            Change::Node { id, old, new } => {
                if old.as_deref().map(seen) != new.as_deref().map(seen) {
                    self.nodes.insert(*id);
                }
            }
            Change::Service { id, old, new } => {
                if old.as_deref().map(asked) != new.as_deref().map(asked) {
                    self.services.insert(*id);
                }
            }
            Change::Task { old, new, .. } => {
                if needs_a_look(old.as_deref(), new.as_deref()) {
                    self.slots.extend(old.iter().chain(new).map(|t| (t.service, t.slot_key())));
                }
                let holds = |t: &Task| (!t.status.state.is_terminal(), t.is_wanted());
                // What ended or was given up made room, for addresses too.
                self.room |= old.as_deref().is_some_and(|o| new.as_deref().is_none_or(|n| holds(n) < holds(o)));
            }
        }
    }
}

/// Whether anything can follow from a change of a task. Nothing does from one that is on its way as it should be: what time
/// makes due of it was told by the plan that wrote it.
fn needs_a_look(old: Option<&Task>, new: Option<&Task>) -> bool {
    let Some(new) = new else { return true };
    let runs = |t: &Task| t.status.state == TaskState::Running;
    // An update may give up on a task that finds no node.
    let waits = |t: &Task| t.status.state < TaskState::Assigned && t.status.err.is_some();
    (waits(new) && !old.is_some_and(waits))
        || new.status.state.is_terminal()
        || !new.is_wanted()
        || (runs(new) && !old.is_some_and(runs))
}

/// What of a node decisions are made by.
fn seen(n: &Node) -> impl PartialEq {
    let d = &n.description;
    let host = (d.hostname.clone(), d.os.clone(), d.architecture.clone(), d.nano_cpus, d.memory);
    let labels = (n.spec.labels.clone(), d.engine_labels.clone(), d.generic.clone(), d.plugins.clone());
    (n.state, n.spec.availability, n.role, n.addr, n.ingress_addr.is_some(), host, labels)
}

/// What of a service decisions are made by, apart from what the planner itself fills in.
fn asked(s: &Service) -> impl PartialEq {
    (s.spec.clone(), s.revision, s.iteration(), s.update_status.as_ref().map(|u| (u.state, u.started_at)))
}
