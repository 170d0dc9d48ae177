//! Secondary indexes: found by another key, held by one owner only, or summed up. Derived from the tables alone; must never be
//! stored. What may be refused is checked before anything is changed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};
use skep_types::file::{FileKind, StoredFile};
use skep_types::object::{Network, Node, Service, SlotKey, Task, TaskState};
use skep_types::spec::{PortConfig, Protocol, PublishMode, TaskSpec};
use skep_types::{FileId, NetworkId, NodeId, ServiceId, TaskId, Time};

use crate::Refused;
use crate::table::{Set, Table};

/// Who holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOwner {
    /// The gateway of the network.
    Gateway,
    /// The virtual address of a service.
    Service(ServiceId),
    /// A task that has not ended.
    Task(TaskId),
    /// A node: on the ingress network for itself, on others for a container that is no task.
    Node(NodeId),
}

/// What a node has been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Tasks that shall live and have not ended.
    pub tasks: u32,
    /// CPU reserved by tasks that have not ended, in nano-CPUs.
    pub nano_cpus: u64,
    /// Memory reserved by them, in bytes.
    pub memory: u64,
}

/// A time for tasks that have not run yet: after all others.
const NOT_YET: Time = Time(i64::MAX);

#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Indexes {
    pub(crate) service_names: OrdMap<String, ServiceId>,
    pub(crate) network_names: OrdMap<String, NetworkId>,
    pub(crate) file_names: OrdMap<(FileKind, String), FileId>,
    /// Services with a task on each node.
    pub(crate) globals: OrdSet<ServiceId>,
    pub(crate) by_slot: Set<(ServiceId, SlotKey, TaskId)>,
    /// How many tasks there are of each revision.
    pub(crate) of_revision: OrdMap<(ServiceId, u64), u64>,
    pub(crate) by_node: Set<(NodeId, ServiceId, TaskId)>,
    pub(crate) by_network: Set<(NetworkId, TaskId)>,
    /// Tasks that shall live, by revision and by since when they run.
    pub(crate) wanted: Set<(ServiceId, u64, Time, TaskId)>,
    /// Tasks that ended without having been asked to.
    pub(crate) ended: Set<(ServiceId, u64, TaskId)>,
    /// Tasks with a node that were asked to stop and have not ended.
    pub(crate) stopping: Set<(ServiceId, TaskId)>,
    /// Tasks that wait for a node, or for their node to be confirmed.
    pub(crate) unplaced: Set<(ServiceId, u64, TaskId)>,
    pub(crate) host_ports: Set<(NodeId, Protocol, u16, TaskId)>,
    pub(crate) loads: OrdMap<NodeId, Load>,
    /// Nodes that take tasks, those with the fewest first.
    pub(crate) ranked: OrdSet<(u32, NodeId)>,
    /// How many live tasks of a service each of its nodes has, …
    pub(crate) spread: Table<(ServiceId, NodeId), u32>,
    /// … the same with the fewest first, …
    pub(crate) spread_ranked: Set<(ServiceId, u32, NodeId)>,
    /// … and how many such nodes there are.
    pub(crate) spread_nodes: OrdMap<ServiceId, u32>,
    pub(crate) ports: OrdMap<(Protocol, u16), ServiceId>,
    pub(crate) addresses: Table<(NetworkId, Ipv4Addr), AddressOwner>,
    pub(crate) vnis: OrdMap<u32, NetworkId>,
    pub(crate) ingress: Option<NetworkId>,
}

fn published(s: &Service) -> impl Iterator<Item = (Protocol, u16)> {
    s.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0).map(|p| (p.protocol, p.published))
}

fn is_given(t: &Task) -> bool {
    t.status.state >= TaskState::Assigned && !t.status.state.is_terminal()
}

/// Keeps a task in an index under the key that it has there, if any.
fn swap<K: Ord + Clone>(set: &mut Set<K>, old: Option<&Task>, new: Option<&Task>, key: impl Fn(&Task) -> Option<K>) {
    let (old, new) = (old.and_then(&key), new.and_then(&key));
    if old != new {
        old.iter().for_each(|k| set.remove(k));
        new.into_iter().for_each(|k| set.put(k, ()));
    }
}

impl Indexes {
    /// A clone for a draft. What is as large as there are tasks gets a layer; the rest is small or seldom written.
    pub(crate) fn draft(&self) -> Self {
        Self {
            by_slot: self.by_slot.draft(),
            by_node: self.by_node.draft(),
            by_network: self.by_network.draft(),
            wanted: self.wanted.draft(),
            ended: self.ended.draft(),
            stopping: self.stopping.draft(),
            unplaced: self.unplaced.draft(),
            host_ports: self.host_ports.draft(),
            spread: self.spread.draft(),
            spread_ranked: self.spread_ranked.draft(),
            addresses: self.addresses.draft(),
            ..self.clone()
        }
    }

    /// Whether nobody but `owner` holds an address.
    fn is_free(&self, network: NetworkId, addr: Ipv4Addr, owner: AddressOwner) -> Result<(), Refused> {
        match self.addresses.get(&(network, addr)) {
            Some(other) if *other != owner => Err(Refused::Address { network, addr }),
            _ => Ok(()),
        }
    }

    fn hold(&mut self, network: NetworkId, addr: Ipv4Addr, owner: AddressOwner) {
        self.addresses.put((network, addr), owner);
    }

    fn release(&mut self, network: NetworkId, addr: Ipv4Addr) {
        self.addresses.remove(&(network, addr));
    }

    pub(crate) fn check_service(&self, s: &Service, name_of: impl Fn(ServiceId) -> String) -> Result<(), Refused> {
        if self.service_names.get(&s.spec.name).is_some_and(|o| *o != s.id) {
            return Err(Refused::Name { kind: "service".into(), name: s.spec.name.clone() });
        }
        for (i, (protocol, port)) in published(s).enumerate() {
            let twice = published(s).take(i).any(|p| p == (protocol, port));
            let owner = self.ports.get(&(protocol, port)).copied().filter(|o| *o != s.id).or(twice.then_some(s.id));
            if let Some(owner) = owner {
                return Err(Refused::Port { protocol, port, owner, name: name_of(owner) });
            }
        }
        s.vips.iter().try_for_each(|v| self.is_free(v.network, v.addr.addr, AddressOwner::Service(s.id)))
    }

    pub(crate) fn add_service(&mut self, s: &Service) {
        self.service_names.insert(s.spec.name.clone(), s.id);
        if s.spec.mode.is_global() {
            self.globals.insert(s.id);
        }
        for p in published(s) {
            self.ports.insert(p, s.id);
        }
        for v in &s.vips {
            self.hold(v.network, v.addr.addr, AddressOwner::Service(s.id));
        }
    }

    pub(crate) fn remove_service(&mut self, s: &Service) {
        self.service_names.remove(&s.spec.name);
        self.globals.remove(&s.id);
        for p in published(s) {
            self.ports.remove(&p);
        }
        for v in &s.vips {
            self.release(v.network, v.addr.addr);
        }
    }

    pub(crate) fn check_task(&self, t: &Task) -> Result<(), Refused> {
        // What has ended holds nothing any more.
        if t.status.state.is_terminal() {
            return Ok(());
        }
        t.networks.iter().try_for_each(|a| self.is_free(a.network, a.addr.addr, AddressOwner::Task(t.id)))
    }

    pub(crate) fn add_task(&mut self, t: &Task, spec: Option<&TaskSpec>) {
        self.replace_task(None, Some(t), spec);
    }

    pub(crate) fn remove_task(&mut self, t: &Task, spec: Option<&TaskSpec>) {
        self.replace_task(Some(t), None, spec);
    }

    /// Replaces a task by another one of itself; what is the same in both is not touched.
    pub(crate) fn replace_task(&mut self, old: Option<&Task>, new: Option<&Task>, spec: Option<&TaskSpec>) {
        swap(&mut self.by_slot, old, new, |t| Some((t.service, t.slot_key(), t.id)));
        swap(&mut self.wanted, old, new, |t| {
            t.is_wanted().then(|| (t.service, t.revision, t.running_since.unwrap_or(NOT_YET), t.id))
        });
        swap(&mut self.unplaced, old, new, |t| {
            (t.is_wanted() && t.status.state < TaskState::Assigned).then_some((t.service, t.revision, t.id))
        });
        swap(&mut self.ended, old, new, |t| {
            let state = t.status.state;
            (state.is_terminal() && state != TaskState::Shutdown).then_some((t.service, t.revision, t.id))
        });
        swap(&mut self.stopping, old, new, |t| (!t.is_wanted() && is_given(t)).then_some((t.service, t.id)));
        swap(&mut self.by_node, old, new, |t| t.node.map(|n| (n, t.service, t.id)));
        self.count_revisions(old, new);
        self.change_ports(old, new);
        self.change_addresses(old, new);
        let taken = |t: Option<&Task>| t.filter(|t| is_given(t)).and_then(|t| t.node.map(|n| (n, t.is_wanted(), t.revision)));
        if taken(old) != taken(new) {
            for (t, add) in [(old, false), (new, true)] {
                if let (Some(t), Some((n, ..))) = (t, taken(t)) {
                    self.change_load(n, t, spec, add);
                }
            }
        }
    }

    fn count_revisions(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let key = |t: &Task| (t.service, t.revision);
        if old.map(key) == new.map(key) {
            return;
        }
        if let Some(key) = old.map(key) {
            match self.of_revision.get(&key).copied() {
                Some(n) if n > 1 => drop(self.of_revision.insert(key, n - 1)),
                _ => drop(self.of_revision.remove(&key)),
            }
        }
        if let Some(key) = new.map(key) {
            *self.of_revision.entry(key).or_default() += 1;
        }
    }

    fn change_ports(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let ports = |t: &Task| {
            let node = t.node.filter(|_| is_given(t));
            let key = move |n, p: &PortConfig| (n, p.protocol, p.published, t.id);
            node.map(|n| t.host_ports.iter().map(|p| key(n, p)).collect()).unwrap_or_default()
        };
        let (old, new): (Vec<_>, Vec<_>) = (old.map(ports).unwrap_or_default(), new.map(ports).unwrap_or_default());
        if old != new {
            old.iter().for_each(|p| self.host_ports.remove(p));
            new.into_iter().for_each(|p| self.host_ports.put(p, ()));
        }
    }

    /// What has ended holds no addresses.
    fn change_addresses(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let held = |t: &Task| !t.status.state.is_terminal();
        let (old, new) = (old.filter(|t| held(t)), new.filter(|t| held(t)));
        if old.map(|t| &t.networks) == new.map(|t| &t.networks) {
            return;
        }
        for (t, a) in old.iter().flat_map(|t| t.networks.iter().map(move |a| (t, a))) {
            self.by_network.remove(&(a.network, t.id));
            self.release(a.network, a.addr.addr);
        }
        for (t, a) in new.iter().flat_map(|t| t.networks.iter().map(move |a| (t, a))) {
            self.by_network.put((a.network, t.id), ());
            self.hold(a.network, a.addr.addr, AddressOwner::Task(t.id));
        }
    }

    /// Adds what a task takes to the load of its node, or takes it away.
    fn change_load(&mut self, n: NodeId, t: &Task, spec: Option<&TaskSpec>, add: bool) {
        let old = self.loads.get(&n).copied().unwrap_or_default();
        let r = spec.map(|s| &s.resources);
        let by = Load {
            tasks: u32::from(t.is_wanted()),
            nano_cpus: r.map_or(0, |r| r.reserve_nano_cpus),
            memory: r.map_or(0, |r| r.reserve_memory),
        };
        let new = if add {
            Load {
                tasks: old.tasks.saturating_add(by.tasks),
                nano_cpus: old.nano_cpus.saturating_add(by.nano_cpus),
                memory: old.memory.saturating_add(by.memory),
            }
        } else {
            Load {
                tasks: old.tasks.saturating_sub(by.tasks),
                nano_cpus: old.nano_cpus.saturating_sub(by.nano_cpus),
                memory: old.memory.saturating_sub(by.memory),
            }
        };
        if new == old {
            return;
        }
        if new == Load::default() {
            self.loads.remove(&n);
        } else {
            self.loads.insert(n, new);
        }
        if new.tasks != old.tasks {
            self.change_spread(t.service, n, add);
        }
        if new.tasks != old.tasks && self.ranked.remove(&(old.tasks, n)).is_some() {
            self.ranked.insert((new.tasks, n));
        }
    }

    /// Counts a live task of a service on a node, or no longer.
    fn change_spread(&mut self, s: ServiceId, n: NodeId, add: bool) {
        let old = self.spread.get(&(s, n)).copied().unwrap_or(0);
        let new = if add { old + 1 } else { old.saturating_sub(1) };
        if old > 0 {
            self.spread_ranked.remove(&(s, old, n));
        }
        if new > 0 {
            self.spread.put((s, n), new);
            self.spread_ranked.put((s, new, n), ());
        } else {
            self.spread.remove(&(s, n));
        }
        let (was, is) = (u32::from(old > 0), u32::from(new > 0));
        if was != is {
            let nodes = self.spread_nodes.get(&s).copied().unwrap_or(0) + is - was;
            if nodes == 0 {
                self.spread_nodes.remove(&s);
            } else {
                self.spread_nodes.insert(s, nodes);
            }
        }
    }

    pub(crate) fn check_network(&self, n: &Network, mut others: impl Iterator<Item = Network>) -> Result<(), Refused> {
        if self.network_names.get(&n.spec.name).is_some_and(|o| *o != n.id) {
            return Err(Refused::Name { kind: "network".into(), name: n.spec.name.clone() });
        }
        if let Some(owner) = self.vnis.get(&n.vni).filter(|o| **o != n.id) {
            return Err(Refused::Vni { vni: n.vni, owner: *owner });
        }
        let six = |o: &Network| o.v6.zip(n.v6).is_some_and(|(a, b)| a.subnet.overlaps(&b.subnet));
        if let Some(o) = others.find(|o| o.id != n.id && (o.subnet.overlaps(&n.subnet) || six(o))) {
            return Err(Refused::Subnet { owner: o.id });
        }
        self.is_free(n.id, n.gateway, AddressOwner::Gateway)
    }

    pub(crate) fn add_network(&mut self, n: &Network) {
        self.network_names.insert(n.spec.name.clone(), n.id);
        self.vnis.insert(n.vni, n.id);
        self.hold(n.id, n.gateway, AddressOwner::Gateway);
        if n.spec.ingress {
            self.ingress = Some(n.id);
        }
    }

    pub(crate) fn remove_network(&mut self, n: &Network) {
        self.network_names.remove(&n.spec.name);
        self.vnis.remove(&n.vni);
        self.release(n.id, n.gateway);
        if self.ingress == Some(n.id) {
            self.ingress = None;
        }
    }

    pub(crate) fn check_file(&self, f: &StoredFile) -> Result<(), Refused> {
        let owner = self.file_names.get(&(f.spec.kind, f.spec.name.clone()));
        if owner.is_some_and(|o| *o != f.id) {
            return Err(Refused::Name { kind: f.spec.kind.as_str().into(), name: f.spec.name.clone() });
        }
        Ok(())
    }

    pub(crate) fn add_file(&mut self, f: &StoredFile) {
        self.file_names.insert((f.spec.kind, f.spec.name.clone()), f.id);
    }

    pub(crate) fn remove_file(&mut self, f: &StoredFile) {
        self.file_names.remove(&(f.spec.kind, f.spec.name.clone()));
    }

    /// The addresses that a node holds.
    fn addresses_of_node<'a>(&self, n: &'a Node) -> impl Iterator<Item = (NetworkId, Ipv4Addr)> + use<'a> {
        let attached = n.attached.held.iter().map(|h| (h.network, h.addr.addr));
        self.ingress.zip(n.ingress_addr).into_iter().chain(attached)
    }

    pub(crate) fn check_node(&self, n: &Node) -> Result<(), Refused> {
        let mut own = BTreeSet::new();
        self.addresses_of_node(n).try_for_each(|(network, addr)| {
            if !own.insert((network, addr)) {
                return Err(Refused::Address { network, addr });
            }
            self.is_free(network, addr, AddressOwner::Node(n.id))
        })
    }

    pub(crate) fn add_node(&mut self, n: &Node) {
        for (net, addr) in self.addresses_of_node(n) {
            self.hold(net, addr, AddressOwner::Node(n.id));
        }
        if n.takes_tasks() {
            self.ranked.insert((self.loads.get(&n.id).map_or(0, |l| l.tasks), n.id));
        }
    }

    pub(crate) fn remove_node(&mut self, n: &Node) {
        for (net, addr) in self.addresses_of_node(n) {
            self.release(net, addr);
        }
        self.ranked.remove(&(self.loads.get(&n.id).map_or(0, |l| l.tasks), n.id));
    }
}
