//! What we made stays as we made it: whoever flushes the host's rules, reloads its firewall or takes an entry away finds it there again.
//!
//! Others' transactions on nftables are counted by the kernel and looked at within a quarter of a second; all else is looked for, one
//! namespace after the other, so that a host with a thousand containers does no more at a time than one with three.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use skep_netplan::Ns;
use skep_netplan::drift::{Difference, Seen, differences, unlearn};
use skep_netplan::host::{MESH, tunnel};
use skep_netplan::state::{LinkKind, UNNAMED};

use super::core::Core;
use super::{NetError, NetHost, TableWatch};

/// How often the next namespaces are looked at: one of the host and its overlay networks, and one of the containers'. A look costs
/// about a millisecond.
const TURN: Duration = Duration::from_secs(1);
/// Between two looks, for whoever changes rules without end.
const REST: Duration = Duration::from_millis(50);

/// Watches for as long as the manager lives, on a thread of its own since it waits in the kernel.
pub(super) fn start(core: Weak<Mutex<Core>>, host: &Arc<dyn NetHost>) {
    let watch = host.watch().inspect_err(|e| {
        tracing::warn!(error = e as &dyn std::error::Error, "changes of the firewall are looked for in turn");
    });
    let mut watch = watch.ok();
    let started = thread::Builder::new().name("skep-guard".to_owned()).spawn(move || {
        let (mut outer, mut inner) = (None, None);
        while core.strong_count() > 0 {
            let changed = turn(&mut watch);
            let Some(core) = core.upgrade() else { return };
            let look = |ns: &Ns| core.lock().unwrap_or_else(PoisonError::into_inner).mend(ns);
            if changed {
                look(&Ns::Host);
                thread::sleep(REST);
                continue;
            }
            let all: Vec<Ns> = core.lock().unwrap_or_else(PoisonError::into_inner).applied.keys().cloned().collect();
            let (inside, outside): (Vec<Ns>, Vec<Ns>) = all.into_iter().partition(|ns| matches!(ns, Ns::Sandbox(_)));
            outer = after(&outside, outer);
            inner = after(&inside, inner);
            // The lock is free between the two.
            outer.iter().for_each(look);
            inner.iter().for_each(look);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "nobody watches for changes of the network");
    }
}

/// The next one in turn.
fn after(all: &[Ns], last: Option<Ns>) -> Option<Ns> {
    all.iter().find(|ns| last.as_ref().is_some_and(|last| *ns > last)).or(all.first()).cloned()
}

/// Waits for its turn to look; whether somebody changed tables of nftables. A watch that broke is given up.
fn turn(watch: &mut Option<Box<dyn TableWatch>>) -> bool {
    match watch.as_mut().map(|w| w.changed(TURN)) {
        Some(Ok(changed)) => changed,
        Some(Err(error)) => {
            tracing::warn!(%error, "changes of the firewall are looked for in turn");
            *watch = None;
            false
        }
        None => {
            thread::sleep(TURN);
            false
        }
    }
}

/// Whether a link bears a name that nobody else gives: those of bridges may be another engine's.
pub(super) fn surely_ours(name: &str) -> bool {
    let hex = |id: &str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_prefix('v').and_then(|rest| rest.get(1..)).is_some_and(hex) || [MESH, tunnel::LINK, UNNAMED].contains(&name)
}

impl Core {
    /// Makes good what somebody changed in a namespace.
    fn mend(&mut self, ns: &Ns) {
        let Some(applied) = self.applied.get(ns) else { return };
        let seen = match self.host.seen(ns, applied) {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "it is not known whether the network is as it should be"
                );
                return;
            }
        };
        if *ns == Ns::Host {
            self.follow_underlay(&seen);
        }
        let Some(applied) = self.applied.get_mut(ns) else { return };
        let found = differences(ns, applied, &seen, surely_ours);
        if found.is_empty() {
            return;
        }
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        tracing::warn!(%ns, changed = ?words, "somebody changed the network: it is made as it should be");
        let mut touched = BTreeSet::from([ns.clone()]);
        // A pair that is made anew is new at its other end, too; shares of a link end with it.
        let lost = |d: &Difference| match d {
            Difference::LinkMissing(name) | Difference::LinkOther(name, ..) => Some(name.clone()),
            _ => None,
        };
        let kinds = |name: String| applied.links.get(&name).map(|link| (name, link.kind.clone()));
        let gone: Vec<(String, LinkKind)> = found.iter().filter_map(lost).filter_map(kinds).collect();
        unlearn(applied, &found);
        for (name, kind) in &gone {
            let with = match kind {
                LinkKind::Veth { peer_ns, peer_name, .. } => vec![(peer_ns.clone(), peer_name.clone())],
                _ => self.shares(ns, name),
            };
            for (place, link) in with {
                self.lost(&place, link);
                touched.insert(place);
            }
        }
        if matches!(ns, Ns::Sandbox(_)) && gone.iter().any(|(_, kind)| *kind == LinkKind::Given) {
            // Its outer end is gone with it, and found missing in its turn; until then there is nothing to set up.
            return;
        }
        // What fails is logged there, and tried again.
        self.reconcile(Some(&touched));
    }

    /// The payload size of the underlay's link may change while the daemon runs.
    fn follow_underlay(&mut self, seen: &Seen) {
        let Some(member) = &mut self.member else { return };
        let Some(mtu) = link_mtu(seen, member.addr) else { return };
        if member.mtu == mtu {
            return;
        }
        tracing::info!(from = member.mtu, to = mtu, "the underlay carries packets of another size: overlay networks follow");
        member.mtu = mtu;
        if let Err(error) = self.save_member() {
            tracing::warn!(error = &error as &dyn std::error::Error, "the size of packets is not kept");
        }
        self.reconcile(None);
    }

    /// What is in a namespace beside what should be.
    pub(super) fn compare(&self, ns: &Ns, wanted: &skep_netplan::NetnsState) -> Result<(Seen, Vec<Difference>), NetError> {
        let seen = self.host.seen(ns, wanted)?;
        let found = differences(ns, wanted, &seen, surely_ours);
        Ok((seen, found))
    }
}

/// Payload size of the link that has an address.
pub(super) fn link_mtu(seen: &Seen, addr: std::net::Ipv4Addr) -> Option<u32> {
    let dev = &seen.addresses.iter().find(|a| a.net.addr == std::net::IpAddr::from(addr))?.dev;
    seen.links.get(dev).map(|link| link.mtu)
}
