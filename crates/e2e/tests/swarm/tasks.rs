//! `skep service exec`, `attach`, `cp`, `top` and `stats`: into the tasks of a service on whichever nodes, by way of any manager.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

#[test]
fn tasks_are_reached_wherever_they_run() {
    needs!();
    let bed = Bed::swarm(115, 3, 2);
    let busybox = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&busybox, "busybox:latest"));
    let d = |args: &[&str]| bed.docker("manager", args).ok();
    d(&["service", "create", "--name", "web", "--replicas", "3", "busybox", "sleep", "100000"]);
    d(&[
        "service",
        "create",
        "--name",
        "all",
        "--mode",
        "global",
        "busybox",
        "sh",
        "-c",
        "while read line; do echo got $line; done; sleep 100000",
    ]);
    let tasks = bed.await_running("manager", "web", 3, LONG);
    assert_eq!(tasks.iter().map(|t| t.node.as_str()).collect::<BTreeSet<_>>().len(), 3);
    let scratch = bed.playground.place.data.join("tasks");
    std::fs::create_dir_all(&scratch).expect("made");
    // By either manager, whoever has a node's session.
    for manager in ["manager", "worker1"] {
        let s = |args: &[&str]| bed.skep(manager, args);
        for task in &tasks {
            let place = format!("web.{}", task.slot);
            let host = s(&["service", "exec", &place, "cat", "/etc/hostname"]).ok();
            assert_eq!(host, task.container[..12], "{place}");
        }
        assert_eq!(s(&["service", "exec", "web", "echo", "first"]).ok(), "first");
        assert_eq!(s(&["service", "exec", &tasks[1].id, "cat", "/etc/hostname"]).ok(), tasks[1].container[..12]);
        for host in ["manager", "worker1", "worker2"] {
            let place = format!("all.{host}");
            assert_eq!(s(&["service", "exec", "-e", "A=1", "-w", "/tmp", &place, "sh", "-c", "echo $A $PWD"]).ok(), "1 /tmp");
        }
        // Exit codes, errors of the container, and streams each for itself.
        let failed = s(&["service", "exec", "web.2", "sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((failed.code, failed.out.as_str(), failed.err.as_str()), (7, "out\n", "err\n"));
        assert_eq!(s(&["service", "exec", "web.2", "/nothing"]).code, 127);
        for missing in ["nothing", "web.9", "all.nowhere"] {
            let run = s(&["service", "exec", missing, "true"]);
            assert!(run.code == 1 && run.err.contains("no "), "{run:?}");
        }
        // Input of some size, to its end.
        let mut exec = bed.skep_command(manager, &["service", "exec", "-i", "web.3", "sha256sum"]);
        let mut child = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let bytes = vec![b'x'; 3 << 20];
        child.stdin.take().expect("a pipe").write_all(&bytes).expect("taken");
        let done = child.wait_with_output().expect("ended");
        let sum = Run::of(Command::new("sh").args(["-c", "head -c 3145728 /dev/zero | tr '\\0' x | sha256sum"])).ok();
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), sum, "{done:?}");
        // A terminal of the user's size.
        let typed = Client::Skep.typed(&bed, manager, "service exec -it web.1 stty size").ok();
        assert!(typed.contains("33 77"), "{typed:?}");
        // Files, both ways.
        let (file, back) = (scratch.join(manager), scratch.join(format!("{manager}.back")));
        std::fs::write(&file, "to and fro\n").expect("written");
        let _ = s(&["service", "cp", &file.display().to_string(), "web.3:/tmp/there"]).ok();
        let _ = s(&["service", "cp", "web.3:/tmp/there", &back.display().to_string()]).ok();
        assert_eq!(std::fs::read_to_string(&back).expect("came back"), "to and fro\n");
        assert!(s(&["service", "cp", "web.3:/nothing", "-"]).err.contains("Could not find the file /nothing"));
        // Looking on.
        let top = s(&["service", "top", "web", "-o", "pid,args"]).ok();
        assert_eq!(top.lines().filter(|l| l.contains("sleep 100000")).count(), 3, "{top}");
        assert!(["web.1", "web.2", "web.3", "worker2"].iter().all(|w| top.contains(w)), "{top}");
        let stats = s(&["service", "stats", "--no-stream", "--format", "{{.Name}}@{{.Node}} {{.PIDs}}", "web"]).ok();
        assert_eq!(stats.lines().filter(|l| l.ends_with(" 1")).count(), 3, "{stats}");
    }
    // What a task says from now on, until the user has heard enough.
    let talk = "while true; do echo tick; sleep 0.2; done";
    d(&["service", "create", "--name", "talk", "busybox", "sh", "-c", talk]);
    let mut attach = bed.skep_command("worker1", &["service", "attach", "--sig-proxy=false", "talk"]);
    let mut child = attach.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut heard = [0u8; 10];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut heard).expect("it talks");
    assert_eq!(&heard, b"tick\ntick\n");
    child.kill().expect("it was there");
    let _ = child.wait();
    assert_eq!(bed.running("manager", "talk").len(), 1);
    // Only managers know the tasks.
    assert_eq!(bed.skep("worker2", &["service", "exec", "web", "true"]).code, 1);

    // A manager that dies under an exec ends its input, and with that what reads it: nothing stays on the node.
    let far = tasks.iter().find(|t| t.node == bed.node_id("worker2")).map(|t| format!("web.{}", t.slot)).expect("a task there");
    let mut exec = bed.skep_command("worker1", &["service", "exec", "-i", &far, "cat"]);
    let mut child = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"hello\n").expect("taken");
    let mut echoed = [0u8; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut echoed).expect("it runs");
    bed.kill_daemon("worker1");
    wait("the command to end", LONG, || {
        let ended = child.try_wait().map_err(|e| e.to_string())?;
        that(ended.is_some_and(|s| !s.success()), format!("{ended:?}"))
    });
    // Two managers need both of them.
    bed.start_daemon("worker1");
    wait("its process to end", LONG, || {
        let top = bed.skep("manager", &["service", "top", &far, "-o", "pid,args"]);
        that(top.code == 0 && !top.out.contains("cat") && top.out.contains("sleep 100000"), format!("{top:?}"))
    });
    drop(input);

    // A node that loses its power ends what was under way there, and the command with it.
    let mut exec = bed.skep_command("manager", &["service", "exec", &far, "sh", "-c", "echo begun; sleep 1000"]);
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut begun = [0u8; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("it runs");
    bed.power_off("worker2");
    wait("the command to end", LONG, || {
        let ended = child.try_wait().map_err(|e| e.to_string())?;
        that(ended.is_some_and(|s| !s.success()), format!("{ended:?}"))
    });
}
