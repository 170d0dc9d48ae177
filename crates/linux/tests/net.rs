//! Networks on real namespaces: three hosts and an outside client joined by a bridge, each host with a manager of its own.
//!
//! Needs root. Everything made here is named `skep-t…` or lives in a temporary directory, and goes away also after a panic.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "net/overlay.rs"]
mod overlay;
#[path = "net/sctp.rs"]
mod sctp;
#[path = "net/shares.rs"]
mod shares;
#[path = "net/six.rs"]
mod six;
#[path = "net/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use skep_engine::net::{LocalNetworkSpec, NetError, NetworkRequest, PortMap};
use skep_netplan::{Mac, Ns};
use skep_types::dataplane::{
    DataPlane, IngressBackend, IngressPort, IngressView, OverlayEndpoint, OverlayView, Peer, ServiceView, View,
};
use skep_types::net::{Pairing, V6Range};
use skep_types::netreport::Level;
use skep_types::spec::Protocol;
use skep_types::{Ipv4Net, Ipv6Net, NetworkId, NodeId};

use world::{Host, World, eventually, request, tasks_of};

const OVERLAY: NetworkId = NetworkId(77);
const VIP: &str = "10.0.1.2";

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn node(n: u8) -> NodeId {
    NodeId(u128::from(n))
}

fn underlay(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, n)
}

/// Another node, with its own address of IPv6.
fn peer(n: u8) -> Peer {
    let six = format!("fd77::{n}").parse().unwrap();
    let ingress_addr = Ipv4Addr::new(10, 255, 0, n);
    Peer { node: node(n), addr: underlay(n), ingress_addr, wireguard: None, ipv6: Some(vec![six]) }
}

fn pairing(v4: &str, v6: &str) -> Option<Pairing> {
    let (v4, subnet): (Ipv4Net, Ipv6Net) = (v4.parse().unwrap(), v6.parse().unwrap());
    let v6 = V6Range { subnet, gateway: subnet.nth(1).unwrap() };
    Some(Pairing { v4, gateway: v4.nth(1).unwrap(), v6 })
}

/// Tasks as (last byte of their addresses, node); `backends` are those that take requests.
fn plane(own: u8, tasks: &[(u8, u8)], backends: &[u8]) -> DataPlane {
    let ingress = |n: u8| Ipv4Addr::new(10, 255, 0, n);
    let overlay = |n: u8| Ipv4Addr::new(10, 0, 1, n);
    let peers = (1..=3).filter(|n| *n != own);
    let behind = |n: &&(u8, u8)| backends.contains(&n.0);
    let port = |protocol| IngressPort {
        protocol,
        published: 8080,
        target: 80,
        backends: tasks
            .iter()
            .filter(behind)
            .map(|t| IngressBackend { addr: ingress(t.0), node: node(t.1), task: None })
            .collect(),
        host_ip: None,
        prefer_local: false,
    };
    DataPlane {
        node: Some(node(own)),
        addr: Some(underlay(own)),
        ingress_addr: Some(ingress(own)),
        data_path_port: 4789,
        peers: peers.map(peer).collect(),
        networks: vec![View::new(OverlayView {
            id: OVERLAY,
            name: "net".to_owned(),
            vni: 4097,
            subnet: "10.0.1.0/24".parse().unwrap(),
            gateway: overlay(1),
            internal: false,
            encrypted: false,
            mtu: None,
            endpoints: tasks
                .iter()
                .map(|t| OverlayEndpoint {
                    addr: overlay(t.0),
                    node: node(t.1),
                    task_name: format!("web.{}.x", t.0),
                    container: None,
                    aliases: Vec::new(),
                })
                .collect(),
            services: vec![ServiceView {
                name: "web".to_owned(),
                aliases: vec!["www".to_owned()],
                vip: Some(ip(VIP)),
                backends: backends.iter().map(|n| overlay(*n)).collect(),
                ports: Vec::new(),
            }],
            pairing: pairing("10.0.1.0/24", "fd00:1::/64"),
        })],
        ingress: Some(View::new(IngressView {
            vni: 4096,
            subnet: "10.255.0.0/24".parse().unwrap(),
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp), port(Protocol::Sctp)],
            pairing: pairing("10.255.0.0/24", "fd00:ff::/64"),
        })),
        ..DataPlane::default()
    }
}

const TASKS: [(u8, u8); 3] = [(11, 1), (12, 2), (13, 3)];

async fn spread(hosts: &[Host], backends: &[u8]) {
    for host in hosts {
        host.manager().set_dataplane(node(host.n), underlay(host.n), plane(host.n, &TASKS, backends)).await.unwrap();
    }
}

/// How many namespaces a host has, each of which is as it should be.
async fn settled(host: &Host) -> usize {
    let report = host.manager().report(false, Vec::new()).await;
    let wrong: Vec<_> = report.spaces.iter().flat_map(|s| &s.differences).collect();
    assert!(wrong.is_empty(), "host {}: {wrong:?}", host.n);
    report.spaces.len()
}

/// Three hosts with a task each, of which the last two take requests; their ports in the mesh.
async fn swarm(tag: &str, ports: &[(Protocol, u16)]) -> (World, Vec<Host>) {
    let world = World::new(tag, 3);
    let mut hosts = Vec::new();
    for n in 1..=3 {
        hosts.push(Host::open(&world, n, false).await);
    }
    spread(&hosts, &[12, 13]).await;
    for (n, at_host) in TASKS {
        let mut wanted = request(&format!("task{n}"), n);
        wanted.ingress_address = Some(Ipv4Addr::new(10, 255, 0, n));
        wanted.ingress_ports = ports.to_vec();
        wanted.networks = vec![at(&OVERLAY.to_string(), &format!("10.0.1.{n}"))];
        hosts[usize::from(at_host) - 1].run(wanted).await;
    }
    (world, hosts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swarm_carries_its_traffic() {
    let (world, mut hosts) = swarm("a", &[]).await;
    let [one, two, _] = &hosts[..] else { panic!("three hosts") };
    let caller = one.ns_of(11);

    // container to container on another host, and by the virtual address
    assert_eq!(one.tcp(&caller, "10.0.1.12:80").unwrap(), "task12 10.0.1.11");
    assert_eq!(one.tcp(&caller, "10.0.1.13:80").unwrap(), "task13 10.0.1.11");
    let both = BTreeSet::from(["task12".to_owned(), "task13".to_owned()]);
    assert_eq!(tasks_of(40, || one.tcp(&caller, &format!("{VIP}:80"))), both);
    assert_eq!(tasks_of(40, || one.udp(&caller, &format!("{VIP}:80"))), both);
    assert_eq!(tasks_of(40, || two.tcp(&two.ns_of(12), &format!("{VIP}:80"))), both);

    // a published port answers on every node and shows the client's own address
    for entry in 1..=3u8 {
        let at = format!("{}:8080", underlay(entry));
        let own = format!(" {}", world.client_addr());
        assert_eq!(tasks_of(40, || world.client_tcp(&at).inspect(|a| assert!(a.ends_with(&own), "{a}"))), both);
        assert_eq!(tasks_of(40, || world.client_udp(&at).inspect(|a| assert!(a.ends_with(&own), "{a}"))), both);
    }
    // … and port, even if it has connections from that port to every node: to a task they are different all the same
    let entries = (1..=3).map(|n| format!("{}:8080", underlay(n)));
    for _ in 0..10 {
        let (port, seen) = world.ports_seen(&entries.clone().collect::<Vec<_>>());
        assert!(seen.iter().all(|s| s.ends_with(&format!(" {port}"))), "{seen:?} of port {port}");
    }
    assert_eq!(tasks_of(40, || one.tcp(&Ns::Host, "127.0.0.1:8080")), both);
    assert_eq!(tasks_of(40, || two.tcp(&Ns::Host, "192.168.77.1:8080")), both);
    assert_eq!(tasks_of(40, || one.tcp(&caller, "192.168.77.1:8080")), both);
    assert_eq!(tasks_of(40, || two.tcp(&two.ns_of(12), "192.168.77.2:8080")), both);

    // names
    assert_eq!(one.resolve(&caller, "web").unwrap(), [ip(VIP)]);
    assert_eq!(one.resolve(&caller, "WWW.net").unwrap(), [ip(VIP)]);
    let tasks: BTreeSet<_> = one.resolve(&caller, "tasks.web").unwrap().into_iter().collect();
    assert_eq!(tasks, BTreeSet::from([ip("10.0.1.12"), ip("10.0.1.13")]));
    assert_eq!(one.resolve(&caller, "web.13.x").unwrap(), [ip("10.0.1.13")]);

    // what was written is read as it was written
    for host in &hosts {
        assert_eq!(settled(host).await, 3, "host {}", host.n);
    }
    let report = one.manager().report(true, Vec::new()).await;
    let faults: Vec<_> = report.findings.iter().filter(|f| f.level == Level::Fault).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let words = "all 2 other nodes are reached by UDP 4789, with 1450 bytes";
    assert!(report.findings.iter().any(|f| f.text.contains(words)), "{:?}", report.findings);

    // what nft itself makes of the tables
    for ns in [&Ns::Host, &caller] {
        let text = one.nft(ns);
        assert!(text.contains("table ip skep"), "{text}");
    }

    // a held connection survives a change of backends and a new daemon; new ones see the new set
    let mut held = one.connect(&caller, "10.0.1.13:80");
    let via_mesh = world.hold(&format!("{}:8080", underlay(1)));
    spread(&hosts, &[12]).await;
    let only = BTreeSet::from(["task12".to_owned()]);
    assert_eq!(tasks_of(20, || one.tcp(&caller, &format!("{VIP}:80"))), only);
    assert_eq!(tasks_of(20, || one.udp(&caller, &format!("{VIP}:80"))), only);
    assert_eq!(tasks_of(20, || world.client_tcp(&format!("{}:8080", underlay(3)))), only);
    world::still_alive(&mut held);
    via_mesh.into_iter().for_each(|mut stream| world::still_alive(&mut stream));

    let mut held = one.connect(&caller, "10.0.1.12:80");
    let taken = hosts[0].restart_without_resolver(11).await;
    let [one, _, _] = &hosts[..] else { panic!("three hosts") };
    world::still_alive(&mut held);
    assert_eq!(tasks_of(20, || one.tcp(&caller, &format!("{VIP}:80"))), only);
    drop(taken);
    eventually("names again", || one.resolve(&caller, "web").is_ok_and(|found| found == [ip(VIP)]));
    assert_eq!(tasks_of(20, || world.client_tcp(&format!("{}:8080", underlay(1)))), only);

    // without a task nothing hangs
    spread(&hosts, &[]).await;
    let [one, _, _] = &hosts[..] else { panic!("three hosts") };
    eventually("refused", || {
        one.tcp(&caller, &format!("{VIP}:80")).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let refused = world.client_tcp(&format!("{}:8080", underlay(2))).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    // a container that went while the daemon was down leaves no route behind
    let ways = |host: &Host| host.command("ip route show root 240.0.0.0/4").lines().count();
    assert_eq!(ways(&hosts[0]), 1);
    hosts[0].restart_without(11).await;
    assert_eq!(ways(&hosts[0]), 0);

    for host in &hosts {
        let id = world::id(host.n + 10);
        host.manager().detach(&id).await.unwrap();
        host.manager().detach(&id).await.unwrap();
        host.manager().clear_swarm().await.unwrap();
        host.manager().remove_network("docker_gwbridge").await.unwrap();
        assert_eq!(host.links(), ["eth0", "lo"], "left on host {}", host.n);
        assert!(host.pinned().is_empty(), "{:?}", host.pinned());
        assert!(!host.nft(&Ns::Host).contains("skep"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bridges_publish_and_keep_apart() {
    let world = World::new("b", 1);
    let mut host = Host::open(&world, 1, true).await;
    let port = |host_ip: &str, host_port| PortMap {
        protocol: Protocol::Tcp,
        host_ip: ip(host_ip).into(),
        both: false,
        host_port,
        host_port_end: 0,
        container_port: 80,
    };
    let on = |network: &str| NetworkRequest { network: network.to_owned(), ..Default::default() };
    let other = LocalNetworkSpec { name: "other".to_owned(), ..Default::default() };
    let other = host.manager().create_network(other).await.unwrap();
    let shut = LocalNetworkSpec { name: "shut".to_owned(), internal: true, ..Default::default() };
    host.manager().create_network(shut).await.unwrap();

    let mut web = request("web", 1);
    web.networks = vec![on("bridge")];
    web.ports = vec![port("0.0.0.0", 8081), port("127.0.0.1", 8082), port("0.0.0.0", 0)];
    let chosen = host.run(web.clone()).await.ports[2].host_port;
    let mut caller = request("caller", 2);
    caller.networks = vec![on("other")];
    caller.networks[0].aliases = vec!["me".to_owned()];
    let caller_addr = host.run(caller).await.endpoints[0].address;
    let mut inner = request("inner", 3);
    inner.networks = vec![on("shut")];
    host.run(inner).await;

    // published: from outside, from the host, from the other bridge, from the container itself
    let client = format!(" {}", world.client_addr());
    assert_eq!(world.client_tcp("192.168.77.1:8081").unwrap(), format!("web{client}"));
    assert_eq!(world.client_tcp(&format!("192.168.77.1:{chosen}")).unwrap(), format!("web{client}"));
    assert!(world.client_tcp("192.168.77.1:8082").is_err());
    for at in ["127.0.0.1:8081", "127.0.0.1:8082", "192.168.77.1:8081"] {
        assert!(host.tcp(&Ns::Host, at).unwrap().starts_with("web "), "{at}");
    }
    assert!(host.tcp(&host.ns_of(2), "192.168.77.1:8081").unwrap().starts_with("web "));
    assert!(host.tcp(&host.ns_of(1), "192.168.77.1:8081").unwrap().starts_with("web "));

    // out with the host's address; not across bridges; not out of an internal one
    let server = world.client_server();
    assert_eq!(host.tcp(&host.ns_of(1), &server).unwrap(), "client 192.168.77.1");
    let direct = format!("{caller_addr}:80");
    assert!(host.tcp(&host.ns_of(1), &direct).is_err());
    assert!(host.tcp(&host.ns_of(3), &server).is_err());
    assert!(host.tcp(&Ns::Host, &direct).unwrap().starts_with("caller "));

    // names on user-defined networks; the default bridge has none
    assert_eq!(host.resolve(&host.ns_of(2), "caller").unwrap(), [caller_addr]);
    assert_eq!(host.resolve(&host.ns_of(2), "me").unwrap(), [caller_addr]);
    assert!(host.sandboxes()[0].resolver.is_none());

    // refusals leave nothing
    let before = host.links();
    let mut twin = request("twin", 4);
    twin.networks = vec![on("bridge")];
    twin.ports = vec![port("0.0.0.0", 8081)];
    let error = host.manager().attach(twin).await.unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:8081 failed: port is already allocated");
    let error = host.manager().remove_network("other").await.unwrap_err();
    assert!(matches!(error, NetError::InUse(_)));
    let error = host.manager().remove_network("bridge").await.unwrap_err();
    assert_eq!(error.to_string(), "bridge is a pre-defined network and cannot be removed");
    assert_eq!(host.links(), before);

    // a daemon that comes back forgets those that died meanwhile
    host.restart_without(2).await;
    assert_eq!(world.client_tcp("192.168.77.1:8081").unwrap(), format!("web{client}"));
    assert!(!host.pinned().iter().any(|ns| *ns == host.ns_of(2)));
    host.manager().remove_network(&other.id[..10]).await.unwrap();
    for n in [1, 3] {
        host.manager().detach(&world::id(n)).await.unwrap();
    }
    host.manager().remove_network("shut").await.unwrap();
    assert_eq!(host.links(), ["docker0", "eth0", "lo"]);

    // What it made and does not know any more goes, but not what another engine made.
    host.add_bridge("br-0123456789ab");
    let lost = LocalNetworkSpec { name: "lost".to_owned(), ..Default::default() };
    host.loses_a_network(lost).await;
    assert_eq!(host.links(), ["br-0123456789ab", "docker0", "eth0", "lo"]);
    assert!(host.pinned().is_empty());
}

/// A VXLAN packet of network 4097 with a datagram to task 11's port 80 that pretends to come from port 5555 of task 13.
fn forged() -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0, 0, 0x10, 0x01, 0];
    packet.extend(Mac::of(ip("10.0.1.11")).0);
    packet.extend(Mac::of(ip("10.0.1.13")).0);
    packet.extend([8, 0]);
    let mut header = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend(ip("10.0.1.13").octets());
    header.extend(ip("10.0.1.11").octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let check = !(((sum & 0xffff) + (sum >> 16)) as u16);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend(header);
    // ports, length, no checksum, and the one byte that the server answers
    packet.extend(5555u16.to_be_bytes().into_iter().chain(80u16.to_be_bytes()).chain([0, 9, 0, 0, b'?']));
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_members_reach_an_overlay_network() {
    let world = World::new("c", 3);
    let mut hosts = Vec::new();
    for n in 1..=3 {
        hosts.push(Host::open(&world, n, false).await);
    }
    spread(&hosts, &[]).await;
    for (n, at) in TASKS {
        let mut wanted = request(&format!("task{n}"), n);
        wanted.networks = vec![self::at(&OVERLAY.to_string(), &format!("10.0.1.{n}"))];
        hosts[usize::from(at) - 1].run(wanted).await;
    }
    let listener = hosts[2].socket(&hosts[2].ns_of(13), "10.0.1.13:5555");
    let send = |socket: std::net::UdpSocket| {
        for _ in 0..3 {
            socket.send_to(&forged(), "192.168.77.1:4789").unwrap();
        }
    };
    send(world.client_socket());
    // The control: the same from a member arrives, after what an outsider sent and before it would have been answered.
    send(hosts[1].socket(&Ns::Host, "0.0.0.0:0"));
    let mut answers = 0;
    let mut buf = [0; 64];
    while let Ok(len) = listener.recv(&mut buf) {
        assert!(buf[..len].starts_with(b"task11 "), "{:?}", &buf[..len]);
        answers += 1;
    }
    assert_eq!(answers, 3, "those of the member and no other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_do_to_the_tables_is_told_and_what_we_do_is_not() {
    let world = World::new("w", 1);
    let mut host = Host::open(&world, 1, true).await;
    let mut watch = host.watch();
    let mut told = || watch.changed(std::time::Duration::ZERO).unwrap();
    assert!(!told());
    let port = PortMap {
        protocol: Protocol::Tcp,
        host_ip: ip("0.0.0.0").into(),
        host_port: 8081,
        host_port_end: 0,
        container_port: 80,
        both: false,
    };
    let wanted = NetworkRequest { network: "bridge".to_owned(), ..NetworkRequest::default() };
    host.run(skep_engine::net::SandboxRequest { networks: vec![wanted], ports: vec![port], ..request("own", 11) }).await;
    assert!(!told());
    let _ = host.command("nft add table ip stranger");
    assert!(told());
    assert!(!told());
    host.manager().detach(&world::id(11)).await.unwrap();
    let _ = host.command("nft delete table ip stranger");
    assert!(told());
}

/// A network whose containers share a link of the host.
fn sharing(name: &str, options: &[(&str, &str)]) -> LocalNetworkSpec {
    LocalNetworkSpec {
        name: name.to_owned(),
        driver: "macvlan".to_owned(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..LocalNetworkSpec::default()
    }
}

fn at(network: &str, address: &str) -> NetworkRequest {
    NetworkRequest { network: network.to_owned(), address: Some(ip(address)), ..NetworkRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn macvlan_containers_are_neighbours_of_the_lan() {
    let world = World::new("d", 2);
    let mut hosts = [Host::open(&world, 1, false).await, Host::open(&world, 2, false).await];
    let lan = |mode| LocalNetworkSpec {
        subnet: Some("192.168.77.0/24".parse().unwrap()),
        gateway: Some(world.client_addr()),
        ..sharing("lan", &[("parent", "eth0"), ("macvlan_mode", mode)])
    };
    for (host, n) in hosts.iter_mut().zip([1, 2]) {
        host.manager().create_network(lan("bridge")).await.unwrap();
        let mut wanted = request(&format!("c{n}"), n);
        wanted.networks = vec![at("lan", &format!("192.168.77.5{n}"))];
        host.run(wanted).await;
    }
    // On the same host beside the first one.
    let mut third = request("c3", 3);
    third.networks = vec![at("lan", "192.168.77.53")];
    hosts[0].run(third).await;
    let [one, two] = &hosts[..] else { panic!("two hosts") };
    eventually("the other host's container", || {
        one.tcp(&one.ns_of(1), "192.168.77.52:80").is_ok_and(|a| a == "c2 192.168.77.51")
    });
    assert_eq!(one.tcp(&one.ns_of(1), "192.168.77.53:80").unwrap(), "c3 192.168.77.51");
    assert_eq!(two.tcp(&two.ns_of(2), "192.168.77.51:80").unwrap(), "c1 192.168.77.52");
    assert_eq!(world.client_tcp("192.168.77.51:80").unwrap(), format!("c1 {}", world.client_addr()));
    assert_eq!(one.resolve(&one.ns_of(1), "c3").unwrap(), [ip("192.168.77.53")]);
    // The daemon dies and comes back: nothing is made anew.
    let mut held = two.connect(&two.ns_of(2), "192.168.77.51:80");
    hosts[0].restart().await;
    world::still_alive(&mut held);
    let _ = settled(&hosts[0]).await;

    // What cannot be is refused, and nothing is left.
    for (spec, text) in [
        (sharing("x", &[("parent", "lo")]), "loopback interface is not a valid macvlan parent link"),
        (sharing("x", &[("parent", "eth9")]), "invalid subinterface vlan name eth9, example formatting is eth0.10"),
        (sharing("x", &[("parent", "eth9.5")]), "failed to find master interface eth9 on the Docker host: Link not found"),
        (sharing("x", &[("parent", "eth0.4095")]), "vlan id must be between 1-4094, received: 4095"),
        (
            sharing("x", &[("macvlan_mode", "odd")]),
            "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver default",
        ),
    ] {
        assert_eq!(hosts[0].manager().create_network(spec).await.unwrap_err().to_string(), text);
    }
    let whole = sharing("x", &[("parent", "eth0"), ("macvlan_mode", "passthru")]);
    let refused = hosts[0].manager().create_network(whole).await.unwrap_err().to_string();
    assert!(refused.ends_with("is already using parent interface eth0"), "{refused}");

    let server = world.client_server();
    // Without a parent they have each other, and nobody else; private ones do not even have each other.
    for (number, (mode, together)) in [("bridge", true), ("private", false)].into_iter().enumerate() {
        let spec = LocalNetworkSpec {
            subnet: Some("10.9.0.0/24".parse().unwrap()),
            internal: true,
            ..sharing("own", &[("macvlan_mode", mode)])
        };
        hosts[1].manager().create_network(spec).await.unwrap();
        let first = u8::try_from(number).unwrap() * 2 + 10;
        for n in [first, first + 1] {
            let mut wanted = request(&format!("o{n}"), n);
            wanted.networks = vec![at("own", &format!("10.9.0.{n}"))];
            hosts[1].run(wanted).await;
        }
        let host = &hosts[1];
        let answer = host.tcp(&host.ns_of(first), &format!("10.9.0.{}:80", first + 1));
        assert_eq!(answer.is_ok(), together, "{mode}: {answer:?}");
        assert!(host.tcp(&host.ns_of(first), &server).is_err());
        for n in [first, first + 1] {
            host.manager().detach(&world::id(n)).await.unwrap();
        }
        host.manager().remove_network("own").await.unwrap();
    }
    for (host, all) in hosts.iter().zip([vec![1, 3], vec![2]]) {
        for n in all {
            host.manager().detach(&world::id(n)).await.unwrap();
        }
        host.manager().remove_network("lan").await.unwrap();
        assert_eq!(host.links(), ["eth0", "lo"], "left on host {}", host.n);
        assert!(host.pinned().is_empty());
    }
}
