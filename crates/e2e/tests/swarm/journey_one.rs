//! J1, form a swarm: what `form` has not: clocks, hosts that cannot hear each other, forced new swarms, backups, many addresses.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait};

use crate::needs;

fn token(bed: &Bed, role: &str) -> String {
    bed.docker("manager", &["swarm", "join-token", "-q", role]).ok()
}

#[test]
fn clocks_of_hosts_may_differ_by_half_an_hour() {
    needs!();
    let bed = Bed::bare(40, 3, &[]);
    let own = bed.address("manager");
    let _ = bed.docker("manager", &["swarm", "init", "--advertise-addr", &own]).ok();
    bed.load_demo("ws:1.0", "1.0");
    let at = format!("{own}:2377");
    let join_by =
        |client: Client, host: &str, role: &str| client.run(&bed, host, &["swarm", "join", "--token", &token(&bed, role), &at]);
    let join = |host: &str, role: &str| join_by(Client::Docker, host, role);
    for (client, host, minutes, role) in [(Client::Docker, "worker1", -30, "worker"), (Client::Skep, "worker2", 30, "manager")]
    {
        bed.stop_daemon(host);
        if bed.start_daemon_with_clock(host, minutes).is_none() {
            return skep_testkit::skip("needs libfaketime");
        }
        assert_eq!(join_by(client, host, role).ok(), format!("This node joined a swarm as a {role}."));
        bed.await_node(
            "manager",
            &bed.node_id(host),
            if role == "worker" { "Ready Active" } else { "Ready Active Reachable" },
            LONG,
        );
    }
    // It is a whole swarm: tasks run on hosts of yesterday and tomorrow, and their ages are nobody's business.
    let _ = bed.docker("manager", &["service", "create", "-d", "--name", "ws", "--replicas", "3", "ws:1.0"]).ok();
    bed.await_running("manager", "ws", 3, LONG);

    // Beyond that: one error that names both clocks, no trace, and a join that works when the clock is right.
    let before = bed.docker("manager", &["node", "ls", "-q"]).ok();
    assert_eq!(bed.docker("worker1", &["swarm", "leave"]).ok(), "Node left the swarm.");
    for (client, minutes) in Client::BOTH.into_iter().zip([-180, 180]) {
        bed.stop_daemon("worker1");
        bed.start_daemon_with_clock("worker1", minutes).unwrap_or_default();
        let refused = join_by(client, "worker1", "worker");
        let year = "20";
        let fits = refused.err.contains(&format!("the clock of this host ({year}"))
            && refused.err.contains(&format!("that of the manager at {at} ({year}"))
            && (refused.err.contains("differ by 180 minutes") || refused.err.contains("differ by 179 minutes"))
            && refused.err.contains("then join again");
        assert!(fits && refused.code == 1, "{}", refused.err);
        assert!(bed.docker("worker1", &["info"]).ok().contains("\n Swarm: inactive\n"));
        assert_eq!(bed.docker("manager", &["node", "ls", "-q"]).ok(), before, "a refused join left a node behind");
    }
    bed.stop_daemon("worker1");
    bed.start_daemon("worker1");
    assert_eq!(join("worker1", "worker").ok(), "This node joined a swarm as a worker.");
}

#[test]
fn managers_that_cannot_hear_each_other() {
    needs!();
    let bed = Bed::swarm(41, 3, 3);
    let ids = ["manager", "worker1", "worker2"].map(|h| bed.node_id(h));
    for id in &ids[1..] {
        wait("all to be managers", LONG, || {
            let shown = bed.node("manager", id);
            that(shown.ends_with("Reachable") || shown.ends_with("Leader"), shown)
        });
    }
    // A pair that is cut still shares the third, and with it a quorum: two of them take writes, and no node is taken for dead.
    let hosts = ["manager", "worker1", "worker2"];
    let pairs = [("manager", "worker1", "worker2"), ("manager", "worker2", "worker1"), ("worker1", "worker2", "manager")];
    for ((one, other, third), client) in pairs.into_iter().zip(Client::BOTH.into_iter().cycle()) {
        bed.cut_pair(one, other);
        wait(&format!("writes through two managers with {one} cut from {other}"), LONG, || {
            let write = |host: &&&str| {
                let name = format!("{one}-{other}-{host}");
                client.run(&bed, host, &["service", "create", "-d", "--name", &name, "--replicas", "0", "x"]).code == 0
            };
            let through = hosts.iter().filter(write).count();
            that(through >= 2, format!("{through} managers took it"))
        });
        for _ in 0..30 {
            let ls = client.run(&bed, third, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
            assert!(!ls.out.contains("Down"), "{one} cut from {other}: {}", ls.out);
        }
        bed.heal_pair(one, other);
        wait("one leader that all three name", LONG, || {
            let named: Vec<_> = ["manager", "worker1", "worker2"].iter().map(|h| bed.leader(h)).collect();
            that(named.iter().all(|n| n.is_ok() && *n == named[0]), format!("{named:?}"))
        });
    }
    wait("all to be well again", LONG, || {
        let shown: Vec<String> = ids.iter().map(|id| bed.node("manager", id)).collect();
        that(shown.iter().all(|s| s.starts_with("Ready Active ") && !s.ends_with("Unreachable")), format!("{shown:?}"))
    });
}

#[test]
fn a_survivor_founds_the_swarm_anew() {
    needs!();
    let bed = Bed::swarm(42, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    let _ = bed.docker("manager", &["network", "create", "-d", "overlay", "demo"]).ok();
    let create = ["service", "create", "-d", "--name", "ws", "--replicas", "3", "--network", "demo", "ws:1.0"];
    let _ = bed.docker("manager", &create).ok();
    bed.await_running("manager", "ws", 3, LONG);
    let (id, cluster) = (bed.node_id("manager"), bed.docker("manager", &["info", "-f", "{{.Swarm.Cluster.ID}}"]).ok());
    let old = token(&bed, "worker");
    for client in Client::BOTH {
        client.run(&bed, "manager", &["swarm", "init"]).fails("This node is already part of a swarm.");
    }

    bed.power_off("worker1");
    bed.power_off("worker2");
    for client in Client::BOTH {
        wait("the quorum to be lost", LONG, || {
            let ls = client.run(&bed, "manager", &["service", "ls"]);
            that(ls.code == 1 && ls.err.contains("The swarm does not have a leader"), format!("{}{}", ls.out, ls.err))
        });
    }
    // Twice: founding it anew once more changes nothing.
    let [_, out] = Client::BOTH.map(|c| c.run(&bed, "manager", &["swarm", "init", "--force-new-cluster"]).ok());
    assert!(out.starts_with(&format!("Swarm initialized: current node ({id}) is now a manager.")), "{out}");
    assert_eq!(bed.docker("manager", &["info", "-f", "{{.Swarm.Cluster.ID}}"]).ok(), cluster);
    assert_eq!(token(&bed, "worker"), old);
    bed.await_node("manager", &id, "Ready Active Leader", LONG);
    assert!(bed.d("manager", "network ls").ok().contains(" demo "));
    bed.await_running("manager", "ws", 3, LONG);
    let live = bed.running("manager", "ws");
    assert!(live.iter().all(|l| l.node == id), "{live:?}");

    // The others come back as workers of the swarm that goes on: one after the other, since two of three would be a quorum of the
    // old one.
    for (n, host) in ["worker1", "worker2"].into_iter().enumerate() {
        bed.power_on(host);
        wait("a former manager to be a worker", LONG, || {
            let ls = bed.docker("manager", &["node", "ls", "--format", "{{.Status}}/{{.ManagerStatus}}"]).ok();
            that(ls.lines().filter(|l| *l == "Ready/").count() == n + 1, ls)
        });
        wait("a former manager to say that it is none", LONG, || {
            let ls = bed.d(host, "node ls");
            that(ls.err.contains("Worker nodes can't be used to view or modify cluster state"), ls.err)
        });
    }
    bed.await_running("manager", "ws", 3, LONG);
}

#[test]
fn a_swarm_is_restored_from_its_backup() {
    needs!();
    let bed = Bed::swarm(43, 3, 2);
    bed.load_demo("ws:1.0", "1.0");
    let _ = bed.docker("manager", &["service", "create", "-d", "--name", "ws", "--replicas", "2", "ws:1.0"]).ok();
    bed.await_running("manager", "ws", 2, LONG);
    let info = |host: &str, f: &str| bed.docker(host, &["info", "-f", f]).ok();
    let (cluster, token) = (info("manager", "{{.Swarm.Cluster.ID}}"), token(&bed, "worker"));

    // With both managers there, any of them makes it; the file is for its owner only, and never overwritten.
    let (file, damaged) = (bed.scratch().join("backup"), bed.scratch().join("damaged"));
    let path = file.display().to_string();
    let _ = bed.skep("worker1", &["swarm", "backup", &path]).ok();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777, 0o600);
    bed.skep("manager", &["swarm", "backup", &path]).fails("File exists");
    let status = bed.skep("worker1", &["swarm", "status"]).ok();
    assert!(status.contains("2 of 2 managers reachable, 2 needed, 0 more may fail"), "{status}");
    assert_eq!(status.lines().filter(|l| l.contains(":2377 ")).count(), 2, "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&bed.skep("manager", &["swarm", "status", "--format", "json"]).ok()).unwrap();
    assert_eq!((json["Quorum"]["Managers"].as_u64(), json["Certificates"].as_array().map(Vec::len)), (Some(2), Some(3)));
    bed.skep("worker2", &["swarm", "status"]).fails("Worker nodes can't be used to view or modify cluster state");
    bed.skep("worker2", &["swarm", "restore", &path]).fails("This node is already part of a swarm.");

    // All is lost but the file and one host.
    for host in ["manager", "worker1"] {
        bed.power_off(host);
    }
    let _ = bed.docker("worker2", &["swarm", "leave"]).ok();
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&damaged, &bytes).unwrap();
    let restore = |p: &std::path::Path| {
        let own = bed.address("worker2");
        bed.skep("worker2", &["swarm", "restore", &p.display().to_string(), "--advertise-addr", &own])
    };
    restore(&damaged).fails("the backup is damaged: its checksum is");
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    restore(&damaged).fails("bytes of content, but has");
    std::fs::write(&damaged, b"PK\x03\x04").unwrap();
    restore(&damaged).fails("this is no backup of a swarm");
    assert!(bed.docker("worker2", &["info"]).ok().contains("\n Swarm: inactive\n"));
    assert!(restore(&file).ok().starts_with("Swarm restored: current node ("));

    assert_eq!(info("worker2", "{{.Swarm.Cluster.ID}}"), cluster);
    assert_eq!(bed.docker("worker2", &["swarm", "join-token", "-q", "worker"]).ok(), token);
    let id = bed.node_id("worker2");
    bed.await_node("worker2", &id, "Ready Active Leader", LONG);
    let live = bed.await_running("worker2", "ws", 2, LONG);
    assert!(live.iter().all(|l| l.node == id), "{live:?}");
    let states = bed.docker("worker2", &["node", "ls", "--format", "{{.Status}}"]).ok();
    assert_eq!(states.lines().filter(|s| *s == "Down").count(), 3, "{states}");

    // Another host joins with the token of before.
    bed.power_on("manager");
    let _ = bed.docker("manager", &["swarm", "leave", "-f"]).ok();
    let at = format!("{}:2377", bed.address("worker2"));
    assert_eq!(bed.docker("manager", &["swarm", "join", "--token", &token, &at]).ok(), "This node joined a swarm as a worker.");
    wait("two nodes to be ready", Duration::from_secs(20), || {
        let ls = bed.docker("worker2", &["node", "ls", "--format", "{{.Status}}"]).ok();
        that(ls.lines().filter(|l| *l == "Ready").count() == 2, ls)
    });
}

#[test]
fn two_managers_lose_one_and_a_wiped_host_returns() {
    needs!();
    let bed = Bed::swarm(44, 2, 2);
    for client in Client::BOTH {
        let info = client.run(&bed, "manager", &["info"]);
        assert!((info.out + &info.err).contains("two-manager configuration"), "{}", client.name());
        client
            .run(&bed, "manager", &["swarm", "leave"])
            .fails("You are attempting to leave the swarm on a node that is participating as a manager.");
    }
    bed.stop_daemon("worker1");
    for client in Client::BOTH {
        wait("calls to say how many managers are reachable", LONG, || {
            let ls = client.run(&bed, "manager", &["node", "ls"]);
            that(ls.code == 1 && ls.err.contains("1 of 2 managers reachable"), format!("{}{}", ls.out, ls.err))
        });
    }
    bed.start_daemon("worker1");
    wait("calls to be answered again", LONG, || {
        let ls = bed.docker("manager", &["node", "ls"]);
        that(ls.code == 0, ls.err)
    });

    // Its disk is lost: the manager that it was can go, since the one that is left asks it no more.
    let old = bed.node_id("worker1");
    let _ = bed.skep("worker1", &["node", "demote", &old]).ok();
    bed.await_node("manager", &old, "Ready Active", LONG);
    bed.stop_daemon("worker1");
    std::fs::remove_dir_all(bed.swarm_dir("worker1")).unwrap();
    bed.start_daemon("worker1");
    assert!(bed.docker("worker1", &["info"]).ok().contains("\n Swarm: inactive\n"));
    bed.await_node("manager", &old, "Down Active", LONG);
    let at = format!("{}:2377", bed.address("manager"));
    assert_eq!(
        bed.skep("worker1", &["swarm", "join", "--token", &token(&bed, "manager"), &at]).ok(),
        "This node joined a swarm as a manager."
    );
    assert_eq!(bed.skep("manager", &["node", "rm", &old]).ok(), old);
    bed.await_node("manager", &bed.node_id("worker1"), "Ready Active Reachable", LONG);
}
