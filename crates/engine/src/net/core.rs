//! The manager's state and its blocking operations on local networks. One thread at a time holds it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use skep_netplan::facts::{Attach, Bridge, Container, Endpoint, Facts, IPV6_MTU, Member, Published};
use skep_netplan::state::{ChildKind, IpvlanMode};
use skep_netplan::{NetnsState, Ns};
use skep_types::dataplane::DataPlane;
use skep_types::net::V6Range;
use skep_types::{Ipv4Net, Ipv6Net, NodeId};

use super::store::Store;
use super::{LocalNetwork, LocalNetworkSpec, NetConfig, NetError, NetHost, Sandbox, ipam, options};
use crate::dns::Resolver;

/// Name of the default bridge network.
pub(super) const BRIDGE: &str = "bridge";
/// Name of the network, and of the link, that containers on overlay networks leave through.
pub(super) const GWBRIDGE: &str = "docker_gwbridge";
const NETWORKS: &str = "networks.json";
const MEMBER: &str = "member.json";

/// [`Member`] as it is kept.
#[derive(Serialize, Deserialize)]
struct SavedMember {
    node: NodeId,
    addr: Ipv4Addr,
    mtu: u32,
    plane: DataPlane,
    #[serde(default)]
    drained: BTreeMap<Ipv4Addr, NodeId>,
}

/// Everything the manager knows.
pub(super) struct Core {
    pub(super) host: Arc<dyn NetHost>,
    pub(super) config: NetConfig,
    /// The kernel has IPv6.
    pub(super) ipv6: bool,
    pub(super) store: Store,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) networks: BTreeMap<String, LocalNetwork>,
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) member: Option<Member>,
    pub(super) applied: BTreeMap<Ns, NetnsState>,
    /// Something of what should be was refused.
    pub(super) behind: bool,
    pub(super) resolvers: BTreeMap<String, Resolver>,
}

/// The namespace of a container.
pub(super) fn ns_of(container_id: &str) -> Ns {
    Ns::Sandbox(container_id.chars().take(12).collect())
}

/// 64 random hexadecimal digits, as Docker's ids have.
pub(super) fn new_id() -> Result<String, NetError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| NetError::host("draw random bytes", "", std::io::Error::other(e)))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

impl Core {
    pub(super) fn open(
        host: Arc<dyn NetHost>,
        config: NetConfig,
        alive: Vec<Sandbox>,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, NetError> {
        let store = Store::open(&config.data_root)?;
        let saved: Vec<LocalNetwork> = store.load(NETWORKS)?.unwrap_or_default();
        let member = store.load::<SavedMember>(MEMBER).unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what the managers said last is lost; they will say it again"
            );
            None
        });
        let restored = |m: SavedMember| Member { node: m.node, addr: m.addr, mtu: m.mtu, plane: m.plane, drained: m.drained };
        let member = member.map(restored);
        let sandboxes = alive.into_iter().map(|s| (s.request.container_id.clone(), s)).collect();
        let networks = saved.into_iter().map(|n| (n.id.clone(), n)).collect();
        let (applied, resolvers) = (BTreeMap::new(), BTreeMap::new());
        let ipv6 = host.features().ipv6;
        let mut core =
            Self { host, config, ipv6, store, runtime, networks, sandboxes, member, applied, behind: false, resolvers };
        core.predefined()?;
        core.adopt()?;
        Ok(core)
    }

    /// Keeps a network that has neither addresses nor a link of its own.
    pub(super) fn insert_bare(&mut self, spec: LocalNetworkSpec, driver: &str) -> Result<LocalNetwork, NetError> {
        let network = LocalNetwork {
            id: new_id()?,
            name: spec.name.clone(),
            driver: driver.to_owned(),
            created: now(),
            subnet: None,
            gateway: None,
            link: String::new(),
            shared: None,
            spec,
            v6: None,
        };
        self.insert(network.clone())?;
        Ok(network)
    }

    fn predefined(&mut self) -> Result<(), NetError> {
        for (name, driver) in [("host", "host"), ("none", "null")] {
            if self.by_name(name).is_none() {
                let spec = LocalNetworkSpec { name: name.to_owned(), driver: driver.to_owned(), ..Default::default() };
                self.insert_bare(spec, driver)?;
            }
        }
        if self.config.default_bridge && self.by_name(BRIDGE).is_none() {
            let mut spec = LocalNetworkSpec { name: BRIDGE.to_owned(), ..Default::default() };
            spec.options.insert("com.docker.network.bridge.default_bridge".to_owned(), "true".to_owned());
            spec.options.insert("com.docker.network.bridge.name".to_owned(), "docker0".to_owned());
            spec.options.insert("com.docker.network.bridge.enable_icc".to_owned(), self.config.icc.to_string());
            self.create(spec)?;
        }
        // As the daemon's flags say this time.
        let (wanted, subnet) = (self.config.ipv6 && self.ipv6, self.config.fixed_cidr6);
        if self.config.ipv6 && !self.ipv6 {
            tracing::warn!("the kernel has no IPv6: the default bridge has IPv4 alone");
        }
        self.give_ipv6(BRIDGE, wanted, subnet)
    }

    /// Makes a predefined network have IPv6 or not, in the given subnet or one that follows from its id.
    fn give_ipv6(&mut self, name: &str, wanted: bool, subnet: Option<Ipv6Net>) -> Result<(), NetError> {
        let Some(network) = self.by_name(name) else { return Ok(()) };
        let subnet = subnet.unwrap_or_else(|| ipam::unique_local(&network.id)).network();
        let gateway = subnet.nth(1).ok_or_else(|| NetError::Invalid(format!("invalid subnet {subnet}: too small")))?;
        let v6 = wanted.then_some(V6Range { subnet, gateway });
        let id = network.id.clone();
        if let Some(network) = self.networks.get_mut(&id).filter(|n| n.v6 != v6) {
            network.v6 = v6;
            return self.save_networks();
        }
        Ok(())
    }

    /// The side of IPv6 of a new network.
    fn side6(&self, id: &str, spec: &LocalNetworkSpec) -> Result<Option<V6Range>, NetError> {
        if let Some(net) = spec.subnet6.filter(|_| !spec.ipv6) {
            let text = format!("invalid subnet {net}: the network has no IPv6: create it with --ipv6");
            return Err(NetError::Invalid(text));
        }
        if !spec.ipv6 {
            return Ok(None);
        }
        if !self.ipv6 {
            return Err(NetError::Invalid("a network with IPv6 cannot be made: the kernel of this host has none".to_owned()));
        }
        let subnet = spec.subnet6.unwrap_or_else(|| ipam::unique_local(id)).network();
        if self.networks.values().filter_map(|n| n.v6).any(|other| other.subnet.overlaps(&subnet)) {
            return Err(NetError::Overlaps);
        }
        if let Some(mtu) = options::mtu(&spec.options).filter(|mtu| *mtu < IPV6_MTU) {
            return Err(NetError::Invalid(format!(
                "invalid MTU {mtu} of a network with IPv6: it needs {IPV6_MTU} bytes at least"
            )));
        }
        if subnet.prefix > 126 {
            return Err(NetError::Invalid(format!("invalid subnet {subnet}: too small")));
        }
        let gateway: Option<Ipv6Addr> = spec.gateway6.or_else(|| subnet.nth(1)).filter(|g| subnet.contains(*g));
        let gateway = gateway.ok_or_else(|| NetError::Invalid(format!("invalid gateway for subnet {subnet}")))?;
        Ok(Some(V6Range { subnet, gateway }))
    }

    pub(super) fn insert(&mut self, network: LocalNetwork) -> Result<(), NetError> {
        let id = network.id.clone();
        self.networks.insert(id.clone(), network);
        self.save_networks().inspect_err(|_| {
            self.networks.remove(&id);
        })
    }

    pub(super) fn save_networks(&self) -> Result<(), NetError> {
        self.store.save(NETWORKS, &self.networks.values().collect::<Vec<_>>(), true)
    }

    pub(super) fn save_member(&self) -> Result<(), NetError> {
        let Some(member) = &self.member else { return self.store.remove(MEMBER) };
        let Member { node, addr, mtu, plane, drained } = member.clone();
        // For the daemon's next start. After a loss of power nothing runs that would need it, and the managers tell it anew: it is
        // not worth a wait for the disk while packets wait for a change.
        self.store.save(MEMBER, &SavedMember { node, addr, mtu, plane, drained }, false)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&LocalNetwork> {
        self.networks.values().find(|n| n.name == name)
    }

    /// A local network by id, name or id prefix, in this order.
    pub(super) fn find(&self, text: &str) -> Result<&LocalNetwork, NetError> {
        if let Some(network) = self.networks.get(text).or_else(|| self.by_name(text)) {
            return Ok(network);
        }
        let mut fits = self.networks.values().filter(|n| !text.is_empty() && n.id.starts_with(text));
        match (fits.next(), fits.next()) {
            (Some(network), None) => Ok(network),
            (None, _) => Err(NetError::NotFound(text.to_owned())),
            _ => Err(NetError::Ambiguous(text.to_owned())),
        }
    }

    /// Makes a bridge network without applying it.
    pub(super) fn create(&mut self, spec: LocalNetworkSpec) -> Result<LocalNetwork, NetError> {
        let name = &spec.name;
        if name.is_empty() {
            return Err(NetError::Invalid("invalid network name: name is empty".to_owned()));
        }
        if self.by_name(name).is_some() {
            return Err(NetError::Exists(name.clone()));
        }
        let spec = self.configured(spec)?;
        if spec.config_only {
            return self.configuration(spec);
        }
        let name = &spec.name;
        let driver = if spec.driver.is_empty() { "bridge".to_owned() } else { spec.driver.clone() };
        if !matches!(driver.as_str(), "bridge" | "macvlan" | "ipvlan") {
            return Err(NetError::Invalid(format!("could not find plugin {} in v1 plugin registry", spec.driver)));
        }
        let ours = self.networks.values().filter_map(|n| n.subnet);
        let subnet = match spec.subnet {
            Some(net) if ours.clone().any(|other| other.overlaps(&net)) => return Err(NetError::Overlaps),
            Some(net) if net.prefix > 30 => return Err(NetError::Invalid(format!("invalid subnet {net}: too small"))),
            Some(net) => net.network(),
            None => {
                let mut used: Vec<Ipv4Net> = ours.collect();
                // our own bridges that a former daemon left do not count: they are in `networks`
                used.extend(self.host.found(&Ns::Host)?.nets);
                ipam::free_subnet(&used)?
            }
        };
        let gateway = spec.gateway.or_else(|| subnet.nth(1)).filter(|g| subnet.contains(*g));
        let gateway = gateway.ok_or_else(|| NetError::Invalid(format!("invalid gateway for subnet {subnet}")))?;
        if let Some(range) = spec.ip_range.filter(|r| r.prefix < subnet.prefix || !subnet.contains(r.network().addr)) {
            return Err(NetError::Invalid(format!("invalid network config: ip-range {range} is not in subnet {subnet}")));
        }
        let id = new_id()?;
        let v6 = self.side6(&id, &spec)?;
        options::check(&driver, &spec.options)?;
        let shared = match options::child(&driver, &spec.options)? {
            Some(kind) => Some(self.shared_link(&id, kind, &spec)?),
            None => None,
        };
        let link = match spec.options.get("com.docker.network.bridge.name") {
            _ if shared.is_some() => String::new(),
            Some(link) if link.is_empty() || link.len() > 15 || link.contains('/') => {
                return Err(NetError::Invalid(format!("invalid bridge name: {link}")));
            }
            Some(link) => link.clone(),
            None => format!("br-{}", id.chars().take(12).collect::<String>()),
        };
        let network = LocalNetwork {
            id,
            name: name.clone(),
            driver,
            created: now(),
            subnet: Some(subnet),
            gateway: Some(gateway),
            link,
            shared,
            spec,
            v6,
        };
        self.insert(network.clone())?;
        Ok(network)
    }

    /// Forgets a network without applying it.
    pub(super) fn remove(&mut self, text: &str) -> Result<LocalNetwork, NetError> {
        let network = self.find(text)?.clone();
        if matches!(network.name.as_str(), "bridge" | "host" | "none") {
            return Err(NetError::Predefined(network.name));
        }
        self.unused(&network)?;
        if self.sandboxes.values().flat_map(|s| &s.endpoints).any(|e| e.network_id == network.id) {
            return Err(NetError::InUse(format!("{} id {}", network.name, network.id)));
        }
        self.networks.remove(&network.id);
        self.save_networks()?;
        Ok(network)
    }

    /// The way out of overlay networks, made when first needed.
    pub(super) fn gwbridge(&mut self) -> Result<LocalNetwork, NetError> {
        // With IPv6 for what comes to published ports by it; that of a version before has none yet, that of a user what he gave it.
        if self.ipv6 && self.by_name(GWBRIDGE).is_some_and(|n| n.v6.is_none()) {
            self.give_ipv6(GWBRIDGE, true, None)?;
        }
        if let Some(network) = self.by_name(GWBRIDGE) {
            return Ok(network.clone());
        }
        let mut spec = LocalNetworkSpec { name: GWBRIDGE.to_owned(), ipv6: self.ipv6, ..Default::default() };
        spec.options.insert("com.docker.network.bridge.name".to_owned(), GWBRIDGE.to_owned());
        spec.options.insert("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
        spec.options.insert("com.docker.network.bridge.enable_ip_masquerade".to_owned(), "true".to_owned());
        self.create(spec)
    }

    /// Payload size of the link with this address, or the configured one if no link has it (an address behind translation).
    pub(super) fn underlay_mtu(&self, addr: Ipv4Addr) -> Result<u32, NetError> {
        Ok(self.host.found(&Ns::Host)?.mtus.get(&addr).copied().unwrap_or(self.config.mtu))
    }

    pub(super) fn mtu_of(&self, network: &LocalNetwork) -> u32 {
        options::mtu(&network.spec.options).unwrap_or(self.config.mtu)
    }

    /// What `netplan` needs to know.
    pub(super) fn facts(&self) -> Facts {
        let bridges = self.networks.values().filter_map(|n| self.bridge(n)).collect();
        let containers = self.sandboxes.values().map(|s| self.container(s)).collect();
        let parents = self.networks.values().filter_map(|n| n.shared.as_ref()?.made.clone()).collect();
        Facts { member: self.member.clone(), bridges, parents, containers, ipv6: self.ipv6 }
    }

    fn container(&self, sandbox: &Sandbox) -> Container {
        // That of an overlay network follows the underlay while the container runs.
        let now = |e: &super::SandboxEndpoint| {
            self.member.as_ref().zip(self.overlay_view(&e.network_id)).map(|(m, v)| m.overlay_mtu(v))
        };
        // Without Ethernet there is no next hop.
        let by_route =
            |e: &super::SandboxEndpoint| matches!(e.share, Some((_, ChildKind::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _))));
        let outside6 = sandbox.outside6();
        let leads6 = |e: &super::SandboxEndpoint| outside6.is_some_and(|o| o.endpoint_id == e.endpoint_id) && !by_route(e);
        let endpoint = |e: &super::SandboxEndpoint| Endpoint {
            attach: match &e.share {
                Some((link, kind)) => Attach::Link(link.clone(), *kind),
                None if e.bridge.is_empty() => Attach::Overlay(e.network_id.clone()),
                None => Attach::Bridge(e.bridge.clone()),
            },
            ifname: e.ifname.clone(),
            veth: Some(e.veth.clone()).filter(|name| !name.is_empty()),
            net: Ipv4Net::new(e.address, e.prefix),
            gateway: e.gateway.filter(|_| e.default_route && !by_route(e)),
            direct: e.default_route && by_route(e),
            mtu: now(e).filter(|_| e.is_overlay()).unwrap_or(e.mtu),
            net6: e.net6,
            gateway6: e.gateway6.filter(|_| leads6(e)),
        };
        let outside = sandbox.endpoints.iter().find(|e| e.default_route).or(sandbox.endpoints.first());
        let addr = outside.filter(|e| !e.bridge.is_empty()).map(|e| IpAddr::from(e.address));
        let addr6 = outside6.filter(|e| !e.bridge.is_empty()).and_then(|e| e.net6).map(|n| IpAddr::from(n.addr));
        let published = |p: &super::PortMap| {
            let at = [Some(p.host_ip), p.both.then_some(Ipv6Addr::UNSPECIFIED.into())];
            let one = |host_ip: IpAddr| {
                let addr = if host_ip.is_ipv4() { addr } else { addr6 }?;
                Some(Published { protocol: p.protocol, host_ip, host_port: p.host_port, addr, port: p.container_port })
            };
            at.into_iter().flatten().filter_map(one).collect::<Vec<_>>()
        };
        Container {
            ns: ns_of(&sandbox.request.container_id),
            endpoints: sandbox.endpoints.iter().map(endpoint).collect(),
            ports: sandbox.ports.iter().flat_map(published).collect(),
            ingress: sandbox.request.ingress_address,
            ingress_ports: sandbox.request.ingress_ports.clone(),
            dns_port: sandbox.resolver,
        }
    }

    fn bridge(&self, network: &LocalNetwork) -> Option<Bridge> {
        let (subnet, gateway) = (network.subnet?, network.gateway?);
        let is = |key: &str| options::flag(&network.spec.options, key);
        if network.shared.is_some() {
            return None;
        }
        Some(Bridge {
            link: network.link.clone(),
            net: Ipv4Net::new(gateway, subnet.prefix),
            net6: network.v6.filter(|_| self.ipv6).map(|v6| Ipv6Net::new(v6.gateway, v6.subnet.prefix)),
            internal: network.spec.internal,
            masquerade: is("enable_ip_masquerade").unwrap_or(true),
            // That of the default one is the daemon's, which may be started with another.
            isolated: if network.name == BRIDGE { !self.config.icc } else { is("enable_icc") == Some(false) },
            mtu: self.mtu_of(network),
            gwbridge: network.name == GWBRIDGE,
        })
    }
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
