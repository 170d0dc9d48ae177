//! Updates and rollbacks, step by step (J7): under load, over changes of the leader, by failure action, with ports of the hosts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::load::Load;
use skep_e2e::{images, that, wait, web};

use crate::needs;

/// State of the last update of a service, as the client shows it.
fn state(bed: &Bed, teller: &str, service: &str) -> String {
    let shown = bed.docker(teller, &["service", "inspect", "--format", "{{json .UpdateStatus}}", service]).out;
    let status: Value = serde_json::from_str(&shown).unwrap_or_default();
    status["State"].as_str().unwrap_or_default().to_owned()
}

fn await_state(bed: &Bed, service: &str, wanted: &str) {
    wait(&format!("{service} to be {wanted}"), LONG, || {
        let now = state(bed, "manager", service);
        that(now == wanted, format!("{now}\n{}", bed.d("manager", &format!("service ps --no-trunc {service}")).out))
    });
}

/// Tasks of a service as a manager tells them.
struct Seen {
    /// Meant to live and of the new image, but not running.
    begun: usize,
    /// Of the new image and running.
    new: usize,
    /// Running, of either image.
    running: usize,
    /// Places that ever had a task of the new image.
    places: BTreeSet<u64>,
}

fn look(bed: &Bed, teller: &str, service: &str, image: &str) -> Result<Seen, String> {
    let filter = format!("%7B%22service%22%3A%5B%22{service}%22%5D%7D");
    let all = bed.api(teller, "GET", &format!("/tasks?filters={filter}"), None)?;
    let all = all.as_array().cloned().unwrap_or_default();
    let is_new = |t: &&Value| t["Spec"]["ContainerSpec"]["Image"] == image;
    let wanted = |t: &&Value| t["DesiredState"] == "running" || t["DesiredState"] == "ready";
    let runs = |t: &&Value| t["Status"]["State"] == "running";
    Ok(Seen {
        begun: all.iter().filter(|t| is_new(t) && wanted(t) && !runs(t)).count(),
        new: all.iter().filter(|t| is_new(t) && wanted(t) && runs(t)).count(),
        running: all.iter().filter(|t| wanted(t) && runs(t)).count(),
        places: all.iter().filter(is_new).filter_map(|t| t["Slot"].as_u64()).collect(),
    })
}

const MANAGERS: [&str; 3] = ["manager", "worker1", "worker2"];

/// Another manager than this one.
fn other(host: &str) -> &'static str {
    if host == "manager" { "worker1" } else { "manager" }
}

/// Kills the leader, and waits until another one leads and the dead one is back. Returns who leads.
fn change_leader(bed: &Bed, leader: &str) -> String {
    let teller = other(leader);
    bed.kill_daemon(leader);
    let next = wait("another leader", LONG, || bed.leader(teller).and_then(|l| that(l != leader, &l).map(|()| l)));
    bed.start_daemon(leader);
    next
}

#[test]
fn two_leaders_in_a_row_die_in_the_middle_of_an_update() {
    needs!();
    let bed = Bed::swarm(77, 4, 3);
    for version in ["1.0", "2.0"] {
        bed.load_demo(&format!("ws:{version}"), version);
    }
    let m = |args: &str| bed.d("manager", args);
    // The tasks run where no manager dies.
    let _ = m("service create -d --name ws --replicas 8 --constraint node.role==worker ws:1.0").ok();
    bed.await_running("manager", "ws", 8, LONG);
    let _ = m("service update -d --image ws:2.0 --update-parallelism 2 --update-delay 3s --update-monitor 1s ws").ok();
    let mut leader = wait("a leader", LONG, || bed.leader("manager"));
    // What must hold at every look: no more than two at a time are begun, and six serve.
    let check = |teller: &str| {
        let seen = look(&bed, teller, "ws", "ws:2.0")?;
        assert!(seen.begun <= 2 && seen.running >= 6, "{} begun, {} running", seen.begun, seen.running);
        Ok::<_, String>(seen)
    };
    for new in [1, 3] {
        let teller = other(&leader);
        let seen = wait("the update to go on", LONG, || {
            let seen = check(teller)?;
            if seen.new >= new { Ok(seen) } else { Err(format!("{} new ones", seen.new)) }
        });
        assert!(seen.new < 8, "the update was over before its leader died");
        leader = change_leader(&bed, &leader);
    }
    wait("the update to complete", LONG, || {
        let seen = check("manager")?;
        let now = state(&bed, "manager", "ws");
        that(now == "completed" && seen.new == 8 && seen.running == 8, format!("{now}, {} new ones", seen.new))
    });

    // Three of eight are more than the share that may fail, whoever counts.
    let broken =
        "service update -d --image no/such:1.0 --update-parallelism 1 --update-delay 5s --update-max-failure-ratio 0.3 ws";
    let _ = m(broken).ok();
    let leader = wait("a leader", LONG, || bed.leader("manager"));
    let teller = other(&leader);
    wait("the first failure", LONG, || {
        let ps = bed.docker(teller, &["service", "ps", "--format", "{{.CurrentState}}", "ws"]).out;
        that(ps.contains("Rejected"), ps)
    });
    assert_eq!(state(&bed, teller, "ws"), "updating", "one failure is no reason to stop");
    change_leader(&bed, &leader);
    await_state(&bed, "ws", "paused");
    let seen = wait("a look", LONG, || look(&bed, "manager", "ws", "no/such:1.0"));
    assert_eq!((seen.places.len(), seen.running), (3, 5), "{:?}", seen.places);
    for host in MANAGERS {
        let shown = wait("its view", LONG, || bed.api(host, "GET", "/services/ws", None));
        let message = shown["UpdateStatus"]["Message"].as_str().unwrap_or_default();
        assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
    }
}

#[test]
fn an_operators_day_of_updates() {
    needs!();
    an_operators_day_of_updates_by(Client::Docker, 78);
}

#[test]
fn an_operators_day_of_updates_by_skep() {
    needs!();
    an_operators_day_of_updates_by(Client::Skep, 119);
}

fn an_operators_day_of_updates_by(client: Client, number: u8) {
    let bed = Bed::swarm(number, 3, 1).by(client);
    for version in ["1.0", "2.0", "3.0"] {
        bed.load(images::checked(&format!("nginx:{version}"), version));
    }
    let m = |args: &str| bed.d("manager", args);
    let hosts = MANAGERS.map(|h| bed.address(h));
    let _ = m("service create -d --name web -p 80:8000 --replicas 3 --update-monitor 100ms nginx:1.0").ok();
    bed.await_running("manager", "web", 3, LONG);
    for host in &hosts {
        wait("the page of 1.0", LONG, || web::get(host, 80));
    }
    let load = Load::start(&hosts, 80, 3, Duration::from_millis(5));
    let started = m("service inspect --format {{.UpdatedAt}} web").ok();
    let text = m("service update --image nginx:2.0 web").ok();
    assert!(text.contains("overall progress: 1 out of 3 tasks"), "{text}");
    await_state(&bed, "web", "completed");
    assert_ne!(m("service inspect --format {{.UpdatedAt}} web").ok(), started);
    let pretty = m("service inspect --pretty web").ok();
    assert!(pretty.contains("State:\t\tcompleted") && pretty.contains("Started:") && pretty.contains("Completed:"), "{pretty}");
    let ps = m("service ps --format {{.Image}}|{{.DesiredState}}|{{.CurrentState}} web").ok();
    let of = |image: &str, desired: &str| ps.lines().filter(|l| l.starts_with(&format!("{image}|{desired}|{desired}"))).count();
    assert_eq!((of("nginx:1.0", "Shutdown"), of("nginx:2.0", "Running")), (3, 3), "{ps}");

    let _ = m("service update -d --replicas 6 --image nginx:3.0 --update-parallelism 3 --update-delay 2s web").ok();
    wait("three at a time to become six", LONG, || {
        let seen = look(&bed, "manager", "web", "nginx:3.0")?;
        // New places are no replacement of anything.
        assert!(seen.begun <= 6, "{} begun", seen.begun);
        that(seen.new == 6 && state(&bed, "manager", "web") == "completed", format!("{} new ones", seen.new))
    });

    let back = m("service update --rollback web").ok();
    assert!(back.contains("overall progress: rolling back update: "), "{back}");
    await_state(&bed, "web", "rollback_completed");
    let shown = |format: &str| m(&format!("service inspect --format {format} web")).ok();
    let image = "{{.Spec.TaskTemplate.ContainerSpec.Image}}|{{.Spec.Mode.Replicated.Replicas}}";
    assert_eq!(shown(image), "nginx:2.0|3");
    assert_eq!(shown("{{.UpdateStatus.Message}}"), "rollback completed");
    bed.await_running("manager", "web", 3, LONG);
    // Once more leads to where it came from, not further back.
    let again = m("service rollback web").ok();
    assert!(again.contains("overall progress: rolling back update: "), "{again}");
    await_state(&bed, "web", "rollback_completed");
    assert_eq!(shown(image), "nginx:3.0|6");
    bed.await_running("manager", "web", 6, LONG);
    wait("some more answers", LONG, || that(load.so_far().0 > 200, "none"));
    let tally = load.stop();
    println!("{} requests answered, the longest in {:?}", tally.answered, tally.longest);
    assert_eq!(tally.failed, 0, "{tally:#?}");
    assert_eq!(tally.versions.len(), 3, "{:?}", tally.versions);

    let _ = m("service update -d --replicas 2 --update-delay 0s --publish-rm 80:8000 --publish-add 8080:8000 web").ok();
    await_state(&bed, "web", "completed");
    for host in &hosts {
        wait("the page on the new port", LONG, || web::get(host, 8080));
        let old = wait("the old port to be closed", LONG, || match web::get(host, 80) {
            Err(e) => Ok(e),
            Ok(_) => Err("it answers".to_owned()),
        });
        assert!(old.contains("refused"), "{old}");
    }
}

#[test]
fn a_failing_update_acts_as_it_was_told() {
    needs!();
    let bed = Bed::swarm(79, 2, 1);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name ws --replicas 3 --update-failure-action rollback --rollback-monitor 200ms ws:1.0").ok();
    let before = bed.await_running("manager", "ws", 3, LONG);
    let text = m("service update --image no/such:1.0 ws");
    assert_eq!(text.code, 0, "{}{}", text.out, text.err);
    assert!(text.out.contains("rollback: update rolled back due to failure or early termination of task"), "{}", text.out);
    assert!(text.out.contains("overall progress: rolling back update: 3 out of 3 tasks"), "{}", text.out);
    await_state(&bed, "ws", "rollback_completed");
    assert_eq!(m("service inspect --format {{.Spec.TaskTemplate.ContainerSpec.Image}} ws").ok(), "ws:1.0");
    let after = bed.await_running("manager", "ws", 3, LONG);
    assert!(before.iter().filter(|l| after.contains(l)).count() >= 2, "a rollback touches only what was replaced");
    m("service rollback ws").fails("does not have a previous spec");

    // Paused: told as an error, and an update goes on.
    let text = m("service update --image no/such:1.0 --update-failure-action pause ws");
    assert_eq!(text.code, 1, "{}{}", text.out, text.err);
    assert!(text.err.contains("service update paused: update paused due to failure"), "{}", text.err);
    assert_eq!(state(&bed, "manager", "ws"), "paused");
    let text = m("service update --image ws:1.0 --env-add A=1 ws").ok();
    assert!(text.contains("converged"), "{text}");
    // Nothing comes to run in time, and half may fail: it pauses all the same.
    let stuck = "service update --image ws:1.0 --label-add skep.update.deadline=3s --update-max-failure-ratio 0.5 \
                 --update-parallelism 1 --health-cmd false --health-interval 1s --health-retries 1000 ws";
    let text = m(stuck);
    assert!(text.code == 1 && text.err.contains("update paused due to no progress within 3s"), "{}{}", text.out, text.err);
}

#[test]
fn ports_of_the_hosts_never_collide_with_the_task_that_is_replaced() {
    needs!();
    let bed = Bed::swarm(80, 3, 1);
    for version in ["1.0", "2.0", "3.0"] {
        bed.load_demo(&format!("ws:{version}"), version);
    }
    let m = |args: &str| bed.d("manager", args);
    let version = |host: &str| web::get(&bed.address(host), 81).map(|page| web::field(&page, "Version"));
    let everywhere = |wanted: &str| {
        for host in MANAGERS {
            wait("the page", LONG, || version(host).and_then(|v| that(v == wanted, v)));
        }
    };
    // A port is free when the old task has stopped: that takes longer than a task is watched, and is no failure.
    let _ =
        m("service create -d --name ws --replicas 3 --update-monitor 50ms -p published=81,target=8000,mode=host ws:1.0").ok();
    bed.await_running("manager", "ws", 3, LONG);
    everywhere("1.0");
    // Stop-first: each host's port is given on.
    let _ = m("service update --image ws:2.0 ws").ok();
    await_state(&bed, "ws", "completed");
    everywhere("2.0");
    let ps = m("service ps --filter desired-state=running --format {{.Ports}} ws").ok();
    assert_eq!(ps.lines().collect::<BTreeSet<_>>(), ["*:81->8000/tcp"].into(), "{ps}");
    // Start-first has nowhere to go while every host's port is taken: it says so, and takes nothing away.
    let before = bed.await_running("manager", "ws", 3, LONG);
    let _ = m("service update -d --image ws:3.0 --update-order start-first ws").ok();
    await_state(&bed, "ws", "paused");
    let errors = m("service ps --no-trunc --format {{.Error}} ws").ok();
    assert!(errors.contains("no suitable node (host-mode port already in use on 3 nodes)"), "{errors}");
    assert_eq!(bed.running("manager", "ws"), before);
    everywhere("2.0");
    // With a host to spare it goes round.
    let _ = m("service update -d --replicas 2 ws").ok();
    await_state(&bed, "ws", "completed");
    let live = bed.await_running("manager", "ws", 2, LONG);
    assert!(live.iter().all(|l| before.iter().all(|b| b.id != l.id)), "{live:?}");
}
