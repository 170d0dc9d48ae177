//! Tables `ip skep` and `ip6 skep` of the host: bridges, published ports, and the mesh's rules in their places.

use super::{MESH, mesh, tunnel, vxlan_port};
use crate::facts::{Bridge, Facts, VXLAN_OVERHEAD, proto_number};
use crate::nft::rule::{
    ESTABLISHED_RELATED, STATUS_DNAT, base, bits, dnat, iif, iif_not, in_net, in_set, join, key, map, oif, oif_not, to_local,
    verdict,
};
use crate::nft::{ChainKind, Datum, Expr, Field, HookPoint, Load, Rule, Set, SetData, Table, Verdict, bytes, if_name};
use crate::state::NetnsState;
use crate::version::{Version, octets};

/// Table of the administrator's own rules …
const USER_TABLE: &str = "skep-user";
/// … and its chain, which forwarded packets pass before any rule of ours. Packets of the mesh have their clients' own addresses
/// there, and their tasks' as destination.
const USER_CHAIN: &str = "SKEP-USER";

/// Adds the tables, if there is anything to say.
pub(super) fn add(facts: &Facts, state: &mut NetnsState) {
    if facts.bridges.is_empty() && facts.member.is_none() {
        return;
    }
    for version in facts.versions() {
        of_version(facts, *version, state);
    }
}

fn of_version(facts: &Facts, version: Version, state: &mut NetnsState) {
    let user = base(ChainKind::Filter, HookPoint::Forward, -10, Vec::new());
    let user = Table { chains: [(USER_CHAIN.to_owned(), user)].into(), shared: true, ..Table::default() };
    state.tables.insert((version.family(), USER_TABLE.to_owned()), user);
    let mesh = state.links.contains_key(MESH) && (version == Version::V4 || facts.mesh_pairing().is_some());
    let gw = facts.bridges.iter().find(|b| b.gwbridge).map(|b| b.link.as_str());
    let table = state.tables.entry((version.family(), "skep".to_owned())).or_default();
    links(facts, table);
    host_ports(facts, version, table);
    let mut raw = Vec::new();
    if version == Version::V4 {
        // of IPv6 the kernel takes no such packet anyway
        raw.push(join(vec![iif_not("lo"), in_net(Load::IpDaddr, version.loopback()), verdict(Verdict::Drop)]));
    }
    let mut pre = Vec::new();
    let mut out = host_port_rules(false, version);
    if mesh {
        raw.push(mesh::raw());
        pre.extend(mesh::pre_from_mesh(version));
        table.chains.insert("mangle".to_owned(), mesh::mangle(gw));
    }
    pre.extend(host_port_rules(mesh, version));
    if mesh {
        pre.extend(mesh::published(true, version));
        out.extend(mesh::published(false, version));
    }
    // Nodes reach each other by IPv4.
    if let Some(member) = facts.member.as_ref().filter(|_| version == Version::V4) {
        let mut members = Set::new(&[Field::Ipv4], SetData::None);
        members.elements.extend(member.plane.peers.iter().map(|p| (p.addr.octets().to_vec(), Datum::None)));
        table.sets.insert("members".to_owned(), members);
        raw.push(tunnel::plain_in(member));
        raw.extend(tunnel::untracked(member, Load::IpSaddr));
        let leaving = tunnel::untracked(member, Load::IpDaddr).into();
        table.chains.insert("rawout".to_owned(), base(ChainKind::Filter, HookPoint::Output, -300, leaving));
        let rules = vec![mesh::input(vxlan_port(member)), tunnel::plain_in(member)];
        table.chains.insert("input".to_owned(), base(ChainKind::Filter, HookPoint::Input, 0, rules));
        let rules = vec![tunnel::plain_out(member)];
        table.chains.insert("output".to_owned(), base(ChainKind::Filter, HookPoint::Output, 0, rules));
    }
    let mtu = facts.member.as_ref().map_or(1500, |m| m.mtu).saturating_sub(VXLAN_OVERHEAD);
    let mut chain = |name: &str, chain| table.chains.insert(name.to_owned(), chain);
    chain("raw", base(ChainKind::Filter, HookPoint::Prerouting, -300, raw));
    chain("pre", base(ChainKind::Nat, HookPoint::Prerouting, -100, pre));
    chain("out", base(ChainKind::Nat, HookPoint::Output, -100, out));
    chain("forw", base(ChainKind::Filter, HookPoint::Forward, 0, forward(facts, mesh.then_some(mtu), version)));
    chain("post", base(ChainKind::Nat, HookPoint::Postrouting, 100, masquerade(facts, mesh, version)));
}

fn links(facts: &Facts, table: &mut Table) {
    let mut bridges = Set::new(&[Field::IfName], SetData::None);
    let mut internal = bridges.clone();
    for bridge in &facts.bridges {
        let set = if bridge.internal { &mut internal } else { &mut bridges };
        set.elements.insert(if_name(&bridge.link), Datum::None);
    }
    table.sets.insert("bridges".to_owned(), bridges);
    table.sets.insert("internal".to_owned(), internal);
}

fn host_ports(facts: &Facts, version: Version, table: &mut Table) {
    let to = SetData::Value(vec![version.field(), Field::Port]);
    let mut any = Set::new(&[Field::Proto, Field::Port], to.clone());
    let mut one = Set::new(&[version.field(), Field::Proto, Field::Port], to);
    let ports = facts.containers.iter().flat_map(|c| &c.ports);
    for port in ports.filter(|p| Version::of(p.host_ip) == version && Version::of(p.addr) == version) {
        let (proto, outside) = ([proto_number(port.protocol)], port.host_port.to_be_bytes());
        let value = Datum::Value(bytes(&[&octets(port.addr), &port.port.to_be_bytes()]));
        if port.host_ip.is_unspecified() {
            any.elements.insert(bytes(&[&proto, &outside]), value);
        } else {
            one.elements.insert(bytes(&[&octets(port.host_ip), &proto, &outside]), value);
        }
    }
    table.sets.insert("hostany".to_owned(), any);
    table.sets.insert("hostone".to_owned(), one);
}

/// Published ports of this host's own containers, an exact address before any address.
fn host_port_rules(mesh: bool, version: Version) -> Vec<Rule> {
    let one = [(version.destination(), version.field()), (Load::L4Proto, Field::Proto), (Load::ThDport, Field::Port)];
    let from = || if mesh { iif_not(MESH) } else { Vec::new() };
    vec![
        join(vec![from(), to_local(), key(&one), map("hostone"), dnat(version, true)]),
        join(vec![from(), to_local(), key(&one[1..]), map("hostany"), dnat(version, true)]),
    ]
}

fn forward(facts: &Facts, mesh_mtu: Option<u32>, version: Version) -> Vec<Rule> {
    let mut rules = mesh_mtu.map(|mtu| mesh::segment_size(mtu, version)).unwrap_or_default();
    rules.push(join(vec![bits(Load::CtState, ESTABLISHED_RELATED, false), verdict(Verdict::Accept)]));
    if mesh_mtu.is_some() {
        rules.push(mesh::forward());
    }
    for bridge in &facts.bridges {
        let same = join(vec![iif(&bridge.link), oif(&bridge.link)]);
        if bridge.isolated {
            let direct = bits(Load::CtStatus, STATUS_DNAT, true);
            rules.push(join(vec![same, direct, verdict(Verdict::Drop)]));
        } else {
            rules.push(join(vec![same, verdict(Verdict::Accept)]));
        }
    }
    rules.push(join(vec![in_set(Load::IifName, "internal", true), verdict(Verdict::Drop)]));
    rules.push(join(vec![in_set(Load::OifName, "internal", true), verdict(Verdict::Drop)]));
    let published = bits(Load::CtStatus, STATUS_DNAT, false);
    rules.push(join(vec![in_set(Load::OifName, "bridges", true), published, verdict(Verdict::Accept)]));
    rules.push(join(vec![in_set(Load::OifName, "bridges", true), verdict(Verdict::Drop)]));
    rules
}

fn masquerade(facts: &Facts, mesh: bool, version: Version) -> Vec<Rule> {
    let bridges = facts.bridges.iter().filter(|b| !b.internal);
    let mut rules: Vec<Rule> = bridges.flat_map(|b| bridge_masquerade(b, version)).collect();
    // 127.0.0.1 and ::1 mean nothing outside of this host
    let own = |to| join(vec![in_net(version.source(), version.loopback()), to, vec![Expr::Masquerade]]);
    rules.push(own(in_set(Load::OifName, "bridges", true)));
    if mesh {
        rules.push(own(oif(MESH)));
        rules.push(mesh::masquerade(version));
    }
    rules
}

fn bridge_masquerade(bridge: &Bridge, version: Version) -> Vec<Rule> {
    let Some(net) = bridge.net_of(version) else { return Vec::new() };
    let from = || in_net(version.source(), net);
    // to itself or a neighbour through a published port: without it the answer would not come back this way
    let hairpin = bits(Load::CtStatus, STATUS_DNAT, false);
    let mut rules = vec![join(vec![oif(&bridge.link), from(), hairpin, vec![Expr::Masquerade]])];
    if bridge.masquerade || bridge.gwbridge {
        rules.push(join(vec![oif_not(&bridge.link), from(), vec![Expr::Masquerade]]));
    }
    rules
}
