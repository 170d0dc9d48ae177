//! Secondary indexes: found by another key, and held by one owner only. Derived from the tables alone; must never be stored.

use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};
use skep_types::object::{Network, Node, Service, Task, TaskState};
use skep_types::spec::{Protocol, PublishMode};
use skep_types::{NetworkId, NodeId, ServiceId, TaskId};

use crate::Refused;

/// Who holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOwner {
    /// The gateway of the network.
    Gateway,
    /// The virtual address of a service.
    Service(ServiceId),
    /// A task that has not ended.
    Task(TaskId),
    /// A node on the ingress network.
    Node(NodeId),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Indexes {
    pub(crate) service_names: OrdMap<String, ServiceId>,
    pub(crate) network_names: OrdMap<String, NetworkId>,
    pub(crate) by_service: OrdSet<(ServiceId, TaskId)>,
    pub(crate) by_node: OrdSet<(NodeId, TaskId)>,
    pub(crate) by_network: OrdSet<(NetworkId, TaskId)>,
    pub(crate) unplaced: OrdSet<TaskId>,
    pub(crate) ports: OrdMap<(Protocol, u16), ServiceId>,
    pub(crate) addresses: OrdMap<(NetworkId, Ipv4Addr), AddressOwner>,
    pub(crate) vnis: OrdMap<u32, NetworkId>,
}

impl Indexes {
    fn hold(&mut self, network: NetworkId, addr: Ipv4Addr, owner: AddressOwner) -> Result<(), Refused> {
        match self.addresses.insert((network, addr), owner) {
            Some(other) if other != owner => Err(Refused::Address { network, addr }),
            _ => Ok(()),
        }
    }

    fn release(&mut self, network: NetworkId, addr: Ipv4Addr) {
        self.addresses.remove(&(network, addr));
    }

    pub(crate) fn add_service(&mut self, s: &Service, name_of: impl Fn(ServiceId) -> String) -> Result<(), Refused> {
        if self.service_names.insert(s.spec.name.clone(), s.id).is_some() {
            return Err(Refused::Name { kind: "service".into(), name: s.spec.name.clone() });
        }
        for p in s.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0) {
            if let Some(owner) = self.ports.insert((p.protocol, p.published), s.id) {
                return Err(Refused::Port { protocol: p.protocol, port: p.published, owner, name: name_of(owner) });
            }
        }
        s.vips.iter().try_for_each(|v| self.hold(v.network, v.addr.addr, AddressOwner::Service(s.id)))
    }

    pub(crate) fn remove_service(&mut self, s: &Service) {
        self.service_names.remove(&s.spec.name);
        for p in s.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0) {
            self.ports.remove(&(p.protocol, p.published));
        }
        for v in &s.vips {
            self.release(v.network, v.addr.addr);
        }
    }

    pub(crate) fn add_task(&mut self, t: &Task) -> Result<(), Refused> {
        self.by_service.insert((t.service, t.id));
        match t.node {
            Some(n) => {
                self.by_node.insert((n, t.id));
            }
            None if t.desired <= TaskState::Running && !t.status.state.is_terminal() => {
                self.unplaced.insert(t.id);
            }
            None => {}
        }
        // What has ended holds nothing any more.
        if !t.status.state.is_terminal() {
            for a in &t.networks {
                self.by_network.insert((a.network, t.id));
                self.hold(a.network, a.addr.addr, AddressOwner::Task(t.id))?;
            }
        }
        Ok(())
    }

    pub(crate) fn remove_task(&mut self, t: &Task) {
        self.by_service.remove(&(t.service, t.id));
        if let Some(n) = t.node {
            self.by_node.remove(&(n, t.id));
        }
        self.unplaced.remove(&t.id);
        if !t.status.state.is_terminal() {
            for a in &t.networks {
                self.by_network.remove(&(a.network, t.id));
                self.release(a.network, a.addr.addr);
            }
        }
    }

    pub(crate) fn add_network(&mut self, n: &Network, others: impl Iterator<Item = Network>) -> Result<(), Refused> {
        if self.network_names.insert(n.spec.name.clone(), n.id).is_some() {
            return Err(Refused::Name { kind: "network".into(), name: n.spec.name.clone() });
        }
        if let Some(owner) = self.vnis.insert(n.vni, n.id) {
            return Err(Refused::Vni { vni: n.vni, owner });
        }
        for o in others {
            if o.id != n.id && o.subnet.overlaps(&n.subnet) {
                return Err(Refused::Subnet { owner: o.id });
            }
        }
        self.hold(n.id, n.gateway, AddressOwner::Gateway)
    }

    pub(crate) fn remove_network(&mut self, n: &Network) {
        self.network_names.remove(&n.spec.name);
        self.vnis.remove(&n.vni);
        self.release(n.id, n.gateway);
    }

    pub(crate) fn add_node(&mut self, n: &Node, ingress: Option<NetworkId>) -> Result<(), Refused> {
        match ingress.zip(n.ingress_addr) {
            Some((net, addr)) => self.hold(net, addr, AddressOwner::Node(n.id)),
            None => Ok(()),
        }
    }

    pub(crate) fn remove_node(&mut self, n: &Node, ingress: Option<NetworkId>) {
        if let Some((net, addr)) = ingress.zip(n.ingress_addr) {
            self.release(net, addr);
        }
    }
}
