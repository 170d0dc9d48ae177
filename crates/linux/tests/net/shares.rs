//! Networks of kinds that not every kernel has: ipvlan, and links with tags of IEEE 802.1Q.

use super::*;

/// Whether the kernel can make a link of this kind on `eth0` of a host. What it cannot, it says.
fn kernel_has(host: &Host, kind: &str) -> bool {
    let made = host.try_command(&format!("ip link add link eth0 name trial type {kind}"));
    let _ = host.try_command("ip link del trial");
    made
}

/// A network whose containers share a link of the LAN.
fn on_lan(world: &World, driver: &str, options: &[(&str, &str)]) -> LocalNetworkSpec {
    LocalNetworkSpec {
        driver: driver.to_owned(),
        subnet: Some("192.168.77.0/24".parse().unwrap()),
        gateway: Some(world.client_addr()),
        ..sharing("lan", options)
    }
}

async fn attach(host: &Host, n: u8) -> Result<skep_engine::net::Sandbox, NetError> {
    let mut wanted = request(&format!("c{n}"), n);
    wanted.networks = vec![at("lan", &format!("192.168.77.5{n}"))];
    host.manager().attach(wanted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn containers_share_the_links_address_where_the_kernel_has_ipvlan() {
    let world = World::new("i", 2);
    let mut hosts = [Host::open(&world, 1, false).await, Host::open(&world, 2, false).await];
    let has = kernel_has(&hosts[0], "ipvlan");
    for (mode, flag) in [("l2", "bridge"), ("l3", "bridge"), ("l3s", "private")] {
        for (host, n) in hosts.iter_mut().zip([1, 2]) {
            let spec = on_lan(&world, "ipvlan", &[("parent", "eth0"), ("ipvlan_mode", mode), ("ipvlan_flag", flag)]);
            host.manager().create_network(spec).await.unwrap();
            match attach(host, n).await {
                Ok(_) => assert!(has),
                Err(e) => assert!(!has && e.to_string().contains("create link eth0"), "{mode}: {e}"),
            }
        }
        if has {
            let [one, two] = &hosts[..] else { panic!("two hosts") };
            for (host, n) in [(one, 1), (two, 2)] {
                host.serve(n, &format!("c{n}"));
            }
            if mode == "l2" {
                assert_eq!(one.tcp(&one.ns_of(1), "192.168.77.52:80").unwrap(), "c2 192.168.77.51");
                assert_eq!(world.client_tcp("192.168.77.51:80").unwrap(), format!("c1 {}", world.client_addr()));
            } else {
                // Without Ethernet of its own a container is reached by a route to its host.
                world.client_route("192.168.77.51/32", underlay(1));
                assert_eq!(world.client_tcp("192.168.77.51:80").unwrap(), format!("c1 {}", world.client_addr()), "{mode}");
            }
            let _ = settled(one).await;
        }
        for (host, n) in hosts.iter().zip([1, 2]) {
            host.manager().detach(&world::id(n)).await.unwrap();
            host.manager().remove_network("lan").await.unwrap();
            assert_eq!(host.links(), ["eth0", "lo"], "left on host {}", host.n);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tag_keeps_containers_apart_where_the_kernel_has_vlans() {
    let world = World::new("t", 2);
    let hosts = [Host::open(&world, 1, false).await, Host::open(&world, 2, false).await];
    let has = kernel_has(&hosts[0], "vlan id 9");
    for (host, n) in hosts.iter().zip([1, 2]) {
        let made = host.manager().create_network(on_lan(&world, "macvlan", &[("parent", "eth0.7")])).await;
        match made {
            Ok(_) => assert!(has),
            Err(e) => assert!(!has && e.to_string().contains("eth0.7"), "{e}"),
        }
        if has {
            attach(host, n).await.unwrap();
            host.serve(n, &format!("c{n}"));
        }
    }
    if has {
        let [one, _] = &hosts[..] else { panic!("two hosts") };
        assert_eq!(one.tcp(&one.ns_of(1), "192.168.77.52:80").unwrap(), "c2 192.168.77.51");
        assert!(world.client_tcp("192.168.77.51:80").is_err(), "without the tag it is not reached");
    }
    for (host, n) in hosts.iter().zip([1, 2]).filter(|_| has) {
        host.manager().detach(&world::id(n)).await.unwrap();
        host.manager().remove_network("lan").await.unwrap();
    }
    for host in &hosts {
        assert_eq!(host.links(), ["eth0", "lo"], "left on host {}", host.n);
    }
}
