//! Keys at rest, locked managers, changes of the root, certificates that are renewed or have expired.
#![allow(clippy::unwrap_used)]

mod bed;

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bed::*;
use skep_types::Secret;
use skep_types::control::*;
use skep_types::object::*;
use skep_types::spec::*;

const LOCKED: &str =
    "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it.";

/// All files below a directory.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for e in std::fs::read_dir(dir).unwrap().flatten() {
        match e.file_type().unwrap().is_dir() {
            true => out.extend(files(&e.path())),
            false => out.push((e.path(), std::fs::read(e.path()).unwrap_or_default())),
        }
    }
    out
}

/// Where a key (PEM) can be read on a disk: as text, as its bytes, in base64 of either.
fn found(dir: &Path, pem: &str) -> Vec<String> {
    let body: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
    let again = base64::engine::general_purpose::STANDARD.encode(pem);
    let forms = [body.as_bytes()[..60].to_vec(), bytes, again.as_bytes()[..60].to_vec()];
    let has = |content: &[u8], form: &[u8]| content.windows(form.len()).any(|w| w == form);
    let all = files(dir);
    all.iter().filter(|(_, c)| forms.iter().any(|f| has(c, f))).map(|(p, _)| p.display().to_string()).collect()
}

fn key_file(m: &Machine) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(m.dir.path().join("certificates/swarm-node.key")).unwrap()).unwrap()
}

/// The key of the node's certificate, from a key file that is not sealed.
fn tls_key(m: &Machine) -> String {
    assert!(!is_sealed(m));
    let text = base64::engine::general_purpose::STANDARD.decode(key_file(m)["key"].as_str().unwrap()).unwrap();
    String::from_utf8(text).unwrap()
}

/// The key of the raft log in base64 and as bytes, from a key file that is not sealed.
fn data_key(m: &Machine) -> (String, Vec<u8>) {
    let text = key_file(m)["data_keys"][0].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(&text).unwrap();
    (text, bytes)
}

fn is_sealed(m: &Machine) -> bool {
    key_file(m)["sealed"] == true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_manager_waits_for_its_key() {
    let root = skep_pki::RootCa::create(std::time::SystemTime::now()).unwrap();
    let ca = CaSpec { signing_cert: root.cert_pem().into(), signing_key: Secret(root.key_pem().into()), force_rotate: 0 };
    let mut all = three_with(ClusterSpec { ca, ..ClusterSpec::default() }).await;
    create(&all[0], web(3)).await.unwrap();
    until!("3 replicas", spread(&all) == [1, 1, 1]);
    let data = all.iter().map(data_key).collect::<Vec<_>>();
    assert_eq!(unlock_key(&all[0]).await, "");
    let plain = all.iter().map(tls_key).collect::<Vec<_>>();
    assert!(all.iter().zip(&plain).all(|(m, k)| !found(m.dir.path(), k).is_empty()));
    let e = all[0].node.unlock("SWMKEY-1-x").await.unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::Conflict, "swarm is not locked"));

    update_swarm(&all[1], |s| s.auto_lock = true, (false, false, false)).await.unwrap();
    let key = unlock_key(&all[2]).await;
    assert!(key.starts_with("SWMKEY-1-"), "{key}");
    until!("every manager has sealed its keys", all.iter().all(is_sealed));
    for (m, k) in all.iter().zip(&plain) {
        assert_eq!(found(m.dir.path(), k), Vec::<String>::new(), "the plain key is still on the disk");
        assert_eq!(found(m.dir.path(), root.key_pem()), Vec::<String>::new(), "the key of the root can be read on the disk");
        let all = files(m.dir.path());
        assert_eq!(all.iter().filter(|(_, c)| String::from_utf8_lossy(c).contains(&key)).count(), 0);
    }
    // The key of the raft log that lay open before is of no use any more.
    for (m, (text, bytes)) in all.iter().zip(&data) {
        until!("the raft log has one key again", key_file(m)["data_keys"].as_array().unwrap().len() == 1);
        let has = |c: &[u8]| String::from_utf8_lossy(c).contains(text) || c.windows(32).any(|w| w == bytes);
        assert_eq!(files(m.dir.path()).iter().filter(|(_, c)| has(c)).count(), 0);
    }

    // A restarted manager is locked; its containers go on, and nothing new is started here.
    all[2].node.stop().await;
    all[2].reopen().await;
    let info = all[2].node.info();
    assert_eq!((info.state, info.control_available, info.error.as_str()), (LocalState::Locked, false, LOCKED));
    assert!(info.node_id.is_some());
    let e = all[2].node.call(ControlRequest::ListNodes).await.unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::Unavailable, LOCKED));
    assert_eq!(all[2].host.running(), 1);
    let e = all[2].node.leave(false).await.unwrap_err();
    assert!(e.message.starts_with("Swarm is encrypted and locked. Please unlock it first or use `--force`"), "{e}");
    let e = all[2].node.unlock("nonsense").await.unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::InvalidArgument, "invalid key string"));
    let wrong = format!("{}A{}", &key[..12], &key[13..]);
    let wrong = if wrong == key { format!("{}B{}", &key[..12], &key[13..]) } else { wrong };
    let e = all[2].node.unlock(&wrong).await.unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::Unauthenticated, "swarm could not be unlocked: invalid key provided"));
    assert_eq!(all[2].node.info().state, LocalState::Locked);

    // A new key while it is away: it still opens with the one it was sealed with, and then takes the new one.
    update_swarm(&all[0], |_| {}, (false, false, true)).await.unwrap();
    let second = unlock_key(&all[0]).await;
    assert_ne!(second, key);
    let version = key_file(&all[2])["seal_version"].clone();
    all[2].node.unlock(&key).await.unwrap();
    until!("it is back", nodes(&all[2]).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 3);
    until!("its tasks are as before", all[2].host.running() == 1);
    until!("it has taken the new key", key_file(&all[2])["seal_version"] != version);
    all[2].node.stop().await;
    all[2].reopen().await;
    assert_eq!(all[2].node.unlock(&key).await.unwrap_err().code, Code::Unauthenticated);
    all[2].node.unlock(&second).await.unwrap();

    // Another manager joins: sealed from the first write. A worker is not.
    let c = cluster(&all[0]).await;
    let (late, worker) = (Machine::new("late").await, Machine::new("worker").await);
    late.join(&all[0], &c.manager_token).await.unwrap();
    assert!(is_sealed(&late));
    let worker_id = worker.join(&all[0], &c.worker_token).await.unwrap();
    assert!(!is_sealed(&worker));
    set_node(&all[0], worker_id, |s| s.role = Role::Manager).await.unwrap();
    until!("a promoted worker seals its keys", is_sealed(&worker) && worker.node.info().control_available);
    until!("it is a member", nodes(&all[0]).await.iter().any(|n| n.node.id == worker_id && n.health.is_some()));
    set_node(&all[0], worker_id, |s| s.role = Role::Worker).await.unwrap();
    until!("a demoted manager opens them", !is_sealed(&worker) && !worker.node.info().control_available);

    // Leaving works while locked.
    late.node.stop().await;
    let mut late = late;
    late.reopen().await;
    assert_eq!(late.node.info().state, LocalState::Locked);
    late.node.leave(true).await.unwrap();
    assert!(std::fs::read_dir(late.dir.path()).unwrap().next().is_none());

    update_swarm(&all[1], |s| s.auto_lock = false, (false, false, false)).await.unwrap();
    until!("keys are open again", all.iter().all(|m| !is_sealed(m)));
    assert_eq!(unlock_key(&all[0]).await, "");
    assert!(all.iter().zip(&data).all(|(m, old)| data_key(m) != *old), "the key that once lay open is used again");
    all[0].node.stop().await;
    all[0].reopen().await;
    until!("no key is needed", all[0].node.info().control_available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_founded_locked_never_has_a_plain_key_on_its_disk() {
    let mut a = Machine::new("a").await;
    a.init_with(ClusterSpec { auto_lock: true, ..ClusterSpec::default() }).await.unwrap();
    assert!(is_sealed(&a));
    let key = unlock_key(&a).await;
    a.node.stop().await;
    a.reopen().await;
    assert_eq!(a.node.info().state, LocalState::Locked);
    a.node.unlock(&key).await.unwrap();
    until!("it answers", nodes(&a).await.len() == 1);
    // The root's key is in the agreed tables only.
    assert!(cluster(&a).await.root_ca_key.is_empty(), "the key of the root is shown");
}

async fn rotate(m: &Machine) {
    update_swarm(m, |s| s.ca.force_rotate += 1, (false, false, false)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_changes_under_load_without_a_lost_session() {
    let mut all = three().await;
    let worker = Machine::new("worker").await;
    worker.join(&all[0], &cluster(&all[0]).await.worker_token).await.unwrap();
    create(&all[1], web(8)).await.unwrap();
    all.push(worker);
    until!("8 replicas", spread(&all) == [2, 2, 2, 2]);
    let before = cluster(&all[0]).await;
    until!("all tell their issuer", nodes(&all[0]).await.iter().all(|n| n.node.description.tls.as_ref() == Some(&before.tls)));
    let starts = |all: &[Machine]| all.iter().map(|m| m.host.starts.lock().unwrap().len()).collect::<Vec<_>>();
    let started = starts(&all);

    rotate(&all[2]).await;
    let during = cluster(&all[0]).await;
    assert_eq!(during.tls.trust_root, before.root_ca_cert);
    // Load: writes through every manager, none of which may fail, and a joiner with the old token.
    let mut down = 0;
    let mut writes = 0;
    until!("the new root is trusted", {
        for m in &all[..3] {
            update(m, |s| drop(s.labels.insert("n".into(), writes.to_string()))).await;
            writes += 1;
        }
        down += nodes(&all[0]).await.iter().filter(|n| n.node.state != NodeState::Ready).count();
        cluster(&all[0]).await.root_ca_cert != before.root_ca_cert
    });
    println!("{writes} writes while the root changed");
    assert_eq!(down, 0, "a node was taken for dead while the root changed");
    let after = cluster(&all[0]).await;
    assert!(after.root_rotation.is_none());
    assert_ne!((&after.worker_token, &after.manager_token), (&before.worker_token, &before.manager_token));
    until!("all trust it", nodes(&all[0]).await.iter().all(|n| n.node.description.tls.as_ref() == Some(&after.tls)));
    assert_eq!(starts(&all), started, "a task was started anew");

    // The old token is of no use, the new one is.
    let joiner = Machine::new("joiner").await;
    let e = joiner.join(&all[0], &before.worker_token).await.unwrap_err();
    assert!(e.message.starts_with("remote CA does not match fingerprint"), "{e}");
    joiner.join(&all[0], &after.worker_token).await.unwrap();

    // Everything comes back after a restart with the new certificates.
    for m in &all {
        m.node.stop().await;
    }
    for m in &mut all {
        m.reopen().await;
    }
    until!("all are back", nodes(&all[0]).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 5);
    assert_eq!(starts(&all), started, "a task was started anew by the restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_finishes_the_change_of_root() {
    let (a, mut b) = (Machine::new("a").await, Machine::new("b").await);
    a.init().await;
    let before = cluster(&a).await;
    b.join(&a, &before.worker_token).await.unwrap();
    until!("both tell their issuer", nodes(&a).await.iter().all(|n| n.node.description.tls.is_some()));
    b.node.stop().await;
    until!("it is down", nodes(&a).await.iter().any(|n| n.node.state == NodeState::Down));
    // A manager of the operator's own choice of root, while a node is away.
    let root = skep_pki::RootCa::create(std::time::SystemTime::now()).unwrap();
    let own = |s: &mut ClusterSpec| {
        s.ca.signing_cert = root.cert_pem().into();
        s.ca.signing_key = Secret(root.key_pem().into());
    };
    update_swarm(&a, own, (false, false, false)).await.unwrap();
    until!("the manager has a new certificate", {
        let c = cluster(&a).await;
        let desired = (&c.tls.issuer_public_key, &c.tls.issuer_subject);
        nodes(&a)
            .await
            .iter()
            .any(|n| n.node.description.tls.as_ref().is_some_and(|t| (&t.issuer_public_key, &t.issuer_subject) == desired))
    });
    let c = cluster(&a).await;
    assert!(c.root_rotation.is_some(), "a node that is down holds up the end");
    assert!(c.spec.ca.signing_cert.is_empty() && c.root_rotation.as_ref().unwrap().key.is_empty());
    b.reopen().await;
    until!("the change ends when it is back", cluster(&a).await.root_ca_cert == root.cert_pem());
    until!("both trust the new root", {
        let tls = cluster(&a).await.tls.clone();
        nodes(&a).await.iter().all(|n| n.node.description.tls.as_ref() == Some(&tls))
    });
    let e = update_swarm(&a, own, (false, false, false)).await;
    assert!(e.is_ok(), "the root of now is no change");
    let expired = |s: &mut ClusterSpec| {
        s.ca.signing_cert = root.cert_pem().into();
        s.ca.signing_key = Secret("nonsense".into());
    };
    let e = update_swarm(&a, expired, (false, false, false)).await.unwrap_err();
    assert_eq!(e.code, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_in_time() {
    let (a, b) = (Machine::new("a").await, Machine::new("b").await);
    // As an operator cannot ask for: an hour is the least.
    a.init_with(ClusterSpec { node_cert_expiry: Duration::from_secs(6), ..ClusterSpec::default() }).await.unwrap();
    let id = b.join(&a, &cluster(&a).await.worker_token).await.unwrap();
    let chain = |m: &Machine| std::fs::read_to_string(m.dir.path().join("certificates/swarm-node.crt")).unwrap();
    let first = [chain(&a), chain(&b)];
    let begin = Instant::now();
    until!("both renewed twice their life long", {
        assert!(nodes(&a).await.iter().all(|n| n.node.state == NodeState::Ready || n.node.state == NodeState::Unknown));
        begin.elapsed() > Duration::from_secs(12)
    });
    assert_ne!([chain(&a), chain(&b)], first);
    assert!(a.node.info().error.is_empty() && b.node.info().error.is_empty());

    // A node that was away for longer than its certificate lives, and comes back with the join token of its role.
    b.node.stop().await;
    let c = cluster(&a).await;
    until!("its certificate expires", {
        let leaf = skep_pki::certificates(&chain(&b)).unwrap().remove(0);
        skep_pki::validity(&leaf).unwrap().1 < std::time::SystemTime::now()
    });
    let mut b = b;
    b.reopen().await;
    let info = b.node.info();
    assert_eq!(info.state, LocalState::Error);
    assert!(info.error.starts_with("Swarm certificates have expired. To replace them, leave the swarm and join again."));
    let e = b.node.call(ControlRequest::ListNodes).await.unwrap_err();
    assert_eq!(
        (e.code, e.message.as_str()),
        (Code::Unavailable, "Swarm certificates have expired. To replace them, leave the swarm and join again.")
    );
    let mut wrong = c.worker_token.clone();
    let last = if wrong.pop() == Some('1') { '2' } else { '1' };
    wrong.push(last);
    let e = b.node.renew(&wrong, "").await.unwrap_err();
    assert!(e.message.ends_with("A valid join token is necessary to join this cluster"), "{e}");
    b.node.renew(&c.worker_token, "").await.unwrap();
    assert_eq!(b.node.info().node_id, Some(id));
    until!("it is ready again, as the node that it was", {
        let all = nodes(&a).await;
        all.len() == 2 && all.iter().any(|n| n.node.id == id && n.node.state == NodeState::Ready)
    });

    // Once removed it does not come back so.
    b.node.stop().await;
    until!("it is down", nodes(&a).await.iter().any(|n| n.node.id == id && n.node.state == NodeState::Down));
    a.node.call(ControlRequest::RemoveNode { target: id.to_string(), force: false }).await.unwrap();
    b.reopen().await;
    let e = b.node.renew(&c.worker_token, &a.addr).await.unwrap_err();
    assert!(e.message.contains(&format!("node {id} is not part of this swarm: it was removed")), "{e}");
    assert!(cluster(&a).await.blacklist.contains_key(&id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_is_founded_with_the_operators_root() {
    let (a, b) = (Machine::new("a").await, Machine::new("b").await);
    let root = skep_pki::RootCa::create(std::time::SystemTime::now()).unwrap();
    let with = |cert: &str, key: &str| ClusterSpec {
        ca: CaSpec { signing_cert: cert.into(), signing_key: Secret(key.into()), force_rotate: 0 },
        ..ClusterSpec::default()
    };
    let e = a.init_with(with(root.cert_pem(), "")).await.unwrap_err();
    assert!(e.message.contains("external CA"), "{e}");
    assert_eq!(a.node.info().state, LocalState::Inactive);
    a.init_with(with(root.cert_pem(), root.key_pem())).await.unwrap();
    let c = cluster(&a).await;
    assert_eq!(c.root_ca_cert, root.cert_pem());
    b.join(&a, &c.worker_token).await.unwrap();
    let e = Machine::new("c").await.join(&a, &c.worker_token.replace("SWMTKN-1-", "SWMTKN-2-1-")).await.unwrap_err();
    assert!(e.message.contains("FIPS"), "{e}");
}
