//! Settings of a swarm, its keys and its root, with the stock client.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};

use crate::needs;

#[test]
fn settings_are_shown_as_they_were_given() {
    needs!();
    let bed = Bed::bare(45, 1, &[]);
    let m = |args: &str| bed.d("manager", args);
    let own = bed.address("manager");
    m(&format!("swarm init --advertise-addr {own} --cert-expiry 30m")).fails("minimum certificate expiry time is: 1h0m0s");
    m(&format!("swarm init --advertise-addr {own} --external-ca protocol=cfssl,url=https://ca.example")).fails("--external-ca");
    m(&format!("swarm init --advertise-addr {own} --max-snapshots 256")).fails("KeepOldSnapshots must be 255 at most");
    m(&format!("swarm init --advertise-addr {own} --default-addr-pool 10.20.0.0/16 --default-addr-pool 10.20.1.0/24"))
        .fails("overlap");
    m(&format!("swarm init --advertise-addr {own} --default-addr-pool-mask-length 30"))
        .fails("cannot be cut into subnets of size 30");
    assert!(m("info").ok().contains("\n Swarm: inactive\n"), "a refused init left something");
    let init = "swarm init --cert-expiry 48h --dispatcher-heartbeat 7s --task-history-limit 3 --snapshot-interval 5000 --max-snapshots 2 \
                --availability drain --default-addr-pool 10.20.0.0/24 --default-addr-pool 172.30.0.0/16 \
                --default-addr-pool-mask-length 25 --data-path-port 4790";
    let _ = m(&format!("{init} --advertise-addr {own}")).ok();
    let shown = bed.api("manager", "GET", "/swarm", None).unwrap_or_default();
    let spec = &shown["Spec"];
    assert_eq!(spec["Orchestration"]["TaskHistoryRetentionLimit"], 3);
    assert_eq!(spec["Dispatcher"]["HeartbeatPeriod"], 7_000_000_000u64);
    assert_eq!(spec["CAConfig"]["NodeCertExpiry"], 172_800_000_000_000u64);
    assert_eq!(spec["Raft"]["SnapshotInterval"], 5000);
    assert_eq!(spec["Raft"]["KeepOldSnapshots"], 2);
    assert_eq!(spec["EncryptionConfig"]["AutoLockManagers"], false);
    assert_eq!(
        (&shown["DefaultAddrPool"], &shown["SubnetSize"], &shown["DataPathPort"]),
        (&serde_json::json!(["10.20.0.0/24", "172.30.0.0/16"]), &25.into(), &4790.into())
    );
    // The mesh has the first half of the first pool.
    for (name, subnet) in [("one", "10.20.0.128/25"), ("two", "172.30.0.0/25")] {
        let _ = m(&format!("network create -d overlay {name}")).ok();
        let network = bed.api("manager", "GET", &format!("/networks/{name}"), None).unwrap_or_default();
        assert_eq!(network["IPAM"]["Config"][0]["Subnet"], subnet, "{network}");
    }
    assert_eq!(m("swarm update --task-history-limit 9 --cert-expiry 24h").ok(), "Swarm updated.");
    let after = bed.api("manager", "GET", "/swarm", None).unwrap_or_default();
    assert_eq!(after["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"], 9);
    assert_eq!(after["Spec"]["Raft"]["SnapshotInterval"], 5000, "an update of one thing changed another");
    m("swarm update --cert-expiry 59m").fails("minimum certificate expiry time is: 1h0m0s");
    assert_eq!(m("node ls --format {{.TLSStatus}}").ok(), "Ready");
    let root = m("swarm ca").ok();
    assert!(root.starts_with("-----BEGIN CERTIFICATE-----"), "{root}");
    assert_eq!(m("info -f {{.Swarm.Cluster.TLSInfo.TrustRoot}}").ok().trim(), root.trim());
    m("swarm unlock-key").fails("no unlock key is set");
    m("swarm unlock-key --rotate").fails("cannot rotate because autolock is not turned on");
}

/// `docker swarm unlock` with a key on its standard input.
fn unlock(bed: &Bed, host: &str, key: &str) -> skep_e2e::Run {
    use std::io::Write;
    let mut c = bed.command(host, &["swarm", "unlock"]);
    let text = format!("{c:?}");
    let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    skep_e2e::Run { command: text, code: done.status.code().unwrap_or(-1), out: said(&done.stdout), err: said(&done.stderr) }
}

#[test]
fn managers_are_locked_and_unlocked() {
    needs!();
    let bed = Bed::bare(46, 2, &[]);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let init = m(&format!("swarm init --autolock --advertise-addr {}", bed.address("manager"))).ok();
    let key = init.lines().find_map(|l| l.trim().strip_prefix("SWMKEY-1-")).map(|k| format!("SWMKEY-1-{k}")).expect(&init);
    assert_eq!(m("swarm unlock-key -q").ok(), key);
    assert_eq!(m("info -f {{.Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers}}").ok(), "true");
    let token = m("swarm join-token -q worker").ok();
    let _ = bed.docker("worker1", &["swarm", "join", "--token", &token, &format!("{}:2377", bed.address("manager"))]).ok();
    let _ = m("service create -d --name ws --replicas 4 -p 80:8000 ws:1.0").ok();
    bed.await_running("manager", "ws", 4, LONG);
    let before = bed.processes("manager");
    assert!(!before.is_empty());

    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    assert!(m("info").ok().contains("\n Swarm: locked\n"));
    let text =
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it.";
    for call in ["node ls", "service ls", "swarm join-token worker", "swarm unlock-key"] {
        m(call).fails(text);
    }
    assert_eq!(bed.processes("manager"), before, "a locked manager lost its containers");
    m("swarm leave").fails("Swarm is encrypted and locked.");
    unlock(&bed, "manager", "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        .fails("swarm could not be unlocked: invalid key provided");
    unlock(&bed, "manager", "nonsense").fails("invalid key string");
    let _ = unlock(&bed, "manager", &key).ok();
    bed.await_running("manager", "ws", 4, LONG);
    assert_eq!(bed.processes("manager"), before, "unlocking touched a container");
    unlock(&bed, "manager", &key).fails("swarm is not locked");
    assert_eq!(bed.skep("manager", &["swarm", "backup", "-"]).code, 0);

    let rotated = m("swarm unlock-key --rotate -q").ok();
    assert_ne!(rotated, key);
    assert_eq!(m("swarm update --autolock=false").ok(), "Swarm updated.");
    wait("the keys to be open", LONG, || {
        let text = std::fs::read_to_string(bed.swarm_dir("manager").join("certificates/swarm-node.key")).unwrap_or_default();
        that(text.contains("\"sealed\": false"), "still sealed")
    });
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    wait("it to come back by itself", LONG, || {
        let ls = m("node ls");
        that(ls.code == 0, ls.err)
    });
    assert_eq!(bed.processes("manager"), before);
}

#[test]
fn the_root_changes_while_a_service_serves() {
    needs!();
    let bed = Bed::swarm(47, 3, 3);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name ws --replicas 6 -p 80:8000 ws:1.0").ok();
    let live = bed.await_running("manager", "ws", 6, LONG);
    let (old, token) = (m("swarm ca").ok(), m("swarm join-token -q worker").ok());
    m("swarm ca --cert-expiry 24h").fails("`--cert-expiry` flag requires the `--rotate` flag to update the CA");
    let mut rotating = bed.start_docker("manager", "swarm ca --rotate");
    let mut asked = 0;
    let status = wait("the change of root to end", LONG, || {
        for host in ["manager", "worker1", "worker2"] {
            skep_e2e::web::get(&bed.address(host), 80).map_err(|e| format!("a page failed: {e}")).unwrap();
            let ls = bed.d(host, "node ls --format {{.Status}}");
            assert!(ls.code == 0 && !ls.out.contains("Down"), "{}{}", ls.out, ls.err);
            asked += 1;
        }
        rotating.try_wait().unwrap_or_else(|e| panic!("wait for docker: {e}")).ok_or_else(|| "still under way".to_owned())
    });
    println!("{asked} pages and calls while the root changed");
    assert!(status.success());
    assert_ne!(m("swarm ca").ok(), old);
    assert_ne!(m("swarm join-token -q worker").ok(), token);
    assert_eq!(m("node ls --format {{.TLSStatus}}").ok(), "Ready\nReady\nReady");
    assert_eq!(bed.running("manager", "ws"), live, "a task was replaced");
}
