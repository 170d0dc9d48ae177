//! Choosing and reserving ports of the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use skep_netplan::Ns;
use skep_types::spec::Protocol;

use super::core::Core;
use super::{NetError, PortMap, Sandbox, options};

/// Ports that the manager chooses from (the host's own dynamic range in Linux' default set-up, as Docker does).
const DYNAMIC: RangeInclusive<u16> = 32_768..=60_999;

/// Addresses of the host that a port is answered at.
fn at(map: &PortMap) -> impl Iterator<Item = IpAddr> + use<> {
    [map.host_ip].into_iter().chain(map.both.then_some(Ipv6Addr::UNSPECIFIED.into()))
}

fn clash(a: &PortMap, b: &PortMap) -> bool {
    let meet = |a: IpAddr, b: IpAddr| a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified());
    let same = a.protocol == b.protocol && a.host_port == b.host_port;
    same && at(a).any(|a| at(b).any(|b| meet(a, b)))
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

    /// The ports that a container wants, each at the address that its network binds to unless it names one. What every address of
    /// IPv6 would answer is left out for a container that has none, if IPv4 answers it.
    pub(super) fn bound(&self, sandbox: &Sandbox) -> Result<Vec<PortMap>, NetError> {
        let way = sandbox.endpoints.iter().find(|e| e.default_route).and_then(|e| self.networks.get(&e.network_id));
        let binding = way.and_then(|n| options::binding(&n.spec.options));
        let six = sandbox.outside6().is_some_and(|e| !e.bridge.is_empty());
        let mut out = Vec::new();
        for map in &sandbox.request.ports {
            let any = map.host_ip == IpAddr::from(Ipv4Addr::UNSPECIFIED);
            match binding {
                Some(host_ip) if any => out.push(PortMap { host_ip: host_ip.into(), both: false, ..*map }),
                _ if map.host_ip.is_ipv4() => out.push(PortMap { both: map.both && six, ..*map }),
                _ if six => out.push(*map),
                _ => {
                    let twin = |o: &&PortMap| (o.protocol, o.container_port) == (map.protocol, map.container_port);
                    let answered = sandbox.request.ports.iter().filter(twin).any(|o| o.host_ip.is_ipv4());
                    if !map.host_ip.is_unspecified() || !answered {
                        return Err(NetError::Invalid(format!(
                            "cannot publish port {} at {}: the container has no IPv6 address; join it to a network with --ipv6",
                            map.container_port, map.host_ip
                        )));
                    }
                }
            }
        }
        Ok(out)
    }

    fn mesh_ports(&self) -> impl Iterator<Item = PortMap> {
        let view = self.member.as_ref().and_then(|m| m.plane.ingress.as_ref());
        let both = self.ipv6 && view.is_some_and(|v| v.pairing.is_some());
        view.into_iter().flat_map(|v| &v.ports).map(move |p| PortMap {
            protocol: p.protocol,
            host_ip: p.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED).into(),
            both: both && p.host_ip.is_none(),
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
        // One for every address of IPv6 is one for every address of IPv4, too.
        let host_ip = if map.both { Ipv6Addr::UNSPECIFIED.into() } else { map.host_ip };
        let addr = SocketAddr::new(host_ip, map.host_port);
        let refused = match map.protocol {
            Protocol::Tcp => self.host.tcp_listener(&Ns::Host, addr).err(),
            Protocol::Udp => self.host.udp_socket(&Ns::Host, addr).err(),
            Protocol::Sctp => self.host.try_sctp(&Ns::Host, addr).err(),
        };
        // other reasons (no such address on this host yet, a kernel without SCTP) are no reason to refuse
        matches!(refused, Some(NetError::Host { cause, .. }) if cause.kind() == std::io::ErrorKind::AddrInUse)
    }
}
