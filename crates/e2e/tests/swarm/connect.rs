//! Networks of one host: joined and left while containers run, shared, with addresses and ports to choose from.

use std::time::Duration;

use skep_e2e::bed::Bed;
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_running_container_joins_and_leaves_networks() {
    needs!();
    let mut bed = bare(63);
    for client in Client::BOTH {
        bed = bed.by(client);
        joins_and_leaves(&bed);
    }
}

fn joins_and_leaves(bed: &Bed) {
    let d = |args: &str| bed.d("manager", args);
    for net in ["a", "b"] {
        let _ = d(&format!("network create {net}")).ok();
    }
    let _ = d("network create --internal --subnet 10.77.0.0/24 inside").ok();
    let _ = d("run -d --name one busybox:1.28 sleep 1000").ok();
    let _ = d("run -d --name two --network a busybox:1.28 sleep 1000").ok();
    let reaches = |from: &str, name: &str, wanted: bool| {
        wait(&format!("{from} to reach {name}: {wanted}"), SOON, || {
            let ping: Run = d(&format!("exec {from} ping -c 1 -W 1 {name}"));
            that((ping.code == 0) == wanted, format!("{}{}", ping.out, ping.err))
        });
    };
    reaches("two", "one", false);
    let _ = d("network connect --alias box a one").ok();
    for name in ["one", "box"] {
        reaches("two", name, true);
    }
    // The one that was on the default bridge alone finds names now, too.
    reaches("one", "two", true);
    let _ = d("network connect --ip 10.77.0.9 inside one").ok();
    let template = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}},{{end}}";
    let shown = || bed.docker("manager", &["inspect", "--format", template, "one"]).ok();
    let networks = shown();
    assert!(
        networks.contains("a=172.") && networks.contains("bridge=172.") && networks.contains("inside=10.77.0.9,"),
        "{networks}"
    );
    assert!(d("exec one cat /etc/hosts").ok().contains("10.77.0.9\t"));
    assert!(d("exec one ip route").ok().contains("default via 172.17.0.1"));
    d("network connect a one").fails("endpoint with name one already exists in network a");
    d("network disconnect b one").fails("is not connected to network b");
    d("network connect host one").fails("container cannot be disconnected from host network or connected to host network");
    d("network connect nosuch one").fails("network nosuch not found");
    d("network rm a").fails("has active endpoints");

    // A restart of the daemon and of the container keep what was joined.
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    let _ = d("restart -t 0 one").ok();
    reaches("two", "box", true);
    assert_eq!(shown().split(',').filter(|n| !n.is_empty()).count(), 3);
    // The way out moves to another bridge when its own is left.
    let _ = d("network disconnect bridge one").ok();
    let route = d("exec one ip route").ok();
    assert!(route.contains("default via 172.") && !route.contains("172.17.0.1"), "{route}");
    let _ = d("network disconnect a one").ok();
    reaches("two", "box", false);
    assert_eq!(shown(), "inside=10.77.0.9,");
    assert!(!d("exec one ip route").ok().contains("default"));
    // One that does not run joins for its next start.
    let _ = d("stop -t 0 one").ok();
    let _ = d("network connect b one").ok();
    let _ = d("start one").ok();
    let networks = shown();
    assert!(networks.starts_with("b=172.") && networks.ends_with("inside=10.77.0.9,"), "{networks}");
    let _ = d("rm -f one two").ok();
    for net in ["a", "b", "inside"] {
        assert_eq!(d(&format!("network rm {net}")).ok(), net);
    }
}

fn bare(number: u8) -> Bed {
    let bed = Bed::bare(number, 1, &[]);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    bed
}

#[test]
fn addresses_and_ports_come_from_the_ranges_that_were_given() {
    needs!();
    let mut bed = bare(76);
    for client in Client::BOTH {
        bed = bed.by(client);
        ranges(&bed);
    }
}

fn ranges(bed: &Bed) {
    let d = |args: &str| bed.d("manager", args);
    let address = |name: &str| {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        bed.docker("manager", &["inspect", "--format", template, name]).ok()
    };
    d("network create --subnet 10.78.0.0/24 --ip-range 10.79.0.0/25 off").fails("10.79.0.0/25");
    let ranged = "--subnet 10.78.0.0/24 --gateway 10.78.0.1 --ip-range 10.78.0.128/25 --aux-address other=10.78.0.129";
    let _ = d(&format!("network create {ranged} ranged")).ok();
    let shown = d("network inspect ranged").ok();
    assert!(shown.contains("\"IPRange\": \"10.78.0.128/25\"") && shown.contains("\"other\": \"10.78.0.129\""), "{shown}");
    for (name, expected) in [("one", "10.78.0.128"), ("two", "10.78.0.130")] {
        let _ = d(&format!("run -d --name {name} --network ranged -p 18080-18082:80 busybox:1.28 sleep 100000")).ok();
        assert_eq!(address(name), expected);
    }
    let _ = d("run -d --name three --network ranged --ip 10.78.0.7 -p 18080-18082:80 busybox:1.28 sleep 100000").ok();
    assert_eq!(address("three"), "10.78.0.7");
    for (name, port) in [("one", 18080), ("two", 18081), ("three", 18082)] {
        let ports = d(&format!("port {name}")).ok();
        assert!(ports.lines().any(|l| l == format!("80/tcp -> 0.0.0.0:{port}")), "{ports}");
    }
    let full = d("run --rm -p 18080-18082:80 busybox:1.28 true");
    assert!(full.code == 125 && full.err.contains("Bind for 0.0.0.0:18080 failed: port is already allocated"), "{}", full.err);

    // Containers that shall not reach each other do not.
    let _ = d("network create -o com.docker.network.bridge.enable_icc=false apart").ok();
    for name in ["left", "right"] {
        let _ = d(&format!("run -d --name {name} --network apart busybox:1.28 sleep 100000")).ok();
    }
    assert!(d("exec left ping -c 1 -W 1 right").code != 0);

    // What nobody is on goes, but for what is to be kept.
    let _ = d("network create --label keep=yes spare").ok();
    let _ = d("network create waste").ok();
    let pruned = d("network prune -f --filter label!=keep").ok();
    assert!(pruned.contains("waste") && !pruned.contains("spare") && !pruned.contains("ranged"), "{pruned}");
    let _ = d("rm -f one two three left right").ok();
    let pruned = d("network prune -f").ok();
    assert!(["spare", "ranged", "apart"].iter().all(|n| pruned.contains(n)), "{pruned}");
    let left = d("network ls --format {{.Name}}").ok();
    assert_eq!(left.lines().collect::<std::collections::BTreeSet<_>>(), ["bridge", "host", "none"].into());
}

#[test]
fn a_container_may_share_the_network_of_another() {
    needs!();
    let mut bed = bare(77);
    for client in Client::BOTH {
        bed = bed.by(client);
        shared(&bed);
    }
}

fn shared(bed: &Bed) {
    let d = |args: &str| bed.d("manager", args);
    let _ = d("network create net").ok();
    let _ = d("run -d --name other --network net busybox:1.28 sleep 100000").ok();
    let _ = d("run -d --name owner --hostname lent --network net busybox:1.28 sleep 100000").ok();
    let _ = d("run -d --name guest --network container:owner busybox:1.28 nc -l -p 9000 -e echo hello").ok();
    let owner = d("inspect --format {{.ID}} owner").ok();
    assert_eq!(d("inspect --format {{.HostConfig.NetworkMode}} guest").ok(), format!("container:{owner}"));
    for file in ["hosts", "resolv.conf", "hostname"] {
        let read = |name: &str| d(&format!("exec {name} cat /etc/{file}")).ok();
        assert_eq!(read("guest"), read("owner"), "/etc/{file}");
    }
    assert_eq!(d("exec guest hostname").ok(), "lent");
    // On the loopback device of both, and with the names of the owner's networks.
    wait("the guest's answer at the owner's loopback", SOON, || {
        let said = bed.docker("manager", &["exec", "owner", "sh", "-c", "nc -w 1 127.0.0.1 9000 < /dev/null"]);
        that(said.out.contains("hello"), format!("{}{}", said.out, said.err))
    });
    let asks = d("run --rm --network container:owner busybox:1.28 ping -c 1 -W 2 other");
    assert_eq!(asks.code, 0, "{}{}", asks.out, asks.err);
    let _ = d("run -d --name third --network container:owner busybox:1.28 sleep 100000").ok();
    d("network connect net third")
        .fails("container sharing network namespace with another container or host cannot be connected to any other network");
    let refused = |args: &str, why: &str| {
        let run = d(&format!("run --rm {args} busybox:1.28 true"));
        assert!(run.code == 125 && run.err.contains(why), "{args}: {}", run.err);
    };
    refused("--network container:nosuch", "No such container: nosuch");
    refused("--network container:owner --hostname x", "conflicting options: hostname and the network mode");
    refused("--network container:owner --dns 1.1.1.1", "conflicting options: dns and the network mode");
    refused("--network container:owner -p 80:80", "conflicting options: port publishing and the container type network mode");
    // The daemon's restart leaves both as they are; without its owner it does not start again.
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    assert_eq!(d("exec third ping -c 1 -W 2 other").code, 0);
    let _ = d("rm -f third").ok();
    let _ = d("stop -t 0 owner guest").ok();
    let lone = d("start guest");
    assert!(lone.err.contains(&format!("cannot join network of a non running container: {owner}")), "{}", lone.err);
    let _ = d("rm -f owner guest other").ok();
    let _ = d("network rm net").ok();
}
