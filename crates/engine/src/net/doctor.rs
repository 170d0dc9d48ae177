//! Looking at everything at once: for the exported dump, and for `skep network doctor`. Must change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use skep_netplan::doctor::{Looked, PeerReach, findings};
use skep_netplan::facts::{Member, VXLAN_OVERHEAD};
use skep_netplan::host::MESH;
use skep_netplan::{Mac, Ns, report};
use skep_types::netreport::{NamesReport, NetworkReport, SpaceReport};
use skep_types::{NodeId, gossip};

use super::core::Core;
use super::guard::link_mtu;
use super::manager::blocking;
use super::{NetError, NetHost, NetworkManager};

/// A host that is there answers within this, or is as good as gone.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that are tried at once.
const AT_ONCE: usize = 32;
/// Payloads that are tried where the full one does not pass: those of usual underlays, less what VXLAN takes.
const SIZES: [u32; 9] = [8950, 1450, 1442, 1430, 1400, 1350, 1330, 1230, 64];
/// Where managers listen unless they are told otherwise.
const MANAGER_PORT: u16 = 2377;

impl NetworkManager {
    /// What the kernel has beside what should be, in all namespaces of ours; with `probe` also whether the other nodes and the given
    /// managers can be reached, and what all of it means.
    pub async fn report(&self, probe: bool, managers: Vec<(NodeId, String)>) -> NetworkReport {
        let mut out = NetworkReport::default();
        let mut looked = Looked { features: self.host().features(), ..Looked::default() };
        out.features = looked.features.named().into_iter().map(|(name, there)| (name.to_owned(), there)).collect();
        let all = self.with(|core| Ok((core.spaces(), core.member.clone()))).await;
        let (spaces, member) = all.unwrap_or_default();
        if let Some(member) = &member {
            (out.node, out.addr, out.mtu) = (Some(member.node), Some(member.addr), member.mtu);
        }
        // One at a time: packets' rules must not wait until a thousand containers are read.
        for ns in spaces {
            let (space, link) = self.with(move |core| Ok(core.space_report(&ns))).await.unwrap_or_default();
            if let Some(link) = link {
                looked.mtu.1 = Some(link);
            }
            looked.differences.extend(space.differences.iter().map(|d| format!("{}: {d}", space.name)));
            out.spaces.push(space);
        }
        looked.spaces = out.spaces.len();
        let names = self.with(|core| Ok(core.names_report())).await.unwrap_or_default();
        (out.names, looked.resolvers) = names;
        if !probe {
            return out;
        }
        looked.member = member.is_some();
        let host = Arc::clone(self.host());
        let asked = blocking(move || {
            if let Some(member) = &member {
                looked.vxlan_port = if member.plane.data_path_port == 0 { 4789 } else { member.plane.data_path_port };
                looked.mtu.0 = member.mtu;
                looked.managers = reach(&managers);
                looked.peers = peers(&*host, member);
            }
            looked.strangers = host.strangers()?;
            Ok(findings(&looked))
        });
        out.findings = match asked.await {
            Ok(found) => found,
            Err(error) => {
                let text = format!("not everything could be looked at: {error}");
                let level = skep_types::netreport::Level::Fault;
                vec![skep_types::netreport::Finding { level, about: "kernel", peer: None, text }]
            }
        };
        out
    }
}

impl Core {
    /// Namespaces that are there or should be.
    fn spaces(&self) -> BTreeSet<Ns> {
        let facts = self.facts();
        self.wanted(&facts, &|_| true).into_keys().chain(self.applied.keys().cloned()).collect()
    }

    /// One namespace, and the payload size of the underlay's link if it is the host's.
    fn space_report(&self, ns: &Ns) -> (SpaceReport, Option<u32>) {
        let facts = self.facts();
        let wanted = self.wanted(&facts, &|other| other == ns).remove(ns);
        let failed = |text: String| SpaceReport { name: ns.to_string(), differences: vec![text], ..SpaceReport::default() };
        let Some(wanted) = wanted else {
            return match self.applied.contains_key(ns) {
                true => (failed("it is left over".to_owned()), None),
                // Gone since it was listed.
                false => (SpaceReport { name: ns.to_string(), ..SpaceReport::default() }, None),
            };
        };
        match self.compare(ns, &wanted) {
            Ok((seen, found)) => {
                let underlay = self.member.as_ref().filter(|_| *ns == Ns::Host).and_then(|m| link_mtu(&seen, m.addr));
                (report::space(ns, &wanted, &seen, &found), underlay)
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
                (failed(format!("{error}{cause}")), None)
            }
        }
    }

    /// What each resolver answers, and those containers whose resolver is not as it should be.
    fn names_report(&self) -> (Vec<NamesReport>, Vec<String>) {
        let (mut out, mut wrong) = (Vec::new(), Vec::new());
        for (id, sandbox) in self.sandboxes.iter().filter(|(_, s)| s.resolver.is_some()) {
            let short = || id.chars().take(12).collect::<String>();
            let Some(table) = self.resolvers.get(id).map(crate::dns::Resolver::table) else {
                wrong.push(short());
                continue;
            };
            if *table != self.table(sandbox) {
                wrong.push(short());
            }
            out.extend(table.networks.iter().map(|net| NamesReport {
                container: id.clone(),
                network: net.network.clone(),
                names: net.names.iter().map(|(name, all)| (name.clone(), all.iter().copied().collect())).collect(),
            }));
        }
        (out, wrong)
    }
}

fn connects(addr: SocketAddr) -> Option<String> {
    match TcpStream::connect_timeout(&addr, CONNECT) {
        Ok(_) => None,
        Err(e) => Some(e.to_string()),
    }
}

/// Runs a question for each item on threads, some at a time.
fn each<T: Sync, O: Send>(items: &[T], ask: impl Fn(&T) -> O + Sync) -> Vec<O> {
    let mut out = Vec::with_capacity(items.len());
    for chunk in items.chunks(AT_ONCE) {
        out.extend(std::thread::scope(|scope| {
            let threads: Vec<_> = chunk.iter().map(|item| scope.spawn(|| ask(item))).collect();
            threads.into_iter().filter_map(|t| t.join().ok()).collect::<Vec<_>>()
        }));
    }
    out
}

fn reach(managers: &[(NodeId, String)]) -> Vec<(NodeId, String, Option<String>)> {
    each(managers, |(node, text)| {
        let addr = text.to_socket_addrs().and_then(|mut all| all.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        let fault = addr.map_or_else(|e| Some(e.to_string()), connects);
        (*node, text.clone(), fault)
    })
}

fn peers(host: &dyn NetHost, member: &Member) -> Vec<PeerReach> {
    let largest = mesh(host, member);
    let others: Vec<_> = member.plane.peers.iter().collect();
    each(&others, |peer| {
        // A refusal is an answer: it comes from the host itself.
        let silent = match TcpStream::connect_timeout(&(peer.addr, MANAGER_PORT).into(), CONNECT) {
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => None,
            Err(e) => Some(e.to_string()),
        };
        let vxlan = largest.as_ref().map(|sizes| sizes.get(&peer.ingress_addr).copied());
        let deaf = if silent.is_none() { connects((peer.addr, gossip::PORT).into()) } else { None };
        PeerReach { node: peer.node, addr: peer.addr, silent, vxlan, deaf }
    })
}

/// The largest payload that each peer answered to over the mesh; `None` where there is no mesh.
fn mesh(host: &dyn NetHost, member: &Member) -> Option<BTreeMap<Ipv4Addr, u32>> {
    let own = member.plane.ingress.as_ref().and(member.plane.ingress_addr)?;
    let full = member.mtu.saturating_sub(VXLAN_OVERHEAD);
    let mut left: BTreeSet<Ipv4Addr> = member.plane.peers.iter().map(|p| p.ingress_addr).collect();
    let mut out = BTreeMap::new();
    let ask = |left: &BTreeSet<Ipv4Addr>, size: u32| {
        let asked: Vec<(Mac, Ipv4Addr)> = left.iter().map(|a| (Mac::of(*a), *a)).collect();
        host.answers(MESH, (Mac::of(own), own), &asked, size).unwrap_or_else(|error: NetError| {
            tracing::warn!(error = &error as &dyn std::error::Error, "the mesh cannot be asked by");
            BTreeSet::new()
        })
    };
    let mut sizes = vec![full];
    // Those that answer to nothing need not be asked for every size.
    sizes.extend(SIZES.iter().filter(|s| **s < full));
    let some = ask(&left, full);
    out.extend(some.iter().map(|a| (*a, full)));
    left.retain(|a| !some.contains(a));
    if left.is_empty() {
        return Some(out);
    }
    left = ask(&left, SIZES[SIZES.len() - 1]);
    for size in sizes.into_iter().skip(1) {
        if left.is_empty() {
            break;
        }
        let some = ask(&left, size);
        out.extend(some.iter().map(|a| (*a, size)));
        left.retain(|a| !some.contains(a));
    }
    Some(out)
}
