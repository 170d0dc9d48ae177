//! Placement and maintenance (J8), and placeholders.

use std::collections::BTreeMap;

use skep_e2e::bed::{Bed, LONG, Live};
use skep_e2e::client::Client;
use skep_e2e::{that, wait};

use crate::modes::with_busybox;
use crate::needs;

/// How many tasks run on each host.
fn by_host(bed: &Bed, live: &[Live]) -> BTreeMap<&'static str, usize> {
    let hosts = ["manager", "worker1", "worker2"];
    hosts.into_iter().map(|h| (h, live.iter().filter(|l| l.node == bed.node_id(h)).count())).collect()
}

#[test]
fn placement_and_maintenance() {
    needs!();
    placement_and_maintenance_by(Client::Docker, 73);
}

#[test]
fn placement_and_maintenance_by_skep() {
    needs!();
    placement_and_maintenance_by(Client::Skep, 117);
}

fn placement_and_maintenance_by(client: Client, number: u8) {
    let bed = Bed::swarm(number, 3, 1).by(client);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let run = |name: &str, n: usize, options: &[&str]| {
        let count = n.to_string();
        let mut args = vec!["service", "create", "-d", "--name", name, "--replicas", &count];
        args.extend(options);
        args.push("ws:1.0");
        let _ = bed.docker("manager", &args).ok();
        by_host(&bed, &bed.await_running("manager", name, n, LONG))
    };
    let all_on = |host: &str, n: usize| -> BTreeMap<&str, usize> {
        ["manager", "worker1", "worker2"].into_iter().map(|h| (h, if h == host { n } else { 0 })).collect()
    };
    assert_eq!(run("a", 3, &["--constraint", "node.hostname==worker2"]), all_on("worker2", 3));
    assert_eq!(run("b", 2, &["--constraint", " node.hostname == worker2 "]), all_on("worker2", 2));
    let _ = m("node update --label-add mem=max worker1").ok();
    assert_eq!(m("node inspect --format {{.Spec.Labels.mem}} worker1").ok(), "max");
    assert_eq!(run("c", 2, &["--constraint", "node.labels.mem==max"]), all_on("worker1", 2));
    let _ = m("service rm a b c").ok();

    // Spread over a label with two values: half of the tasks on the one host, half on the two others.
    let _ = m("node update --label-add dc=east manager").ok();
    let _ = m("node update --label-add dc=west worker1").ok();
    let _ = m("node update --label-add dc=west worker2").ok();
    let spread = run("spread", 8, &["--placement-pref", "spread=node.labels.dc"]);
    assert_eq!(spread, [("manager", 4), ("worker1", 2), ("worker2", 2)].into());
    let pretty = m("service inspect --pretty spread").ok();
    assert!(pretty.contains("spread=node.labels.dc") || pretty.contains("node.labels.dc"), "{pretty}");
    let _ = m("service rm spread").ok();

    // Why a task waits is said in words.
    let _ = m("service create -d --name tight --replicas 4 --replicas-max-per-node 1 ws:1.0").ok();
    bed.await_running("manager", "tight", 3, LONG);
    wait("the reason", LONG, || {
        let ps = m("service ps --no-trunc --format {{.Error}} tight").ok();
        that(ps.lines().any(|l| l.contains("no suitable node (max replicas per node limit exceed")), ps)
    });
    assert!(m("service ls").ok().contains("3/4 (max 1 per node)"));
    let _ = m("service create -d --name huge --reserve-memory 900g ws:1.0").ok();
    wait("the reason", LONG, || {
        let ps = m("service ps --no-trunc --format {{.Error}} huge").ok();
        that(ps.contains("no suitable node (insufficient resources on 3 nodes)"), ps)
    });
    let _ = m("service rm tight huge").ok();

    // Drain: its tasks move, none comes, and nothing is moved back.
    let drained = run("ws", 6, &[]);
    assert_eq!(drained, [("manager", 2), ("worker1", 2), ("worker2", 2)].into());
    let w2 = bed.node_id("worker2");
    let _ = m("node update --availability drain worker2").ok();
    bed.await_node("manager", &w2, "Ready Drain", LONG);
    wait("the tasks to move", LONG, || {
        let now = by_host(&bed, &bed.running("manager", "ws"));
        that(now == [("manager", 3), ("worker1", 3), ("worker2", 0)].into(), format!("{now:?}"))
    });
    let before = bed.running("manager", "ws");
    let _ = m("node update --availability active worker2").ok();
    bed.await_node("manager", &w2, "Ready Active", LONG);
    let _ = m("service scale -d ws=8").ok();
    let after = bed.await_running("manager", "ws", 8, LONG);
    assert!(before.iter().all(|l| after.contains(l)), "something was moved back");
    assert_eq!(by_host(&bed, &after)["worker2"], 2);
    let tasks = m("node ps --format {{.Name}} --filter desired-state=running worker2").ok();
    assert_eq!(tasks.lines().count(), 2, "{tasks}");
    let everything = m("service ps ws").ok();
    assert!(everything.contains(" \\_ ws."), "the history is indented: {everything}");
    // A label that goes takes the task with it, and the reason stays to be seen.
    let _ = m("service create -d --name labelled --constraint node.labels.mem==max ws:1.0").ok();
    bed.await_running("manager", "labelled", 1, LONG);
    let _ = m("node update --label-rm mem worker1").ok();
    wait("the task to go", LONG, || {
        let ps = m("service ps --no-trunc --format {{.CurrentState}}|{{.Error}} labelled").ok();
        that(ps.contains("assigned node no longer meets constraints") && ps.contains("Pending"), ps)
    });
}

#[test]
fn placeholders_are_filled_in_by_each_task() {
    needs!();
    let Some(bed) = with_busybox(74, 2) else { return };
    let docker = |args: &[&str]| bed.docker("manager", args);
    let made = docker(&[
        "service",
        "create",
        "-d",
        "--name",
        "t",
        "--replicas",
        "2",
        "--label",
        "team=blue",
        "--hostname",
        "{{.Node.Hostname}}-{{.Task.Slot}}",
        "--env",
        "WHO={{.Service.Name}}/{{.Task.Slot}}/{{index .Service.Labels \"team\"}}",
        "--mount",
        "type=volume,source=data-{{.Task.Slot}},target=/data",
        "--container-label",
        "slot={{.Task.Slot}}",
        "busybox",
        "sleep",
        "1000",
    ]);
    let _ = made.ok();
    for l in bed.await_running("manager", "t", 2, LONG) {
        let host = if l.node == bed.node_id("manager") { "manager" } else { "worker1" };
        let exec = |args: &[&str]| bed.docker(host, &[&["exec", &l.container], args].concat()).ok();
        assert_eq!(exec(&["hostname"]), format!("{host}-{}", l.slot));
        assert_eq!(exec(&["sh", "-c", "echo $WHO"]), format!("t/{}/blue", l.slot));
        let format = "{{range .Mounts}}{{.Name}}{{end}} {{.Config.Labels.slot}}";
        assert_eq!(bed.docker(host, &["inspect", "--format", format, &l.container]).ok(), format!("data-{0} {0}", l.slot));
    }
    let bad = docker(&["service", "create", "-d", "--env", "A={{.Task.Nope}}", "busybox"]);
    bad.fails("expanding env failed: template: unknown placeholder {{.Task.Nope}}");
    assert_eq!(docker(&["service", "ls", "-q"]).ok().lines().count(), 1);
}
