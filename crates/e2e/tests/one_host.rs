//! One host with the stock `docker` client: what users do first, what goes wrong, and what a kill of the daemon must not touch.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use skep_e2e::bed::{Bed, binary};
use skep_e2e::{Run, missing, that, wait, web};
use skep_testkit::{images, skip};

const SOON: Duration = Duration::from_secs(20);

/// A host with busybox on it, or nothing where such a host cannot be made.
fn solo(number: u8) -> Option<Bed> {
    if let Some(why) = missing() {
        skip(why);
        return None;
    }
    let Some(busybox) = images::busybox() else {
        skip("needs the static busybox");
        return None;
    };
    let bed = Bed::bare(number, 1, &[]);
    bed.load(images::archive(&busybox, "busybox:latest"));
    Some(bed)
}

/// Runs the docker CLI with input.
fn with_input(bed: &Bed, args: &[&str], input: &[u8]) -> Run {
    let mut command = bed.command("manager", args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker client");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().expect("ends");
    writer.join().expect("no panic").expect("all input taken");
    let (code, out) = (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned());
    Run { command: args.join(" "), code, out, err: String::new() }
}

/// Runs the docker CLI in a terminal.
fn in_terminal(bed: &Bed, line: &str) -> String {
    let socket = bed.host("manager").socket(&bed.playground.place);
    let command = format!("docker -H unix://{} {line}", socket.display());
    let mut script = Command::new("script");
    Run::of(script.args(["-qec", &command, "/dev/null"])).out
}

/// Posts a body to the API as it is; status and answer.
fn post(bed: &Bed, path: &str, body: &str) -> (u16, String) {
    let socket = bed.host("manager").socket(&bed.playground.place);
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A daemon that refuses a long body may close before it has taken all of it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default())
}

/// What a plain TCP server on the host's port says.
fn says(bed: &Bed, port: u16) -> String {
    web::exchange(&bed.address("manager"), port, b"", |t| t.ends_with('\n')).unwrap_or_default()
}

#[test]
fn containers_live_as_docker_users_expect() {
    let Some(bed) = solo(1) else { return };
    let d = |args: &[&str]| bed.docker("manager", args);

    assert_eq!(d(&["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    let failed = d(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((failed.code, failed.out.as_str(), failed.err.as_str()), (3, "out\n", "err\n"));
    for (program, code, text) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let run = d(&["run", "--rm", "busybox", program]);
        assert_eq!(run.code, code, "{}", run.err);
        assert!(run.err.contains(text), "{}", run.err);
    }

    let id =
        d(&["run", "-d", "--name", "one", "--hostname", "box", "-e", "A=b", "-w", "/made", "busybox", "sleep", "1000"]).ok();
    assert_eq!(id.trim().len(), 64);
    let seen = d(&["exec", "one", "sh", "-c", "hostname; echo $A; pwd; grep -E 'CapEff|Seccomp:' /proc/self/status"]).ok();
    assert_eq!(seen, "box\nb\n/made\nCapEff:\t00000000a80425fb\nSeccomp:\t2", "Docker's default confinement");
    assert_eq!(d(&["exec", "one", "sh", "-c", "exit 7"]).code, 7);
    let missing = d(&["exec", "one", "nosuch"]);
    assert_eq!(missing.code, 127);
    assert!(missing.out.contains("executable file not found"), "{}{}", missing.out, missing.err);
    assert_ne!(d(&["exec", "one", "mount", "-t", "tmpfs", "x", "/mnt"]).code, 0, "no privileges");
    assert_ne!(d(&["exec", "one", "sh", "-c", "echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes"]).code, 0);

    // Strays of failed and finished execs are reaped, or the container could not end.
    let stopped = d(&["stop", "-t", "1", "one"]);
    assert_eq!((stopped.code, stopped.out.as_str()), (0, "one\n"), "{}", stopped.err);
    assert_eq!(d(&["wait", "one"]).ok(), "137");
    assert_eq!(d(&["start", "one"]).ok(), "one");
    assert_eq!(d(&["restart", "-t", "0", "one"]).ok(), "one");
    let refused = d(&["rm", "one"]);
    assert_eq!(refused.code, 1);
    let text = "cannot remove container \"/one\": container is running: stop the container before removing or force remove";
    assert!(refused.err.contains(text), "{}", refused.err);
    assert_eq!(d(&["rm", "-f", "one"]).ok(), "one");

    assert_eq!(with_input(&bed, &["run", "-i", "--rm", "busybox", "cat"], b"through stdin").ok(), "through stdin");
    let big = with_input(&bed, &["run", "-i", "--rm", "busybox", "wc", "-c"], &vec![b'x'; 3 << 20]).ok();
    assert_eq!(big.trim(), (3 << 20).to_string(), "no byte is lost on the way in");
    let flood = d(&["run", "--rm", "busybox", "sh", "-c", "dd if=/dev/zero bs=1M count=8 2>/dev/null"]);
    assert_eq!(flood.out.len(), 8 << 20, "no byte is lost on the way out");

    d(&["run", "-d", "--name", "talker", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1000"]).ok();
    wait("five lines in the log", SOON, || that(d(&["logs", "talker"]).ok().lines().count() == 5, "not yet"));
    assert_eq!(d(&["logs", "--tail", "2", "talker"]).ok(), "line 4\nline 5");
    let follow = bed.command("manager", &["logs", "-f", "talker"]).stdout(Stdio::piped()).spawn().expect("docker client");
    d(&["kill", "talker"]).ok();
    let followed = follow.wait_with_output().expect("ends with the container");
    assert_eq!(String::from_utf8_lossy(&followed.stdout).lines().count(), 5);

    d(&["run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "exit 1"]).ok();
    wait("two restarts", SOON, || {
        that(
            {
                d(&["inspect", "again", "--format", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"]).ok()
                    == "2 exited 1"
            },
            "not yet",
        )
    });

    let listed = d(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    assert_eq!(listed, "again exited\ntalker exited");
    let terminal = in_terminal(&bed, "run -it --rm busybox sh -c 'tty; test -t 0 && echo interactive'");
    assert!(terminal.contains("/dev/pts/0") && terminal.contains("interactive"), "{terminal}");
}

#[test]
fn a_killed_daemon_finds_its_containers_as_they_are() {
    let Some(bed) = solo(2) else { return };
    let d = |args: &[&str]| bed.docker("manager", args);
    d(&[
        "run",
        "-d",
        "--name",
        "stays",
        "-p",
        "8080:80",
        "busybox",
        "sh",
        "-c",
        "echo before; while true; do echo pong | nc -l -p 80; done",
    ])
    .ok();
    d(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; echo bye; exit 42"])
        .ok();
    d(&["run", "-d", "--name", "killed", "busybox", "sleep", "1000"]).ok();
    let pid = |name: &str| d(&["inspect", name, "--format", "{{.State.Pid}}"]).ok().trim().parse::<i32>().expect("a number");
    let (stays, ends, killed) = (pid("stays"), pid("ends"), pid("killed"));
    d(&["exec", "ends", "true"]).ok();

    bed.kill_daemon("manager");
    // While nobody looks, one ends by itself and one loses its shim.
    std::fs::write(format!("/proc/{ends}/root/go"), "").expect("into the container");
    wait("the container ends", SOON, || that(!alive(ends), "not yet"));
    for pid in [parent(killed), killed] {
        kill(pid);
    }
    wait("the killed one is gone", SOON, || that(!alive(killed), "not yet"));
    assert!(alive(stays));
    bed.start_daemon("manager");

    let state = |name: &str| d(&["inspect", name, "--format", "{{.State.Status}} {{.State.ExitCode}}"]).ok();
    assert_eq!(state("stays"), "running 0");
    assert_eq!(pid("stays"), stays, "never restarted");
    assert_eq!(state("ends"), "exited 42");
    assert_eq!(d(&["logs", "ends"]).ok(), "bye");
    assert_eq!(state("killed"), "exited 137");
    assert_eq!(d(&["exec", "stays", "echo", "still here"]).ok(), "still here");
    wait("its port still answers", SOON, || that(says(&bed, 8080).contains("pong"), "not yet"));
    assert_eq!(d(&["stop", "-t", "1", "stays"]).ok(), "stays");
    bed.stop_daemon("manager");
    bed.start_daemon("manager");
    assert_eq!(d(&["ps", "-q"]).ok(), "");
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let Some(bed) = solo(3) else { return };
    let d = |args: &[&str]| bed.docker("manager", args);
    d(&["run", "-d", "--name", "taken", "-p", "8080:80", "busybox", "sleep", "1000"]).ok();
    for (args, code, text) in [
        (
            &["run", "--name", "taken", "busybox", "true"][..],
            125,
            "The container name \"/taken\" is already in use by container",
        ),
        (&["run", "nosuch.invalid/image"], 125, "nosuch.invalid"),
        (&["run", "-p", "8080:81", "busybox", "true"], 125, "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        (&["run", "--network", "nosuch", "busybox", "true"], 125, "network nosuch not found"),
        (&["run", "--gpus", "all", "busybox", "true"], 125, "is not built yet"),
        (
            &["run", "-u", "nobodyhere", "busybox", "true"],
            125,
            "unable to find user nobodyhere: no matching entries in passwd file",
        ),
        (&["run", "-m", "1m", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
        (&["start", "nosuch"], 1, "No such container: nosuch"),
        (&["kill", "nosuch"], 1, "No such container: nosuch"),
        (&["rm", "taken"], 1, "container is running: stop the container before removing or force remove"),
        (&["rmi", "nosuch"], 1, "No such image: nosuch:latest"),
        (&["rmi", "busybox"], 1, "is using its referenced image"),
        (&["volume", "inspect", "nosuch"], 1, "get nosuch: no such volume"),
        (&["network", "rm", "bridge"], 1, "bridge is a pre-defined network and cannot be removed"),
        (&["network", "create", "-d", "macvlan", "-o", "macvlan_mode=sideways", "x"], 1, "sideways"),
        (&["cp", "taken:/nosuch", "-"], 1, "Could not find the file /nosuch in container taken"),
        (&["service", "ls"], 1, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\""),
        (&["swarm", "leave"], 1, "This node is not part of a swarm"),
    ] {
        let run = d(args);
        assert_eq!(run.code, code, "{args:?}: {}", run.err);
        assert!(run.err.contains(text), "{args:?}: {}", run.err);
    }
    let names = d(&["ps", "-a", "--filter", "status=running", "--format", "{{.Names}}"]).ok();
    assert_eq!(names, "taken");

    for (path, body, status, text) in [
        ("/containers/create", "not json".to_owned(), 400, "invalid JSON"),
        ("/containers/create", "[]".to_owned(), 400, "must be an object"),
        ("/containers/create", r#"{"Image": 7}"#.to_owned(), 400, "Image"),
        ("/containers/create", r#"{"Image": "busybox", "HostConfig": {"Memory": -5}}"#.to_owned(), 400, "Memory"),
        ("/containers/create", format!(r#"{{"Image": "{}"}}"#, "x".repeat(5 << 20)), 400, "too large"),
        ("/v1.10/info", String::new(), 400, "client version 1.10 is too old"),
        ("/v1.99/info", String::new(), 400, "client version 1.99 is too new"),
        ("/plugins/pull", String::new(), 501, "is not built yet"),
    ] {
        let (got, answer) = post(&bed, path, &body);
        assert_eq!(got, status, "{path}: {answer}");
        let message: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(message["message"].as_str().expect("text").contains(text), "{path}: {answer}");
    }
}

#[test]
fn volumes_and_networks_of_one_host() {
    let Some(bed) = solo(4) else { return };
    let d = |args: &[&str]| bed.docker("manager", args);
    assert_eq!(d(&["volume", "create", "data"]).ok(), "data");
    d(&["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file"]).ok();
    assert_eq!(d(&["run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/file"]).ok(), "kept");
    assert_ne!(d(&["run", "--rm", "-v", "data:/data:ro", "busybox", "touch", "/data/x"]).code, 0);
    let copied = d(&["run", "--rm", "-v", "fresh:/etc", "busybox", "cat", "/etc/group"]).ok();
    assert!(copied.contains("root"), "an empty volume takes the image's content");
    d(&["run", "-d", "--name", "user", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    let refused = d(&["volume", "rm", "data"]);
    assert!(refused.err.contains("remove data: volume is in use - ["), "{}", refused.err);
    d(&["rm", "-f", "user"]).ok();
    d(&["volume", "rm", "data", "fresh"]).ok();
    assert_eq!(d(&["volume", "ls", "-q"]).ok(), "");

    d(&["network", "create", "app"]).ok();
    d(&[
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "app",
        "busybox",
        "sh",
        "-c",
        "while true; do echo data | nc -l -p 5000; done",
    ])
    .ok();
    wait("a container is reached by name", SOON, || {
        that(
            d(&["run", "--rm", "--network", "app", "busybox", "sh", "-c", "nc -w 2 db 5000 < /dev/null"]).out == "data\n",
            "not yet",
        )
    });
    let address = d(&["inspect", "db", "--format", "{{(index .NetworkSettings.Networks \"app\").IPAddress}}"]).ok();
    let other = d(&["run", "--rm", "busybox", "sh", "-c", &format!("nc -w 1 {} 5000 < /dev/null", address.trim())]);
    assert_ne!(other.out, "data\n", "bridges are isolated from each other");
    let busy = d(&["network", "rm", "app"]);
    assert!(busy.err.contains("has active endpoints"), "{}", busy.err);
    d(&["rm", "-f", "db"]).ok();
    assert_eq!(d(&["network", "rm", "app"]).ok(), "app");
    d(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", "while true; do echo page | nc -l -p 80; done"])
        .ok();
    wait("a published port answers from outside", SOON, || that(says(&bed, 8080).contains("page"), "not yet"));
    let none = d(&["run", "--rm", "--network", "none", "busybox", "ip", "-o", "link"]).ok();
    assert_eq!(none.lines().count(), 1, "loopback only: {none}");
}

#[test]
fn the_daemon_refuses_what_it_does_not_know() {
    let Some(bed) = solo(5) else { return };
    let run = |args: &[&str]| {
        let out = Command::new(binary()).arg("daemon").args(args).output().expect("skep runs");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = run(&["--frobnicate"]);
    assert!(code == Some(1) && text.contains("--frobnicate"), "{text}");
    let data = bed.host("manager").data_root(&bed.playground.place);
    let socket = bed.playground.place.run.join("second.sock");
    let (code, text) = run(&["--data-root", &data.display().to_string(), "-H", &format!("unix://{}", socket.display())]);
    assert!(code == Some(1) && text.contains("is used by another skep daemon"), "{text}");
    let link = bed.playground.place.run.join("dockerd");
    std::os::unix::fs::symlink(binary(), &link).expect("link");
    let out = Command::new(link).arg("--storage-driver=zfs").output().expect("runs as dockerd");
    assert!(String::from_utf8_lossy(&out.stderr).contains("overlay2 only"));
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z"))
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("runs");
    status.lines().find_map(|l| l.strip_prefix("PPid:")).and_then(|p| p.trim().parse().ok()).expect("has a parent")
}

fn kill(pid: i32) {
    // One that is already gone, with the other, is what is wanted.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}
