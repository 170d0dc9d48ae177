//! What the network manager needs from the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use skep_netplan::doctor::{Features, Stranger};
use skep_netplan::drift::Seen;
use skep_netplan::state::{FdbEntry, LinkKind, Route};
use skep_netplan::{Mac, NetnsState, Ns, Step};
use skep_types::Ipv4Net;
use skep_types::spec::Protocol;
use skep_types::wireguard::PublicKey;

use super::NetError;

/// What exists in a namespace, ours or not.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Links by name, with their Ethernet addresses. A veth's other end is not known: its name is empty.
    pub links: BTreeMap<String, (LinkKind, Option<Mac>)>,
    /// Those of the links that Skep made, by a mark that they bear from the start.
    pub marked: BTreeSet<String>,
    /// Networks of the addresses and routes of IPv4, to stay clear of.
    pub nets: Vec<Ipv4Net>,
    /// Payload sizes of the links that have these addresses.
    pub mtus: BTreeMap<Ipv4Addr, u32>,
    /// Routes to containers for other entry nodes of the mesh.
    pub ways: BTreeSet<Route>,
    /// Permanent neighbours.
    pub neighbours: BTreeMap<(String, IpAddr), Mac>,
    /// Peers of the WireGuard link.
    pub wireguard: BTreeMap<(String, Ipv4Addr), PublicKey>,
    /// Forwarding entries of VXLAN links.
    pub fdb: BTreeMap<(String, Mac), FdbEntry>,
}

/// Tells of changes that others make to nftables.
pub trait TableWatch: Send {
    /// Waits until somebody else has changed something, `within` at most. Whether that happened.
    ///
    /// # Errors
    /// The failed system call.
    fn changed(&mut self, within: Duration) -> std::io::Result<bool>;
}

/// The kernel's side of networks. All calls block and may be made from any thread; the namespace of the calling thread is never
/// changed.
pub trait NetHost: Send + Sync {
    /// Makes a namespace and pins it to [`NetHost::ns_path`]; no error if it is there.
    ///
    /// # Errors
    /// The failed system call.
    fn create_ns(&self, ns: &Ns) -> Result<(), NetError>;

    /// Unpins a namespace; it ends with its last process. No error if it is not there.
    ///
    /// # Errors
    /// The failed system call.
    fn delete_ns(&self, ns: &Ns) -> Result<(), NetError>;

    /// Pinned namespaces.
    ///
    /// # Errors
    /// The failed system call.
    fn list_ns(&self) -> Result<Vec<Ns>, NetError>;

    /// The file that a namespace is pinned to.
    fn ns_path(&self, ns: &Ns) -> PathBuf;

    /// What exists in a namespace.
    ///
    /// # Errors
    /// The failed system call.
    fn found(&self, ns: &Ns) -> Result<Found, NetError>;

    /// This host's key for encrypted networks, the same until the host starts anew.
    ///
    /// # Errors
    /// It can be neither read nor made.
    fn wireguard_key(&self) -> Result<PublicKey, NetError>;

    /// Applies steps in order, going on past failures: one result for each.
    fn apply(&self, ns: &Ns, steps: &[Step]) -> Vec<Result<(), NetError>>;

    /// A bound UDP socket of the namespace, non-blocking.
    ///
    /// # Errors
    /// The failed system call.
    fn udp_socket(&self, ns: &Ns, addr: SocketAddr) -> Result<UdpSocket, NetError>;

    /// A listening TCP socket of the namespace, non-blocking.
    ///
    /// # Errors
    /// The failed system call.
    fn tcp_listener(&self, ns: &Ns, addr: SocketAddr) -> Result<TcpListener, NetError>;

    /// Binds an SCTP socket of the namespace and closes it again.
    ///
    /// # Errors
    /// The failed system call, which is the first one where the kernel has no SCTP.
    fn try_sctp(&self, ns: &Ns, addr: SocketAddr) -> Result<(), NetError>;

    /// Watches for changes that others make to the tables of the host's namespace.
    ///
    /// # Errors
    /// The failed system call.
    fn watch(&self) -> Result<Box<dyn TableWatch>, NetError>;

    /// What there is in a namespace, of the kinds that `wanted` is made of and with those of its tables and switches that exist.
    ///
    /// # Errors
    /// The failed system call, or somebody who changes it without end.
    fn seen(&self, ns: &Ns, wanted: &NetnsState) -> Result<Seen, NetError>;

    /// What the kernel can do.
    fn features(&self) -> Features;

    /// Base chains of others in the host's namespace that drop what they do not know.
    ///
    /// # Errors
    /// The failed system call.
    fn strangers(&self) -> Result<Vec<Stranger>, NetError>;

    /// Asks others on a link of the host's namespace, in packets of so many bytes: who answered. Takes a second or so if somebody
    /// does not.
    ///
    /// # Errors
    /// The failed system call.
    fn answers(
        &self,
        dev: &str,
        own: (Mac, Ipv4Addr),
        peers: &[(Mac, Ipv4Addr)],
        size: u32,
    ) -> Result<BTreeSet<Ipv4Addr>, NetError>;

    /// Forgets UDP flows, TCP connections that were never answered and SCTP ones that were not or are at their end, whose destination
    /// was changed to one of these addresses; and flows of UDP and SCTP to one of these ports that were left as they are, since
    /// the port led nowhere. Returns the number forgotten.
    ///
    /// # Errors
    /// The failed system call.
    fn forget_flows(&self, ns: &Ns, targets: &[IpAddr], opened: &BTreeSet<(Protocol, u16)>) -> Result<usize, NetError>;
}
