//! Networks that a running container joins and leaves.

use std::collections::BTreeSet;

use skep_netplan::Ns;

use super::core::{Core, GWBRIDGE, ns_of};
use super::sandbox::wants_resolver;
use super::{NetError, NetworkRequest, Sandbox, SandboxEndpoint};
use crate::dns::Resolver;

/// The number of an interface that a container does not have yet.
fn free_index(sandbox: &Sandbox) -> usize {
    let used: BTreeSet<&str> = sandbox.endpoints.iter().map(|e| e.ifname.as_str()).collect();
    (0..).find(|n| !used.contains(format!("eth{n}").as_str())).unwrap_or_default()
}

impl Core {
    /// Gives a running container one more interface, or changes nothing.
    pub(super) fn connect(&mut self, id: &str, wanted: &NetworkRequest) -> Result<Sandbox, NetError> {
        let before = self.sandboxes.get(id).cloned().ok_or_else(|| NetError::NotFound(format!("of container {id}")))?;
        let mut sandbox = before.clone();
        let index = free_index(&sandbox);
        let endpoint = match self.overlay_endpoint(&before.request, wanted, index)? {
            Some((endpoint, _)) => endpoint,
            None => {
                let network = self.find(&wanted.network)?.clone();
                self.local_endpoint(&before.request, &network, wanted, index)?
            }
        };
        if before.endpoints.iter().any(|e| e.network_id == endpoint.network_id) {
            return Err(NetError::Connected { container: before.request.name, network: endpoint.network_name });
        }
        sandbox.endpoints.push(endpoint);
        sandbox.request.networks.push(wanted.clone());
        self.way_out(&mut sandbox)?;
        self.route(&mut sandbox.endpoints);
        match self.renew(sandbox) {
            Ok(sandbox) => Ok(sandbox),
            Err(e) => {
                // The first error is the one to tell; what is left over is logged by the pass inside.
                let _ = self.renew(before);
                Err(e)
            }
        }
    }

    /// Takes an interface of a running container away.
    pub(super) fn disconnect(&mut self, id: &str, network: &str) -> Result<Sandbox, NetError> {
        let mut sandbox = self.sandboxes.get(id).cloned().ok_or_else(|| NetError::NotFound(format!("of container {id}")))?;
        let named = |e: &SandboxEndpoint| e.network_id == network || e.network_name == network;
        if !sandbox.endpoints.iter().any(named) {
            return Err(NetError::NotFound(network.to_owned()));
        }
        sandbox.request.networks.retain(|n| n.network != network);
        sandbox.endpoints.retain(|e| !named(e));
        self.way_out(&mut sandbox)?;
        self.route(&mut sandbox.endpoints);
        self.renew(sandbox)
    }

    /// A container on an overlay network that is not internal leaves by a bridge made for that, unless it is on another bridge; one
    /// that needs it no more loses it.
    fn way_out(&mut self, sandbox: &mut Sandbox) -> Result<(), NetError> {
        let internal = |e: &SandboxEndpoint| match e.is_overlay() {
            true => self.overlay_view(&e.network_id).is_none_or(|v| v.internal),
            false => self.networks.get(&e.network_id).is_none_or(|n| n.spec.internal),
        };
        let gate = |e: &SandboxEndpoint| e.network_name == GWBRIDGE && !e.bridge.is_empty();
        let (mut overlay, mut bridged) = (sandbox.request.ingress_address.is_some(), false);
        for e in sandbox.endpoints.iter().filter(|e| !gate(e) && !internal(e)) {
            overlay |= e.is_overlay();
            bridged |= !e.is_overlay();
        }
        let stands = sandbox.endpoints.iter().any(gate);
        let needed = sandbox.request.ingress_address.is_some() || (overlay && !bridged);
        if needed && !stands {
            let gateway = self.gwbridge()?;
            let index = free_index(sandbox);
            sandbox.endpoints.push(self.local_endpoint(&sandbox.request, &gateway, &NetworkRequest::default(), index)?);
        } else if !overlay && stands && sandbox.ports.is_empty() {
            sandbox.endpoints.retain(|e| !gate(e));
        }
        Ok(())
    }

    /// The default route leaves by the way out of overlay networks, else by the first bridge that is not internal; one that stands
    /// stays.
    pub(super) fn route(&self, endpoints: &mut [SandboxEndpoint]) {
        if endpoints.iter().any(|e| e.default_route) {
            return;
        }
        let internal = |e: &SandboxEndpoint| self.networks.get(&e.network_id).is_none_or(|n| n.spec.internal);
        let gate = endpoints.iter().position(|e| e.network_name == GWBRIDGE && !e.bridge.is_empty());
        if let Some(index) = gate.or_else(|| endpoints.iter().position(|e| !e.is_overlay() && !internal(e))) {
            endpoints[index].default_route = true;
        }
    }

    /// Makes a running container's namespace as this sandbox says.
    fn renew(&mut self, mut sandbox: Sandbox) -> Result<Sandbox, NetError> {
        let id = sandbox.request.container_id.clone();
        let ns = ns_of(&id);
        let mut sockets = None;
        if sandbox.resolver.is_none() && wants_resolver(&sandbox) {
            let (port, made) = self.sockets(&ns, 0)?;
            sandbox.resolver = Some(port);
            sockets = Some(made);
        }
        let mut touched: BTreeSet<Ns> = self.touched(&sandbox);
        if let Some(before) = self.sandboxes.insert(id.clone(), sandbox.clone()) {
            touched.extend(self.touched(&before));
        }
        let errors = self.reconcile(Some(&touched));
        let facts = self.facts();
        if !self.settled(&ns, &facts) {
            return NetError::collect(errors).map(|()| sandbox);
        }
        if let Some(sockets) = sockets {
            let started = Resolver::start(sockets, self.table(&sandbox), &self.runtime);
            let resolver = started.map_err(|e| NetError::host("start resolver of", id.clone(), e))?;
            self.resolvers.insert(id, resolver);
        }
        self.refresh_tables();
        Ok(sandbox)
    }
}
