//! Global services and jobs, with the stock client.

use std::collections::BTreeSet;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};
use skep_testkit::{images, skip};

use crate::needs;

/// Hosts with busybox, or nothing where there is none.
pub(crate) fn with_busybox(number: u8, hosts: u8) -> Option<Bed> {
    let Some(busybox) = images::busybox() else {
        skip("needs the static busybox");
        return None;
    };
    let bed = Bed::swarm(number, hosts, 1);
    bed.load(images::archive(&busybox, "busybox:latest"));
    Some(bed)
}

/// Waits until `service ls` shows a service so.
fn await_replicas(bed: &Bed, name: &str, shown: &str) {
    wait(&format!("{name} to show {shown}"), LONG, || {
        let ls = bed.docker("manager", &["service", "ls", "--format", "{{.Name}} {{.Mode}} {{.Replicas}}"]).out;
        that(ls.lines().any(|l| l == format!("{name} {shown}")), ls)
    });
}

#[test]
fn a_global_service_follows_the_nodes() {
    needs!();
    let bed = Bed::swarm(71, 3, 1);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let made = m("service create --name ws --mode global -p 80:8000 ws:1.0").ok();
    assert!(made.contains("overall progress: 3 out of 3 tasks") && made.contains(" converged"), "{made}");
    await_replicas(&bed, "ws", "global 3/3");
    let nodes: BTreeSet<String> = ["manager", "worker1", "worker2"].iter().map(|h| bed.node_id(h)).collect();
    let live = bed.await_running("manager", "ws", 3, LONG);
    assert_eq!(live.iter().map(|l| l.node.clone()).collect::<BTreeSet<_>>(), nodes);
    let w1 = bed.node_id("worker1");
    let names: Vec<String> = bed.containers("worker1");
    assert!(names.len() == 1 && names[0].starts_with(&format!("ws.{w1}.")), "{names:?}");
    assert!(m("service ps --no-trunc --format {{.Name}} ws").ok().lines().any(|l| l == format!("ws.{w1}")));

    let _ = m(&format!("node update --availability drain {w1}")).ok();
    await_replicas(&bed, "ws", "global 2/2");
    let _ = m(&format!("node update --availability active {w1}")).ok();
    await_replicas(&bed, "ws", "global 3/3");
    // An update goes node by node; a task that dies is replaced where it was.
    let text = m("service update --force ws").ok();
    assert!(text.contains(" converged"), "{text}");
    let before = bed.await_running("manager", "ws", 3, LONG);
    assert!(before.iter().all(|l| live.iter().all(|o| o.id != l.id)));
    let victim = before.iter().find(|l| l.node == w1).unwrap_or_else(|| panic!("{before:?}"));
    let _ = bed.d("worker1", &format!("kill {}", victim.container)).ok();
    wait("a replacement on the same node", LONG, || {
        let now = bed.running("manager", "ws");
        that(now.len() == 3 && now.iter().any(|l| l.node == w1 && l.id != victim.id), format!("{now:?}"))
    });
    // The kind of a service is for ever, and a global one has no number.
    m("service scale ws=2").fails("scale can only be used with replicated or replicated-job mode");
    let spec = bed.api("manager", "GET", "/services/ws", None).unwrap_or_else(|e| panic!("{e}"));
    let mut other = spec["Spec"].clone();
    other["Mode"] = serde_json::json!({"Replicated": {"Replicas": 1}});
    let refused =
        bed.api("manager", "POST", &format!("/services/ws/update?version={}", spec["Version"]["Index"]), Some(&other));
    assert!(refused.as_ref().is_err_and(|e| e.contains("service mode change is not allowed")), "{refused:?}");
    m("service create -d --mode global --replicas 2 ws:1.0").fails("replicas can only be used with replicated");
}

#[test]
fn jobs_run_to_their_end() {
    needs!();
    let Some(bed) = with_busybox(72, 2) else { return };
    let m = |args: &str| bed.d("manager", args);
    let made = m("service create --name once --mode replicated-job --replicas 5 --max-concurrent 2 busybox true");
    assert_eq!(made.code, 0, "{}{}", made.out, made.err);
    assert!(made.out.contains("job complete"), "{}", made.out);
    await_replicas(&bed, "once", "replicated job 0/2 (5/5 completed)");
    let ps = m("service ps --format {{.CurrentState}}|{{.DesiredState}} once").ok();
    assert_eq!(ps.lines().filter(|l| l.starts_with("Complete ") && l.ends_with("|Complete")).count(), 5, "{ps}");
    // Again, with every update; the tasks before stay in the history.
    let again = m("service update --force once");
    assert_eq!(again.code, 0, "{}{}", again.out, again.err);
    await_replicas(&bed, "once", "replicated job 0/2 (5/5 completed)");
    let status = bed.api("manager", "GET", "/services/once", None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(status["JobStatus"]["JobIteration"]["Index"], 1, "{status}");
    assert_eq!(m("service ps -q once").ok().lines().count(), 10);

    // A task that fails is tried again as often as its policy says, and no more.
    let _ =
        m("service create -d --name bad --mode replicated-job --restart-max-attempts 2 --restart-delay 100ms busybox false")
            .ok();
    wait("three attempts", LONG, || {
        let ps = m("service ps --format {{.CurrentState}} bad").ok();
        that(ps.lines().filter(|l| l.starts_with("Failed")).count() == 3, ps)
    });
    await_replicas(&bed, "bad", "replicated job 0/1 (0/1 completed)");

    let everywhere = m("service create --name each --mode global-job busybox true");
    assert_eq!(everywhere.code, 0, "{}{}", everywhere.out, everywhere.err);
    await_replicas(&bed, "each", "global job 0/0 (2/2 completed)");
    m("service create -d --mode replicated-job --update-delay 1s busybox true")
        .fails("update and rollback configuration is not supported for jobs");
    let spec = serde_json::json!({
        "Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}, "Mode": {"GlobalJob": {}},
        "UpdateConfig": {"Parallelism": 1},
    });
    let refused = bed.api("manager", "POST", "/services/create", Some(&spec));
    assert!(refused.as_ref().is_err_and(|e| e.contains("Jobs may not have an update config")), "{refused:?}");
    let _ = m("service rm once bad each").ok();
    wait("no container left", LONG, || {
        let left: Vec<String> = ["manager", "worker1"].iter().map(|h| bed.docker(h, &["ps", "-aq"]).ok()).collect();
        that(left.iter().all(String::is_empty), format!("{left:?}"))
    });
}
