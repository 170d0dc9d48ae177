//! Snapshots: built beside the apply path, sent in parts, bounded on disk.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kit::{Net, config, dir, peer, start, start_with, three, until, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_a_snapshot_is_written() {
    let (net, root) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let (one, lines) = start(&net, root.path(), 1).await;
    one.initialize(&peer(1)).await.unwrap();
    *lines.gate.shut.lock().unwrap() = true;
    let mut n = 0;
    while !lines.gate.waiting.load(Ordering::SeqCst) {
        write(&[&one], &format!("{n}")).await;
        n += 1;
        assert!(n < 1000, "a snapshot is begun");
    }
    // The snapshot stands still, and everything else goes on.
    for i in 0..100 {
        write(&[&one], &format!("meanwhile {i}")).await;
    }
    assert_eq!(lines.count(), n + 100);
    *lines.gate.shut.lock().unwrap() = false;
    lines.gate.opened.notify_all();
    until("the snapshot", || one.metrics().snapshot > 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_goes_on_where_it_was_cut_off() {
    let (net, root) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let (one, lines) = start(&net, root.path(), 1).await;
    one.initialize(&peer(1)).await.unwrap();
    let large = "x".repeat(1_000_000);
    for i in 0..6 {
        write(&[&one], &format!("{i} {large}")).await;
    }
    // When the next snapshot is begun depends on when the last one was finished: lines go on until it is there.
    let mut n = 0;
    while one.metrics().snapshot <= 600 {
        write(&[&one], &format!("{n}")).await;
        n += 1;
        assert!(n < 20_000, "a snapshot without a log before it");
    }
    net.lose_part.store(3, Ordering::Relaxed);
    let (two, got) = start(&net, root.path(), 2).await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while one.add_learner_then_voter(&peer(2)).await.is_err() {
        assert!(std::time::Instant::now() < end, "it is taken in");
    }
    until("the latecomer catches up", || *got.lines.lock().unwrap() == *lines.lines.lock().unwrap()).await;
    assert!(two.metrics().snapshot > 600 && two.metrics().snapshot_bytes > 6_000_000);
    // It takes more parts in a row than arrive between two losses: begun anew each time it would never have come to its end.
    assert!(net.parts.load(Ordering::Relaxed) > 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_small_while_a_member_is_away() {
    let (net, root) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let mut all = Vec::new();
    for id in 1..=3 {
        let mut c = config(id);
        c.segment_bytes = 100_000;
        c.snapshot_bytes = 200_000;
        // Only bytes call for a snapshot here.
        c.snapshot_every = 1_000_000;
        all.push(start_with(&net, dir(root.path(), id), c).await);
    }
    all[0].0.initialize(&peer(1)).await.unwrap();
    until("a first leader", || all[0].0.leadership().borrow().is_leader).await;
    for id in 2..=3 {
        all[0].0.add_learner_then_voter(&peer(id)).await.unwrap();
    }
    net.cut.lock().unwrap().insert(3);
    let line = "x".repeat(10_000);
    for i in 0..200 {
        write(&[&all[0].0, &all[1].0], &format!("{i} {line}")).await;
    }
    // Two megabytes went through.
    until("old segments are dropped", || all[..2].iter().all(|(r, _)| r.metrics().log_bytes < 700_000)).await;
    net.cut.lock().unwrap().clear();
    until("the third catches up", || all[2].1.count() == 200).await;
    until("its log is small too", || all[2].0.metrics().log_bytes < 700_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_leaves_nothing_under_the_old_while_writes_go_on() {
    let (net, root) = (Arc::new(Net::default()), tempfile::tempdir().unwrap());
    let all = three(&net, root.path()).await;
    for i in 0..120 {
        write(&[&all[0].0], &format!("{i}")).await;
    }
    let new = skep_raft::Key::new([9; 32]);
    let writes = async {
        for i in 0..100 {
            write(&[&all[0].0, &all[1].0, &all[2].0], &format!("meanwhile {i}")).await;
        }
    };
    let rotation = async {
        for (r, _) in &all {
            r.rotate_key(new.clone()).await.unwrap();
        }
    };
    tokio::join!(writes, rotation);
    until("all have all", || all.iter().all(|(_, l)| l.count() == 220)).await;
    for (r, _) in &all {
        assert_eq!(r.keys_in_use().into_iter().collect::<Vec<_>>(), [new.id()]);
        assert_eq!(r.metrics().key, Some(new.id()));
    }
}
