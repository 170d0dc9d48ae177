//! The tables and how to read them. Must never be changed except by [`Store::apply`] and [`Store::stage`].

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use imbl::OrdMap;
use skep_types::attach::Held;
use skep_types::file::{FileKind, StoredFile};
use skep_types::object::{Cluster, Network, Node, Service, SlotKey, Task, Version};
use skep_types::spec::{Protocol, TaskSpec};
use skep_types::{FileId, NetworkId, NodeId, ServiceId, TaskId, Time};

use crate::Key;
use crate::codec::Unknown;
use crate::index::{AddressOwner, Indexes, Load};
use crate::table::Table;

/// All tables of a cluster. A clone costs O(1) and never changes afterwards.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: Table<TaskId, Arc<Task>>,
    pub(crate) networks: OrdMap<NetworkId, Arc<Network>>,
    pub(crate) files: OrdMap<FileId, Arc<StoredFile>>,
    pub(crate) revisions: OrdMap<(ServiceId, u64), Arc<TaskSpec>>,
    pub(crate) index: Indexes,
    /// Fields that a newer version wrote and this one does not know.
    pub(crate) unknown: OrdMap<Key, Arc<Unknown>>,
    /// Index of the last applied transaction.
    pub(crate) applied: u64,
}

impl Store {
    /// A copy to [`Store::stage`] on: what is written to it lies on top of what it shares with this one.
    #[must_use]
    pub fn draft(&self) -> Self {
        Self { tasks: self.tasks.draft(), index: self.index.draft(), ..self.clone() }
    }

    /// Whether everything in both is the same; the indexes follow from that.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.applied == other.applied
            && self.cluster == other.cluster
            && self.nodes == other.nodes
            && self.services == other.services
            && self.tasks == other.tasks
            && self.networks == other.networks
            && self.files == other.files
            && self.revisions == other.revisions
            && self.unknown == other.unknown
    }

    /// Raft index of the last transaction applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The swarm, once it was initialized.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// A service.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// A task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// A network.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)
    }

    /// A secret or config.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&Arc<StoredFile>> {
        self.files.get(&id)
    }

    /// What a revision of a service runs.
    #[must_use]
    pub fn revision(&self, service: ServiceId, revision: u64) -> Option<&Arc<TaskSpec>> {
        self.revisions.get(&(service, revision))
    }

    /// The stored revisions of a service, oldest number first.
    pub fn revisions(&self, service: ServiceId) -> impl Iterator<Item = (u64, &Arc<TaskSpec>)> {
        self.revisions.range((service, 0)..=(service, u64::MAX)).map(|((_, r), s)| (*r, s))
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Services by id, from one on.
    pub fn services_from(&self, from: ServiceId) -> impl Iterator<Item = &Arc<Service>> {
        self.services.range(from..).map(|(_, s)| s)
    }

    /// All tasks, by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// All networks, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// Whether there is any secret or config.
    #[must_use]
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// All secrets, or all configs, by name.
    pub fn files(&self, kind: FileKind) -> impl Iterator<Item = &Arc<StoredFile>> {
        let names = self.index.file_names.range((kind, String::new())..).take_while(move |((k, _), _)| *k == kind);
        names.filter_map(|(_, id)| self.files.get(id))
    }

    /// The secret or config with this name.
    #[must_use]
    pub fn file_by_name(&self, kind: FileKind, name: &str) -> Option<&Arc<StoredFile>> {
        self.files.get(self.index.file_names.get(&(kind, name.to_owned()))?)
    }

    /// The service with this name.
    #[must_use]
    pub fn service_by_name(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.index.service_names.get(name)?)
    }

    /// The network with this name.
    #[must_use]
    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.get(self.index.network_names.get(name)?)
    }

    /// The network of the published ports.
    #[must_use]
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        self.networks.get(&self.index.ingress?)
    }

    /// Tasks of a service, also of one that was removed, by their places.
    pub fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.slots(id, SlotKey(0), SlotKey(u128::MAX))
    }

    /// Tasks in one place of a service.
    pub fn tasks_of_slot(&self, id: ServiceId, slot: SlotKey) -> impl Iterator<Item = &Arc<Task>> {
        self.slots(id, slot, slot)
    }

    fn slots(&self, id: ServiceId, from: SlotKey, to: SlotKey) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, from, TaskId(0))..=(id, to, TaskId(u128::MAX));
        self.index.by_slot.keys_in(range).filter_map(|(_, _, t)| self.tasks.get(t))
    }

    /// Places of a service that have tasks, a place as often as it has tasks.
    pub fn places_of_service(&self, id: ServiceId) -> impl Iterator<Item = SlotKey> {
        let range = (id, SlotKey(0), TaskId(0))..=(id, SlotKey(u128::MAX), TaskId(u128::MAX));
        self.index.by_slot.keys_in(range).map(|(_, place, _)| *place)
    }

    /// Whether there are tasks of a revision.
    #[must_use]
    pub fn is_in_use(&self, id: ServiceId, revision: u64) -> bool {
        self.index.of_revision.contains_key(&(id, revision))
    }

    /// Tasks on a node, ended ones included, and those that wait for it to be confirmed.
    pub fn tasks_of_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.on(id, ServiceId(0), ServiceId(u128::MAX))
    }

    /// Tasks of a service on a node, as [`Store::tasks_of_node`].
    pub fn tasks_of_service_on(&self, service: ServiceId, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.on(node, service, service)
    }

    fn on(&self, id: NodeId, from: ServiceId, to: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, from, TaskId(0))..=(id, to, TaskId(u128::MAX));
        self.index.by_node.keys_in(range).filter_map(|(_, _, t)| self.tasks.get(t))
    }

    /// Nodes that tasks were given to, whether they still exist or not.
    #[must_use]
    pub fn nodes_with_tasks(&self) -> Vec<NodeId> {
        let mut out = Vec::new();
        let mut from = Some(NodeId(0));
        while let Some((n, _, _)) = from.and_then(|f| self.index.by_node.keys_in((f, ServiceId(0), TaskId(0))..).next()) {
            out.push(*n);
            from = n.0.checked_add(1).map(NodeId);
        }
        out
    }

    /// Tasks with an address on a network that have not ended.
    pub fn tasks_of_network(&self, id: NetworkId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, TaskId(0))..=(id, TaskId(u128::MAX));
        self.index.by_network.keys_in(range).filter_map(|(_, t)| self.tasks.get(t))
    }

    /// Tasks of a service that shall live, of these revisions, that run since a time in this range; `Time(i64::MAX)` is for those
    /// that do not run yet. In that order.
    pub fn wanted(&self, id: ServiceId, revision: u64, since: RangeInclusive<Time>) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, revision, *since.start(), TaskId(0))..=(id, revision, *since.end(), TaskId(u128::MAX));
        self.index.wanted.keys_in(range).filter_map(|(_, _, _, t)| self.tasks.get(t))
    }

    /// Tasks of a revision of a service that ended without having been asked to.
    pub fn ended(&self, id: ServiceId, revision: u64) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, revision, TaskId(0))..=(id, revision, TaskId(u128::MAX));
        self.index.ended.keys_in(range).filter_map(|(_, _, t)| self.tasks.get(t))
    }

    /// Tasks of a service that were asked to stop and have not ended: they hold ports and shares of their nodes.
    pub fn stopping(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, TaskId(0))..=(id, TaskId(u128::MAX));
        self.index.stopping.keys_in(range).filter_map(|(_, t)| self.tasks.get(t))
    }

    /// Tasks that wait for a node, or for theirs to be confirmed.
    pub fn unplaced(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.index.unplaced.keys_in(..).filter_map(|(_, _, t)| self.tasks.get(t))
    }

    /// Those of one revision of a service.
    pub fn unplaced_of(&self, id: ServiceId, revision: u64) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, revision, TaskId(0))..=(id, revision, TaskId(u128::MAX));
        self.index.unplaced.keys_in(range).filter_map(|(_, _, t)| self.tasks.get(t))
    }

    /// Services and revisions with tasks that wait for a node, of one service or of all.
    #[must_use]
    pub fn unplaced_groups(&self, of: Option<ServiceId>) -> Vec<(ServiceId, u64)> {
        let mut out = Vec::new();
        let mut from = Some((of.unwrap_or(ServiceId(0)), 0, TaskId(0)));
        while let Some((s, r, _)) = from.and_then(|f| self.index.unplaced.keys_in(f..).next()) {
            if of.is_some_and(|of| of != *s) {
                break;
            }
            out.push((*s, *r));
            from = r.checked_add(1).map(|r| (*s, r, TaskId(0)));
        }
        out
    }

    /// What a node has been given.
    #[must_use]
    pub fn load(&self, id: NodeId) -> Load {
        self.index.loads.get(&id).copied().unwrap_or_default()
    }

    /// Nodes that take tasks with the number of tasks they have, those with the fewest first.
    pub fn ranked(&self) -> impl Iterator<Item = (u32, NodeId)> {
        self.index.ranked.iter().copied()
    }

    /// How many live tasks of a service a node has been given.
    #[must_use]
    pub fn live_on(&self, service: ServiceId, node: NodeId) -> u32 {
        self.index.spread.get(&(service, node)).copied().unwrap_or(0)
    }

    /// Nodes that have been given live tasks of a service, with how many.
    pub fn spread_of(&self, service: ServiceId) -> impl Iterator<Item = (NodeId, u32)> {
        let range = (service, NodeId(0))..=(service, NodeId(u128::MAX));
        self.index.spread.range(range).map(|((_, n), count)| (*n, *count))
    }

    /// No node that takes tasks has fewer live tasks of a service than this.
    #[must_use]
    pub fn fewest_of(&self, service: ServiceId) -> u32 {
        let nodes = self.index.spread_nodes.get(&service).map_or(0, |n| *n as usize);
        if nodes < self.index.ranked.len() {
            return 0;
        }
        let range = (service, 0, NodeId(0))..;
        self.index.spread_ranked.keys_in(range).next().filter(|(s, _, _)| *s == service).map_or(0, |(_, n, _)| *n)
    }

    /// Number of nodes that take tasks, and of all nodes.
    #[must_use]
    pub fn node_counts(&self) -> (usize, usize) {
        (self.index.ranked.len(), self.nodes.len())
    }

    /// Whether a task that has not ended publishes a port on a node itself.
    #[must_use]
    pub fn host_port_taken(&self, node: NodeId, protocol: Protocol, port: u16) -> bool {
        let range = (node, protocol, port, TaskId(0))..=(node, protocol, port, TaskId(u128::MAX));
        self.index.host_ports.keys_in(range).next().is_some()
    }

    /// Services that have a task on each node.
    pub fn globals(&self) -> impl Iterator<Item = ServiceId> {
        self.index.globals.iter().copied()
    }

    /// Ids of up to `most` services that have tasks, removed services included, from one id on.
    #[must_use]
    pub fn services_with_tasks(&self, from: ServiceId, most: usize) -> Vec<ServiceId> {
        let mut out = Vec::new();
        let mut from = Some(from);
        while let Some((s, _, _)) = from.and_then(|f| self.index.by_slot.keys_in((f, SlotKey(0), TaskId(0))..).next()) {
            if out.len() == most {
                break;
            }
            out.push(*s);
            from = s.0.checked_add(1).map(ServiceId);
        }
        out
    }

    /// The lowest address of a network, from the `from`-th on, that nobody holds and that a host may have.
    #[must_use]
    pub fn free_address(&self, n: &Network, from: u32) -> Option<u32> {
        let last = n.subnet.broadcast();
        let mut at = from.max(1);
        let first = n.subnet.nth(at).filter(|a| *a < last)?;
        let base = u32::from(n.subnet.network().addr);
        // Walks along the held ones until there is a gap.
        for ((_, held), _) in self.index.addresses.range((n.id, first)..=(n.id, last)) {
            if u32::from(*held) > base.checked_add(at)? {
                break;
            }
            at += 1;
        }
        n.subnet.nth(at).filter(|a| *a < last && *a != n.gateway).map(|_| at)
    }

    /// Which service publishes a port on every node.
    #[must_use]
    pub fn port_owner(&self, protocol: Protocol, port: u16) -> Option<ServiceId> {
        self.index.ports.get(&(protocol, port)).copied()
    }

    /// Containers that are no tasks on a network, with their nodes, by address.
    pub fn attached(&self, network: NetworkId) -> impl Iterator<Item = (NodeId, &Held)> {
        let all = (network, Ipv4Addr::UNSPECIFIED)..=(network, Ipv4Addr::BROADCAST);
        self.index.addresses.range(all).filter_map(move |((_, addr), owner)| {
            let AddressOwner::Node(id) = owner else { return None };
            let held = &self.nodes.get(id)?.attached.held;
            held.iter().find(|h| h.network == network && h.addr.addr == *addr).map(|h| (*id, h))
        })
    }

    /// Who holds an address.
    #[must_use]
    pub fn address_owner(&self, network: NetworkId, addr: Ipv4Addr) -> Option<AddressOwner> {
        self.index.addresses.get(&(network, addr)).copied()
    }

    /// Which network has a VXLAN identifier.
    #[must_use]
    pub fn vni_owner(&self, vni: u32) -> Option<NetworkId> {
        self.index.vnis.get(&vni).copied()
    }

    /// Version of an object; 0 when it does not exist.
    #[must_use]
    pub fn version(&self, key: Key) -> Version {
        let meta = match key {
            Key::Cluster => self.cluster.as_ref().map(|o| o.meta),
            Key::Node(id) => self.nodes.get(&id).map(|o| o.meta),
            Key::Service(id) => self.services.get(&id).map(|o| o.meta),
            Key::Task(id) => self.tasks.get(&id).map(|o| o.meta),
            Key::Network(id) => self.networks.get(&id).map(|o| o.meta),
            Key::File(id) => self.files.get(&id).map(|o| o.meta),
            // It is written once, with its service.
            Key::Revision(..) => None,
        };
        meta.map_or(Version(0), |m| m.version)
    }
}
