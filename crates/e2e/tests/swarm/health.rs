//! Health checks: of plain containers, and of tasks, which take requests only while they are healthy.

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait, web};
use skep_testkit::images;

use crate::needs;

/// Serves a page on port 8000; healthy while `/tmp/ok` is there.
const SERVER: &str = "mkdir /tmp/www; echo up > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www";
const CHECK: [&str; 4] = ["--health-cmd", "test -f /tmp/ok || { echo missing; exit 1; }", "--health-interval", "200ms"];

fn busybox() -> Vec<u8> {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    images::archive(&image, "busybox:1.28")
}

#[test]
fn a_plain_container_shows_its_health() {
    needs!();
    let bed = Bed::bare(60, 1, &[]);
    bed.load(busybox());
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image.healthcheck("test ! -f /tmp/ill", 200_000_000, 2), "checked:1.0"));
    let d = |args: &[&str]| bed.docker("manager", args);
    let run = |more: &[&str]| d(&[&["run", "-d"], more].concat()).ok();
    run(&[&["--name", "one"], &CHECK[..], &["--health-retries", "2", "busybox:1.28", "sleep", "1000"]].concat());
    run(&["--name", "image", "checked:1.0", "sleep", "1000"]);
    run(&["--name", "none", "--no-healthcheck", "checked:1.0", "sleep", "1000"]);
    run(&[
        "--name",
        "slow",
        "--health-cmd",
        "sleep 100",
        "--health-timeout",
        "300ms",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "busybox:1.28",
        "sleep",
        "1000",
    ]);
    let status = |name: &str| d(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"]).ok();
    let becomes = |name: &str, word: &str| {
        wait(&format!("{name} to be {word}"), LONG, || {
            let now = status(name);
            that(now.ends_with(&format!("({word})")), now)
        });
    };
    becomes("one", "unhealthy");
    becomes("image", "healthy");
    becomes("slow", "unhealthy");
    assert!(!status("none").contains('('), "{}", status("none"));
    let log = d(&["inspect", "--format", "{{json .State.Health}}", "slow"]).ok();
    assert!(log.contains("Health check exceeded timeout (300ms)") && log.contains("\"ExitCode\":-1"), "{log}");
    wait("as many probes as are kept", LONG, || {
        let log = d(&["inspect", "--format", "{{len .State.Health.Log}} {{(index .State.Health.Log 0).Output}}", "one"]).ok();
        that(log == "5 missing", log)
    });
    let _ = d(&["exec", "one", "touch", "/tmp/ok"]).ok();
    becomes("one", "healthy");
    assert_eq!(d(&["ps", "-q", "--filter", "health=healthy"]).ok().lines().count(), 2);
    wait("the event", LONG, || {
        let events =
            d(&["events", "--since", "10m", "--until", "0s", "--filter", "container=one", "--format", "{{.Action}}"]).ok();
        that(events.lines().any(|l| l == "health_status: healthy"), events)
    });

    // The daemon's restart forgets nothing, and probes go on.
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    assert!(status("one").ends_with("(healthy)"), "{}", status("one"));
    let _ = d(&["exec", "one", "rm", "/tmp/ok"]).ok();
    becomes("one", "unhealthy");
    let refused = d(&["run", "--health-cmd", "true", "--health-interval", "10us", "busybox:1.28", "true"]);
    assert!(refused.err.contains("Interval in Healthcheck cannot be less than 1ms"), "{}", refused.err);
}

#[test]
fn a_task_takes_requests_while_it_is_healthy() {
    needs!();
    let bed = Bed::swarm(61, 2, 1);
    bed.load(busybox());
    let m = |args: &[&str]| bed.docker("manager", args);
    let service = ["service", "create", "-d", "--name", "web", "-p", "80:8000", "--constraint", "node.role==worker"];
    let rest = [
        "--health-retries",
        "2",
        "--health-start-period",
        "1h",
        "--restart-delay",
        "100ms",
        "busybox:1.28",
        "sh",
        "-c",
        SERVER,
    ];
    let _ = m(&[&service[..], &CHECK[..], &["--health-start-interval", "100ms"], &rest[..]].concat()).ok();
    let name = wait("the task's container", LONG, || bed.containers("worker1").pop().ok_or("none".to_owned()));
    let inside = |name: &str, args: &[&str]| bed.docker("worker1", &[&["exec", name], args].concat());
    wait("the server in it to serve", LONG, || {
        let got = inside(&name, &["wget", "-q", "-O", "-", "http://127.0.0.1:8000/"]);
        that(got.out == "up\n", format!("{}{}", got.out, got.err))
    });
    // It serves, and nobody is sent there yet.
    let ps = m(&["service", "ps", "--format", "{{.CurrentState}}", "web"]).ok();
    assert!(ps.starts_with("Starting"), "{ps}");
    let refused = web::get(&bed.address("manager"), 80).expect_err("no task is healthy");
    assert!(refused.contains("refused"), "{refused}");
    // A daemon that restarts now waits on.
    bed.kill_daemon("worker1");
    bed.start_daemon("worker1");
    wait("the node to be back", LONG, || {
        let ls = m(&["node", "ls", "--format", "{{.Status}}"]);
        that(ls.out.lines().filter(|l| *l == "Ready").count() == 2, ls.out)
    });
    assert!(bed.running("manager", "web").is_empty());
    let _ = inside(&name, &["touch", "/tmp/ok"]).ok();
    let first = bed.await_running("manager", "web", 1, LONG);
    for host in ["manager", "worker1"] {
        let page = wait("the page", LONG, || web::get(&bed.address(host), 80));
        assert_eq!(page, "up\n");
    }
    let _ = inside(&name, &["rm", "/tmp/ok"]).ok();
    wait("the task to have failed", LONG, || {
        let ps = m(&["service", "ps", "--no-trunc", "--format", "{{.ID}} {{.CurrentState}} {{.Error}}", "web"]).ok();
        let line = ps.lines().find(|l| l.starts_with(&first[0].id)).unwrap_or_default().to_owned();
        that(line.contains(" Failed ") && line.ends_with("dockerexec: unhealthy container\""), ps)
    });
    let second = wait("its replacement", LONG, || {
        let now = bed.containers("worker1");
        now.into_iter().find(|n| *n != name).ok_or("none".to_owned())
    });
    wait("the replacement's health", LONG, || {
        let touch = inside(&second, &["touch", "/tmp/ok"]);
        that(touch.code == 0, touch.err)
    });
    bed.await_running("manager", "web", 1, LONG);
    wait("the page again", LONG, || web::get(&bed.address("manager"), 80));
    let shown = m(&["service", "inspect", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Healthcheck}}", "web"]).ok();
    assert!(shown.contains("\"Interval\":200000000") && shown.contains("\"Retries\":2"), "{shown}");
}
