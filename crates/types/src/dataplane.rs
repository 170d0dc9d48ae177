//! What a node must know of the network to carry its tasks' packets: pushed whole by the managers whenever it changed.

use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attach::Held;
use crate::digest::Fnv;
use crate::net::Pairing;
use crate::object::Network;
use crate::peers::Peers;
use crate::spec::Protocol;
use crate::wireguard::PublicKey;
use crate::{Ipv4Net, NetworkId, NodeId, TaskId};

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
    pub peers: Peers,
    /// Overlay networks with at least one container on this node.
    pub networks: Vec<View<OverlayView>>,
    /// Ports published on every node.
    pub ingress: Option<View<IngressView>>,
    /// What this node holds for its containers that are no tasks.
    #[serde(default)]
    pub attached: Vec<Held>,
    /// The objects of these networks and of the mesh's, for users of this host to see.
    #[serde(default)]
    pub shown: Vec<View<Network>>,
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

/// A part of the data plane that many nodes share: cheap to clone, to hash and to compare, since its digest is counted once.
#[derive(Debug, Clone)]
pub struct View<T>(Arc<(u64, T)>);

impl<T: Hash> View<T> {
    /// Counts the digest.
    pub fn new(value: T) -> Self {
        let mut h = Fnv::default();
        value.hash(&mut h);
        Self(Arc::new((h.finish(), value)))
    }
}

impl<T: Hash + Clone> View<T> {
    /// A copy that may be changed, changed.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut T)) -> Self {
        let mut value = self.0.1.clone();
        change(&mut value);
        Self::new(value)
    }
}

impl<T> Deref for View<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T: PartialEq> PartialEq for View<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0 == *other.0
    }
}

impl<T: Eq> Eq for View<T> {}

impl<T> Hash for View<T> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.0.hash(h);
    }
}

impl<T: Serialize> Serialize for View<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.1.serialize(s)
    }
}

impl<'de, T: Deserialize<'de> + Hash> Deserialize<'de> for View<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::deserialize(d).map(Self::new)
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
    /// Its key for encrypted networks; without one nothing of them goes there.
    #[serde(default)]
    pub wireguard: Option<PublicKey>,
    /// Its own addresses of IPv6; `None` if its containers have none.
    #[serde(default)]
    pub ipv6: Option<Vec<Ipv6Addr>>,
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
    /// Between nodes its packets are encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// Payload size of the underlay that it reckons with, if the network's options say one; else that of the underlay's link.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Every task with an address on it that may be reached (not yet ended), on any node.
    pub endpoints: Vec<OverlayEndpoint>,
    /// Services on it.
    pub services: Vec<ServiceView>,
    /// If it has both families, how the address of IPv6 follows from that of IPv4: of endpoints, virtual addresses and backends.
    #[serde(default)]
    pub pairing: Option<Pairing>,
}

/// A container's place on an overlay network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OverlayEndpoint {
    /// Its address.
    pub addr: Ipv4Addr,
    /// Where it runs.
    pub node: NodeId,
    /// `service.slot.id`, or the name of a container that is no task.
    pub task_name: String,
    /// Short container id, once known.
    #[serde(default)]
    pub container: Option<String>,
    /// Other names of a container that is no task.
    #[serde(default)]
    pub aliases: Vec<String>,
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
    /// Ports that its spec names, for SRV answers: name, protocol, and the port in its containers.
    #[serde(default)]
    pub ports: Vec<(String, Protocol, u16)>,
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
    /// As [`OverlayView::pairing`], of nodes and tasks.
    #[serde(default)]
    pub pairing: Option<Pairing>,
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
    /// Answered at this address only, on the node that has it.
    #[serde(default)]
    pub host_ip: Option<Ipv4Addr>,
    /// A node that has tasks of the service asks these alone.
    #[serde(default)]
    pub prefer_local: bool,
}

/// A task behind a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IngressBackend {
    /// Its address on the ingress network.
    pub addr: Ipv4Addr,
    /// Its node.
    pub node: NodeId,
    /// Which task it is, since another one may have had its address before. Managers of the version before do not say.
    #[serde(default)]
    pub task: Option<TaskId>,
}
