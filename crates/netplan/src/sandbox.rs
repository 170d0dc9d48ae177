//! A container's namespace: interfaces, routes, and the tables that send a virtual address to a backend.
//!
//! Virtual addresses are resolved where the caller is, so a backend sees the caller's own address and a change costs a few map
//! elements. Of the mesh of published ports there is one route in here: TCP arrives at an address for each entry node.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::facts::{Attach, Container, Endpoint, Facts};
use crate::host::LOCAL_TABLE;
use crate::nft::rule::{base, dnat, dport, in_set, is, join, key, l4proto, map, vmap};
use crate::nft::{Chain, ChainKind, Datum, Expr, Field, HookPoint, Load, Set, SetData, Table, Verdict, bytes};
use crate::state::{Address, ChildKind, Link, LinkKind, Mac, MacvlanMode, NetnsState, Ns, PortMode, Route};
use crate::version::{Version, octets};
use crate::{entry, overlay};

/// Address of the resolver inside each container, as everywhere in Docker.
pub const DNS_ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The wanted state of a container's namespace.
#[must_use]
pub fn sandbox(facts: &Facts, container: &Container) -> NetnsState {
    let mut state = NetnsState::default();
    let lo = Link { kind: LinkKind::Given, mtu: None, mac: None, master: None, mode: PortMode::Usual };
    state.links.insert("lo".to_owned(), lo);
    for endpoint in &container.endpoints {
        let dev = endpoint.ifname.clone();
        state.links.insert(dev.clone(), interface(endpoint));
        state.addresses.insert(Address { dev: dev.clone(), net: endpoint.net.into() });
        let mut default = |version: Version, gateway: Option<IpAddr>| {
            if gateway.is_some() || endpoint.direct {
                let (dest, dev) = (version.everything(), dev.clone());
                state.routes.insert(Route { table: 254, dest, gateway, dev, onlink: false });
            }
        };
        default(Version::V4, endpoint.gateway.map(IpAddr::from));
        if let Some(net) = endpoint.net6.filter(|_| facts.ipv6 && endpoint.carries_ipv6()) {
            default(Version::V6, endpoint.gateway6.map(IpAddr::from));
            state.addresses.insert(Address { dev: dev.clone(), net: net.into() });
            state.sysctls.insert(format!("net/ipv6/conf/{dev}/disable_ipv6"), "0".to_owned());
            if !matches!(endpoint.attach, Attach::Link(..)) {
                // whatever other containers say: addresses and routes are ours to give
                state.sysctls.insert(format!("net/ipv6/conf/{dev}/accept_ra"), "0".to_owned());
            }
        }
    }
    for way in facts.ways_in(container) {
        let dest = entry::range(way.own);
        state.routes.insert(Route { table: LOCAL_TABLE, dest, gateway: None, dev: "lo".to_owned(), onlink: false });
        // Only an address of the link may ask for the gateway, and the one that always can is not there at once (IPv6), so it is told.
        let gateway = way.gateway.map(|gateway| ((way.endpoint.ifname.clone(), gateway), Mac::of(way.bridge.net.addr)));
        state.neighbours.extend(gateway);
    }
    // as Docker does: any port without privileges, ping without CAP_NET_RAW
    for (key, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        state.sysctls.insert(format!("net/ipv4/{key}"), value.to_owned());
    }
    for version in [Version::V4, Version::V6] {
        let table = table(facts, container, version);
        if !table.chains.is_empty() {
            state.tables.insert((version.family(), "skep".to_owned()), table);
        }
    }
    state
}

/// The interface itself: the end of a pair that was made outside, or a share of a link of the host or of an overlay network.
fn interface(endpoint: &Endpoint) -> Link {
    let share = |ns: Ns, parent: &str, kind: ChildKind| {
        // Who has a link to himself, or shares its Ethernet address, has no other.
        let own = matches!(kind, ChildKind::Macvlan(mode) if mode != MacvlanMode::Passthru);
        (LinkKind::Child { ns, parent: parent.to_owned(), kind }, own.then(|| Mac::of(endpoint.net.addr)))
    };
    let (kind, mac) = match &endpoint.attach {
        Attach::Link(parent, kind) => share(Ns::Host, parent, *kind),
        Attach::Overlay(id) if endpoint.veth.is_none() => {
            share(Ns::of_overlay(id), overlay::VXLAN, ChildKind::Macvlan(MacvlanMode::Bridge))
        }
        Attach::Bridge(_) | Attach::Overlay(_) => (LinkKind::Given, None),
    };
    let mtu = Some(endpoint.mtu).filter(|mtu| *mtu > 0);
    Link { kind, mtu, mac, master: None, mode: PortMode::Usual }
}

fn table(facts: &Facts, container: &Container, version: Version) -> Table {
    let mut table = Table::default();
    if let Some(port) = container.dns_port.filter(|_| version == Version::V4) {
        let resolver = |proto| {
            let to = [Expr::Imm(8, DNS_ADDR.octets().to_vec()), Expr::Imm(9, port.to_be_bytes().to_vec())];
            join(vec![
                is(Load::IpDaddr, false, &DNS_ADDR.octets()),
                l4proto(proto),
                dport(53),
                to.to_vec(),
                dnat(version, true),
            ])
        };
        let rules = vec![resolver(crate::nft::rule::UDP), resolver(crate::nft::rule::TCP)];
        table.chains.insert("dns".to_owned(), base(ChainKind::Nat, HookPoint::Output, -101, rules));
    }
    let overlays: BTreeSet<&str> = container
        .endpoints
        .iter()
        .filter(|e| version == Version::V4 || (facts.ipv6 && e.net6.is_some() && e.carries_ipv6()))
        .filter_map(|e| match &e.attach {
            Attach::Overlay(id) => Some(id.as_str()),
            Attach::Bridge(_) | Attach::Link(..) => None,
        })
        .collect();
    if !overlays.is_empty() {
        vips(facts, &overlays, version, &mut table);
    }
    table
}

/// Chains for at least so many backends are always there.
const FEW: usize = 4;
/// Chains for fewer backends than this are there before a service has so many: the kernel walks through all backends when a rule
/// comes to name them, which takes longer than all else of a change. The others come and go with their services.
const USUAL: usize = 16;

fn vips(facts: &Facts, overlays: &BTreeSet<&str>, version: Version, table: &mut Table) {
    let field = version.field();
    let mut count = Set::new(&[field], SetData::Verdict);
    let mut be = Set::new(&[field, Field::Mark], SetData::Value(vec![field]));
    let mut empty = Set::new(&[field], SetData::None);
    let mut usual = FEW;
    let views = overlays.iter().filter_map(|id| facts.overlay(id));
    for (view, service) in views.flat_map(|view| view.services.iter().map(move |s| (view, s))) {
        let form = |addr: Ipv4Addr| match version {
            Version::V4 => Some(IpAddr::from(addr)),
            Version::V6 => facts.pairing(view)?.six(addr).map(IpAddr::from),
        };
        let Some(vip) = service.vip.and_then(form).map(octets) else { continue };
        let backends: BTreeSet<IpAddr> = service.backends.iter().filter_map(|a| form(*a)).collect();
        if backends.is_empty() {
            empty.elements.insert(vip, Datum::None);
            continue;
        }
        let chain = spread_name(backends.len());
        for (index, addr) in (0u32..).zip(&backends) {
            let key = bytes(&[&vip, &index.to_ne_bytes()]);
            be.elements.insert(key, Datum::Value(octets(*addr)));
        }
        table.chains.entry(chain.clone()).or_insert_with(|| spread(backends.len(), version));
        usual = usual.max(backends.len().min(USUAL - 1) + 1);
        count.elements.insert(vip, Datum::Verdict(Verdict::Goto(chain)));
    }
    for n in 1..=usual.next_power_of_two() {
        table.chains.entry(spread_name(n)).or_insert_with(|| spread(n, version));
    }
    let out = vec![join(vec![key(&[(version.destination(), field)]), vmap("count")])];
    table.chains.insert("out".to_owned(), base(ChainKind::Nat, HookPoint::Output, -100, out));
    let refuse = |how: Vec<Expr>| in_set(version.destination(), "empty", true).into_iter().chain(how).collect();
    let reset = l4proto(crate::nft::rule::TCP).into_iter().chain([Expr::RejectReset]).collect::<Vec<_>>();
    let mut filter = vec![refuse(reset)];
    if version == Version::V4 {
        // An association is given up for this alone (RFC 9260, 10); IPv6 has no such word, there clients ask on.
        filter.push(refuse(l4proto(crate::nft::rule::SCTP).into_iter().chain([Expr::RejectProtocol]).collect()));
    }
    filter.push(refuse(vec![Expr::RejectPort]));
    table.chains.insert("filt".to_owned(), base(ChainKind::Filter, HookPoint::Output, 0, filter));
    table.sets.insert("count".to_owned(), count);
    table.sets.insert("be".to_owned(), be);
    table.sets.insert("empty".to_owned(), empty);
}

/// The name of a chain for so many backends.
fn spread_name(backends: usize) -> String {
    format!("n{backends}")
}

/// One chain per number of backends: picks an index at random, looks the backend up.
fn spread(backends: usize, version: Version) -> Chain {
    let modulus = u32::try_from(backends).unwrap_or(u32::MAX);
    let pick = key(&[(version.destination(), version.field()), (Load::Random(modulus), Field::Mark)]);
    Chain { hook: None, rules: vec![join(vec![pick, map("be"), dnat(version, false)])] }
}
