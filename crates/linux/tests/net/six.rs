//! IPv6 beside IPv4: overlay networks, virtual addresses, the mesh and bridges.

use skep_types::netreport::Level;

use super::*;

/// Waits until every namespace of a host is as it should be, in both families.
async fn as_it_should_be(host: &Host) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let report = host.manager().report(true, Vec::new()).await;
        let faults: Vec<_> = report.findings.into_iter().filter(|f| f.about == "tables" && f.level != Level::Good).collect();
        if faults.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_swarm_carries_its_traffic_by_ipv6() {
    let (world, mut hosts) = swarm("v", &[(Protocol::Tcp, 80), (Protocol::Udp, 80)]).await;
    for (n, at_host) in TASKS {
        let sandbox = &hosts[usize::from(at_host) - 1].sandboxes()[0];
        assert_eq!(sandbox.endpoints[0].net6.unwrap().to_string(), format!("fd00:1::{n:x}/64"));
    }
    let [one, two, three] = &hosts[..] else { panic!("three hosts") };
    let caller = one.ns_of(11);

    // from container to container on another host, and by the virtual address
    assert_eq!(one.tcp(&caller, "[fd00:1::c]:80").unwrap(), "task12 fd00:1::b");
    let both = BTreeSet::from(["task12".to_owned(), "task13".to_owned()]);
    assert_eq!(tasks_of(20, || one.tcp(&caller, "[fd00:1::2]:80")), both);
    assert_eq!(tasks_of(20, || one.udp(&caller, "[fd00:1::2]:80")), both);

    // through every node, with the client's own address
    for n in 1..=3 {
        let to = format!("[fd77::{n}]:8080");
        assert_eq!(tasks_of(20, || world.client_tcp(&to)), both, "by {to}");
        assert!(world.client_tcp(&to).unwrap().ends_with(" fd77::100"));
        assert!(world.client_udp(&to).unwrap().ends_with(" fd77::100"));
    }
    let entries: Vec<_> = (1..=3).map(|n| format!("[fd77::{n}]:8080")).collect();
    for _ in 0..10 {
        let (port, seen) = world.ports_seen(&entries);
        assert!(seen.iter().all(|s| s.ends_with(&format!(" {port}"))), "{seen:?} of port {port}");
    }
    // from the nodes themselves, also by another node to a task of their own
    for host in [one, two, three] {
        for to in ["[::1]:8080", "[fd77::1]:8080", "[fd77::2]:8080", "[fd77::3]:8080"] {
            assert_eq!(tasks_of(20, || host.tcp(&Ns::Host, to)), both, "host {} by {to}", host.n);
        }
    }
    // and from a container
    assert_eq!(tasks_of(20, || one.tcp(&caller, "[fd77::2]:8080")), both);

    // A connection is refused where nothing can answer.
    spread(&hosts, &[]).await;
    let refused = one.tcp(&caller, "[fd00:1::2]:80").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    spread(&hosts, &[13]).await;
    for host in &hosts {
        as_it_should_be(host).await;
    }

    // The next daemon finds everything as it should be, and what a host loses comes back.
    hosts[0].restart().await;
    as_it_should_be(&hosts[0]).await;
    assert_eq!(world.client_tcp("[fd77::1]:8080").unwrap(), "task13 fd77::100");
    hosts[0].command("nft delete table ip6 skep");
    hosts[0].command("ip -6 addr flush dev docker_gwbridge scope global");
    hosts[0].command("ip -6 neigh flush dev sking nud permanent");
    eventually("the mesh by IPv6 again", || world.client_tcp("[fd77::1]:8080").is_ok_and(|who| who == "task13 fd77::100"));

    for host in &hosts {
        for n in 11..=13 {
            host.manager().detach(&world::id(n)).await.unwrap();
        }
        host.manager().clear_swarm().await.unwrap();
        assert!(!host.nft(&Ns::Host).contains("peerz"), "{}", host.nft(&Ns::Host));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bridges_have_ipv6_where_it_is_asked_for() {
    let world = World::new("w", 1);
    let mut host = Host::open(&world, 1, true).await;
    let spec = |name: &str, subnet6: Option<&str>| LocalNetworkSpec {
        name: name.to_owned(),
        ipv6: true,
        subnet6: subnet6.map(|s| s.parse().unwrap()),
        ..LocalNetworkSpec::default()
    };
    let plain = LocalNetworkSpec { subnet6: Some("fd00:9::/64".parse().unwrap()), ipv6: false, ..spec("plain", None) };
    let refused = host.manager().create_network(plain).await.unwrap_err().to_string();
    assert_eq!(refused, "invalid subnet fd00:9::/64: the network has no IPv6: create it with --ipv6");
    let dual = host.manager().create_network(spec("dual", Some("fd00:9::/64"))).await.unwrap();
    assert_eq!(dual.v6.unwrap().gateway.to_string(), "fd00:9::1");
    assert!(matches!(host.manager().create_network(spec("twin", Some("fd00:9::/80"))).await, Err(NetError::Overlaps)));
    let drawn = host.manager().create_network(spec("drawn", None)).await.unwrap().v6.unwrap().subnet;
    assert_eq!((drawn.prefix, drawn.addr.octets()[0]), (64, 0xfd));

    // The way out of overlay networks has it unasked, but keeps what a user gave it.
    let own = host.manager().create_network(spec("docker_gwbridge", Some("fd00:7::/64"))).await.unwrap();
    assert_eq!(host.manager().ensure_gwbridge().await.unwrap().v6, own.v6);
    host.manager().remove_network("docker_gwbridge").await.unwrap();
    let plain = LocalNetworkSpec { ipv6: false, ..spec("docker_gwbridge", None) };
    assert_eq!(host.manager().create_network(plain).await.unwrap().v6, None);
    assert_eq!(host.manager().ensure_gwbridge().await.unwrap().v6.unwrap().subnet.addr.octets()[0], 0xfd);
    host.manager().remove_network("docker_gwbridge").await.unwrap();

    let port = |host_ip: &str, both, host_port| PortMap {
        protocol: Protocol::Tcp,
        host_ip: host_ip.parse().unwrap(),
        both,
        host_port,
        host_port_end: 0,
        container_port: 80,
    };
    let on = |network: &str| NetworkRequest { network: network.to_owned(), ..Default::default() };
    let mut web = request("web", 1);
    web.networks = vec![NetworkRequest { address6: Some("fd00:9::77".parse().unwrap()), ..on("dual") }];
    web.ports = vec![port("0.0.0.0", true, 8081), port("::1", false, 8082), port("0.0.0.0", false, 8083)];
    let sandbox = host.run(web.clone()).await;
    assert_eq!(sandbox.endpoints[0].net6.unwrap().to_string(), "fd00:9::77/64");
    let mut taken = request("taken", 2);
    taken.networks = web.networks.clone();
    assert!(matches!(host.manager().attach(taken.clone()).await, Err(NetError::AddressTaken)));
    taken.networks = vec![on("dual")];
    taken.ports = vec![port("::", false, 8081)];
    assert!(matches!(host.manager().attach(taken).await, Err(NetError::PortTaken { .. })));
    let mut four = request("four", 3);
    four.networks = vec![on("bridge")];
    four.ports = vec![port("::1", false, 8090)];
    let refused = host.manager().attach(four.clone()).await.unwrap_err().to_string();
    assert!(refused.starts_with("cannot publish port 80 at ::1: the container has no IPv6 address"), "{refused}");
    four.ports = vec![port("0.0.0.0", true, 8090)];
    assert!(!host.run(four).await.ports[0].both, "it answers by what it has");

    // from outside, from the host, and from a neighbour
    assert_eq!(world.client_tcp("[fd77::1]:8081").unwrap(), "web fd77::100");
    assert_eq!(world.client_tcp("192.168.77.1:8081").unwrap(), "web 192.168.77.100");
    assert!(world.client_tcp("[fd77::1]:8083").is_err() && world.client_tcp("192.168.77.1:8083").is_ok());
    assert!(world.client_tcp("[fd77::1]:8082").is_err(), "at the loopback device alone");
    for to in ["[::1]:8081", "[::1]:8082", "[fd77::1]:8081"] {
        assert!(host.tcp(&Ns::Host, to).unwrap().starts_with("web "), "{to}");
    }
    let mut caller = request("caller", 4);
    caller.networks = vec![on("dual"), on("drawn")];
    let caller = host.run(caller).await;
    let own = caller.endpoints[0].net6.unwrap().addr;
    assert_eq!(host.tcp(&host.ns_of(4), "[fd00:9::77]:80").unwrap(), format!("web {own}"));
    // Outside its own address means nothing: what leaves has the host's.
    let outside = world.client_server();
    assert_eq!(host.tcp(&host.ns_of(4), &outside).unwrap(), "client 192.168.77.1");
    assert_eq!(host.tcp(&host.ns_of(4), "[fd77::100]:80").unwrap(), "client fd77::1");
    as_it_should_be(&host).await;

    host.restart().await;
    as_it_should_be(&host).await;
    assert_eq!(world.client_tcp("[fd77::1]:8081").unwrap(), "web fd77::100");
    for n in [1, 3, 4] {
        host.manager().detach(&world::id(n)).await.unwrap();
    }
    for name in ["dual", "drawn"] {
        host.manager().remove_network(name).await.unwrap();
    }
    assert!(!host.nft(&Ns::Host).contains("table ip6 skep "), "{}", host.nft(&Ns::Host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_begins_to_forward_keeps_what_routers_tell_it() {
    let world = World::new("x", 1);
    let host = Host::open(&world, 1, false).await;
    host.command("sysctl -qw net.ipv6.conf.eth0.accept_ra=1");
    // An administrator has no use for it on links in general.
    host.command("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let spec = LocalNetworkSpec { name: "dual".to_owned(), ipv6: true, ..LocalNetworkSpec::default() };
    let network = host.manager().create_network(spec).await.unwrap();
    let switch = |link: &str, name: &str| host.command(&format!("sysctl -n net.ipv6.conf.{link}.{name}"));
    assert_eq!(switch("all", "forwarding"), "1");
    assert_eq!(switch("eth0", "accept_ra"), "2", "it takes advertisements though it forwards");
    assert_eq!(switch(&network.link, "accept_ra"), "0", "containers tell the host no routes");
    let addresses = host.command(&format!("ip -6 addr show dev {}", network.link));
    assert!(addresses.contains(&network.v6.unwrap().gateway.to_string()), "{addresses}");
}
