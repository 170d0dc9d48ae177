//! What the stock client shows of services, tasks and nodes (J2, J8): lists and their filters, events with what has changed.

use std::collections::BTreeSet;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};

use crate::modes::with_busybox;
use crate::needs;

/// Events of the swarm so far, one a line: type, action and attributes, sorted, as the client prints them.
fn events(bed: &Bed, teller: &str, filters: &str) -> Vec<String> {
    let mut args = vec!["events", "--since", "1h", "--until", "0s", "--filter", "scope=swarm"];
    filters.split_whitespace().for_each(|f| args.extend(["--filter", f]));
    let lines = bed.docker(teller, &args).ok();
    let told = |line: &str| {
        // Without the time, and without the id.
        let mut words = line.splitn(5, ' ').skip(1);
        let (kind, action, _) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{kind} {action} {}", words.next()?))
    };
    lines.lines().filter_map(told).collect()
}

fn await_event(bed: &Bed, teller: &str, filters: &str, wanted: &str) {
    wait(&format!("the event {wanted}"), LONG, || {
        let all = events(bed, teller, filters);
        that(all.iter().any(|e| e == wanted), format!("{all:#?}"))
    });
}

#[test]
fn events_tell_what_has_changed() {
    needs!();
    let bed = Bed::swarm(81, 3, 2);
    bed.load_demo("ws:1.0", "1.0");
    bed.load_demo("ws:2.0", "2.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("network create -d overlay back").ok();
    let _ = m("service create -d --name web --replicas 2 ws:1.0").ok();
    bed.await_running("manager", "web", 2, LONG);
    let _ = m("service update -d --replicas 3 --image ws:2.0 --update-monitor 100ms web").ok();
    wait("the update to complete", LONG, || {
        let state = m("service inspect --format {{.UpdateStatus.State}} web").out;
        that(state.trim() == "completed", state)
    });
    let _ = m("node update --availability drain worker2").ok();
    let _ = m("service rm web").ok();
    let _ = m("network rm back").ok();
    // Every manager tells the same.
    for teller in ["manager", "worker1"] {
        for (filters, wanted) in [
            ("type=service", "service create (name=web)"),
            (
                "service=web event=update",
                "service update (image.new=ws:2.0, image.old=ws:1.0, name=web, replicas.new=3, replicas.old=2)",
            ),
            ("service=web", "service update (name=web, updatestate.new=updating)"),
            ("service=web", "service update (name=web, updatestate.new=completed, updatestate.old=updating)"),
            ("service=web", "service remove (name=web)"),
            ("node=worker2", "node update (availability.new=drain, availability.old=active, name=worker2)"),
            ("type=network", "network create (name=back)"),
            ("network=back", "network remove (name=back)"),
        ] {
            await_event(&bed, teller, filters, wanted);
        }
        assert!(events(&bed, teller, "service=other").is_empty() && events(&bed, teller, "type=container").is_empty());
    }
    // Nobody's business on a worker, and never told twice: not after a restart either.
    assert!(events(&bed, "worker2", "type=service").is_empty());
    bed.kill_daemon("worker1");
    bed.start_daemon("worker1");
    let id = bed.node_id("worker1");
    bed.await_node("manager", &id, "Ready Active Reachable", LONG);
    let _ = m("service create -d --name after --replicas 0 ws:1.0").ok();
    await_event(&bed, "worker1", "type=service", "service create (name=after)");
    let all = events(&bed, "worker1", "type=service");
    assert!(!all.iter().any(|e| e.contains("web")), "told again after a restart: {all:#?}");
}

#[test]
fn events_tell_how_managers_stand() {
    needs!();
    let bed = Bed::swarm(89, 3, 3);
    let leader = wait("a leader", LONG, || bed.leader("manager"));
    let others: Vec<&str> = ["manager", "worker1", "worker2"].into_iter().filter(|h| *h != leader).collect();
    bed.kill_daemon(others[0]);
    let of = |host: &str, what: &str| format!("node update (name={host}, {what})");
    let gone = of(others[0], "reachability.new=unreachable, reachability.old=reachable");
    await_event(&bed, &leader, "type=node", &gone);
    bed.start_daemon(others[0]);
    await_event(&bed, &leader, "type=node", &of(others[0], "reachability.new=reachable, reachability.old=unreachable"));
    // Each of the others tells of the new leader, and that the old one is none.
    bed.stop_daemon(&leader);
    let next = wait("a new leader", LONG, || bed.leader(others[0]).and_then(|l| if l == leader { Err(l) } else { Ok(l) }));
    for teller in &others {
        for (host, change) in [(&next, "leader.new=true, leader.old=false"), (&leader, "leader.new=false, leader.old=true")] {
            let text = format!("node update ({change}, name={host}");
            wait(&text, LONG, || {
                let all = events(&bed, teller, "type=node");
                that(all.iter().any(|e| e.starts_with(&text)), format!("{teller}: {all:#?}"))
            });
        }
    }
}

#[test]
fn lists_and_their_filters() {
    needs!();
    let Some(bed) = with_busybox(82, 2) else { return };
    let m = |args: &str| bed.d("manager", args);
    let loops = ["service", "create", "-d", "--name"];
    let sleep = ["busybox", "sh", "-c", "while true;do sleep 3600;done"];
    let create =
        |name: &str, options: &[&str]| bed.docker("manager", &[&loops[..], &[name], options, &sleep[..]].concat()).ok();
    let id = create("web2", &["--label", "tier=front"]);
    create("web10", &["--label", "tier=back", "-p", "8080-8081:80-81", "-p", "53:53/udp"]);
    create("all", &["--mode", "global"]);
    // `service scale` of two at once.
    let scaled = m("service scale web2=3 web10=2").ok();
    assert!(scaled.contains("web2 scaled to 3") && scaled.contains("web10 scaled to 2"), "{scaled}");
    assert_eq!(scaled.matches(" converged").count(), 2, "{scaled}");

    // By name as people count, short ids, ports as ranges.
    let ls = m("service ls").ok();
    let rows: Vec<Vec<&str>> = ls.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"]);
    assert_eq!(rows[1][1..], ["all", "global", "2/2", "busybox:latest"]);
    assert_eq!(rows[2], [&id[..12], "web2", "replicated", "3/3", "busybox:latest"]);
    assert_eq!(rows[3][1..5], ["web10", "replicated", "2/2", "busybox:latest"]);
    assert_eq!(rows[3][5..].join(" "), "*:8080-8081->80-81/tcp, *:53->53/udp", "{ls}");
    let short = &id[..12];
    for (filter, names) in [
        ("name=web", "web2 web10"),
        ("name=web1", "web10"),
        ("label=tier", "web2 web10"),
        ("label=tier=back", "web10"),
        ("mode=global", "all"),
        ("mode=replicated-job", ""),
    ] {
        let found = m(&format!("service ls --format {{{{.Name}}}} --filter {filter}")).ok();
        assert_eq!(found.lines().collect::<Vec<_>>().join(" "), names, "{filter}");
    }
    assert_eq!(m(&format!("service ls -q --filter id={short}")).ok(), short);
    m("service ls --filter colour=red").fails("invalid filter 'colour'");
    m("service ps --filter desired-state=nope web2").fails("Invalid desired-state filter: 'nope'");
    m("node ls --filter role=boss").fails("Invalid role filter: 'boss'");
    m("node ls --filter membership=none").fails("Invalid membership filter: 'none'");
    assert_eq!(m("node ls -q --filter role=Manager").ok().lines().count(), 1);

    // A task that was killed stays below its successor, with what it died of.
    let w1 = bed.node_id("worker1");
    let victim = bed.running("manager", "web2").into_iter().find(|l| l.node == w1);
    let victim = victim.unwrap_or_else(|| panic!("no task on worker1"));
    let _ = bed.d("worker1", &format!("kill {}", victim.container)).ok();
    let ps = wait("a successor", LONG, || {
        let ps = m("service ps --filter desired-state=running -q web2").ok();
        let now = bed.running("manager", "web2");
        that(now.len() == 3 && now.iter().all(|l| l.id != victim.id), ps)?;
        Ok(m("service ps web2").ok())
    });
    let lines: Vec<&str> = ps.lines().collect();
    let head: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
    assert_eq!(head, ["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS"]);
    let slot = victim.slot;
    let new = lines.iter().position(|l| l.contains(&format!(" web2.{slot} "))).unwrap_or_default();
    assert!(lines[new].contains("Running") && lines[new].contains("ago"), "{ps}");
    let old = lines[new + 1];
    assert!(old.contains(&format!(" \\_ web2.{slot} ")) && old.contains("Shutdown") && old.contains("Failed"), "{ps}");
    assert!(old.contains("\"task: non-zero exit (137)\""), "{ps}");
    let count = |filter: &str| m(&format!("service ps -q --filter {filter} web2")).ok().lines().count();
    assert_eq!((count("desired-state=running"), count("desired-state=shutdown"), count("desired-state=accepted")), (3, 1, 0));
    assert_eq!((count(&format!("name=web2.{slot}")), count(&format!("id={}", victim.id))), (2, 1));
    assert_eq!(count("node=worker1"), count(&format!("node={w1}")));
    // A filter names one service, as an argument does, though the ids of others may begin with its name.
    let ask = |filter: &str| bed.refused("manager", "GET", &format!("/tasks?filters={filter}"), None);
    assert_eq!(ask("%7B%22service%22%3A%5B%22we%22%5D%7D"), (404, "service we not found".to_owned()));
    assert_eq!(ask("%7B%22node%22%3A%5B%22worker%22%5D%7D"), (404, "node worker not found".to_owned()));
    let missing = m("service ps web2 nothing");
    assert!(missing.code == 1 && missing.out.contains("web2.1") && missing.err.contains("no such service: nothing"));

    // The tasks of a node: its own by default, of several with history.
    let own = m("node ps --format {{.Name}}|{{.Node}} --filter desired-state=running").ok();
    let here: BTreeSet<&str> = own.lines().filter_map(|l| l.split('|').nth(1)).collect();
    assert_eq!(here, ["manager"].into(), "{own}");
    let both = m("node ps -q --filter desired-state=running self worker1").ok();
    // The client asks for the nodes before once more with each node.
    assert_eq!(both.lines().collect::<BTreeSet<_>>().len(), 7, "{both}");
    let all = m("node ps --no-trunc worker1").ok();
    assert!(all.contains(&format!("all.{w1}")) && all.contains(" \\_ web2."), "{all}");
    m("node ps nobody").fails("node nobody not found");

    // What a unit made for dockerd sends to have the configuration read anew ends nothing.
    let before = bed.running("manager", "web2");
    bed.hang_up("manager");
    wait("a word about it", LONG, || that(bed.log("manager").contains("SIGHUP"), bed.log("manager")));
    assert_eq!(bed.running("manager", "web2"), before);
}
