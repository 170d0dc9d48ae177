//! What a node must have to take a task, in the reference's order with its texts (`swarm-semantics` 5.2). Must never let a node
//! pass that it could not look at whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_state::Store;
use skep_types::ServiceId;
use skep_types::object::Node;
use skep_types::spec::{Labels, Protocol, PublishMode, TaskSpec};

use crate::constraint::Constraint;
use crate::draft::Draft;
use crate::schedule::generic;

/// Filters, in the reference's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    Ready,
    Resource,
    Plugin,
    Constraint,
    Platform,
    HostPort,
    MaxReplicas,
}

impl Filter {
    pub(super) fn explain(self, n: usize) -> String {
        let nodes = if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
        match self {
            Self::Ready => format!("{nodes} not available for new tasks"),
            Self::Resource => format!("insufficient resources on {nodes}"),
            Self::Plugin => format!("missing plugin on {nodes}"),
            Self::Constraint => format!("scheduling constraints not satisfied on {nodes}"),
            Self::Platform => format!("unsupported platform on {nodes}"),
            Self::HostPort => format!("host-mode port already in use on {nodes}"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        }
    }
}

/// Why no node was found, from how many each filter refused.
pub(super) fn explanation(refused: &BTreeMap<Filter, usize>) -> String {
    if refused.is_empty() {
        return "no suitable node".into();
    }
    let mut all: Vec<_> = refused.iter().collect();
    all.sort_by_key(|(f, n)| (std::cmp::Reverse(**n), **f));
    let texts: Vec<_> = all.into_iter().map(|(f, n)| f.explain(*n)).collect();
    format!("no suitable node ({})", texts.join("; "))
}

/// Tasks of one revision of a service: what each of them needs, read once.
pub(super) struct Group {
    pub(super) service: ServiceId,
    pub(super) revision: u64,
    pub(super) spec: Arc<TaskSpec>,
    /// `None` if one cannot be read: then no node passes.
    constraints: Option<Vec<Constraint>>,
    platforms: Vec<(String, String)>,
    host_ports: Vec<(Protocol, u16)>,
    volume_drivers: BTreeSet<String>,
    preferences: Vec<Preference>,
}

/// Constraints, platforms and drivers: what keeps a node away for good.
pub(super) type PoolKey = (Vec<String>, Vec<(String, String)>, Vec<String>);

/// A label whose values divide the nodes.
enum Preference {
    Node(String),
    Engine(String),
}

fn architecture(a: &str) -> String {
    match a.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

impl Group {
    /// `None` if the revision is not known any more.
    pub(super) fn of(d: &Draft<'_>, service: ServiceId, revision: u64) -> Option<Self> {
        let spec = d.work.revision(service, revision)?.clone();
        let ports = d.work.unplaced_of(service, revision).next().map(|t| t.host_ports.clone()).unwrap_or_default();
        let host_ports = ports.iter().filter(|p| p.mode == PublishMode::Host && p.published != 0);
        let p = &spec.placement;
        let preferences = p.preferences.iter().filter_map(|s| {
            // Another descriptor has no effect, as in the reference.
            let node = s.strip_prefix("node.labels.").map(|k| Preference::Node(k.to_owned()));
            node.or_else(|| s.strip_prefix("engine.labels.").map(|k| Preference::Engine(k.to_owned())))
        });
        Some(Self {
            service,
            revision,
            constraints: p.constraints.iter().map(|c| Constraint::parse(c).ok()).collect(),
            platforms: p.platforms.iter().map(|(os, a)| (os.clone(), architecture(a))).collect(),
            host_ports: host_ports.map(|p| (p.protocol, p.published)).collect(),
            volume_drivers: spec.container.mounts.iter().filter_map(|m| m.volume_driver.clone()).collect(),
            preferences: preferences.collect(),
            spec,
        })
    }

    pub(super) fn has_preferences(&self) -> bool {
        !self.preferences.is_empty()
    }

    /// Values of a node's labels by which tasks are spread; one that it does not have is empty.
    pub(super) fn branch<'a>(&self, n: &'a Node) -> Vec<&'a str> {
        let value = |l: &'a Labels, k: &str| l.get(k).map_or("", String::as_str);
        let of = |p: &Preference| match p {
            Preference::Node(k) => value(&n.spec.labels, k),
            Preference::Engine(k) => value(&n.description.engine_labels, k),
        };
        self.preferences.iter().map(of).collect()
    }

    /// The first filter that a node which takes tasks does not pass.
    pub(super) fn failing(&self, store: &Store, n: &Node) -> Option<Filter> {
        let r = &self.spec.resources;
        if r.reserve_nano_cpus > 0 || r.reserve_memory > 0 {
            let (load, has) = (store.load(n.id), &n.description);
            let cpus = load.nano_cpus.saturating_add(r.reserve_nano_cpus);
            let memory = load.memory.saturating_add(r.reserve_memory);
            if (r.reserve_nano_cpus > 0 && cpus > has.nano_cpus) || (r.reserve_memory > 0 && memory > has.memory) {
                return Some(Filter::Resource);
            }
        }
        if !r.reserve_generic.is_empty() && generic::claim(store, n, &r.reserve_generic).is_none() {
            return Some(Filter::Resource);
        }
        if let Some(f) = self.never(n) {
            return Some(f);
        }
        if self.host_ports.iter().any(|(protocol, port)| store.host_port_taken(n.id, *protocol, *port)) {
            return Some(Filter::HostPort);
        }
        let max = self.spec.placement.max_replicas;
        if max > 0 && u64::from(store.live_on(self.service, n.id)) >= max {
            return Some(Filter::MaxReplicas);
        }
        None
    }

    /// What of it no task that comes or goes will change.
    fn never(&self, n: &Node) -> Option<Filter> {
        if !self.has_plugins(n) {
            return Some(Filter::Plugin);
        }
        if !self.constraints.as_ref().is_some_and(|all| all.iter().all(|c| c.fits(n))) {
            return Some(Filter::Constraint);
        }
        (!self.fits_platform(n)).then_some(Filter::Platform)
    }

    /// Groups with the same key can never use the same nodes; `None` if every node will do.
    pub(super) fn key(&self) -> Option<PoolKey> {
        let p = &self.spec.placement;
        let drivers = self.spec.log_driver.iter().chain(&self.volume_drivers).cloned().collect::<Vec<_>>();
        let any = p.constraints.is_empty() && p.platforms.is_empty() && drivers.is_empty();
        (!any).then(|| (p.constraints.clone(), p.platforms.clone(), drivers))
    }

    /// Whether a node could ever take a task of the group.
    pub(super) fn may_use(&self, n: &Node) -> bool {
        self.never(n).is_none()
    }

    /// Whether a node has the drivers. One that lists no log drivers is not asked for one, as in the reference.
    fn has_plugins(&self, n: &Node) -> bool {
        let has = |kind: &str, name: &str| {
            let named = |other: &str| other == name || other.strip_suffix(":latest") == Some(name);
            n.description.plugins.iter().any(|(k, other)| k == kind && named(other))
        };
        let lists_logs = || n.description.plugins.iter().any(|(k, _)| k == "Log");
        self.spec.log_driver.as_ref().is_none_or(|l| has("Log", l) || !lists_logs())
            && self.volume_drivers.iter().all(|v| has("Volume", v))
    }

    fn fits_platform(&self, n: &Node) -> bool {
        let d = &n.description;
        self.platforms.is_empty()
            || self.platforms.iter().any(|(os, a)| {
                (os.is_empty() || os.eq_ignore_ascii_case(&d.os)) && (a.is_empty() || *a == architecture(&d.architecture))
            })
    }
}
