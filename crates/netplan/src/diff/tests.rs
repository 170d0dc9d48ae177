//! Differences of thousands of generated swarms: equal states need nothing, and steps lead from any state to any other.

use std::net::Ipv4Addr;

use skep_types::dataplane::{
    DataPlane, IngressBackend, IngressPort, IngressView, OverlayEndpoint, OverlayView, Peer, ServiceView, View,
};
use skep_types::spec::Protocol;
use skep_types::{Ipv4Net, NetworkId, NodeId};

use super::*;
use crate::facts::{Attach, Bridge, Container, Endpoint, Facts, Member, Published};
use crate::state::Ns;
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

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("valid")
}

pub(crate) fn facts(g: &mut Gen) -> Facts {
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
            .map(|n| Peer { node: node(n), addr: Ipv4Addr::new(192, 168, 0, n), ingress_addr: ingress(n), wireguard: None })
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
        })],
        ingress: (g.below(4) > 0).then(|| {
            View::new(IngressView {
                vni: 4096,
                subnet: net("10.255.0.0/24"),
                ports: vec![IngressPort {
                    protocol: Protocol::Tcp,
                    published: 8000 + u16::from(g.byte(2)),
                    target: 80,
                    backends: taking.iter().map(|(t, n)| IngressBackend { addr: ingress(*t), node: node(*n) }).collect(),
                    host_ip: (g.below(4) == 0).then_some(Ipv4Addr::new(192, 168, 0, 1)),
                    prefer_local: g.below(4) == 0,
                }],
            })
        }),
        ..DataPlane::default()
    };
    let own = Ipv4Addr::new(192, 168, 0, 1);
    let member = Member { node: node(1), addr: own, mtu: 1500, plane, drained: Default::default() };
    let bridge = |link: &str, gwbridge, third| Bridge {
        link: link.to_owned(),
        net: Ipv4Net::new(Ipv4Addr::new(172, third, 0, 1), 16),
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
    let containers = local.map(|(t, _)| container(*t, g.below(3) == 0)).collect();
    let parents = match g.below(3) {
        0 => vec![crate::facts::Parent::Vlan { link: "eth0.7".to_owned(), of: "eth0".to_owned(), id: 7 }],
        1 => vec![crate::facts::Parent::Alone("dm-1".to_owned())],
        _ => Vec::new(),
    };
    Facts { member: (g.below(8) > 0).then_some(member), bridges, parents, containers }
}

fn container(t: u8, published: bool) -> Container {
    let endpoint = |attach, index: u8, net, gateway| Endpoint {
        attach,
        ifname: format!("eth{index}"),
        veth: format!("v{index}c{t}"),
        net,
        gateway,
        direct: false,
        mtu: 1450,
    };
    let outside = Ipv4Addr::new(172, 18, 0, t);
    let port = Published {
        protocol: Protocol::Udp,
        host_ip: Ipv4Addr::UNSPECIFIED,
        host_port: 9000 + u16::from(t),
        addr: outside,
        port: 53,
    };
    Container {
        ns: Ns::Sandbox(format!("c{t}")),
        endpoints: vec![
            endpoint(Attach::Overlay(NetworkId(5).to_string()), 0, Ipv4Net::new(Ipv4Addr::new(10, 0, 1, t), 24), None),
            endpoint(Attach::Bridge("gw".to_owned()), 1, Ipv4Net::new(outside, 16), Some(Ipv4Addr::new(172, 18, 0, 1))),
        ],
        ports: if published { vec![port] } else { Vec::new() },
        ingress: Some(Ipv4Addr::new(10, 255, 0, t)),
        ingress_ports: vec![(Protocol::Tcp, 80)],
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

#[test]
fn a_new_backend_changes_elements_only() {
    let mut g = Gen(1);
    let facts = std::iter::repeat_with(|| facts(&mut g));
    let usable = |f: &Facts| {
        let services = f.member.as_ref().map(|m| m.plane.networks[0].services[0].backends.len());
        services.is_some_and(|n| n > 1) && !f.containers.is_empty()
    };
    let mut before = facts.into_iter().find(usable).expect("one in a few");
    // a second service of the same size keeps the chain in use
    let member = before.member.as_mut().expect("checked");
    let mut twin = member.plane.networks[0].services[0].clone();
    twin.vip = Some(Ipv4Addr::new(10, 0, 1, 3));
    twin.backends.pop();
    member.plane.networks[0] = member.plane.networks[0].with(|n| n.services.push(twin));
    let mut after = before.clone();
    let networks = &mut after.member.as_mut().expect("checked").plane.networks;
    networks[0] = networks[0].with(|n| {
        n.services[0].backends.pop();
    });
    let (one, two) = (&states(&before)[2], &states(&after)[2]);
    let steps = diff(one, two);
    let [Step::Nft(_, _, ops)] = &steps[..] else { panic!("{steps:?}") };
    let elements =
        |op: &NftOp| matches!(op, NftOp::AddElements(..) | NftOp::DelElements(..) | NftOp::DelChain(_) | NftOp::Flush(_));
    assert!(ops.iter().all(elements), "{ops:?}");
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
