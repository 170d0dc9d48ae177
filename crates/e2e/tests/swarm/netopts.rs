//! Options of networks and of published ports: who may reach whom, at which address, and by which task.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{tables, that, wait, web};
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);
const ALL: [&str; 3] = ["manager", "worker1", "worker2"];

fn busybox(bed: &Bed) {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
}

#[test]
fn containers_of_a_bridge_are_kept_apart_and_prune_spares_the_young() {
    needs!();
    let bed = Bed::bare(98, 1, &["--icc=false".to_owned()]);
    busybox(&bed);
    bed.load_demo("ws:1.0", "1.0");
    let d = |args: &str| bed.d("manager", args);
    let _ = d("network create -o com.docker.network.bridge.enable_icc=false apart").ok();
    let _ = d("network create together").ok();
    for (network, reached) in [("bridge", false), ("apart", false), ("together", true)] {
        let of = |n: u8| format!("{network}{n}");
        for n in [1, 2] {
            let _ = d(&format!("run -d --name {} --network {network} busybox:1.28 sleep 100000", of(n))).ok();
        }
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let address = bed.docker("manager", &["inspect", "--format", &format, &of(2)]).ok();
        let ping = d(&format!("exec {} ping -c 1 -W 1 {address}", of(1)));
        assert_eq!(ping.code == 0, reached, "{network}: {}{}", ping.out, ping.err);
    }
    // Published at the network's own address.
    let _ = d("network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 bound").ok();
    let _ = d("run -d --name inner --network bound -p 8085:8000 ws:1.0").ok();
    assert!(d("port inner").ok().contains("127.0.0.1:8085"), "{}", d("port inner").out);
    assert!(web::get(&bed.address("manager"), 8085).is_err());

    d("network create -o com.docker.network.bridge.enable_icc=perhaps x").fails("strconv.ParseBool: parsing \"perhaps\"");
    d("network create -o com.docker.network.bridge.gateway_mode_ipv4=routed x")
        .fails("com.docker.network.bridge.gateway_mode_ipv4");
    d("network create -o com.docker.network.driver.mtu=12 x").fails("com.docker.network.driver.mtu");
    d("network create -d macvlan -o parent=nowhere x").fails("invalid subinterface vlan name nowhere");
    d("network create -d ipvlan -o ipvlan_mode=l4 x").fails("requested ipvlan mode 'l4' is not valid");

    // Two containers on a macvlan network of their own.
    let _ = d("network create -d macvlan --internal --subnet 10.66.0.0/24 shared").ok();
    for n in [1, 2] {
        let _ = d(&format!("run -d --name shared{n} --network shared --ip 10.66.0.1{n} busybox:1.28 sleep 100000")).ok();
    }
    wait("the other container of a macvlan network", SOON, || {
        let ping = d("exec shared1 ping -c 1 -W 1 shared2");
        that(ping.code == 0, format!("{}{}", ping.out, ping.err))
    });
    assert_eq!(d("network inspect --format {{.Driver}} shared").ok(), "macvlan");

    let _ = d("network create young").ok();
    assert!(!d("network prune -f --filter until=1h").ok().contains("young"));
    assert!(d("network prune -f --filter until=0s").ok().contains("young"));
}

#[test]
fn networks_are_made_by_a_configuration() {
    needs!();
    let bed = Bed::bare(153, 1, &[]);
    busybox(&bed);
    for (client, third) in Client::BOTH.into_iter().zip([61, 62]) {
        let d = |args: &str| client.line(&bed, "manager", args);
        let subnet = format!("10.{third}.0.0/24");
        let given = format!("--subnet {subnet} --gateway 10.{third}.0.9 --ip-range 10.{third}.0.64/27 --label a=b");
        let _ = d(&format!("network create --config-only {given} -o com.docker.network.driver.mtu=1400 conf")).ok();
        let shown = "{{.Driver}} {{.Scope}} {{.ConfigOnly}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.a}}";
        let inspect = |name: &str| client.run(&bed, "manager", &["network", "inspect", "-f", shown, name]).ok();
        assert_eq!(inspect("conf"), format!("null local true 10.{third}.0.9 b"));
        // No network: it holds no subnet and no container, and two may have the same.
        let _ = d(&format!("network create --config-only --subnet {subnet} twin")).ok();
        let on = d("run --rm --network conf busybox:1.28 true");
        assert!(on.code == 125 && on.err.contains("cannot create endpoint on configuration-only network"), "{on:?}");
        let _ = d("create --name loose busybox:1.28 true").ok();
        d("network connect conf loose").fails("cannot create endpoint on configuration-only network");
        let _ = d("rm loose").ok();

        let _ = d("network create --config-from conf real").ok();
        assert_eq!(inspect("real"), format!("bridge local false 10.{third}.0.9 b"));
        assert_eq!(d("network inspect -f {{.ConfigFrom.Network}} real").ok(), "conf");
        let look = "ip -4 addr show eth0 | grep -o 'inet [0-9./]*'; cat /sys/class/net/eth0/mtu";
        let run = ["run", "--rm", "--network", "real", "busybox:1.28", "sh", "-c", look];
        assert_eq!(client.run(&bed, "manager", &run).ok(), format!("inet 10.{third}.0.64/24\n1400"));
        // The subnet is the first one's now.
        d("network create --config-from twin other").fails("Pool overlaps with other one on this address space");
        d("network rm conf").fails("configuration network \"conf\" is in use");
        d("network create --config-from nothing x").fails("configuration network \"nothing\" does not exist");
        d("network create --config-from real x").fails("configuration network \"real\" does not exist");
        d("network create --config-from conf --config-only x").fails("cannot depend on another configuration network");
        d("network create --config-only --internal x").fails("Network operator fields like");
        d("network create --config-only --scope swarm x").fails("Network operator fields like");
        d("network create --config-from conf --subnet 10.70.0.0/24 x").fails("user specified configurations are not supported");
        d("network create --config-from conf --label c=d x").fails("user specified configurations are not supported");
        d("network create --config-from conf -o a=b x").fails("network driver options are not supported");
        assert!(!d("network ls --format {{.Name}}").ok().lines().any(|l| l == "x"), "a refusal left something");

        // A restart of the daemon keeps it all, and prune the configurations.
        bed.kill_daemon("manager");
        bed.start_daemon("manager");
        assert_eq!(client.run(&bed, "manager", &run).ok(), format!("inet 10.{third}.0.64/24\n1400"));
        assert!(d("network prune -f").ok().contains("real"));
        assert_eq!(inspect("conf"), format!("null local true 10.{third}.0.9 b"));
        let _ = d("network create -d macvlan --internal --config-from twin shared").ok();
        let joined = "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{.Internal}}";
        assert_eq!(client.run(&bed, "manager", &["network", "inspect", "-f", joined, "shared"]).ok(), format!("{subnet} true"));
        let _ = d("network rm shared conf twin").ok();
    }
}

/// Asks a container's resolver for SRV records; the answer's bytes.
fn srv(bed: &Bed, host: &str, container: &str, name: &str) -> Result<Vec<u8>, String> {
    let pid = bed.d(host, &format!("inspect --format {{{{.State.Pid}}}} {container}")).ok();
    let mut query = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.bytes());
    }
    query.extend([0, 0, 33, 0, 1]);
    let asked = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let ns = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&ns), None)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let _ = socket.send_to(&query, "127.0.0.11:53")?;
        let mut buffer = vec![0; 2048];
        let n = socket.recv(&mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    });
    asked.join().map_err(|_| "the thread of a question".to_owned())?.map_err(|e| e.to_string())
}

#[test]
fn published_ports_have_an_address_a_name_and_a_preference() {
    needs!();
    let bed = Bed::swarm(99, 3, 1);
    busybox(&bed);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let worker = bed.address("worker1");
    let publish = format!("published=8090,target=8000,host_ip={worker},name=http");
    let _ = m("network create -d overlay --attachable -o com.docker.network.driver.mtu=1400 net").ok();
    let create = ["service", "create", "-d", "--name", "one", "--replicas", "2", "--network", "net", "--publish", &publish];
    let _ = bed.skep("manager", &[&create[..], &["ws:1.0"]].concat()).ok();
    bed.await_running("manager", "one", 2, LONG);
    wait("the page at its address", SOON, || web::get(&worker, 8090));
    for host in ["manager", "worker2"] {
        assert!(web::get(&bed.address(host), 8090).is_err(), "{host} answers too");
    }
    let shown = bed.skep("manager", &["service", "inspect", "one"]).ok();
    assert!(shown.contains(&format!("\"HostIP\": \"{worker}\"")), "{shown}");
    let refused = bed.skep("manager", &["service", "create", "--publish", "target=80,host_ip=x", "ws:1.0"]);
    assert!(refused.code != 0 && refused.err.contains("invalid host_ip value (x)"), "{}", refused.err);

    // Names of ports, and the size of packets.
    let _ = m("run -d --name asker --network net busybox:1.28 sleep 100000").ok();
    let size = m("exec asker cat /sys/class/net/eth0/mtu").ok();
    assert_eq!(size, "1350");
    wait("SRV records", SOON, || {
        let answer = srv(&bed, "manager", "asker", "_http._tcp.one")?;
        let counts = (answer.get(7).copied(), answer.get(11).copied());
        let port = answer.windows(2).any(|w| w == 8000u16.to_be_bytes());
        that(counts == (Some(2), Some(2)) && port && answer.windows(3).any(|w| w == b"one"), format!("{answer:?}"))
    });
    m("network create -d overlay -o com.docker.network.driver.mtu=20 x").fails("invalid MTU value: 20");

    // Local tasks first, as long as there are any.
    let _ = m("service create -d --name near --replicas 3 --label skep.mesh.prefer=local --replicas-max-per-node 1 -p 8091:8000 ws:1.0").ok();
    bed.await_running("manager", "near", 3, LONG);
    tables_of_preference(&bed, 1);
    let _ = m("service scale -d near=1").ok();
    bed.await_running("manager", "near", 1, LONG);
    tables_of_preference(&bed, 1);
    let _ = m("service update -d --label-rm skep.mesh.prefer --replicas 3 near").ok();
    bed.await_running("manager", "near", 3, LONG);
    tables_of_preference(&bed, 3);
    m("service create --label skep.mesh.prefer=far ws:1.0").fails("the value must be local or any");

    // On the network of their hosts, by both clients.
    let only = format!("node.hostname=={}", "worker1");
    let create = ["service", "create", "-d", "--name", "bare", "--network", "host", "--constraint", &only, "ws:1.0"];
    let _ = bed.skep("manager", &create).ok();
    wait("the page of a task on its host's own network", LONG, || web::get(&worker, 8000));
    let _ = m("service create -d --name plain --network bridge ws:1.0").ok();
    bed.await_running("manager", "plain", 1, LONG);
    let networks = ["bare", "plain"].map(|name| {
        let shown =
            [m(&format!("service inspect --pretty {name}")), bed.skep("manager", &["service", "inspect", "--pretty", name])];
        shown.map(|s| s.ok().lines().find(|l| l.starts_with("Networks:")).map(|l| l.trim().to_owned()))
    });
    let line = |name: &str| Some(format!("Networks: {name}"));
    assert_eq!(networks, [[line("host"), line("host")], [line("bridge"), line("bridge")]]);
    let _ = m("service update -d --network-add net --network-rm host bare").ok();
    wait("it is its host's no more", LONG, || match web::get(&worker, 8000) {
        Err(_) => Ok(()),
        Ok(page) => Err(page),
    });
}

/// Waits until each host answers by so many of the tasks, its own among them if it has one.
fn tables_of_preference(bed: &Bed, wanted: usize) {
    for host in ALL {
        wait(&format!("{host} to answer by {wanted} tasks"), SOON, || {
            let mut seen = BTreeSet::new();
            for _ in 0..30 {
                seen.insert(web::field(&web::get(&bed.address(host), 8091)?, "Hostname"));
            }
            let own = bed.d(host, "ps -q --filter name=near").ok();
            let local =
                own.is_empty() || seen.iter().any(|s| own.lines().any(|o| o.starts_with(s.as_str()) || s.starts_with(o)));
            that(seen.len() == wanted && local, format!("{seen:?}, own: {own}"))
        });
    }
}

#[test]
fn the_ingress_network_is_replaced() {
    needs!();
    let bed = Bed::swarm(100, 3, 1);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    m("network create -d overlay --ingress other").fails("is already present");
    let _ = m("service create -d --name first --replicas 3 -p 8080:8000 ws:1.0").ok();
    bed.await_running("manager", "first", 3, LONG);
    let (status, text) = bed.refused("manager", "DELETE", "/networks/ingress", None);
    assert!(status == 400 && text.contains("ingress network cannot be removed because service"), "{status} {text}");
    let _ = m("service rm first").ok();
    wait("the ingress network to be removed", SOON, || bed.api("manager", "DELETE", "/networks/ingress", None).map(drop));
    m("service create -p 8080:8000 ws:1.0").fails("service needs ingress network, but no ingress network is present");
    for host in ALL {
        wait(&format!("no mesh on {host}"), SOON, || {
            let links = tables::dump(&bed, host)?["Spaces"][0]["Links"].clone();
            that(links["sking"].is_null(), links)
        });
    }
    let body = json!({"Name": "mine", "Driver": "overlay", "Ingress": true, "Attachable": true});
    let (status, text) = bed.refused("manager", "POST", "/networks/create", Some(&body));
    assert!(status == 400 && text.contains("ingress network cannot be attachable"), "{status} {text}");
    let _ = m("network create -d overlay --ingress --subnet 10.77.0.0/16 --gateway 10.77.0.2 mine").ok();
    assert_eq!(m("network inspect --format {{.Ingress}} mine").ok(), "true");
    // It has both families, as each has.
    let subnets = m("network inspect --format {{range.IPAM.Config}}{{.Subnet}},{{end}} mine").ok();
    let six = subnets.split(',').find_map(|s| s.strip_suffix("::/64")).unwrap_or_else(|| panic!("{subnets}")).to_owned() + "::";
    let _ = m("service create -d --name second --replicas 3 -p 8080:8000 ws:1.0").ok();
    bed.await_running("manager", "second", 3, LONG);
    for host in ALL {
        wait("the page by the new mesh", SOON, || web::get(&bed.address(host), 8080));
        // The nodes themselves have new addresses in it.
        wait("the new mesh alone", SOON, || {
            let all = tables::dump(&bed, host)?["Spaces"][0]["Neighbours"].clone();
            let meshed: Vec<String> = all.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
            let stands_for_none = |k: &String| k.starts_with("169.254.") || k.starts_with("fe80:");
            let meshed: Vec<&String> = meshed.iter().filter(|k| k.ends_with(" sking") && !stands_for_none(k)).collect();
            let new = |k: &&String| k.starts_with("10.77.") || k.starts_with(&six);
            that(meshed.len() >= 8 && meshed.iter().all(new), format!("{meshed:?}"))
        });
    }
    tables::await_equal(&bed, &ALL, "manager", LONG);
}
