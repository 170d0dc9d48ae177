//! What a node knows when it plans its network: its own place, the managers' view, its bridges and its containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use skep_types::dataplane::{DataPlane, OverlayView};
use skep_types::net::Pairing;
use skep_types::spec::Protocol;
use skep_types::{IpNet, Ipv4Net, Ipv6Net, NodeId};

use crate::state::{ChildKind, Ns};
use crate::version::Version;

/// Bytes that VXLAN over IPv4 takes from each packet (outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14).
pub const VXLAN_OVERHEAD: u32 = 50;

/// Bytes that WireGuard over IPv4 takes from each packet (outer IP 20, UDP 8, header 16, tag 16).
pub const WIREGUARD_OVERHEAD: u32 = 60;

/// Bytes of payload below which the kernel takes IPv6 from a link (RFC 8200, 5).
pub const IPV6_MTU: u32 = 1280;

/// This node inside its swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its address on the underlay: source of its VXLAN packets.
    pub addr: Ipv4Addr,
    /// Payload size of the underlay.
    pub mtu: u32,
    /// What the managers last said.
    pub plane: DataPlane,
    /// Mesh addresses of tasks that once took requests, with their nodes: their held connections still need a way. At most as many
    /// as the ingress network has addresses; an address that is given anew, or whose node or network is gone, leaves.
    pub drained: BTreeMap<Ipv4Addr, NodeId>,
}

impl Member {
    /// Takes the managers' next word, remembering who took requests until now.
    pub fn advance(&mut self, plane: DataPlane) {
        let ports = self.plane.ingress.iter().flat_map(|view| &view.ports);
        self.drained.extend(ports.flat_map(|port| &port.backends).map(|b| (b.addr, b.node)));
        self.plane = plane;
        let ports = self.plane.ingress.iter().flat_map(|view| &view.ports);
        for backend in ports.flat_map(|port| &port.backends) {
            self.drained.remove(&backend.addr);
        }
        // Those of a mesh that was replaced lead nowhere.
        let mesh = self.plane.ingress.as_ref().map(|view| view.subnet);
        let peers = &self.plane.peers;
        self.drained.retain(|addr, node| mesh.is_some_and(|m| m.contains(*addr)) && peers.iter().any(|p| p.node == *node));
    }
}

/// A bridge of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the link.
    pub link: String,
    /// Its own address, the gateway of its containers, with the prefix of its network.
    pub net: Ipv4Net,
    /// The same of IPv6, if its network has that.
    pub net6: Option<Ipv6Net>,
    /// Nothing passes between it and anything else.
    pub internal: bool,
    /// What leaves has the host's address.
    pub masquerade: bool,
    /// Its containers cannot reach each other.
    pub isolated: bool,
    /// Payload size.
    pub mtu: u32,
    /// The way out for containers on overlay networks.
    pub gwbridge: bool,
}

impl Bridge {
    /// Its own address of a family.
    #[must_use]
    pub fn net_of(&self, version: Version) -> Option<IpNet> {
        match version {
            Version::V4 => Some(self.net.into()),
            Version::V6 => self.net6.map(IpNet::from),
        }
    }
}

/// What an interface of a container is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// A bridge of this host, by its link's name.
    Bridge(String),
    /// An overlay network, by its id as text.
    Overlay(String),
    /// A link of this host that it shares.
    Link(String, ChildKind),
}

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is connected to.
    pub attach: Attach,
    /// Name inside the container.
    pub ifname: String,
    /// Name of the outer end of the pair; unique in its namespace. `None` if it shares a link instead.
    pub veth: Option<String>,
    /// Address with the prefix of the network.
    pub net: Ipv4Net,
    /// Next hop of the default route, if that leaves here.
    pub gateway: Option<Ipv4Addr>,
    /// The default route leaves here without a next hop: the link itself finds the way.
    pub direct: bool,
    /// Payload size; 0 for that of the link it shares.
    pub mtu: u32,
    /// Address of IPv6, if the network has that.
    pub net6: Option<Ipv6Net>,
    /// Next hop of the default route of IPv6, if that leaves here.
    pub gateway6: Option<Ipv6Addr>,
}

impl Endpoint {
    /// Whether its packets are large enough for IPv6.
    pub(crate) fn carries_ipv6(&self) -> bool {
        self.mtu == 0 || self.mtu >= IPV6_MTU
    }
}

/// A port of a container that the host answers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host; `0.0.0.0` is any of IPv4 and `::` any of IPv6.
    pub host_ip: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Address of the container, of the same family.
    pub addr: IpAddr,
    /// Port of the container.
    pub port: u16,
}

/// A container with a network namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its namespace.
    pub ns: Ns,
    /// Its interfaces.
    pub endpoints: Vec<Endpoint>,
    /// Its ports on this host.
    pub ports: Vec<Published>,
    /// Its address in the mesh of published ports.
    pub ingress: Option<Ipv4Addr>,
    /// Its ports there. They are answered as long as the container is there, whatever the managers say: another node may send a
    /// request before this one heard that the task serves, or after it heard that it does not.
    pub ingress_ports: Vec<(Protocol, u16)>,
    /// Port of the resolver on 127.0.0.11, if it has one.
    pub dns_port: Option<u16>,
}

/// How requests of the mesh reach a container by one family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayIn<'a> {
    /// The bridge that they come by …
    pub(crate) bridge: &'a Bridge,
    /// … to this interface.
    pub(crate) endpoint: &'a Endpoint,
    /// Its address there.
    pub(crate) own: IpAddr,
    /// The next hop of its answers, if they leave there.
    pub(crate) gateway: Option<IpAddr>,
}

/// A link of this host that containers share, made by us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    /// Leads nowhere: containers reach one another by it and nobody else.
    Alone(String),
    /// What another link carries with a tag of IEEE 802.1Q.
    Vlan {
        /// Its name.
        link: String,
        /// The other link.
        of: String,
        /// The tag.
        id: u16,
    },
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Present while the node is in a swarm.
    pub member: Option<Member>,
    /// Bridges of this host.
    pub bridges: Vec<Bridge>,
    /// Links for containers to share.
    pub parents: Vec<Parent>,
    /// Containers of this host.
    pub containers: Vec<Container>,
    /// The kernel has IPv6. Without it the IPv6 side of networks is passed over.
    pub ipv6: bool,
}

impl Member {
    /// Payload size of an overlay network's interfaces: of the underlay, or what the network's options say that is, without what VXLAN
    /// and the tunnel of an encrypted one take.
    #[must_use]
    pub fn overlay_mtu(&self, view: &OverlayView) -> u32 {
        let tunnel = if view.encrypted { WIREGUARD_OVERHEAD } else { 0 };
        view.mtu.unwrap_or(self.mtu).saturating_sub(VXLAN_OVERHEAD + tunnel)
    }
}

impl Member {
    /// How addresses of both families belong together on an overlay network that has both, unless its packets are too small here.
    #[must_use]
    pub fn pairing<'a>(&self, view: &'a OverlayView) -> Option<&'a Pairing> {
        view.pairing.as_ref().filter(|_| self.overlay_mtu(view) >= IPV6_MTU)
    }
}

impl Facts {
    /// The managers' view of an overlay network.
    #[must_use]
    pub fn overlay(&self, id: &str) -> Option<&OverlayView> {
        self.member.as_ref()?.plane.networks.iter().find(|n| n.id.to_string() == id).map(|v| &**v)
    }

    /// How addresses of both families belong together on an overlay network that has both here.
    #[must_use]
    pub fn pairing<'a>(&self, view: &'a OverlayView) -> Option<&'a Pairing> {
        self.member.as_ref().filter(|_| self.ipv6)?.pairing(view)
    }

    /// The same of the mesh.
    #[must_use]
    pub fn mesh_pairing(&self) -> Option<&Pairing> {
        let member = self.member.as_ref().filter(|m| self.ipv6 && m.mtu.saturating_sub(VXLAN_OVERHEAD) >= IPV6_MTU)?;
        member.plane.ingress.as_ref()?.pairing.as_ref()
    }

    /// An address in the mesh, in the form of a family.
    pub(crate) fn in_mesh(&self, addr: Ipv4Addr, version: Version) -> Option<IpAddr> {
        match version {
            Version::V4 => Some(addr.into()),
            Version::V6 => self.mesh_pairing()?.six(addr).map(IpAddr::from),
        }
    }

    /// How requests of the mesh reach a container, by each family.
    pub(crate) fn ways_in<'a>(&'a self, container: &'a Container) -> Vec<WayIn<'a>> {
        let mesh = self.member.as_ref().and_then(|m| m.plane.ingress.as_ref()).filter(|_| container.ingress.is_some());
        let gw = self.bridges.iter().find(|b| b.gwbridge);
        let (Some(_), Some(bridge)) = (mesh, gw) else { return Vec::new() };
        let there = |e: &&Endpoint| matches!(&e.attach, Attach::Bridge(name) if *name == bridge.link);
        let Some(endpoint) = container.endpoints.iter().find(there) else { return Vec::new() };
        let four = WayIn { bridge, endpoint, own: endpoint.net.addr.into(), gateway: endpoint.gateway.map(IpAddr::from) };
        let carries = self.mesh_pairing().and(bridge.net6).filter(|_| bridge.mtu >= IPV6_MTU && endpoint.carries_ipv6());
        let six = carries.and(endpoint.net6).map(|net| {
            let gateway = endpoint.gateway6.map(IpAddr::from);
            WayIn { own: net.addr.into(), gateway, ..four }
        });
        std::iter::once(four).chain(six).collect()
    }

    /// Families that the host's tables are for.
    pub(crate) fn versions(&self) -> &'static [Version] {
        let six = self.ipv6 && (self.bridges.iter().any(|b| b.net6.is_some()) || self.mesh_pairing().is_some());
        if six { &[Version::V4, Version::V6] } else { &[Version::V4] }
    }

    /// Interfaces connected to the given network.
    pub(crate) fn attached<'a>(&'a self, to: &'a Attach) -> impl Iterator<Item = (&'a Container, &'a Endpoint)> {
        self.containers.iter().flat_map(|c| c.endpoints.iter().map(move |e| (c, e))).filter(move |(_, e)| e.attach == *to)
    }
}

/// Number of a protocol in an IP header.
#[must_use]
pub fn proto_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => crate::nft::rule::TCP,
        Protocol::Udp => crate::nft::rule::UDP,
        Protocol::Sctp => crate::nft::rule::SCTP,
    }
}
