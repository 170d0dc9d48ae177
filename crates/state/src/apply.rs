//! Applying a transaction: all of it or nothing, and the same on every manager. Must never depend on anything but its
//! arguments.

use std::sync::Arc;

use imbl::OrdMap;
use skep_types::control::newer;
use skep_types::object::{Cluster, Meta, Service, Task, TaskState, Version};
use skep_types::spec::TaskSpec;
use skep_types::{ServiceId, Time};

use crate::{Change, Op, Refused, Store, Transaction};

/// What undoing an operation needs besides its change.
enum Step {
    /// Nothing; an operation that found its object as it should be made no change either.
    Object,
    Cluster(Option<Arc<Cluster>>),
    Revision((ServiceId, u64), Option<Arc<TaskSpec>>),
}

fn set<K: Ord + Clone, V: Clone>(table: &mut OrdMap<K, V>, id: K, value: Option<V>) {
    match value {
        Some(value) => drop(table.insert(id, value)),
        None => drop(table.remove(&id)),
    }
}

/// The stamp for an object written now.
fn stamp(old: Option<Meta>, version: Option<u64>, time: Time) -> Meta {
    Meta {
        version: version.map_or_else(|| old.map_or(Version(0), |m| m.version), Version),
        created_at: old.map_or(time, |m| m.created_at),
        updated_at: time,
    }
}

impl Store {
    /// Applies the transaction that the log holds at `index` and tells what changed. Refused, it changes nothing but
    /// [`Store::applied`].
    ///
    /// # Errors
    /// [`Refused`].
    pub fn apply(&mut self, index: u64, t: &Transaction) -> Result<Vec<Change>, Refused> {
        self.applied = index;
        if let Some((key, _)) = t.reads.iter().find(|(key, version)| self.version(*key) != *version) {
            return Err(Refused::Stale { key: *key });
        }
        // In place: what no snapshot shares is not copied. Refusals are rare, and taken back step by step.
        let (mut changes, mut steps) = (Vec::new(), Vec::new());
        for op in &t.ops {
            let step = self.before(op);
            match self.write(op, Some(index), t.time) {
                Ok(change) => {
                    steps.push((step, change.is_some()));
                    changes.extend(change);
                }
                Err(e) => {
                    for (step, changed) in steps.into_iter().rev() {
                        self.take_back(step, if changed { changes.pop() } else { None });
                    }
                    return Err(e);
                }
            }
        }
        self.keep_unknown(t);
        Ok(changes)
    }

    /// Applies one operation to a private copy, as planning does; versions stay as they were.
    ///
    /// # Errors
    /// [`Refused`]; the copy is unchanged then.
    pub fn stage(&mut self, op: &Op, time: Time) -> Result<(), Refused> {
        self.write(op, None, time).map(|_| ())
    }

    fn write(&mut self, op: &Op, version: Option<u64>, time: Time) -> Result<Option<Change>, Refused> {
        match op {
            Op::PutCluster(c) => {
                let mut c = (**c).clone();
                c.meta = stamp(self.cluster.as_ref().map(|o| o.meta), version, time);
                self.cluster = Some(Arc::new(c));
                Ok(Some(Change::Cluster))
            }
            Op::PutNode(n) => {
                let mut n = (**n).clone();
                let (id, old) = (n.id, self.nodes.get(&n.id).cloned());
                n.meta = stamp(old.as_ref().map(|o| o.meta), version, time);
                self.index.check_node(&n)?;
                if let Some(o) = &old {
                    self.index.remove_node(o);
                }
                self.index.add_node(&n);
                let new = Arc::new(n);
                self.nodes.insert(id, new.clone());
                Ok(Some(Change::Node { id, old, new: Some(new) }))
            }
            Op::PutService(s) => {
                let mut s = (**s).clone();
                let (id, old) = (s.id, self.services.get(&s.id).cloned());
                s.meta = stamp(old.as_ref().map(|o| o.meta), version, time);
                let services = &self.services;
                let name_of = |id| services.get(&id).map(|s| s.spec.name.clone()).unwrap_or_default();
                self.index.check_service(&s, name_of)?;
                if let Some(o) = &old {
                    self.index.remove_service(o);
                }
                self.index.add_service(&s);
                let new = Arc::new(s);
                self.services.insert(id, new.clone());
                Ok(Some(Change::Service { id, old, new: Some(new) }))
            }
            Op::PutTask(t) => self.put_task((**t).clone(), version, time).map(Some),
            Op::PutNetwork(n) => {
                let mut n = (**n).clone();
                let (id, old) = (n.id, self.networks.get(&n.id).cloned());
                n.meta = stamp(old.as_ref().map(|o| o.meta), version, time);
                self.index.check_network(&n, self.networks.values().map(|n| (**n).clone()))?;
                if let Some(o) = &old {
                    self.index.remove_network(o);
                }
                self.index.add_network(&n);
                let new = Arc::new(n);
                self.networks.insert(id, new.clone());
                Ok(Some(Change::Network { id, old, new: Some(new) }))
            }
            Op::PutRevision { service, revision, spec } => {
                self.set_revision((*service, *revision), Some(spec.clone()));
                Ok(None)
            }
            Op::DeleteRevision { service, revision } => {
                self.set_revision((*service, *revision), None);
                Ok(None)
            }
            Op::DeleteNode(id) => {
                let old = self.nodes.remove(id);
                if let Some(o) = &old {
                    self.index.remove_node(o);
                }
                Ok(old.map(|o| Change::Node { id: *id, old: Some(o), new: None }))
            }
            Op::DeleteService(id) => {
                let old = self.services.remove(id);
                if let Some(o) = &old {
                    self.index.remove_service(o);
                }
                Ok(old.map(|o| Change::Service { id: *id, old: Some(o), new: None }))
            }
            Op::DeleteTask(id) => {
                let old = self.tasks.get(id).cloned();
                if let Some(o) = &old {
                    self.tasks.remove(id);
                    self.index.remove_task(o, self.revisions.get(&(o.service, o.revision)).map(|s| &**s));
                }
                Ok(old.map(|o| Change::Task { id: *id, old: Some(o), new: None }))
            }
            Op::DeleteNetwork(id) => {
                self.is_unused(|s| s.spec.task.networks.iter().any(|n| n.target == *id))?;
                if let Some((node, held)) = self.attached(*id).next() {
                    return Err(Refused::Attached { node, container: held.container.chars().take(12).collect() });
                }
                let old = self.networks.remove(id);
                if let Some(o) = &old {
                    self.index.remove_network(o);
                }
                Ok(old.map(|o| Change::Network { id: *id, old: Some(o), new: None }))
            }
            Op::PutFile(f) => {
                let mut f = (**f).clone();
                let (id, old) = (f.id, self.files.get(&f.id).cloned());
                f.meta = stamp(old.as_ref().map(|o| o.meta), version, time);
                self.index.check_file(&f)?;
                if let Some(o) = &old {
                    self.index.remove_file(o);
                }
                self.index.add_file(&f);
                let new = Arc::new(f);
                self.files.insert(id, new.clone());
                Ok(Some(Change::File { id, old, new: Some(new) }))
            }
            Op::DeleteFile(id) => {
                self.is_unused(|s| s.spec.task.container.files.iter().any(|f| f.id == *id))?;
                let old = self.files.remove(id);
                if let Some(o) = &old {
                    self.index.remove_file(o);
                }
                Ok(old.map(|o| Change::File { id: *id, old: Some(o), new: None }))
            }
            Op::Status { node, report } => {
                let Some(old) = self.tasks.get(&report.task) else { return Ok(None) };
                if old.node != Some(*node) || !newer(&report.status, &old.status) {
                    return Ok(None);
                }
                let mut t = (**old).clone();
                t.status = report.status.clone();
                self.put_task(t, version, time).map(Some)
            }
            Op::NodeState { node, state, message } => {
                let Some(old) = self.nodes.get(node) else { return Ok(None) };
                if old.state == *state && old.message == *message {
                    return Ok(None);
                }
                let mut n = (**old).clone();
                n.state = *state;
                n.message.clone_from(message);
                self.write(&Op::PutNode(Box::new(n)), version, time)
            }
        }
    }

    /// What `op` is about to change that a [`Change`] does not hold.
    fn before(&self, op: &Op) -> Step {
        match op {
            Op::PutCluster(_) => Step::Cluster(self.cluster.clone()),
            Op::PutRevision { service, revision, .. } | Op::DeleteRevision { service, revision } => {
                let key = (*service, *revision);
                Step::Revision(key, self.revisions.get(&key).cloned())
            }
            _ => Step::Object,
        }
    }

    /// Undoes the last operation that is not undone yet, with the change that it made, if any.
    fn take_back(&mut self, step: Step, change: Option<Change>) {
        match step {
            Step::Cluster(old) => self.cluster = old,
            Step::Revision(key, old) => self.set_revision(key, old),
            Step::Object => {}
        }
        match change {
            None | Some(Change::Cluster) => {}
            Some(Change::Task { id, old, new }) => {
                let spec = new.iter().chain(&old).find_map(|t| self.revisions.get(&(t.service, t.revision))).cloned();
                self.index.replace_task(new.as_deref(), old.as_deref(), spec.as_deref());
                match old {
                    Some(old) => self.tasks.put(id, old),
                    None => self.tasks.remove(&id),
                }
            }
            Some(Change::Node { id, old, new }) => {
                new.iter().for_each(|n| self.index.remove_node(n));
                old.iter().for_each(|n| self.index.add_node(n));
                set(&mut self.nodes, id, old);
            }
            Some(Change::Service { id, old, new }) => {
                new.iter().for_each(|s| self.index.remove_service(s));
                old.iter().for_each(|s| self.index.add_service(s));
                set(&mut self.services, id, old);
            }
            Some(Change::Network { id, old, new }) => {
                new.iter().for_each(|n| self.index.remove_network(n));
                old.iter().for_each(|n| self.index.add_network(n));
                set(&mut self.networks, id, old);
            }
            Some(Change::File { id, old, new }) => {
                new.iter().for_each(|f| self.index.remove_file(f));
                old.iter().for_each(|f| self.index.add_file(f));
                set(&mut self.files, id, old);
            }
        }
    }

    /// Refuses to take away what a service names, which may have come to be since the removal was decided.
    fn is_unused(&self, by: impl Fn(&Service) -> bool) -> Result<(), Refused> {
        match self.services.values().find(|s| by(s)) {
            Some(s) => Err(Refused::InUse { by: s.id }),
            None => Ok(()),
        }
    }

    /// The loads of nodes are sums over specs, so tasks that run a spec are counted anew when it changes.
    fn set_revision(&mut self, key: (ServiceId, u64), spec: Option<Arc<TaskSpec>>) {
        let (service, revision) = key;
        let old = self.revisions.get(&key).cloned();
        let takes = |s: &Option<Arc<TaskSpec>>| s.as_ref().map(|s| s.resources.clone()).unwrap_or_default();
        if self.is_in_use(service, revision) && takes(&old) != takes(&spec) {
            let tasks: Vec<Arc<Task>> = self.tasks_of_service(service).filter(|t| t.revision == revision).cloned().collect();
            tasks.iter().for_each(|t| self.index.remove_task(t, old.as_deref()));
            tasks.iter().for_each(|t| self.index.add_task(t, spec.as_deref()));
        }
        set(&mut self.revisions, key, spec);
    }

    fn put_task(&mut self, mut t: Task, version: Option<u64>, time: Time) -> Result<Change, Refused> {
        let (id, old) = (t.id, self.tasks.get(&t.id).cloned());
        t.meta = stamp(old.as_ref().map(|o| o.meta), version, time);
        if let Some(o) = &old {
            let moved = o.node.is_some() && t.node != o.node;
            let other = (t.service, t.revision, t.pinned) != (o.service, o.revision, o.pinned);
            if t.status.state < o.status.state || t.desired < o.desired || moved || other {
                return Err(Refused::Backwards { task: id });
            }
        }
        if t.running_since.is_none() && t.status.state == TaskState::Running {
            t.running_since = Some(time);
        }
        self.index.check_task(&t)?;
        // A task does not change its revision, so both are counted by the same spec.
        let spec = self.revisions.get(&(t.service, t.revision)).map(|s| &**s);
        self.index.replace_task(old.as_deref(), Some(&t), spec);
        let new = Arc::new(t);
        self.tasks.put(id, new.clone());
        Ok(Change::Task { id, old, new: Some(new) })
    }
}

#[cfg(test)]
mod tests;
