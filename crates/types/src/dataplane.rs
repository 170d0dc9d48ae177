//! What a node must know of the network to carry its tasks' packets: pushed whole by the managers whenever it changed.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::digest::Fnv;
use crate::spec::Protocol;
use crate::{Ipv4Net, NetworkId, NodeId};

/// The network as one node needs it. Equal values mean that nothing has to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct DataPlane {
    /// The node that this is for.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// Its own address on the underlay.
    #[serde(default)]
    pub addr: Option<Ipv4Addr>,
    /// This node's own address on the ingress network.
    pub ingress_addr: Option<Ipv4Addr>,
    /// UDP port of VXLAN.
    pub data_path_port: u16,
    /// Every other node that is a member, dead or alive.
    pub peers: Vec<Peer>,
    /// Overlay networks with at least one task on this node.
    pub networks: Vec<OverlayView>,
    /// Ports published on every node.
    pub ingress: Option<IngressView>,
}

impl DataPlane {
    /// A number that tells two values apart, never 0. Versions of this program may count differently, which costs one message.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut h = Fnv::default();
        self.hash(&mut h);
        h.finish().max(1)
    }
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub node: NodeId,
    /// Its address on the underlay.
    pub addr: Ipv4Addr,
    /// Its address on the ingress network; its MAC address and mark on the mesh are derived from this.
    pub ingress_addr: Ipv4Addr,
}

/// An overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OverlayView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its gateway.
    pub gateway: Ipv4Addr,
    /// No way out.
    pub internal: bool,
    /// Every task with an address on it that may be reached (not yet ended), on any node.
    pub endpoints: Vec<OverlayEndpoint>,
    /// Services on it.
    pub services: Vec<ServiceView>,
}

/// A task's place on an overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OverlayEndpoint {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Where it runs.
    pub node: NodeId,
    /// `service.slot.id`.
    pub task_name: String,
    /// Short container id, once known.
    #[serde(default)]
    pub container: Option<String>,
}

/// A service as seen on one overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Its other names on this network.
    pub aliases: Vec<String>,
    /// Its virtual address; absent in `dnsrr` mode.
    pub vip: Option<Ipv4Addr>,
    /// Addresses of the running tasks that take requests.
    pub backends: Vec<Ipv4Addr>,
}

/// The mesh of published ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IngressView {
    /// VXLAN network identifier of the mesh.
    pub vni: u32,
    /// Subnet of the ingress network.
    pub subnet: Ipv4Net,
    /// Every published port.
    pub ports: Vec<IngressPort>,
}

/// A port published on every node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IngressPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Port outside.
    pub published: u16,
    /// Port in the containers.
    pub target: u16,
    /// Running tasks that take requests.
    pub backends: Vec<IngressBackend>,
}

/// A task behind a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IngressBackend {
    /// Its address on the ingress network.
    pub addr: Ipv4Addr,
    /// Its node.
    pub node: NodeId,
}
