//! Ports of SCTP: taken, shown, kept apart from those of the same number and put into the tables, whether or not the kernel has
//! sockets for it. That its packets find their tasks is tested in `crates/linux/tests/net/sctp.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::client::Client;
use skep_e2e::{tables, that, wait};

use crate::needs;

const SOON: Duration = Duration::from_secs(30);
const HOSTS: [&str; 2] = ["manager", "worker1"];

const STACK: &str = r#"
version: "3.8"
services:
  gate:
    image: ws:1.0
    ports:
      - "9995:9999/sctp"
      - {target: 7, published: 9994, protocol: sctp, mode: host}
"#;

/// The keys of a map of the host's tables.
fn keys(bed: &Bed, host: &str, set: &str) -> Result<Vec<String>, String> {
    let dump = tables::dump(bed, host)?;
    let space = dump["Spaces"].as_array().into_iter().flatten().find(|s| s["Name"] == "host").cloned().unwrap_or_default();
    Ok(space["Sets"][set].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect())
}

#[test]
fn ports_of_sctp_are_published() {
    needs!();
    let bed = Bed::swarm(161, 2, 1);
    bed.load_demo("ws:1.0", "1.0");
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let ports = |format: &str| client.run(&bed, "manager", &["service", "inspect", "--format", format, "gate"]).ok();
        let sctp = |published: u16| format!("-p published={published},target=9999,protocol=sctp");
        let _ = m(&format!("service create -d --name gate --replicas 2 {} -p 9999:9999/udp ws:1.0", sctp(9999))).ok();
        let read: Value = serde_json::from_str(&ports("{{json .Endpoint.Ports}}")).unwrap_or_default();
        let port =
            |protocol| json!({"Protocol": protocol, "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"});
        assert_eq!(read, json!([port("sctp"), port("udp")]), "{}", client.name());
        let shown = m("service ls --format {{.Ports}}").ok();
        assert!(shown.contains("*:9999->9999/sctp") && shown.contains("*:9999->9999/udp"), "{shown}");
        let pretty = m("service inspect --pretty gate").ok();
        assert!(pretty.lines().any(|l| l.trim() == "Protocol = sctp"), "{pretty}");

        // The number is taken by each protocol for itself.
        m(&format!("service create -d --name twin {} ws:1.0", sctp(9999)))
            .fails("port '9999' is already in use by service 'gate'");
        let _ = m("service create -d --name twin -p 9999:8000 ws:1.0").ok();
        bed.await_running("manager", "gate", 2, LONG);
        bed.await_running("manager", "twin", 1, LONG);
        tables::await_equal(&bed, &HOSTS, "manager", LONG);
        for host in HOSTS {
            let published = keys(&bed, host, "ip skep pub").unwrap_or_else(|e| panic!("{e}"));
            for key in ["tcp . 9999", "udp . 9999", "sctp . 9999"] {
                assert!(published.iter().any(|k| k == key), "{host}: {published:?}");
            }
            let local = keys(&bed, host, "ip skep local").unwrap_or_else(|e| panic!("{e}"));
            assert!(local.iter().any(|k| k.ends_with(" . sctp . 9999")), "{host}: {local:?}");
        }
        let _ = m("service rm twin").ok();

        // Added, chosen by the swarm, taken away again, at the nodes of the tasks alone.
        let _ = m(&format!("service update -d --publish-rm 9999/sctp --publish-add {} gate", &sctp(9998)[3..])).ok();
        wait("the other port", SOON, || {
            let published = keys(&bed, "worker1", "ip skep pub")?;
            let there = |key: &str| published.iter().any(|k| k == key);
            that(there("sctp . 9998") && !there("sctp . 9999") && there("udp . 9999"), format!("{published:?}"))
        });
        let _ = m("service create -d --name any -p target=9999,protocol=sctp ws:1.0").ok();
        let any = m("service ls --format {{.Ports}} --filter name=any").ok();
        assert_eq!(any, "*:30000->9999/sctp");
        let _ = m("service create -d --name own --mode global -p mode=host,target=7,published=9997,protocol=sctp ws:1.0").ok();
        bed.await_running("manager", "own", 2, LONG);
        for host in HOSTS {
            wait("the port of its host alone", SOON, || {
                let own = keys(&bed, host, "ip skep hostany")?;
                that(own.iter().any(|k| k == "sctp . 9997"), format!("{own:?}"))
            });
            let ps = client.line(&bed, host, "ps --format {{.Ports}} --filter name=own").ok();
            assert!(ps.contains("0.0.0.0:9997->7/sctp"), "{ps}");
        }
        let ps = m("service ps own --format {{.Ports}}").ok();
        assert_eq!(ps.lines().collect::<Vec<_>>(), ["*:9997->7/sctp", "*:9997->7/sctp"]);
        let _ = m("service rm gate any own").ok();

        // A stack's file has them, too.
        let file = bed.scratch().join("sctp.yml");
        std::fs::write(&file, STACK).unwrap_or_else(|e| panic!("{e}"));
        let _ = m(&format!("stack deploy --detach --resolve-image never -c {} st", file.display())).ok();
        let format = "{{range .Endpoint.Ports}}{{.Protocol}} {{.PublishedPort}} {{.PublishMode}},{{end}}";
        let deployed = client.run(&bed, "manager", &["service", "inspect", "--format", format, "st_gate"]).ok();
        let mut deployed: Vec<&str> = deployed.split_terminator(',').collect();
        deployed.sort_unstable();
        assert_eq!(deployed, ["sctp 9994 host", "sctp 9995 ingress"]);
        let _ = m("stack rm st").ok();
        wait("nothing of them left in the tables", LONG, || {
            let left = [keys(&bed, "worker1", "ip skep pub")?, keys(&bed, "worker1", "ip skep hostany")?].concat();
            that(left.is_empty(), format!("{left:?}"))
        });
    }
}

#[test]
fn plain_containers_publish_sctp() {
    needs!();
    let bed = Bed::bare(162, 1, &[]);
    bed.load_demo("ws:1.0", "1.0");
    for client in Client::BOTH {
        let m = |args: &str| client.line(&bed, "manager", args);
        let _ = m("run -d --name one -p 9990:9990/sctp -p 9990:9990 -p 9989:9999/udp ws:1.0").ok();
        let port = m("port one 9990/sctp").ok();
        assert!(port.lines().any(|l| l == "0.0.0.0:9990"), "{port}");
        let ps = m("ps --format {{.Ports}}").ok();
        assert!(ps.contains("0.0.0.0:9990->9990/sctp") && ps.contains("0.0.0.0:9990->9990/tcp"), "{ps}");
        let own = keys(&bed, "manager", "ip skep hostany").unwrap_or_else(|e| panic!("{e}"));
        assert!(["sctp . 9990", "tcp . 9990", "udp . 9989"].iter().all(|key| own.iter().any(|k| k == key)), "{own:?}");
        let taken = m("run -d --name two -p 9990:1/sctp ws:1.0");
        assert!(taken.code == 125 && taken.err.contains("port is already allocated"), "{taken:?}");

        // What an image or a user exposes is shown, and with -P published.
        let commit = ["commit", "--change", "EXPOSE 9999/sctp", "one", "exposes:1"];
        let _ = client.run(&bed, "manager", &commit).ok();
        let _ = m("run -d --name all -P --expose 7/sctp exposes:1").ok();
        let read = client.run(&bed, "manager", &["inspect", "--format", "{{json .NetworkSettings.Ports}}", "all"]);
        let ports: Value = serde_json::from_str(&read.ok()).unwrap_or_default();
        for key in ["9999/sctp", "7/sctp", "8000/tcp"] {
            let chosen = ports[key][0]["HostPort"].as_str().and_then(|p| p.parse::<u16>().ok()).unwrap_or_default();
            assert!(chosen >= 32_768, "{key}: {ports}");
        }
        let _ = m("rm -f one two all").ok();
        let _ = m("rmi exposes:1").ok();
    }
    // A kernel without it is no reason to refuse, but the doctor and `info` say so.
    let features = tables::dump(&bed, "manager").unwrap_or_else(|e| panic!("{e}"))["Features"].clone();
    let info = bed.skep("manager", &["info"]).ok();
    let line = info.lines().find(|l| l.contains("Network features of the kernel")).unwrap_or_default().to_owned();
    assert!(line.contains("SCTP"), "{info}");
    let said = bed.skep("manager", &["network", "doctor"]).out;
    assert_eq!(Some(said.contains("the kernel lacks SCTP")), features["SCTP"].as_bool().map(|there| !there), "{said}");
}
