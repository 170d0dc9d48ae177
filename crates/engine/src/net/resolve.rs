//! What each container's resolver knows, from the containers of this host and the managers' word.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use skep_types::dataplane::OverlayView;
use skep_types::net::Pairing;

use super::core::{Core, GWBRIDGE};
use super::{Sandbox, SandboxEndpoint};
use crate::dns::{NetNames, Table};

impl Core {
    /// Gives every resolver its table anew.
    pub(super) fn refresh_tables(&self) {
        for (id, resolver) in &self.resolvers {
            if let Some(sandbox) = self.sandboxes.get(id) {
                resolver.set(self.table(sandbox));
            }
        }
    }

    /// What a container can resolve.
    pub(super) fn table(&self, sandbox: &Sandbox) -> Table {
        let joined = sandbox.endpoints.iter().filter(|e| e.network_name != GWBRIDGE || e.is_overlay());
        Table {
            networks: joined.map(|e| self.names(e)).collect(),
            upstream: self.upstream(sandbox),
            forward: sandbox.endpoints.iter().any(|e| e.default_route),
        }
    }

    fn names(&self, endpoint: &SandboxEndpoint) -> NetNames {
        let mut names = NetNames { network: endpoint.network_name.clone(), ..NetNames::default() };
        let view = self
            .member
            .as_ref()
            .filter(|_| endpoint.is_overlay())
            .and_then(|m| m.plane.networks.iter().find(|n| n.id.to_string() == endpoint.network_id));
        if let Some(view) = view {
            let pairing = self.member.as_ref().filter(|_| self.ipv6).and_then(|m| m.pairing(view));
            swarm_names(view, pairing, &mut names);
        }
        // A task's alias is its service's name or alias, which the managers' word answers for all of its tasks.
        let services = view.map(|v| v.services.as_slice()).unwrap_or_default();
        let of_service = |name: &str| services.iter().any(|s| s.name == name || s.aliases.iter().any(|a| a == name));
        for sandbox in self.sandboxes.values() {
            let on = sandbox.endpoints.iter().filter(|e| e.network_id == endpoint.network_id);
            for e in on {
                let short: String = sandbox.request.container_id.chars().take(12).collect();
                let own = [&sandbox.request.name, &short, &sandbox.request.hostname];
                for name in own.into_iter().chain(&e.aliases).filter(|n| !of_service(n)) {
                    names.add(name, e.addresses());
                }
                for address in e.addresses() {
                    names.reverse.entry(address).or_insert_with(|| sandbox.request.name.clone());
                }
            }
        }
        names
    }

    fn upstream(&self, sandbox: &Sandbox) -> Vec<SocketAddr> {
        let wanted = &sandbox.request.dns.servers;
        if !wanted.is_empty() {
            return wanted.iter().map(|ip| SocketAddr::from((*ip, 53))).collect();
        }
        // read each time: the host may have moved to another network meanwhile
        let text = fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        servers.filter_map(|s| s.trim().parse::<std::net::IpAddr>().ok()).map(|ip| SocketAddr::from((ip, 53))).collect()
    }
}

fn swarm_names(view: &OverlayView, pairing: Option<&Pairing>, names: &mut NetNames) {
    let both = |addr: Ipv4Addr| {
        let six = pairing.and_then(|p| p.six(addr)).map(IpAddr::from);
        [IpAddr::from(addr)].into_iter().chain(six)
    };
    for service in &view.services {
        let own = [&service.name].into_iter().chain(&service.aliases);
        for name in own {
            let answer: Vec<Ipv4Addr> = service.vip.map_or_else(|| service.backends.clone(), |vip| vec![vip]);
            names.add(name, answer.into_iter().flat_map(both));
            names.add(&format!("tasks.{name}"), service.backends.iter().copied().flat_map(both));
        }
        for (port, protocol, number) in &service.ports {
            let full = |name: &String| format!("_{port}._{}.{name}", protocol.as_str()).to_ascii_lowercase();
            let all = || service.backends.iter().copied().collect();
            let own = [&service.name].into_iter().chain(&service.aliases);
            names.services.extend(own.map(|name| (full(name), (*number, all()))));
        }
        if let Some(vip) = service.vip {
            names.reverse.extend(both(vip).map(|addr| (addr, service.name.clone())));
        }
    }
    let of_service = |name: &str| view.services.iter().any(|s| s.name == name || s.aliases.iter().any(|a| a == name));
    for endpoint in &view.endpoints {
        let own = [&endpoint.task_name].into_iter().chain(&endpoint.aliases);
        own.filter(|n| !of_service(n)).for_each(|n| names.add(n, both(endpoint.addr)));
        if let Some(container) = &endpoint.container {
            let short: String = container.chars().take(12).collect();
            names.add(&short, both(endpoint.addr));
        }
        names.reverse.extend(both(endpoint.addr).map(|addr| (addr, endpoint.task_name.clone())));
    }
}
