//! A container's place in the network: from its configuration to the network manager's request, and back to what is shown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::container::{CreateContainer, EndpointInfo, NetworkJoin, PortMap};

use super::{Container, Record, shared};
use crate::Engine;
use crate::error::{Code, EngineError, Result, invalid};
use crate::net::{self, DnsOptions, NetError, NetworkRequest, Sandbox, SandboxRequest};

/// The bridge that containers join unless told otherwise.
const DEFAULT: &str = "bridge";
/// The way out of overlay networks; an endpoint there is not shown as a network of the container.
const GWBRIDGE: &str = "docker_gwbridge";

/// Docker's classes for errors of networks.
impl From<NetError> for EngineError {
    fn from(error: NetError) -> Self {
        let code = match &error {
            NetError::NotFound(_) | NetError::NoConfiguration(_) => Code::NotFound,
            NetError::Ambiguous(_) | NetError::OutsideSubnet(_) | NetError::Invalid(_) => Code::InvalidArgument,
            NetError::Exists(_) => Code::Conflict,
            NetError::Connected { .. }
            | NetError::InUse(_)
            | NetError::Predefined(_)
            | NetError::Forbidden(_)
            | NetError::Overlaps
            | NetError::AddressTaken => Code::PermissionDenied,
            NetError::Host { .. }
            | NetError::PoolsFull
            | NetError::AddressesFull(_)
            | NetError::PortTaken { .. }
            | NetError::PortBusy { .. }
            | NetError::Many(_) => Code::Internal,
        };
        let mut message = error.to_string();
        if let NetError::Host { cause, .. } = &error {
            message = format!("{message}: {cause}");
        }
        Self::new(code, message)
    }
}

/// The name that `--network` means.
pub(super) fn mode(given: &str) -> &str {
    match given {
        "" | "default" => DEFAULT,
        other => other,
    }
}

impl Engine {
    /// Refuses networks that do not exist, before anything is made.
    pub(super) fn check_networks(&self, request: &CreateContainer) -> Result<()> {
        let mode = mode(&request.host.network_mode);
        if shared::target(mode).is_some() {
            return shared::check(request);
        }
        if matches!(mode, "host" | "none") {
            if !request.host.ports.is_empty() && mode == "none" {
                return Err(invalid("conflicting options: port publishing and the none type network mode"));
            }
            return Ok(());
        }
        Ok(())
    }

    /// Gives a container its namespace; `None` when it uses the host's.
    pub(super) async fn join_networks(&self, container: &Container, record: &Record) -> Result<Option<Sandbox>> {
        let info = &record.info;
        let mode = mode(&info.host.network_mode);
        if mode == "host" || shared::target(mode).is_some() {
            return Ok(None);
        }
        let mut joins = record.networks.clone();
        let known = |n: &NetworkJoin| self::mode(&n.network) == mode;
        if mode != "none"
            && !record.explicit
            && !joins.iter().any(known)
            && (joins.is_empty() || !info.host.network_mode.is_empty())
        {
            joins.insert(0, NetworkJoin { network: mode.to_owned(), ..NetworkJoin::default() });
        }
        let mut networks = Vec::with_capacity(joins.len());
        for join in &joins {
            networks.push(self.place(container, record, join).await?);
        }
        let hostname =
            if info.config.hostname.is_empty() { container.id[..12].to_owned() } else { info.config.hostname.clone() };
        let request = SandboxRequest {
            container_id: container.id.clone(),
            name: info.name.clone(),
            hostname,
            networks,
            ingress_address: record.ingress_address,
            ingress_ports: record.ingress_ports.clone(),
            ports: info.host.ports.iter().map(port_request).collect(),
            dns: DnsOptions {
                servers: info.host.dns.iter().filter_map(|s| s.parse().ok()).collect(),
                search: info.host.dns_search.clone(),
                options: info.host.dns_options.clone(),
            },
        };
        Ok(Some(self.net.attach(request).await?))
    }
}

pub(crate) fn request_of(join: &NetworkJoin) -> NetworkRequest {
    NetworkRequest {
        network: mode(&join.network).to_owned(),
        address: join.address,
        aliases: join.aliases.clone(),
        address6: join.address6,
    }
}

fn port_request(port: &PortMap) -> net::PortMap {
    net::PortMap {
        protocol: port.protocol,
        host_ip: port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        both: port.host_ip.is_none(),
        host_port: port.host_port,
        host_port_end: port.host_port_end,
        container_port: port.container_port,
    }
}

/// Published ports with the chosen numbers.
pub(super) fn ports(sandbox: &Sandbox) -> Vec<PortMap> {
    let shown = |p: &net::PortMap| {
        let one = |host_ip| PortMap {
            protocol: p.protocol,
            container_port: p.container_port,
            host_ip: Some(host_ip).filter(|ip| *ip != IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            host_port: p.host_port,
            host_port_end: 0,
        };
        [one(p.host_ip)].into_iter().chain(p.both.then(|| one(Ipv6Addr::UNSPECIFIED.into())))
    };
    sandbox.ports.iter().flat_map(shown).collect()
}

/// Addresses for /etc/hosts: those on the networks that the user named.
pub(super) fn own_addresses(sandbox: &Sandbox) -> Vec<IpAddr> {
    sandbox.endpoints.iter().filter(|e| e.network_name != GWBRIDGE).flat_map(net::SandboxEndpoint::addresses).collect()
}

/// Networks as `inspect` shows them.
pub(super) fn endpoint_infos(sandbox: &Sandbox) -> Vec<EndpointInfo> {
    let shown = |e: &net::SandboxEndpoint| EndpointInfo {
        network: e.network_name.clone(),
        network_id: e.network_id.clone(),
        endpoint_id: e.endpoint_id.clone(),
        mac: e.mac.to_string(),
        address: Some(e.address),
        prefix: e.prefix,
        gateway: e.gateway,
        aliases: e.aliases.clone(),
        address6: e.net6,
        gateway6: e.gateway6,
    };
    sandbox.endpoints.iter().filter(|e| e.network_name != GWBRIDGE).map(shown).collect()
}
