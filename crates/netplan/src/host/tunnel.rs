//! Encrypted overlay networks: their VXLAN packets go to a UDP port of their own, which a routing rule sends through a WireGuard link.
//!
//! Between nodes only WireGuard's packets are seen, on the port after that of VXLAN. Nothing of these networks is ever sent or taken in
//! plain: without the link the rule leads nowhere, and the tables drop what leaves or comes by any other way.

use std::net::Ipv4Addr;

use skep_types::Ipv4Net;

use super::vxlan_port;
use crate::facts::{Attach, Facts, Member, WIREGUARD_OVERHEAD};
use crate::nft::rule::{iif_not, in_set, join, oif_not, udp_to, verdict};
use crate::nft::{Expr, Load, Rule as NftRule, Verdict};
use crate::state::{Address, Link, LinkKind, NetnsState, PortMode, Route, Rule, Selector};
use crate::version::Version;

/// Name of the WireGuard link.
pub const LINK: &str = "skwg";
/// Routing table of what goes through it.
const TABLE: u32 = 4791;
/// The link's own address, never on the wire and the same everywhere.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 89, 253);

/// UDP port of WireGuard's packets, which nodes must be able to send each other: the one after that of VXLAN.
#[must_use]
pub fn port(member: &Member) -> u16 {
    vxlan_port(member).saturating_add(1)
}

/// UDP port of the VXLAN packets inside, never seen between nodes.
#[must_use]
pub(crate) fn inner_port(member: &Member) -> u16 {
    vxlan_port(member).saturating_add(2)
}

/// Adds the link, its peers and the way to it, if a container here is on an encrypted network.
pub(super) fn add(facts: &Facts, member: &Member, state: &mut NetnsState) {
    let attached = |id: String| facts.attached(&Attach::Overlay(id)).next().is_some();
    if !member.plane.networks.iter().any(|n| n.encrypted && attached(n.id.to_string())) {
        return;
    }
    let dev = || LINK.to_owned();
    let kind = LinkKind::WireGuard { port: port(member) };
    let mtu = Some(member.mtu.saturating_sub(WIREGUARD_OVERHEAD));
    state.links.insert(dev(), Link { kind, mtu, mac: None, master: None, mode: PortMode::Usual });
    let peers = member.plane.peers.iter().filter_map(|p| Some(((dev(), p.addr), p.wireguard?)));
    state.wireguard.extend(peers);
    let dest = Version::V4.everything();
    state.routes.insert(Route { table: TABLE, dest, gateway: None, dev: dev(), onlink: false });
    state.rules.insert(Rule { priority: 5001, version: Version::V4, of: Selector::OwnUdp(inner_port(member)), table: TABLE });
    // peers are on the underlay, by the routes: loose, which the kernel only is for a link that has an address
    state.addresses.insert(Address { dev: dev(), net: Ipv4Net::new(ADDRESS, 32).into() });
    state.sysctls.insert(format!("net/ipv4/conf/{LINK}/rp_filter"), "2".to_owned());
}

/// Drops what comes in plain, whatever other tables say before or after.
pub(super) fn plain_in(member: &Member) -> NftRule {
    join(vec![iif_not(LINK), udp_to(inner_port(member)), verdict(Verdict::Drop)])
}

/// Drops what would leave in plain.
pub(super) fn plain_out(member: &Member) -> NftRule {
    join(vec![oif_not(LINK), udp_to(inner_port(member)), verdict(Verdict::Drop)])
}

/// VXLAN packets from or to members, plain and inside the tunnel, belong to no connection: each flow inside has a source port of its own,
/// so that tracking them would remember every connection of tasks twice more on each host, and look each up in the tables of ports.
pub(super) fn untracked(member: &Member, other: Load) -> [NftRule; 2] {
    [vxlan_port(member), inner_port(member)]
        .map(|port| join(vec![udp_to(port), in_set(other, "members", true), vec![Expr::NoTrack]]))
}

#[cfg(test)]
mod tests {
    use skep_types::dataplane::{DataPlane, OverlayView, Peer, View};
    use skep_types::wireguard::PublicKey;
    use skep_types::{NetworkId, NodeId};

    use super::*;
    use crate::facts::{Container, Endpoint};
    use crate::state::Ns;
    use crate::{Step, absorb, diff, host, overlay};

    const NET: NetworkId = NetworkId(5);

    fn facts(encrypted: bool, key: Option<u8>) -> Facts {
        let view = OverlayView {
            id: NET,
            name: "n".to_owned(),
            vni: 4097,
            subnet: Ipv4Net::new(Ipv4Addr::new(10, 0, 1, 0), 24),
            gateway: Ipv4Addr::new(10, 0, 1, 1),
            internal: false,
            encrypted,
            mtu: None,
            endpoints: Vec::new(),
            services: Vec::new(),
            pairing: None,
        };
        let peer = Peer {
            node: NodeId(2),
            addr: Ipv4Addr::new(192, 168, 0, 2),
            ingress_addr: Ipv4Addr::new(10, 255, 0, 2),
            wireguard: key.map(|k| PublicKey([k; 32])),
            ipv6: None,
        };
        let plane = DataPlane { peers: [peer].into_iter().collect(), networks: vec![View::new(view)], ..DataPlane::default() };
        let addr = Ipv4Addr::new(192, 168, 0, 1);
        let endpoint = Endpoint {
            attach: Attach::Overlay(NET.to_string()),
            ifname: "eth0".to_owned(),
            veth: None,
            net: Ipv4Net::new(Ipv4Addr::new(10, 0, 1, 3), 24),
            gateway: None,
            mtu: 1390,
            direct: false,
            net6: None,
            gateway6: None,
        };
        let container = Container {
            ns: Ns::Sandbox("c".to_owned()),
            endpoints: vec![endpoint],
            ports: Vec::new(),
            ingress: None,
            ingress_ports: Vec::new(),
            dns_port: None,
        };
        let member = Member { node: NodeId(1), addr, mtu: 1500, plane, drained: Default::default() };
        Facts { member: Some(member), containers: vec![container], ..Facts::default() }
    }

    fn apply(applied: &mut NetnsState, wanted: &NetnsState) -> Vec<Step> {
        let steps = diff(applied, wanted);
        steps.iter().for_each(|s| absorb(applied, s));
        assert_eq!(diff(applied, wanted), []);
        steps
    }

    #[test]
    fn the_link_is_there_as_long_as_a_container_needs_it() {
        let plain = host::host(&facts(false, Some(1)));
        assert!(!plain.links.contains_key(LINK) && plain.wireguard.is_empty());
        let mut none = facts(true, Some(1));
        none.containers.clear();
        assert!(!host::host(&none).links.contains_key(LINK));
        let wanted = host::host(&facts(true, Some(1)));
        assert_eq!(wanted.links[LINK].mtu, Some(1440));
        assert_eq!(wanted.links[LINK].kind, LinkKind::WireGuard { port: 4790 });
        let mut applied = NetnsState::default();
        let _ = apply(&mut applied, &wanted);
        assert_eq!(applied, wanted);
        let steps = apply(&mut applied, &plain);
        assert!(steps.contains(&Step::DelLink(LINK.to_owned())), "{steps:?}");
        assert_eq!(applied, plain, "what sat on the link went with it");
    }

    #[test]
    fn frames_of_an_encrypted_network_have_a_port_of_their_own_and_room_for_the_tunnel() {
        for (encrypted, port, mtu) in [(false, 4789, 1450), (true, 4791, 1390)] {
            let state = overlay::overlay(&facts(encrypted, None), &NET.to_string()).unwrap();
            let link = &state.links[overlay::VXLAN];
            assert!(matches!(link.kind, LinkKind::Vxlan { port: p, .. } if p == port), "{link:?}");
            assert_eq!(link.mtu, Some(mtu));
        }
        // In plain nothing may come or leave at that port, whether such a network is here or not.
        let state = host::host(&facts(false, None));
        let member = facts(false, None).member.unwrap();
        let table = state.tables.values().find(|t| t.chains.contains_key("raw")).unwrap();
        let has = |chain: &str, rule: NftRule| table.chains[chain].rules.contains(&rule);
        assert!(has("raw", plain_in(&member)) && has("input", plain_in(&member)) && has("output", plain_out(&member)));
        let untracked = |from_or_to| untracked(&member, from_or_to);
        assert_eq!(table.chains["rawout"].rules, untracked(Load::IpDaddr));
        assert!(table.chains["raw"].rules.ends_with(&untracked(Load::IpSaddr)));
    }

    #[test]
    fn a_peer_with_another_key_is_another_peer() {
        let mut applied = NetnsState::default();
        let _ = apply(&mut applied, &host::host(&facts(true, Some(1))));
        let at = Ipv4Addr::new(192, 168, 0, 2);
        let steps = apply(&mut applied, &host::host(&facts(true, Some(2))));
        let (old, new) = (PublicKey([1; 32]), PublicKey([2; 32]));
        assert_eq!(steps, [Step::DelPeer(LINK.to_owned(), at, old), Step::SetPeer(LINK.to_owned(), at, new)]);
        // One without a key is no peer: nothing is sent to it.
        let steps = apply(&mut applied, &host::host(&facts(true, None)));
        assert_eq!(steps, [Step::DelPeer(LINK.to_owned(), at, new)]);
    }
}
