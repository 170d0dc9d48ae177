//! Placing tasks (`swarm-semantics` 5): filters in the reference's order with its texts, then spread. Must never move a task
//! that has a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skep_state::Key;
use skep_types::object::{Node, Task, TaskState};
use skep_types::spec::{PublishMode, TaskSpec};
use skep_types::{NodeId, ServiceId, TaskId};

use crate::constraint::fits_all;
use crate::draft::Draft;

/// Failures that count against a node are this young …
const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);
/// … and count from this number on.
const FAILURES: usize = 5;

/// A node and what is on it.
struct Host {
    node: Arc<Node>,
    tasks: BTreeMap<TaskId, Arc<Task>>,
}

impl Host {
    fn active(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values().filter(|t| t.desired <= TaskState::Complete && !t.status.state.is_terminal())
    }

    fn rank(&self, d: &Draft<'_>, service: ServiceId, revision: u64) -> (usize, usize, usize, NodeId) {
        let failed = self
            .tasks
            .values()
            .filter(|t| t.service == service && t.revision == revision)
            .filter(|t| matches!(t.status.state, TaskState::Failed | TaskState::Rejected))
            .filter(|t| d.now.since(t.status.timestamp) < FAILURE_WINDOW)
            .count();
        let failures = if failed >= FAILURES { failed } else { 0 };
        let own = self.active().filter(|t| t.service == service).count();
        (failures, own, self.active().count(), self.node.id)
    }
}

/// Filters, in the reference's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Filter {
    Ready,
    Resource,
    Constraint,
    Platform,
    HostPort,
    MaxReplicas,
}

impl Filter {
    fn explain(self, n: usize) -> String {
        let nodes = if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
        match self {
            Self::Ready => format!("{nodes} not available for new tasks"),
            Self::Resource => format!("insufficient resources on {nodes}"),
            Self::Constraint => format!("scheduling constraints not satisfied on {nodes}"),
            Self::Platform => format!("unsupported platform on {nodes}"),
            Self::HostPort => format!("host-mode port already in use on {nodes}"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        }
    }
}

pub(crate) fn run(d: &mut Draft<'_>) {
    let mut groups: BTreeMap<(ServiceId, u64), Vec<Arc<Task>>> = BTreeMap::new();
    for t in d.work.unplaced() {
        groups.entry((t.service, t.revision)).or_default().push(t.clone());
    }
    if groups.is_empty() {
        return;
    }
    let mut hosts: Vec<Host> = d
        .work
        .nodes()
        .map(|n| Host { node: n.clone(), tasks: d.work.tasks_of_node(n.id).map(|t| (t.id, t.clone())).collect() })
        .collect();
    for ((service, revision), mut tasks) in groups {
        tasks.sort_by_key(|t| (t.slot, t.id));
        let Some(spec) = d.work.revision(service, revision).cloned() else { continue };
        for t in tasks {
            if d.is_full() {
                return;
            }
            place(d, &mut hosts, &spec, &t);
        }
    }
}

fn place(d: &mut Draft<'_>, hosts: &mut [Host], spec: &TaskSpec, t: &Arc<Task>) {
    if t.status.state < TaskState::Pending {
        // Its addresses could not be had before; perhaps they can now.
        readdress(d, t);
    }
    let Some(t) = d.work.task(t.id).cloned().filter(|t| t.status.state >= TaskState::Pending) else { return };
    let mut refused: BTreeMap<Filter, usize> = BTreeMap::new();
    let mut best: Option<((usize, usize, usize, NodeId), usize)> = None;
    for (i, h) in hosts.iter().enumerate() {
        match failing(d, h, spec, &t) {
            Some(f) => *refused.entry(f).or_default() += 1,
            None => {
                let rank = h.rank(d, t.service, t.revision);
                if best.as_ref().is_none_or(|(b, _)| rank < *b) {
                    best = Some((rank, i));
                }
            }
        }
    }
    let now = d.now;
    let Some((_, i)) = best else {
        let err = explanation(&refused);
        if t.status.err.as_deref() != Some(&err) {
            d.edit(t.id, |t| {
                t.status.err = Some(err);
                t.status.timestamp = now;
            });
        }
        return;
    };
    let node = hosts[i].node.id;
    d.rely_on(Key::Node(node));
    d.edit(t.id, |t| {
        t.node = Some(node);
        t.status.state = TaskState::Assigned;
        t.status.message = "scheduler assigned task to node".into();
        t.status.err = None;
        t.status.timestamp = now;
    });
    if let Some(t) = d.work.task(t.id) {
        hosts[i].tasks.insert(t.id, t.clone());
    }
}

fn readdress(d: &mut Draft<'_>, t: &Arc<Task>) {
    let Some(service) = d.work.service(t.service).cloned() else { return };
    let Some(spec) = d.work.revision(t.service, t.revision).cloned() else { return };
    let ingress = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    let mut next = (**t).clone();
    if crate::allocate::task(&d.work, ingress, &spec, &mut next).is_ok() {
        next.status.state = TaskState::Pending;
        next.status.message = "pending task scheduling".into();
        next.status.err = None;
        next.status.timestamp = d.now;
        d.put_task(next);
    }
}

fn explanation(refused: &BTreeMap<Filter, usize>) -> String {
    if refused.is_empty() {
        return "no suitable node".into();
    }
    let mut all: Vec<_> = refused.iter().collect();
    all.sort_by_key(|(f, n)| (std::cmp::Reverse(**n), **f));
    let texts: Vec<_> = all.into_iter().map(|(f, n)| f.explain(*n)).collect();
    format!("no suitable node ({})", texts.join("; "))
}

/// The first filter that a node does not pass.
fn failing(d: &Draft<'_>, h: &Host, spec: &TaskSpec, t: &Task) -> Option<Filter> {
    if !h.node.takes_tasks() {
        return Some(Filter::Ready);
    }
    let r = &spec.resources;
    if r.reserve_nano_cpus > 0 || r.reserve_memory > 0 {
        let (mut cpus, mut memory) = (r.reserve_nano_cpus, r.reserve_memory);
        for o in h.tasks.values().filter(|o| !o.status.state.is_terminal()) {
            if let Some(s) = d.work.revision(o.service, o.revision) {
                cpus = cpus.saturating_add(s.resources.reserve_nano_cpus);
                memory = memory.saturating_add(s.resources.reserve_memory);
            }
        }
        let about = &h.node.description;
        let short = (r.reserve_nano_cpus > 0 && cpus > about.nano_cpus) || (r.reserve_memory > 0 && memory > about.memory);
        if short {
            return Some(Filter::Resource);
        }
    }
    if !fits_all(&spec.placement.constraints, &h.node) {
        return Some(Filter::Constraint);
    }
    if !fits_platform(&spec.placement.platforms, &h.node) {
        return Some(Filter::Platform);
    }
    let wanted = host_ports(d, t.service);
    if !wanted.is_empty() {
        let used: BTreeSet<_> = h
            .tasks
            .values()
            .filter(|o| o.id != t.id && !o.status.state.is_terminal())
            .flat_map(|o| host_ports(d, o.service))
            .collect();
        if wanted.iter().any(|p| used.contains(p)) {
            return Some(Filter::HostPort);
        }
    }
    let max = spec.placement.max_replicas;
    if max > 0 && h.active().filter(|o| o.service == t.service).count() as u64 >= max {
        return Some(Filter::MaxReplicas);
    }
    None
}

fn host_ports(d: &Draft<'_>, service: ServiceId) -> Vec<(skep_types::spec::Protocol, u16)> {
    let ports = d.work.service(service).map(|s| s.ports.as_slice()).unwrap_or_default();
    ports.iter().filter(|p| p.mode == PublishMode::Host && p.published != 0).map(|p| (p.protocol, p.published)).collect()
}

fn fits_platform(platforms: &[(String, String)], n: &Node) -> bool {
    let arch = |a: &str| match a.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    };
    platforms.is_empty()
        || platforms.iter().any(|(os, a)| {
            (os.is_empty() || os.eq_ignore_ascii_case(&n.description.os))
                && (a.is_empty() || arch(a) == arch(&n.description.architecture))
        })
}
