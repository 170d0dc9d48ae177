//! Choosing and reserving ports of the host.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

use skep_netplan::Ns;
use skep_types::spec::Protocol;

use super::core::Core;
use super::{NetError, PortMap, Sandbox, options};

/// Ports that the manager chooses from (the host's own dynamic range in Linux' default set-up, as Docker does).
const DYNAMIC: RangeInclusive<u16> = 32_768..=60_999;

fn clash(a: &PortMap, b: &PortMap) -> bool {
    let same = a.protocol == b.protocol && a.host_port == b.host_port;
    same && (a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified())
}

impl Core {
    /// Gives each map its port, or says who has it.
    pub(super) fn reserve(&self, wanted: &[PortMap]) -> Result<Vec<PortMap>, NetError> {
        let mut taken: Vec<PortMap> = self.sandboxes.values().flat_map(|s| s.ports.iter().copied()).collect();
        taken.extend(self.mesh_ports());
        let none = || NetError::Invalid("all dynamic host ports are in use".to_owned());
        let mut out = Vec::new();
        for map in wanted {
            let range = map.host_port..=map.host_port_end;
            let map = match map.host_port {
                0 => self.choose(map, DYNAMIC, &taken).ok_or_else(none)?,
                _ if range.is_empty() => self.check(map, &taken)?,
                // The error of the first one tells why, as much as any.
                _ => self.choose(map, range, &taken).map_or_else(|| self.check(map, &taken), Ok)?,
            };
            taken.push(map);
            out.push(map);
        }
        Ok(out)
    }

    /// The ports that a container wants, each at the address that its network binds to unless it names one.
    pub(super) fn bound(&self, sandbox: &Sandbox) -> Vec<PortMap> {
        let way = sandbox.endpoints.iter().find(|e| e.default_route).and_then(|e| self.networks.get(&e.network_id));
        let binding = way.and_then(|n| options::binding(&n.spec.options));
        let at = |map: &PortMap| match binding {
            Some(host_ip) if map.host_ip.is_unspecified() => PortMap { host_ip, ..*map },
            _ => *map,
        };
        sandbox.request.ports.iter().map(at).collect()
    }

    fn mesh_ports(&self) -> impl Iterator<Item = PortMap> {
        let view = self.member.as_ref().and_then(|m| m.plane.ingress.as_ref());
        view.into_iter().flat_map(|v| &v.ports).map(|p| PortMap {
            protocol: p.protocol,
            host_ip: p.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
            host_port: p.published,
            host_port_end: 0,
            container_port: p.target,
        })
    }

    fn check(&self, map: &PortMap, taken: &[PortMap]) -> Result<PortMap, NetError> {
        if taken.iter().any(|other| clash(map, other)) {
            return Err(NetError::PortTaken { ip: map.host_ip, port: map.host_port });
        }
        if self.busy(map) {
            let proto = map.protocol.as_str();
            return Err(NetError::PortBusy { ip: map.host_ip, port: map.host_port, proto });
        }
        Ok(*map)
    }

    /// The first free port of a range.
    fn choose(&self, map: &PortMap, mut range: RangeInclusive<u16>, taken: &[PortMap]) -> Option<PortMap> {
        let with = |host_port| PortMap { host_port, host_port_end: 0, ..*map };
        let free = |map: &PortMap| !taken.iter().any(|other| clash(map, other)) && !self.busy(map);
        range.by_ref().map(with).find(free)
    }

    /// Whether a process of the host has the port: translation would silently take its traffic.
    fn busy(&self, map: &PortMap) -> bool {
        let addr = SocketAddrV4::new(map.host_ip, map.host_port);
        let refused = match map.protocol {
            Protocol::Tcp => self.host.tcp_listener(&Ns::Host, addr).err(),
            Protocol::Udp => self.host.udp_socket(&Ns::Host, addr).err(),
        };
        // other reasons (no such address on this host yet) are no reason to refuse
        matches!(refused, Some(NetError::Host { cause, .. }) if cause.kind() == std::io::ErrorKind::AddrInUse)
    }
}
