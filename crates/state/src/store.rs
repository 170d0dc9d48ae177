//! The tables and how to read them. Must never be changed except by [`Store::apply`] and [`Store::stage`].

use std::net::Ipv4Addr;
use std::sync::Arc;

use imbl::OrdMap;
use skep_types::object::{Cluster, Network, Node, Service, Task, Version};
use skep_types::spec::{Protocol, TaskSpec};
use skep_types::{NetworkId, NodeId, ServiceId, TaskId};

use crate::Key;
use crate::index::{AddressOwner, Indexes};

/// All tables of a cluster. A clone costs O(1) and never changes afterwards.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: OrdMap<TaskId, Arc<Task>>,
    pub(crate) networks: OrdMap<NetworkId, Arc<Network>>,
    pub(crate) revisions: OrdMap<(ServiceId, u64), Arc<TaskSpec>>,
    pub(crate) index: Indexes,
    /// Index of the last applied transaction.
    pub(crate) applied: u64,
}

impl Store {
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

    /// All tasks, by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// All networks, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
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
        self.networks.values().find(|n| n.spec.ingress)
    }

    /// Tasks of a service, also of one that was removed.
    pub fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, TaskId(0))..=(id, TaskId(u128::MAX));
        self.index.by_service.range(range).filter_map(|(_, t)| self.tasks.get(t))
    }

    /// Tasks on a node, ended ones included.
    pub fn tasks_of_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, TaskId(0))..=(id, TaskId(u128::MAX));
        self.index.by_node.range(range).filter_map(|(_, t)| self.tasks.get(t))
    }

    /// Tasks with an address on a network that have not ended.
    pub fn tasks_of_network(&self, id: NetworkId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (id, TaskId(0))..=(id, TaskId(u128::MAX));
        self.index.by_network.range(range).filter_map(|(_, t)| self.tasks.get(t))
    }

    /// Tasks that wait for a node.
    pub fn unplaced(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.index.unplaced.iter().filter_map(|t| self.tasks.get(t))
    }

    /// Ids of all services that have tasks, removed services included.
    #[must_use]
    pub fn services_with_tasks(&self) -> Vec<ServiceId> {
        let mut out = Vec::new();
        let mut from = ServiceId(0);
        while let Some((s, _)) = self.index.by_service.range((from, TaskId(0))..).next() {
            out.push(*s);
            let Some(next) = s.0.checked_add(1) else { break };
            from = ServiceId(next);
        }
        out
    }

    /// Which service publishes a port on every node.
    #[must_use]
    pub fn port_owner(&self, protocol: Protocol, port: u16) -> Option<ServiceId> {
        self.index.ports.get(&(protocol, port)).copied()
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
        };
        meta.map_or(Version(0), |m| m.version)
    }
}
