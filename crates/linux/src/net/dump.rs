//! What exists in a namespace, read by dumps, for a daemon that starts anew.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use skep_engine::net::Found;
use skep_netplan::state::{ChildKind, FdbEntry, IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode, Route};
use skep_netplan::{Mac, Ns, entry, overlay};
use skep_types::{IpNet, Ipv4Net};

use super::msg::{DUMP, Msg, Socket, attrs, find, word};
use super::route::{GROUP, IFLA_GROUP, flags, ipvlan, macvlan};

const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const GETNEIGH: u16 = 30;
const NUD_PERMANENT: u16 = 0x80;

pub(super) fn found(socket: &mut Socket) -> io::Result<Found> {
    let mut out = Found::default();
    let mut names = BTreeMap::new();
    let mut mtus = BTreeMap::new();
    for body in socket.dump(Msg::new(GETLINK, DUMP).raw(&[0; 16]))? {
        let attrs = attrs(&body, 16);
        let Some(name) = find(&attrs, 3).map(text) else { continue };
        names.insert(word(&body, 4), name.clone());
        mtus.extend(find(&attrs, 4).map(|mtu| (word(&body, 4), word(mtu, 0))));
        let mac = find(&attrs, 1).and_then(|b| b.try_into().ok()).map(Mac);
        let kind = find(&attrs, 18).map_or(LinkKind::Given, kind);
        if find(&attrs, IFLA_GROUP).is_some_and(|group| word(group, 0) == GROUP) {
            out.marked.insert(name.clone());
        }
        out.links.insert(name, (kind, mac));
    }
    for body in socket.dump(Msg::new(GETADDR, DUMP).raw(&[2, 0, 0, 0, 0, 0, 0, 0]))? {
        let prefix = body.get(1).copied().unwrap_or(32);
        let addr = find(&attrs(&body, 8), 2).and_then(ipv4);
        out.nets.extend(addr.map(|a| Ipv4Net::new(a, prefix)));
        out.mtus.extend(addr.zip(mtus.get(&word(&body, 4)).copied()));
    }
    routes(socket, &names, &mut out)?;
    neighbours(socket, &names, &mut out)?;
    Ok(out)
}

/// Unicast routes of the main table that lead somewhere in particular.
fn routes(socket: &mut Socket, names: &BTreeMap<u32, String>, out: &mut Found) -> io::Result<()> {
    for family in [2u8, 10] {
        for body in socket.dump(Msg::new(GETROUTE, DUMP).raw(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))? {
            let (prefix, table, kind) = (body.get(1).copied(), body.get(4).copied(), body.get(7).copied());
            let (Some(prefix @ 1..), Some(254), Some(1)) = (prefix, table, kind) else { continue };
            let fields = attrs(&body, 12);
            let Some(addr) = find(&fields, 1).and_then(ip) else { continue };
            if let IpAddr::V4(addr) = addr {
                out.nets.push(Ipv4Net::new(addr, prefix));
            }
            let (dest, gateway) = (IpNet { addr, prefix }, find(&fields, 5).and_then(ip));
            let dev = find(&fields, 4).and_then(|index| names.get(&word(index, 0)));
            if let Some(dev) = dev.filter(|_| entry::is_range(dest)) {
                out.ways.insert(Route { table: 254, dest, gateway, dev: dev.clone(), onlink: false });
            }
        }
    }
    Ok(())
}

fn neighbours(socket: &mut Socket, names: &BTreeMap<u32, String>, out: &mut Found) -> io::Result<()> {
    for family in [2u8, 10, 7] {
        let mut header = [0u8; 12];
        header[0] = family;
        for body in socket.dump(Msg::new(GETNEIGH, DUMP).raw(&header))? {
            let Some(dev) = names.get(&word(&body, 4)) else { continue };
            let state = body.get(8..10).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
            let attrs = attrs(&body, 12);
            let mac = find(&attrs, 2).and_then(|b| b.try_into().ok()).map(Mac);
            let dst = find(&attrs, 1).and_then(ip);
            let (Some(mac), Some(dst)) = (mac, dst) else { continue };
            match dst {
                IpAddr::V4(dst) if family == 7 => {
                    let bridged = dev == overlay::VXLAN && out.links.contains_key(overlay::BRIDGE);
                    out.fdb.insert((dev.clone(), mac), FdbEntry { dst, bridged });
                }
                dst if family != 7 && state & NUD_PERMANENT != 0 => _ = out.neighbours.insert((dev.clone(), dst), mac),
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn kind(info: &[u8]) -> LinkKind {
    let info = attrs(info, 0);
    match find(&info, 1).map(text).as_deref() {
        Some("bridge") => LinkKind::Bridge,
        Some("veth") => LinkKind::Veth { peer_ns: Ns::Host, peer_name: String::new(), peer_mac: Mac([0; 6]) },
        Some("vxlan") => {
            let data = attrs(find(&info, 2).unwrap_or_default(), 0);
            let port = find(&data, 15).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
            let local = find(&data, 4).and_then(ipv4).unwrap_or(Ipv4Addr::UNSPECIFIED);
            let answers = find(&data, 11).is_some_and(|b| b.first() == Some(&1));
            LinkKind::Vxlan { id: find(&data, 1).map_or(0, |b| word(b, 0)), local, port, answers }
        }
        // ours is the one of that name; others' are not looked at
        Some("wireguard" | "tun") => LinkKind::WireGuard { port: 0 },
        Some("vlan") => {
            let data = attrs(find(&info, 2).unwrap_or_default(), 0);
            let id = find(&data, 1).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes);
            LinkKind::Vlan { parent: String::new(), id }
        }
        Some(kind @ ("macvlan" | "ipvlan")) => {
            let data = attrs(find(&info, 2).unwrap_or_default(), 0);
            child(kind, &data).map_or(LinkKind::Given, |kind| LinkKind::Child { ns: Ns::Host, parent: String::new(), kind })
        }
        _ => LinkKind::Given,
    }
}

fn child(kind: &str, data: &[(u16, &[u8])]) -> Option<ChildKind> {
    if kind == "macvlan" {
        let mode = find(data, 1).map(|b| word(b, 0))?;
        let all = [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Passthru];
        return all.into_iter().find(|m| macvlan(*m) == mode).map(ChildKind::Macvlan);
    }
    let half = |kind| find(data, kind).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let (mode, flag) = (half(1)?, half(2).unwrap_or(0));
    let mode = [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s].into_iter().find(|m| ipvlan(*m) == mode)?;
    let flag = [IpvlanFlag::Bridge, IpvlanFlag::Private, IpvlanFlag::Vepa].into_iter().find(|f| flags(*f) == flag)?;
    Some(ChildKind::Ipvlan(mode, flag))
}

pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An address of the family that its length tells.
pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let six = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    ipv4(bytes).map(IpAddr::from).or_else(six)
}

pub(super) fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}
