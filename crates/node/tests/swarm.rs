//! Swarms of three hosts in one process: real sockets, real raft logs, containers that exist in memory only.
#![allow(clippy::unwrap_used)]

mod bed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bed::*;
use skep_types::TaskId;
use skep_types::control::*;
use skep_types::object::*;
use skep_types::spec::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_of_three_lives() {
    let mut all = three().await;
    create(&all[1], web(6)).await.unwrap();
    until!("6 replicas spread", spread(&all) == [2, 2, 2]);
    until!("6 reported", tasks(&all[2]).await.iter().filter(|t| t.status.state == TaskState::Running).count() == 6);
    until!(
        "the mesh knows 6 backends",
        all.iter().all(|m| {
            let p = m.host.plane.lock().unwrap();
            p.peers.iter().count() == 2
                && p.ingress.as_ref().is_some_and(|i| i.ports.first().is_some_and(|p| p.backends.len() == 6))
        })
    );

    // Refusals.
    let e = create(&all[2], ServiceSpec { endpoint: EndpointSpec::default(), ..web(1) }).await.unwrap_err();
    assert_eq!(
        (e.code, e.message.as_str()),
        (
            Code::AlreadyExists,
            "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"
        )
    );
    let e = create(&all[2], ServiceSpec { name: "other".into(), ..web(1) }).await.unwrap_err();
    assert!(
        e.message.starts_with("rpc error: code = InvalidArgument desc = port '8080' is already in use by service 'web' ("),
        "{e}"
    );
    assert!(e.message.ends_with(") as an ingress port"), "{e}");

    // Scale up and down.
    update(&all[0], |s| s.mode = ServiceMode::Replicated { replicas: 9 }).await;
    until!("9 replicas", spread(&all) == [3, 3, 3]);
    update(&all[1], |s| s.mode = ServiceMode::Replicated { replicas: 3 }).await;
    until!("3 replicas", spread(&all) == [1, 1, 1]);

    // A container dies.
    update(&all[1], |s| s.task.restart = Some(RestartPolicy { delay: Duration::ZERO, ..Default::default() })).await;
    until!(
        "update completed",
        service(&all[0]).await.update_status.as_ref().is_some_and(|u| u.state == UpdateState::Completed)
    );
    let died = all[2].host.kill_one(3);
    until!("a dead container is replaced", spread(&all) == [1, 1, 1]);
    let t = tasks(&all[0]).await.into_iter().find(|t| t.id == died).unwrap();
    assert_eq!((t.status.state, t.status.err.as_deref()), (TaskState::Failed, Some("task: non-zero exit (3)")));

    // Everything stops and comes back with the same containers.
    update(&all[0], |s| s.mode = ServiceMode::Replicated { replicas: 6 }).await;
    until!("6 replicas again", spread(&all) == [2, 2, 2]);
    let before: Vec<_> = all.iter().map(|m| m.host.containers.borrow().clone()).collect();
    for m in &all {
        m.node.stop().await;
    }
    for m in &mut all {
        m.reopen().await;
    }
    until!(
        "the swarm is back after all restarted",
        nodes(&all[0]).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 3
    );
    update(&all[2], |s| drop(s.labels.insert("a".into(), "b".into()))).await;
    until!("6 still run", spread(&all) == [2, 2, 2]);
    for (m, b) in all.iter().zip(&before) {
        let running =
            |c: &BTreeMap<TaskId, State>| c.iter().filter(|(_, s)| **s == State::Running).map(|(t, _)| *t).collect::<Vec<_>>();
        assert_eq!(running(&m.host.containers.borrow()), running(b));
        assert!(m.host.starts.lock().unwrap().values().all(|n| *n == 1));
    }

    // A host dies, the leader's if possible.
    let id = |m: &Machine| m.node.info().node_id.unwrap();
    let list = nodes(&all[0]).await;
    let leader = list.iter().find(|n| n.health.is_some_and(|h| h.leader)).unwrap().node.id;
    let at = all.iter().position(|m| id(m) == leader).unwrap();
    let lost = all.remove(at);
    lost.node.stop().await;
    until!("tasks of the lost leader run elsewhere", spread(&all) == [3, 3]);
    until!("it is down", nodes(&all[0]).await.iter().any(|n| n.node.id == leader && n.node.state == NodeState::Down));
    let e = all[0].node.call(ControlRequest::RemoveNode { target: leader.to_string(), force: true }).await.unwrap_err();
    assert!(
        e.message
            .contains("is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"),
        "{e}"
    );

    // It comes back: its old containers go, nothing moves.
    let mut lost = lost;
    lost.reopen().await;
    until!("the old containers are stopped", lost.host.running() == 0);
    assert_eq!(spread(&all), [3, 3]);

    all[0].node.call(ControlRequest::RemoveService { target: "web".into() }).await.unwrap();
    until!("nothing is left", all.iter().chain([&lost]).all(|m| m.host.containers.borrow().is_empty()));
    assert!(tasks(&all[0]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_change_and_nodes_leave() {
    let (a, b, c) = (Machine::new("a").await, Machine::new("b").await, Machine::new("c").await);
    a.init().await;
    let e = a.node.init(InitRequest {
        listen_addr: String::new(),
        advertise_addr: "127.0.0.1".into(),
        advertise_from: AdvertiseFrom::Given,
        data_path_addr: None,
        data_path_port: 0,
        availability: Availability::Active,
        spec: ClusterSpec::default(),
        address_pools: (vec![skep_types::Ipv4Net::new([10, 0, 0, 0].into(), 8)], 24),
        force_new_cluster: false,
    });
    assert!(e.await.unwrap_err().message.starts_with("This node is already part of a swarm."));
    let worker = cluster(&a).await.worker_token.clone();
    let b_id = b.join(&a, &worker).await.unwrap();
    let c_id = c.join(&a, &worker).await.unwrap();
    let e = b.node.call(ControlRequest::ListNodes).await.unwrap_err();
    assert!(e.message.starts_with("This node is not a swarm manager. Worker nodes can't"), "{e}");
    create(&a, web(3)).await.unwrap();
    let machines = [a, b, c];
    until!("3 replicas", spread(&machines) == [1, 1, 1]);
    let [a, b, c] = machines;

    set_node(&a, b_id, |s| s.role = Role::Manager).await.unwrap();
    until!("the promoted node answers", nodes(&b).await.len() == 3);
    until!("it is a member", nodes(&a).await.iter().any(|n| n.node.id == b_id && n.health.is_some_and(|h| h.reachable)));
    let a_id = a.node.info().node_id.unwrap();
    set_node(&b, b_id, |s| s.role = Role::Worker).await.unwrap();
    until!("the demoted node is a worker", !b.node.info().control_available);
    let e = set_node(&a, a_id, |s| s.role = Role::Worker).await.unwrap_err();
    assert_eq!(e.message, "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm");

    // Drain, then leave.
    set_node(&a, b_id, |s| s.availability = Availability::Drain).await.unwrap();
    until!("drained", b.host.running() == 0 && a.host.running() + c.host.running() == 3);
    c.node.leave(false).await.unwrap();
    assert!(c.host.containers.borrow().is_empty());
    until!("all on the last one", a.host.running() == 3);
    assert!(std::fs::read_dir(c.dir.path()).unwrap().next().is_none());
    let e = a.node.call(ControlRequest::RemoveNode { target: b_id.to_string(), force: false }).await.unwrap_err();
    assert_eq!(e.message, format!("rpc error: code = FailedPrecondition desc = node {b_id} is not down and can't be removed"));
    until!("left node is down", nodes(&a).await.iter().any(|n| n.node.id == c_id && n.node.state == NodeState::Down));
    a.node.call(ControlRequest::RemoveNode { target: c_id.to_string(), force: false }).await.unwrap();
    assert_eq!(nodes(&a).await.len(), 2);
    // One that is removed by force is told, stops and cleans up.
    let c_id = c.join(&a, &worker).await.unwrap();
    set_node(&a, a_id, |s| s.availability = Availability::Drain).await.unwrap();
    until!("all on the new one", c.host.running() == 3);
    a.node.call(ControlRequest::RemoveNode { target: c_id.to_string(), force: true }).await.unwrap();
    until!("the removed node says so", c.node.info().error.contains("was removed from the swarm"));
    until!("and runs nothing", c.host.containers.borrow().is_empty());
    let e = c.join(&a, &worker).await.unwrap_err();
    assert!(e.message.starts_with("This node is already part of a swarm."), "{e}");
    c.node.leave(false).await.unwrap();
    set_node(&a, a_id, |s| s.availability = Availability::Active).await.unwrap();
    until!("all on the last one again", a.host.running() == 3);
    let e = a.node.leave(false).await.unwrap_err();
    assert!(e.message.contains("Removing the last manager erases all current state of the swarm."), "{e}");
    a.node.leave(true).await.unwrap();
    assert!(a.host.containers.borrow().is_empty());
    assert!(a.node.call(ControlRequest::ListNodes).await.unwrap_err().message.contains("docker swarm init"));
    a.init().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_joins_leave_no_trace() {
    let (a, b) = (Machine::new("a").await, Machine::new("b").await);
    a.init().await;
    let c = cluster(&a).await;
    let empty = |p: &Path| std::fs::read_dir(p).unwrap().next().is_none();
    let mut wrong = c.worker_token.clone();
    let last = if wrong.pop() == Some('1') { '2' } else { '1' };
    wrong.push(last);
    let e = b.join(&a, &wrong).await.unwrap_err();
    assert_eq!(e.message, "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster");
    assert!(empty(b.dir.path()));
    let e = b.join(&a, "SWMTKN-1-nonsense").await.unwrap_err();
    assert_eq!(e.message, "invalid join token");
    let other = Machine::new("other").await;
    other.init().await;
    let foreign = cluster(&other).await.worker_token.clone();
    let e = b.join(&a, &foreign).await.unwrap_err();
    assert!(e.message.starts_with("remote CA does not match fingerprint. Expected: "), "{e}");
    let nobody = Machine::new("nobody").await;
    let e = b.join(&nobody, &c.worker_token).await.unwrap_err();
    assert!(e.message.contains(&nobody.addr), "{e}");
    assert!(empty(b.dir.path()));
    assert_eq!(b.node.info().state, LocalState::Inactive);
    b.join(&a, &c.worker_token).await.unwrap();
}
