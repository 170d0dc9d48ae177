//! The `skep` client itself: the journeys of a swarm and a service (J1, J2) driven by it, and what it shows held against what the
//! stock client shows of the same daemon.

use std::process::{Command, Stdio};

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};
use skep_testkit::docker::{Output, docker, skep};

use crate::needs;

/// Runs `skep` on a host, split at spaces.
fn s(bed: &Bed, host: &str, args: &str) -> Output {
    let words: Vec<&str> = args.split_whitespace().collect();
    skep(&bed.playground.place.binary, "skep", &bed.host(host).socket(&bed.playground.place), &words)
}

/// Ages change while one looks: they are made the same.
fn without_ages(text: &str) -> String {
    let one = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        while let Some(ago) = words.iter().position(|w| *w == "ago") {
            let begin = (ago.saturating_sub(5)..ago)
                .find(|i| words[*i].parse::<u64>().is_ok() || matches!(words[*i], "About" | "Less" | "less" | "about"))
                .unwrap_or(ago);
            words.drain(begin..=ago);
        }
        words.join(" ")
    };
    text.lines().map(one).collect::<Vec<_>>().join("\n")
}

/// Holds what both clients say of one daemon against each other: output, errors, exit code.
fn same(bed: &Bed, host: &str, args: &[&str]) {
    let socket = bed.host(host).socket(&bed.playground.place);
    wait(&format!("the same from both: {args:?}"), LONG, || {
        let (theirs, ours) = (docker(&socket, args), skep(&bed.playground.place.binary, "docker", &socket, args));
        let all = |o: &Output| format!("exit {}\n{}\n{}", o.status, without_ages(&o.stdout), without_ages(&o.stderr));
        that(all(&theirs) == all(&ours), format!("docker:\n{}\nskep:\n{}", all(&theirs), all(&ours)))
    });
}

#[test]
fn a_swarm_and_a_service_by_the_own_client() {
    needs!();
    let bed = Bed::bare(37, 2, &[]);
    let m = |args: &str| s(&bed, "manager", args);
    assert!(m("info").ok().lines().any(|l| l == " Swarm: inactive"));
    let init = m(&format!("swarm init --advertise-addr {}", bed.address("manager"))).ok();
    assert!(
        init.starts_with("Swarm initialized: current node (") && init.contains("\n    skep swarm join --token SWMTKN-1-"),
        "{init}"
    );
    let join = init.lines().find_map(|l| l.trim().strip_prefix("skep ")).unwrap().to_owned();
    assert_eq!(s(&bed, "worker1", &join).ok(), "This node joined a swarm as a worker.");
    wait("both nodes to be ready", LONG, || {
        let ls = m("node ls --format {{.Status}}").stdout;
        that(ls == "Ready\nReady", ls.clone())
    });
    let ls = m("node ls").ok();
    assert!(ls.lines().next().unwrap().contains("MANAGER STATUS   ENGINE VERSION   TASKS"), "{ls}");

    bed.load_demo("ws:1.0", "1.0");
    let made = m("service create --replicas 3 --name ws -p 80:8000 ws:1.0");
    assert!(
        made.stderr.starts_with("image ws:1.0 could not be accessed on a registry to record\nits digest. Each node will"),
        "{}",
        made.stderr
    );
    let text = made.ok();
    assert!(text.contains("overall progress: 3 out of 3 tasks") && text.ends_with(" converged"), "{text}");
    bed.await_running("manager", "ws", 3, LONG);

    for args in [
        &["node", "ls"][..],
        &["node", "ls", "-q"],
        &["node", "ls", "--format", "{{.Hostname}}|{{.Status}}|{{.TLSStatus}}"],
        &["node", "inspect", "--pretty", "worker1"],
        &["node", "inspect", "manager", "worker1"],
        &["service", "inspect", "ws"],
        &["node", "ps", "worker1"],
        &["service", "ls"],
        &["service", "ls", "--format", "json"],
        &["service", "ps", "ws"],
        &["service", "ps", "-q", "ws"],
        &["service", "ps", "ws", "nothing"],
        &["service", "inspect", "--pretty", "ws"],
        &["service", "inspect", "nothing"],
        &["service", "inspect", "--format", "{{.Spec.Name}} {{range .Endpoint.Ports}}{{.PublishedPort}}{{end}}", "ws"],
        &["ps"],
        &["ps", "-a", "--no-trunc"],
        &["ps", "--format", "table {{.Names}}\t{{.Image}}\t{{.Label \"com.docker.swarm.service.name\"}}"],
        &["images"],
        &["images", "-q", "--no-trunc"],
        &["network", "ls"],
        &["network", "inspect", "ingress"],
        &["volume", "ls"],
        &["info"],
        &["secret", "ls"],
        &["config", "ls"],
        &["swarm", "join-token", "worker"],
        &["swarm", "join-token", "nobody"],
        &["swarm", "unlock"],
        &["service", "rm"],
        &["service", "rm", "nothing"],
        &["service", "frobnicate"],
        &["service", "create", "--replicas", "x", "ws:1.0"],
        &["service", "scale", "ws"],
        &["rm", "nothing"],
        &["exec", "nothing", "ls"],
        &["run", "--rm", "localhost:1/nothing"],
    ] {
        if args[0] == "run" {
            // What the registry's answer was is the daemon's to say; how it is told is the client's.
            let run = m(&args.join(" "));
            assert_eq!(run.status, 125, "{run:?}");
            continue;
        }
        same(&bed, "manager", args);
    }

    let scaled = m("service scale ws=2").ok();
    assert!(
        scaled.starts_with("ws scaled to 2\noverall progress: ") && scaled.ends_with("verify: Service ws converged"),
        "{scaled}"
    );
    assert_eq!(m("why ws").ok(), "ws waits for nothing: all its 2 tasks run.");
    // What no node can hold: the reason, in words, and the waiting can be broken off.
    let socket = bed.host("manager").socket(&bed.playground.place);
    let mut stuck = Command::new(&bed.playground.place.binary)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .args(["service", "update", "--reserve-memory", "900g", "ws"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait("why to tell the reason", LONG, || {
        let why = m("why ws").stdout;
        that(why.contains("waits for a node: no suitable node"), why.clone())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(stuck.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(stuck.wait().unwrap().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stuck.stdout.take().unwrap(), &mut said).unwrap();
    assert!(said.ends_with("Operation continuing in background.\nUse `skep service ps ws` to check progress.\n"), "{said}");
    let _ = m("service update --rollback --quiet ws").ok();
    bed.await_running("manager", "ws", 2, LONG);

    // A drained node is left when the command returns.
    let drained = m("node update --availability drain --wait worker1").ok();
    assert!(drained.ends_with("drained: no task is left on the node"), "{drained}");
    assert_eq!(bed.containers("worker1"), Vec::<String>::new());
    assert_eq!(m("service rm ws").ok(), "ws");
    assert_eq!(s(&bed, "worker1", "swarm leave").ok(), "Node left the swarm.");
}

#[test]
fn a_container_by_the_own_client() {
    needs!();
    let bed = Bed::bare(38, 1, &[]);
    bed.load_demo("box:1", "1.0");
    let m = |args: &str| s(&bed, "manager", args);
    // The image holds the program where it is on this machine.
    let program = bed.playground.place.binary.display().to_string();
    let run = m(&format!("run --rm --entrypoint {program} box:1 --version"));
    assert!(run.ok().starts_with("skep version "));
    assert_eq!(m(&format!("run --rm --entrypoint {program} box:1 frobnicate")).status, 1);
    let missing = m("run --rm --entrypoint /nothing box:1");
    assert_eq!(missing.status, 127, "{missing:?}");
    assert!(
        missing.stderr.starts_with("skep: Error response from daemon: ")
            && missing.stderr.ends_with("Run 'skep run --help' for more information")
    );
    let id = m("run -d --name one -e VERSION=7 -l a=b box:1").ok();
    assert_eq!(id.len(), 64, "{id}");
    assert!(m(&format!("exec one {program} --version")).ok().starts_with("skep version "));
    assert_eq!(m("exec one /nothing").status, 127);
    wait("its first line", LONG, || {
        let logs = m("logs one").stdout;
        that(logs.contains("listening on port"), logs.clone())
    });
    for args in [&["ps"][..], &["inspect", "one"], &["logs", "one"], &["container", "ls", "--filter", "label=a=b", "-q"]] {
        same(&bed, "manager", args);
    }
    assert_eq!(m("stop one").ok(), "one");
    assert_eq!(m("wait one").ok(), "0");
    assert_eq!(m("start one").ok(), "one");
    assert_eq!(m("kill -s TERM one").ok(), "one");
    assert_eq!(m("rm -f one").ok(), "one");
    assert!(m("rmi box:1").ok().starts_with("Untagged: box:1\n"));
}
