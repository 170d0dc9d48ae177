//! What operators see when too few managers are left, when a request is too large, and when a manager is demoted and promoted in
//! one breath.
#![allow(clippy::unwrap_used)]

mod bed;

use std::time::{Duration, Instant};

use bed::*;
use skep_types::control::*;
use skep_types::object::*;
use skep_types::spec::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_every_call_says_so_and_all_is_well_when_it_returns() {
    let mut all = three().await;
    create(&all[0], web(3)).await.unwrap();
    until!("3 replicas", spread(&all) == [1, 1, 1]);
    let (b, c) = (all.remove(1), all.remove(1));
    b.node.stop().await;
    c.node.stop().await;
    let a = &all[0];
    until!(
        "the last manager says how many there are",
        a.node.call(ControlRequest::ListNodes).await.is_err_and(|e| e.message.contains("(1 of 3 managers reachable)"))
    );
    let e = create(a, ServiceSpec { name: "other".into(), endpoint: EndpointSpec::default(), ..web(1) }).await.unwrap_err();
    assert!(e.message.starts_with("rpc error: code = Unknown desc = The swarm does not have a leader."), "{e}");
    assert_eq!(a.host.running(), 1, "a container was stopped for want of a quorum");

    // One is enough for a quorum, whichever it is.
    let mut c = c;
    c.reopen().await;
    until!("the quorum is back", a.node.call(ControlRequest::ListNodes).await.is_ok());
    let mut b = b;
    b.reopen().await;
    until!("all are ready", nodes(a).await.iter().filter(|n| n.node.state == NodeState::Ready).count() == 3);
    until!("3 replicas again", a.host.running() + b.host.running() + c.host.running() == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_is_too_large_is_refused_and_changes_nothing() {
    let a = Machine::new("a").await;
    a.init().await;
    let labels = [("large".to_owned(), "x".repeat(1_600_000))].into();
    let e = create(&a, ServiceSpec { labels, ..web(1) }).await.unwrap_err();
    assert_eq!(e.code, Code::InvalidArgument, "{e}");
    assert!(e.message.contains("make the spec smaller"), "{}", &e.message[..e.message.len().min(300)]);
    create(&a, web(1)).await.unwrap();
    until!("the name was not taken", a.host.running() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_demoted_and_promoted_in_one_breath_is_one_again() {
    let all = three().await;
    let (a, b) = (&all[0], &all[1]);
    let id = b.node.info().node_id.unwrap();
    let member = |list: Vec<NodeView>| list.into_iter().find(|n| n.node.id == id).unwrap();
    let before = member(nodes(a).await).node.manager.clone().unwrap().raft_id;
    set_node(a, id, |s| s.role = Role::Worker).await.unwrap();
    until!("the swarm has taken it out", member(nodes(a).await).node.role == Role::Worker);
    set_node(a, id, |s| s.role = Role::Manager).await.unwrap();
    until!("it is a member again, as a new one", {
        let n = member(nodes(a).await);
        n.health.is_some_and(|h| h.reachable) && n.node.manager.as_ref().is_some_and(|m| m.raft_id != before)
    });
    until!("it answers", b.node.call(ControlRequest::ListNodes).await.is_ok());
}
