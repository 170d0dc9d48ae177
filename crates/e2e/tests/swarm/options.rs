//! What a service's spec says of its containers, seen from inside of them: by the stock client where it has a flag.

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
        ("--log-driver syslog --constraint node.role==manager", ""),
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
