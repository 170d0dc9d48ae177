//! Making and ending containers' namespaces.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use skep_netplan::state::{Link, LinkKind, PortMode};
use skep_netplan::{Mac, Ns, Step, sandbox::DNS_ADDR};
use skep_types::dataplane::OverlayView;
use skep_types::{Ipv4Net, Ipv6Net};

use super::core::{BRIDGE, Core, GWBRIDGE, new_id, ns_of};
use super::{LocalNetwork, NetError, NetworkRequest, Sandbox, SandboxEndpoint, SandboxRequest, ipam, options};
use crate::dns::{Resolver, Sockets};

/// Tries for a port that is free for both UDP and TCP in a namespace that nobody uses yet.
const PORT_TRIES: usize = 16;

impl Core {
    /// Makes the namespace of a container with all that is in it, or nothing.
    pub(super) fn attach(&mut self, request: SandboxRequest) -> Result<Sandbox, NetError> {
        let id = request.container_id.clone();
        if id.len() < 12 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(NetError::Invalid(format!("invalid container id {id:?}")));
        }
        // left from an attempt that the engine gave up
        if self.sandboxes.contains_key(&id) {
            self.detach(&id)?;
        }
        let mut sandbox = Sandbox {
            netns: self.host.ns_path(&ns_of(&id)),
            endpoints: self.endpoints(&request)?,
            ports: Vec::new(),
            resolver: None,
            request,
        };
        if !sandbox.request.ports.is_empty() {
            if sandbox.endpoints.iter().all(|e| e.bridge.is_empty()) {
                return Err(NetError::Invalid("published ports need a bridge network that is not internal".to_owned()));
            }
            sandbox.ports = self.reserve(&self.bound(&sandbox)?)?;
        }
        let made = self.build(&mut sandbox);
        if made.is_err() {
            // the first error is the one to tell; what is left over is logged by the pass inside
            let _ = self.detach(&id);
        }
        made.map(|()| sandbox)
    }

    fn build(&mut self, sandbox: &mut Sandbox) -> Result<(), NetError> {
        let id = sandbox.request.container_id.clone();
        let ns = ns_of(&id);
        self.host.create_ns(&ns)?;
        self.applied.entry(ns.clone()).or_default();
        let sockets = if wants_resolver(sandbox) { Some(self.sockets(&ns, 0)?) } else { None };
        sandbox.resolver = sockets.as_ref().map(|(port, _)| *port);
        self.sandboxes.insert(id.clone(), sandbox.clone());
        let touched = self.touched(sandbox);
        let errors = self.reconcile(Some(&touched));
        let facts = self.facts();
        if !touched.iter().all(|ns| *ns == Ns::Host || self.settled(ns, &facts)) {
            return NetError::collect(errors);
        }
        let host = self.applied.get(&Ns::Host);
        let missing = |e: &&SandboxEndpoint| !e.bridge.is_empty() && !host.is_some_and(|h| h.links.contains_key(&e.veth));
        if sandbox.endpoints.iter().any(|e| missing(&e)) {
            return NetError::collect(errors);
        }
        if let Some((_, sockets)) = sockets {
            let started = Resolver::start(sockets, self.table(sandbox), &self.runtime);
            let resolver = started.map_err(|e| NetError::host("start resolver of", id.clone(), e))?;
            self.resolvers.insert(id, resolver);
        }
        self.refresh_tables();
        Ok(())
    }

    /// Ends a container's namespace; no error if it is unknown.
    pub(super) fn detach(&mut self, id: &str) -> Result<(), NetError> {
        self.resolvers.remove(id);
        let ns = ns_of(id);
        let mut touched = BTreeSet::from([ns.clone()]);
        match self.sandboxes.remove(id) {
            Some(sandbox) => touched.extend(self.touched(&sandbox)),
            None if !self.applied.contains_key(&ns) => return Ok(()),
            None => {}
        }
        let errors = self.reconcile(Some(&touched));
        self.refresh_tables();
        NetError::collect(errors)
    }

    /// Namespaces that a container's coming or going changes.
    pub(super) fn touched(&self, sandbox: &Sandbox) -> BTreeSet<Ns> {
        let mut touched = BTreeSet::from([ns_of(&sandbox.request.container_id), Ns::Host]);
        let overlays = sandbox.endpoints.iter().filter(|e| e.is_overlay());
        touched.extend(overlays.map(|e| Ns::of_overlay(&e.network_id)));
        touched
    }

    /// A port of 127.0.0.11 with both its sockets.
    pub(super) fn sockets(&self, ns: &Ns, port: u16) -> Result<(u16, Sockets), NetError> {
        // an address of the loopback device can be bound only while that is up
        let lo = Link { kind: LinkKind::Given, mtu: None, mac: None, master: None, mode: PortMode::Usual };
        self.host.apply(ns, &[Step::SetLink("lo".to_owned(), lo)]).into_iter().collect::<Result<(), _>>()?;
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let udp = self.host.udp_socket(ns, SocketAddr::from((DNS_ADDR, port)))?;
            let bound = udp.local_addr().map_err(|e| NetError::host("bind resolver in", ns.to_string(), e))?.port();
            match self.host.tcp_listener(ns, SocketAddr::from((DNS_ADDR, bound))) {
                Ok(tcp) => return Ok((bound, Sockets { udp, tcp })),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| NetError::Invalid("no port for the resolver".to_owned())))
    }

    /// Serves the containers that have no resolver though they should: those that were alive when the daemon started, and those
    /// whose port was still taken then. Returns whether there were any.
    pub(super) fn restart_resolvers(&mut self) -> bool {
        let without =
            |(id, s): (&String, &Sandbox)| Some((id.clone(), s.resolver.filter(|_| !self.resolvers.contains_key(id))?));
        let missing: Vec<(String, u16)> = self.sandboxes.iter().filter_map(without).collect();
        for (id, port) in &missing {
            let started = self.sockets(&ns_of(id), *port).and_then(|(_, sockets)| {
                Resolver::start(sockets, self.table(&self.sandboxes[id]), &self.runtime)
                    .map_err(|e| NetError::host("start resolver of", id.clone(), e))
            });
            match started {
                Ok(resolver) => {
                    self.resolvers.insert(id.clone(), resolver);
                }
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "container has no resolver yet"),
            }
        }
        !missing.is_empty()
    }

    fn endpoints(&mut self, request: &SandboxRequest) -> Result<Vec<SandboxEndpoint>, NetError> {
        let mut out: Vec<SandboxEndpoint> = Vec::new();
        let mut way_out = request.ingress_address.is_some();
        let mut bridged = false;
        for wanted in &request.networks {
            let endpoint = match self.overlay_endpoint(request, wanted, out.len())? {
                Some((endpoint, internal)) => {
                    way_out |= !internal;
                    endpoint
                }
                None => {
                    let network = self.find(&wanted.network)?.clone();
                    bridged |= !network.spec.internal;
                    self.local_endpoint(request, &network, wanted, out.len())?
                }
            };
            if out.iter().any(|e| e.network_id == endpoint.network_id) {
                return Err(NetError::Invalid(format!("network {} is named twice", endpoint.network_name)));
            }
            out.push(endpoint);
        }
        // on a bridge of its own and without a port in the mesh a container leaves by that bridge
        if way_out && (!bridged || request.ingress_address.is_some()) {
            let gateway = self.gwbridge()?;
            let wanted = NetworkRequest::default();
            out.push(self.local_endpoint(request, &gateway, &wanted, out.len())?);
        }
        self.route(&mut out);
        Ok(out)
    }

    /// An overlay network as the managers tell of it.
    pub(super) fn overlay_view(&self, id: &str) -> Option<&OverlayView> {
        self.member.as_ref()?.plane.networks.iter().find(|n| n.id.to_string() == id).map(|v| &**v)
    }

    /// An interface on an overlay network, and whether that is internal; `None` if the managers told of no such network.
    pub(super) fn overlay_endpoint(
        &self,
        request: &SandboxRequest,
        wanted: &NetworkRequest,
        index: usize,
    ) -> Result<Option<(SandboxEndpoint, bool)>, NetError> {
        let Some(member) = &self.member else { return Ok(None) };
        // By its id alone: a network of this host may have the same name.
        let Some(view) = self.overlay_view(&wanted.network) else { return Ok(None) };
        let missing = || NetError::Invalid(format!("no address was given for network {}", view.name));
        let address = wanted.address.ok_or_else(missing)?;
        if !view.subnet.contains(address) {
            return Err(NetError::OutsideSubnet(address.into()));
        }
        let subnet = Ipv4Net::new(address, view.subnet.prefix);
        let mtu = member.overlay_mtu(view);
        let mut endpoint = endpoint(request, index, subnet, mtu, wanted)?;
        endpoint.network_id = view.id.to_string();
        endpoint.network_name.clone_from(&view.name);
        if !self.by_bridge(&endpoint.network_id) {
            endpoint.veth.clear();
        }
        endpoint.gateway = Some(view.gateway);
        let pairing = member.pairing(view).filter(|_| self.ipv6);
        endpoint.net6 = pairing.and_then(|p| Some(Ipv6Net::new(p.six(address)?, p.v6.subnet.prefix)));
        endpoint.gateway6 = pairing.map(|p| p.v6.gateway);
        if let Some(other) = wanted.address6.filter(|a| endpoint.net6.is_none_or(|n| n.addr != *a)) {
            return Err(NetError::OutsideSubnet(other.into()));
        }
        Ok(Some((endpoint, view.internal)))
    }

    /// Whether containers are on an overlay network by pairs and a bridge: those that are there are, or the kernel knows no other way.
    fn by_bridge(&self, network_id: &str) -> bool {
        let mut there = self.sandboxes.values().flat_map(|s| &s.endpoints).filter(|e| e.network_id == network_id);
        there.next().map_or_else(|| !self.host.features().macvlan, |e| !e.veth.is_empty())
    }

    pub(super) fn local_endpoint(
        &self,
        request: &SandboxRequest,
        network: &LocalNetwork,
        wanted: &NetworkRequest,
        index: usize,
    ) -> Result<SandboxEndpoint, NetError> {
        network.takes_containers()?;
        let (Some(subnet), Some(gateway)) = (network.subnet, network.gateway) else {
            return Err(NetError::Invalid(format!("cannot connect a container to network {}", network.name)));
        };
        let on = self.sandboxes.values().flat_map(|s| &s.endpoints).filter(|e| e.network_id == network.id);
        let taken6: BTreeSet<Ipv6Addr> = on.clone().filter_map(|e| e.net6.map(|n| n.addr)).collect();
        let mut taken: BTreeSet<Ipv4Addr> = on.map(|e| e.address).collect();
        taken.insert(gateway);
        taken.extend(network.spec.auxiliary.values().filter(|a| wanted.address != Some(**a)));
        let range = network.spec.ip_range.unwrap_or(subnet);
        let address = ipam::address(subnet, range, &taken, wanted.address)?;
        let net = Ipv4Net::new(address, subnet.prefix);
        // A share of a link carries what that does, unless it is told otherwise.
        let mtu =
            if network.shared.is_some() { options::mtu(&network.spec.options).unwrap_or(0) } else { self.mtu_of(network) };
        let mut endpoint = endpoint(request, index, net, mtu, wanted)?;
        endpoint.network_id.clone_from(&network.id);
        endpoint.network_name.clone_from(&network.name);
        endpoint.share = network.shared.as_ref().map(|s| (s.link.clone(), s.kind));
        match endpoint.share {
            Some(_) => endpoint.veth.clear(),
            None => endpoint.bridge.clone_from(&network.link),
        }
        endpoint.gateway = Some(gateway);
        match network.v6.filter(|_| self.ipv6) {
            Some(v6) => {
                let taken6: BTreeSet<Ipv6Addr> = taken6.into_iter().chain([v6.gateway]).collect();
                let address = ipam::address6(v6.subnet, &taken6, wanted.address6)?;
                endpoint.net6 = Some(Ipv6Net::new(address, v6.subnet.prefix));
                endpoint.gateway6 = Some(v6.gateway).filter(|_| !network.spec.internal);
            }
            None => {
                if let Some(other) = wanted.address6 {
                    return Err(NetError::OutsideSubnet(other.into()));
                }
            }
        }
        Ok(endpoint)
    }
}

fn endpoint(
    request: &SandboxRequest,
    index: usize,
    net: Ipv4Net,
    mtu: u32,
    wanted: &NetworkRequest,
) -> Result<SandboxEndpoint, NetError> {
    // the outer end's name has room for one character beside the container's short id
    let digit = u32::try_from(index).ok().and_then(|n| char::from_digit(n, 36));
    let digit = digit.ok_or_else(|| NetError::Invalid("a container can join 36 networks at most".to_owned()))?;
    let short: String = request.container_id.chars().take(12).collect();
    Ok(SandboxEndpoint {
        network_id: String::new(),
        network_name: String::new(),
        endpoint_id: new_id()?,
        ifname: format!("eth{index}"),
        veth: format!("v{digit}{short}"),
        bridge: String::new(),
        share: None,
        mac: Mac::of(net.addr),
        address: net.addr,
        prefix: net.prefix,
        gateway: None,
        default_route: false,
        mtu,
        aliases: wanted.aliases.clone(),
        net6: None,
        gateway6: None,
    })
}

/// As in Docker, containers on nothing but the default bridge ask the host's resolvers directly.
pub(super) fn wants_resolver(sandbox: &Sandbox) -> bool {
    sandbox.endpoints.iter().any(|e| e.network_name != BRIDGE && e.network_name != GWBRIDGE)
}
