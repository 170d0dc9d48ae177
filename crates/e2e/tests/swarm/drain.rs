//! Updates, scaling and removal under load: no request may fail while a healthy task is there.

use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::load::Load;
use skep_e2e::{images, that, wait, web};

use crate::needs;

/// Between two requests of one client: enough to let a small machine do the updates beside.
const PAUSE: Duration = Duration::from_millis(5);

#[test]
fn updates_under_load_lose_no_request() {
    needs!();
    let bed = Bed::swarm(62, 3, 1);
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
