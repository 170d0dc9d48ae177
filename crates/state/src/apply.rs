//! Applying a transaction: all of it or nothing, and the same on every manager. Must never depend on anything but its
//! arguments.

use std::sync::Arc;

use skep_types::control::newer;
use skep_types::object::{Meta, Service, Task, TaskState, Version};
use skep_types::spec::TaskSpec;
use skep_types::{ServiceId, Time};

use crate::{Change, Op, Refused, Store, Transaction};

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
        let mut next = self.clone();
        let mut changes = Vec::new();
        for op in &t.ops {
            changes.extend(next.write(op, Some(index), t.time)?);
        }
        next.keep_unknown(t);
        *self = next;
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
                self.put_revision(*service, *revision, spec.clone());
                Ok(None)
            }
            Op::DeleteRevision { service, revision } => {
                self.revisions.remove(&(*service, *revision));
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
                let old = self.tasks.remove(id);
                if let Some(o) = &old {
                    self.index.remove_task(o, self.revisions.get(&(o.service, o.revision)).map(|s| &**s));
                }
                Ok(old.map(|o| Change::Task { id: *id, old: Some(o), new: None }))
            }
            Op::DeleteNetwork(id) => {
                self.is_unused(|s| s.spec.task.networks.iter().any(|n| n.target == *id))?;
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

    /// Refuses to take away what a service names, which may have come to be since the removal was decided.
    fn is_unused(&self, by: impl Fn(&Service) -> bool) -> Result<(), Refused> {
        match self.services.values().find(|s| by(s)) {
            Some(s) => Err(Refused::InUse { by: s.id }),
            None => Ok(()),
        }
    }

    /// The loads of nodes are sums over specs, so a spec must not change under the tasks that run it.
    fn put_revision(&mut self, service: ServiceId, revision: u64, spec: Arc<TaskSpec>) {
        let key = (service, revision);
        let Some(old) = self.revisions.get(&key).cloned().filter(|o| o.resources != spec.resources) else {
            self.revisions.insert(key, spec);
            return;
        };
        let tasks: Vec<Arc<Task>> = self.tasks_of_service(service).filter(|t| t.revision == revision).cloned().collect();
        tasks.iter().for_each(|t| self.index.remove_task(t, Some(&old)));
        tasks.iter().for_each(|t| self.index.add_task(t, Some(&spec)));
        self.revisions.insert(key, spec);
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
        match &old {
            Some(o) => self.index.change_task(o, &t, spec),
            None => self.index.add_task(&t, spec),
        }
        let new = Arc::new(t);
        self.tasks.insert(id, new.clone());
        Ok(Change::Task { id, old, new: Some(new) })
    }
}

#[cfg(test)]
mod tests;
