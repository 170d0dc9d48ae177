//! What an agent was told, and what it does not know yet. Pure. Must never leave out a change, nor tell one twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_state::{Change, Store};
use skep_types::control::{Assignment, KnownTask};
use skep_types::dataplane::DataPlane;
use skep_types::file::{DriverAnswer, FileSpec, StoredFile};
use skep_types::object::{Node, TaskState};
use skep_types::session::ManagerMessage;
use skep_types::spec::{PortConfig, Role};
use skep_types::{FileId, NodeId, ServiceId, TaskId};

use super::{assignments, dataplane, drain};
use crate::rotation::CertNews;
use crate::tables::News;

/// What counts as a change of an assignment.
type Key = (TaskState, Vec<PortConfig>);

fn key(a: &Assignment) -> Key {
    (a.task.desired, a.ports.clone())
}

/// What one agent was told last.
pub(crate) struct Told {
    node: NodeId,
    tasks: BTreeMap<TaskId, Key>,
    /// What it brought along from an earlier session, with the state it has observed of each task.
    known: Vec<KnownTask>,
    /// Digest of its data plane.
    plane: u64,
    /// Secrets and configs that it has.
    files: BTreeSet<FileId>,
    /// Secrets of drivers that were asked for on behalf of its tasks; each once, whatever the driver says.
    asked: BTreeSet<(TaskId, FileId)>,
    /// Those of them that are still to be asked for.
    asks: Vec<(TaskId, FileId)>,
    managers: Vec<(NodeId, String)>,
    role: Role,
    certificates: CertNews,
    /// The last change that took one of its tasks out of service, until the agent was told that all nodes follow it.
    pub(crate) drain: Option<u64>,
}

impl Told {
    /// An agent with a certificate for `role` that brings along `known`, a data plane with the digest `plane`, and `files`.
    pub(crate) fn new(node: NodeId, role: Role, known: Vec<KnownTask>, plane: u64, files: Vec<FileId>) -> Self {
        let tasks = known.iter().map(|k| (k.task, (k.desired, k.ports.clone()))).collect();
        let files = files.into_iter().collect();
        let (asked, asks) = (BTreeSet::new(), Vec::new());
        let certificates = CertNews::default();
        Self { node, tasks, known, plane, files, asked, asks, managers: Vec::new(), role, certificates, drain: None }
    }

    /// The first messages of a session. `planes` makes the agent's data plane, at least as new as `store`. The data plane comes before the tasks that need it.
    pub(crate) fn begin(&mut self, store: &Store, planes: &dyn Fn() -> DataPlane) -> Vec<ManagerMessage> {
        let mut out = self.managers(store);
        out.extend(self.plane(planes));
        out.push(ManagerMessage::Follow { index: store.applied() });
        out.extend(self.files(store));
        let all = assignments::of_node(store, self.node);
        if self.known.is_empty() {
            self.tasks = all.iter().map(|a| (a.task.id, key(a))).collect();
            out.push(ManagerMessage::Complete { assignments: all });
        } else {
            // Reports that the managers have lost, as after a restored backup, must be made again.
            let ahead: BTreeMap<TaskId, TaskState> = self.known.drain(..).map(|k| (k.task, k.state)).collect();
            let lost = |a: &Assignment| ahead.get(&a.task.id).is_some_and(|s| *s > a.task.status.state);
            let now: BTreeMap<TaskId, Key> = all.iter().map(|a| (a.task.id, key(a))).collect();
            let remove = self.tasks.keys().filter(|t| !now.contains_key(t)).copied().collect();
            let put = all.into_iter().filter(|a| lost(a) || self.tasks.get(&a.task.id) != now.get(&a.task.id)).collect();
            self.tasks = now;
            // Sent even if empty: it tells the agent that it knows everything now.
            out.push(ManagerMessage::Changes { put, remove });
        }
        out.extend(self.role(store));
        out.extend(self.certificates(store));
        out
    }

    /// What the changes mean for this agent.
    pub(crate) fn differences(&mut self, store: &Store, news: &News, planes: &dyn Fn() -> DataPlane) -> Vec<ManagerMessage> {
        let changes = match news {
            News::Changes(c) => c,
            News::Restart => {
                let mut out = self.managers(store);
                out.extend(self.plane(planes));
                out.push(self.follow(store, true));
                out.extend(self.files(store));
                out.extend(self.all(store));
                out.extend(self.role(store));
                out.extend(self.certificates(store));
                return out;
            }
        };
        let (mut tasks, mut services) = (Vec::new(), Vec::<ServiceId>::new());
        let (mut plane, mut nodes, mut certificates) = (false, false, false);
        let mut drains = None;
        for c in changes.iter().flat_map(|c| c.iter()) {
            plane |= dataplane::affected(c);
            if let Some(node) = drain::drains(c) {
                drains = Some(drains.unwrap_or(false) || node == self.node);
            }
            match c {
                Change::Task { id, old, new } => {
                    if old.iter().chain(new).any(|t| t.node == Some(self.node)) {
                        tasks.push(*id);
                    }
                }
                Change::Service { id, .. } => services.push(*id),
                Change::Node { id, old, new } => {
                    nodes |= told_of(old.as_deref()) != told_of(new.as_deref());
                    certificates |= *id == self.node;
                }
                Change::Cluster => certificates = true,
                Change::Network { .. } | Change::File { .. } => {}
            }
        }
        for s in services {
            // Ports of a service may have changed for its tasks here.
            tasks.extend(store.tasks_of_service(s).filter(|t| t.node == Some(self.node)).map(|t| t.id));
        }
        let mut out = Vec::new();
        if nodes {
            out.extend(self.managers(store));
        }
        if plane {
            out.extend(self.plane(planes));
        }
        // Before the tasks, so that one which is to be stopped knows what to wait for.
        out.extend(drains.map(|own| self.follow(store, own)));
        if !tasks.is_empty() {
            out.extend(self.files(store));
        }
        out.extend(self.some(store, tasks));
        if nodes {
            out.extend(self.role(store));
        }
        if certificates {
            out.extend(self.certificates(store));
        }
        out
    }

    /// Asks the agent to tell when it follows; `own` if a task of its own waits for all to follow.
    fn follow(&mut self, store: &Store, own: bool) -> ManagerMessage {
        let index = store.applied();
        if own {
            self.drain = Some(index);
        }
        ManagerMessage::Follow { index }
    }

    fn all(&mut self, store: &Store) -> Option<ManagerMessage> {
        let ids = self.tasks.keys().copied().chain(store.tasks_of_node(self.node).map(|t| t.id)).collect();
        self.some(store, ids)
    }

    /// The differences in these tasks, which may be others' or gone.
    fn some(&mut self, store: &Store, mut ids: Vec<TaskId>) -> Option<ManagerMessage> {
        ids.sort_unstable();
        ids.dedup();
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for id in ids {
            match assignments::of_task(store, self.node, id) {
                Some(a) => {
                    let k = key(&a);
                    if self.tasks.get(&id) != Some(&k) {
                        self.tasks.insert(id, k);
                        put.push(a);
                    }
                }
                None => {
                    if self.tasks.remove(&id).is_some() {
                        remove.push(id);
                    }
                }
            }
        }
        (!put.is_empty() || !remove.is_empty()).then_some(ManagerMessage::Changes { put, remove })
    }

    /// The secrets and configs that this node's tasks need, one in a message since they may be large, and those that none needs
    /// any more (`swarm-semantics` 7).
    fn files(&mut self, store: &Store) -> Vec<ManagerMessage> {
        if !store.has_files() && self.files.is_empty() {
            return Vec::new();
        }
        let assignments::Needed { kept: mut needed, driven } = assignments::files_of_node(store, self.node);
        let new = needed.iter().filter(|id| !self.files.contains(id)).filter_map(|id| store.file(*id));
        let mut out: Vec<ManagerMessage> = new.map(|f| ManagerMessage::File(f.clone())).collect();
        self.asked.retain(|pair| driven.contains_key(pair));
        for ((task, file), starts) in driven {
            let has: Vec<FileId> =
                [file, StoredFile::id_for(file, task)].into_iter().filter(|id| self.files.contains(id)).collect();
            if has.is_empty() && starts && self.asked.insert((task, file)) {
                self.asks.push((task, file));
            }
            needed.extend(has);
        }
        let old: Vec<FileId> = self.files.difference(&needed).copied().collect();
        if !old.is_empty() {
            out.push(ManagerMessage::ForgetFiles(old));
        }
        self.files = needed;
        out
    }

    /// Secrets that drivers must be asked for now.
    pub(crate) fn take_asks(&mut self) -> Vec<(TaskId, FileId)> {
        std::mem::take(&mut self.asks)
    }

    /// What the agent is told of a driver's answer; `refusals` if it knows what a refusal is.
    pub(crate) fn driven(
        &mut self,
        store: &Store,
        (task, file): (TaskId, FileId),
        answer: Result<DriverAnswer, String>,
        refusals: bool,
    ) -> Option<ManagerMessage> {
        // The task may have ended meanwhile.
        let stored = store.file(file).filter(|_| self.asked.contains(&(task, file)))?;
        match answer {
            Ok(DriverAnswer { data, once }) => {
                let id = if once { StoredFile::id_for(file, task) } else { file };
                let new = self.files.insert(id);
                let spec = FileSpec { data, ..stored.spec.clone() };
                new.then(|| ManagerMessage::File(Arc::new(StoredFile { id, spec, ..(**stored).clone() })))
            }
            Err(why) => refusals.then_some(ManagerMessage::FileRefused { task, file, why }),
        }
    }

    fn managers(&mut self, store: &Store) -> Vec<ManagerMessage> {
        let managers: Vec<_> = store.nodes().filter_map(|n| n.manager.as_ref().map(|m| (n.id, m.addr.clone()))).collect();
        if self.managers == managers {
            return Vec::new();
        }
        self.managers.clone_from(&managers);
        vec![ManagerMessage::Managers(managers)]
    }

    fn plane(&mut self, planes: &dyn Fn() -> DataPlane) -> Option<ManagerMessage> {
        let plane = planes();
        let digest = plane.digest();
        if std::mem::replace(&mut self.plane, digest) == digest {
            return None;
        }
        Some(ManagerMessage::DataPlane(Box::new(plane)))
    }

    fn certificates(&mut self, store: &Store) -> Vec<ManagerMessage> {
        let now = CertNews::of(store, self.node);
        let out = now.since(&self.certificates);
        self.certificates = now;
        out
    }

    fn role(&mut self, store: &Store) -> Option<ManagerMessage> {
        let role = store.node(self.node)?.role;
        (std::mem::replace(&mut self.role, role) != role).then_some(ManagerMessage::RoleChanged { role })
    }
}

/// What agents are told of a node besides its address in the data plane.
fn told_of(n: Option<&Node>) -> Option<(Role, Option<&str>)> {
    n.map(|n| (n.role, n.manager.as_ref().map(|m| m.addr.as_str())))
}
