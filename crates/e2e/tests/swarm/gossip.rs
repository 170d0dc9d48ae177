//! Nodes without managers: what ends is told from node to node, and no node sends requests there any more.

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{tables, that, wait, web};
use skep_testkit::images;

use crate::needs;

#[test]
fn without_managers_nodes_tell_each_other_what_has_ended() {
    needs!();
    let bed = Bed::swarm(123, 3, 1);
    bed.load_demo("web:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay --attachable back").ok();
    let _ = m("service create -d --name web --replicas 6 -p 80:8000 --network back web:1.0").ok();
    let live = bed.await_running("manager", "web", 6, LONG);
    let hosts = ["manager", "worker1", "worker2"];
    for host in hosts {
        wait("the page", LONG, || web::get(&bed.address(host), 80));
    }
    tables::await_equal(&bed, &hosts, "manager", LONG);

    // The last manager is gone, and then one task.
    let victim = live.iter().find(|t| t.node == bed.node_id("worker1")).expect("a task on worker1");
    let task = bed.api("manager", "GET", &format!("/tasks/{}", victim.id), None).expect("the task");
    let addresses: Vec<String> = task["NetworksAttachments"]
        .as_array()
        .expect("networks")
        .iter()
        .map(|a| a["Addresses"][0].as_str().unwrap_or_default().split('/').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(addresses.len(), 2, "{task}");
    bed.kill_daemon("manager");
    wait("the worker to miss its manager", LONG, || {
        let info = bed.d("worker1", "info --format {{.Swarm.ControlAvailable}}{{.Swarm.Error}}").out;
        that(!info.is_empty(), info)
    });
    let _ = bed.d("worker1", &format!("kill {}", victim.container)).ok();
    for host in ["worker1", "worker2"] {
        wait(&format!("{host} to know of the end of a task on worker1"), LONG, || {
            let dump = tables::dump(&bed, host)?.to_string();
            // An answer of a resolver, or a balancer's address and port; connections of before may still know their way.
            let leads = |a: &&String| dump.contains(&format!("\"{a}\"")) || dump.contains(&format!("\"{a} . 8000\""));
            let named: Vec<&String> = addresses.iter().filter(leads).collect();
            that(named.is_empty(), format!("{named:?} in {dump}"))
        });
        for _ in 0..60 {
            web::get(&bed.address(host), 80).expect("an answer of one that lives");
        }
    }

    // Managers that come back have the last word again.
    bed.start_daemon("manager");
    bed.await_running("manager", "web", 6, LONG);
    tables::await_equal(&bed, &hosts, "manager", LONG);
}

/// An unhealthy task takes requests no more than one that has ended: it is told, too, and lives on until the others know.
#[test]
fn without_managers_an_unhealthy_task_is_out_of_every_balancer() {
    needs!();
    let bed = Bed::swarm(155, 3, 1);
    // Serves on, whatever its health check says of it; on SIGTERM it goes on for ten seconds.
    let page = "mkdir -p /tmp/w; echo page > /tmp/w/index.html; trap 'sleep 10; exit 0' TERM; httpd -f -p 8000 -h /tmp/w & while :; do sleep 1; done";
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let create = [
        &["service", "create", "-d", "--quiet", "--no-resolve-image", "--name", "web", "--replicas", "3", "-p", "80:8000"][..],
        &[
            "--health-cmd",
            "test ! -e /tmp/sick",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1",
            "--stop-grace-period",
            "60s",
        ],
        &["busybox:1.28", "sh", "-c", page],
    ];
    let _ = bed.docker("manager", &create.concat()).ok();
    let live = bed.await_running("manager", "web", 3, LONG);
    let hosts = ["worker1", "worker2"];
    for host in hosts {
        wait("the page", LONG, || get(&bed.address(host)));
    }
    let victim = live.iter().find(|t| t.node == bed.node_id("worker1")).expect("a task on worker1");
    let task = bed.api("manager", "GET", &format!("/tasks/{}", victim.id), None).expect("the task");
    let address =
        task["NetworksAttachments"][0]["Addresses"][0].as_str().and_then(|a| a.split('/').next()).expect("an address");
    tables::await_equal(&bed, &["manager", "worker1", "worker2"], "manager", LONG);
    bed.kill_daemon("manager");
    let _ = bed.docker("worker1", &["exec", &victim.container, "touch", "/tmp/sick"]).ok();
    for host in hosts {
        wait(&format!("{host} to know that a task on worker1 is unhealthy"), LONG, || {
            let dump = tables::dump(&bed, host)?.to_string();
            that(!dump.contains(&format!("\"{address} . 8000\"")), format!("{address} in {dump}"))
        });
    }
    // It still runs: that is not what made the others leave it.
    assert!(bed.d("worker1", "ps -q --no-trunc").ok().contains(&victim.container));
    for host in hosts {
        for _ in 0..30 {
            get(&bed.address(host)).expect("an answer of a healthy one");
        }
    }
    bed.start_daemon("manager");
    bed.await_running("manager", "web", 3, LONG);
    tables::await_equal(&bed, &["manager", "worker1", "worker2"], "manager", LONG);
}

fn get(address: &str) -> Result<(), String> {
    let answer = web::exchange(address, 80, b"GET / HTTP/1.0\r\n\r\n", |_| false)?;
    that(answer.contains("page"), answer)
}
