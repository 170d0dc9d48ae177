//! What nodes tell each other of their own tasks while no manager can be reached, so that balancers ask no task that has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::dataplane::{DataPlane, IngressView, OverlayView};
use crate::{NetworkId, NodeId};

/// TCP port that every node listens on for it: the reference's gossip port.
pub const PORT: u16 = 7946;

/// Addresses of a node's tasks that have ended, though the managers' last word still has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// Each with its network, the mesh's too; [`Gossip::MOST`] at most.
    pub ended: BTreeSet<(NetworkId, Ipv4Addr)>,
}

impl Gossip {
    /// More addresses no node has: a few thousand tasks on a few networks each.
    pub const MOST: usize = 16 * 1024;
}

/// Takes out what is said to have ended by the node that ran it; nobody speaks for another's tasks.
fn is_left(ended: &BTreeMap<NodeId, Gossip>, network: NetworkId, node: NodeId, addr: Ipv4Addr) -> bool {
    ended.get(&node).is_none_or(|g| !g.ended.contains(&(network, addr)))
}

fn overlay(view: &mut OverlayView, ended: &BTreeMap<NodeId, Gossip>) {
    let id = view.id;
    let gone: BTreeSet<Ipv4Addr> =
        view.endpoints.iter().filter(|e| !is_left(ended, id, e.node, e.addr)).map(|e| e.addr).collect();
    view.endpoints.retain(|e| !gone.contains(&e.addr));
    for service in &mut view.services {
        service.backends.retain(|addr| !gone.contains(addr));
    }
}

fn mesh(view: &mut IngressView, network: NetworkId, ended: &BTreeMap<NodeId, Gossip>) {
    for port in &mut view.ports {
        port.backends.retain(|b| is_left(ended, network, b.node, b.addr));
    }
}

impl DataPlane {
    /// What is left without the tasks that have ended, by what each node says of its own.
    #[must_use]
    pub fn without(mut self, ended: &BTreeMap<NodeId, Gossip>) -> Self {
        if ended.values().all(|g| g.ended.is_empty()) {
            return self;
        }
        for view in &mut self.networks {
            if view.endpoints.iter().any(|e| !is_left(ended, view.id, e.node, e.addr)) {
                *view = view.with(|v| overlay(v, ended));
            }
        }
        let of_mesh = self.shown.iter().find(|n| n.spec.ingress).map(|n| n.id);
        if let (Some(view), Some(id)) = (&mut self.ingress, of_mesh) {
            let ends = |v: &IngressView| v.ports.iter().flat_map(|p| &p.backends).any(|b| !is_left(ended, id, b.node, b.addr));
            if ends(view) {
                *view = view.with(|v| mesh(v, id, ended));
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
            task_name: String::new(),
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
        let backend = |addr, node| IngressBackend { addr, node: NodeId(node) };
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
        let left = plane().without(&says(1, &[(1, A), (9, A)]));
        let network = &left.networks[0];
        assert_eq!(network.endpoints.iter().map(|e| e.addr).collect::<Vec<_>>(), [B]);
        assert_eq!(network.services[0].backends, [B]);
        assert_eq!(left.ingress.unwrap().ports[0].backends.iter().map(|b| b.addr).collect::<Vec<_>>(), [B]);
        // The same address on another network is another one.
        let left = plane().without(&says(1, &[(9, A)]));
        assert_eq!((left.networks[0].endpoints.len(), left.ingress.unwrap().ports[0].backends.len()), (2, 1));
    }

    #[test]
    fn nobody_speaks_for_others() {
        assert_eq!(plane().without(&says(2, &[(1, A), (9, A)])), plane());
        assert_eq!(plane().without(&says(1, &[])), plane());
    }
}
