//! J2's logs of a service: from every node, followed over moves, with what is missing said.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait};
use skep_testkit::images;

use crate::needs;

fn busybox(bed: &Bed) {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
}

/// Creates a service that runs this in a shell.
fn create(bed: &Bed, options: &str, script: &str) {
    let words = format!("service create -d {options} busybox:1.28 sh -c");
    let words: Vec<&str> = words.split_whitespace().chain([script]).collect();
    let _ = bed.docker("manager", &words).ok();
}

#[test]
fn logs_come_from_every_node() {
    needs!();
    let bed = Bed::swarm(69, 3, 1);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    create(&bed, "--name ws --mode global", "echo first; echo second >&2; sleep 10000");
    bed.await_running("manager", "ws", 3, LONG);
    for client in Client::BOTH {
        let c = |args: &str| client.line(&bed, "manager", args);
        let lines = |args: &str| -> Vec<String> { c(args).ok().lines().map(str::to_owned).collect() };
        wait("a first line of each", LONG, || {
            let out = c("service logs ws").out;
            that(out.lines().count() == 3, out)
        });
        // Each line says whence it comes; standard error goes to standard error.
        let mut hosts: Vec<String> = lines("service logs ws")
            .iter()
            .map(|l| {
                let (who, text) = l.split_once('|').unwrap_or_else(|| panic!("{l}"));
                assert!(who.starts_with("ws.") && text == " first", "{l}");
                who.split_once('@').map(|(_, host)| host.trim().to_owned()).unwrap_or_default()
            })
            .collect();
        hosts.sort();
        assert_eq!(hosts, ["manager", "worker1", "worker2"]);
        assert_eq!(c("service logs ws").err.matches("| second").count(), 3);
        assert_eq!(lines("service logs --raw ws"), ["first"; 3]);
        assert!(c("service logs --tail 0 ws").ok().is_empty());
        let stamped = lines("service logs --raw --timestamps ws");
        assert!(stamped.iter().all(|l| l.len() > 30 && l.contains("T") && l.ends_with("Z first")), "{stamped:?}");
        let task = bed.running("manager", "ws")[0].id.clone();
        assert_eq!(lines(&format!("service logs --raw {task}")), ["first"]);
        assert!(lines("service logs --raw --since 2100-01-01T00:00:00Z ws").is_empty());
        // Bare lines with what is known of each; shown lines begin with that already.
        let service = c("service inspect --format {{.ID}} ws").ok();
        let known = lines("service logs --raw --details ws");
        for host in ["manager", "worker1", "worker2"] {
            let (node, service) = (bed.node_id(host), service.trim());
            let whence =
                format!("com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},com.docker.swarm.task.id=");
            assert_eq!(known.iter().filter(|l| l.starts_with(&whence) && l.ends_with(" first")).count(), 1, "{known:?}");
        }
        let detailed = lines("service logs --details ws");
        assert!(
            detailed.len() == 3 && detailed.iter().all(|l| l.starts_with("ws.") && l.ends_with("|  first")),
            "{detailed:?}"
        );
        c("service logs nothing").fails("no such task or service: nothing");
    }
    for (query, text) in [
        ("", "must specify at least one of 'stdout' or 'stderr'"),
        ("?stdout=1&tail=x", "tail value must be a positive integer or \"all\""),
        ("?stdout=1&tail=-1", "negative tail values not supported"),
    ] {
        let refused = bed.refused("manager", "GET", &format!("/services/ws/logs{query}"), None);
        assert_eq!(refused, (400, text.to_owned()));
    }

    // A host that is off costs its lines and a warning, and no hang.
    bed.power_off("worker2");
    wait("the node to be down", LONG, || {
        let ls = d("node ls --format {{.Hostname}}={{.Status}}").out;
        that(ls.contains("worker2=Down"), ls)
    });
    for client in Client::BOTH {
        let partly = client.line(&bed, "manager", "service logs --raw ws");
        assert_eq!((partly.code, partly.out.lines().count()), (1, 2), "{partly:?}");
        assert!(partly.err.contains("warning: incomplete log stream") && partly.err.contains("is not available"), "{partly:?}");
    }
}

/// A client that follows a service's log.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(bed: &Bed, client: Client, host: &str) -> Self {
        let mut command = client.command(bed, host, &["service", "logs", "--raw", "-f", "ws"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a client");
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let (taken, out) = (lines.clone(), child.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                taken.lock().expect("lines").push(line);
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// The numbers that a task has told.
    fn of(&self, task: &str) -> Vec<u64> {
        let lines = self.lines.lock().expect("lines");
        lines.iter().filter_map(|l| l.strip_prefix(task)?.trim().parse().ok()).collect()
    }
}

#[test]
fn a_followed_log_follows_its_tasks() {
    needs!();
    let bed = Bed::swarm(70, 3, 3);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    create(
        &bed,
        // Small files, so that the log goes on in another one every few seconds.
        "--name ws --env T={{.Task.ID}} --stop-grace-period 0s --log-opt max-size=20k --log-opt max-file=3",
        "n=0; while true; do n=$((n+1)); echo $T $n; usleep 50000; done",
    );
    bed.await_running("manager", "ws", 1, LONG);
    // Through managers that need not be the leader.
    let mut followers = [Follower::start(&bed, Client::Docker, "worker1"), Follower::start(&bed, Client::Skep, "manager")];
    let of = |task: &str| followers.each_ref().map(|f| f.of(task)).into_iter().min_by_key(Vec::len).unwrap_or_default();
    let heard = |what: &str, tasks: usize| {
        wait(what, LONG, || {
            let live = bed.running("manager", "ws");
            that(live.len() == tasks && live.iter().all(|l| of(&l.id).len() > 20), format!("{live:?}"))
        });
    };
    heard("the first task", 1);
    // More tasks, on every host.
    let _ = d("service scale -d ws=3").ok();
    heard("three tasks", 3);
    // Others in their places; a daemon that is killed and comes back goes on where it was.
    let _ = d("service update -d --force --update-parallelism 0 ws").ok();
    let first = bed.running("manager", "ws");
    wait("the update", LONG, || {
        let live = bed.running("manager", "ws");
        that(live.len() == 3 && live.iter().all(|l| first.iter().all(|f| f.id != l.id)), format!("{live:?}"))
    });
    heard("three others", 3);
    let before = bed.running("manager", "ws");
    let host =
        before.iter().find(|l| bed.docker("worker2", &["inspect", &l.container]).code == 0).expect("one on worker2").clone();
    bed.kill_daemon("worker2");
    let count = of(&host.id).len();
    bed.start_daemon("worker2");
    wait("its lines after that", LONG, || that(of(&host.id).len() > count + 20, of(&host.id).len().to_string()));
    // No line is missing or told twice, in any task, to either.
    for follower in &mut followers {
        follower.child.kill().expect("killed");
        let _ = follower.child.wait();
        follower.reader.take().expect("once").join().expect("read");
        let all: std::collections::BTreeSet<String> =
            follower.lines.lock().expect("lines").iter().filter_map(|l| l.split_once(' ').map(|(t, _)| t.to_owned())).collect();
        assert!(all.len() >= 4, "{all:?}");
        for task in all {
            let numbers = follower.of(&task);
            let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, expected, "{task}");
        }
    }
}

#[test]
fn a_large_log_comes_whole() {
    needs!();
    let bed = Bed::swarm(72, 2, 1);
    busybox(&bed);
    create(&bed, "--name big --restart-condition none --constraint node.role==worker", "seq -w 1 400000");
    wait("it to end", LONG, || {
        let ps = bed.d("manager", "service ps --no-trunc big").out;
        that(ps.contains("Complete"), ps)
    });
    for client in Client::BOTH {
        let out = client.line(&bed, "manager", "service logs --raw big").ok();
        let mut n = 0;
        for (i, line) in out.lines().enumerate() {
            assert_eq!(line, format!("{:06}", i + 1));
            n = i + 1;
        }
        assert_eq!(n, 400_000);
        let tail = client.line(&bed, "manager", "service logs --raw --tail 3 big").ok();
        assert_eq!(tail.lines().last(), Some("400000"));
        assert_eq!(tail.lines().count(), 3);
    }
}

#[test]
fn a_hundred_megabytes_come_byte_by_byte() {
    needs!();
    const LINES: usize = 25_000;
    let bed = Bed::swarm(126, 2, 1);
    busybox(&bed);
    let script =
        format!("awk 'BEGIN {{ p = sprintf(\"%3991s\", \"\"); for (i = 0; i < {LINES}; i++) printf \"%08d%s\\n\", i, p }}'");
    create(&bed, "--name big --restart-condition none --constraint node.role==worker", &script);
    wait("it to end", 2 * LONG, || {
        let ps = bed.d("manager", "service ps --no-trunc big").out;
        that(ps.contains("Complete"), ps)
    });
    for client in Client::BOTH {
        let mut command = client.command(&bed, "manager", &["service", "logs", "--raw", "big"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a client");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        for i in 0..LINES {
            line.clear();
            out.read_line(&mut line).expect("a line");
            assert!(
                line.len() == 4000 && line == format!("{i:08}{:3991}\n", ""),
                "{}: line {i} of {}",
                client.name(),
                line.len()
            );
        }
        line.clear();
        assert_eq!(out.read_line(&mut line).expect("the end"), 0, "{line}");
        assert!(child.wait().expect("ended").success());
    }
}
