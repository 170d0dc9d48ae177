//! What is in a namespace, read whole, for the comparison with what should be.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io};

use nix::sys::socket::SockProtocol;
use skep_netplan::drift::{Seen, SeenLink};
use skep_netplan::state::{Address, FdbEntry, PortMode, Route, Rule, Selector};
use skep_netplan::version::Version;
use skep_netplan::{Mac, NetnsState};
use skep_types::IpNet;

use super::decode;
use super::dump::{ip, ipv4, kind, text};
use super::msg::{DUMP, Msg, Socket, attrs, find, word};

const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const GETNEIGH: u16 = 30;
const GETRULE: u16 = 34;
const IFF_UP: u32 = 1;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// The table of a host's own addresses.
const LOCAL: u32 = 255;
const RTNH_F_ONLINK: u32 = 4;

/// Reads what the calling thread's namespace has of the kinds that `wanted` is made of.
pub(super) fn seen(wanted: &NetnsState) -> io::Result<Seen> {
    // Of their own: a dump that fails leaves answers behind.
    let mut route = Socket::open(SockProtocol::NetlinkRoute)?;
    let mut out = Seen::default();
    let names = links(&mut route, &mut out)?;
    addresses(&mut route, &names, &mut out)?;
    rules(&mut route, &mut out)?;
    neighbours(&mut route, &names, &mut out)?;
    // Only the tables that are wanted: a router's main one may have a million routes.
    route.strict()?;
    let tables: BTreeSet<u32> = wanted.routes.iter().map(|r| r.table).collect();
    for version in [Version::V4, Version::V6] {
        for table in &tables {
            routes(&mut route, version, *table, &names, &mut out)?;
        }
    }
    for key in wanted.sysctls.keys() {
        // One that does not exist is passed over, as when it is written.
        let value = fs::read_to_string(format!("/proc/sys/{key}")).ok();
        out.sysctls.extend(value.map(|v| (key.clone(), v.trim().to_owned())));
    }
    if !wanted.tables.is_empty() {
        let mut nft = Socket::open(SockProtocol::NetlinkNetFilter)?;
        out.tables = decode::tables(&mut nft, wanted.tables.keys())?;
    }
    Ok(out)
}

fn links(socket: &mut Socket, out: &mut Seen) -> io::Result<BTreeMap<u32, String>> {
    let bodies = socket.dump_whole(|| Msg::new(GETLINK, DUMP).raw(&[0; 16]))?;
    let name = |body: &[u8]| find(&attrs(body, 16), 3).map(text);
    let names: BTreeMap<u32, String> = bodies.iter().filter_map(|b| Some((word(b, 4), name(b)?))).collect();
    for body in &bodies {
        let fields = attrs(body, 16);
        let Some(name) = names.get(&word(body, 4)) else { continue };
        let info = find(&fields, 18);
        let link = SeenLink {
            kind: info.map_or(skep_netplan::state::LinkKind::Given, kind),
            mtu: find(&fields, 4).map_or(0, |mtu| word(mtu, 0)),
            mac: find(&fields, 1).and_then(|b| b.try_into().ok()).map(Mac),
            master: find(&fields, 10).and_then(|index| names.get(&word(index, 0)).cloned()),
            mode: info.and_then(mode),
            up: word(body, 8) & IFF_UP != 0,
        };
        out.links.insert(name.clone(), link);
    }
    Ok(names)
}

/// How a bridge treats a port; the inverse of what `route::set` asks for.
fn mode(info: &[u8]) -> Option<PortMode> {
    let info = attrs(info, 0);
    if find(&info, 4).map(text).as_deref() != Some("bridge") {
        return None;
    }
    let data = attrs(find(&info, 5)?, 0);
    let flag = |kind| find(&data, kind).and_then(|b| b.first().copied());
    let flags = [8, 9, 27, 30, 32, 33].map(flag);
    match flags {
        [Some(1), Some(1), Some(1), Some(1), Some(0), Some(0)] => Some(PortMode::Usual),
        [Some(1), Some(1), Some(1), Some(1), Some(0), Some(1)] => Some(PortMode::Isolated),
        [Some(0), Some(0), Some(0), Some(0), Some(1), Some(0)] => Some(PortMode::Static),
        _ => None,
    }
}

fn addresses(socket: &mut Socket, names: &BTreeMap<u32, String>, out: &mut Seen) -> io::Result<()> {
    for version in [Version::V4, Version::V6] {
        for body in socket.dump_whole(|| Msg::new(GETADDR, DUMP).raw(&[family(version), 0, 0, 0, 0, 0, 0, 0]))? {
            let prefix = body.get(1).copied().unwrap_or(32);
            let fields = attrs(&body, 8);
            // Of IPv6 the first alone is there.
            let addr = find(&fields, 2).or(find(&fields, 1)).and_then(ip);
            if let (Some(dev), Some(addr)) = (names.get(&word(&body, 4)), addr) {
                out.addresses.insert(Address { dev: dev.clone(), net: IpNet { addr, prefix } });
            }
        }
    }
    Ok(())
}

/// The kernel's number of a family.
fn family(version: Version) -> u8 {
    match version {
        Version::V4 => 2,
        Version::V6 => 10,
    }
}

fn routes(socket: &mut Socket, version: Version, table: u32, names: &BTreeMap<u32, String>, out: &mut Seen) -> io::Result<()> {
    let make = || {
        let mut msg = Msg::new(GETROUTE, DUMP).raw(&[family(version), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        msg.u32(15, table);
        msg
    };
    let bodies = match socket.dump_whole(make) {
        // There is no such table.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    for body in bodies {
        let fields = attrs(&body, 12);
        let Some(dev) = find(&fields, 4).and_then(|index| names.get(&word(index, 0))) else { continue };
        let table = find(&fields, 15).map_or(0, |b| word(b, 0));
        if body.get(7) != Some(if table == LOCAL { &RTN_LOCAL } else { &RTN_UNICAST }) {
            continue;
        }
        let dest = find(&fields, 1).and_then(ip).unwrap_or(version.everything().addr);
        out.routes.insert(Route {
            table,
            dest: IpNet { addr: dest, prefix: body.get(1).copied().unwrap_or(0) },
            gateway: find(&fields, 5).and_then(ip),
            dev: dev.clone(),
            onlink: word(&body, 8) & RTNH_F_ONLINK != 0,
        });
    }
    Ok(())
}

fn rules(socket: &mut Socket, out: &mut Seen) -> io::Result<()> {
    for version in [Version::V4, Version::V6] {
        rules_of(socket, version, out)?;
    }
    Ok(())
}

fn rules_of(socket: &mut Socket, version: Version, out: &mut Seen) -> io::Result<()> {
    for body in socket.dump_whole(|| Msg::new(GETRULE, DUMP).raw(&[family(version), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))? {
        let fields = attrs(&body, 12);
        let number = |kind| find(&fields, kind).map(|b| word(b, 0));
        let mark = number(10).zip(number(16)).map(|(mark, mask)| Selector::Mark { mark, mask });
        let own = find(&fields, 3).map(text).as_deref() == Some("lo") && find(&fields, 22) == Some(&[17]);
        // a range: its ends are the same
        let port = find(&fields, 24).filter(|_| own).and_then(|range| range.get(..2)?.try_into().ok());
        let port = port.map(u16::from_ne_bytes).map(Selector::OwnUdp);
        if let (Some(priority), Some(of), Some(table)) = (number(6), mark.or(port), number(15)) {
            out.rules.insert(Rule { priority, version, of, table });
        }
    }
    Ok(())
}

fn neighbours(socket: &mut Socket, names: &BTreeMap<u32, String>, out: &mut Seen) -> io::Result<()> {
    // Of a bridge's own entries those are ours that nobody learned.
    let mut bridged = BTreeSet::new();
    for family in [2u8, 10, 7] {
        let mut header = [0u8; 12];
        header[0] = family;
        for body in socket.dump_whole(|| Msg::new(GETNEIGH, DUMP).raw(&header))? {
            let Some(dev) = names.get(&word(&body, 4)) else { continue };
            let state = body.get(8..10).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
            let fields = attrs(&body, 12);
            let Some(mac) = find(&fields, 2).and_then(|b| b.try_into().ok()).map(Mac) else { continue };
            let key = (dev.clone(), mac);
            let addr = find(&fields, 1);
            match (family, addr.and_then(ipv4)) {
                (2 | 10, _) if state & NUD_PERMANENT != 0 => {
                    out.neighbours.extend(addr.and_then(ip).map(|addr| ((dev.clone(), addr), mac)));
                }
                (7, Some(dst)) => _ = out.fdb.insert(key, FdbEntry { dst, bridged: false }),
                (7, None) if state & NUD_NOARP != 0 => _ = bridged.insert(key),
                _ => {}
            }
        }
    }
    for (key, entry) in &mut out.fdb {
        entry.bridged = bridged.contains(key);
    }
    Ok(())
}
