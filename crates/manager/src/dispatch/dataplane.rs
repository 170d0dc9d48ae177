//! The network as one node needs it, from the tables. Pure: equal tables give equal values, in the same order. Must never list
//! a task that is being stopped among those that take requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use skep_state::{Change, Store};
use skep_types::dataplane::{
    DataPlane, IngressBackend, IngressPort, IngressView, OverlayEndpoint, OverlayView, Peer, ServiceView, View,
};
use skep_types::object::{Network, Node, Service, Task, TaskState};
use skep_types::peers::Peers;
use skep_types::spec::{PortConfig, Protocol, PublishMode};
use skep_types::{NetworkId, NodeId, ServiceId, options};

use crate::tables::{News, Tables, Watcher};

/// Whether a task takes requests: it runs, is not asked to stop, and its node does not stop it.
pub(super) fn serves(t: &Task) -> bool {
    t.status.state == TaskState::Running && t.is_wanted() && !t.status.draining
}

fn addr_on(t: &Task, network: NetworkId) -> Option<std::net::Ipv4Addr> {
    t.networks.iter().find(|a| a.network == network).map(|a| a.addr.addr)
}

/// What of a task the data plane shows.
fn shown(t: &Task) -> (bool, bool, bool, Option<NodeId>, &[skep_types::object::Attachment], Option<&str>) {
    let container = t.status.container.as_ref().map(|c| c.id.as_str());
    // Terminal tasks hold no address any more; orphaned ones neither.
    (serves(t), t.status.state.is_terminal(), t.status.state >= TaskState::Assigned, t.node, &t.networks, container)
}

/// What of a node the data plane shows.
fn shown_of_node(n: &Node) -> impl PartialEq + '_ {
    (n.addr, n.ingress_addr, n.description.wireguard, &n.description.ipv6, &n.attached)
}

/// Whether a change may change anybody's data plane.
pub(crate) fn affected(c: &Change) -> bool {
    match c {
        Change::Task { old, new, .. } => old.as_deref().map(shown) != new.as_deref().map(shown),
        Change::Service { old, new, .. } => match (old, new) {
            (Some(a), Some(b)) => {
                a.ports != b.ports
                    || a.vips != b.vips
                    || a.spec.name != b.spec.name
                    || options::prefers_local(&a.spec.labels) != options::prefers_local(&b.spec.labels)
                    || a.spec.task.networks != b.spec.task.networks
            }
            _ => true,
        },
        Change::Node { old, new, .. } => match (old, new) {
            (Some(a), Some(b)) => shown_of_node(a) != shown_of_node(b),
            _ => true,
        },
        Change::Network { .. } | Change::Cluster => true,
        Change::File { .. } => false,
    }
}

/// The parts that many nodes share, each made once for all sessions and again only after a change that concerns it.
#[derive(Debug, Default)]
pub(crate) struct Views {
    networks: BTreeMap<NetworkId, View<OverlayView>>,
    ingress: Option<View<IngressView>>,
    /// What each service publishes in the mesh: a change of one of its tasks is no reason to look at those of all others.
    ports: BTreeMap<ServiceId, Vec<IngressPort>>,
    objects: BTreeMap<NetworkId, View<Network>>,
    /// All nodes.
    peers: Option<Peers>,
}

impl Views {
    /// Forgets what a change made old.
    pub(crate) fn note(&mut self, c: &Change) {
        if !affected(c) {
            return;
        }
        match c {
            Change::Task { old, new, .. } => {
                for t in old.iter().chain(new) {
                    self.ports.remove(&t.service);
                    t.networks.iter().for_each(|a| self.forget(a.network));
                }
            }
            Change::Service { id, old, new } => {
                self.ports.remove(id);
                for s in old.iter().chain(new) {
                    s.spec.task.networks.iter().for_each(|a| self.forget(a.target));
                }
                self.ingress = None;
            }
            Change::Network { .. } | Change::Cluster => *self = Self::default(),
            Change::Node { old, new, .. } => {
                self.peers = None;
                let held = |n: &Option<Arc<Node>>| n.iter().flat_map(|n| n.attached.held.clone()).collect::<Vec<_>>();
                let (old, new) = (held(old), held(new));
                let differs = old.iter().filter(|h| !new.contains(h)).chain(new.iter().filter(|h| !old.contains(h)));
                differs.for_each(|h| self.forget(h.network));
            }
            Change::File { .. } => {}
        }
    }

    fn forget(&mut self, network: NetworkId) {
        if self.networks.remove(&network).is_none() {
            // Not kept as an overlay: unused, or that of the mesh.
            self.ingress = None;
        }
    }

    fn object(&mut self, store: &Store, id: NetworkId) -> Option<View<Network>> {
        let n = store.network(id)?;
        Some(self.objects.entry(id).or_insert_with(|| View::new((**n).clone())).clone())
    }

    /// The data plane of a node. `store` must be the tables after every change that was noted, and no other.
    pub(crate) fn of_node(&mut self, store: &Store, node: NodeId) -> DataPlane {
        let live = store.tasks_of_node(node).filter(|t| !t.status.state.is_terminal());
        // Few networks, many tasks on them.
        let mut mine = BTreeSet::new();
        mine.extend(live.flat_map(|t| t.networks.iter().map(|a| a.network)));
        let attached = store.node(node).map(|n| n.attached.held.clone()).unwrap_or_default();
        mine.extend(attached.iter().map(|h| h.network));
        let mut networks = Vec::with_capacity(mine.len());
        for n in mine.iter().filter_map(|id| store.network(*id)).filter(|n| !n.spec.ingress) {
            networks.push(self.networks.entry(n.id).or_insert_with(|| View::new(overlay(store, n))).clone());
        }
        if self.ingress.is_none() {
            self.ingress = store.ingress().map(|n| View::new(ingress(store, n, &mut self.ports)));
        }
        let peers = self.peers.get_or_insert_with(|| store.nodes().filter_map(|n| peer(n)).collect()).without(node);
        DataPlane {
            node: Some(node),
            addr: store.node(node).and_then(|n| n.addr),
            ingress_addr: store.node(node).and_then(|n| n.ingress_addr),
            data_path_port: store.cluster().map_or(4789, |c| c.data_path_port),
            peers,
            shown: networks
                .iter()
                .map(|n| n.id)
                .chain(store.ingress().map(|n| n.id))
                .filter_map(|id| self.object(store, id))
                .collect(),
            networks,
            ingress: self.ingress.clone(),
            attached,
        }
    }
}

fn peer(n: &Node) -> Option<Peer> {
    let (wireguard, ipv6) = (n.description.wireguard, n.description.ipv6.clone());
    Some(Peer { node: n.id, addr: n.addr?, ingress_addr: n.ingress_addr?, wireguard, ipv6 })
}

/// The first characters of a container's id, by which hosts know it.
fn short(id: &str) -> String {
    id.char_indices().nth(12).map_or(id, |(end, _)| &id[..end]).to_owned()
}

/// The views of all sessions of a manager, at the newest tables.
pub(crate) struct Planes(Mutex<(Watcher, Views)>);

impl Planes {
    pub(crate) fn new(tables: &Tables) -> Self {
        Self(Mutex::new((tables.follow(), Views::default())))
    }

    /// The data plane of a node, at least as new as any tables taken before.
    pub(crate) fn of_node(&self, tables: &Tables, node: NodeId) -> DataPlane {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (watcher, views) = &mut *inner;
        let (news, store) = watcher.take(tables);
        match news {
            News::Restart => *views = Views::default(),
            News::Changes(c) => c.iter().flat_map(|c| c.iter()).for_each(|c| views.note(c)),
        }
        views.of_node(&store, node)
    }
}

/// Option of a network: the payload size of its interfaces.
const MTU: &str = "com.docker.network.driver.mtu";

/// Ports of a service that have a name.
fn named_ports(s: &Service) -> Vec<(String, Protocol, u16)> {
    let named = s.ports.iter().filter(|p| !p.name.is_empty());
    named.map(|p| (p.name.clone(), p.protocol, p.target)).collect()
}

fn overlay(store: &Store, n: &Network) -> OverlayView {
    let mut endpoints = Vec::new();
    let mut by_service: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
    for t in store.tasks_of_network(n.id) {
        let (Some(addr), Some(node)) = (addr_on(t, n.id), t.node) else { continue };
        let container = t.status.container.as_ref().map(|c| short(&c.id));
        endpoints.push(OverlayEndpoint { addr, node, task_name: t.container_name(), container, aliases: Vec::new() });
        by_service.entry(t.service).or_default().push(t);
    }
    endpoints.extend(store.attached(n.id).map(|(node, h)| OverlayEndpoint {
        addr: h.addr.addr,
        node,
        task_name: h.names.first().cloned().unwrap_or_default(),
        container: Some(short(&h.container)),
        aliases: h.names.iter().skip(1).cloned().collect(),
    }));
    endpoints.sort_by_key(|e| e.addr);
    let services = store
        .services()
        .filter_map(|s| {
            let attached = s.spec.task.networks.iter().find(|a| a.target == n.id)?;
            let tasks = by_service.get(&s.id).map(Vec::as_slice).unwrap_or_default();
            let mut backends: Vec<_> = tasks.iter().filter(|t| serves(t)).filter_map(|t| addr_on(t, n.id)).collect();
            backends.sort_unstable();
            Some(ServiceView {
                name: s.spec.name.clone(),
                aliases: attached.aliases.clone(),
                vip: s.vips.iter().find(|v| v.network == n.id).map(|v| v.addr.addr),
                backends,
                ports: named_ports(s),
            })
        })
        .collect();
    OverlayView {
        id: n.id,
        name: n.spec.name.clone(),
        vni: n.vni,
        subnet: n.subnet,
        gateway: n.gateway,
        internal: n.spec.internal,
        encrypted: n.spec.is_encrypted(),
        mtu: n.spec.options.get(MTU).and_then(|v| v.parse().ok()),
        endpoints,
        services,
        pairing: n.pairing(),
    }
}

/// The mesh; `kept` is what services publish as far as it is known.
fn ingress(store: &Store, n: &Network, kept: &mut BTreeMap<ServiceId, Vec<IngressPort>>) -> IngressView {
    let mut ports = Vec::new();
    for s in store.services().filter(|s| published(s).next().is_some()) {
        ports.extend_from_slice(kept.entry(s.id).or_insert_with(|| ports_of(store, s, n.id)));
    }
    ports.sort_by_key(|p| (p.protocol, p.published));
    IngressView { vni: n.vni, subnet: n.subnet, ports, pairing: n.pairing() }
}

/// What a service publishes on every node.
fn published(s: &Service) -> impl Iterator<Item = &PortConfig> {
    s.ports.iter().filter(|p| p.mode == PublishMode::Ingress && p.published != 0)
}

fn ports_of(store: &Store, s: &Service, mesh: NetworkId) -> Vec<IngressPort> {
    let mut backends: Vec<IngressBackend> = store
        .tasks_of_service(s.id)
        .filter(|t| serves(t))
        .filter_map(|t| Some(IngressBackend { addr: addr_on(t, mesh)?, node: t.node?, task: Some(t.id) }))
        .collect();
    backends.sort_unstable();
    let port = |p: &PortConfig| IngressPort {
        protocol: p.protocol,
        published: p.published,
        target: p.target,
        backends: backends.clone(),
        host_ip: p.host_ip,
        prefer_local: options::prefers_local(&s.spec.labels),
    };
    published(s).map(port).collect()
}
