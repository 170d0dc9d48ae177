//! The working copy of a plan: later steps see what earlier ones decided. Must never propose an object that did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_state::{Key, Op, Store, Transaction};
use skep_types::object::{Network, Service, SlotKey, Task};
use skep_types::spec::TaskSpec;
use skep_types::{Ipv4Net, NetworkId, NodeId, ServiceId, TaskId, Time};

use crate::{Dirty, Due, Plan};
use crate::{drain, weight};

/// Most bytes in one plan by estimate, so that the transaction stays below the log's limit of 1.5 MiB. The rest is planned at
/// once afterwards.
const MAX_BYTES: usize = 1 << 20;
/// Bytes that a service may use at least, however many there are: a few hundred tasks, since looking at a service again costs
/// what looking at all its tasks costs. So a plan has room for four services that want more; when they have it, others follow.
const LEAST: usize = 256 << 10;

pub(crate) struct Draft<'a> {
    before: &'a Store,
    /// The tables with everything decided so far.
    pub(crate) work: Store,
    pub(crate) now: Time,
    ids: &'a mut dyn FnMut() -> u128,
    /// The last 64 bits of the ids of all tasks of this plan, once one was made: see [`TaskId`].
    family: Option<u64>,
    touched: BTreeSet<Key>,
    /// Read, and essential for the decision, without being changed.
    relied: BTreeSet<Key>,
    revisions: Vec<Op>,
    due: Vec<(Time, Due)>,
    /// Bytes of everything touched, by estimate.
    bytes: usize,
    /// Whoever is at work may go on until `bytes` reaches this.
    share: usize,
    /// What did not fit into this plan.
    pub(crate) rest: Dirty,
    /// Where to look for the next free address of a network: those below were taken when this plan began.
    cursors: BTreeMap<NetworkId, u32>,
    /// Services that may have tasks to move from nodes that are drained by update order.
    pub(crate) moving: BTreeSet<ServiceId>,
    /// Those nodes, once they were asked for.
    gentle: Option<Vec<NodeId>>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(before: &'a Store, now: Time, ids: &'a mut dyn FnMut() -> u128) -> Self {
        Self {
            before,
            work: before.draft(),
            now,
            ids,
            family: None,
            touched: BTreeSet::new(),
            relied: BTreeSet::new(),
            revisions: Vec::new(),
            due: Vec::new(),
            bytes: 0,
            share: MAX_BYTES,
            rest: Dirty::default(),
            cursors: BTreeMap::new(),
            moving: BTreeSet::new(),
            gentle: None,
        }
    }

    /// Whether nothing more fits into this plan, or into the share of whoever is at work.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.share.min(MAX_BYTES)
    }

    /// Divides what is left of the plan fairly: the next one of `count` begins.
    pub(crate) fn begin_share(&mut self, count: usize) {
        self.share = self.bytes + (MAX_BYTES.saturating_sub(self.bytes) / count.max(1)).max(LEAST);
    }

    /// Nobody's share counts any more, only the whole.
    pub(crate) fn end_shares(&mut self) {
        self.share = MAX_BYTES;
    }

    /// Whether a change of a task costs nothing, since the plan writes it anyway.
    pub(crate) fn is_touched(&self, t: TaskId) -> bool {
        self.touched.contains(&Key::Task(t))
    }

    /// The lowest free address of a network.
    pub(crate) fn address(&mut self, n: &Network) -> Option<Ipv4Net> {
        let from = self.cursors.get(&n.id).copied().unwrap_or(0);
        let found = self.work.free_address(n, from)?;
        self.cursors.insert(n.id, found);
        n.subnet.nth(found).map(|a| Ipv4Net::new(a, n.subnet.prefix))
    }

    /// The nodes that are drained by update order. A plan changes none of that.
    pub(crate) fn gentle_nodes(&mut self) -> Vec<NodeId> {
        self.gentle.get_or_insert_with(|| drain::gentle_nodes(self.work.nodes())).clone()
    }

    /// For a new task: 64 bits of its own, and 64 that it has with the others of this plan.
    pub(crate) fn new_id(&mut self) -> TaskId {
        let drawn = (self.ids)();
        let family = *self.family.get_or_insert(drawn as u64);
        let own = (drawn >> 64) as u64 ^ drawn as u64;
        TaskId(u128::from(own) << 64 | u128::from(family))
    }

    /// Something of a service becomes due at `at` without any event.
    pub(crate) fn wake(&mut self, at: Time, service: ServiceId, slot: SlotKey) {
        self.due.push((at, Due::Slot(service, slot)));
    }

    /// As [`Draft::wake`], for whatever is meant.
    pub(crate) fn wake_for(&mut self, at: Time, what: Due) {
        self.due.push((at, what));
    }

    pub(crate) fn rely_on(&mut self, key: Key) {
        if self.relied.insert(key) {
            self.bytes += weight::READ;
        }
    }

    /// Decides an operation. Returns whether it fits what is decided so far; one that does not is left out.
    pub(crate) fn put(&mut self, key: Key, op: &Op) -> bool {
        if self.work.stage(op, self.now).is_err() {
            return false;
        }
        if self.touched.insert(key) {
            self.bytes += weight::of(op);
        }
        true
    }

    pub(crate) fn put_task(&mut self, t: Task) -> bool {
        self.put(Key::Task(t.id), &Op::PutTask(Box::new(t)))
    }

    pub(crate) fn delete_task(&mut self, id: TaskId) {
        self.put(Key::Task(id), &Op::DeleteTask(id));
    }

    pub(crate) fn put_service(&mut self, s: Service) -> bool {
        self.put(Key::Service(s.id), &Op::PutService(Box::new(s)))
    }

    /// Changes a task that exists.
    pub(crate) fn edit(&mut self, id: TaskId, f: impl FnOnce(&mut Task)) {
        if let Some(old) = self.work.task(id) {
            let mut t = (**old).clone();
            f(&mut t);
            if t != **old {
                self.put_task(t);
            }
        }
    }

    pub(crate) fn put_revision(&mut self, service: ServiceId, revision: u64, spec: Arc<TaskSpec>) {
        let op = Op::PutRevision { service, revision, spec };
        self.bytes += weight::of(&op);
        if self.work.stage(&op, self.now).is_ok() {
            self.revisions.push(op);
        }
    }

    pub(crate) fn delete_revision(&mut self, service: ServiceId, revision: u64) {
        let op = Op::DeleteRevision { service, revision };
        if self.work.stage(&op, self.now).is_ok() {
            self.revisions.push(op);
        }
    }

    /// The transaction: for every touched object its final value.
    pub(crate) fn finish(self) -> Plan {
        let mut reads = Vec::new();
        // A revision is there before its tasks, and goes after them.
        let (forgotten, mut ops): (Vec<_>, Vec<_>) =
            self.revisions.into_iter().partition(|op| matches!(op, Op::DeleteRevision { .. }));
        let (mut deletes, mut services, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for key in &self.touched {
            let Key::Task(id) = key else {
                reads.push((*key, self.before.version(*key)));
                match key {
                    Key::Node(id) => rest.extend(self.work.node(*id).map(|n| Op::PutNode(Box::new((**n).clone())))),
                    Key::Service(id) => {
                        services.extend(self.work.service(*id).map(|s| Op::PutService(Box::new((**s).clone()))));
                    }
                    // Planning never writes the swarm, networks, secrets or configs, and lists revisions apart.
                    Key::Cluster | Key::Network(_) | Key::Revision(..) | Key::Task(_) | Key::File(_) => {}
                }
                continue;
            };
            // Looked up once: among a million tasks that is what costs.
            let (old, new) = (self.before.task(*id), self.work.task(*id));
            if old.is_none() && new.is_none() {
                continue;
            }
            reads.push((*key, old.map(|t| t.meta.version).unwrap_or_default()));
            match new {
                None => deletes.push(Op::DeleteTask(*id)),
                Some(new) if old != Some(new) => rest.push(Op::PutTask(Box::new((**new).clone()))),
                Some(_) => {}
            }
        }
        // What frees names and addresses goes first: dropped tasks, then tasks that ended, then services, then the rest.
        rest.sort_by_key(|op| match op {
            Op::PutTask(t) => u8::from(!t.status.state.is_terminal()),
            _ => 0,
        });
        ops.extend(deletes);
        ops.extend(services);
        ops.extend(rest);
        ops.extend(forgotten);
        let wake_at = self.due.iter().map(|(at, _)| *at).min();
        let mut plan = Plan { transaction: None, wake_at, due: self.due, rest: self.rest };
        if !ops.is_empty() {
            reads.extend(self.relied.difference(&self.touched).map(|k| (*k, self.before.version(*k))));
            plan.transaction = Some(Transaction::new(self.now, reads, ops));
        }
        plan
    }
}
