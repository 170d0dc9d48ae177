//! Expressions of nftables rules in the kernel's encoding.

use skep_netplan::nft::{Expr, Family, Found, Load, Store};

use super::msg::Msg;
use super::nft::{family_number, verdict};

const VERDICT_REGISTER: u32 = 0;
const LINK_LAYER: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// The kernel's number of one of the sixteen 32-bit registers.
fn register(reg: u8) -> u32 {
    8 + u32::from(reg)
}

fn named(m: &mut Msg, name: &str, fill: impl FnOnce(&mut Msg)) {
    m.nest(1, |m| {
        m.text(1, name);
        m.nest(2, fill);
    });
}

/// ICMP's code of an unreachable port; ICMPv6 has its own.
pub(super) fn unreachable_port(family: Family) -> u8 {
    if family == Family::Ip6 { 4 } else { 3 }
}

/// ICMP's code of an unreachable protocol.
pub(super) const UNREACHABLE_PROTOCOL: u8 = 2;

fn unreachable(m: &mut Msg, code: u8) {
    named(m, "reject", |m| {
        m.be32(1, 0);
        m.attr(2, &[code]);
    });
}

/// Appends one expression to the list of a rule in a table of this family.
pub(super) fn encode(m: &mut Msg, family: Family, expr: &Expr) {
    match expr {
        Expr::Load(what, reg) => load(m, *what, register(*reg)),
        Expr::Store(what, reg) => store(m, *what, register(*reg)),
        Expr::Cmp { reg, negate, value } => named(m, "cmp", |m| {
            m.be32(1, register(*reg));
            m.be32(2, u32::from(*negate));
            m.nest(3, |m| m.attr(1, value));
        }),
        Expr::And { reg, mask } => named(m, "bitwise", |m| {
            m.be32(1, register(*reg));
            m.be32(2, register(*reg));
            // a mask has as many bytes as what was loaded: at most 16
            m.be32(3, u32::try_from(mask.len()).unwrap_or(4));
            m.nest(4, |m| m.attr(1, mask));
            m.nest(5, |m| m.attr(1, &vec![0; mask.len()]));
        }),
        Expr::Lookup { set, reg, found } => named(m, "lookup", |m| {
            m.text(1, set);
            m.be32(2, register(*reg));
            match found {
                Found::Member => {}
                Found::NotMember => m.be32(5, 1),
                Found::Value(reg) => m.be32(3, register(*reg)),
                Found::Verdict => m.be32(3, VERDICT_REGISTER),
            }
        }),
        Expr::Imm(reg, value) => named(m, "immediate", |m| {
            m.be32(1, register(*reg));
            m.nest(2, |m| m.attr(1, value));
        }),
        Expr::Hton16(reg) => named(m, "byteorder", |m| {
            m.be32(1, register(*reg));
            m.be32(2, register(*reg));
            m.be32(3, 1);
            m.be32(4, 2);
            m.be32(5, 2);
        }),
        Expr::Dnat { addr, port } => named(m, "nat", |m| {
            m.be32(1, 1);
            m.be32(2, u32::from(family_number(family)));
            m.be32(3, register(*addr));
            if let Some(port) = port {
                m.be32(5, register(*port));
            }
        }),
        Expr::Masquerade => named(m, "masq", |_| {}),
        Expr::NoTrack => named(m, "notrack", |_| {}),
        Expr::RejectReset => named(m, "reject", |m| m.be32(1, 1)),
        Expr::RejectPort => unreachable(m, unreachable_port(family)),
        Expr::RejectProtocol => unreachable(m, UNREACHABLE_PROTOCOL),
        Expr::Verdict(v) => named(m, "immediate", |m| {
            m.be32(1, VERDICT_REGISTER);
            m.nest(2, |m| verdict(m, v));
        }),
    }
}

fn load(m: &mut Msg, what: Load, reg: u32) {
    match what {
        Load::Mark => meta(m, 3, reg),
        Load::IifName => meta(m, 6, reg),
        Load::OifName => meta(m, 7, reg),
        Load::L4Proto => meta(m, 16, reg),
        Load::CtState => ct(m, 0, reg),
        Load::CtDirection => ct(m, 1, reg),
        Load::CtStatus => ct(m, 2, reg),
        Load::CtMark => ct(m, 3, reg),
        Load::EtherDaddr => payload(m, LINK_LAYER, 0, 6, reg),
        Load::EtherSaddr => payload(m, LINK_LAYER, 6, 6, reg),
        Load::IpSaddr => payload(m, NETWORK, 12, 4, reg),
        Load::IpDaddr => payload(m, NETWORK, 16, 4, reg),
        Load::Ip6Saddr => payload(m, NETWORK, 8, 16, reg),
        Load::Ip6Daddr => payload(m, NETWORK, 24, 16, reg),
        Load::ThDport => payload(m, TRANSPORT, 2, 2, reg),
        Load::TcpFlags => payload(m, TRANSPORT, 13, 1, reg),
        Load::FibDaddrType => named(m, "fib", |m| {
            m.be32(1, reg);
            m.be32(2, 3);
            m.be32(3, 2);
        }),
        Load::RtTcpMss => named(m, "rt", |m| {
            m.be32(1, reg);
            m.be32(2, 3);
        }),
        Load::Random(modulus) => named(m, "numgen", |m| {
            m.be32(1, reg);
            m.be32(2, modulus);
            m.be32(3, 1);
        }),
    }
}

fn meta(m: &mut Msg, key: u32, reg: u32) {
    named(m, "meta", |m| {
        m.be32(1, reg);
        m.be32(2, key);
    });
}

fn ct(m: &mut Msg, key: u32, reg: u32) {
    named(m, "ct", |m| {
        m.be32(1, reg);
        m.be32(2, key);
    });
}

fn payload(m: &mut Msg, base: u32, offset: u32, len: u32, reg: u32) {
    named(m, "payload", |m| {
        m.be32(1, reg);
        m.be32(2, base);
        m.be32(3, offset);
        m.be32(4, len);
    });
}

fn store(m: &mut Msg, what: Store, reg: u32) {
    match what {
        Store::Mark => named(m, "meta", |m| {
            m.be32(2, 3);
            m.be32(3, reg);
        }),
        Store::CtMark => named(m, "ct", |m| {
            m.be32(2, 3);
            m.be32(4, reg);
        }),
        Store::CtZoneOriginal => named(m, "ct", |m| {
            m.be32(2, 17);
            m.attr(3, &[0]);
            m.be32(4, reg);
        }),
        Store::EtherDaddr => named(m, "payload", |m| {
            m.be32(2, LINK_LAYER);
            m.be32(3, 0);
            m.be32(4, 6);
            m.be32(5, reg);
        }),
        Store::TcpMss => named(m, "exthdr", |m| {
            m.attr(2, &[2]);
            m.be32(3, 2);
            m.be32(4, 2);
            m.be32(6, 1);
            m.be32(7, reg);
        }),
    }
}
