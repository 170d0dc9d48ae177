//! One overlay network on one host: a VXLAN device in a namespace of its own, of which each container's interface is a share (macvlan).
//!
//! Nothing is learned or flooded: every endpoint of another host is a neighbour of the device, which answers ARP and neighbour
//! solicitations for it, and a forwarding entry. A broadcast never leaves the host.
//!
//! Containers that a version before connected by pairs and a bridge keep these, and as long as there is one of them all others here
//! are connected so, too; the same holds where the kernel lacks macvlan. Then neighbours are the bridge's.

use crate::facts::{Attach, Facts};
use crate::host::{self, tunnel};
use crate::state::{FdbEntry, Link, LinkKind, Mac, NetnsState, PortMode};

/// Name of the bridge in an overlay namespace, if there is one.
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
    let bridged = facts.attached(&to).any(|(_, endpoint)| endpoint.veth.is_some());
    let mtu = Some(member.overlay_mtu(view));
    let mut state = NetnsState::default();
    let port = if view.encrypted { tunnel::inner_port(member) } else { host::vxlan_port(member) };
    let kind = LinkKind::Vxlan { id: view.vni, local: member.addr, port, answers: !bridged };
    let mut vxlan = Link { kind, mtu, mac: None, master: None, mode: PortMode::Usual };
    if bridged {
        // Of its own and given, no task's: a bridge that takes one of its ports' changes it with them, and the kernel then forgets
        // all neighbours.
        let mac = Some(Mac::of(view.subnet.network().addr));
        let bridge = Link { kind: LinkKind::Bridge, mtu, mac, master: None, mode: PortMode::Usual };
        state.links.insert(BRIDGE.to_owned(), bridge);
        (vxlan.master, vxlan.mode) = (Some(BRIDGE.to_owned()), PortMode::Static);
        let port = |(container, endpoint)| host::veth(container, endpoint, BRIDGE, PortMode::Usual);
        state.links.extend(facts.attached(&to).filter_map(port));
        for key in ["iptables", "ip6tables"] {
            state.sysctls.insert(format!("net/bridge/bridge-nf-call-{key}"), "0".to_owned());
        }
    }
    state.links.insert(VXLAN.to_owned(), vxlan);
    let knows = if bridged { BRIDGE } else { VXLAN };
    for endpoint in view.endpoints.iter().filter(|e| e.node != member.node) {
        let Some(peer) = member.plane.peers.iter().find(|p| p.node == endpoint.node) else { continue };
        let mac = Mac::of(endpoint.addr);
        state.neighbours.insert((knows.to_owned(), endpoint.addr.into()), mac);
        if let Some(six) = facts.pairing(view).and_then(|p| p.six(endpoint.addr)) {
            state.neighbours.insert((knows.to_owned(), six.into()), mac);
        }
        state.fdb.insert((VXLAN.to_owned(), mac), FdbEntry { dst: peer.addr, bridged });
    }
    Some(state)
}
