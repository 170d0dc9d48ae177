//! Nodes that come, are emptied, and have something of their own (J8).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::load::Load;
use skep_e2e::{images, that, wait, web};

use crate::modes::with_busybox;
use crate::needs;

#[test]
fn a_node_that_joins_gets_what_every_node_has_and_managers_may_only_manage() {
    needs!();
    a_node_that_joins_gets_what_every_node_has_and_managers_may_only_manage_by(Client::Docker, 83);
}

#[test]
fn a_node_that_joins_gets_what_every_node_has_and_managers_may_only_manage_by_skep() {
    needs!();
    a_node_that_joins_gets_what_every_node_has_and_managers_may_only_manage_by(Client::Skep, 120);
}

fn a_node_that_joins_gets_what_every_node_has_and_managers_may_only_manage_by(client: Client, number: u8) {
    let bed = Bed::bare(number, 3, &[]).by(client);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let own = bed.address("manager");
    let _ = m(&format!("swarm init --advertise-addr {own}")).ok();
    let token = m("swarm join-token -q worker").ok();
    let join = |host: &str| bed.d(host, &format!("swarm join --token {token} {own}:2377")).ok();
    assert_eq!(join("worker1"), "This node joined a swarm as a worker.");
    let _ = m("service create -d --name all --mode global ws:1.0").ok();
    bed.await_running("manager", "all", 2, LONG);
    assert_eq!(join("worker2"), "This node joined a swarm as a worker.");
    let live = bed.await_running("manager", "all", 3, LONG);
    let w2 = bed.node_id("worker2");
    assert!(live.iter().any(|l| l.node == w2));
    // A drained manager manages, and serves the mesh.
    let _ = m("node update --availability drain self").ok();
    bed.await_running("manager", "all", 2, LONG);
    let _ = m("service create -d --name web --replicas 4 -p 80:8000 ws:1.0").ok();
    let live = bed.await_running("manager", "web", 4, LONG);
    let manager = bed.node_id("manager");
    assert!(live.iter().all(|l| l.node != manager), "{live:?}");
    let page = wait("the page through the manager", LONG, || web::get(&own, 80));
    assert_eq!(web::field(&page, "Version"), "1.0");
}

#[test]
fn volumes_of_each_node_and_drivers_of_none() {
    needs!();
    let Some(bed) = with_busybox(84, 2) else { return };
    let m = |args: &str| bed.d("manager", args);
    assert_eq!(m("volume create ws_volume").ok(), "ws_volume");
    assert_eq!(m("volume ls --format {{.Driver}}|{{.Name}}").ok(), "local|ws_volume");
    assert!(m("volume inspect ws_volume").ok().contains("\"Mountpoint\""));
    let mount = "type=volume,src=ws_volume,dst=/volume";
    let _ = m(&format!("service create -d --name ws --replicas 4 --mount {mount} busybox sleep 1000")).ok();
    let live = bed.await_running("manager", "ws", 4, LONG);
    let manager = bed.node_id("manager");
    for l in &live {
        let host = if l.node == manager { "manager" } else { "worker1" };
        let _ = bed.docker(host, &["exec", &l.container, "touch", &format!("/volume/{}", l.slot)]).ok();
    }
    // Tasks of one node share it, and the other node has one of the same name.
    for (host, own) in [("manager", true), ("worker1", false)] {
        let of_host: Vec<_> = live.iter().filter(|l| (l.node == manager) == own).collect();
        let wanted: BTreeSet<String> = of_host.iter().map(|l| l.slot.to_string()).collect();
        let seen = bed.docker(host, &["exec", &of_host[0].container, "ls", "/volume"]).ok();
        assert_eq!(seen.lines().map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
    }
    // Drivers that no node has are named while the task waits; volumes of the whole swarm are refused.
    let waits = |name: &str| {
        wait("the reason", LONG, || {
            let ps = m(&format!("service ps --no-trunc --format {{{{.CurrentState}}}}|{{{{.Error}}}} {name}")).ok();
            that(ps.starts_with("Pending") && ps.contains("no suitable node (missing plugin on 2 nodes)"), ps)
        });
    };
    let _ = m("service create -d --name logs --log-driver loki busybox sleep 1000").ok();
    waits("logs");
    let foreign = "type=volume,src=x,dst=/x,volume-driver=rexray";
    let _ = m(&format!("service create -d --name disk --mount {foreign} busybox sleep 1000")).ok();
    waits("disk");
    let _ = m("service create -d --name plain --log-driver json-file busybox sleep 1000").ok();
    bed.await_running("manager", "plain", 1, LONG);
    let refused = m("volume create --type mount --scope single --sharing none --driver csi data");
    refused.fails("cluster volumes (CSI) are not built yet in Skep: use a volume of the driver local");
    m("volume update --availability drain ws_volume").fails("");
    assert_eq!(m("volume ls -q").ok(), "ws_volume");
}

#[test]
fn generic_resources_are_given_out_once() {
    needs!();
    let Some(busybox) = skep_testkit::images::busybox() else { return skep_testkit::skip("needs the static busybox") };
    let has = |what: &str| ["--node-generic-resource".to_owned(), what.to_owned()];
    let bed = Bed::bare(85, 2, &[has("GPU=one"), has("GPU=two"), has("SSD=3")].concat());
    bed.form(1);
    bed.load(skep_testkit::images::archive(&busybox, "busybox:latest"));
    let m = |args: &str| bed.d("manager", args);
    let shown = bed.api("manager", "GET", "/nodes/self", None).unwrap_or_else(|e| panic!("{e}"));
    let gpu = |id: &str| json!({"NamedResourceSpec": {"Kind": "GPU", "Value": id}});
    let ssd = json!({"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}});
    assert_eq!(shown["Description"]["Resources"]["GenericResources"], json!([gpu("one"), gpu("two"), ssd]));
    let _ = m("service create -d --name gpu --replicas 5 --generic-resource GPU=1 busybox sleep 1000").ok();
    let live = bed.await_running("manager", "gpu", 4, LONG);
    let manager = bed.node_id("manager");
    let of = |l: &skep_e2e::bed::Live| {
        let host = if l.node == manager { "manager" } else { "worker1" };
        (host, bed.docker(host, &["exec", &l.container, "sh", "-c", "echo $DOCKER_RESOURCE_GPU"]).ok())
    };
    let wanted: BTreeSet<(&str, String)> =
        ["manager", "worker1"].into_iter().flat_map(|h| ["one", "two"].map(|g| (h, g.to_owned()))).collect();
    assert_eq!(live.iter().map(of).collect::<BTreeSet<_>>(), wanted);
    wait("the reason why the fifth waits", LONG, || {
        let ps = m("service ps --no-trunc --format {{.Error}} gpu").ok();
        that(ps.contains("no suitable node (insufficient resources on 2 nodes)"), ps)
    });
    // One that goes gives its own to the one that waits.
    let _ = m("service scale -d gpu=4").ok();
    let _ = m("service create -d --name disk --generic-resource SSD=2 --constraint node.role==manager busybox sleep 1000").ok();
    let disk = bed.await_running("manager", "disk", 1, LONG);
    let env = bed.docker("manager", &["exec", &disk[0].container, "sh", "-c", "echo $DOCKER_RESOURCE_SSD"]).ok();
    assert_eq!(env, "2");
    let victim = live[0].clone();
    let _ = bed.d(of(&victim).0, &format!("kill {}", victim.container)).ok();
    let after = wait("its successor", LONG, || {
        let now = bed.running("manager", "gpu");
        that(now.len() == 4 && now.iter().all(|l| l.id != victim.id), format!("{now:?}"))?;
        Ok(now)
    });
    assert_eq!(after.iter().map(of).collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn a_node_is_emptied_as_its_services_are_updated() {
    needs!();
    let bed = Bed::swarm(86, 3, 1);
    bed.load(images::checked("ws:1.0", "1.0"));
    let m = |args: &str| bed.d("manager", args);
    // Both on the one host that is drained then.
    let w1 = bed.node_id("worker1");
    let only = "service create -d --name ws --replicas 2 -p 80:8000 --update-order start-first --update-parallelism 1";
    let _ = m(&format!("{only} --constraint node.hostname!=manager --constraint node.hostname!=worker2 ws:1.0")).ok();
    let before = bed.await_running("manager", "ws", 2, LONG);
    assert!(before.iter().all(|l| l.node == w1));
    // A change of constraints alone moves nothing.
    let _ = m("service update -d --constraint-rm node.hostname!=worker2 ws").ok();
    let hosts = ["manager", "worker1", "worker2"].map(|h| bed.address(h));
    for host in &hosts {
        wait("the page", LONG, || web::get(host, 80));
    }
    assert_eq!(bed.await_running("manager", "ws", 2, LONG), before);
    let load = Load::start(&hosts, 80, 3, Duration::from_millis(5));
    let _ = m("node update --label-add skep.drain=update --availability drain worker1").ok();
    wait("the node to be empty", LONG, || {
        let now = bed.running("manager", "ws");
        assert!(now.len() >= 2, "a task left before another ran: {now:?}");
        that(now.len() == 2 && now.iter().all(|l| l.node != w1), format!("{now:?}"))
    });
    wait("some more answers", LONG, || that(load.so_far().0 > 200, "none"));
    let tally = load.stop();
    println!("{} requests answered, the longest in {:?}", tally.answered, tally.longest);
    assert_eq!(tally.failed, 0, "{tally:#?}");
}

#[test]
fn a_crash_loop_fills_no_disk() {
    needs!();
    let Some(bed) = with_busybox(52, 1) else { return };
    let m = |args: &str| bed.d("manager", args);
    let _ = m("swarm update --task-history-limit 2 --snapshot-interval 100").ok();
    let _ = m("service create -d --name loop --replicas 2 --restart-delay 0s busybox false").ok();
    let data = bed.host("manager").data_root(&bed.playground.place);
    let entries = |dir: &str| std::fs::read_dir(data.join(dir)).map_or(0, Iterator::count);
    // Of each replica the one at work, two old ones, and what is being made or removed at this moment.
    let most = 2 * (1 + 2 + 2);
    let mut seen = BTreeSet::new();
    wait("a hundred crashes", 4 * LONG, || {
        let now = m("ps -aq").out;
        seen.extend(now.lines().map(str::to_owned));
        assert!(now.lines().count() <= most, "{now}");
        that(seen.len() >= 100, seen.len().to_string())
    });
    wait("a snapshot, and a log that is short", LONG, || {
        let status = bed.api("manager", "GET", "/skep/v1/swarm/status", None)?;
        let (index, log) = (&status["Snapshot"]["Index"], &status["LogBytes"]);
        that(index.as_u64() > Some(0) && log.as_u64() < Some(8 << 20), status.to_string())
    });
    for dir in ["containers", "swarm/worker/tasks"] {
        assert!((1..=most).contains(&entries(dir)), "{dir}: {}", entries(dir));
    }
    let _ = m("service rm loop").ok();
    wait("nothing to be left", LONG, || {
        let left = (entries("containers"), entries("swarm/worker/tasks"));
        that(left == (0, 0), format!("{left:?}"))
    });
}
