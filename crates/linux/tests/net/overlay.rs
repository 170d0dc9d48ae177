//! How containers are on overlay networks: by shares of the VXLAN device, or by pairs and a bridge where those of a version before are.

use super::*;

/// Whether a container is on its first network by a pair.
fn by_pair(host: &Host, n: u8) -> bool {
    let sandbox = host.sandboxes().iter().rfind(|s| s.request.container_id == world::id(n)).unwrap();
    !sandbox.endpoints[0].veth.is_empty()
}

fn on_overlay(n: u8) -> skep_engine::net::SandboxRequest {
    let mut wanted = request(&format!("task{n}"), n);
    wanted.networks = vec![at(&OVERLAY.to_string(), &format!("10.0.1.{n}"))];
    wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn containers_of_a_version_before_keep_their_pairs() {
    let (_world, mut hosts) = swarm("o", &[]).await;
    assert!(!by_pair(&hosts[0], 11));
    let mut held = hosts[0].connect(&hosts[0].ns_of(11), "10.0.1.13:80");
    hosts[0].restart_with_a_pair().await;
    let _ = settled(&hosts[0]).await;
    world::still_alive(&mut held);

    // Whoever joins them there is connected as they are, and reaches all.
    hosts[0].run(on_overlay(14)).await;
    assert!(by_pair(&hosts[0], 14) && !by_pair(&hosts[1], 12));
    let tasks: Vec<(u8, u8)> = TASKS.into_iter().chain([(14, 1)]).collect();
    for host in &hosts {
        let plane = plane(host.n, &tasks, &[12, 14]);
        host.manager().set_dataplane(node(host.n), underlay(host.n), plane).await.unwrap();
    }
    for (from, n) in [(0, 11), (0, 14), (1, 12), (2, 13)] {
        let host: &Host = &hosts[from];
        for (to, six) in [(11, "b"), (12, "c"), (13, "d"), (14, "e")] {
            let asked = host.tcp(&host.ns_of(n), &format!("10.0.1.{to}:80"));
            assert_eq!(asked.unwrap(), format!("task{to} 10.0.1.{n}"), "by {n}");
            let asked = host.tcp(&host.ns_of(n), &format!("[fd00:1::{six}]:80"));
            assert_eq!(asked.unwrap(), format!("task{to} fd00:1::{n:x}"), "by {n}");
        }
        let both = BTreeSet::from(["task12".to_owned(), "task14".to_owned()]);
        assert_eq!(tasks_of(40, || host.tcp(&host.ns_of(n), &format!("{VIP}:80"))), both);
        let _ = settled(host).await;
    }

    // The last of them takes the bridge along.
    for n in [11, 14] {
        hosts[0].manager().detach(&world::id(n)).await.unwrap();
    }
    hosts[0].run(on_overlay(14)).await;
    assert!(!by_pair(&hosts[0], 14));
    assert_eq!(hosts[0].tcp(&hosts[0].ns_of(14), "10.0.1.12:80").unwrap(), "task12 10.0.1.14");
    let _ = settled(&hosts[0]).await;
}

/// Its servers are still there, and their namespace with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_address_is_free_as_soon_as_its_container_is_gone() {
    let (_world, mut hosts) = swarm("e", &[]).await;
    for _ in 0..5 {
        hosts[0].manager().detach(&world::id(11)).await.unwrap();
        hosts[0].run(on_overlay(11)).await;
        assert_eq!(hosts[1].tcp(&hosts[1].ns_of(12), "10.0.1.11:80").unwrap(), "task11 10.0.1.12");
    }
    // One that ended while the daemon was away.
    hosts[0].restart_without(11).await;
    hosts[0].run(on_overlay(11)).await;
    assert_eq!(hosts[1].tcp(&hosts[1].ns_of(12), "10.0.1.11:80").unwrap(), "task11 10.0.1.12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_link_that_a_daemon_died_over_is_gone_with_the_next() {
    let world = World::new("n", 1);
    let mut host = Host::open(&world, 1, false).await;
    host.add_bridge(skep_netplan::state::UNNAMED);
    host.restart().await;
    assert_eq!(host.links(), ["eth0", "lo"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_gets_another_address_keeps_its_containers_connections() {
    let (_world, hosts) = swarm("h", &[]).await;
    let mut held = hosts[0].connect(&hosts[0].ns_of(11), "10.0.1.13:80");
    let moved = Ipv4Addr::new(192, 168, 77, 33);
    hosts[2].command(&format!("ip addr add {moved}/24 dev eth0"));
    for host in &hosts {
        let mut plane = plane(host.n, &TASKS, &[12, 13]);
        let at = |p: Peer| if p.node == node(3) { Peer { addr: moved, ..p } } else { p };
        plane.peers = (1..=3).filter(|n| *n != host.n).map(peer).map(at).collect();
        let own = if host.n == 3 { moved } else { underlay(host.n) };
        host.manager().set_dataplane(node(host.n), own, DataPlane { addr: Some(own), ..plane }).await.unwrap();
    }
    // At once, not when its turn comes to be looked at.
    assert_eq!(hosts[2].links_of(&hosts[2].ns_of(13)), ["eth0", "eth1", "lo"]);
    world::still_alive(&mut held);
    assert_eq!(hosts[2].tcp(&hosts[2].ns_of(13), "10.0.1.11:80").unwrap(), "task11 10.0.1.13");
    let _ = settled(&hosts[2]).await;
}
