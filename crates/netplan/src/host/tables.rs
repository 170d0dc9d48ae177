//! Table `ip skep` of the host: bridges, published ports, and the mesh's rules in their places.

use std::net::Ipv4Addr;

use skep_types::Ipv4Net;

use super::{MESH, mesh, tunnel, vxlan_port};
use crate::facts::{Bridge, Facts, VXLAN_OVERHEAD, proto_number};
use crate::nft::rule::{
    ESTABLISHED_RELATED, STATUS_DNAT, base, bits, dnat, iif, iif_not, in_net, in_set, join, key, map, oif, oif_not, to_local,
    verdict,
};
use crate::nft::{ChainKind, Datum, Expr, Family, Field, HookPoint, Load, Rule, Set, SetData, Table, Verdict, bytes, if_name};
use crate::state::NetnsState;

const LOOPBACK: Ipv4Net = Ipv4Net { addr: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };

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
    let user = base(ChainKind::Filter, HookPoint::Forward, -10, Vec::new());
    let user = Table { chains: [(USER_CHAIN.to_owned(), user)].into(), shared: true, ..Table::default() };
    state.tables.insert((Family::Ip, USER_TABLE.to_owned()), user);
    let mesh = state.links.contains_key(MESH);
    let gw = facts.bridges.iter().find(|b| b.gwbridge).map(|b| b.link.as_str());
    let table = state.tables.entry((Family::Ip, "skep".to_owned())).or_default();
    links(facts, table);
    host_ports(facts, table);
    let mut raw = vec![join(vec![iif_not("lo"), in_net(Load::IpDaddr, LOOPBACK), verdict(Verdict::Drop)])];
    let mut pre = Vec::new();
    let mut out = host_port_rules(false);
    if mesh {
        raw.push(mesh::raw());
        pre.push(mesh::pre_from_mesh());
        table.chains.insert("mangle".to_owned(), mesh::mangle(gw));
    }
    pre.extend(host_port_rules(mesh));
    if mesh {
        pre.extend(mesh::published(true));
        out.extend(mesh::published(false));
    }
    if let Some(member) = &facts.member {
        let mut members = Set::new(&[Field::Ipv4], SetData::None);
        members.elements.extend(member.plane.peers.iter().map(|p| (p.addr.octets().to_vec(), Datum::None)));
        table.sets.insert("members".to_owned(), members);
        raw.push(tunnel::plain_in(member));
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
    chain("forw", base(ChainKind::Filter, HookPoint::Forward, 0, forward(facts, mesh.then_some(mtu))));
    chain("post", base(ChainKind::Nat, HookPoint::Postrouting, 100, masquerade(facts, mesh)));
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

fn host_ports(facts: &Facts, table: &mut Table) {
    let to = SetData::Value(vec![Field::Ipv4, Field::Port]);
    let mut any = Set::new(&[Field::Proto, Field::Port], to.clone());
    let mut one = Set::new(&[Field::Ipv4, Field::Proto, Field::Port], to);
    for port in facts.containers.iter().flat_map(|c| &c.ports) {
        let (proto, outside) = ([proto_number(port.protocol)], port.host_port.to_be_bytes());
        let value = Datum::Value(bytes(&[&port.addr.octets(), &port.port.to_be_bytes()]));
        if port.host_ip.is_unspecified() {
            any.elements.insert(bytes(&[&proto, &outside]), value);
        } else {
            one.elements.insert(bytes(&[&port.host_ip.octets(), &proto, &outside]), value);
        }
    }
    table.sets.insert("hostany".to_owned(), any);
    table.sets.insert("hostone".to_owned(), one);
}

/// Published ports of this host's own containers, an exact address before any address.
fn host_port_rules(mesh: bool) -> Vec<Rule> {
    let one = [(Load::IpDaddr, Field::Ipv4), (Load::L4Proto, Field::Proto), (Load::ThDport, Field::Port)];
    let from = || if mesh { iif_not(MESH) } else { Vec::new() };
    vec![
        join(vec![from(), to_local(), key(&one), map("hostone"), dnat(true)]),
        join(vec![from(), to_local(), key(&one[1..]), map("hostany"), dnat(true)]),
    ]
}

fn forward(facts: &Facts, mesh_mtu: Option<u32>) -> Vec<Rule> {
    let mut rules = mesh_mtu.map(mesh::segment_size).unwrap_or_default();
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

fn masquerade(facts: &Facts, mesh: bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> = facts.bridges.iter().filter(|b| !b.internal).flat_map(bridge_masquerade).collect();
    // 127.0.0.1 means nothing outside of this host
    let own = |to| join(vec![in_net(Load::IpSaddr, LOOPBACK), to, vec![Expr::Masquerade]]);
    rules.push(own(in_set(Load::OifName, "bridges", true)));
    if mesh {
        rules.push(own(oif(MESH)));
        rules.push(mesh::masquerade());
    }
    rules
}

fn bridge_masquerade(bridge: &Bridge) -> Vec<Rule> {
    let from = || in_net(Load::IpSaddr, bridge.net);
    // to itself or a neighbour through a published port: without it the answer would not come back this way
    let hairpin = bits(Load::CtStatus, STATUS_DNAT, false);
    let mut rules = vec![join(vec![oif(&bridge.link), from(), hairpin, vec![Expr::Masquerade]])];
    if bridge.masquerade || bridge.gwbridge {
        rules.push(join(vec![oif_not(&bridge.link), from(), vec![Expr::Masquerade]]));
    }
    rules
}
