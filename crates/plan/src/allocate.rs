//! Addresses, ports and identifiers: the lowest free one, from the tables alone. The manager uses the same functions when it
//! creates networks and services. Must never hand out what somebody holds; the store refuses it anyway.

use std::net::Ipv4Addr;

use skep_state::{Key, Op, Store};
use skep_types::net::V6Range;
use skep_types::object::{Attachment, Network, Service, Task, VirtualIp};
use skep_types::spec::{EndpointMode, NetworkSpec, PublishMode, TaskSpec};
use skep_types::{ClusterId, Ipv4Net, Ipv6Net, NetworkId, NodeId};

use crate::draft::Draft;

/// First VXLAN identifier given to a network, as in the reference.
const FIRST_VNI: u32 = 4096;
/// Published ports are chosen from here …
const FIRST_PORT: u16 = 30_000;
/// … to here.
const LAST_PORT: u16 = 32_767;

/// Why nothing could be allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exhausted {
    /// No subnet is free in the swarm's pool.
    Subnets,
    /// No VXLAN identifier is free.
    Vnis,
    /// No port is free to be published.
    Ports,
    /// The network, told by its name and subnet, has no free address.
    Addresses(String),
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subnets => f.write_str(
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
            ),
            Self::Vnis => f.write_str("no free VXLAN network identifier"),
            Self::Ports => f.write_str("no published port is free"),
            Self::Addresses(n) => write!(f, "could not find an available IP while allocating an address on network {n}"),
        }
    }
}

impl std::error::Error for Exhausted {}

/// The next free subnet of the pools with this prefix length that overlaps no network; a pool is used up before the next one.
///
/// # Errors
/// [`Exhausted::Subnets`].
pub fn subnet(store: &Store, pools: &[Ipv4Net], prefix: u8) -> Result<Ipv4Net, Exhausted> {
    pools.iter().find_map(|pool| subnet_of(store, *pool, prefix)).ok_or(Exhausted::Subnets)
}

/// The next free subnet of IPv6 of the swarm's own local range (RFC 4193), whose 40 bits follow from the swarm's id.
///
/// # Errors
/// [`Exhausted::Subnets`].
pub fn subnet6(store: &Store, cluster: ClusterId) -> Result<Ipv6Net, Exhausted> {
    // all of the id: its parts are not equally random
    let id = cluster.0;
    let global = (id ^ (id >> 40) ^ (id >> 80) ^ (id >> 120)) as u64;
    let free = |net: &Ipv6Net| !store.networks().any(|n| n.v6.is_some_and(|v6| v6.subnet.overlaps(net)));
    (0..=u16::MAX).map(|subnet| Ipv6Net::unique_local(global, subnet)).find(free).ok_or(Exhausted::Subnets)
}

/// The side of IPv6 of a network with this subnet of IPv4.
///
/// # Errors
/// In words: what was asked for cannot be, or nothing is free.
pub fn side6(store: &Store, cluster: ClusterId, spec: &NetworkSpec, subnet: Ipv4Net) -> Result<V6Range, String> {
    let subnet6 = match spec.subnet6 {
        Some(net) => net.network(),
        None => subnet6(store, cluster).map_err(|e| e.to_string())?,
    };
    if 128 - subnet6.prefix < 32 - subnet.prefix {
        return Err(format!(
            "subnet {subnet6} is too small: each address of {subnet} needs one beside it, so its prefix may have {} bits at most",
            96 + subnet.prefix
        ));
    }
    let gateway = spec.gateway6.or_else(|| subnet6.nth(1)).filter(|g| subnet6.contains(*g) && *g != subnet6.addr);
    let gateway = gateway.ok_or_else(|| format!("no matching subnet for gateway {:?}", spec.gateway6))?;
    Ok(V6Range { subnet: subnet6, gateway })
}

fn subnet_of(store: &Store, pool: Ipv4Net, prefix: u8) -> Option<Ipv4Net> {
    let mut at = u32::from(pool.network().addr);
    let last = u32::from(pool.broadcast());
    while at <= last {
        let candidate = Ipv4Net::new(Ipv4Addr::from(at), prefix);
        let clash = store.networks().find(|n| n.subnet.overlaps(&candidate));
        let Some(clash) = clash else { return Some(candidate) };
        // Skip the whole network that is in the way, and at least one candidate.
        let past = u32::from(clash.subnet.broadcast()).max(u32::from(candidate.broadcast()));
        let next = past.checked_add(1)?;
        let size = u32::from(candidate.broadcast()) - u32::from(candidate.network().addr);
        at = next.checked_add(size).map_or(u32::MAX, |x| x & !size);
    }
    None
}

/// The lowest free VXLAN identifier from 4096.
///
/// # Errors
/// [`Exhausted::Vnis`].
pub fn vni(store: &Store) -> Result<u32, Exhausted> {
    (FIRST_VNI..1 << 24).find(|v| store.vni_owner(*v).is_none()).ok_or(Exhausted::Vnis)
}

fn no_address(n: &Network) -> Exhausted {
    Exhausted::Addresses(format!("{} ({})", n.spec.name, n.subnet))
}

/// The lowest free address of a network, gateway and the network's own two addresses excluded.
///
/// # Errors
/// [`Exhausted::Addresses`].
pub fn address(store: &Store, n: &Network) -> Result<Ipv4Net, Exhausted> {
    let found = store.free_address(n, 0).and_then(|i| n.subnet.nth(i));
    found.map(|a| Ipv4Net::new(a, n.subnet.prefix)).ok_or_else(|| no_address(n))
}

/// The networks that tasks of a service are attached to: ingress first if it publishes ports there.
#[must_use]
pub fn networks_of(store: &Store, service: &Service) -> Vec<NetworkId> {
    let publishes = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    let ingress = store.ingress().filter(|_| publishes).map(|n| n.id);
    ingress.into_iter().chain(service.spec.task.networks.iter().map(|n| n.target)).collect()
}

/// Fills in published ports and virtual addresses of a service by its spec, keeping what it has.
///
/// # Errors
/// [`Exhausted`]; the service is unchanged then.
pub fn service(store: &Store, s: &mut Service) -> Result<(), Exhausted> {
    let mut next = s.clone();
    next.ports.clone_from(&s.spec.endpoint.ports);
    for i in 0..next.ports.len() {
        if next.ports[i].published != 0 || next.ports[i].mode == PublishMode::Host {
            continue;
        }
        let (protocol, target) = (next.ports[i].protocol, next.ports[i].target);
        let taken = |ports: &[skep_types::spec::PortConfig], p: u16| {
            ports.iter().any(|x| x.protocol == protocol && x.published == p)
                || store.port_owner(protocol, p).is_some_and(|o| o != s.id)
        };
        // The number it had before, if this port is the same one.
        let kept = s.ports.iter().find(|o| o.protocol == protocol && o.target == target && o.mode == PublishMode::Ingress);
        let kept = kept.map(|o| o.published).filter(|p| *p != 0 && !taken(&next.ports, *p));
        let chosen = kept.or_else(|| (FIRST_PORT..=LAST_PORT).find(|p| !taken(&next.ports, *p)));
        next.ports[i].published = chosen.ok_or(Exhausted::Ports)?;
    }
    let wanted = if next.spec.endpoint.mode == EndpointMode::Vip { networks_of(store, &next) } else { vec![] };
    next.vips.retain(|v| wanted.contains(&v.network));
    for id in wanted {
        if next.vips.iter().all(|v| v.network != id)
            && let Some(n) = store.network(id)
        {
            next.vips.push(VirtualIp { network: id, addr: address(store, n)? });
        }
    }
    *s = next;
    Ok(())
}

/// Gives a new task an address on each of its networks.
///
/// # Errors
/// [`Exhausted::Addresses`]; the task is unchanged then.
pub(crate) fn task(d: &mut Draft<'_>, ingress: bool, spec: &TaskSpec, t: &mut Task) -> Result<(), Exhausted> {
    let ingress = d.work.ingress().filter(|_| ingress).map(|n| n.id);
    let mut out = Vec::new();
    for id in ingress.into_iter().chain(spec.networks.iter().map(|n| n.target)) {
        if let Some(n) = d.work.network(id).cloned() {
            out.push(Attachment { network: id, addr: d.address(&n).ok_or_else(|| no_address(&n))? });
        }
    }
    t.networks = out;
    Ok(())
}

/// Gives nodes without one an address on the ingress network.
pub(crate) fn ingress_addresses(d: &mut Draft<'_>, nodes: &[NodeId]) {
    for id in nodes {
        let Some(ingress) = d.work.ingress().cloned() else { return };
        let Some(node) = d.work.node(*id).filter(|n| n.ingress_addr.is_none()).cloned() else { continue };
        if d.is_full() {
            d.rest.nodes.insert(*id);
            continue;
        }
        if let Some(a) = d.address(&ingress) {
            let mut node = (*node).clone();
            node.ingress_addr = Some(a.addr);
            d.put(Key::Node(*id), &Op::PutNode(Box::new(node)));
        }
    }
}
