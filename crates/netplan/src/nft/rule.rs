//! The rules that Skep writes, from small parts: conditions and actions are lists of expressions, and [`join`] makes them a rule.
//!
//! Conditions use register 0 and up; each one may overwrite what an earlier one loaded.

use std::net::IpAddr;

use skep_types::{Ipv4Net, Ipv6Net};

use super::{Chain, ChainKind, Expr, Field, Found, Hook, HookPoint, Load, Rule, Store, Verdict, if_name};
use crate::version::Version;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;
/// Connection state bits established and related.
pub const ESTABLISHED_RELATED: u32 = 6;
/// Connection state bit new.
pub const NEW: u32 = 8;
/// Connection status bit: the destination was changed.
pub const STATUS_DNAT: u32 = 32;

/// A rule from its parts.
#[must_use]
pub fn join(parts: Vec<Vec<Expr>>) -> Rule {
    parts.into_iter().flatten().collect()
}

/// A base chain.
#[must_use]
pub fn base(kind: ChainKind, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { hook: Some(Hook { kind, point, priority, device: None }), rules }
}

/// `load == value`, or `!=` when `negate`.
#[must_use]
pub fn is(load: Load, negate: bool, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Load(load, 0), Expr::Cmp { reg: 0, negate, value: value.to_vec() }]
}

/// `iifname == name`.
#[must_use]
pub fn iif(name: &str) -> Vec<Expr> {
    is(Load::IifName, false, &if_name(name))
}

/// `iifname != name`.
#[must_use]
pub fn iif_not(name: &str) -> Vec<Expr> {
    is(Load::IifName, true, &if_name(name))
}

/// `oifname == name`.
#[must_use]
pub fn oif(name: &str) -> Vec<Expr> {
    is(Load::OifName, false, &if_name(name))
}

/// `oifname != name`.
#[must_use]
pub fn oif_not(name: &str) -> Vec<Expr> {
    is(Load::OifName, true, &if_name(name))
}

/// `load` is an element of the named set (or is not).
#[must_use]
pub fn in_set(load: Load, set: &str, member: bool) -> Vec<Expr> {
    let found = if member { Found::Member } else { Found::NotMember };
    vec![Expr::Load(load, 0), Expr::Lookup { set: set.to_owned(), reg: 0, found }]
}

/// `meta l4proto == proto`.
#[must_use]
pub fn l4proto(proto: u8) -> Vec<Expr> {
    is(Load::L4Proto, false, &[proto])
}

/// `th dport == port`.
#[must_use]
pub fn dport(port: u16) -> Vec<Expr> {
    is(Load::ThDport, false, &port.to_be_bytes())
}

/// A UDP packet to this port.
#[must_use]
pub fn udp_to(port: u16) -> Vec<Expr> {
    join(vec![l4proto(UDP), dport(port)])
}

/// An address inside a network of the same family.
#[must_use]
pub fn in_net(load: Load, net: skep_types::IpNet) -> Vec<Expr> {
    let (mask, value) = match net.addr {
        IpAddr::V4(addr) => {
            let net = Ipv4Net::new(addr, net.prefix);
            (net.mask().to_be_bytes().to_vec(), net.network().addr.octets().to_vec())
        }
        IpAddr::V6(addr) => {
            let net = Ipv6Net::new(addr, net.prefix);
            (net.mask().to_be_bytes().to_vec(), net.network().addr.octets().to_vec())
        }
    };
    vec![Expr::Load(load, 0), Expr::And { reg: 0, mask }, Expr::Cmp { reg: 0, negate: false, value }]
}

/// Any of these bits is set in a 32-bit load (or none, when `negate`).
#[must_use]
pub fn bits(load: Load, bits: u32, none: bool) -> Vec<Expr> {
    vec![
        Expr::Load(load, 0),
        Expr::And { reg: 0, mask: bits.to_ne_bytes().to_vec() },
        Expr::Cmp { reg: 0, negate: !none, value: vec![0; 4] },
    ]
}

/// The masked 32-bit load has this value.
#[must_use]
pub fn masked(load: Load, mask: u32, value: u32) -> Vec<Expr> {
    vec![
        Expr::Load(load, 0),
        Expr::And { reg: 0, mask: mask.to_ne_bytes().to_vec() },
        Expr::Cmp { reg: 0, negate: false, value: value.to_ne_bytes().to_vec() },
    ]
}

/// `fib daddr type local`: the packet is meant for an address of this host.
#[must_use]
pub fn to_local() -> Vec<Expr> {
    is(Load::FibDaddrType, false, &2u32.to_ne_bytes())
}

/// `tcp flags syn`.
#[must_use]
pub fn tcp_syn() -> Vec<Expr> {
    let mut out = l4proto(TCP);
    out.extend([
        Expr::Load(Load::TcpFlags, 0),
        Expr::And { reg: 0, mask: vec![2] },
        Expr::Cmp { reg: 0, negate: true, value: vec![0] },
    ]);
    out
}

/// Loads fields one after the other, each at the next free register: the key of a concatenated set.
#[must_use]
pub fn key(loads: &[(Load, Field)]) -> Vec<Expr> {
    let mut reg = 0u8;
    let mut out = Vec::new();
    for (load, field) in loads {
        out.push(Expr::Load(*load, reg));
        reg = reg.saturating_add(registers(&[*field]));
    }
    out
}

/// How many registers these fields of a key take.
#[must_use]
pub fn registers(fields: &[Field]) -> u8 {
    fields.iter().fold(0, |sum, field| sum.saturating_add(u8::try_from(field.size().div_ceil(4)).unwrap_or(u8::MAX)))
}

/// Looks the key at register 0 up for a verdict.
#[must_use]
pub fn vmap(set: &str) -> Vec<Expr> {
    vec![Expr::Lookup { set: set.to_owned(), reg: 0, found: Found::Verdict }]
}

/// Looks the key at register 0 up for a value that lands in register 8.
#[must_use]
pub fn map(set: &str) -> Vec<Expr> {
    vec![Expr::Lookup { set: set.to_owned(), reg: 0, found: Found::Value(8) }]
}

/// Changes the destination to the address (and the port after it) found by [`map`].
#[must_use]
pub fn dnat(version: Version, with_port: bool) -> Vec<Expr> {
    let behind = match version {
        Version::V4 => 9,
        Version::V6 => 12,
    };
    vec![Expr::Dnat { addr: 8, port: with_port.then_some(behind) }]
}

/// Stores what [`map`] found.
#[must_use]
pub fn store(store: Store) -> Vec<Expr> {
    vec![Expr::Store(store, 8)]
}

/// A verdict.
#[must_use]
pub fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}
