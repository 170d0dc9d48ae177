//! From what is applied to what is wanted: ordered steps, and the bookkeeping of those that succeeded.
//!
//! Every step can be repeated without harm. A step that failed is simply not absorbed, so the next difference holds it again.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use skep_types::wireguard::PublicKey;

use crate::nft::delta::{self, NftOp};
use crate::nft::{Family, Table};
use crate::state::{Address, FdbEntry, Link, LinkKind, Mac, NetnsState, Route, Rule};

/// One change of one network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Deletes a table.
    DelTable(Family, String),
    /// Deletes a routing rule.
    DelRule(Rule),
    /// Deletes a route.
    DelRoute(Route),
    /// Deletes a forwarding entry.
    DelFdb(String, Mac, FdbEntry),
    /// Deletes a neighbour.
    DelNeighbour(String, IpAddr),
    /// Deletes a peer of a WireGuard link.
    DelPeer(String, Ipv4Addr, PublicKey),
    /// Deletes an address.
    DelAddress(Address),
    /// Deletes a link.
    DelLink(String),
    /// Notes that a given link went away with its other end; nothing to do.
    Forget(String),
    /// Makes a link and sets all of it up.
    AddLink(String, Link),
    /// Sets what can change on a link.
    SetLink(String, Link),
    /// Writes a file below `/proc/sys`; passed over if it does not exist.
    Sysctl(String, String),
    /// Adds an address.
    AddAddress(Address),
    /// Adds or replaces a permanent neighbour.
    SetNeighbour(String, IpAddr, Mac),
    /// Adds or replaces a forwarding entry.
    SetFdb(String, Mac, FdbEntry),
    /// Adds a peer to a WireGuard link: its address and key.
    SetPeer(String, Ipv4Addr, PublicKey),
    /// Adds or replaces a route.
    AddRoute(Route),
    /// Adds a routing rule.
    AddRule(Rule),
    /// Changes a table in one atomic batch.
    Nft(Family, String, Vec<NftOp>),
}

/// Steps that make `wanted` from `applied`, in an order that works: what depends on something goes before it and comes after it.
#[must_use]
pub fn diff(applied: &NetnsState, wanted: &NetnsState) -> Vec<Step> {
    let fresh = fresh_links(applied, wanted);
    let mut steps = Vec::new();
    for (family, name) in applied.tables.keys().filter(|key| !wanted.tables.contains_key(key)) {
        steps.push(Step::DelTable(*family, name.clone()));
    }
    steps.extend(applied.rules.difference(&wanted.rules).cloned().map(Step::DelRule));
    deletions(applied, wanted, &fresh, &mut steps);
    additions(applied, wanted, &fresh, &mut steps);
    for ((family, name), table) in &wanted.tables {
        let old = applied.tables.get(&(*family, name.clone())).filter(|old| !hooks_into(old, &fresh));
        let ops = delta::delta(old, table);
        if !ops.is_empty() {
            steps.push(Step::Nft(*family, name.clone(), ops));
        }
    }
    steps
}

/// Links that will be made anew: what the applied state says of them is void.
fn fresh_links<'a>(applied: &NetnsState, wanted: &'a NetnsState) -> BTreeSet<&'a str> {
    // a new Ethernet address is a new link: neighbours would be lost anyway
    let same =
        |name: &String, link: &Link| applied.links.get(name).is_some_and(|old| old.kind == link.kind && old.mac == link.mac);
    wanted.links.iter().filter(|(name, link)| !same(name, link)).map(|(name, _)| name.as_str()).collect()
}

fn hooks_into(table: &Table, fresh: &BTreeSet<&str>) -> bool {
    let mut devices = table.chains.values().filter_map(|chain| chain.hook.as_ref()?.device.as_deref());
    devices.any(|device| fresh.contains(device))
}

fn deletions(applied: &NetnsState, wanted: &NetnsState, fresh: &BTreeSet<&str>, steps: &mut Vec<Step>) {
    // what sits on a link that goes, goes with it
    let stays = |dev: &str| wanted.links.contains_key(dev) && !fresh.contains(dev) || !applied.links.contains_key(dev);
    let routes = applied.routes.difference(&wanted.routes).filter(|r| stays(&r.dev));
    steps.extend(routes.cloned().map(Step::DelRoute));
    for ((dev, mac), entry) in applied.fdb.iter().filter(|(key, _)| stays(&key.0) && !wanted.fdb.contains_key(key)) {
        steps.push(Step::DelFdb(dev.clone(), *mac, *entry));
    }
    for (dev, addr) in applied.neighbours.keys().filter(|key| stays(&key.0) && !wanted.neighbours.contains_key(key)) {
        steps.push(Step::DelNeighbour(dev.clone(), *addr));
    }
    // one that has another key now is another peer
    let peers = applied.wireguard.iter().filter(|(key, old)| stays(&key.0) && wanted.wireguard.get(key) != Some(old));
    steps.extend(peers.map(|((dev, addr), key)| Step::DelPeer(dev.clone(), *addr, *key)));
    let addresses = applied.addresses.difference(&wanted.addresses).filter(|a| stays(&a.dev));
    steps.extend(addresses.cloned().map(Step::DelAddress));
    // ports before their bridge; a link that is given is only forgotten
    let gone = |name: &String| fresh.contains(name.as_str()) || !wanted.links.contains_key(name);
    let mut links: Vec<_> = applied.links.iter().filter(|(n, l)| gone(n) && l.kind != LinkKind::Given).collect();
    links.sort_by_key(|(_, link)| link.master.is_none());
    steps.extend(links.into_iter().map(|(name, _)| Step::DelLink(name.clone())));
    let given = applied.links.iter().filter(|(n, l)| l.kind == LinkKind::Given && !wanted.links.contains_key(*n));
    steps.extend(given.map(|(name, _)| Step::Forget(name.clone())));
}

fn additions(applied: &NetnsState, wanted: &NetnsState, fresh: &BTreeSet<&str>, steps: &mut Vec<Step>) {
    let mut links: Vec<_> = wanted.links.iter().collect();
    links.sort_by_key(|(_, link)| link.master.is_some());
    for (name, link) in links {
        let remade = |master: &String| fresh.contains(master.as_str());
        if fresh.contains(name.as_str()) {
            steps.push(Step::AddLink(name.clone(), link.clone()));
        } else if applied.links.get(name) != Some(link) || link.master.as_ref().is_some_and(remade) {
            steps.push(Step::SetLink(name.clone(), link.clone()));
        }
    }
    for (key, value) in &wanted.sysctls {
        let on_fresh = key.split('/').any(|part| fresh.contains(part));
        if applied.sysctls.get(key) != Some(value) || on_fresh {
            steps.push(Step::Sysctl(key.clone(), value.clone()));
        }
    }
    let new = |dev: &String| fresh.contains(dev.as_str());
    let addresses = wanted.addresses.iter().filter(|a| new(&a.dev) || !applied.addresses.contains(a));
    steps.extend(addresses.cloned().map(Step::AddAddress));
    for (key, mac) in wanted.neighbours.iter().filter(|(k, v)| new(&k.0) || applied.neighbours.get(k) != Some(v)) {
        steps.push(Step::SetNeighbour(key.0.clone(), key.1, *mac));
    }
    for (key, entry) in wanted.fdb.iter().filter(|(k, v)| new(&k.0) || applied.fdb.get(k) != Some(v)) {
        steps.push(Step::SetFdb(key.0.clone(), key.1, *entry));
    }
    let peers = wanted.wireguard.iter().filter(|(k, v)| new(&k.0) || applied.wireguard.get(k) != Some(v));
    steps.extend(peers.map(|((dev, addr), key)| Step::SetPeer(dev.clone(), *addr, *key)));
    let routes = wanted.routes.iter().filter(|r| new(&r.dev) || !applied.routes.contains(r));
    steps.extend(routes.cloned().map(Step::AddRoute));
    steps.extend(wanted.rules.difference(&applied.rules).cloned().map(Step::AddRule));
}

/// Notes in `applied` that a step succeeded.
pub fn absorb(applied: &mut NetnsState, step: &Step) {
    match step {
        Step::DelTable(family, name) => {
            applied.tables.remove(&(*family, name.clone()));
        }
        Step::DelRule(rule) => {
            applied.rules.remove(rule);
        }
        Step::DelRoute(route) => {
            applied.routes.remove(route);
        }
        Step::DelFdb(dev, mac, _) => {
            applied.fdb.remove(&(dev.clone(), *mac));
        }
        Step::DelNeighbour(dev, addr) => {
            applied.neighbours.remove(&(dev.clone(), *addr));
        }
        Step::DelPeer(dev, addr, _) => {
            applied.wireguard.remove(&(dev.clone(), *addr));
        }
        Step::SetPeer(dev, addr, key) => {
            applied.wireguard.insert((dev.clone(), *addr), *key);
        }
        Step::DelAddress(address) => {
            applied.addresses.remove(address);
        }
        Step::DelLink(name) | Step::Forget(name) => forget_link(applied, name),
        Step::AddLink(name, link) => {
            forget_link(applied, name);
            applied.links.insert(name.clone(), link.clone());
        }
        Step::SetLink(name, link) => {
            applied.links.insert(name.clone(), link.clone());
        }
        Step::Sysctl(key, value) => {
            applied.sysctls.insert(key.clone(), value.clone());
        }
        Step::AddAddress(address) => {
            applied.addresses.insert(address.clone());
        }
        Step::SetNeighbour(dev, addr, mac) => {
            applied.neighbours.insert((dev.clone(), *addr), *mac);
        }
        Step::SetFdb(dev, mac, entry) => {
            applied.fdb.insert((dev.clone(), *mac), *entry);
        }
        Step::AddRoute(route) => {
            applied.routes.insert(route.clone());
        }
        Step::AddRule(rule) => {
            applied.rules.insert(rule.clone());
        }
        Step::Nft(family, name, ops) => {
            let key = (*family, name.clone());
            let old = applied.tables.remove(&key);
            if let Some(table) = delta::absorb(old, ops) {
                applied.tables.insert(key, table);
            }
        }
    }
}

/// Drops a link and all that sat on it.
pub(crate) fn forget_link(applied: &mut NetnsState, name: &str) {
    applied.links.remove(name);
    applied.addresses.retain(|a| a.dev != name);
    applied.routes.retain(|r| r.dev != name);
    applied.neighbours.retain(|(dev, _), _| dev != name);
    applied.fdb.retain(|(dev, _), _| dev != name);
    applied.wireguard.retain(|(dev, _), _| dev != name);
    applied.sysctls.retain(|key, _| !key.split('/').any(|part| part == name));
}

#[cfg(test)]
pub(crate) mod tests;
