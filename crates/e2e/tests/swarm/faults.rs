//! Daemons killed, hosts cut off, power lost: nothing acknowledged is lost, and nothing runs twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait, web};

use crate::needs;

const ALL: [&str; 3] = ["manager", "worker1", "worker2"];
const SERVICES: usize = 200;

#[test]
fn the_leader_is_killed_among_two_hundred_creates() {
    needs!();
    let bed = Bed::swarm(30, 3, 3);
    assert_eq!(bed.leader("worker1").as_deref(), Ok("manager"));
    let next = AtomicUsize::new(0);
    let acknowledged: Mutex<BTreeMap<String, String>> = Mutex::default();
    let count = || acknowledged.lock().map(|a| a.len()).unwrap_or_default();
    let create = |through: &str| {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SERVICES {
                return;
            }
            let name = format!("s{number}");
            let spec = json!({
                "Name": name, "Mode": {"Replicated": {"Replicas": 0}},
                "TaskTemplate": {"ContainerSpec": {"Image": "ws:1.0"}},
            });
            wait(&format!("{name} to be created"), LONG, || match bed.api(through, "POST", "/services/create", Some(&spec)) {
                Ok(answer) => {
                    let id = answer["ID"].as_str().unwrap_or_default().to_owned();
                    acknowledged.lock().map(|mut a| a.insert(name.clone(), id)).map(|_| ()).map_err(|e| e.to_string())
                }
                // The attempt before was written although its answer got lost with the leader.
                Err(e) if e.contains("already exists") => Ok(()),
                Err(e) => Err(e),
            });
        }
    };
    std::thread::scope(|s| {
        for through in ["worker1", "worker2", "worker1", "worker2"] {
            s.spawn(move || create(through));
        }
        s.spawn(|| {
            wait("some services", LONG, || that(count() >= SERVICES / 4, count()));
            bed.kill_daemon("manager");
            println!("leader killed after {} services", count());
        });
    });
    let acknowledged = acknowledged.into_inner().unwrap_or_default();
    bed.start_daemon("manager");
    for teller in ALL {
        let listed = wait("a list of services", LONG, || bed.api(teller, "GET", "/services", None));
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for s in listed.as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
            names.entry(text(&s["Spec"]["Name"])).or_default().push(text(&s["ID"]));
        }
        assert_eq!(names.len(), SERVICES);
        for (name, id) in &acknowledged {
            assert_eq!(names.get(name), Some(&vec![id.clone()]), "{name} as {teller} tells it");
        }
        assert!(names.values().all(|ids| ids.len() == 1));
    }
}

#[test]
fn all_daemons_are_killed_and_start_again() {
    needs!();
    let bed = Bed::swarm(31, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    let _ = bed.d("manager", "service create -d --name ws --replicas 6 -p 80:8000 ws:1.0").ok();
    let before = bed.await_running("manager", "ws", 6, LONG);
    let processes = ALL.map(|h| bed.processes(h));
    let cluster = bed.docker("manager", &["info", "--format", "{{.Swarm.Cluster.ID}}"]).ok();
    let nodes = ALL.map(|h| bed.node_id(h));
    for host in ALL {
        bed.kill_daemon(host);
    }
    for host in ALL {
        let page = wait("a page while no daemon runs", Duration::from_secs(5), || web::get(&bed.address(host), 80));
        assert_eq!(web::field(&page, "Version"), "1.0");
    }
    for host in ALL {
        bed.start_daemon(host);
    }
    for id in &nodes {
        wait("all nodes ready again", LONG, || {
            let shown = bed.node("worker1", id);
            that(shown.starts_with("Ready Active ") && !shown.ends_with("Unreachable"), shown)
        });
    }
    assert_eq!(bed.docker("worker2", &["info", "--format", "{{.Swarm.Cluster.ID}}"]).ok(), cluster);
    assert_eq!(ALL.map(|h| bed.node_id(h)), nodes);
    assert_eq!(ALL.map(|h| bed.processes(h)), processes, "containers were touched");
    for host in ALL {
        let _ = wait("a page", LONG, || web::get(&bed.address(host), 80));
    }
    // And work goes on.
    let _ = bed.d("worker1", "service scale -d ws=7").ok();
    let after = bed.await_running("worker1", "ws", 7, LONG);
    assert!(before.iter().all(|l| after.contains(l)), "{before:?} {after:?}");
    assert_eq!(ALL.iter().map(|h| bed.processes(h).len()).sum::<usize>(), 7);
}

/// Waits until what runs in fact is what the swarm thinks, and `n` tasks of it.
fn await_agreement(bed: &Bed, teller: &str, n: usize) {
    wait("containers and tasks to agree", LONG, || {
        let wanted: BTreeSet<String> = bed.running(teller, "ws").iter().map(|l| format!("ws.{}.{}", l.slot, l.id)).collect();
        let found: Vec<String> = ALL.iter().flat_map(|h| bed.containers(h)).collect();
        let agree = found.len() == n && found.iter().cloned().collect::<BTreeSet<_>>() == wanted;
        that(agree, format!("tasks {wanted:?}, containers {found:?}"))
    });
}

#[test]
fn a_host_is_cut_off_and_comes_back() {
    needs!();
    let bed = Bed::swarm(32, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    let _ = bed.d("manager", "service create -d --name ws --replicas 6 -p 80:8000 ws:1.0").ok();
    bed.await_running("manager", "ws", 6, LONG);
    // First a follower, then the leader.
    for round in 0..2 {
        let leader = wait("a leader", LONG, || bed.leader("worker1"));
        let victim = if round == 0 { *ALL.iter().find(|h| **h != leader).unwrap_or(&"worker1") } else { leader.as_str() };
        let teller = *ALL.iter().find(|h| **h != victim && (round == 1 || **h == leader)).unwrap_or(&"manager");
        let id = bed.node_id(victim);
        let start = Instant::now();
        bed.cut(victim);
        wait("tasks elsewhere", Duration::from_secs(10), || {
            let now = bed.running(teller, "ws");
            that(now.len() == 6 && now.iter().all(|l| l.node != id), format!("{now:?}"))
        });
        println!("tasks elsewhere {:?} after {victim} was cut off", start.elapsed());
        // Where the swarm is, work goes on; where it is not, calls end with the reason.
        let _ = bed.d(teller, &format!("service update -d --label-add round={round} ws")).ok();
        let cut_off = bed.d(victim, "node ls");
        assert_eq!(cut_off.code, 1, "a manager without a quorum answered: {}", cut_off.out);
        bed.heal(victim);
        wait("the host to be back", LONG, || {
            let shown = bed.node(teller, &id);
            that(shown.starts_with("Ready Active ") && !shown.ends_with("Unreachable"), shown)
        });
        await_agreement(&bed, teller, 6);
        for host in ALL {
            let _ = wait("a page from every host", LONG, || web::get(&bed.address(host), 80));
        }
        // Spread again for the next round.
        let _ = bed.d(teller, "service update -d --force --update-parallelism 0 ws").ok();
        wait("the tasks to be spread again", LONG, || {
            let now = bed.running(teller, "ws");
            let nodes: BTreeSet<&str> = now.iter().map(|l| l.node.as_str()).collect();
            that(now.len() == 6 && nodes.len() == 3, format!("{now:?}"))
        });
        await_agreement(&bed, teller, 6);
    }
}

/// Prints how long it takes until all tasks of a host that lost its power run elsewhere: `cargo test -- --ignored losses`.
#[test]
#[ignore = "a measurement of several minutes"]
fn losses_of_power_measured() {
    needs!();
    let bed = Bed::swarm(33, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    let rounds: usize = std::env::var("SKEP_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(20);
    for kind in ["follower", "leader"] {
        let mut times = Vec::new();
        for round in 0..rounds {
            let leader = wait("a leader", LONG, || bed.leader("worker1"));
            let _ = bed.d(&leader, "service create -d --name ws --replicas 6 ws:1.0").ok();
            bed.await_running(&leader, "ws", 6, LONG);
            let other = *ALL.iter().find(|h| **h != leader).unwrap_or(&"worker1");
            let victim = if kind == "leader" { leader.as_str() } else { other };
            let teller = *ALL.iter().find(|h| **h != victim).unwrap_or(&"manager");
            let id = bed.node_id(victim);
            let start = Instant::now();
            bed.power_off(victim);
            wait("tasks elsewhere", LONG, || {
                let now = bed.running(teller, "ws");
                that(now.len() == 6 && now.iter().all(|l| l.node != id), format!("{now:?}"))
            });
            let took = start.elapsed();
            println!("{kind} {round}: {:.2} s", took.as_secs_f64());
            times.push(took);
            let _ = bed.d(teller, "service rm ws").ok();
            bed.power_on(victim);
            for host in ALL {
                wait("all back", LONG, || {
                    let shown = bed.node(teller, &bed.node_id(host));
                    that(shown.starts_with("Ready Active ") && !shown.ends_with("Unreachable"), shown)
                });
            }
        }
        times.sort();
        let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1].as_secs_f64();
        println!("{kind}: median {:.2} s, p95 {:.2} s, worst {:.2} s of {}", at(0.5), at(0.95), at(1.0), times.len());
    }
}
