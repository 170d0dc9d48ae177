//! Tables and maps of the mesh of published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use skep_types::dataplane::{IngressPort, IngressView};
use skep_types::spec::Protocol;

use super::{MARK, MARK_MASK, MESH, PLACEHOLDER};
use crate::entry;
use crate::facts::{Container, Facts, Member, proto_number};
use crate::nft::rule::{
    NEW, STATUS_DNAT, TCP, base, bits, dnat, iif, iif_not, in_set, is, join, key, l4proto, map, masked, oif, registers, store,
    tcp_syn, to_local, udp_to, verdict, vmap,
};
use crate::nft::{
    Chain, ChainKind, Datum, Expr, Family, Field, Found, Hook, HookPoint, Load, Rule, Set, SetData, Store, Table, Verdict,
    bytes,
};
use crate::state::{Mac, NetnsState};
use crate::version::{Version, octets};

/// Addresses of tasks on other nodes behind published ports, now or formerly, each with its node's own ingress address.
pub(super) fn remote_backends(member: &Member) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
    let plane = &member.plane;
    let ports = plane.ingress.iter().flat_map(|view| &view.ports);
    let now = ports.flat_map(|port| &port.backends).map(|b| (b.addr, b.node));
    let all = member.drained.iter().map(|(addr, node)| (*addr, *node)).chain(now);
    let remote = all.filter(|(_, node)| *node != member.node);
    remote.filter_map(|(addr, node)| Some((addr, plane.peers.iter().find(|p| p.node == node)?.ingress_addr))).collect()
}

/// The mark that stands for an entry node. Derived from its address, not counted, so that it never changes under a connection.
fn mark_of(ingress: Ipv4Addr) -> u32 {
    MARK | (u32::from(ingress) & !MARK_MASK)
}

/// The conntrack zone of an entry node. Two nodes whose addresses agree in the lower half share one, which only matters when one
/// client uses one source port through both.
fn zone_of(ingress: Ipv4Addr) -> u32 {
    u32::from(ingress) & 0xffff
}

/// Adds what is of the mesh alone: marks, zones, the egress hook and the maps.
pub(super) fn add(facts: &Facts, member: &Member, view: &IngressView, state: &mut NetnsState) {
    let mut mac_of = Set::new(&[Field::Mark], SetData::Value(vec![Field::Ether]));
    let mut peer = Set::new(&[Field::Ether], SetData::Value(vec![Field::Mark]));
    let mut zone = peer.clone();
    for other in member.plane.peers.iter() {
        let mac = Mac::of(other.ingress_addr).0.to_vec();
        let mark = mark_of(other.ingress_addr).to_ne_bytes().to_vec();
        mac_of.elements.insert(mark.clone(), Datum::Value(mac.clone()));
        peer.elements.insert(mac.clone(), Datum::Value(mark));
        zone.elements.insert(mac, Datum::Value(zone_of(other.ingress_addr).to_ne_bytes().to_vec()));
    }
    let mut netdev = Table::default();
    netdev.sets.insert("mac_of".to_owned(), mac_of);
    let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Egress, priority: 0, device: Some(MESH.to_owned()) };
    netdev.chains.insert("eg".to_owned(), Chain { hook: Some(hook), rules: vec![egress()] });
    state.tables.insert((Family::Netdev, "skep".to_owned()), netdev);

    let six = facts.mesh_pairing().map(|_| Version::V6);
    for version in [Version::V4].into_iter().chain(six) {
        let table = state.tables.entry((version.family(), "skep".to_owned())).or_default();
        table.sets.insert("peer".to_owned(), peer.clone());
        table.sets.insert("peerz".to_owned(), zone.clone());
        ports(facts, member, view, version, table);
    }
}

/// An answer leaves for the entry node of its connection; its mark ends here, or VXLAN would route its own packet by it.
fn egress() -> Rule {
    join(vec![
        is(Load::EtherDaddr, false, &Mac::of(PLACEHOLDER).0),
        key(&[(Load::Mark, Field::Mark)]),
        map("mac_of"),
        store(Store::EtherDaddr),
        vec![Expr::Imm(8, vec![0; 4])],
        store(Store::Mark),
    ])
}

fn ports(facts: &Facts, member: &Member, view: &IngressView, version: Version, table: &mut Table) {
    let inner = |c: &Container| facts.ways_in(c).into_iter().map(|way| way.own).find(|own| Version::of(*own) == version);
    let field = version.field();
    let in_mesh = |addr| facts.in_mesh(addr, version);
    let mut published = Set::new(&[Field::Proto, Field::Port], SetData::Verdict);
    let to = SetData::Value(vec![field, Field::Port]);
    let mut backends = Set::new(&[Field::Proto, Field::Port, Field::Mark], to.clone());
    let mut local = Set::new(&[field, Field::Proto, Field::Port], to.clone());
    let mut entries = Set::new(&[field, Field::Port, Field::Ether], to);
    let groups: BTreeSet<u8> = member.plane.peers.iter().map(|p| entry::group(p.ingress_addr)).collect();
    let mut lead = |addr: IpAddr, protocol, port: u16, inner: IpAddr| {
        let (addr, port) = (octets(addr), port.to_be_bytes());
        let key = bytes(&[&addr, &[proto_number(protocol)], &port]);
        local.elements.insert(key, Datum::Value(bytes(&[&octets(inner), &port])));
        for group in groups.iter().filter(|_| protocol == Protocol::Tcp) {
            let key = bytes(&[&addr, &port, &[0, 0, 0, 0, 0, *group]]);
            entries.elements.insert(key, Datum::Value(bytes(&[&octets(entry::at(inner, *group)), &port])));
        }
    };
    let mut one = Set::new(&[field, Field::Proto, Field::Port], SetData::Verdict);
    for container in &facts.containers {
        let (Some(addr), Some(inner)) = (container.ingress.and_then(in_mesh), inner(container)) else { continue };
        for (protocol, port) in &container.ingress_ports {
            lead(addr, *protocol, *port, inner);
        }
    }
    for port in &view.ports {
        let proto = [proto_number(port.protocol)];
        let (outside, inside) = (port.published.to_be_bytes(), port.target.to_be_bytes());
        let here = |addr: Ipv4Addr| facts.containers.iter().find(|c| c.ingress == Some(addr)).and_then(inner);
        for addr in port.backends.iter().filter(|b| b.node == member.node).map(|b| b.addr) {
            if let (Some(inner), Some(addr)) = (here(addr), in_mesh(addr)) {
                lead(addr, port.protocol, port.target, inner);
            }
        }
        // An address of the other family is not of this table.
        if port.host_ip.is_some() && version == Version::V6 {
            continue;
        }
        let targets = targets(member, port, here, |addr| facts.in_mesh(addr, version));
        if targets.is_empty() {
            continue;
        }
        for (index, addr) in (0u32..).zip(&targets) {
            let key = bytes(&[&proto, &outside, &index.to_ne_bytes()]);
            backends.elements.insert(key, Datum::Value(bytes(&[&octets(*addr), &inside])));
        }
        let chain = format!("p{}", targets.len());
        table.chains.entry(chain.clone()).or_insert_with(|| spread(targets.len(), version));
        let verdict = Datum::Verdict(Verdict::Goto(chain));
        match port.host_ip {
            Some(ip) => _ = one.elements.insert(bytes(&[&ip.octets(), &proto, &outside]), verdict),
            None => _ = published.elements.insert(bytes(&[&proto, &outside]), verdict),
        }
    }
    let mut loops = Set::new(&[field, field], SetData::None);
    for (task, own) in remote_backends(member) {
        let Some((peer, task)) = member.plane.peers.iter().find(|p| p.ingress_addr == own).zip(in_mesh(task).map(octets))
        else {
            continue;
        };
        let sources: Vec<IpAddr> = match version {
            Version::V4 => vec![peer.addr.into()],
            Version::V6 => peer.ipv6.iter().flatten().map(|a| IpAddr::from(*a)).collect(),
        };
        loops.elements.extend(sources.into_iter().map(|source| (bytes(&[&octets(source), &task]), Datum::None)));
    }
    table.sets.insert("loops".to_owned(), loops);
    table.sets.insert("pub".to_owned(), published);
    table.sets.insert("pubone".to_owned(), one);
    table.sets.insert("pubbe".to_owned(), backends);
    table.sets.insert("local".to_owned(), local);
    table.sets.insert("entries".to_owned(), entries);
}

/// Where a published port leads from this node: a local task at its bridge address, another at its mesh address.
fn targets(
    member: &Member,
    port: &IngressPort,
    here: impl Fn(Ipv4Addr) -> Option<IpAddr>,
    there: impl Fn(Ipv4Addr) -> Option<IpAddr>,
) -> BTreeSet<IpAddr> {
    let target = |b: &skep_types::dataplane::IngressBackend| {
        if b.node == member.node {
            return here(b.addr);
        }
        let peer = member.plane.peers.iter().find(|p| p.node == b.node)?;
        // The containers of a node without IPv6 would never answer.
        there(b.addr).filter(|addr| addr.is_ipv4() || peer.ipv6.is_some())
    };
    let own = port.backends.iter().filter(|b| b.node == member.node).filter_map(target).collect::<BTreeSet<_>>();
    if port.prefer_local && !own.is_empty() {
        return own;
    }
    port.backends.iter().filter_map(target).collect()
}

fn spread(count: usize, version: Version) -> Chain {
    let modulus = u32::try_from(count).unwrap_or(u32::MAX);
    let pick = key(&[(Load::L4Proto, Field::Proto), (Load::ThDport, Field::Port), (Load::Random(modulus), Field::Mark)]);
    Chain { hook: None, rules: vec![join(vec![pick, map("pubbe"), dnat(version, true)])] }
}

/// Chain `raw`: connections of different entry nodes are kept apart.
pub(super) fn raw() -> Rule {
    let mut rule = join(vec![iif(MESH), key(&[(Load::EtherSaddr, Field::Ether)]), map("peerz")]);
    rule.push(Expr::Store(Store::CtZoneOriginal, 8));
    rule
}

/// Chain `mangle`: a connection remembers its entry node, and its answers are routed there.
pub(super) fn mangle(gwbridge: Option<&str>) -> Chain {
    let remember = join(vec![
        iif(MESH),
        bits(Load::CtState, NEW, false),
        key(&[(Load::EtherSaddr, Field::Ether)]),
        map("peer"),
        store(Store::CtMark),
    ]);
    let mut rules = vec![remember];
    if let Some(gw) = gwbridge {
        rules.push(join(vec![
            iif(gw),
            is(Load::CtDirection, false, &[1]),
            masked(Load::CtMark, MARK_MASK, MARK),
            vec![Expr::Load(Load::CtMark, 8)],
            store(Store::Mark),
        ]));
    }
    base(ChainKind::Filter, HookPoint::Prerouting, -150, rules)
}

/// Chain `pre`: what another entry node sent goes to the container, TCP at its address for that node.
pub(super) fn pre_from_mesh(version: Version) -> [Rule; 2] {
    let (address, port) = ((version.destination(), version.field()), (Load::ThDport, Field::Port));
    let from = (Load::EtherSaddr, Field::Ether);
    let reg = registers(&[address.1, port.1]);
    let group = vec![Expr::And { reg, mask: vec![0, 0, 0, 0, 0, entry::MASK] }];
    [
        join(vec![iif(MESH), l4proto(TCP), key(&[address, port, from]), group, map("entries"), dnat(version, true)]),
        join(vec![iif(MESH), key(&[address, (Load::L4Proto, Field::Proto), port]), map("local"), dnat(version, true)]),
    ]
}

/// Chains `pre` and `out`: a published port of this host, at one address or at any.
pub(super) fn published(incoming: bool, version: Version) -> [Rule; 2] {
    let fields = [(version.destination(), version.field()), (Load::L4Proto, Field::Proto), (Load::ThDport, Field::Port)];
    let from = || if incoming { iif_not(MESH) } else { Vec::new() };
    [
        join(vec![from(), to_local(), key(&fields), vmap("pubone")]),
        join(vec![from(), to_local(), key(&fields[1..]), vmap("pub")]),
    ]
}

/// Chain `forw`, before connections are accepted: segments fit the mesh's packets.
pub(super) fn segment_size(mtu: u32, version: Version) -> Vec<Rule> {
    let mss = u16::try_from(mtu.saturating_sub(version.tcp_headers())).unwrap_or(u16::MAX);
    let out = vec![Expr::Load(Load::RtTcpMss, 8), Expr::Hton16(8)];
    vec![
        join(vec![oif(MESH), tcp_syn(), out, store(Store::TcpMss)]),
        join(vec![iif(MESH), tcp_syn(), vec![Expr::Imm(8, mss.to_be_bytes().to_vec())], store(Store::TcpMss)]),
    ]
}

/// Chain `forw`: the mesh leads to containers only.
pub(super) fn forward() -> Rule {
    join(vec![iif(MESH), bits(Load::CtStatus, STATUS_DNAT, true), verdict(Verdict::Drop)])
}

/// Chain `post`: a node that calls another one and is sent back to a task of its own would meet packets with its own address as their
/// source, and drop them (IPv4) or answer itself past the entry node (IPv6).
pub(super) fn masquerade(version: Version) -> Rule {
    let field = version.field();
    let mut rule = join(vec![oif(MESH), key(&[(version.source(), field), (version.destination(), field)])]);
    rule.push(Expr::Lookup { set: "loops".to_owned(), reg: 0, found: Found::Member });
    rule.push(Expr::Masquerade);
    rule
}

/// Chain `input`: VXLAN packets of others than members are forged.
pub(super) fn input(port: u16) -> Rule {
    join(vec![udp_to(port), in_set(Load::IpSaddr, "members", false), verdict(Verdict::Drop)])
}
