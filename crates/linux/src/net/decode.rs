//! Tables of nftables as they are, in the terms in which they were written: the inverse of `expr` and `nft`.
//!
//! What Skep never writes cannot be said in these terms; it is read as something that differs from all that Skep writes.

use std::collections::BTreeMap;
use std::io;

use skep_netplan::nft::{
    Chain, ChainKind, Datum, Expr, Family, Field, Found, Hook, HookPoint, Load, Rule, Set, SetData, Store, Table, Verdict,
};

use super::dump::text;
use super::expr::{UNREACHABLE_PROTOCOL, unreachable_port};
use super::msg::{DUMP, Msg, Socket, attrs, find};
use super::nft::{DATA_IS_VERDICT, SET_IS_MAP, SUBSYSTEM, family_number};

pub(super) const GETCHAIN: u16 = 4;
pub(super) const GETRULE: u16 = 7;
const GETSET: u16 = 10;
const GETSETELEM: u16 = 13;

type Attrs<'a> = [(u16, &'a [u8])];

/// The number in an attribute, of whatever width.
pub(super) fn number(fields: &Attrs<'_>, kind: u16) -> Option<u32> {
    match *find(fields, kind)? {
        [a] => Some(u32::from(a)),
        [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn request(kind: u16, family: u8, fill: impl FnOnce(&mut Msg)) -> Msg {
    let mut msg = Msg::new((SUBSYSTEM << 8) | kind, DUMP).raw(&[family, 0, 0, 0]);
    fill(&mut msg);
    msg
}

/// Dumps; what is not there has nothing in it.
fn dump(socket: &mut Socket, make: impl Fn() -> Msg) -> io::Result<Vec<Vec<u8>>> {
    match socket.dump_whole(make) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

/// Those of the tables that exist.
pub(super) fn tables<'a>(
    socket: &mut Socket,
    keys: impl Iterator<Item = &'a (Family, String)>,
) -> io::Result<BTreeMap<(Family, String), Table>> {
    let mut out = BTreeMap::new();
    for key in keys {
        if let Some(table) = table(socket, key.0, &key.1)? {
            out.insert(key.clone(), table);
        }
    }
    Ok(out)
}

fn table(socket: &mut Socket, family: Family, name: &str) -> io::Result<Option<Table>> {
    let number_of = family_number(family);
    let mut out = Table::default();
    for body in dump(socket, || request(GETCHAIN, number_of, |_| {}))? {
        let fields = attrs(&body, 4);
        if find(&fields, 1).map(text).as_deref() == Some(name) {
            let chain = Chain { hook: hook(&fields, family), rules: Vec::new() };
            out.chains.insert(find(&fields, 3).map(text).unwrap_or_default(), chain);
        }
    }
    for body in dump(socket, || request(GETRULE, number_of, |m| m.text(1, name)))? {
        let fields = attrs(&body, 4);
        let chain = find(&fields, 2).map(text).and_then(|chain| out.chains.get_mut(&chain));
        if let Some(chain) = chain.filter(|_| find(&fields, 1).map(text).as_deref() == Some(name)) {
            chain.rules.push(rule(family, &fields));
        }
    }
    for body in dump(socket, || request(GETSET, number_of, |m| m.text(1, name)))? {
        let fields = attrs(&body, 4);
        if find(&fields, 1).map(text).as_deref() == Some(name) {
            let set_name = find(&fields, 2).map(text).unwrap_or_default();
            let mut set = Set { key: types(number(&fields, 4)), data: data(&fields), elements: BTreeMap::new() };
            set.elements = elements(socket, number_of, name, &set_name)?;
            out.sets.insert(set_name, set);
        }
    }
    // A table without anything in it is as good as none: Skep writes no such.
    Ok((!out.chains.is_empty() || !out.sets.is_empty()).then_some(out))
}

fn hook(fields: &Attrs<'_>, family: Family) -> Option<Hook> {
    let hook = attrs(find(fields, 4)?, 0);
    let point = match (family, number(&hook, 1)?) {
        (Family::Ip | Family::Ip6, 0) => HookPoint::Prerouting,
        (Family::Ip | Family::Ip6, 1) => HookPoint::Input,
        (Family::Ip | Family::Ip6, 2) => HookPoint::Forward,
        (Family::Ip | Family::Ip6, 3) => HookPoint::Output,
        (Family::Ip | Family::Ip6, 4) => HookPoint::Postrouting,
        (Family::Netdev, 1) => HookPoint::Egress,
        _ => return None,
    };
    let kind = match find(fields, 7).map(text).as_deref() {
        Some("filter") => ChainKind::Filter,
        Some("nat") => ChainKind::Nat,
        _ => return None,
    };
    // Another policy than to accept is no hook of ours.
    if number(fields, 5) != Some(1) {
        return None;
    }
    let priority = i32::from_be_bytes(find(&hook, 2)?.try_into().ok()?);
    Some(Hook { kind, point, priority, device: find(&hook, 3).map(text) })
}

fn types(id: Option<u32>) -> Vec<Field> {
    let (mut id, mut out) = (id.unwrap_or(0), Vec::new());
    while id != 0 {
        let field = match id & 63 {
            7 => Field::Ipv4,
            8 => Field::Ipv6,
            9 => Field::Ether,
            12 => Field::Proto,
            13 => Field::Port,
            19 => Field::Mark,
            41 => Field::IfName,
            _ => return Vec::new(),
        };
        out.insert(0, field);
        id >>= 6;
    }
    out
}

fn data(fields: &Attrs<'_>) -> SetData {
    match (number(fields, 3).unwrap_or(0) & SET_IS_MAP, number(fields, 6)) {
        (0, _) => SetData::None,
        (_, Some(DATA_IS_VERDICT)) => SetData::Verdict,
        (_, id) => SetData::Value(types(id)),
    }
}

fn elements(socket: &mut Socket, family: u8, table: &str, set: &str) -> io::Result<BTreeMap<Vec<u8>, Datum>> {
    let make = || {
        request(GETSETELEM, family, |m| {
            m.text(1, table);
            m.text(2, set);
        })
    };
    let mut out = BTreeMap::new();
    for body in dump(socket, make)? {
        let fields = attrs(&body, 4);
        for (_, element) in attrs(find(&fields, 3).unwrap_or_default(), 0) {
            let element = attrs(element, 0);
            let Some(key) = find(&element, 1).and_then(value) else { continue };
            let datum = find(&element, 2).map_or(Datum::None, |data| match (value(data), verdict(data)) {
                (Some(bytes), _) => Datum::Value(bytes),
                (None, Some(verdict)) => Datum::Verdict(verdict),
                // A jump, say: none that Skep makes.
                (None, None) => Datum::Value(Vec::new()),
            });
            out.insert(key, datum);
        }
    }
    Ok(out)
}

/// The bytes of a data attribute.
fn value(data: &[u8]) -> Option<Vec<u8>> {
    find(&attrs(data, 0), 1).map(<[u8]>::to_vec)
}

/// The verdict of a data attribute.
fn verdict(data: &[u8]) -> Option<Verdict> {
    let fields = attrs(data, 0);
    let verdict = attrs(find(&fields, 2)?, 0);
    match number(&verdict, 1)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        // NFT_GOTO
        -4 => find(&verdict, 2).map(text).map(Verdict::Goto),
        _ => None,
    }
}

/// The expressions of a rule: name and attributes of each.
pub(super) fn expressions<'a>(fields: &Attrs<'a>) -> Vec<(String, &'a [u8])> {
    let list = attrs(find(fields, 4).unwrap_or_default(), 0);
    let one = |(_, element): &(u16, &'a [u8])| {
        let element = attrs(element, 0);
        (find(&element, 1).map(text).unwrap_or_default(), find(&element, 2).unwrap_or_default())
    };
    list.iter().map(one).collect()
}

/// A rule; empty if any of its expressions is none of ours.
fn rule(family: Family, fields: &Attrs<'_>) -> Rule {
    let all = expressions(fields);
    let read: Option<Rule> = all.iter().map(|(name, data)| expression(family, name, &attrs(data, 0))).collect();
    read.unwrap_or_default()
}

/// One of our registers: the kernel shows the first of each four by its older name.
fn register(number: u32) -> Option<u8> {
    let reg = match number {
        1..=4 => (number - 1) * 4,
        8..=23 => number - 8,
        _ => return None,
    };
    u8::try_from(reg).ok()
}

fn expression(family: Family, name: &str, f: &Attrs<'_>) -> Option<Expr> {
    let reg = |kind| number(f, kind).and_then(register);
    Some(match name {
        "meta" => match (number(f, 2)?, reg(1), reg(3)) {
            (3, None, Some(from)) => Expr::Store(Store::Mark, from),
            (key, Some(to), None) => Expr::Load(
                match key {
                    3 => Load::Mark,
                    6 => Load::IifName,
                    7 => Load::OifName,
                    16 => Load::L4Proto,
                    _ => return None,
                },
                to,
            ),
            _ => return None,
        },
        "ct" => match (number(f, 2)?, reg(1), reg(4)) {
            (3, None, Some(from)) => Expr::Store(Store::CtMark, from),
            (17, None, Some(from)) if number(f, 3) == Some(0) => Expr::Store(Store::CtZoneOriginal, from),
            (key, Some(to), None) => Expr::Load(
                match key {
                    0 => Load::CtState,
                    1 => Load::CtDirection,
                    2 => Load::CtStatus,
                    3 => Load::CtMark,
                    _ => return None,
                },
                to,
            ),
            _ => return None,
        },
        "payload" => match (number(f, 2)?, number(f, 3)?, number(f, 4)?, reg(1), reg(5)) {
            (0, 0, 6, None, Some(from)) => Expr::Store(Store::EtherDaddr, from),
            (base, offset, len, Some(to), None) => Expr::Load(
                match (base, offset, len) {
                    (0, 0, 6) => Load::EtherDaddr,
                    (0, 6, 6) => Load::EtherSaddr,
                    (1, 12, 4) => Load::IpSaddr,
                    (1, 16, 4) => Load::IpDaddr,
                    (1, 8, 16) => Load::Ip6Saddr,
                    (1, 24, 16) => Load::Ip6Daddr,
                    (2, 2, 2) => Load::ThDport,
                    (2, 13, 1) => Load::TcpFlags,
                    _ => return None,
                },
                to,
            ),
            _ => return None,
        },
        "fib" if (number(f, 2), number(f, 3)) == (Some(3), Some(2)) => Expr::Load(Load::FibDaddrType, reg(1)?),
        "rt" if number(f, 2) == Some(3) => Expr::Load(Load::RtTcpMss, reg(1)?),
        "numgen" if number(f, 3) == Some(1) && number(f, 4).unwrap_or(0) == 0 => {
            Expr::Load(Load::Random(number(f, 2)?), reg(1)?)
        }
        "cmp" => {
            let negate = match number(f, 2)? {
                0 => false,
                1 => true,
                _ => return None,
            };
            Expr::Cmp { reg: reg(1)?, negate, value: value(find(f, 3)?)? }
        }
        "bitwise" => {
            let (mask, xor) = (value(find(f, 4)?)?, value(find(f, 5)?)?);
            if reg(1) != reg(2) || xor.iter().any(|b| *b != 0) || number(f, 6).unwrap_or(0) != 0 {
                return None;
            }
            Expr::And { reg: reg(1)?, mask }
        }
        "lookup" => {
            let found = match (number(f, 3), number(f, 5).unwrap_or(0)) {
                (None, 0) => Found::Member,
                (None, 1) => Found::NotMember,
                (Some(0), 0) => Found::Verdict,
                (Some(to), 0) => Found::Value(register(to)?),
                _ => return None,
            };
            Expr::Lookup { set: find(f, 1).map(text)?, reg: reg(2)?, found }
        }
        "immediate" => match (number(f, 1)?, find(f, 2)?) {
            (0, data) => Expr::Verdict(verdict(data)?),
            (to, data) => Expr::Imm(register(to)?, value(data)?),
        },
        "byteorder" if (number(f, 3), number(f, 4), number(f, 5)) == (Some(1), Some(2), Some(2)) && reg(1) == reg(2) => {
            Expr::Hton16(reg(1)?)
        }
        "nat" if (number(f, 1), number(f, 2)) == (Some(1), Some(u32::from(family_number(family)))) => {
            Expr::Dnat { addr: reg(3)?, port: reg(5) }
        }
        "masq" if number(f, 2).is_none() => Expr::Masquerade,
        "notrack" => Expr::NoTrack,
        "reject" => match (number(f, 1)?, number(f, 2)) {
            (1, _) => Expr::RejectReset,
            (0, Some(code)) if code == u32::from(unreachable_port(family)) => Expr::RejectPort,
            (0, Some(code)) if code == u32::from(UNREACHABLE_PROTOCOL) && family == Family::Ip => Expr::RejectProtocol,
            _ => return None,
        },
        "exthdr" if (number(f, 2), number(f, 3), number(f, 4), number(f, 6)) == (Some(2), Some(2), Some(2), Some(1)) => {
            Expr::Store(Store::TcpMss, reg(7)?)
        }
        _ => return None,
    })
}
