//! Containers that are no tasks on overlay networks, on managers and workers (J3).

use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);
const ADDRESSES: &str = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}},{{end}}";

fn bed(number: u8, hosts: u8) -> Bed {
    let bed = Bed::swarm(number, hosts, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    bed
}

fn reaches(bed: &Bed, host: &str, from: &str, name: &str, wanted: bool) {
    wait(&format!("{from} to reach {name}: {wanted}"), SOON, || {
        let ping: Run = bed.d(host, &format!("exec {from} ping -c 1 -W 1 {name}"));
        that((ping.code == 0) == wanted, format!("{}{}", ping.out, ping.err))
    });
}

/// Networks that a host lists.
fn listed(bed: &Bed, host: &str) -> Vec<String> {
    bed.d(host, "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}").ok().lines().map(str::to_owned).collect()
}

/// Waits until nobody is on a network any more, and removes it.
fn remove(bed: &Bed, network: &str) {
    wait(&format!("{network} to be free"), LONG, || {
        let rm = bed.d("manager", &format!("network rm {network}"));
        that(rm.code == 0, rm.err)
    });
}

#[test]
fn containers_of_two_hosts_find_each_other_on_an_attachable_network() {
    needs!();
    let mut bed = bed(72, 3);
    for client in Client::BOTH {
        bed = bed.by(client);
        meet(&bed);
    }
}

fn meet(bed: &Bed) {
    let m = |args: &str| bed.d("manager", args);
    let w = |args: &str| bed.d("worker1", args);
    let _ = m("network create -d overlay --subnet 192.168.22.0/24 --gateway 192.168.22.1 --attachable my_net1").ok();
    let _ = m("network create -d overlay closed").ok();
    let line = "my_net1|overlay|swarm".to_owned();
    assert!(!listed(bed, "worker1").contains(&line), "a worker lists a network that it does not have");

    let _ = m("run -tid --network my_net1 --name test1 busybox:1.28").ok();
    let _ = w("run -tid --network my_net1 --network-alias second --name test2 busybox:1.28").ok();
    for (host, from, names) in
        [("worker1", "test2", vec!["test1"]), ("manager", "test1", vec!["test2", "second", "test2.my_net1"])]
    {
        names.iter().for_each(|name| reaches(bed, host, from, name, true));
    }
    // By the short id too, and back from the address to the name.
    let short = m("ps -q --filter name=test1").ok();
    reaches(bed, "worker1", "test2", &short, true);
    let own = w("inspect --format {{.NetworkSettings.Networks.my_net1.IPAddress}} test2").ok();
    assert!(own.starts_with("192.168.22."), "{own}");
    wait("the address to have a name", SOON, || {
        let lookup = m(&format!("exec test1 nslookup {own}"));
        that(lookup.out.contains("test2"), format!("{}{}", lookup.out, lookup.err))
    });
    // A worker has the network while it needs it, and shows who is on it.
    wait("the worker to list the network", SOON, || that(listed(bed, "worker1").contains(&line), "not listed"));
    assert!(!listed(bed, "worker2").contains(&line), "a worker lists a network that it does not have");
    for (host, name) in [("manager", "test1"), ("worker1", "test2")] {
        let shown = bed.d(host, "network inspect my_net1").ok();
        assert!(shown.contains(&format!("\"Name\": \"{name}\"")) && shown.contains("192.168.22.1\""), "{shown}");
    }
    // Outwards as well.
    assert!(w("exec test2 ip route").ok().contains("default via 172."));

    for (host, network) in [("manager", "closed"), ("worker1", "closed"), ("worker1", "ingress")] {
        let why = format!(
            "Could not attach to network {network}: rpc error: code = PermissionDenied desc = network {network} not manually attachable"
        );
        let refused = bed.d(host, &format!("run --rm --network {network} busybox:1.28 true"));
        assert!(refused.code == 125 && refused.err.contains(&why), "{}", refused.err);
    }
    for host in ["manager", "worker1"] {
        let refused = bed.d(host, "run --rm --network nosuch busybox:1.28 true");
        assert!(refused.code == 125 && refused.err.contains("network nosuch not found"), "{}", refused.err);
    }
    let taken = bed.d("worker2", &format!("run --rm --network my_net1 --ip {own} busybox:1.28 true"));
    assert!(taken.code == 125 && taken.err.contains("Address already in use"), "{}", taken.err);
    let _ = bed.d("worker2", "run -d --name test3 --network my_net1 --ip 192.168.22.77 busybox:1.28 sleep 10000").ok();
    reaches(bed, "manager", "test1", "test3", true);
    assert_eq!(bed.docker("worker2", &["inspect", "--format", ADDRESSES, "test3"]).ok(), "my_net1=192.168.22.77,");

    // Services and containers meet by name on one network.
    let _ = m("service create -d --name web --network my_net1 busybox:1.28 sleep 100000").ok();
    bed.await_running("manager", "web", 1, LONG);
    reaches(bed, "worker1", "test2", "web", true);
    let _ = m("service rm web").ok();

    let id = m("network inspect --format {{.ID}} my_net1").ok();
    m("network rm my_net1").fails(&format!("rpc error: code = FailedPrecondition desc = network {id} is in use by "));
    let _ = m("rm -f test1").ok();
    reaches(bed, "worker1", "test2", "test1", false);
    let _ = w("stop -t 0 test2").ok();
    wait("the worker to have left the network", SOON, || that(!listed(bed, "worker1").contains(&line), "still listed"));
    let _ = bed.d("worker2", "rm -f test3").ok();
    remove(bed, "my_net1");
    let gone = w("start test2");
    assert!(gone.err.contains("network my_net1 not found"), "{}", gone.err);
    let _ = w("rm test2").ok();
    let _ = m("network rm closed").ok();
}

#[test]
fn an_attachment_lives_as_long_as_its_container_and_no_longer() {
    needs!();
    let bed = bed(73, 3);
    let m = |args: &str| bed.d("manager", args);
    let w = |args: &str| bed.d("worker1", args);
    let addresses = |host: &str, name: &str| bed.docker(host, &["inspect", "--format", ADDRESSES, name]).ok();
    let _ = m("network create -d overlay --attachable --subnet 10.90.0.0/24 net").ok();
    let _ = m("network create -d overlay --attachable --internal inside").ok();
    let _ = m("run -d --name base --network net busybox:1.28 sleep 100000").ok();

    // Live, to a container that has other networks.
    let _ = w("run -d --name live busybox:1.28 sleep 100000").ok();
    let _ = w("network connect --alias lively net live").ok();
    w("network connect net live").fails("endpoint with name live already exists in network net");
    w("network connect closed live").fails("network closed not found");
    for name in ["live", "lively"] {
        reaches(&bed, "manager", "base", name, true);
    }
    reaches(&bed, "worker1", "live", "base", true);
    let _ = w("network disconnect net live").ok();
    reaches(&bed, "manager", "base", "lively", false);
    assert!(addresses("worker1", "live").starts_with("bridge=172."));
    w("network disconnect net live").fails("net");

    // Nothing leaves an internal network: no way out, and no question to the host's resolvers.
    let _ = w("run -d --name shut --network inside busybox:1.28 sleep 100000").ok();
    assert!(!w("exec shut ip route").ok().contains("default"));
    let _ = m("run -d --name shut2 --network inside busybox:1.28 sleep 100000").ok();
    reaches(&bed, "worker1", "shut", "shut2", true);
    // Joining an open one gives a way out, and leaving it takes that away.
    let _ = w("network connect net shut").ok();
    assert!(w("exec shut ip route").ok().contains("default via 172."));
    let _ = w("network disconnect net shut").ok();
    assert!(!w("exec shut ip route").ok().contains("default"));
    reaches(&bed, "worker1", "shut", "shut2", true);

    // Restarts keep what is held: the policy's, the daemon's, and with no manager to ask.
    let _ = w("run -d --name keeps --restart always --network net busybox:1.28 sh -c read").ok();
    let _ = w("run -d --name stays --restart always --network net busybox:1.28 sleep 100000").ok();
    let before = addresses("worker1", "stays");
    bed.kill_daemon("worker1");
    bed.start_daemon("worker1");
    reaches(&bed, "manager", "base", "stays", true);
    assert_eq!(addresses("worker1", "stays"), before);
    bed.stop_daemon("manager");
    let pid = || w("inspect --format {{.State.Pid}} stays").ok();
    let old = pid();
    let inside: i32 = old.parse().unwrap_or_default();
    let _ = rustix::process::Pid::from_raw(inside).map(|p| rustix::process::kill_process(p, rustix::process::Signal::KILL));
    wait("the container to run again", SOON, || {
        let now = pid();
        that(
            now != old && now != "0" && addresses("worker1", "stays") == before,
            format!("{now} {}", addresses("worker1", "stays")),
        )
    });
    bed.start_daemon("manager");
    reaches(&bed, "manager", "base", "stays", true);

    // A host that loses power comes back with what starts again there, and with nothing else.
    let _ = w("run -d --name falls --network net --ip 10.90.0.99 busybox:1.28 sleep 100000").ok();
    bed.power_off("worker1");
    bed.power_on("worker1");
    wait("the address to be free again", LONG, || {
        let run = bed.d("worker2", "run -d --name falls --network net --ip 10.90.0.99 busybox:1.28 sleep 100000");
        let _ = (run.code != 0).then(|| bed.d("worker2", "rm -f falls"));
        that(run.code == 0, run.err)
    });
    reaches(&bed, "manager", "base", "stays", true);

    // With its node goes what it holds.
    let node = bed.node_id("worker2");
    bed.power_off("worker2");
    let _ = m(&format!("node rm -f {node}")).ok();
    let _ = m("run -d --name falls --network net --ip 10.90.0.99 busybox:1.28 sleep 100000").ok();
    let _ = m("rm -f base falls shut2").ok();
    let _ = w("rm -f stays keeps shut live falls").ok();
    remove(&bed, "net");
    remove(&bed, "inside");
}
