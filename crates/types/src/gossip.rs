//! What nodes tell each other of their own tasks while no manager can be reached, so that balancers ask no task that has ended or
//! is unhealthy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::dataplane::{DataPlane, IngressView, OverlayView};
use crate::{NetworkId, NodeId, TaskId};

/// TCP port that every node listens on for it: the reference's gossip port.
pub const PORT: u16 = 7946;

/// Addresses of a node's tasks that take no more requests, as they have ended or are unhealthy, though the managers' last word still
/// has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// Each with its network, the mesh's too; [`Gossip::MOST`] at most.
    pub ended: BTreeSet<(NetworkId, Ipv4Addr)>,
}

impl Gossip {
    /// More addresses no node has: a few thousand tasks on a few networks each.
    pub const MOST: usize = 16 * 1024;
}

/// Who has an address: what a node says of it is true of this one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder<'a> {
    /// By the name of its container, which has the task's id in it.
    Named(&'a str),
    /// By the task itself; `None` if a manager of the version before told of it.
    Task(Option<TaskId>),
}

/// Whether a node says that what it runs at an address takes no requests; nobody speaks for another's tasks.
fn is_out(ended: &BTreeMap<NodeId, Gossip>, network: NetworkId, node: NodeId, addr: Ipv4Addr) -> bool {
    ended.get(&node).is_some_and(|g| g.ended.contains(&(network, addr)))
}

fn overlay(view: &mut OverlayView, gone: &BTreeSet<Ipv4Addr>) {
    view.endpoints.retain(|e| !gone.contains(&e.addr));
    for service in &mut view.services {
        service.backends.retain(|addr| !gone.contains(addr));
    }
}

impl DataPlane {
    /// The mesh's network, if the managers have told of it.
    fn of_mesh(&self) -> Option<NetworkId> {
        self.shown.iter().find(|n| n.spec.ingress).map(|n| n.id)
    }

    fn holder(&self, network: NetworkId, addr: Ipv4Addr) -> Option<Holder<'_>> {
        if self.of_mesh() == Some(network) {
            let mut backends = self.ingress.iter().flat_map(|v| &v.ports).flat_map(|p| &p.backends);
            return backends.find(|b| b.addr == addr).map(|b| Holder::Task(b.task));
        }
        let view = self.networks.iter().find(|v| v.id == network)?;
        view.endpoints.iter().find(|e| e.addr == addr).map(|e| Holder::Named(&e.task_name))
    }

    /// Whether the same task or container has an address in both.
    #[must_use]
    pub fn same_holder(&self, other: &Self, network: NetworkId, addr: Ipv4Addr) -> bool {
        self.holder(network, addr) == other.holder(network, addr)
    }

    /// What is left without the tasks that have ended or are unhealthy, by what each node says of its own. `known` is what the managers
    /// had told when that was said: who has the address of one of those tasks since is another task, of which nothing was said.
    #[must_use]
    pub fn without(mut self, ended: &BTreeMap<NodeId, Gossip>, known: &Self) -> Self {
        if ended.values().all(|g| g.ended.is_empty()) {
            return self;
        }
        for i in 0..self.networks.len() {
            let view = &self.networks[i];
            let gone: BTreeSet<Ipv4Addr> = view
                .endpoints
                .iter()
                .filter(|e| is_out(ended, view.id, e.node, e.addr) && self.same_holder(known, view.id, e.addr))
                .map(|e| e.addr)
                .collect();
            if !gone.is_empty() {
                self.networks[i] = view.with(|v| overlay(v, &gone));
            }
        }
        if let (Some(view), Some(id)) = (&self.ingress, self.of_mesh()) {
            let backends = view.ports.iter().flat_map(|p| &p.backends);
            let gone: BTreeSet<Ipv4Addr> = backends
                .filter(|b| is_out(ended, id, b.node, b.addr) && self.same_holder(known, id, b.addr))
                .map(|b| b.addr)
                .collect();
            if !gone.is_empty() {
                let left = view.with(|v: &mut IngressView| {
                    v.ports.iter_mut().for_each(|p| p.backends.retain(|b| !gone.contains(&b.addr)));
                });
                self.ingress = Some(left);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{IngressBackend, IngressPort, OverlayEndpoint, ServiceView, View};
    use crate::object::Network;
    use crate::spec::{NetworkSpec, Protocol};

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 4);

    fn plane() -> DataPlane {
        let endpoint = |addr, node| OverlayEndpoint {
            addr,
            node: NodeId(node),
            task_name: format!("web.{node}"),
            container: None,
            aliases: Vec::new(),
        };
        let service =
            ServiceView { name: "web".into(), aliases: Vec::new(), vip: None, backends: vec![A, B], ports: Vec::new() };
        let network = OverlayView {
            id: NetworkId(1),
            name: "net".into(),
            vni: 4097,
            subnet: crate::Ipv4Net::new(Ipv4Addr::new(10, 0, 1, 0), 24),
            gateway: Ipv4Addr::new(10, 0, 1, 1),
            internal: false,
            encrypted: false,
            mtu: None,
            endpoints: vec![endpoint(A, 1), endpoint(B, 2)],
            services: vec![service],
            pairing: None,
        };
        let backend = |addr, node| IngressBackend { addr, node: NodeId(node), task: Some(TaskId(node)) };
        let port = IngressPort {
            protocol: Protocol::Tcp,
            published: 80,
            target: 8000,
            backends: vec![backend(A, 1), backend(B, 2)],
            host_ip: None,
            prefer_local: false,
        };
        let (subnet, gateway) = (crate::Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 24), Ipv4Addr::new(10, 0, 0, 1));
        let spec = NetworkSpec { ingress: true, ..NetworkSpec::default() };
        let (id, meta) = (NetworkId(9), crate::object::Meta::default());
        let shown = Network { id, meta, spec, subnet, gateway, vni: 4096, v6: None };
        DataPlane {
            networks: vec![View::new(network)],
            ingress: Some(View::new(IngressView { vni: 4096, subnet, ports: vec![port], pairing: None })),
            shown: vec![View::new(shown)],
            ..DataPlane::default()
        }
    }

    fn says(node: u128, ended: &[(u128, Ipv4Addr)]) -> BTreeMap<NodeId, Gossip> {
        [(NodeId(node), Gossip { ended: ended.iter().map(|(n, a)| (NetworkId(*n), *a)).collect() })].into()
    }

    #[test]
    fn what_ended_is_out_of_each_network_that_it_was_on() {
        let left = plane().without(&says(1, &[(1, A), (9, A)]), &plane());
        let network = &left.networks[0];
        assert_eq!(network.endpoints.iter().map(|e| e.addr).collect::<Vec<_>>(), [B]);
        assert_eq!(network.services[0].backends, [B]);
        assert_eq!(left.ingress.unwrap().ports[0].backends.iter().map(|b| b.addr).collect::<Vec<_>>(), [B]);
        // The same address on another network is another one.
        let left = plane().without(&says(1, &[(9, A)]), &plane());
        assert_eq!((left.networks[0].endpoints.len(), left.ingress.unwrap().ports[0].backends.len()), (2, 1));
    }

    #[test]
    fn nobody_speaks_for_others() {
        assert_eq!(plane().without(&says(2, &[(1, A), (9, A)]), &plane()), plane());
        assert_eq!(plane().without(&says(1, &[]), &plane()), plane());
    }

    #[test]
    fn an_address_that_was_given_anew_is_another_tasks() {
        let mut new = plane();
        new.networks[0] = new.networks[0].with(|v| v.endpoints[0].task_name = "web.1.new".to_owned());
        let both = says(1, &[(1, A), (9, A)]);
        let left = new.clone().without(&both, &plane());
        assert_eq!((left.networks[0].endpoints.len(), left.ingress.unwrap().ports[0].backends.len()), (2, 1));
        new.ingress = new.ingress.map(|v| v.with(|v| v.ports[0].backends[0].task = Some(TaskId(7))));
        assert_eq!(new.clone().without(&both, &plane()), new);
        // Nor is one that nobody had at the time.
        let none = DataPlane { shown: plane().shown, ..DataPlane::default() };
        assert_eq!(plane().without(&both, &none), plane());
    }
}
