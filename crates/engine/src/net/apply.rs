//! Making what is equal to what should be, and finding what a former daemon left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_netplan::drift::{Difference, unlearn};
use skep_netplan::facts::{Attach, Facts};
use skep_netplan::nft::rule::{SCTP, UDP};
use skep_netplan::nft::{Datum, Family, Table};
use skep_netplan::state::LinkKind;
use skep_netplan::{NetnsState, Ns, Step, absorb, diff, host, overlay, sandbox};
use skep_types::spec::Protocol;

use super::core::Core;
use super::guard::surely_ours;
use super::{Found, NetError};

impl Core {
    /// Brings everything (or only the given namespaces) to the wanted state. Goes on past failures; what failed is tried again by the
    /// next pass. Returns what failed.
    pub(super) fn reconcile(&mut self, only: Option<&BTreeSet<Ns>>) -> Vec<NetError> {
        let facts = self.facts();
        let picked = |ns: &Ns| only.is_none_or(|set| set.contains(ns));
        let mut errors = Vec::new();
        let wanted = self.wanted(&facts, &picked);
        for ns in wanted.keys().filter(|ns| matches!(ns, Ns::Overlay(_))) {
            errors.extend(self.host.create_ns(ns).err());
        }
        for (ns, state) in &wanted {
            self.bring(ns, state, &mut errors);
        }
        let gone: Vec<Ns> = self.applied.keys().filter(|ns| picked(ns) && !wanted.contains_key(ns)).cloned().collect();
        // Containers before the networks whose links they share.
        for ns in gone.into_iter().rev() {
            // The kernel clears a namespace away later, and until then nobody else can have a device of that network, or an interface
            // with that Ethernet address: a task that takes over from the last one here would not start. One that is not there is as good.
            let blocks = |kind: &LinkKind| matches!(kind, LinkKind::Vxlan { .. } | LinkKind::Child { .. });
            let links = self.applied.get(&ns).into_iter().flat_map(|state| &state.links);
            let blocking = links.filter(|(_, link)| blocks(&link.kind)).map(|(name, _)| Step::DelLink(name.clone()));
            let steps: Vec<Step> = blocking.collect();
            if !steps.is_empty() {
                let done = self.host.apply(&ns, &steps);
                self.forget_shares(&ns, &removed(&steps, &done));
            }
            match self.host.delete_ns(&ns) {
                Ok(()) => {
                    self.applied.remove(&ns);
                }
                Err(error) => errors.push(error),
            }
        }
        for error in &errors {
            tracing::warn!(error = error as &dyn std::error::Error, "network is not yet as it should be");
        }
        self.behind = !errors.is_empty() || (self.behind && only.is_some());
        errors
    }

    /// Tries again what failed before. Returns whether anything had.
    pub(super) fn catch_up(&mut self) -> bool {
        let behind = self.behind;
        if behind {
            self.reconcile(None);
        }
        self.restart_resolvers() || behind
    }

    /// In the order in which namespaces are worked on: the outer ends of pairs before the containers.
    pub(super) fn wanted(&self, facts: &Facts, picked: &dyn Fn(&Ns) -> bool) -> BTreeMap<Ns, NetnsState> {
        let mut wanted = BTreeMap::new();
        if picked(&Ns::Host) {
            wanted.insert(Ns::Host, host::host(facts));
        }
        let endpoints = facts.containers.iter().flat_map(|c| &c.endpoints);
        for id in endpoints.filter_map(|e| if let Attach::Overlay(id) = &e.attach { Some(id) } else { None }) {
            let ns = Ns::of_overlay(id);
            if picked(&ns)
                && let Some(state) = overlay::overlay(facts, id)
            {
                wanted.insert(ns, state);
            }
        }
        for container in facts.containers.iter().filter(|c| picked(&c.ns)) {
            wanted.insert(container.ns.clone(), sandbox::sandbox(facts, container));
        }
        wanted
    }

    fn bring(&mut self, ns: &Ns, wanted: &NetnsState, errors: &mut Vec<NetError>) {
        let applied = self.applied.entry(ns.clone()).or_default();
        let steps = diff(applied, wanted);
        if steps.is_empty() {
            return;
        }
        let (before, closed) = (targets(applied), loose_ports(applied));
        let done = self.host.apply(ns, &steps);
        let removed = removed(&steps, &done);
        for (step, result) in steps.iter().zip(done) {
            match result {
                Ok(()) => absorb(applied, step),
                Err(error) => errors.push(error),
            }
        }
        // map first, then flows: a flow made between the two would keep the old backend
        let gone: Vec<IpAddr> = before.difference(&targets(applied)).copied().collect();
        let opened: BTreeSet<_> = loose_ports(applied).difference(&closed).copied().collect();
        if !gone.is_empty() || !opened.is_empty() {
            errors.extend(self.host.forget_flows(ns, &gone, &opened).err());
        }
        self.forget_shares(ns, &removed);
    }

    /// Shares of links that were removed ended with them; those that are still wanted are made anew by this pass or the next.
    fn forget_shares(&mut self, ns: &Ns, removed: &[&str]) {
        let shares: Vec<(Ns, String)> = removed.iter().flat_map(|name| self.shares(ns, name)).collect();
        for (place, share) in shares {
            self.lost(&place, share);
            self.behind = true;
        }
    }

    /// Links of any namespace that are shares of this one.
    pub(super) fn shares(&self, ns: &Ns, link: &str) -> Vec<(Ns, String)> {
        let of = |kind: &LinkKind| matches!(kind, LinkKind::Child { ns: at, parent, .. } if at == ns && parent == link);
        let all =
            self.applied.iter().flat_map(|(place, state)| state.links.iter().map(move |(name, link)| (place, name, link)));
        all.filter(|(.., link)| of(&link.kind)).map(|(place, name, _)| (place.clone(), name.clone())).collect()
    }

    /// Notes that a link is gone, and what sat on it.
    pub(super) fn lost(&mut self, ns: &Ns, link: String) {
        if let Some(applied) = self.applied.get_mut(ns) {
            unlearn(applied, &[Difference::LinkMissing(link)]);
        }
    }

    /// Whether a namespace is exactly as it should be.
    pub(super) fn settled(&self, ns: &Ns, facts: &Facts) -> bool {
        let wanted = self.wanted(facts, &|other| other == ns);
        match (self.applied.get(ns), wanted.get(ns)) {
            (Some(applied), Some(wanted)) => diff(applied, wanted).is_empty(),
            (applied, wanted) => applied.is_none() && wanted.is_none(),
        }
    }

    /// Takes over what a former daemon left: what is wanted stays as it is, the rest of ours goes.
    pub(super) fn adopt(&mut self) -> Result<(), NetError> {
        let facts = self.facts();
        let wanted = self.wanted(&facts, &|_| true);
        for ns in self.host.list_ns()? {
            if !wanted.contains_key(&ns) {
                // The pass below deletes it. What cannot be read is left to the kernel.
                let found = self.host.found(&ns).unwrap_or_default();
                self.applied.insert(ns, remembered(&found, &NetnsState::default(), false));
            }
        }
        for (ns, state) in &wanted {
            if *ns != Ns::Host && !self.host.list_ns()?.contains(ns) {
                continue;
            }
            let left = remembered(&self.host.found(ns)?, state, *ns == Ns::Host);
            self.applied.insert(ns.clone(), left);
        }
        self.restart_resolvers();
        // errors are logged and tried again: a daemon that refuses to start would help nobody
        self.reconcile(None);
        Ok(())
    }
}

/// Links that steps did remove: one that stays keeps its shares.
fn removed<'a>(steps: &'a [Step], done: &[Result<(), NetError>]) -> Vec<&'a str> {
    let one = |(step, done): (&'a Step, &Result<(), NetError>)| match step {
        Step::DelLink(name) if done.is_ok() => Some(name.as_str()),
        _ => None,
    };
    steps.iter().zip(done).filter_map(one).collect()
}

/// What of the found links counts as applied. Addresses, most routes and tables are not read: setting them again changes nothing.
fn remembered(found: &Found, wanted: &NetnsState, host: bool) -> NetnsState {
    let mut state = NetnsState::default();
    for (name, (kind, found_mac)) in &found.links {
        match wanted.links.get(name) {
            Some(link) if link.kind.is(kind) => {
                // of the right kind, but set again: who knows what happened to it
                let mac = found_mac.filter(|_| link.mac.is_some());
                let unset = skep_netplan::state::Link { mtu: None, mac, ..link.clone() };
                state.links.insert(name.clone(), unset);
            }
            other if other.is_some() || !host || ours(name, found) => {
                let kind = kind.clone();
                let (mtu, mac, master, mode) = (None, None, None, Default::default());
                state.links.insert(name.clone(), skep_netplan::state::Link { kind, mtu, mac, master, mode });
            }
            _ => {}
        }
    }
    let known = |dev: &String| state.links.contains_key(dev) && wanted.links.contains_key(dev);
    state.neighbours = found.neighbours.iter().filter(|(key, _)| known(&key.0)).map(|(k, v)| (k.clone(), *v)).collect();
    state.routes = found.ways.iter().filter(|route| known(&route.dev)).cloned().collect();
    state.wireguard = found.wireguard.iter().filter(|(key, _)| known(&key.0)).map(|(k, v)| (k.clone(), *v)).collect();
    state.fdb = found.fdb.iter().filter(|(key, _)| known(&key.0)).map(|(k, v)| (k.clone(), *v)).collect();
    state
}

/// Whether a link of the host is one that Skep made. Other engines give bridges the same names, so that these must bear its mark.
fn ours(name: &str, found: &Found) -> bool {
    let hex = |id: &str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let shared =
        matches!(name, "docker0" | "docker_gwbridge") || name.strip_prefix("br-").or(name.strip_prefix("dm-")).is_some_and(hex);
    surely_ours(name) || shared && found.marked.contains(name)
}

/// Ports that lead somewhere, of the protocols whose flows stay as they were made: the last two fields of their maps' keys are
/// protocol and port.
fn loose_ports(state: &NetnsState) -> BTreeSet<(Protocol, u16)> {
    let maps = ["pub", "pubone", "hostany", "hostone"];
    let sets = state.tables.values().flat_map(|t| maps.iter().filter_map(|name| t.sets.get(*name)));
    let port = |key: &Vec<u8>| match key.get(key.len().checked_sub(8)?..)? {
        [UDP, _, _, _, high, low, ..] => Some((Protocol::Udp, u16::from_be_bytes([*high, *low]))),
        [SCTP, _, _, _, high, low, ..] => Some((Protocol::Sctp, u16::from_be_bytes([*high, *low]))),
        _ => None,
    };
    sets.flat_map(|set| set.elements.keys()).filter_map(port).collect()
}

/// Addresses that destinations are changed to.
fn targets(state: &NetnsState) -> BTreeSet<IpAddr> {
    let maps = ["be", "pubbe", "local", "entries", "hostany", "hostone"];
    let of_table = |((family, _), table): (&(Family, String), &Table)| {
        let values = maps.iter().filter_map(|name| table.sets.get(*name)).flat_map(|set| set.elements.values());
        let address = |datum: &Datum| match (datum, family) {
            (Datum::Value(bytes), Family::Ip6) => <[u8; 16]>::try_from(bytes.get(..16)?).ok().map(|b| Ipv6Addr::from(b).into()),
            (Datum::Value(bytes), _) => <[u8; 4]>::try_from(bytes.get(..4)?).ok().map(|b| Ipv4Addr::from(b).into()),
            _ => None,
        };
        values.filter_map(address).collect::<Vec<IpAddr>>()
    };
    state.tables.iter().flat_map(of_table).collect()
}
