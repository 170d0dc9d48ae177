//! The leader's decisions: from a snapshot of the tables to one transaction that creates, addresses and places tasks.
//!
//! Deadlines are data in the objects, so a new leader just continues; planning what is already planned yields nothing. This
//! crate must never read a clock, draw an id by itself, or remember anything between two calls.

#![deny(unsafe_code)]

pub mod allocate;
pub mod constraint;
mod draft;
mod node_down;
mod reaper;
mod replicated;
mod restart;
mod rolling_update;
mod schedule;
mod slot;

use std::collections::BTreeSet;

use skep_state::{Change, Store, Transaction};
use skep_types::object::{NodeState, TaskState};
use skep_types::{NodeId, ServiceId, Time};

pub use replicated::should_restart;
pub use rolling_update::next_revision;

/// What may need planning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Everything: after a leader change, on a timer, and from time to time to find what an event missed.
    pub all: bool,
    /// These services.
    pub services: BTreeSet<ServiceId>,
    /// These nodes.
    pub nodes: BTreeSet<NodeId>,
}

impl Dirty {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Whether there is nothing to plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.services.is_empty() && self.nodes.is_empty()
    }

    /// Takes in what a change may require.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::Cluster | Change::Network { .. } => self.all = true,
            Change::Node { id, .. } => {
                self.nodes.insert(*id);
            }
            Change::Service { id, .. } => {
                self.services.insert(*id);
            }
            Change::Task { old, new, .. } => {
                self.services.extend(old.iter().chain(new).map(|t| t.service));
            }
        }
    }
}

/// What is to be written, and when to look again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be proposed; `None` when everything is as it should be.
    pub transaction: Option<Transaction>,
    /// When time alone will make something due.
    pub wake_at: Option<Time>,
}

/// Decides what to do for everything that is `dirty`. `ids` draws the bits of a new id.
#[must_use]
pub fn plan(store: &Store, dirty: &Dirty, now: Time, ids: &mut dyn FnMut() -> u128) -> Plan {
    let mut d = draft::Draft::new(store, now, ids);
    let nodes: Vec<NodeId> =
        if dirty.all { store.nodes().map(|n| n.id).collect() } else { dirty.nodes.iter().copied().collect() };
    let mut services = dirty.services.clone();
    if dirty.all {
        services.extend(store.services().map(|s| s.id));
        services.extend(store.services_with_tasks());
    }
    for n in &nodes {
        services.extend(store.tasks_of_node(*n).map(|t| t.service));
    }
    allocate::ingress_addresses(&mut d, &nodes);
    node_down::run(&mut d, dirty.all, &nodes);
    for s in &services {
        if d.is_full() {
            break;
        }
        replicated::run(&mut d, *s);
        rolling_update::run(&mut d, *s);
        restart::release(&mut d, *s);
        reaper::run(&mut d, *s);
    }
    schedule::run(&mut d);
    d.finish()
}

/// Whether a node can no longer run what was given to it.
fn is_lost(store: &Store, node: NodeId) -> bool {
    store.node(node).is_none_or(|n| n.state == NodeState::Down)
}

/// Whether nothing of a task runs any more, as far as anybody can know.
fn has_stopped(store: &Store, t: &skep_types::object::Task) -> bool {
    t.status.state.is_terminal() || t.node.is_none_or(|n| is_lost(store, n))
}

/// Whether a task is meant to run (now or later).
fn is_wanted(t: &skep_types::object::Task) -> bool {
    t.desired <= TaskState::Running
}

#[cfg(test)]
mod tests;
