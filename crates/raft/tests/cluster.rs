//! Three members in one process over channels that can be cut.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::time::Instant;

use kit::{Net, peer, start, three, until, write};
use skep_raft::ProposeError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies_and_the_others_go_on() {
    let (net, dir) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let all = three(&net, dir.path()).await;
    write(&[&all[0].0], "before").await;
    net.cut.lock().unwrap().insert(1);
    let begin = Instant::now();
    write(&[&all[1].0, &all[2].0], "after").await;
    println!("failover to first write: {:?}", begin.elapsed());
    until("the follower applies it", || all[1].1.lines.lock().unwrap().len() == 2 && all[2].1.lines.lock().unwrap().len() == 2)
        .await;
    assert!(matches!(
        all[0].0.propose(b"minority".to_vec()).await,
        Err(ProposeError::NoQuorum | ProposeError::NotLeader { .. })
    ));
    net.cut.lock().unwrap().clear();
    until("the old leader follows", || {
        !all[0].0.leadership().borrow().is_leader && all[0].1.lines.lock().unwrap().contains(&b"after".to_vec())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_keeps_everything_acknowledged_over_snapshots() {
    let (net, dir) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let all = three(&net, dir.path()).await;
    for i in 0..130 {
        write(&[&all[0].0, &all[1].0, &all[2].0], &format!("line {i}")).await;
    }
    net.members.lock().unwrap().clear();
    for (r, _) in &all {
        r.shutdown().await;
    }
    drop(all);
    let mut again = Vec::new();
    for id in 1..=3 {
        again.push(start(&net, dir.path(), id).await);
    }
    write(&[&again[0].0, &again[1].0, &again[2].0], "after restart").await;
    until("all have all lines", || {
        again.iter().all(|(_, l)| {
            let l = l.lines.lock().unwrap();
            l.len() == 131 && l[129] == b"line 129" && l[0] == b"line 0"
        })
    })
    .await;
    let leader = again.iter().find(|(r, _)| r.leadership().borrow().is_leader).unwrap();
    leader.0.read_barrier().await.unwrap();
    assert_eq!(leader.0.metrics().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latecomer_gets_a_snapshot_and_a_removed_member_is_gone() {
    let (net, dir) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let (one, lines) = start(&net, dir.path(), 1).await;
    one.initialize(&peer(1)).await.unwrap();
    for i in 0..700 {
        write(&[&one], &format!("{i}")).await;
    }
    let (two, got) = start(&net, dir.path(), 2).await;
    one.add_learner_then_voter(&peer(2)).await.unwrap();
    until("the latecomer catches up", || *got.lines.lock().unwrap() == *lines.lines.lock().unwrap()).await;
    one.transfer_leader(2).await.unwrap();
    until("leadership moves", || two.leadership().borrow().is_leader).await;
    two.remove(1).await.unwrap();
    write(&[&two], "alone").await;
    assert_eq!(two.metrics().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_over_the_limit_is_refused() {
    let (net, dir) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let (one, _) = start(&net, dir.path(), 1).await;
    one.initialize(&peer(1)).await.unwrap();
    until("leader", || one.leadership().borrow().is_leader).await;
    one.propose(vec![0; skep_raft::MAX_PROPOSAL_BYTES]).await.unwrap();
    let e = one.propose(vec![0; skep_raft::MAX_PROPOSAL_BYTES + 1]).await;
    assert!(matches!(e, Err(ProposeError::TooLarge { .. })));
}

/// It sends entries before its own disk has them: what it forgot with its power must not be numbered again in the same term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_starts_again_does_not_lead_on() {
    let (net, dir) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let mut all = three(&net, dir.path()).await;
    write(&[&all[0].0], "before").await;
    let term = all[0].0.leadership().borrow().term;
    // Nobody else is elected meanwhile.
    net.cut.lock().unwrap().extend([2, 3]);
    net.members.lock().unwrap().remove(&1);
    let (old, _) = all.remove(0);
    old.shutdown().await;
    drop(old);
    let (again, _) = start(&net, dir.path(), 1).await;
    net.cut.lock().unwrap().clear();
    let members = [&again, &all[0].0, &all[1].0];
    write(&members, "after").await;
    let now = members.iter().map(|m| m.leadership().borrow().term).max();
    assert!(now > Some(term), "it led on in term {term}");
}
