//! Links, addresses, routes, rules, neighbours and forwarding entries as rtnetlink messages.
//!
//! Each function makes one thing so and takes "it is so already" for success.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use skep_netplan::state::{
    Address, ChildKind, FdbEntry, IpvlanFlag, IpvlanMode, Link, LinkKind, Mac, MacvlanMode, PortMode, Route, Rule, Selector,
    UNNAMED,
};
use skep_netplan::version::octets;
use skep_types::Ipv4Net;

use super::msg::{ACK, CREATE, EXCL, Msg, REPLACE, Socket};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const NEWRULE: u16 = 32;
const DELRULE: u16 = 33;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
/// `IFA_F_NODAD`: nobody else can have an address that the managers gave, and until others were asked it could not be used.
const NODAD: u8 = 2;
/// The table of a host's own addresses.
const LOCAL: u32 = 255;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const NTF_MASTER: u8 = 4;

/// The group ("skep") of each link that we make: it is set with the link itself, so that a link of the same name which another engine
/// made is never taken for ours.
pub(super) const GROUP: u32 = u32::from_be_bytes(*b"skep");

fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut out = [0; 16];
    out[4..8].copy_from_slice(&index.to_ne_bytes());
    out[8..12].copy_from_slice(&flags.to_ne_bytes());
    out[12..16].copy_from_slice(&change.to_ne_bytes());
    out
}

fn allow(result: io::Result<()>, codes: &[Errno]) -> io::Result<()> {
    match result {
        Err(e) if codes.iter().any(|code| e.raw_os_error() == Some(*code as i32)) => Ok(()),
        other => other,
    }
}

/// Makes a link. `here` is a socket of its namespace, `outside` one of that in which the link is that it shares, else of the daemon's,
/// where a VXLAN device sends its packets.
pub(super) fn create(
    here: &mut Socket,
    outside: &mut Socket,
    own_ns: &File,
    peer_ns: Option<&File>,
    name: &str,
    link: &Link,
) -> io::Result<()> {
    let from_outside = matches!(link.kind, LinkKind::Child { .. } | LinkKind::Vxlan { .. });
    let mut msg = Msg::new(NEWLINK, ACK | CREATE | EXCL).raw(&ifinfo(0, 0, 0));
    msg.text(IFLA_IFNAME, if from_outside { UNNAMED } else { name });
    msg.u32(IFLA_GROUP, GROUP);
    if let Some(mtu) = link.mtu {
        msg.u32(IFLA_MTU, mtu);
    }
    if let Some(mac) = link.mac {
        msg.attr(IFLA_ADDRESS, &mac.0);
    }
    match &link.kind {
        // that of WireGuard has a room of its own
        LinkKind::Given | LinkKind::WireGuard { .. } => Ok(()),
        LinkKind::Bridge => {
            msg.nest(IFLA_LINKINFO, |m| m.text(INFO_KIND, "bridge"));
            here.request(msg)
        }
        LinkKind::Veth { peer_name, peer_mac, .. } => {
            let peer_fd = peer_ns.map(AsRawFd::as_raw_fd);
            msg.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "veth");
                m.nest(INFO_DATA, |m| {
                    m.nest(1, |m| {
                        m.push(&ifinfo(0, 0, 0));
                        m.text(IFLA_IFNAME, peer_name);
                        m.attr(IFLA_ADDRESS, &peer_mac.0);
                        if let Some(mtu) = link.mtu {
                            m.u32(IFLA_MTU, mtu);
                        }
                        if let Some(fd) = peer_fd {
                            m.attr(IFLA_NET_NS_FD, &fd.to_ne_bytes());
                        }
                    });
                });
            });
            here.request(msg)
        }
        LinkKind::Vlan { parent, id } => {
            msg.u32(IFLA_LINK, here.index(parent)?);
            msg.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "vlan");
                m.nest(INFO_DATA, |m| m.attr(1, &id.to_ne_bytes()));
            });
            here.request(msg)
        }
        LinkKind::Child { parent, kind, .. } => {
            msg.attr(IFLA_NET_NS_FD, &own_ns.as_raw_fd().to_ne_bytes());
            msg.u32(IFLA_LINK, outside.index(parent)?);
            msg.nest(IFLA_LINKINFO, |m| child(m, *kind));
            outside.request(msg)?;
            rename(here, name)
        }
        LinkKind::Vxlan { id, local, port, answers } => {
            msg.attr(IFLA_NET_NS_FD, &own_ns.as_raw_fd().to_ne_bytes());
            msg.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "vxlan");
                m.nest(INFO_DATA, |m| {
                    m.u32(1, *id);
                    m.attr(4, &local.octets());
                    m.attr(7, &[0]); // learning
                    m.attr(11, &[u8::from(*answers)]); // "proxy"
                    m.attr(15, &port.to_be_bytes());
                });
            });
            outside.request(msg)?;
            rename(here, name)
        }
    }
}

/// Gives a link its name. Older kernels (seen on 6.1) refuse a name that is taken where the link is asked for, whatever the namespace
/// is that it is for; and a container's first interface is called as many a host's.
fn rename(here: &mut Socket, name: &str) -> io::Result<()> {
    let mut msg = Msg::new(NEWLINK, ACK).raw(&ifinfo(here.index(UNNAMED)?, 0, 0));
    msg.text(IFLA_IFNAME, name);
    here.request(msg).inspect_err(|_| {
        // the first error is the one to tell
        let _ = delete_link(here, UNNAMED);
    })
}

fn child(m: &mut Msg, kind: ChildKind) {
    match kind {
        ChildKind::Macvlan(mode) => {
            m.text(INFO_KIND, "macvlan");
            m.nest(INFO_DATA, |m| m.u32(1, macvlan(mode)));
        }
        ChildKind::Ipvlan(mode, flag) => {
            m.text(INFO_KIND, "ipvlan");
            m.nest(INFO_DATA, |m| {
                m.attr(1, &ipvlan(mode).to_ne_bytes());
                m.attr(2, &flags(flag).to_ne_bytes());
            });
        }
    }
}

/// The kernel's number of a mode.
pub(super) fn macvlan(mode: MacvlanMode) -> u32 {
    match mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    }
}

/// The kernel's number of a mode.
pub(super) fn ipvlan(mode: IpvlanMode) -> u16 {
    match mode {
        IpvlanMode::L2 => 0,
        IpvlanMode::L3 => 1,
        IpvlanMode::L3s => 2,
    }
}

/// The kernel's number of a flag.
pub(super) fn flags(flag: IpvlanFlag) -> u16 {
    match flag {
        IpvlanFlag::Bridge => 0,
        IpvlanFlag::Private => 1,
        IpvlanFlag::Vepa => 2,
    }
}

/// Sets what can change: payload size, bridge, port mode, up. Not the Ethernet address: setting it, even to what it is, makes the
/// kernel drop the link's permanent neighbours.
pub(super) fn set(here: &mut Socket, name: &str, link: &Link) -> io::Result<()> {
    let index = here.index(name)?;
    let mut msg = Msg::new(NEWLINK, ACK).raw(&ifinfo(index, IFF_UP, IFF_UP));
    if let Some(mtu) = link.mtu {
        msg.u32(IFLA_MTU, mtu);
    }
    if let Some(master) = &link.master {
        msg.u32(IFLA_MASTER, here.index(master)?);
    }
    here.request(msg)?;
    if link.master.is_none() {
        return Ok(());
    }
    let quiet = u8::from(link.mode != PortMode::Static);
    let mut msg = Msg::new(NEWLINK, ACK).raw(&ifinfo(index, 0, 0));
    msg.nest(IFLA_LINKINFO, |m| {
        m.text(INFO_SLAVE_KIND, "bridge");
        m.nest(INFO_SLAVE_DATA, |m| {
            m.attr(8, &[quiet]); // learning
            m.attr(9, &[quiet]); // unicast flood
            m.attr(27, &[quiet]); // multicast flood
            m.attr(30, &[quiet]); // broadcast flood
            m.attr(32, &[1 - quiet]); // neighbour suppression
            m.attr(33, &[u8::from(link.mode == PortMode::Isolated)]);
        });
    });
    here.request(msg)
}

pub(super) fn delete_link(here: &mut Socket, name: &str) -> io::Result<()> {
    let mut msg = Msg::new(DELLINK, ACK).raw(&ifinfo(0, 0, 0));
    msg.text(IFLA_IFNAME, name);
    allow(here.request(msg), &[Errno::ENODEV])
}

pub(super) fn address(here: &mut Socket, address: &Address, add: bool) -> io::Result<()> {
    let Some(index) = index_or_gone(here, &address.dev, add)? else { return Ok(()) };
    let flags = if address.net.addr.is_ipv6() { NODAD } else { 0 };
    let mut header = [family(address.net.addr), address.net.prefix, flags, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let (kind, flags) = if add { (NEWADDR, ACK | CREATE | EXCL) } else { (DELADDR, ACK) };
    let mut msg = Msg::new(kind, flags).raw(&header);
    msg.attr(2, &octets(address.net.addr));
    msg.attr(1, &octets(address.net.addr));
    if let IpAddr::V4(addr) = address.net.addr
        && address.net.prefix < 31
    {
        msg.attr(4, &Ipv4Net::new(addr, address.net.prefix).broadcast().octets());
    }
    allow(here.request(msg), if add { &[Errno::EEXIST] } else { &[Errno::EADDRNOTAVAIL] })
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// For a deletion, a link that is gone took everything along.
fn index_or_gone(here: &Socket, dev: &str, add: bool) -> io::Result<Option<u32>> {
    match here.index(dev) {
        Ok(index) => Ok(Some(index)),
        Err(e) if !add && e.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn route(here: &mut Socket, route: &Route, add: bool) -> io::Result<()> {
    let Some(index) = index_or_gone(here, &route.dev, add)? else { return Ok(()) };
    let kind = if route.table == LOCAL { RTN_LOCAL } else { RTN_UNICAST };
    let scope = match route.gateway {
        Some(_) => 0,
        // of IPv6 only one scope is known
        None if route.dest.addr.is_ipv6() => 0,
        None if route.table == LOCAL => 254,
        None => 253,
    };
    let mut header = [family(route.dest.addr), route.dest.prefix, 0, 0, 0, 4, scope, kind, 0, 0, 0, 0];
    let onlink = if route.onlink { 4u32 } else { 0 };
    header[8..12].copy_from_slice(&onlink.to_ne_bytes());
    // An address that a host has on two links has two routes: the second does not take the place of the first.
    let replace = if route.table == LOCAL { 0 } else { REPLACE };
    let (kind, flags) = if add { (NEWROUTE, ACK | CREATE | replace) } else { (DELROUTE, ACK) };
    let mut msg = Msg::new(kind, flags).raw(&header);
    if route.dest.prefix > 0 {
        msg.attr(1, &octets(route.dest.addr));
    }
    msg.u32(4, index);
    if let Some(gateway) = route.gateway {
        msg.attr(5, &octets(gateway));
    }
    msg.u32(15, route.table);
    allow(here.request(msg), if add { &[Errno::EEXIST] } else { &[Errno::ESRCH] })
}

pub(super) fn rule(here: &mut Socket, rule: &Rule, add: bool) -> io::Result<()> {
    let (kind, flags) = if add { (NEWRULE, ACK | CREATE | EXCL) } else { (DELRULE, ACK) };
    let family = family(rule.version.everything().addr);
    let mut msg = Msg::new(kind, flags).raw(&[family, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    msg.u32(6, rule.priority);
    match rule.of {
        Selector::Mark { mark, mask } => {
            msg.u32(10, mark);
            msg.u32(16, mask);
        }
        Selector::OwnUdp(port) => {
            msg.text(3, "lo"); // from nowhere else: this host's own
            msg.attr(22, &[17]); // UDP
            let range = [port.to_ne_bytes(), port.to_ne_bytes()].concat();
            msg.attr(24, &range);
        }
    }
    msg.u32(15, rule.table);
    allow(here.request(msg), if add { &[Errno::EEXIST] } else { &[Errno::ENOENT] })
}

fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut out = [0; 12];
    out[0] = family;
    out[4..8].copy_from_slice(&index.to_ne_bytes());
    out[8..10].copy_from_slice(&state.to_ne_bytes());
    out[10] = flags;
    out
}

pub(super) fn neighbour(here: &mut Socket, dev: &str, addr: IpAddr, mac: Option<Mac>) -> io::Result<()> {
    let Some(index) = index_or_gone(here, dev, mac.is_some())? else { return Ok(()) };
    let (kind, flags) = if mac.is_some() { (NEWNEIGH, ACK | CREATE | REPLACE) } else { (DELNEIGH, ACK) };
    let mut msg = Msg::new(kind, flags).raw(&ndmsg(family(addr), index, NUD_PERMANENT, 0));
    msg.attr(1, &octets(addr));
    if let Some(mac) = mac {
        msg.attr(2, &mac.0);
    }
    allow(here.request(msg), if mac.is_some() { &[] } else { &[Errno::ENOENT] })
}

pub(super) fn fdb(here: &mut Socket, dev: &str, mac: Mac, entry: FdbEntry, add: bool) -> io::Result<()> {
    let Some(index) = index_or_gone(here, dev, add)? else { return Ok(()) };
    let (kind, flags) = if add { (NEWNEIGH, ACK | CREATE | REPLACE) } else { (DELNEIGH, ACK) };
    let gone: &[Errno] = if add { &[] } else { &[Errno::ENOENT] };
    let mut msg = Msg::new(kind, flags).raw(&ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF));
    msg.attr(2, &mac.0);
    msg.attr(1, &entry.dst.octets());
    allow(here.request(msg), gone)?;
    if entry.bridged {
        let mut msg = Msg::new(kind, flags).raw(&ndmsg(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER));
        msg.attr(2, &mac.0);
        allow(here.request(msg), gone)?;
    }
    Ok(())
}
