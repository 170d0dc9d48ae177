//! nftables batches in the kernel's encoding (`linux/netfilter/nf_tables.h`). All numbers of attributes are big-endian.

use std::collections::BTreeMap;
use std::io;

use skep_netplan::nft::{ChainKind, Datum, Family, Field, Hook, HookPoint, NftOp, Set, SetData, Verdict};

use super::expr;
use super::msg::{ACK, APPEND, CREATE, Msg, Socket};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(super) const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
pub(super) const SET_IS_MAP: u32 = 8;
pub(super) const DATA_IS_VERDICT: u32 = 0xffff_ff00;
/// Elements per message: an attribute holds less than 64 KiB and an element takes at most about 100 bytes.
const CHUNK: usize = 400;

/// Number of a family in the kernel.
pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Ip => 2,
        Family::Ip6 => 10,
        Family::Netdev => 5,
    }
}

/// A message of the subsystem.
fn msg(kind: u16, flags: u16, family: Family) -> Msg {
    let family = family_number(family);
    // each one is acknowledged: the answer to the batch's end is not given by every kernel
    Msg::new((SUBSYSTEM << 8) | kind, flags | ACK).raw(&[family, 0, 0, 0])
}

fn edge(kind: u16) -> Msg {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Msg::new(kind, 0).raw(&[0, 0, high, low])
}

/// Applies operations on one table as one transaction.
pub(super) fn apply(socket: &mut Socket, family: Family, table: &str, ops: &[NftOp]) -> io::Result<()> {
    let mut encoder = Encoder { family, table, out: vec![edge(BATCH_BEGIN)], names: vec!["batch".to_owned()], set_id: 0 };
    for op in ops {
        encoder.op(op);
    }
    let Encoder { mut out, names, .. } = encoder;
    out.push(edge(BATCH_END));
    socket.batch(out).map_err(|(index, error)| {
        let what = names.get(index).map_or("batch", String::as_str);
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}

struct Encoder<'a> {
    family: Family,
    table: &'a str,
    out: Vec<Msg>,
    names: Vec<String>,
    set_id: u32,
}

impl Encoder<'_> {
    fn push(&mut self, name: impl Into<String>, mut msg: Msg, fill: impl FnOnce(&mut Msg)) {
        fill(&mut msg);
        self.out.push(msg);
        self.names.push(name.into());
    }

    fn op(&mut self, op: &NftOp) {
        let (family, table) = (self.family, self.table);
        match op {
            NftOp::NewTable { .. } => self.push("new table", msg(NEWTABLE, CREATE, family), |m| m.text(1, table)),
            NftOp::DelTable => self.push("delete table", msg(DELTABLE, 0, family), |m| m.text(1, table)),
            NftOp::NewSet(name, set) => {
                self.set_id += 1;
                let id = self.set_id;
                self.push(format!("new set {name}"), msg(NEWSET, CREATE, family), |m| new_set(m, table, name, id, set));
            }
            NftOp::DelSet(name) => self.push(format!("delete set {name}"), msg(DELSET, 0, family), |m| {
                m.text(1, table);
                m.text(2, name);
            }),
            NftOp::NewChain(name, hook) => {
                self.push(format!("new chain {name}"), msg(NEWCHAIN, CREATE, family), |m| {
                    new_chain(m, table, name, hook.as_ref());
                });
            }
            NftOp::DelChain(name) => self.push(format!("delete chain {name}"), msg(DELCHAIN, 0, family), |m| {
                m.text(1, table);
                m.text(3, name);
            }),
            NftOp::Flush(name) => self.push(format!("flush chain {name}"), msg(DELRULE, 0, family), |m| {
                m.text(1, table);
                m.text(2, name);
            }),
            NftOp::Rules(chain, rules) => {
                for (index, rule) in rules.iter().enumerate() {
                    self.push(format!("rule {index} of {chain}"), msg(NEWRULE, CREATE | APPEND, family), |m| {
                        m.text(1, table);
                        m.text(2, chain);
                        m.nest(4, |m| rule.iter().for_each(|e| expr::encode(m, family, e)));
                    });
                }
            }
            NftOp::AddElements(set, elements) => self.elements(set, elements, NEWSETELEM, CREATE),
            NftOp::DelElements(set, elements) => self.elements(set, elements, DELSETELEM, 0),
        }
    }

    fn elements(&mut self, set: &str, elements: &BTreeMap<Vec<u8>, Datum>, kind: u16, flags: u16) {
        let (family, table) = (self.family, self.table);
        let all: Vec<_> = elements.iter().collect();
        for chunk in all.chunks(CHUNK) {
            let what = if kind == NEWSETELEM { "add" } else { "delete" };
            self.push(format!("{what} elements of {set}"), msg(kind, flags, family), |m| {
                m.text(1, table);
                m.text(2, set);
                m.nest(3, |m| {
                    for (key, datum) in chunk {
                        m.nest(1, |m| element(m, key, datum));
                    }
                });
            });
        }
    }
}

fn element(m: &mut Msg, key: &[u8], datum: &Datum) {
    m.nest(1, |m| m.attr(1, key));
    match datum {
        Datum::None => {}
        Datum::Value(value) => m.nest(2, |m| m.attr(1, value)),
        Datum::Verdict(v) => m.nest(2, |m| verdict(m, v)),
    }
}

/// The nested verdict of a data attribute.
pub(super) fn verdict(m: &mut Msg, verdict: &Verdict) {
    m.nest(2, |m| match verdict {
        Verdict::Drop => m.be32(1, 0),
        Verdict::Accept => m.be32(1, 1),
        Verdict::Goto(chain) => {
            // NFT_GOTO is -4
            m.attr(1, &(-4i32).to_be_bytes());
            m.text(2, chain);
        }
    });
}

/// Number by which the `nft` program knows a type; a concatenation packs them six bits each.
fn type_id(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |acc, field| {
        let id = match field {
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Ether => 9,
            Field::Proto => 12,
            Field::Port => 13,
            Field::Mark => 19,
            Field::IfName => 41,
        };
        (acc << 6) | id
    })
}

fn length(fields: &[Field]) -> u32 {
    let bytes = match fields {
        [one] => one.size(),
        many => many.iter().map(|f| f.size().next_multiple_of(4)).sum(),
    };
    // a key has at most 64 bytes
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn new_set(m: &mut Msg, table: &str, name: &str, id: u32, set: &Set) {
    m.text(1, table);
    m.text(2, name);
    m.be32(3, if set.data == SetData::None { 0 } else { SET_IS_MAP });
    m.be32(4, type_id(&set.key));
    m.be32(5, length(&set.key));
    match &set.data {
        SetData::None => {}
        SetData::Verdict => m.be32(6, DATA_IS_VERDICT),
        SetData::Value(fields) => {
            m.be32(6, type_id(fields));
            m.be32(7, length(fields));
        }
    }
    m.be32(10, id);
    // what `nft list` needs to print the bytes in the right order: entries of kind, length and value
    let order = |fields: &[Field]| match fields {
        [Field::Mark | Field::IfName] => 1u32,
        _ => 2,
    };
    let mut notes = vec![0, 4];
    notes.extend_from_slice(&order(&set.key).to_ne_bytes());
    if let SetData::Value(fields) = &set.data {
        notes.extend_from_slice(&[1, 4]);
        notes.extend_from_slice(&order(fields).to_ne_bytes());
    }
    m.attr(13, &notes);
}

fn new_chain(m: &mut Msg, table: &str, name: &str, hook: Option<&Hook>) {
    m.text(1, table);
    m.text(3, name);
    let Some(hook) = hook else { return };
    let number = match hook.point {
        HookPoint::Prerouting => 0,
        HookPoint::Input | HookPoint::Egress => 1,
        HookPoint::Forward => 2,
        HookPoint::Output => 3,
        HookPoint::Postrouting => 4,
    };
    m.nest(4, |m| {
        m.be32(1, number);
        m.attr(2, &hook.priority.to_be_bytes());
        if let Some(device) = &hook.device {
            m.text(3, device);
        }
    });
    // policy accept
    m.be32(5, 1);
    m.text(
        7,
        match hook.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        },
    );
}
