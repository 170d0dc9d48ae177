//! The host's own namespace: bridges, the mesh of published ports with the clients' own addresses, and the tables around them.
//!
//! The mesh: an entry node sends a client's packet unchanged but for its destination over the link [`MESH`], a VXLAN device without a
//! bridge; the task's node marks the connection by the entry node and sends the answers back that way. See `ARCHITECTURE.md`,
//! "a packet". The tables are of constant size in rules but for the bridges; ports and tasks are map elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::{Ipv4Net, Ipv6Net};

use crate::entry;
use crate::facts::{Attach, Bridge, Container, Endpoint, Facts, IPV6_MTU, Member, Parent, VXLAN_OVERHEAD};
use crate::state::{Address, FdbEntry, Link, LinkKind, Mac, NetnsState, PortMode, Route, Rule, Selector};
use crate::version::Version;

mod mesh;
mod tables;
pub mod tunnel;

/// Name of the mesh's link.
pub const MESH: &str = "sking";
/// Upper bits of every mark of the mesh; the lower twenty are those of the entry node's ingress address.
pub const MARK: u32 = 0x5ce0_0000;
/// Bits of [`MARK`].
pub const MARK_MASK: u32 = 0xfff0_0000;
/// Routing table of the mesh's answers.
const MESH_TABLE: u32 = 4789;
/// Next hop that stands for "the entry node of this connection"; never on the wire, so any link-local address does.
const PLACEHOLDER: Ipv4Addr = Ipv4Addr::new(169, 254, 89, 254);
/// The same for IPv6.
const PLACEHOLDER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x89, 0x254);
/// Routing table of a host's own addresses …
pub(crate) const LOCAL_TABLE: u32 = 255;
/// … and the main one.
const MAIN_TABLE: u32 = 254;

/// UDP port of VXLAN: the managers' word, or IANA's.
#[must_use]
pub(crate) fn vxlan_port(member: &Member) -> u16 {
    if member.plane.data_path_port == 0 { 4789 } else { member.plane.data_path_port }
}

/// The outer end of a container's interface, if that is a pair: a port of a bridge.
pub(crate) fn veth(container: &Container, endpoint: &Endpoint, bridge: &str, mode: PortMode) -> Option<(String, Link)> {
    let kind = LinkKind::Veth {
        peer_ns: container.ns.clone(),
        peer_name: endpoint.ifname.clone(),
        peer_mac: Mac::of(endpoint.net.addr),
    };
    let link = Link { kind, mtu: Some(endpoint.mtu), mac: None, master: Some(bridge.to_owned()), mode };
    endpoint.veth.clone().map(|name| (name, link))
}

/// The wanted state of the host's namespace.
#[must_use]
pub fn host(facts: &Facts) -> NetnsState {
    let mut state = NetnsState::default();
    for bridge in &facts.bridges {
        add_bridge(facts, bridge, &mut state);
    }
    for parent in &facts.parents {
        let (name, kind) = match parent {
            // A bridge without ports: every kernel has it, and nothing that is sent there arrives anywhere.
            Parent::Alone(name) => (name, LinkKind::Bridge),
            Parent::Vlan { link, of, id } => (link, LinkKind::Vlan { parent: of.clone(), id: *id }),
        };
        state.links.insert(name.clone(), Link { kind, mtu: None, mac: None, master: None, mode: PortMode::Usual });
    }
    if !facts.bridges.is_empty() {
        state.sysctls.insert("net/ipv4/ip_forward".to_owned(), "1".to_owned());
        // a bridged frame must not meet the host's forward rules
        for key in ["iptables", "ip6tables"] {
            state.sysctls.insert(format!("net/bridge/bridge-nf-call-{key}"), "0".to_owned());
        }
    }
    if facts.versions().contains(&Version::V6) {
        state.sysctls.insert("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned());
    }
    if let Some(member) = &facts.member {
        add_mesh(facts, member, &mut state);
        tunnel::add(facts, member, &mut state);
    }
    tables::add(facts, &mut state);
    state
}

fn add_bridge(facts: &Facts, bridge: &Bridge, state: &mut NetnsState) {
    let link = &bridge.link;
    // without an own address the bridge would take that of its lowest port, and change it
    let mac = Some(Mac::of(bridge.net.addr));
    let made = Link { kind: LinkKind::Bridge, mtu: Some(bridge.mtu), mac, master: None, mode: PortMode::Usual };
    state.links.insert(link.clone(), made);
    state.addresses.insert(Address { dev: link.clone(), net: bridge.net.into() });
    // nobody on it tells this host its routes
    state.sysctls.insert(format!("net/ipv6/conf/{link}/accept_ra"), "0".to_owned());
    if let Some(net) = bridge.net6.filter(|_| facts.ipv6 && bridge.mtu >= IPV6_MTU) {
        add_ipv6(link, net, state);
    }
    // lets 127.0.0.1:PORT of the host be sent to a container; others' 127.0.0.0/8 is dropped in chain `raw`
    state.sysctls.insert(format!("net/ipv4/conf/{link}/route_localnet"), "1".to_owned());
    let mode = if bridge.isolated { PortMode::Isolated } else { PortMode::Usual };
    let to = Attach::Bridge(link.clone());
    state.links.extend(facts.attached(&to).filter_map(|(container, endpoint)| veth(container, endpoint, link, mode)));
}

/// An address of IPv6 on a link, to which what this host sends from `::1` is sent.
fn add_ipv6(link: &str, net: Ipv6Net, state: &mut NetnsState) {
    // where an administrator has switched it off for links in general
    state.sysctls.insert(format!("net/ipv6/conf/{link}/disable_ipv6"), "0".to_owned());
    // What is forwarded waits for the neighbour whom the link-local address asks for, and that for nobody else to have it: two seconds
    // during which a published port is silent. It follows from an Ethernet address that is ours to give.
    state.sysctls.insert(format!("net/ipv6/conf/{link}/accept_dad"), "0".to_owned());
    state.addresses.insert(Address { dev: link.to_owned(), net: net.into() });
    // [::1]:PORT of the host may be sent to a container, as 127.0.0.1:PORT may by `route_localnet`: an answer is for ::1 once its
    // translation is undone, and of loopback addresses the kernel takes only the routes of the link that the packet came by. From the
    // wire it takes no packet to or from ::1 at all.
    let dest = Version::V6.loopback();
    state.routes.insert(Route { table: LOCAL_TABLE, dest, gateway: None, dev: link.to_owned(), onlink: false });
}

fn add_mesh(facts: &Facts, member: &Member, state: &mut NetnsState) {
    let plane = &member.plane;
    let (Some(view), Some(own)) = (&plane.ingress, plane.ingress_addr) else { return };
    let dev = || MESH.to_owned();
    let kind = LinkKind::Vxlan { id: view.vni, local: member.addr, port: vxlan_port(member), answers: false };
    let mtu = Some(member.mtu.saturating_sub(VXLAN_OVERHEAD));
    let link = Link { kind, mtu, mac: Some(Mac::of(own)), master: None, mode: PortMode::Usual };
    state.links.insert(dev(), link);
    state.addresses.insert(Address { dev: dev(), net: Ipv4Net::new(own, view.subnet.prefix).into() });
    state.sysctls.insert(format!("net/ipv6/conf/{MESH}/accept_ra"), "0".to_owned());
    if let Some((pairing, six)) = facts.mesh_pairing().and_then(|p| Some((p, p.six(own)?))) {
        add_ipv6(MESH, Ipv6Net::new(six, pairing.v6.subnet.prefix), state);
    }
    for peer in plane.peers.iter() {
        state.fdb.insert((dev(), Mac::of(peer.ingress_addr)), FdbEntry { dst: peer.addr, bridged: false });
    }
    let versions = if facts.mesh_pairing().is_some() { &[Version::V4, Version::V6][..] } else { &[Version::V4] };
    for version in versions {
        let placeholder = match version {
            Version::V4 => IpAddr::from(PLACEHOLDER),
            Version::V6 => PLACEHOLDER6.into(),
        };
        state.neighbours.insert((dev(), placeholder), Mac::of(PLACEHOLDER));
        let nodes = plane.peers.iter().map(|p| (p.ingress_addr, p.ingress_addr));
        for (addr, node) in nodes.chain(mesh::remote_backends(member)) {
            if let Some(addr) = facts.in_mesh(addr, *version) {
                state.neighbours.insert((dev(), addr), Mac::of(node));
            }
        }
        let of = Selector::Mark { mark: MARK, mask: MARK_MASK };
        state.rules.insert(Rule { priority: 5000, version: *version, of, table: MESH_TABLE });
        state.routes.insert(Route {
            table: MESH_TABLE,
            dest: version.everything(),
            gateway: Some(placeholder),
            dev: dev(),
            // a link-local address of IPv6 is on its link anyway
            onlink: *version == Version::V4,
        });
    }
    for way in facts.containers.iter().flat_map(|c| facts.ways_in(c)) {
        let (dest, dev) = (entry::range(way.own), way.bridge.link.clone());
        state.routes.insert(Route { table: MAIN_TABLE, dest, gateway: Some(way.own), dev, onlink: false });
    }
    // clients' addresses arrive here that are routed elsewhere: loose
    state.sysctls.insert(format!("net/ipv4/conf/{MESH}/rp_filter"), "2".to_owned());
    state.sysctls.insert(format!("net/ipv4/conf/{MESH}/route_localnet"), "1".to_owned());
    mesh::add(facts, member, view, state);
}
