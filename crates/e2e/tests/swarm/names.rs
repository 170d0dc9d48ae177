//! Networks and names (J3).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait, web};
use skep_testkit::images;

use crate::needs;

fn busybox() -> Vec<u8> {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    images::archive(&image, "busybox:1.28")
}

/// The addresses that nslookup printed for the name, without the server's own.
fn addresses(text: &str) -> BTreeSet<String> {
    let answers = text.split("Name:").skip(1);
    answers
        .flat_map(|part| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .map(|w| w.trim_end_matches(":53").to_owned())
        .filter(|w| w.parse::<Ipv4Addr>().is_ok())
        .collect()
}

#[test]
fn services_find_each_other() {
    needs!();
    services_find_each_other_by(Client::Docker, 27);
}

#[test]
fn services_find_each_other_by_skep() {
    needs!();
    services_find_each_other_by(Client::Skep, 118);
}

fn services_find_each_other_by(client: Client, number: u8) {
    let bed = Bed::swarm(number, 3, 1).by(client);
    bed.load_demo("whoami:1.0", "1.0");
    bed.load(busybox());
    let m = |args: &str| bed.d("manager", args);
    let listed = m("network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}").ok();
    for line in
        ["bridge|bridge|local", "host|host|local", "none|null|local", "docker_gwbridge|bridge|local", "ingress|overlay|swarm"]
    {
        assert!(listed.lines().any(|l| l == line), "{line} in\n{listed}");
    }
    let _ = m("network create -d overlay demo").ok();
    let _ = m("network create -d overlay --subnet 192.168.22.0/24 --gateway 192.168.22.1 --attachable my_net1").ok();
    let ipam = m("network inspect --format {{(index.IPAM.Config0).Subnet}} my_net1");
    let ipam = if ipam.code == 0 { ipam.ok() } else { m("network inspect my_net1").ok() };
    assert!(ipam.contains("192.168.22.0/24"), "{ipam}");
    assert!(m("network inspect my_net1").ok().contains("192.168.22.1"));
    assert!(m("network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}").ok().contains("demo|overlay|swarm"));

    let refused = m("run --rm --network demo busybox:1.28 true").err;
    let why =
        "Could not attach to network demo: rpc error: code = PermissionDenied desc = network demo not manually attachable";
    assert!(refused.contains(why), "{refused}");

    let _ = m("service create -d --name whoami --replicas 2 -p 8000:8000 --network demo whoami:1.0").ok();
    let _ = bed
        .docker(
            "manager",
            &[
                "service",
                "create",
                "-d",
                "--name",
                "client",
                "--network",
                "demo",
                "--constraint",
                "node.role==manager",
                "busybox:1.28",
                "sh",
                "-c",
                "while true; do sleep 3600; done",
            ],
        )
        .ok();
    bed.await_running("manager", "whoami", 2, LONG);
    let client = bed.await_running("manager", "client", 1, LONG)[0].container.clone();
    let exec = |args: &str| bed.d("manager", &format!("exec {client} {args}"));

    let vips = m("service inspect --format {{range.Endpoint.VirtualIPs}}{{.Addr}},{{end}} whoami").ok();
    let demo: Vec<&str> = vips.split(',').filter_map(|v| v.split_once('/').map(|(ip, _)| ip)).collect();
    let lookup = |name: &str| {
        wait(&format!("nslookup {name}"), Duration::from_secs(10), || {
            let run = exec(&format!("nslookup {name}"));
            let found = addresses(&run.out);
            if found.is_empty() { Err(format!("{}{}", run.out, run.err)) } else { Ok(found) }
        })
    };
    let vip = lookup("whoami");
    assert_eq!(vip.len(), 1, "{vip:?}");
    assert!(demo.contains(&vip.first().map(String::as_str).unwrap_or_default()), "{vip:?} of {vips}");
    wait("an answer to a ping of the name", Duration::from_secs(10), || {
        let ping = exec("ping -c 1 -W 2 whoami");
        that(ping.code == 0 && ping.out.contains("1 packets received"), format!("{}{}", ping.out, ping.err))
    });

    for replicas in [3, 2, 3] {
        let _ = m(&format!("service scale -d whoami={replicas}")).ok();
        bed.await_running("manager", "whoami", replicas, LONG);
        assert_eq!(lookup("whoami"), vip, "the VIP changed with the scale");
        wait("the tasks' own addresses", Duration::from_secs(10), || {
            let found = addresses(&exec("nslookup tasks.whoami").out);
            that(found.len() == replicas && found.is_disjoint(&vip), format!("{found:?}"))
        });
    }
    // All tasks answer by the one name. Not `wget`: a static one of Debian's fails on names.
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 3 nc whoami 8000";
    let mut hosts = BTreeSet::new();
    let mut failures = Vec::new();
    wait("answers of all three tasks", Duration::from_secs(20), || {
        let page = bed.docker("manager", &["exec", &client, "sh", "-c", ask]);
        let host = web::field(&page.out.replace('\r', ""), "Hostname");
        if host.is_empty() {
            failures.push(format!("exit code {}: {}{}", page.code, page.out, page.err));
        }
        that(!host.is_empty(), format!("{}{}", page.out, page.err))?;
        hosts.insert(host);
        that(hosts.len() == 3, format!("{hosts:?}"))
    });
    assert!(failures.is_empty(), "a task that was named did not answer: {failures:?}");
    // By a task's own name, and outwards of the swarm's names: unknown ones are unknown.
    let live = bed.running("manager", "whoami");
    let own = lookup(&format!("whoami.{}.{}", live[0].slot, live[0].id));
    assert_eq!(own.len(), 1);
    assert!(exec("nslookup no-such-service").code != 0);
    // No container has the VIP.
    let interfaces = exec("ip addr").ok();
    assert!(!interfaces.contains(&format!("inet {}/24", vip.first().map(String::as_str).unwrap_or_default())), "{interfaces}");

    // Published by itself: a port from the range, shown in `service ls`.
    let _ = m("service create -d --name a --publish published=8080,target=8000 whoami:1.0").ok();
    let _ = m("service create -d --name b --publish 8000 whoami:1.0").ok();
    let ports = m("service ls --format {{.Name}}|{{.Ports}}").ok();
    assert!(ports.lines().any(|l| l == "a|*:8080->8000/tcp"), "{ports}");
    let chosen = ports.lines().find_map(|l| l.strip_prefix("b|*:")).and_then(|l| l.split_once("->")).map(|(p, _)| p.to_owned());
    let chosen: u16 = chosen.unwrap_or_default().parse().unwrap_or_else(|e| panic!("{e}: {ports}"));
    assert!((30000..=32767).contains(&chosen), "{ports}");
    for host in ["manager", "worker1", "worker2"] {
        for port in [8080, chosen] {
            wait("a published page", Duration::from_secs(20), || web::get(&bed.address(host), port));
        }
    }
    let network = m("network inspect --format {{.ID}} demo").ok();
    m("network rm demo").fails(&format!("rpc error: code = FailedPrecondition desc = network {network} is in use by "));
    let _ = m("service rm whoami client").ok();
    wait("the network to be free", LONG, || {
        let rm = m("network rm demo");
        that(rm.code == 0, rm.err)
    });
}

#[test]
fn dnsrr_and_aliases() {
    needs!();
    let bed = Bed::swarm(28, 2, 1);
    bed.load_demo("whoami:1.0", "1.0");
    bed.load(busybox());
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay demo").ok();
    let _ = m("service create -d --name rr --replicas 3 --endpoint-mode dnsrr --network name=demo,alias=other whoami:1.0").ok();
    let _ = m("service create -d --name client --network demo --constraint node.role==manager busybox:1.28 sleep 100000").ok();
    bed.await_running("manager", "rr", 3, LONG);
    let client = bed.await_running("manager", "client", 1, LONG)[0].container.clone();
    for name in ["rr", "other", "tasks.rr"] {
        wait("the tasks' addresses", Duration::from_secs(10), || {
            let run = bed.d("manager", &format!("exec {client} nslookup {name}"));
            that(addresses(&run.out).len() == 3, format!("{name}: {}{}", run.out, run.err))
        });
    }
}
