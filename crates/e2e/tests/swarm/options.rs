//! What a service's spec says of its containers, seen from inside of them: by the stock client where it has a flag.

use base64::Engine as _;
use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};
use skep_testkit::images;

use crate::needs;

#[test]
fn a_container_is_what_its_spec_says() {
    needs!();
    let bed = Bed::swarm(51, 1, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let d = |args: &str| bed.d("manager", args);
    let _ = d("network create -d overlay back").ok();
    let options = "--group 29 --group 5000 --dns 10.9.8.7 --dns-search example.org --dns-option ndots:3 --sysctl net.core.somaxconn=77 \
                   --cap-drop ALL --cap-add NET_RAW --ulimit nofile=123:456 --oom-score-adj 321 --log-driver json-file --log-opt \
                   max-size=1k --log-opt max-file=2 --network back --stop-grace-period 0s";
    let _ = d(&format!("service create -d --name all {options} busybox:1.28 sleep 100000")).ok();
    let task = bed.await_running("manager", "all", 1, LONG).remove(0);
    let run = |script: &str| bed.docker("manager", &["exec", task.container.as_str(), "sh", "-c", script]).ok();
    let status = run("cat /proc/1/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Groups:"), "29 5000");
    assert_eq!(field("CapBnd:"), "0000000000002000");
    assert_eq!(run("cat /proc/1/oom_score_adj"), "321");
    assert_eq!(run("cat /proc/sys/net/core/somaxconn"), "77");
    for (pid, whose) in [("1", "its own"), ("self", "an exec's")] {
        let limits = run(&format!("cat /proc/{pid}/limits"));
        let open = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
        assert_eq!(open.split_whitespace().collect::<Vec<_>>()[3..5], ["123", "456"], "{whose}: {open}");
    }
    let resolv = run("cat /etc/resolv.conf");
    assert!(resolv.contains("search example.org") && resolv.contains("ndots:3"), "{resolv}");
    // What was said is shown, so that a client's next update keeps it.
    let spec = bed.api("manager", "GET", "/services/all", None).expect("there")["Spec"]["TaskTemplate"].clone();
    let c = &spec["ContainerSpec"];
    assert_eq!(c["DNSConfig"], json!({"Nameservers": ["10.9.8.7"], "Search": ["example.org"], "Options": ["ndots:3"]}));
    assert_eq!(c["Ulimits"], json!([{"Name": "nofile", "Soft": 123, "Hard": 456}]));
    assert_eq!(c["CapabilityAdd"], json!(["CAP_NET_RAW"]));
    assert_eq!(spec["LogDriver"], json!({"Name": "json-file", "Options": {"max-size": "1k", "max-file": "2"}}));
    let _ = d("service update -d --env-add A=b all").ok();
    wait("the update to keep it", LONG, || {
        let live = bed.running("manager", "all");
        that(live.len() == 1 && live[0].id != task.id, format!("{live:?}"))
    });
    let now = bed.running("manager", "all").remove(0);
    assert_eq!(bed.docker("manager", &["exec", &now.container, "cat", "/proc/sys/net/core/somaxconn"]).ok(), "77");

    // No flag of the client's, but a field of the API.
    let quiet = json!({
        "Name": "quiet", "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "busybox:1.28", "Args": ["sh", "-c", "echo said; sleep 100000"],
                "Privileges": {"NoNewPrivileges": true},
            },
            "LogDriver": {"Name": "none"},
        },
    });
    bed.api("manager", "POST", "/services/create", Some(&quiet)).expect("created");
    let task = bed.await_running("manager", "quiet", 1, LONG).remove(0);
    let no_new = bed.docker("manager", &["exec", &task.container, "grep", "NoNewPrivs", "/proc/1/status"]).ok();
    assert_eq!(no_new, "NoNewPrivs:\t1");
    d(&format!("logs {}", task.container)).fails("configured logging driver does not support reading");
    assert_eq!(d("service logs quiet").ok(), "");

    // The same of plain containers.
    let plain =
        "run --rm --group-add 29 --ulimit nofile=64:128 --security-opt no-new-privileges --log-driver none busybox:1.28";
    let plain: Vec<&str> =
        plain.split_whitespace().chain(["sh", "-c", "id -G; ulimit -n; grep NoNewPrivs /proc/1/status"]).collect();
    assert_eq!(bed.docker("manager", &plain).ok(), "0 29\n64\nNoNewPrivs:\t1");

    for (flags, text) in [
        ("--dns nonsense", "nonsense"),
        ("--ulimit sheep=1", "invalid ulimit type: sheep"),
        ("--log-driver loki --constraint node.role==manager", ""),
    ] {
        let refused = d(&format!("service create -d --name bad {flags} busybox:1.28 sleep 1"));
        match text {
            "" => {
                let _ = refused.ok();
                wait("the reason to be told", LONG, || {
                    let ps = d("service ps --no-trunc bad").out;
                    that(ps.contains("no suitable node (missing plugin on 1 node)"), ps)
                });
            }
            text => assert!(refused.code != 0 && refused.err.contains(text), "{refused:?}"),
        }
    }
}

#[test]
fn an_init_reaps_and_passes_signals_on_and_filters_are_ones_own() {
    needs!();
    let bed = Bed::swarm(87, 1, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let d = |args: &str| bed.d("manager", args);
    let sh = |flags: &str, script: &str| {
        let args: Vec<&str> = flags.split_whitespace().chain(["busybox:1.28", "sh", "-c", script]).collect();
        bed.docker("manager", &args)
    };

    // Orphans are reaped: no zombie is left, and the program is not the first process.
    let orphans = "for i in 1 2 3; do (sleep 0 &) ; done; trap 'echo told; exit 7' TERM; while true; do sleep 0.1; done";
    let _ = sh("run -d --name tidy --init", orphans).ok();
    let look = |name: &str, script: &str| bed.docker("manager", &["exec", name, "sh", "-c", script]).ok();
    assert_eq!(look("tidy", "cat /proc/1/comm"), "docker-init");
    wait("the orphans to be reaped", LONG, || {
        let zombies = look("tidy", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l");
        that(zombies == "0", zombies)
    });
    // Nobody inside may look at the host's program that the init is.
    assert_eq!(look("tidy", "readlink /proc/1/exe || echo hidden"), "hidden");
    assert_eq!(look("tidy", "cat /proc/1/environ 2>&1 | grep -c denied"), "1");
    // And it has kept nothing of the host's open.
    assert_eq!(look("tidy", "ls /proc/1/fd"), "0\n1\n2");
    // A signal reaches the program, and its exit code is the container's.
    let _ = d("stop tidy").ok();
    assert_eq!(d("inspect -f {{.State.ExitCode}} tidy").ok(), "7");
    assert_eq!(d("logs tidy").ok(), "told");
    let killed = sh("run --rm --init", "kill -9 $$");
    assert_eq!(killed.code, 137, "{killed:?}");
    assert_eq!(sh("run --rm --init -u 1000", "id -u; exit 3").code, 3);
    assert_eq!(d("run --rm --init busybox:1.28 no-such-program").code, 127);
    let terminal = sh("run --rm --init -t", "tty; exit 4");
    assert_eq!((terminal.code, terminal.out.trim_end()), (4, "/dev/pts/0"), "{terminal:?}");

    // The same of a service's tasks.
    let _ = sh("service create -d --init --name tidy", orphans).ok();
    let task = bed.await_running("manager", "tidy", 1, LONG).remove(0);
    assert_eq!(look(&task.container, "cat /proc/1/comm"), "docker-init");
    assert_eq!(d("service inspect -f {{.Spec.TaskTemplate.ContainerSpec.Init}} tidy").ok(), "true");

    // Filters: none, one's own, and one that is none.
    let file = |name: &str, profile: serde_json::Value| {
        let path = bed.scratch().join(name);
        std::fs::write(&path, profile.to_string()).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    };
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28});
    let filter = file("seccomp.json", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    let mode = "grep '^Seccomp:' /proc/1/status";
    assert_eq!(sh("run --rm", mode).ok(), "Seccomp:\t2");
    assert_eq!(sh("run --rm --security-opt seccomp=unconfined", mode).ok(), "Seccomp:\t0");
    let own = format!("--security-opt seccomp={}", filter.display());
    sh(&format!("run --rm {own}"), "mkdir /x").fails("No space left on device");
    let bad = file("bad.json", json!({"defaultAction": "SCMP_ACT_WHATEVER"}));
    let refused = sh(&format!("run --rm --security-opt seccomp={}", bad.display()), "true");
    assert!(refused.code == 125 && refused.err.contains("action SCMP_ACT_WHATEVER is not known"), "{refused:?}");
    let profile = std::fs::read(&filter).expect("written above");
    let service = |name: &str, seccomp: serde_json::Value| {
        let args = json!(["sh", "-c", "mkdir /x; grep '^Seccomp:' /proc/1/status; sleep 100000"]);
        let container = json!({"Image": "busybox:1.28", "Args": args, "Privileges": {"Seccomp": seccomp}});
        let body = json!({"Name": name, "TaskTemplate": {"ContainerSpec": container}});
        bed.api("manager", "POST", "/services/create", Some(&body))
    };
    service("open", json!({"Mode": "unconfined"})).expect("created");
    let encoded = base64::engine::general_purpose::STANDARD.encode(profile);
    service("own", json!({"Mode": "custom", "Profile": encoded})).expect("created");
    for (name, expected) in [("open", "Seccomp:\t0"), ("own", "No space left on device")] {
        let _ = bed.await_running("manager", name, 1, LONG);
        wait("its words", LONG, || {
            let said = d(&format!("service logs --raw {name}"));
            that(said.out.contains(expected) || said.err.contains(expected), format!("{said:?}"))
        });
    }
    let kept = bed.api("manager", "GET", "/services/own", None).expect("there");
    let privileges = &kept["Spec"]["TaskTemplate"]["ContainerSpec"]["Privileges"];
    assert_eq!(*privileges, json!({"Seccomp": {"Mode": "custom", "Profile": encoded}}));
    for wrong in [json!({"Mode": "sideways"}), json!({"Mode": "custom", "Profile": "!"}), json!({"Profile": encoded})] {
        assert!(service("wrong", wrong.clone()).is_err(), "{wrong}");
    }
}
