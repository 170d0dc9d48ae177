//! What was found in a namespace beside what should be there: each difference, in words, and how the memory of what was applied is
//! put right by them, so that the next pass makes good what they say.
//!
//! What others made is none of ours, and not told: foreign links, addresses, routes and tables. Inside of our tables and on our
//! VXLAN devices everything is ours. A container's own processes may change its addresses, routes, switches and links' names as they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use skep_types::wireguard::PublicKey;

use crate::diff::forget_link;
use crate::nft::{Family, Table, words};
use crate::state::{Address, FdbEntry, Link, LinkKind, Mac, NetnsState, Ns, PortMode, Route, Rule, Selector};

mod table;

/// A link as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
    /// What it is; the other end of a pair is not known.
    pub kind: LinkKind,
    /// Bytes of payload.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Bridge that it is a port of.
    pub master: Option<String>,
    /// How that treats it; `None` if in no way of ours.
    pub mode: Option<PortMode>,
    /// It is up.
    pub up: bool,
}

/// What was found in a namespace, ours or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Links by name.
    pub links: BTreeMap<String, SeenLink>,
    /// Addresses.
    pub addresses: BTreeSet<Address>,
    /// Unicast routes and, of the local table, local ones.
    pub routes: BTreeSet<Route>,
    /// Routing rules of the kinds that Skep makes.
    pub rules: BTreeSet<Rule>,
    /// Permanent neighbours.
    pub neighbours: BTreeMap<(String, IpAddr), Mac>,
    /// Peers of the WireGuard link.
    pub wireguard: BTreeMap<(String, Ipv4Addr), PublicKey>,
    /// Forwarding entries of VXLAN links.
    pub fdb: BTreeMap<(String, Mac), FdbEntry>,
    /// Those files below `/proc/sys` that were asked for and exist.
    pub sysctls: BTreeMap<String, String>,
    /// Those tables that were asked for and exist. A rule with an expression that Skep never writes is empty; a chain with another
    /// policy than to accept has no hook.
    pub tables: BTreeMap<(Family, String), Table>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A link is not there.
    LinkMissing(String),
    /// A link of ours is left over.
    LinkLeft(String, LinkKind),
    /// A link is of another kind or has another Ethernet address: it must be made anew.
    LinkOther(String, LinkKind, Option<Mac>),
    /// A link is set up in another way, in words.
    LinkSet(String, String),
    /// An address is missing.
    Address(Address),
    /// A route is missing.
    Route(Route),
    /// A routing rule is missing.
    Rule(Rule),
    /// A neighbour is missing, another, or foreign: what is there.
    Neighbour(String, IpAddr, Option<Mac>),
    /// The same of a forwarding entry.
    Fdb(String, Mac, Option<FdbEntry>),
    /// The same of a peer of the WireGuard link.
    Peer(String, Ipv4Addr, Option<PublicKey>),
    /// A switch below `/proc/sys` has another value.
    Sysctl {
        /// Its path.
        key: String,
        /// What it should be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A table is not as it should be: in words.
    Table(Family, String, Vec<String>),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkMissing(name) => write!(f, "link {name} is missing"),
            Self::LinkLeft(name, _) => write!(f, "link {name} is left over"),
            Self::LinkOther(name, ..) => write!(f, "link {name} is another one than should be there"),
            Self::LinkSet(name, how) => write!(f, "link {name} {how}"),
            Self::Address(a) => write!(f, "address {} of {} is missing", a.net, a.dev),
            Self::Route(r) => write!(f, "the route to {} by {} in table {} is missing", r.dest, r.dev, r.table),
            Self::Rule(r) => match r.of {
                Selector::Mark { mark, mask } => write!(f, "the routing rule for mark {mark:#x}/{mask:#x} is missing"),
                Selector::OwnUdp(port) => write!(f, "the routing rule for UDP port {port} is missing"),
            },
            Self::Neighbour(dev, addr, None) => write!(f, "neighbour {addr} of {dev} is missing"),
            Self::Neighbour(dev, addr, Some(mac)) => write!(f, "neighbour {addr} of {dev} is at {mac}, where it should not be"),
            Self::Fdb(dev, mac, None) => write!(f, "forwarding entry {mac} of {dev} is missing"),
            Self::Fdb(dev, mac, Some(to)) => {
                write!(f, "forwarding entry {mac} of {dev} leads to {}, where it should not", to.dst)
            }
            Self::Peer(dev, addr, None) => write!(f, "peer {addr} of {dev} is missing"),
            Self::Peer(dev, addr, Some(_)) => write!(f, "peer {addr} of {dev} has a key that it should not have"),
            Self::Sysctl { key, wanted, found } => write!(f, "{} is {found} instead of {wanted}", key.replace('/', ".")),
            Self::Table(family, name, what) => {
                write!(f, "table {} {name}: {}", words::family(*family), what.join("; "))
            }
        }
    }
}

/// All differences of one namespace. `ours` tells whether a link's name is one that Skep gives: such a link that is not wanted is
/// left over.
#[must_use]
pub fn differences(ns: &Ns, wanted: &NetnsState, seen: &Seen, ours: impl Fn(&str) -> bool) -> Vec<Difference> {
    let mut out = Vec::new();
    let own_affair = matches!(ns, Ns::Sandbox(_));
    // A container may call its interface otherwise; that it is the one is told by the Ethernet address that we gave it.
    let renamed = |link: &Link| own_affair && link.mac.is_some() && seen.links.values().any(|l| l.mac == link.mac);
    for (name, link) in wanted.links.iter().filter(|(name, link)| seen.links.contains_key(*name) || !renamed(link)) {
        out.extend(link_difference(name, link, seen.links.get(name), own_affair));
    }
    let left = seen.links.iter().filter(|(name, _)| !wanted.links.contains_key(*name) && ours(name));
    out.extend(left.map(|(name, link)| Difference::LinkLeft(name.clone(), link.kind.clone())));
    if !own_affair {
        out.extend(wanted.addresses.difference(&seen.addresses).cloned().map(Difference::Address));
        out.extend(wanted.routes.difference(&seen.routes).cloned().map(Difference::Route));
        out.extend(wanted.rules.difference(&seen.rules).cloned().map(Difference::Rule));
        carried(wanted, seen, &mut out);
        for (key, value) in &wanted.sysctls {
            if let Some(found) = seen.sysctls.get(key).filter(|found| *found != value) {
                let (key, wanted, found) = (key.clone(), value.clone(), found.clone());
                out.push(Difference::Sysctl { key, wanted, found });
            }
        }
    }
    for ((family, name), table) in &wanted.tables {
        let what = table::differences(table, seen.tables.get(&(*family, name.clone())));
        if !what.is_empty() {
            out.push(Difference::Table(*family, name.clone(), what));
        }
    }
    out
}

fn link_difference(name: &str, wanted: &Link, found: Option<&SeenLink>, own_affair: bool) -> Option<Difference> {
    let Some(found) = found else { return Some(Difference::LinkMissing(name.to_owned())) };
    if own_affair {
        return None;
    }
    let same = wanted.kind.is(&found.kind);
    let mac = wanted.mac.is_none() || wanted.mac == found.mac;
    if !same || !mac {
        return Some(Difference::LinkOther(name.to_owned(), found.kind.clone(), found.mac));
    }
    let mut how = Vec::new();
    if !found.up {
        how.push("is down".to_owned());
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != found.mtu) {
        how.push(format!("carries {} bytes instead of {mtu}", found.mtu));
    }
    if let Some(master) = &wanted.master {
        if found.master.as_ref() != Some(master) {
            how.push(format!("is no port of {master}"));
        } else if found.mode != Some(wanted.mode) {
            how.push(format!("is treated by {master} as it should not be"));
        }
    }
    (!how.is_empty()).then(|| Difference::LinkSet(name.to_owned(), how.join(", ")))
}

/// Neighbours and forwarding entries: on VXLAN devices and their bridges all are ours, elsewhere those that are wanted.
fn carried(wanted: &NetnsState, seen: &Seen, out: &mut Vec<Difference>) {
    let vxlan = |link: &&Link| matches!(link.kind, LinkKind::Vxlan { .. });
    let devices = wanted.links.iter().filter(|(_, link)| vxlan(link));
    let whole: BTreeSet<&str> =
        devices.flat_map(|(name, link)| [Some(name.as_str()), link.master.as_deref()]).flatten().collect();
    for (key, mac) in &wanted.neighbours {
        let found = seen.neighbours.get(key).copied();
        if found != Some(*mac) {
            out.push(Difference::Neighbour(key.0.clone(), key.1, found));
        }
    }
    for (key, mac) in seen.neighbours.iter().filter(|(key, _)| whole.contains(key.0.as_str())) {
        if !wanted.neighbours.contains_key(key) {
            out.push(Difference::Neighbour(key.0.clone(), key.1, Some(*mac)));
        }
    }
    for (key, public) in &wanted.wireguard {
        let found = seen.wireguard.get(key).copied();
        if found != Some(*public) {
            out.push(Difference::Peer(key.0.clone(), key.1, found));
        }
    }
    let strange = seen.wireguard.iter().filter(|(key, _)| !wanted.wireguard.contains_key(key));
    out.extend(strange.map(|(key, public)| Difference::Peer(key.0.clone(), key.1, Some(*public))));
    for (key, entry) in &wanted.fdb {
        let found = seen.fdb.get(key).copied();
        if found != Some(*entry) {
            out.push(Difference::Fdb(key.0.clone(), key.1, found));
        }
    }
    for (key, entry) in seen.fdb.iter().filter(|(key, _)| whole.contains(key.0.as_str())) {
        if !wanted.fdb.contains_key(key) {
            out.push(Difference::Fdb(key.0.clone(), key.1, Some(*entry)));
        }
    }
}

/// Puts the memory of what was applied right, so that its difference from what is wanted makes good what was found.
pub fn unlearn(applied: &mut NetnsState, found: &[Difference]) {
    for difference in found {
        match difference {
            Difference::LinkMissing(name) => forget_link(applied, name),
            Difference::LinkLeft(name, kind) => {
                let (kind, mode) = (kind.clone(), PortMode::Usual);
                applied.links.insert(name.clone(), Link { kind, mtu: None, mac: None, master: None, mode });
            }
            Difference::LinkOther(name, kind, mac) => {
                let master = applied.links.get(name).and_then(|l| l.master.clone());
                forget_link(applied, name);
                let (kind, mac, mode) = (kind.clone(), *mac, PortMode::Usual);
                applied.links.insert(name.clone(), Link { kind, mtu: None, mac, master, mode });
            }
            Difference::LinkSet(name, _) => match applied.links.get_mut(name) {
                Some(link) if link.mtu.is_some() => link.mtu = None,
                _ => forget_link(applied, name),
            },
            Difference::Address(address) => _ = applied.addresses.remove(address),
            Difference::Route(route) => _ = applied.routes.remove(route),
            Difference::Rule(rule) => _ = applied.rules.remove(rule),
            Difference::Neighbour(dev, addr, found) => {
                let key = (dev.clone(), *addr);
                match found {
                    Some(mac) => _ = applied.neighbours.insert(key, *mac),
                    None => _ = applied.neighbours.remove(&key),
                }
            }
            Difference::Fdb(dev, mac, found) => {
                let key = (dev.clone(), *mac);
                match found {
                    Some(entry) => _ = applied.fdb.insert(key, *entry),
                    None => _ = applied.fdb.remove(&key),
                }
            }
            Difference::Peer(dev, addr, found) => {
                let key = (dev.clone(), *addr);
                match found {
                    Some(public) => _ = applied.wireguard.insert(key, *public),
                    None => _ = applied.wireguard.remove(&key),
                }
            }
            Difference::Sysctl { key, .. } => _ = applied.sysctls.remove(key),
            // In its place in one batch: no packet sees half of it.
            Difference::Table(family, name, _) => _ = applied.tables.remove(&(*family, name.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
