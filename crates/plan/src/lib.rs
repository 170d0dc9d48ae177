//! The leader's decisions: from a snapshot of the tables to one transaction that creates, addresses and places tasks.
//!
//! Deadlines are data in the objects, so a new leader just continues; planning what is already planned yields nothing. What one
//! event costs depends on what it changed, never on how much there is: the store's indexes answer, and only a new spec looks at
//! a whole service. This crate must never read a clock, draw an id by itself, or remember anything between two calls.

#![deny(unsafe_code)]

pub mod allocate;
pub mod constraint;
mod create;
mod dirty;
mod draft;
mod drain;
mod global;
mod job;
mod node_down;
mod reaper;
mod replicated;
mod restart;
mod rolling_update;
mod schedule;
mod slot;
mod weight;

use std::collections::BTreeSet;

use skep_state::{Store, Transaction};
use skep_types::object::{NodeState, Service, SlotKey, Task};
use skep_types::spec::ServiceMode;
use skep_types::{NodeId, ServiceId, Time};

pub use dirty::Dirty;
pub use restart::should_restart;
pub use rolling_update::{is_left_alone, next_revision};

use draft::Draft;

/// Something that time alone makes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A place of a service.
    Slot(ServiceId, SlotKey),
    /// A node.
    Node(NodeId),
}

/// What is to be written, and when to look again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be proposed; `None` when everything is as it should be.
    pub transaction: Option<Transaction>,
    /// When time alone will make the first of `due` due.
    pub wake_at: Option<Time>,
    /// What to look at then.
    pub due: Vec<(Time, Due)>,
    /// What did not fit and is to be planned next, after `transaction` is applied.
    pub rest: Dirty,
}

/// Decides what to do for everything that is `dirty`. `ids` draws the bits of a new id.
#[must_use]
pub fn plan(store: &Store, dirty: &Dirty, now: Time, ids: &mut dyn FnMut() -> u128) -> Plan {
    let mut d = Draft::new(store, now, ids);
    let mut nodes: BTreeSet<NodeId> = dirty.nodes.clone();
    let (mut services, mut slots) = (dirty.services.clone(), dirty.slots.clone());
    if dirty.all {
        nodes.extend(store.nodes().map(|n| n.id));
        nodes.extend(store.nodes_with_tasks());
        services.extend(store.services().map(|s| s.id));
        services.extend(store.services_with_tasks(ServiceId(0), usize::MAX));
    }
    let nodes: Vec<NodeId> = nodes.into_iter().collect();
    for n in dirty.nodes.iter().filter(|_| !dirty.all) {
        slots.extend(store.tasks_of_node(*n).map(|t| (t.service, t.slot_key())));
        slots.extend(store.globals().map(|s| (s, SlotKey::node(*n))));
    }
    allocate::ingress_addresses(&mut d, &nodes);
    node_down::run(&mut d, &nodes);
    slots.retain(|(s, _)| !services.contains(s));
    // Every service gets its share of the plan, so that none waits for a large one.
    let by_slot: BTreeSet<ServiceId> = slots.iter().map(|(s, _)| *s).collect();
    let mut left = services.len() + by_slot.len();
    for s in &services {
        d.begin_share(left);
        left -= 1;
        whole(&mut d, *s);
    }
    for s in &by_slot {
        d.begin_share(left);
        left -= 1;
        // How many more tasks a replicated job needs depends on all its places: the first one asks for them all.
        let job = store.service(*s).is_some_and(|s| matches!(s.spec.mode, ServiceMode::ReplicatedJob { .. }));
        let keys = slots.range((*s, SlotKey(0))..=(*s, SlotKey(u128::MAX)));
        for (_, key) in keys.take(if job { 1 } else { usize::MAX }) {
            one(&mut d, *s, *key);
        }
        rolling_update::run(&mut d, *s, false);
        drain::run(&mut d, *s);
        reaper::forget_revisions(&mut d, *s);
    }
    d.end_shares();
    services.extend(by_slot);
    let room = dirty.all || dirty.room || !dirty.nodes.is_empty();
    schedule::run(&mut d, if room { None } else { Some(&services) });
    d.finish()
}

/// Brings a whole service to what its spec says.
fn whole(d: &mut Draft<'_>, id: ServiceId) {
    if d.is_full() {
        d.rest.services.insert(id);
        return;
    }
    let Some(service) = d.work.service(id).cloned() else {
        give_up_all(d, id);
        return;
    };
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicated::run(d, &service, replicas),
        ServiceMode::Global => global::run(d, &service),
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            job::run(d, &service, max_concurrent, total_completions);
        }
        ServiceMode::GlobalJob => global::run(d, &service),
    }
    rolling_update::run(d, id, true);
    drain::run(d, id);
    reaper::forget_revisions(d, id);
}

/// Looks after one place of a service.
fn one(d: &mut Draft<'_>, id: ServiceId, key: SlotKey) {
    if d.is_full() {
        d.rest.slots.insert((id, key));
        return;
    }
    let Some(service) = d.work.service(id).cloned() else {
        give_up(d, id, key);
        return;
    };
    match service.spec.mode {
        ServiceMode::Replicated { .. } => {
            tend(d, &service, key, &slot::slot(&d.work, id, key));
            let s = slot::slot(&d.work, id, key);
            if !s.tasks.is_empty() && !replicated::is_filled(d, &service, &s) {
                // Whether there are enough without it is to be counted.
                d.rest.services.insert(id);
            }
        }
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            job::run(d, &service, max_concurrent, total_completions);
        }
        ServiceMode::Global | ServiceMode::GlobalJob => global::one(d, &service, NodeId(key.0)),
    }
    if !service.spec.mode.is_job() && rolling_update::is_ended(&service, &slot::slot(&d.work, id, key)) {
        // Left over from a revision before: a look at the whole begins an update for it.
        d.rest.services.insert(id);
    }
}

/// What every numbered place needs: dead tasks replaced, replacements released, old ones forgotten.
fn tend(d: &mut Draft<'_>, service: &Service, key: SlotKey, s: &slot::Slot) {
    if restart::is_at_rest(d, service, s) {
        return;
    }
    if !service.spec.mode.is_job() && rolling_update::leave_newest(d, service, key) {
        let s = slot::slot(&d.work, service.id, key);
        restart::replace_dead(d, service, &s);
    } else {
        restart::replace_dead(d, service, s);
    }
    restart::release(d, service, key);
    drain::note(d, service, s);
    reaper::run(d, service.id, key);
}

/// Ends all tasks of a service that is gone.
fn give_up_all(d: &mut Draft<'_>, id: ServiceId) {
    let keys: BTreeSet<SlotKey> = d.work.tasks_of_service(id).map(|t| t.slot_key()).collect();
    for key in keys {
        if d.is_full() {
            d.rest.services.insert(id);
            return;
        }
        give_up(d, id, key);
    }
    reaper::forget_revisions(d, id);
}

/// Ends all tasks in one place.
fn give_up(d: &mut Draft<'_>, id: ServiceId, key: SlotKey) {
    let all: Vec<_> = d.work.tasks_of_slot(id, key).map(|t| t.id).collect();
    for t in all {
        d.edit(t, |t| t.desired = skep_types::object::TaskState::Remove);
    }
    reaper::run(d, id, key);
}

/// Whether a node can no longer run what was given to it.
fn is_lost(store: &Store, node: NodeId) -> bool {
    store.node(node).is_none_or(|n| n.state == NodeState::Down)
}

/// Whether nothing of a task runs any more, as far as anybody can know.
fn has_stopped(store: &Store, t: &Task) -> bool {
    t.status.state.is_terminal() || t.node.is_none_or(|n| is_lost(store, n))
}

#[cfg(test)]
mod tests;
