//! The working copy of a plan: later steps see what earlier ones decided. Must never propose an object that did not change.

use std::collections::BTreeSet;
use std::sync::Arc;

use skep_state::{Key, Op, Store, Transaction};
use skep_types::object::{Service, Task};
use skep_types::spec::TaskSpec;
use skep_types::{ServiceId, TaskId, Time};

use crate::Plan;

/// Most objects in one plan, so that the transaction stays below the log's limit of 1.5 MiB at about 1 KiB an object. The
/// rest is planned at once afterwards.
const MAX_OBJECTS: usize = 1000;

pub(crate) struct Draft<'a> {
    before: &'a Store,
    /// The tables with everything decided so far.
    pub(crate) work: Store,
    pub(crate) now: Time,
    ids: &'a mut dyn FnMut() -> u128,
    touched: BTreeSet<Key>,
    /// Read, and essential for the decision, without being changed.
    relied: BTreeSet<Key>,
    revisions: Vec<Op>,
    wake_at: Option<Time>,
    more: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(before: &'a Store, now: Time, ids: &'a mut dyn FnMut() -> u128) -> Self {
        Self {
            before,
            work: before.clone(),
            now,
            ids,
            touched: BTreeSet::new(),
            relied: BTreeSet::new(),
            revisions: Vec::new(),
            wake_at: None,
            more: false,
        }
    }

    /// Whether the plan must be cut here. Remembers that there is more to do.
    pub(crate) fn is_full(&mut self) -> bool {
        self.more |= self.touched.len() >= MAX_OBJECTS;
        self.more
    }

    pub(crate) fn new_id(&mut self) -> u128 {
        (self.ids)()
    }

    /// Something becomes due at `at` without any event.
    pub(crate) fn wake(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }

    pub(crate) fn rely_on(&mut self, key: Key) {
        self.relied.insert(key);
    }

    /// Decides an operation. Returns whether it fits what is decided so far; one that does not is left out.
    pub(crate) fn put(&mut self, key: Key, op: &Op) -> bool {
        let mut next = self.work.clone();
        if next.stage(op, self.now).is_err() {
            return false;
        }
        self.work = next;
        self.touched.insert(key);
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
        let mut ops = self.revisions;
        let (mut deletes, mut services, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for key in &self.touched {
            reads.push((*key, self.before.version(*key)));
            match key {
                // Planning never writes the swarm or networks.
                Key::Cluster | Key::Network(_) => {}
                Key::Node(id) => rest.extend(self.work.node(*id).map(|n| Op::PutNode(Box::new((**n).clone())))),
                Key::Service(id) => {
                    services.extend(self.work.service(*id).map(|s| Op::PutService(Box::new((**s).clone()))));
                }
                Key::Task(id) => match (self.before.task(*id), self.work.task(*id)) {
                    (Some(_), None) => deletes.push(Op::DeleteTask(*id)),
                    (None, None) => {
                        reads.pop();
                    }
                    (old, Some(new)) if old != Some(new) => rest.push(Op::PutTask(Box::new((**new).clone()))),
                    _ => {}
                },
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
        if ops.is_empty() {
            return Plan { transaction: None, wake_at: if self.more { Some(self.now) } else { self.wake_at } };
        }
        reads.extend(self.relied.difference(&self.touched).map(|k| (*k, self.before.version(*k))));
        let wake_at = if self.more { Some(self.now) } else { self.wake_at };
        Plan { transaction: Some(Transaction { time: self.now, reads, ops }), wake_at }
    }
}
