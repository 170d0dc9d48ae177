//! A replicated service from its creation to its removal (J2).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait, web};

use crate::needs;

/// Tasks of the service's that run on a host in fact: containers, by name.
fn all_containers(bed: &Bed, hosts: &[&str], service: &str) -> Vec<String> {
    let mut all: Vec<String> = hosts.iter().flat_map(|h| bed.containers(h)).collect();
    all.retain(|n| n.starts_with(&format!("{service}.")));
    all.sort();
    all
}

#[test]
fn from_create_to_rm() {
    needs!();
    let bed = Bed::swarm(25, 3, 1);
    bed.load_demo("ws:1.0", "1.0");
    let all = ["manager", "worker1", "worker2"];
    let m = |args: &str| bed.d("manager", args);

    let made = m("service create --replicas 5 --name ws -p 80:8000 ws:1.0");
    assert!(made.err.contains("image ws:1.0 could not be accessed on a registry to record\nits digest. Each node will access ws:1.0 independently,\npossibly leading to different nodes running different\nversions of the image."), "{}", made.err);
    let text = made.ok();
    assert!(
        text.contains("overall progress: 5 out of 5 tasks") && text.contains("verify: Service ") && text.contains(" converged"),
        "{text}"
    );
    let ls = m("service ls").ok();
    for word in ["replicated", "5/5", "ws:1.0", "*:80->8000/tcp"] {
        assert!(ls.contains(word), "{ls}");
    }
    let ps = m("service ps ws").ok();
    assert_eq!(ps.lines().filter(|l| l.contains("Running")).count(), 5, "{ps}");
    let live = bed.await_running("manager", "ws", 5, LONG);
    assert_eq!(live.iter().map(|l| l.node.as_str()).collect::<BTreeSet<_>>().len(), 3, "spread over all nodes: {live:?}");
    let wanted: BTreeSet<String> = live.iter().map(|l| format!("ws.{}.{}", l.slot, l.id)).collect();
    assert_eq!(all_containers(&bed, &all, "ws").into_iter().collect::<BTreeSet<_>>(), wanted);

    // Down to one task: two hosts without any serve the page all the same, and the task sees who asks.
    let scaled = m("service scale ws=1").ok();
    assert!(scaled.contains("ws scaled to 1") && scaled.contains("converged"), "{scaled}");
    wait("one container", LONG, || {
        let now = all_containers(&bed, &all, "ws");
        that(now.len() == 1, format!("{now:?}"))
    });
    let machine = bed.playground.place.machine().to_string();
    for host in all {
        let page = wait("a page from every host", Duration::from_secs(10), || web::get(&bed.address(host), 80));
        assert_eq!(web::field(&page, "Client"), machine, "through {host}: {page}");
    }
    assert!(m("service scale ws=6").ok().contains("ws scaled to 6"));
    bed.await_running("manager", "ws", 6, LONG);

    // A task that dies is replaced in its slot: killed, and removed by hand.
    for (how, client) in ["kill", "rm -f"].into_iter().zip(Client::BOTH) {
        let before = bed.running("manager", "ws");
        let victim =
            before.iter().find(|l| l.node == bed.node_id("worker1")).unwrap_or_else(|| panic!("a task on worker1: {before:?}"));
        let _ = client.line(&bed, "worker1", &format!("{how} {}", victim.container)).ok();
        let after = wait("a replacement", LONG, || {
            let now = bed.running("manager", "ws");
            let ready = now.len() == 6 && now.iter().all(|l| l.id != victim.id);
            if ready { Ok(now) } else { Err(client.line(&bed, "manager", "service ps ws").out) }
        });
        assert!(after.iter().any(|l| l.slot == victim.slot));
        let kept = before.iter().filter(|l| after.contains(l)).count();
        assert_eq!(kept, 5, "others were touched");
        let format = "service ps --no-trunc --format {{.ID}}|{{.DesiredState}}|{{.CurrentState}} ws";
        let ps = client.line(&bed, "manager", format).ok();
        let old = ps.lines().find(|l| l.starts_with(&victim.id)).unwrap_or_default();
        assert!(old.contains("|Shutdown|Failed"), "after {} {how}: {old}\n{ps}", client.name());
    }

    // Loss of power.
    let lost = bed.node_id("worker2");
    let start = Instant::now();
    bed.power_off("worker2");
    wait("all tasks elsewhere", Duration::from_secs(10), || {
        let now = bed.running("manager", "ws");
        that(now.len() == 6 && now.iter().all(|l| l.node != lost), format!("{now:?}"))
    });
    println!("all tasks elsewhere {:?} after worker2 lost its power", start.elapsed());
    bed.await_node("manager", &lost, "Down Active", LONG);
    bed.power_on("worker2");
    bed.await_node("manager", &lost, "Ready Active", LONG);
    wait("nothing twice and no orphan", LONG, || {
        let wanted: BTreeSet<String> = bed.running("manager", "ws").iter().map(|l| format!("ws.{}.{}", l.slot, l.id)).collect();
        let found: Vec<String> = all_containers(&bed, &all, "ws");
        that(
            wanted.len() == 6 && found.iter().cloned().collect::<BTreeSet<_>>() == wanted && found.len() == 6,
            format!("{wanted:?} {found:?}"),
        )
    });
    wait("the mesh on the host that came back", Duration::from_secs(10), || web::get(&bed.address("worker2"), 80));

    let [pretty, other] = Client::BOTH.map(|c| c.line(&bed, "manager", "service inspect --pretty ws").ok());
    assert_eq!(pretty, other);
    for word in ["Name:\t\tws", "Replicas:\t6", "Image:\t\tws:1.0", "PublishedPort = 80", "Endpoint Mode:\tvip"] {
        assert!(pretty.contains(word), "{word} in {pretty}");
    }
    assert_eq!(bed.skep("manager", &["service", "rm", "--wait", "ws"]).ok(), "ws");
    assert_eq!(m("service ls -q").ok(), "");
    wait("no container left, stopped ones included", LONG, || {
        let left: Vec<String> = all.iter().map(|h| bed.docker(h, &["ps", "-aq"]).ok()).collect();
        that(left.iter().all(String::is_empty), format!("{left:?}"))
    });
    for host in all {
        assert!(web::get(&bed.address(host), 80).is_err(), "{host} still serves port 80");
    }
}

#[test]
fn a_host_that_reboots_brings_its_containers_back() {
    needs!();
    let bed = Bed::swarm(88, 2, 1);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let here = "--constraint node.hostname==worker1 --mount type=volume,src=kept,dst=/kept";
    let _ = m(&format!("service create -d --name ws --replicas 2 {here} ws:1.0")).ok();
    let before = bed.await_running("manager", "ws", 2, LONG);
    let volume = bed.d("worker1", "volume inspect -f {{.Mountpoint}} kept").ok();
    std::fs::write(format!("{volume}/note"), "still here").unwrap_or_else(|e| panic!("write into {volume}: {e}"));
    let _ = bed.d("worker1", "run -d --name lone --restart always -v kept:/kept ws:1.0").ok();
    let _ = bed.d("worker1", "run -d --name once ws:1.0").ok();
    let state = |name: &str| bed.d("worker1", &format!("inspect -f {{{{.State.Status}}}} {name}")).ok();
    let id = bed.node_id("worker1");

    bed.power_off("worker1");
    bed.await_node("manager", &id, "Down Active", LONG);
    bed.power_on("worker1");

    bed.await_node("manager", &id, "Ready Active", LONG);
    let after = bed.await_running("manager", "ws", 2, LONG);
    assert!(after.iter().all(|l| l.node == id && before.iter().all(|b| b.id != l.id)), "{before:?} {after:?}");
    wait("the container that is always restarted", LONG, || that(state("lone") == "running", state("lone")));
    assert_eq!(state("once"), "exited");
    assert_eq!(std::fs::read_to_string(format!("{volume}/note")).ok().as_deref(), Some("still here"));
    wait("the tasks of before to be ended", LONG, || {
        let of_service = bed.containers("worker1").into_iter().filter(|c| c.contains("ws.")).collect::<Vec<_>>();
        that(of_service.len() == 2, format!("{of_service:?}"))
    });
}

/// When each task that runs now was created, in nanoseconds or text that sorts alike.
fn created(bed: &Bed, service: &str) -> Vec<String> {
    let ids: Vec<String> = bed.running("manager", service).into_iter().map(|l| l.id).collect();
    let mut times: Vec<String> = ids
        .iter()
        .map(|id| {
            bed.api("manager", "GET", &format!("/tasks/{id}"), None)
                .map(|t| t["CreatedAt"].as_str().unwrap_or_default().to_owned())
        })
        .map(|t| t.unwrap_or_else(|e| panic!("inspect a task: {e}")))
        .collect();
    times.sort();
    times
}

#[test]
fn rolling_updates() {
    needs!();
    let bed = Bed::swarm(26, 2, 1);
    bed.load_demo("ws:1.0", "1.0");
    bed.load_demo("ws:2.0", "2.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name ws --replicas 3 --update-delay 2s --update-monitor 500ms -p 80:8000 ws:1.0").ok();
    let first = bed.await_running("manager", "ws", 3, LONG);
    let _ = m("service update -d --image ws:2.0 ws").ok();
    wait("the update to go on", LONG, || {
        // Until it has begun there is no status.
        let state = m("service inspect --format {{.UpdateStatus.State}} ws").out;
        let state = state.trim();
        that(state == "updating", state)
    });
    // One at a time: of the old tasks at most one is missing from those that run until the new ones are there.
    let mut most_new_at_once = 0;
    let mut seen: BTreeSet<String> = first.iter().map(|l| l.id.clone()).collect();
    wait("the update to complete", LONG, || {
        let now = bed.running("manager", "ws");
        let new = now.iter().filter(|l| seen.insert(l.id.clone())).count();
        most_new_at_once = most_new_at_once.max(new);
        assert!(now.len() >= 2, "more than one task at a time: {now:?}");
        let state = m("service inspect --format {{.UpdateStatus.State}} ws").ok();
        that(state == "completed", state)
    });
    assert_eq!(most_new_at_once, 1);
    assert!(bed.await_running("manager", "ws", 3, LONG).iter().all(|l| first.iter().all(|f| f.id != l.id)));
    let times = created(&bed, "ws");
    assert_eq!(times.len(), 3);
    let page = wait("a page", LONG, || web::get(&bed.address("worker1"), 80));
    assert_eq!(web::field(&page, "Version"), "2.0");

    // A change of replicas replaces nothing.
    let before = bed.running("manager", "ws");
    let _ = m("service update -d --replicas 4 ws").ok();
    let after = bed.await_running("manager", "ws", 4, LONG);
    assert!(before.iter().all(|l| after.contains(l)));

    // An environment variable and --force replace all, without --update-delay in between now.
    for change in ["--update-delay 0s --env-add VERSION=3.0", "--force"] {
        let before = bed.running("manager", "ws");
        let text = m(&format!("service update {change} ws")).ok();
        assert!(text.contains("converged"), "{text}");
        let after = bed.await_running("manager", "ws", 4, LONG);
        assert!(after.iter().all(|l| before.iter().all(|b| b.id != l.id)), "{change} left tasks as they were");
    }
    let page = wait("a page", LONG, || web::get(&bed.address("manager"), 80));
    assert_eq!(web::field(&page, "Version"), "3.0");
    // Back to the spec before: the same image and environment.
    let _ = m("service update -d --image ws:1.0 --env-rm VERSION ws").ok();
    wait("the update", LONG, || {
        // There is none to tell of until it has begun.
        let state = m("service inspect --format {{.UpdateStatus.State}} ws").out;
        that(state.trim() == "completed", state.clone())
    });
    let text = m("service rollback ws");
    assert_eq!(text.code, 0, "{}{}", text.out, text.err);
    let page = wait("a page", LONG, || web::get(&bed.address("manager"), 80));
    assert_eq!(web::field(&page, "Version"), "3.0");
}
