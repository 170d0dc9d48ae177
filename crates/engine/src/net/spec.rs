//! What is asked of the network manager, and what it answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_netplan::Mac;
use skep_netplan::facts::Parent;
use skep_netplan::state::ChildKind;
use skep_types::net::V6Range;
use skep_types::spec::Protocol;
use skep_types::{Ipv4Net, Ipv6Net};

/// How a network manager is set up.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// The daemon's data root; local networks are kept in `network/` below it.
    pub data_root: PathBuf,
    /// Where the upstream resolvers are named: the host's `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Payload size of bridges and of the underlay.
    pub mtu: u32,
    /// Make the default bridge `docker0`.
    pub default_bridge: bool,
    /// Containers on the default bridge reach one another.
    pub icc: bool,
    /// The default bridge has IPv6 beside IPv4, …
    pub ipv6: bool,
    /// … in this subnet, or in one that follows from its id.
    pub fixed_cidr6: Option<Ipv6Net>,
}

impl NetConfig {
    /// The usual set-up.
    #[must_use]
    pub fn new(data_root: PathBuf) -> Self {
        let resolv_conf = PathBuf::from("/etc/resolv.conf");
        Self { data_root, resolv_conf, mtu: 1500, default_bridge: true, icc: true, ipv6: false, fixed_cidr6: None }
    }
}

/// A network of this host that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LocalNetworkSpec {
    /// Name.
    pub name: String,
    /// `bridge` or empty, `macvlan`, `ipvlan`; nothing else can be made.
    #[serde(default)]
    pub driver: String,
    /// Subnet; the next free one if absent.
    #[serde(default)]
    pub subnet: Option<Ipv4Net>,
    /// Gateway; the first address if absent.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet that addresses are drawn from.
    #[serde(default)]
    pub ip_range: Option<Ipv4Net>,
    /// Addresses that others have, by whatever name: no container gets them by chance.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
    /// Nothing in, nothing out.
    #[serde(default)]
    pub internal: bool,
    /// Attachable flag, kept for inspection.
    #[serde(default)]
    pub attachable: bool,
    /// Driver options, see [`super::options`].
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Addresses of IPv6 beside those of IPv4.
    #[serde(default)]
    pub ipv6: bool,
    /// Subnet of IPv6; one of the local range that follows from the network's id if absent.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// Gateway in it; the first address if absent.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// A configuration for other networks, and no network itself.
    #[serde(default)]
    pub config_only: bool,
    /// Name of the configuration that says everything but driver, `internal` and `attachable`; none if empty.
    #[serde(default)]
    pub config_from: String,
}

/// A network of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNetwork {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`, `host`, or `null`, which a configuration has, too.
    pub driver: String,
    /// Creation, nanoseconds since 1970.
    pub created: u64,
    /// Subnet (`bridge` only).
    pub subnet: Option<Ipv4Net>,
    /// Gateway (`bridge` only).
    pub gateway: Option<Ipv4Addr>,
    /// Name of the bridge's link (`bridge` only).
    pub link: String,
    /// The link that containers share (`macvlan` and `ipvlan` only).
    #[serde(default)]
    pub shared: Option<SharedLink>,
    /// What was asked for.
    pub spec: LocalNetworkSpec,
    /// Its side of IPv6, if it has one.
    #[serde(default)]
    pub v6: Option<V6Range>,
}

/// A link of the host that containers share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLink {
    /// Its name.
    pub link: String,
    /// How it is shared.
    pub kind: ChildKind,
    /// How it is made, if it was not there before the network.
    pub made: Option<Parent>,
}

/// A port of a container to be answered on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMap {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host; `0.0.0.0` is any of IPv4 and `::` any of IPv6.
    pub host_ip: IpAddr,
    /// With `0.0.0.0`: any of IPv6, too.
    #[serde(default)]
    pub both: bool,
    /// Port of the host; 0 lets the manager choose.
    pub host_port: u16,
    /// Last of several ports of the host that will do; 0 if only that one does.
    #[serde(default)]
    pub host_port_end: u16,
    /// Port of the container.
    pub container_port: u16,
}

/// A network that a container joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NetworkRequest {
    /// Name, id or id prefix of a local network, or the id of an overlay network.
    pub network: String,
    /// Address: needed on an overlay network, optional on a local one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Other names on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Wanted address of IPv6. On an overlay network it follows from that of IPv4.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
}

/// How names are resolved in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DnsOptions {
    /// Upstream resolvers; the host's if empty.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
    /// Options of `resolv.conf`.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A container that needs a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SandboxRequest {
    /// Id of the container, at least 12 characters.
    pub container_id: String,
    /// Name, without a slash.
    pub name: String,
    /// Host name.
    pub hostname: String,
    /// Networks, the most important first; none at all gives a namespace with a loopback only.
    pub networks: Vec<NetworkRequest>,
    /// Address in the mesh of published ports, for a task whose service has any.
    #[serde(default)]
    pub ingress_address: Option<Ipv4Addr>,
    /// Ports in the mesh.
    #[serde(default)]
    pub ingress_ports: Vec<(Protocol, u16)>,
    /// Ports to be answered on this host.
    #[serde(default)]
    pub ports: Vec<PortMap>,
    /// Resolver options.
    #[serde(default)]
    pub dns: DnsOptions,
}

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxEndpoint {
    /// Id of the network.
    pub network_id: String,
    /// Its name; `docker_gwbridge` for the way out of overlay networks.
    pub network_name: String,
    /// 64 hexadecimal digits.
    pub endpoint_id: String,
    /// Name inside the container.
    pub ifname: String,
    /// Name of the outer end of the pair; empty where it shares a link.
    pub veth: String,
    /// Name of the host's bridge; empty on other networks.
    #[serde(default)]
    pub bridge: String,
    /// Name of the host's link that it is a share of, and how.
    #[serde(default)]
    pub share: Option<(String, ChildKind)>,
    /// Ethernet address.
    pub mac: Mac,
    /// Address.
    pub address: Ipv4Addr,
    /// Prefix length of the network.
    pub prefix: u8,
    /// Gateway of the network; of this interface only if [`SandboxEndpoint::default_route`].
    pub gateway: Option<Ipv4Addr>,
    /// The default route leaves here.
    pub default_route: bool,
    /// Payload size.
    pub mtu: u32,
    /// Other names on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Address of IPv6 with the prefix of the network.
    #[serde(default)]
    pub net6: Option<Ipv6Net>,
    /// Gateway of IPv6; none of an internal network.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
}

impl SandboxEndpoint {
    /// Its addresses, that of IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [IpAddr::from(self.address)].into_iter().chain(self.net6.map(|n| n.addr.into()))
    }

    /// Whether it is on an overlay network.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        self.bridge.is_empty() && self.share.is_none()
    }
}

/// A container's namespace as it was made; kept with the container, and handed to `open` by the next daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// What was asked for.
    pub request: SandboxRequest,
    /// File that the namespace is pinned to.
    pub netns: PathBuf,
    /// Interfaces, in order.
    pub endpoints: Vec<SandboxEndpoint>,
    /// Ports with the chosen numbers.
    pub ports: Vec<PortMap>,
    /// Port of the resolver at 127.0.0.11 inside; if present, `resolv.conf` should say `nameserver 127.0.0.11` and
    /// `options ndots:0`. If absent the upstream resolvers should be named.
    #[serde(default)]
    pub resolver: Option<u16>,
}

impl Sandbox {
    /// The interface by which the container is reached, and leaves, by IPv6: that of the default route of IPv4, or the first bridge
    /// with IPv6 that leads out.
    #[must_use]
    pub fn outside6(&self) -> Option<&SandboxEndpoint> {
        let leads = |e: &&SandboxEndpoint| e.gateway6.is_some() && !e.is_overlay();
        let all = || self.endpoints.iter().filter(leads);
        all().find(|e| e.default_route).or_else(|| all().next())
    }

    /// The container's `resolv.conf`.
    #[must_use]
    pub fn resolv_conf(&self, host: &str) -> String {
        let dns = &self.request.dns;
        let mut out = String::new();
        if self.resolver.is_some() {
            out.push_str("nameserver 127.0.0.11\n");
        } else if dns.servers.is_empty() {
            // a resolver on the host's loopback cannot be reached from in here
            let usable = |line: &&str| line.starts_with("nameserver") && !line.contains(" 127.") && !line.contains("::1");
            let servers: Vec<&str> = host.lines().filter(usable).collect();
            let servers = if servers.is_empty() { vec!["nameserver 8.8.8.8", "nameserver 8.8.4.4"] } else { servers };
            servers.iter().for_each(|line| out.push_str(&format!("{line}\n")));
        }
        if self.resolver.is_none() {
            dns.servers.iter().for_each(|server| out.push_str(&format!("nameserver {server}\n")));
        }
        let inherited = |word: &str| {
            let line = host.lines().rev().find_map(|line| line.strip_prefix(word));
            line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
        };
        let search = if dns.search.is_empty() { inherited("search ") } else { dns.search.join(" ") };
        if !search.is_empty() && search != "." {
            out.push_str(&format!("search {search}\n"));
        }
        let mut options = if dns.options.is_empty() { inherited("options ") } else { dns.options.join(" ") };
        if self.resolver.is_some() && !options.contains("ndots:") {
            options.push_str(if options.is_empty() { "ndots:0" } else { " ndots:0" });
        }
        if !options.is_empty() {
            out.push_str(&format!("options {options}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use skep_types::dataplane::DataPlane;

    use super::*;

    /// A container's record and the managers' word as the version before IPv6 kept them.
    #[test]
    fn what_the_version_before_kept_has_one_family() {
        let sandbox = r#"{
            "request": {"container_id": "c", "name": "web", "hostname": "c", "networks": [{"network": "n", "address": "10.0.1.2"}],
                "ports": [{"protocol": "Tcp", "host_ip": "0.0.0.0", "host_port": 80, "container_port": 8000}],
                "dns": {"servers": ["192.0.2.1"]}},
            "netns": "/run/skep/netns/ct-c",
            "endpoints": [{"network_id": "n", "network_name": "net", "endpoint_id": "e", "ifname": "eth0", "veth": "v0c",
                "bridge": "br-n", "mac": [2, 66, 10, 0, 1, 2], "address": "10.0.1.2", "prefix": 24, "gateway": "10.0.1.1",
                "default_route": true, "mtu": 1500}],
            "ports": [{"protocol": "Tcp", "host_ip": "0.0.0.0", "host_port": 80, "container_port": 8000}]
        }"#;
        let read: Sandbox = serde_json::from_str(sandbox).expect("readable");
        assert_eq!((read.outside6(), read.endpoints[0].net6), (None, None));
        assert_eq!((read.ports[0].host_ip, read.ports[0].both), (Ipv4Addr::UNSPECIFIED.into(), false));
        assert_eq!(read.endpoints[0].addresses().collect::<Vec<_>>(), [IpAddr::from([10, 0, 1, 2])]);
        let network = r#"{"id": "n", "name": "net", "driver": "bridge", "created": 1, "subnet": {"addr": "10.0.1.0", "prefix": 24},
            "gateway": "10.0.1.1", "link": "br-n", "spec": {"name": "net"}}"#;
        let read: LocalNetwork = serde_json::from_str(network).expect("readable");
        assert_eq!((read.v6, read.spec.ipv6), (None, false));
        let plane = r#"{"ingress_addr": "10.0.0.2", "data_path_port": 4789,
            "peers": [{"node": "1111111111111111111111111", "addr": "192.0.2.2", "ingress_addr": "10.0.0.3"}], "networks": [],
            "ingress": {"vni": 4096, "subnet": {"addr": "10.0.0.0", "prefix": 24}, "ports": []}}"#;
        let read: DataPlane = serde_json::from_str(plane).expect("readable");
        let ipv6: Vec<_> = read.peers.iter().map(|p| &p.ipv6).collect();
        assert_eq!((ipv6, read.ingress.and_then(|view| view.pairing)), (vec![&None], None));
    }
}
