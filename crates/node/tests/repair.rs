//! New swarms of one: from a survivor, and from a backup.
#![allow(clippy::unwrap_used)]

mod bed;

use std::time::{Duration, Instant};

use bed::*;
use skep_types::control::*;
use skep_types::object::*;
use skep_types::spec::*;

fn again(m: &Machine) -> InitRequest {
    InitRequest {
        listen_addr: m.addr.clone(),
        advertise_addr: String::new(),
        advertise_from: AdvertiseFrom::Given,
        data_path_addr: None,
        data_path_port: 0,
        availability: Availability::Active,
        spec: ClusterSpec::default(),
        address_pools: (vec![skep_types::Ipv4Net::new([10, 0, 0, 0].into(), 8)], 24),
        force_new_cluster: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_keeps_everything() {
    let mut all = three().await;
    create(&all[0], web(3)).await.unwrap();
    until!("3 replicas", spread(&all) == [1, 1, 1]);
    let before = cluster(&all[0]).await;
    let e = Machine::new("other").await;
    assert!(e.node.init(again(&e)).await.unwrap_err().message.contains("docker swarm init"));
    let id = all[0].node.info().node_id.unwrap();
    for m in &all[1..] {
        m.node.stop().await;
    }
    until!("the quorum is lost", all[0].node.call(ControlRequest::ListNodes).await.is_err());
    assert_eq!(all[0].node.init(again(&all[0])).await.unwrap(), id);
    let c = cluster(&all[0]).await;
    assert_eq!((c.id, &c.worker_token, &c.root_ca_cert), (before.id, &before.worker_token, &before.root_ca_cert));
    until!("all run on the survivor", all[0].host.running() == 3);
    let list = nodes(&all[0]).await;
    assert_eq!(list.len(), 3);
    assert!(list.iter().filter(|n| n.node.id != id).all(|n| n.node.role == Role::Worker && n.node.state == NodeState::Down));
    // After a restart too.
    all[0].node.stop().await;
    all[0].reopen().await;
    until!("it leads again", nodes(&all[0]).await.len() == 3);
    // One after the other: two of three would be a quorum of the old swarm.
    for i in [1, 2] {
        all[i].reopen().await;
        until!("a former manager is a worker", !all[i].node.info().control_available);
    }
    until!("the others are its workers", {
        let ready = nodes(&all[0]).await.iter().filter(|n| n.node.state == NodeState::Ready).count();
        ready == 3 && all[1..].iter().all(|m| !m.node.info().control_available)
    });
    until!("nothing runs twice", spread(&all).iter().sum::<usize>() == 3);
    // And one of them is promoted again.
    let other = all[1].node.info().node_id.unwrap();
    set_node(&all[0], other, |s| s.role = Role::Manager).await.unwrap();
    until!("two managers", nodes(&all[0]).await.iter().filter(|n| n.health.is_some_and(|h| h.reachable)).count() == 2);
}

fn request(m: &Machine, backup: Vec<u8>, key: &str) -> RestoreRequest {
    RestoreRequest {
        listen_addr: m.addr.clone(),
        advertise_addr: m.addr.clone(),
        advertise_from: AdvertiseFrom::Given,
        unlock_key: skep_types::Secret(key.into()),
        backup,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_the_swarm_that_it_was() {
    let mut a = Machine::new("a").await;
    a.init_with(ClusterSpec { auto_lock: true, ..ClusterSpec::default() }).await.unwrap();
    let (b, fresh) = (Machine::new("b").await, Machine::new("fresh").await);
    b.join(&a, &cluster(&a).await.manager_token).await.unwrap();
    create(&a, web(2)).await.unwrap();
    until!("2 replicas", a.host.running() + b.host.running() == 2);
    let key = unlock_key(&a).await;
    let backup = b.node.backup().await.unwrap();
    let text = String::from_utf8_lossy(&backup);
    assert!(text.starts_with("SKEP-BACKUP 1 {") && !text.contains("web:1") && !text.contains("PRIVATE KEY"));
    // Snapshots come as often as the operator asks for.
    update_swarm(&a, |s| s.snapshot_interval = 5, (false, false, false)).await.unwrap();
    until!("a snapshot on the way", {
        let status = b.node.status().await.unwrap();
        update(&a, |s| drop(s.labels.insert("n".into(), status.last_log.to_string()))).await;
        status.snapshot > 0 && status.snapshot + 20 > status.last_log
    });
    let before = cluster(&a).await;
    let backup = b.node.backup().await.unwrap();
    let status = b.node.status().await.unwrap();
    assert!(status.by_leader && status.managers.len() == 2 && status.certificates.len() == 2, "{status:?}");
    assert!(status.managers.iter().all(|m| m.matched.is_some() && m.reachable));

    let no = |r: Result<skep_types::NodeId, ControlError>| r.unwrap_err().message;
    assert!(no(b.node.restore(request(&b, backup.clone(), &key)).await).contains("already part of a swarm"));
    assert!(no(fresh.node.restore(request(&fresh, backup.clone(), "")).await).contains("is sealed"));
    let mut damaged = backup.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert!(no(fresh.node.restore(request(&fresh, damaged, &key)).await).contains("damaged: its checksum"));
    assert!(std::fs::read_dir(fresh.dir.path()).unwrap().next().is_none(), "a refused restore left something");
    a.node.stop().await;
    b.node.stop().await;
    let mut fresh = fresh;
    let id = fresh.node.restore(request(&fresh, backup, &key)).await.unwrap();
    let c = cluster(&fresh).await;
    assert_eq!((c.id, &c.worker_token, &c.spec), (before.id, &before.worker_token, &before.spec));
    assert_eq!(unlock_key(&fresh).await, key);
    let list = nodes(&fresh).await;
    assert_eq!(list.iter().filter(|n| n.node.state == NodeState::Down).count(), 2, "{list:?}");
    until!("its service runs here", fresh.host.running() == 2);
    fresh.node.stop().await;
    fresh.reopen().await;
    assert_eq!(fresh.node.info().state, LocalState::Locked);
    fresh.node.unlock(&key).await.unwrap();
    until!("it is back", nodes(&fresh).await.iter().any(|n| n.node.id == id && n.node.state == NodeState::Ready));
    let late = Machine::new("late").await;
    late.join(&fresh, &before.manager_token).await.unwrap();
    until!("a manager joined", nodes(&late).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 2);
    // A manager of before, which nobody counts on any more, is locked as it was and harms nobody.
    a.reopen().await;
    assert_eq!(a.node.info().state, LocalState::Locked);
}

/// Gives a stopped host another address, as if its interface had got one.
fn move_to_another_port(m: &mut Machine) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = m.dir.path().join("state.json");
    let new = format!("127.0.0.1:{port}");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&m.addr, &new)).unwrap();
    m.addr = new;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_comes_back_with_another_address() {
    let mut all = three().await;
    let shown = |list: &[NodeView], id, addr: &str| {
        list.iter().any(|n| {
            n.node.id == id
                && n.health.is_some_and(|h| h.reachable)
                && n.node.manager.as_ref().is_some_and(|m| m.addr == addr)
                && n.node.state == NodeState::Ready
        })
    };
    // One after the other all of them, the leader too.
    for i in 0..3 {
        let id = all[i].node.info().node_id.unwrap();
        all[i].node.stop().await;
        move_to_another_port(&mut all[i]);
        all[i].reopen().await;
        let (other, addr) = ((i + 1) % 3, all[i].addr.clone());
        until!("it is reached at its new address", shown(&nodes(&all[other]).await, id, &addr));
    }
    until!("writes go on", create(&all[2], web(3)).await.is_ok());
    until!("on all of them", spread(&all) == [1, 1, 1]);

    // Of two, each needed by the other: the one that moved can reach the other and leads until it is known.
    let last = all.pop().unwrap();
    let id = last.node.info().node_id.unwrap();
    set_node(&all[0], id, |s| s.role = Role::Worker).await.unwrap();
    until!("a worker", !last.node.info().control_available);
    until!("two members", all[0].node.status().await.is_ok_and(|s| s.by_leader && s.managers.len() == 2));
    let id = all[1].node.info().node_id.unwrap();
    all[1].node.stop().await;
    move_to_another_port(&mut all[1]);
    all[1].reopen().await;
    let addr = all[1].addr.clone();
    until!("one of two is reached at its new address", shown(&nodes(&all[0]).await, id, &addr));
}
