//! What the kernel can do, tried out in a namespace that ends with the trial; and chains of others that drop what they do not know.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::SockProtocol;
use rustix::net::{AddressFamily, SocketType, ipproto};
use skep_netplan::Ns;
use skep_netplan::doctor::{Features, Place, Stranger};
use skep_netplan::nft::rule::{self, join, to_local};
use skep_netplan::nft::{ChainKind, Expr, Family, Hook, HookPoint, NftOp};
use skep_netplan::state::{Address, ChildKind, Link, LinkKind, MacvlanMode, PortMode};
use skep_types::Ipv6Net;

use super::decode::{GETCHAIN, GETRULE, expressions, number};
use super::dump::text;
use super::msg::{ACK, CREATE, DUMP, EXCL, Msg, Socket, attrs, find};
use super::nft::{self, SUBSYSTEM};
use super::{ns, route};

const NEWLINK: u16 = 16;
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Tries each out.
pub(super) fn features() -> io::Result<Features> {
    ns::on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let sctp = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).is_ok();
        let (vxlan, wireguard) = (link("vxlan").is_ok(), link("wireguard").is_ok());
        Ok(Features { egress: egress().is_ok(), vxlan, wireguard, sctp, ipv6: ipv6().is_ok(), macvlan: macvlan().is_ok() })
    })
}

fn link(kind: &str) -> io::Result<()> {
    let mut msg = Msg::new(NEWLINK, ACK | CREATE | EXCL).raw(&[0; 16]);
    msg.text(3, "trial");
    msg.nest(18, |m| {
        m.text(1, kind);
        if kind == "vxlan" {
            m.nest(2, |m| {
                m.u32(1, 1);
                m.attr(15, &4789u16.to_be_bytes());
            });
        }
    });
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    socket.request(msg)?;
    let mut gone = Msg::new(17, ACK).raw(&[0; 16]);
    gone.text(3, "trial");
    socket.request(gone)
}

/// A share of a VXLAN device, as a container on an overlay network has.
fn macvlan() -> io::Result<()> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let (mut here, mut outside) = (Socket::open(SockProtocol::NetlinkRoute)?, Socket::open(SockProtocol::NetlinkRoute)?);
    let vxlan = LinkKind::Vxlan { id: 1, local: Ipv4Addr::LOCALHOST, port: 4789, answers: true };
    let kind = ChildKind::Macvlan(MacvlanMode::Bridge);
    let share = LinkKind::Child { ns: Ns::Host, parent: "trial".to_owned(), kind };
    for (name, kind) in [("trial", vxlan), ("share", share)] {
        let link = Link { kind, mtu: None, mac: None, master: None, mode: PortMode::Usual };
        route::create(&mut here, &mut outside, &own, None, name, &link)?;
    }
    Ok(())
}

/// An address on the loopback device, and a table with each expression whose module is of that family.
fn ipv6() -> io::Result<()> {
    let lo = Link { kind: LinkKind::Given, mtu: None, mac: None, master: None, mode: PortMode::Usual };
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    route::set(&mut socket, "lo", &lo)?;
    let net = Ipv6Net::unique_local(0, 0).into();
    route::address(&mut socket, &Address { dev: "lo".to_owned(), net }, true)?;
    let masquerade = vec![Expr::Masquerade];
    let rules = [
        (rule::base(ChainKind::Nat, HookPoint::Postrouting, 100, vec![masquerade]), "nat"),
        (rule::base(ChainKind::Filter, HookPoint::Output, 0, vec![join(vec![to_local(), vec![Expr::RejectPort]])]), "filter"),
    ];
    let mut ops = vec![NftOp::NewTable { shared: false }];
    for (chain, name) in rules {
        ops.push(NftOp::NewChain(name.to_owned(), chain.hook));
        ops.push(NftOp::Rules(name.to_owned(), chain.rules));
    }
    nft::apply(&mut Socket::open(SockProtocol::NetlinkNetFilter)?, Family::Ip6, "trial", &ops)
}

fn egress() -> io::Result<()> {
    let hook = Hook { kind: ChainKind::Filter, point: HookPoint::Egress, priority: 0, device: Some("lo".to_owned()) };
    let ops = [NftOp::NewTable { shared: false }, NftOp::NewChain("trial".to_owned(), Some(hook))];
    nft::apply(&mut Socket::open(SockProtocol::NetlinkNetFilter)?, Family::Netdev, "trial", &ops)
}

/// Base chains of others in the calling thread's namespace that drop or reject what none of their rules takes.
pub(super) fn strangers() -> io::Result<Vec<Stranger>> {
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let request = |kind: u16, family: u8| Msg::new((SUBSYSTEM << 8) | kind, DUMP).raw(&[family, 0, 0, 0]);
    let mut out = Vec::new();
    for body in socket.dump_whole(|| request(GETCHAIN, 0))? {
        let Some((family, chain)) = base(&body) else { continue };
        let rules = socket.dump_whole(|| {
            let mut msg = request(GETRULE, chain.family);
            msg.text(1, &chain.table);
            msg
        })?;
        let mut last = chain.drops;
        let mut knows_status = false;
        for rule in &rules {
            let fields = attrs(rule, 4);
            let all = expressions(&fields);
            knows_status |= all.iter().any(|(name, data)| looks_at_status(name, data));
            if find(&fields, 2).map(text).as_deref() == Some(&chain.name) {
                last = chain.drops || refuses(&all);
            }
        }
        if last {
            out.push(Stranger { name: format!("{family} {} {}", chain.table, chain.name), place: chain.place, knows_status });
        }
    }
    Ok(out)
}

struct Base {
    family: u8,
    table: String,
    name: String,
    place: Place,
    /// By its policy.
    drops: bool,
}

/// A base chain for forwarded packets or those to this host that is not ours.
fn base(body: &[u8]) -> Option<(&'static str, Base)> {
    let family = *body.first()?;
    let word = match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => return None,
    };
    let fields = attrs(body, 4);
    let hook = attrs(find(&fields, 4)?, 0);
    let place = match number(&hook, 1)? {
        1 => Place::Input,
        2 => Place::Forward,
        _ => return None,
    };
    let table = find(&fields, 1).map(text)?;
    if family != INET && table == "skep" {
        return None;
    }
    let drops = number(&fields, 5) == Some(0);
    Some((word, Base { family, table, name: find(&fields, 3).map(text)?, place, drops }))
}

/// A rule that drops or rejects whatever comes to it.
fn refuses(rule: &[(String, &[u8])]) -> bool {
    let quiet = |name: &str| matches!(name, "counter" | "log" | "comment");
    let mut rest = rule.iter().filter(|(name, _)| !quiet(name));
    match (rest.next(), rest.next()) {
        (Some((name, _)), None) if name == "reject" => true,
        (Some((name, data)), None) if name == "immediate" => {
            let fields = attrs(data, 0);
            let verdict = find(&fields, 2).map(|d| attrs(d, 0)).and_then(|d| Some(attrs(find(&d, 2)?, 0)));
            number(&fields, 1) == Some(0) && verdict.is_some_and(|v| number(&v, 1) == Some(0))
        }
        _ => false,
    }
}

/// `ct status`, or iptables' `--ctstate DNAT` and `--ctstatus`.
fn looks_at_status(name: &str, data: &[u8]) -> bool {
    let fields = attrs(data, 0);
    match name {
        "ct" => number(&fields, 2) == Some(2),
        "match" if find(&fields, 1).map(text).as_deref() == Some("conntrack") => {
            // struct xt_conntrack_mtinfo3: both masks follow 150 bytes of addresses and ports; DNAT is the eighth state.
            let info = find(&fields, 3).unwrap_or_default();
            let half = |at: usize| info.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
            half(150) & 128 != 0 || half(152) & 32 != 0
        }
        _ => false,
    }
}
