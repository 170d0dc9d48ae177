//! One overlay network on one host: a bridge and a VXLAN device in a namespace of their own.
//!
//! Nothing is learned or flooded: every reachable endpoint is a neighbour of the bridge (which answers ARP and neighbour solicitations for it) and a forwarding
//! entry of both bridge and VXLAN device. A broadcast never leaves the host.

use crate::facts::{Attach, Facts};
use crate::host::{self, tunnel};
use crate::state::{FdbEntry, Link, LinkKind, Mac, NetnsState, PortMode};

/// Name of the bridge in an overlay namespace.
pub const BRIDGE: &str = "br0";
/// Name of the VXLAN device in an overlay namespace.
pub const VXLAN: &str = "vx0";

/// The wanted state of the namespace of overlay network `id`; `None` if it should not exist here, for want of a local container or
/// of the managers' word.
#[must_use]
pub fn overlay(facts: &Facts, id: &str) -> Option<NetnsState> {
    let member = facts.member.as_ref()?;
    let view = facts.overlay(id)?;
    let to = Attach::Overlay(id.to_owned());
    facts.attached(&to).next()?;
    let mtu = Some(member.overlay_mtu(view));
    let mut state = NetnsState::default();
    // Of its own and given, no task's: a bridge that takes one of its ports' changes it with them, and the kernel then forgets
    // all neighbours.
    let mac = Some(Mac::of(view.subnet.network().addr));
    let bridge = Link { kind: LinkKind::Bridge, mtu, mac, master: None, mode: PortMode::Usual };
    state.links.insert(BRIDGE.to_owned(), bridge);
    let port = if view.encrypted { tunnel::inner_port(member) } else { host::vxlan_port(member) };
    let kind = LinkKind::Vxlan { id: view.vni, local: member.addr, port };
    let vxlan = Link { kind, mtu, mac: None, master: Some(BRIDGE.to_owned()), mode: PortMode::Static };
    state.links.insert(VXLAN.to_owned(), vxlan);
    for (container, endpoint) in facts.attached(&to) {
        state.links.insert(endpoint.veth.clone(), host::veth(container, endpoint, BRIDGE, PortMode::Usual));
    }
    for endpoint in view.endpoints.iter().filter(|e| e.node != member.node) {
        let Some(peer) = member.plane.peers.iter().find(|p| p.node == endpoint.node) else { continue };
        let mac = Mac::of(endpoint.addr);
        state.neighbours.insert((BRIDGE.to_owned(), endpoint.addr.into()), mac);
        if let Some(six) = facts.pairing(view).and_then(|p| p.six(endpoint.addr)) {
            state.neighbours.insert((BRIDGE.to_owned(), six.into()), mac);
        }
        state.fdb.insert((VXLAN.to_owned(), mac), FdbEntry { dst: peer.addr, bridged: true });
    }
    for key in ["iptables", "ip6tables"] {
        state.sysctls.insert(format!("net/bridge/bridge-nf-call-{key}"), "0".to_owned());
    }
    Some(state)
}
