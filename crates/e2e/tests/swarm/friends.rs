//! Software of others, unmodified, beside a swarm: HAProxy in front of the mesh (J3's last row), Prometheus that finds what runs.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{that, wait, web};
use skep_testkit::program;

use crate::needs;

/// A program of the test's own; it ends with its value.
struct Running(Child);

impl Running {
    fn start(log: &Path, command: &mut Command) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        Self(command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that is gone already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];

#[test]
fn haproxy_in_front_of_the_mesh() {
    needs!();
    let Some(haproxy) = program("haproxy") else { return skep_testkit::skip("needs haproxy") };
    let bed = Bed::swarm(48, 3, 1);
    bed.load_demo("web:1", "1.0");
    let (dir, machine) = (bed.playground.place.data.clone(), bed.playground.place.machine().to_string());
    let servers: String =
        HOSTS.iter().map(|h| format!("    server {h} {}:8080 check inter 200ms rise 1 fall 2\n", bed.address(h))).collect();
    let config = format!(
        "defaults\n    mode http\n    timeout connect 2s\n    timeout client 10s\n    timeout server 10s\n    timeout check 1s\n    option \
         redispatch\n    retries 3\nfrontend in\n    bind {machine}:8081\n    default_backend nodes\nbackend nodes\n    balance \
         roundrobin\n    option httpchk GET /\n{servers}frontend stats\n    bind {machine}:8082\n    stats enable\n    stats uri /\n"
    );
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, config).expect("written");
    let _haproxy = Running::start(&dir.join("haproxy.log"), Command::new(haproxy).arg("-db").arg("-f").arg(&file));
    // Lines of the backend's servers: name and state.
    let states = || -> Result<Vec<(String, String)>, String> {
        let csv = web::exchange(&machine, 8082, b"GET /;csv HTTP/1.0\r\n\r\n", |_| false)?;
        let rows = csv.lines().filter(|l| l.starts_with("nodes,") && !l.starts_with("nodes,BACKEND"));
        Ok(rows.map(|l| l.split(',').collect::<Vec<_>>()).map(|c| (c[1].to_owned(), c[17].to_owned())).collect())
    };
    let up = |n: usize| {
        wait(&format!("{n} servers to be up"), LONG, || {
            let all = states()?;
            that(all.iter().filter(|(_, s)| s.starts_with("UP")).count() == n, format!("{all:?}"))
        });
    };
    // The same service by one client, and after it by the other.
    for client in Client::BOTH {
        let _ = client.line(&bed, "manager", "service rm web");
        up(0);
        let made = client.line(&bed, "manager", "service create --name web --replicas 3 -p 8080:8000 web:1").ok();
        assert!(made.contains("overall progress: 3 out of 3 tasks"), "{made}");
        up(3);
        let mut tasks = BTreeSet::new();
        for _ in 0..30 {
            let page = web::get(&machine, 8081).expect("a page");
            tasks.insert(web::field(&page, "Hostname"));
        }
        assert_eq!(tasks.len(), 3, "{tasks:?}");
    }
    // A host without power costs nothing once its check has failed.
    bed.power_off("worker2");
    up(2);
    bed.await_running("manager", "web", 3, LONG);
    for _ in 0..60 {
        let page = web::get(&machine, 8081).expect("a page, with one host down");
        assert!(page.contains("1.0"), "{page}");
    }
}

#[test]
fn prometheus_finds_nodes_services_and_tasks() {
    needs!();
    let Some(prometheus) = program("prometheus") else { return skep_testkit::skip("needs prometheus") };
    let bed = Bed::swarm(49, 3, 1);
    bed.load_demo("web:1", "1.0");
    let _ = bed.d("manager", "network create -d overlay back").ok();
    let _ = bed.d("manager", "service create -d --name web --replicas 4 --network back -p 8080:8000 web:1").ok();
    let _ = bed.d("manager", "service create -d --name every --mode global --network back web:1").ok();
    bed.await_running("manager", "web", 4, LONG);
    bed.await_running("manager", "every", 3, LONG);
    let dir = bed.playground.place.data.clone();
    let socket = bed.host("manager").socket(&bed.playground.place);
    let job = |role: &str| {
        let host = format!("unix://{}", socket.display());
        format!(
            "- job_name: {role}\n  dockerswarm_sd_configs:\n  - host: {host}\n    role: {role}\n    port: 9323\n    refresh_interval: 1s\n"
        )
    };
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, format!("scrape_configs:\n{}{}{}", job("nodes"), job("services"), job("tasks"))).expect("written");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let _prometheus = Running::start(
        &dir.join("prometheus.log"),
        Command::new(prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    let found = |meta: &str| -> Result<BTreeSet<String>, String> {
        let request = b"GET /api/v1/targets?state=active HTTP/1.0\r\n\r\n";
        let answer = web::exchange("127.0.0.1", port, request, |_| false)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let all: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {answer:.200}"))?;
        let targets = all["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let label = format!("__meta_dockerswarm_{meta}");
        Ok(targets.iter().filter_map(|t| t["discoveredLabels"][&label].as_str().map(str::to_owned)).collect())
    };
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    let tasks: BTreeSet<String> = ["web", "every"].iter().flat_map(|s| bed.running("manager", s)).map(|l| l.id).collect();
    for (meta, wanted) in [("node_hostname", names(&HOSTS)), ("service_name", names(&["web", "every"])), ("task_id", tasks)] {
        wait(&format!("Prometheus to find each {meta}"), LONG, || {
            let all = found(meta)?;
            that(all == wanted, format!("{all:?} instead of {wanted:?}"))
        });
    }
}
