//! Forming a swarm: init, join, leave, tokens, roles, and a leader that goes (J1).

use std::time::{Duration, Instant};

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait};

use crate::needs;

fn token(bed: &Bed, role: &str) -> String {
    bed.docker("manager", &["swarm", "join-token", "-q", role]).ok()
}

#[test]
fn init_join_leave_and_come_back() {
    needs!();
    let mut bed = Bed::bare(20, 3, &[]);
    for client in Client::BOTH {
        bed = bed.by(client);
        comes_and_goes(&bed, client);
    }
}

fn comes_and_goes(bed: &Bed, client: Client) {
    let name = client.name();
    assert!(bed.docker("manager", &["info"]).ok().contains("\n Swarm: inactive\n"));
    let init = bed.docker("manager", &["swarm", "init", "--advertise-addr", &bed.address("manager")]).ok();
    let id = bed.node_id("manager");
    assert!(init.starts_with(&format!("Swarm initialized: current node ({id}) is now a manager.\n")), "{init}");
    let address = format!("{}:2377", bed.address("manager"));
    assert!(init.contains(&format!("    {name} swarm join --token {} {address}\n", token(bed, "worker"))), "{init}");
    assert!(init.contains(&format!(
        "To add a manager to this swarm, run '{name} swarm join-token manager' and follow the instructions."
    )));
    assert!(bed.docker("manager", &["info"]).ok().contains("\n Swarm: active\n"));

    let join = |host: &str, role: &str| bed.docker(host, &["swarm", "join", "--token", &token(bed, role), &address]).ok();
    assert_eq!(join("worker1", "worker"), "This node joined a swarm as a worker.");
    assert_eq!(join("worker2", "manager"), "This node joined a swarm as a manager.");

    let hint = bed.docker("manager", &["swarm", "join-token", "manager"]).ok();
    assert!(hint.starts_with("To add a manager to this swarm, run the following command:\n"), "{hint}");
    assert!(hint.contains(&format!("{name} swarm join --token {} {address}", token(bed, "manager"))));

    let (one, two) = (bed.node_id("worker1"), bed.node_id("worker2"));
    bed.await_node("manager", &id, "Ready Active Leader", LONG);
    bed.await_node("manager", &one, "Ready Active", LONG);
    bed.await_node("worker2", &two, "Ready Active Reachable", LONG);
    let table = bed.docker("manager", &["node", "ls"]).ok();
    assert!(table.starts_with("ID  "), "{table}");
    let own: Vec<&str> = table.lines().filter(|l| l.contains(" * ")).collect();
    assert!(own.len() == 1 && own[0].starts_with(&format!("{id} *")), "{table}");

    // A worker leaves, is down, is removed, and comes back as another node.
    assert_eq!(bed.docker("worker1", &["swarm", "leave"]).ok(), "Node left the swarm.");
    bed.await_node("manager", &one, "Down Active", LONG);
    assert_eq!(bed.docker("manager", &["node", "rm", &one]).ok(), one);
    assert_eq!(join("worker1", "worker"), "This node joined a swarm as a worker.");
    let again = bed.node_id("worker1");
    assert_ne!(again, one);
    bed.await_node("manager", &again, "Ready Active", LONG);

    // A new token makes the old one useless, and harms nobody who is in.
    let old = token(bed, "worker");
    let rotated = bed.docker("manager", &["swarm", "join-token", "--rotate", "worker"]).ok();
    assert!(rotated.starts_with("Successfully rotated worker join token."), "{rotated}");
    assert_ne!(token(bed, "worker"), old);
    assert_eq!(bed.docker("worker1", &["swarm", "leave"]).ok(), "Node left the swarm.");
    bed.docker("worker1", &["swarm", "join", "--token", &old, &address])
        .fails("A valid join token is necessary to join this cluster");
    assert!(bed.docker("worker1", &["info"]).ok().contains("\n Swarm: inactive\n"));
    assert_eq!(join("worker1", "worker"), "This node joined a swarm as a worker.");

    // The last manager does not leave by mistake.
    let text = bed.docker("manager", &["swarm", "leave"]);
    text.fails("You are attempting to leave the swarm on a node that is participating as a manager.");
    assert_eq!(bed.docker("manager", &["swarm", "leave", "-f"]).ok(), "Node left the swarm.");
    assert!(bed.docker("manager", &["info"]).ok().contains("\n Swarm: inactive\n"));
    for host in ["worker1", "worker2"] {
        let _ = bed.docker(host, &["swarm", "leave", "-f"]).ok();
    }
}

#[test]
fn promote_demote_and_a_leader_that_stops() {
    needs!();
    let bed = Bed::swarm(21, 3, 1);
    bed.load_demo("ws:1.0", "1.0");
    let ids = ["manager", "worker1", "worker2"].map(|h| bed.node_id(h));
    for (id, client) in ids[1..].iter().zip(Client::BOTH) {
        let text = client.run(&bed, "manager", &["node", "promote", id]).ok();
        assert_eq!(text, format!("Node {id} promoted to a manager in the swarm."));
        bed.await_node("manager", id, "Ready Active Reachable", LONG);
    }
    assert_eq!(bed.docker("manager", &["node", "promote", &ids[1]]).ok(), format!("Node {} is already a manager.", ids[1]));
    // Demoted and promoted again by the client that waits for it.
    let last = &ids[2];
    let text = bed.skep("manager", &["node", "demote", "--wait", last]).ok();
    assert_eq!(text, format!("Manager {last} demoted in the swarm."));
    assert_eq!(bed.node("manager", last), "Ready Active");
    let text = bed.skep("manager", &["node", "promote", "--wait", last]).ok();
    assert_eq!(text, format!("Node {last} promoted to a manager in the swarm."));
    assert_eq!(bed.node("manager", last), "Ready Active Reachable");
    wait("a promoted node to answer", LONG, || that(bed.docker("worker1", &["node", "ls"]).code == 0, "no answer"));

    let _ = bed.docker("manager", &["service", "create", "-d", "--name", "ws", "--replicas", "6", "ws:1.0"]).ok();
    bed.await_running("manager", "ws", 6, LONG);
    // The swarm gives a silent host's tasks to others; a container of the host's own is nobody else's.
    let _ = bed.docker("manager", &["run", "-d", "--name", "own", "ws:1.0"]).ok();
    let own = || bed.docker("manager", &["inspect", "--format", "{{.State.Pid}} {{.State.StartedAt}}", "own"]).ok();
    let before = own();

    let start = Instant::now();
    bed.stop_daemon("manager");
    let leader = wait("a new leader", Duration::from_secs(10), || bed.leader("worker1"));
    let took = start.elapsed();
    assert_ne!(leader, "manager");
    assert!(took < Duration::from_secs(3), "a new leader after {took:?}");
    let spec = serde_json::json!({"Name": "other", "TaskTemplate": {"ContainerSpec": {"Image": "ws:1.0"}}});
    let _ = wait("a write", Duration::from_secs(10), || bed.api("worker1", "POST", "/services/create", Some(&spec)));
    println!("writes served {:?} after the leader's daemon was told to stop", start.elapsed());
    wait("the old leader to be unreachable", LONG, || {
        let shown = bed.node("worker1", &ids[0]);
        that(shown.ends_with("Unreachable"), shown)
    });
    bed.start_daemon("manager");
    bed.await_node("worker1", &ids[0], "Ready Active Reachable", LONG);
    assert_eq!(own(), before, "a container of a stopped daemon was restarted");

    let leader = wait("a leader", LONG, || bed.leader("worker1"));
    // The node that came back still has news of itself; the stock client does not try again when they come between.
    let text = wait("the demotion", LONG, || {
        let run = bed.docker(&leader, &["node", "demote", &ids[0]]);
        if run.err.contains("update out of sequence") { Err(run.err) } else { Ok(run.ok()) }
    });
    assert_eq!(text, format!("Manager {} demoted in the swarm.", ids[0]));
    bed.await_node(&leader, &ids[0], "Ready Active", LONG);
    wait("the demoted node to refuse", LONG, || {
        let ls = bed.docker("manager", &["node", "ls"]);
        that(ls.err.contains("Worker nodes can't be used to view or modify cluster state"), ls.err)
    });
    assert_eq!(own(), before, "a demotion touched a container");
}

#[test]
fn two_managers_without_a_quorum() {
    needs!();
    let bed = Bed::swarm(22, 2, 2);
    bed.load_demo("ws:1.0", "1.0");
    let _ =
        bed.docker("manager", &["service", "create", "-d", "--name", "ws", "--replicas", "2", "-p", "80:8000", "ws:1.0"]).ok();
    bed.await_running("manager", "ws", 2, LONG);
    bed.stop_daemon("worker1");
    for client in Client::BOTH {
        wait("calls to say that there is no quorum", Duration::from_secs(30), || {
            let ls = client.run(&bed, "manager", &["node", "ls"]);
            that(ls.code == 1 && ls.err.contains("The swarm does not have a leader"), format!("{}{}", ls.out, ls.err))
        });
    }
    let page = skep_e2e::web::get(&bed.address("manager"), 80);
    assert!(page.is_ok(), "a published port stopped for want of a quorum: {page:?}");
    bed.start_daemon("worker1");
    for client in Client::BOTH {
        wait("calls to be answered again", Duration::from_secs(20), || {
            let ls = client.run(&bed, "manager", &["node", "ls"]);
            that(ls.code == 0, ls.err)
        });
    }
}
