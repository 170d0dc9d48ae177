//! Differences of thousands of generated swarms: equal states need nothing, and steps lead from any state to any other.

use std::net::{Ipv4Addr, Ipv6Addr};

use skep_types::dataplane::{
    DataPlane, IngressBackend, IngressPort, IngressView, OverlayEndpoint, OverlayView, Peer, ServiceView, View,
};
use skep_types::net::{Pairing, V6Range};
use skep_types::spec::Protocol;
use skep_types::{Ipv4Net, Ipv6Net, NetworkId, NodeId};

use super::*;
use crate::facts::{Attach, Bridge, Container, Endpoint, Facts, Member, Published};
use crate::nft::rule::TCP;
use crate::nft::{Datum, Field};
use crate::state::Ns;
use crate::version::Version;
use crate::{host, overlay, sandbox};

/// A small generator (SplitMix64): the same cases on every run.
pub(crate) struct Gen(pub(crate) u64);

impl Gen {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn byte(&mut self, n: u8) -> u8 {
        u8::try_from(self.below(u64::from(n))).unwrap_or(0)
    }
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// One that follows from a number.
fn protocol(n: u16) -> Protocol {
    PROTOCOLS[usize::from(n % 3)]
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("valid")
}

fn net6(text: &str) -> Ipv6Net {
    text.parse().expect("valid")
}

/// A network has both families.
fn pairing(v4: Ipv4Net, v6: &str) -> Pairing {
    let subnet = net6(v6);
    let gateway = subnet.nth(1).expect("inside");
    Pairing { v4, gateway: v4.nth(1).expect("inside"), v6: V6Range { subnet, gateway } }
}

pub(crate) fn facts(g: &mut Gen) -> Facts {
    let (dual, dual_mesh, dual_bridge) = (g.below(2) > 0, g.below(2) > 0, g.below(2) > 0);
    let nodes = 1 + g.byte(4);
    let tasks: Vec<(u8, u8)> = (10..10 + g.byte(8)).map(|t| (t, 1 + g.byte(nodes))).collect();
    let taking: Vec<(u8, u8)> = tasks.iter().filter(|_| g.below(3) > 0).copied().collect();
    let node = |n: u8| NodeId(u128::from(n));
    let ingress = |n: u8| Ipv4Addr::new(10, 255, 0, n);
    let plane = DataPlane {
        node: Some(node(1)),
        addr: Some(Ipv4Addr::new(192, 168, 0, 1)),
        ingress_addr: Some(ingress(1)),
        data_path_port: 4789,
        peers: (2..=nodes)
            .map(|n| {
                let ipv6 = (n != 3).then(|| vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n))]);
                Peer { node: node(n), addr: Ipv4Addr::new(192, 168, 0, n), ingress_addr: ingress(n), wireguard: None, ipv6 }
            })
            .collect(),
        networks: vec![View::new(OverlayView {
            id: NetworkId(5),
            name: "n".to_owned(),
            vni: 4097,
            subnet: net("10.0.1.0/24"),
            gateway: Ipv4Addr::new(10, 0, 1, 1),
            internal: false,
            encrypted: false,
            mtu: None,
            endpoints: tasks
                .iter()
                .map(|(t, n)| OverlayEndpoint {
                    addr: Ipv4Addr::new(10, 0, 1, *t),
                    node: node(*n),
                    task_name: format!("t{t}"),
                    container: None,
                    aliases: Vec::new(),
                })
                .collect(),
            services: vec![ServiceView {
                name: "s".to_owned(),
                aliases: Vec::new(),
                vip: Some(Ipv4Addr::new(10, 0, 1, 2)),
                backends: taking.iter().map(|(t, _)| Ipv4Addr::new(10, 0, 1, *t)).collect(),
                ports: Vec::new(),
            }],
            pairing: dual.then(|| pairing(net("10.0.1.0/24"), "fd00:1::/64")),
        })],
        ingress: (g.below(4) > 0).then(|| {
            let published = 8000 + u16::from(g.byte(2));
            View::new(IngressView {
                vni: 4096,
                subnet: net("10.255.0.0/24"),
                ports: vec![IngressPort {
                    protocol: protocol(published),
                    published,
                    target: 80,
                    backends: taking
                        .iter()
                        .map(|(t, n)| IngressBackend { addr: ingress(*t), node: node(*n), task: None })
                        .collect(),
                    host_ip: (g.below(4) == 0).then_some(Ipv4Addr::new(192, 168, 0, 1)),
                    prefer_local: g.below(4) == 0,
                }],
                pairing: dual_mesh.then(|| pairing(net("10.255.0.0/24"), "fd00:ff::/64")),
            })
        }),
        ..DataPlane::default()
    };
    let own = Ipv4Addr::new(192, 168, 0, 1);
    let member = Member { node: node(1), addr: own, mtu: 1500, plane, drained: Default::default() };
    let bridge = |link: &str, gwbridge, third| Bridge {
        link: link.to_owned(),
        net: Ipv4Net::new(Ipv4Addr::new(172, third, 0, 1), 16),
        net6: dual_bridge.then(|| Ipv6Net::new(Ipv6Addr::new(0xfd00, 0x172, third.into(), 0, 0, 0, 0, 1), 64)),
        internal: false,
        masquerade: true,
        isolated: gwbridge,
        mtu: 1500,
        gwbridge,
    };
    let mut bridges = vec![bridge("gw", true, 18)];
    if g.below(2) > 0 {
        bridges.push(bridge("b", false, 19));
    }
    let local = tasks.iter().filter(|(_, n)| *n == 1);
    let bridged = g.below(3) == 0;
    let containers = local.map(|(t, _)| container(*t, g.below(3) == 0, dual, dual_bridge, bridged)).collect();
    let parents = match g.below(3) {
        0 => vec![crate::facts::Parent::Vlan { link: "eth0.7".to_owned(), of: "eth0".to_owned(), id: 7 }],
        1 => vec![crate::facts::Parent::Alone("dm-1".to_owned())],
        _ => Vec::new(),
    };
    Facts { member: (g.below(8) > 0).then_some(member), bridges, parents, containers, ipv6: g.below(4) > 0 }
}

fn container(t: u8, published: bool, dual: bool, dual_bridge: bool, bridged: bool) -> Container {
    let endpoint = |attach, index: u8, net, gateway| Endpoint {
        attach,
        ifname: format!("eth{index}"),
        veth: Some(format!("v{index}c{t}")),
        net,
        gateway,
        direct: false,
        mtu: 1450,
        net6: None,
        gateway6: None,
    };
    let outside = Ipv4Addr::new(172, 18, 0, t);
    let outside6 = Ipv6Addr::new(0xfd00, 0x172, 18, 0, 0, 0, 0, t.into());
    let port = Published {
        protocol: protocol(t.into()),
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        host_port: 9000 + u16::from(t),
        addr: outside.into(),
        port: 53,
    };
    let port6 = Published { host_ip: Ipv6Addr::UNSPECIFIED.into(), addr: outside6.into(), ..port };
    let mut inner = endpoint(Attach::Overlay(NetworkId(5).to_string()), 0, Ipv4Net::new(Ipv4Addr::new(10, 0, 1, t), 24), None);
    inner.veth = inner.veth.filter(|_| bridged);
    inner.net6 = dual.then(|| Ipv6Net::new(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, t.into()), 64));
    let gateway = Some(Ipv4Addr::new(172, 18, 0, 1));
    let mut outer = endpoint(Attach::Bridge("gw".to_owned()), 1, Ipv4Net::new(outside, 16), gateway);
    outer.net6 = dual_bridge.then(|| Ipv6Net::new(outside6, 64));
    outer.gateway6 = dual_bridge.then(|| Ipv6Addr::new(0xfd00, 0x172, 18, 0, 0, 0, 0, 1));
    Container {
        ns: Ns::Sandbox(format!("c{t}")),
        endpoints: vec![inner, outer],
        ports: if published { vec![port, port6] } else { Vec::new() },
        ingress: Some(Ipv4Addr::new(10, 255, 0, t)),
        ingress_ports: vec![(protocol(t.into()), 80)],
        dns_port: Some(4000),
    }
}

pub(crate) fn states(facts: &Facts) -> Vec<NetnsState> {
    let mut out = vec![host::host(facts)];
    out.push(overlay::overlay(facts, &NetworkId(5).to_string()).unwrap_or_default());
    out.push(facts.containers.first().map(|c| sandbox::sandbox(facts, c)).unwrap_or_default());
    out
}

#[test]
fn steps_lead_from_any_state_to_any_other_and_then_there_are_none() {
    let mut g = Gen(1);
    for _ in 0..2_000 {
        let (from, to) = (states(&facts(&mut g)), states(&facts(&mut g)));
        for (from, to) in from.iter().zip(&to) {
            assert_eq!(diff(to, to), []);
            let mut state = from.clone();
            for step in diff(from, to) {
                absorb(&mut state, &step);
            }
            assert_eq!(diff(&state, to), [], "from {from:#?}");
            assert_eq!(state.tables, to.tables);
            assert_eq!(state.links, to.links);
            assert_eq!(state.fdb, to.fdb);
        }
    }
}

/// The rules for a number of backends are there before a service has so many, but for each doubling.
#[test]
fn a_new_backend_changes_elements_only() {
    let mut g = Gen(1);
    let usable = |f: &Facts| {
        let services = f.member.as_ref().map(|m| m.plane.networks[0].services[0].backends.len());
        services.is_some_and(|n| n > 1 && !(n > 2 && n.is_power_of_two())) && !f.containers.is_empty()
    };
    for before in std::iter::repeat_with(|| facts(&mut g)).filter(usable).take(50) {
        let mut after = before.clone();
        let networks = &mut after.member.as_mut().expect("checked").plane.networks;
        networks[0] = networks[0].with(|n| {
            n.services[0].backends.pop();
        });
        let (one, two) = (&states(&before)[2], &states(&after)[2]);
        for (from, to) in [(one, two), (two, one)] {
            let of = |s: Step| if let Step::Nft(_, _, ops) = s { ops } else { panic!("{s:?}") };
            let ops: Vec<NftOp> = diff(from, to).into_iter().flat_map(of).collect();
            assert!(!ops.is_empty());
            let elements = |op: &NftOp| matches!(op, NftOp::AddElements(..) | NftOp::DelElements(..));
            assert!(ops.iter().all(elements), "{ops:?}");
        }
    }
}

/// The same number by each protocol is three ports, of the mesh and of a container alike, each with its own keys.
#[test]
fn a_number_is_a_port_of_each_protocol() {
    let mut g = Gen(17);
    let usable = |f: &Facts| {
        let port = f.member.as_ref().and_then(|m| m.plane.ingress.as_ref()).map(|i| i.ports[0].clone());
        !f.containers.is_empty() && port.is_some_and(|p| p.host_ip.is_none() && !p.prefer_local && p.backends.len() > 1)
    };
    let mut facts = std::iter::repeat_with(|| facts(&mut g)).find(usable).expect("one in a few");
    let plane = &mut facts.member.as_mut().expect("checked").plane;
    plane.ingress = plane.ingress.as_ref().map(|view| {
        view.with(|view| {
            let port = view.ports[0].clone();
            view.ports = PROTOCOLS.map(|protocol| IngressPort { protocol, published: 9999, ..port.clone() }).into();
        })
    });
    let (of, addr) = (&mut facts.containers[0], Ipv4Addr::new(172, 18, 0, 77).into());
    let any = Ipv4Addr::UNSPECIFIED.into();
    of.ports = PROTOCOLS.map(|protocol| Published { protocol, host_ip: any, host_port: 9998, addr, port: 53 }).into();
    of.ingress_ports = PROTOCOLS.map(|protocol| (protocol, 80)).into();
    let table = &states(&facts)[0].tables[&(Family::Ip, "skep".to_owned())];
    let keys = |set: &str, fields: &[Field]| -> Vec<String> {
        table.sets[set].elements.keys().map(|k| crate::nft::words::key(fields, k)).collect()
    };
    let port = [Field::Proto, Field::Port];
    assert_eq!(keys("pub", &port), ["tcp . 9999", "udp . 9999", "sctp . 9999"]);
    let own = keys("hostany", &port);
    assert_eq!(own.iter().filter(|k| k.ends_with(" . 9998")).collect::<Vec<_>>(), ["tcp . 9998", "udp . 9998", "sctp . 9998"]);
    let inside = facts.containers[0].ingress.expect("each has one");
    for name in ["tcp", "udp", "sctp"] {
        let local = keys("local", &[Field::Ipv4, Field::Proto, Field::Port]);
        assert!(local.contains(&format!("{inside} . {name} . 80")), "{local:?}");
        let backends = keys("pubbe", &[Field::Proto, Field::Port, Field::Mark]);
        assert!(backends.iter().any(|k| k.starts_with(&format!("{name} . 9999 . "))), "{backends:?}");
    }
}

/// Of a set of IPv4 the keys or values that are addresses, in the form of IPv6.
fn in_v6(pairing: &Pairing, addr: &[u8]) -> Vec<u8> {
    let addr = Ipv4Addr::from(addr_of::<4>(&addr[..4]));
    pairing.six(addr).expect("on the network").octets().to_vec()
}

#[test]
fn both_families_lead_to_the_same_tasks() {
    let mut g = Gen(11);
    let (mut inner, mut outer) = (0, 0);
    for _ in 0..500 {
        let facts = facts(&mut g);
        let states = states(&facts);
        let table = |n: usize, family| states[n].tables.get(&(family, "skep".to_owned()));
        let Some(member) = &facts.member else { continue };
        // Virtual addresses, inside of a container.
        let view = &member.plane.networks[0];
        let (four, six) = (table(2, Family::Ip), table(2, Family::Ip6));
        match (facts.pairing(view), four.filter(|t| t.sets.contains_key("count"))) {
            (Some(pairing), Some(four)) => {
                let six = six.expect("a table of IPv6");
                for set in ["count", "empty"] {
                    let wanted: Vec<_> = four.sets[set].elements.iter().map(|(k, v)| (in_v6(pairing, k), v.clone())).collect();
                    assert_eq!(six.sets[set].elements, wanted.into_iter().collect());
                }
                assert_eq!(six.sets["be"].elements.len(), four.sets["be"].elements.len());
                inner += 1;
            }
            _ => assert_eq!(six, None),
        }
        // Neighbours, and the mesh.
        let neighbours = |n: usize, v6: bool| states[n].neighbours.iter().filter(|(k, _)| k.1.is_ipv6() == v6).count();
        assert_eq!(neighbours(1, true), if facts.pairing(view).is_some() { neighbours(1, false) } else { 0 });
        assert_eq!(neighbours(0, true), if facts.mesh_pairing().is_some() { neighbours(0, false) } else { 0 });
        let published = |family| table(0, family).and_then(|t| t.sets.get("pubbe")).map_or(0, |s| s.elements.len());
        if let (Some(_), Some(mesh)) = (facts.mesh_pairing(), &member.plane.ingress) {
            // The third node has no IPv6, and without a bridge of IPv6 this one has none for its tasks either.
            let port = &mesh.ports[0];
            let bridge6 = facts.bridges[0].net6.is_some();
            let reached = |b: &&IngressBackend| if b.node == member.node { bridge6 } else { b.node != NodeId(3) };
            let own = port.prefer_local && bridge6 && port.backends.iter().any(|b| b.node == member.node);
            let count = port.backends.iter().filter(reached).filter(|b| !own || b.node == member.node).count();
            assert_eq!(published(Family::Ip6), if port.host_ip.is_some() { 0 } else { count });
            outer += usize::from(count > 0);
        } else {
            assert_eq!(published(Family::Ip6), 0);
        }
        let any = states.iter().any(|s| s.addresses.iter().any(|a| Version::of(a.net.addr) == Version::V6));
        assert!(facts.ipv6 || !any, "nothing of IPv6 without the kernel's");
    }
    assert!(inner > 50 && outer > 50, "{inner} and {outer} cases");
}

/// The bytes of a set's element.
fn addr_of<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("an address")
}

#[test]
fn every_other_entry_node_has_a_way_to_each_container() {
    let mut g = Gen(17);
    let (mut four, mut six) = (0, 0);
    for _ in 0..1_000 {
        let facts = facts(&mut g);
        let Some(member) = &facts.member else { continue };
        let states = states(&facts);
        for (family, size) in [(Family::Ip, 4), (Family::Ip6, 16)] {
            let table = states[0].tables.get(&(family, "skep".to_owned()));
            let Some(entries) = table.and_then(|t| t.sets.get("entries")).map(|set| &set.elements) else { continue };
            let tcp = |t: &Table| t.sets["local"].elements.keys().filter(|key| key[size] == TCP).count();
            let ways = table.map_or(0, tcp) * member.plane.peers.iter().count();
            assert_eq!(entries.len(), ways, "no two nodes of a kind here");
            for to in entries.values() {
                let Datum::Value(to) = to else { panic!("{to:?}") };
                let leads = |r: &&Route| match (r.dest.addr, family) {
                    (IpAddr::V4(net), Family::Ip) => Ipv4Net::new(net, r.dest.prefix).contains(addr_of(&to[..size]).into()),
                    (IpAddr::V6(net), Family::Ip6) => Ipv6Net::new(net, r.dest.prefix).contains(addr_of(&to[..size]).into()),
                    _ => false,
                };
                let leads = |r: &&Route| r.dest.prefix > 0 && leads(r);
                // a way to the container, and its answer
                assert_eq!(states[0].routes.iter().filter(leads).filter(|r| r.gateway.is_some()).count(), 1, "{to:?}");
                let inside = facts.containers.iter().flat_map(|c| sandbox::sandbox(&facts, c).routes).collect::<BTreeSet<_>>();
                assert_eq!(inside.iter().filter(leads).filter(|r| r.dev == "lo" && r.table == 255).count(), 1, "{to:?}");
                *(if family == Family::Ip { &mut four } else { &mut six }) += 1;
            }
        }
    }
    assert!(four > 50 && six > 50, "{four} and {six} ways");
}

#[test]
fn links_that_are_too_small_for_ipv6_have_none() {
    let mut g = Gen(13);
    let facts = std::iter::repeat_with(|| facts(&mut g));
    let mut facts =
        facts.into_iter().find(|f| f.mesh_pairing().is_some() && f.containers.iter().any(|c| c.endpoints[0].net6.is_some()));
    let mut facts = facts.take().expect("one in a few");
    let six =
        |facts: &Facts| states(facts).iter().map(|s| s.addresses.iter().filter(|a| a.net.addr.is_ipv6()).count()).collect();
    let before: Vec<usize> = six(&facts);
    assert!(before[0] > 0 && before[2] > 0);
    facts.bridges.iter_mut().for_each(|b| b.mtu = 1279);
    facts.containers.iter_mut().flat_map(|c| &mut c.endpoints).for_each(|e| e.mtu = 1279);
    if let Some(member) = &mut facts.member {
        member.mtu = 1329;
    }
    let after: Vec<usize> = six(&facts);
    assert_eq!(after, [0, 0, 0]);
    assert!(states(&facts).iter().all(|s| !s.neighbours.keys().any(|k| k.1.is_ipv6())));
}

#[test]
fn what_is_in_a_shared_table_is_never_touched() {
    let mut g = Gen(1);
    let facts = std::iter::repeat_with(|| facts(&mut g)).find(|f| !f.bridges.is_empty());
    let wanted = host::host(&facts.expect("some have bridges"));
    let key = (Family::Ip, "skep-user".to_owned());
    let ops = |steps: &[Step]| {
        let of = |s: &Step| match s {
            Step::Nft(family, name, ops) if (*family, name) == (key.0, &key.1) => Some(ops.clone()),
            _ => None,
        };
        steps.iter().find_map(of)
    };
    // A daemon that starts anew, and one whose table somebody took away, make it without deleting one that may be there.
    let mut applied = NetnsState::default();
    let steps = diff(&applied, &wanted);
    let made = ops(&steps).expect("it is wanted");
    assert!(matches!(made.as_slice(), [NftOp::NewTable { shared: true }, NftOp::NewChain(..)]), "{made:?}");
    steps.iter().for_each(|s| absorb(&mut applied, s));
    assert_eq!(applied.tables.get(&key), wanted.tables.get(&key));
    assert!(diff(&applied, &wanted).is_empty());
}
