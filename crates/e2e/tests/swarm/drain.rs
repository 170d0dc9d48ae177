//! Updates, scaling and removal under load: no request may fail while a healthy task is there.

use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::load::Load;
use skep_e2e::{images, that, wait, web};

use crate::needs;

/// Between two requests of one client: enough to let a small machine do the updates beside.
const PAUSE: Duration = Duration::from_millis(5);

#[test]
fn updates_under_load_lose_no_request() {
    needs!();
    updates_under_load_lose_no_request_by(Client::Docker, 62);
}

#[test]
fn updates_under_load_lose_no_request_by_skep() {
    needs!();
    updates_under_load_lose_no_request_by(Client::Skep, 121);
}

fn updates_under_load_lose_no_request_by(client: Client, number: u8) {
    let bed = Bed::swarm(number, 3, 1).by(client);
    for version in ["1.0", "2.0"] {
        bed.load(images::checked(&format!("ws:{version}"), version));
    }
    let m = |args: &str| bed.d("manager", args);
    let _ =
        m("service create -d --name ws --replicas 2 --update-order start-first --update-monitor 100ms -p 80:8000 ws:1.0").ok();
    bed.await_running("manager", "ws", 2, LONG);
    let hosts = ["manager", "worker1", "worker2"];
    for host in hosts {
        wait("the page", LONG, || web::get(&bed.address(host), 80));
    }
    let load = Load::start(&hosts.map(|h| bed.address(h)), 80, 3, PAUSE);
    let updated = |version: &str| {
        wait("the update to complete", LONG, || {
            // Before the update begins there is no status to show.
            let state = m("service inspect --format {{.UpdateStatus.State}} ws").out.trim().to_owned();
            let images = m("service ps --filter desired-state=running --format {{.Image}} ws").ok();
            let new = images.lines().count() == 2 && images.lines().all(|i| i.ends_with(version));
            that(state == "completed" && new, format!("{state} {images}"))
        });
    };
    for version in ["2.0", "1.0", "2.0"] {
        let _ = m(&format!("service update -d --image ws:{version} ws")).ok();
        updated(version);
    }
    // Fewer and more again: those that go are asked no more before they are told to go.
    for replicas in [4, 1, 3] {
        let _ = m(&format!("service scale -d ws={replicas}")).ok();
        bed.await_running("manager", "ws", replicas, LONG);
    }
    let before = load.so_far().0;
    wait("some more answers", LONG, || that(load.so_far().0 > before + 100, "none"));
    let tally = load.stop();
    println!("{} requests answered, the longest in {:?}", tally.answered, tally.longest);
    assert_eq!(tally.failed, 0, "{tally:#?}");
    assert_eq!(tally.versions.len(), 2, "{:?}", tally.versions);
    assert!(tally.longest < Duration::from_secs(3), "a request hung: {tally:#?}");
}

#[test]
fn daemons_that_die_under_load_cost_no_request() {
    needs!();
    let bed = Bed::swarm(64, 3, 3);
    bed.load(images::checked("ws:1.0", "1.0"));
    let hosts = ["manager", "worker1", "worker2"];
    let _ = bed.d("manager", "service create -d --name ws --replicas 3 -p 80:8000 ws:1.0").ok();
    let before = bed.await_running("manager", "ws", 3, LONG);
    for host in hosts {
        wait("the page", LONG, || web::get(&bed.address(host), 80));
    }
    let load = Load::start(&hosts.map(|h| bed.address(h)), 80, 3, PAUSE);
    for host in hosts {
        let id = bed.node_id(host);
        bed.kill_daemon(host);
        bed.start_daemon(host);
        let teller = if host == "manager" { "worker1" } else { "manager" };
        wait("the node to be back", LONG, || {
            let shown = bed.node(teller, &id);
            that(shown.starts_with("Ready Active"), shown)
        });
        let asked = load.so_far().0;
        wait("answers after it is back", LONG, || that(load.so_far().0 > asked + 50, "none"));
    }
    let tally = load.stop();
    println!("{} requests answered, the longest in {:?}", tally.answered, tally.longest);
    assert_eq!(tally.failed, 0, "{tally:#?}");
    assert_eq!(bed.await_running("manager", "ws", 3, LONG), before, "a daemon's death touched a task");
}

#[test]
fn a_lost_host_is_out_of_every_balancer() {
    needs!();
    let bed = Bed::swarm(65, 3, 1);
    bed.load(images::checked("ws:1.0", "1.0"));
    let _ = bed.d("manager", "service create -d --name ws --replicas 6 -p 80:8000 ws:1.0").ok();
    bed.await_running("manager", "ws", 6, LONG);
    let left = ["manager", "worker1"];
    let addresses = left.map(|h| bed.address(h));
    for address in &addresses {
        wait("the page", LONG, || web::get(address, 80));
    }
    let lost = bed.node_id("worker2");
    let load = Load::start(&addresses, 80, 2, PAUSE);
    bed.power_off("worker2");
    wait("all tasks elsewhere", LONG, || {
        let now = bed.running("manager", "ws");
        that(now.len() == 6 && now.iter().all(|l| l.node != lost), format!("{now:?}"))
    });
    // The managers have agreed; each host applies it a moment later. Then nothing is sent there any more.
    wait("a hundred answers in a row", LONG, || {
        let (_, failed) = load.so_far();
        let goal = load.so_far().0 + 100;
        wait("more answers", LONG, || that(load.so_far().0 >= goal, "too few"));
        let now = load.so_far().1;
        that(now == failed, format!("{} failed meanwhile", now - failed))
    });
    let tally = load.stop();
    println!("{} requests answered, {} failed, the longest in {:?}", tally.answered, tally.failed, tally.longest);
    let after = Load::start(&addresses, 80, 2, PAUSE);
    wait("more answers", LONG, || that(after.so_far().0 >= 300, "too few"));
    let after = after.stop();
    assert_eq!(after.failed, 0, "{after:#?}");
    assert!(after.longest < Duration::from_secs(1), "a request hung: {after:#?}");
}
