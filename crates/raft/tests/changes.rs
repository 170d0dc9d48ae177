//! Members that come, go, move and take over; groups made out of what is left.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kit::{Lines, Net, config, keys, peer, simulated, start_with, three_of, until, write};
use skep_raft::sim_disk::SimDisk;
use skep_raft::{MessageKind, Peer, ProposeError, Raft, RaftConfig, Storage, Transport, TransportError, repair};

fn disks(n: u64, seed: u64) -> Vec<SimDisk> {
    (0..n).map(|i| SimDisk::new(seed * 10 + i)).collect()
}

async fn group(net: &Arc<Net>, disks: &[SimDisk]) -> Vec<(Raft, Arc<Lines>)> {
    three_of(net, disks.iter().map(SimDisk::mount).collect()).await
}

#[test]
fn a_planned_hand_over_goes_to_the_one_that_lacks_least() {
    simulated(1, async {
        let net = Arc::new(Net::default());
        let all = group(&net, &disks(3, 1)).await;
        net.cut.lock().unwrap().insert(2);
        for i in 0..20 {
            write(&[&all[0].0], &format!("{i}")).await;
        }
        assert!(all[0].0.hand_over(Duration::from_secs(5)).await);
        assert!(!all[0].0.leadership().borrow().is_leader);
        until("the third leads", || all[2].0.leadership().borrow().is_leader).await;
        write(&[&all[2].0], "by the third").await;
        assert!(all[1].0.hand_over(Duration::from_secs(1)).await, "another one leads already");
    });
}

#[test]
fn a_leader_that_finds_nobody_leads_on() {
    simulated(2, async {
        let net = Arc::new(Net::default());
        let all = group(&net, &disks(3, 2)).await;
        write(&[&all[0].0], "before").await;
        // They answer no more, but not for long enough to be known.
        net.cut.lock().unwrap().extend([2, 3]);
        assert!(!all[0].0.hand_over(Duration::from_millis(300)).await);
        net.cut.lock().unwrap().clear();
        write(&[&all[0].0, &all[1].0, &all[2].0], "after").await;
        let (alone, _) = start_with(&Arc::new(Net::default()), SimDisk::new(9).mount(), config(9)).await;
        alone.initialize(&peer(9)).await.unwrap();
        alone.leadership().wait_for(|l| l.is_leader).await.unwrap();
        assert!(!alone.hand_over(Duration::from_millis(300)).await);
        write(&[&alone], "still").await;
    });
}

#[test]
fn a_short_pause_and_lost_messages_cost_no_election() {
    simulated(11, async {
        let net = Arc::new(Net::default());
        let all = group(&net, &disks(3, 11)).await;
        write(&[&all[0].0], "before").await;
        let term = all[0].0.metrics().term;
        net.lose.store(100, std::sync::atomic::Ordering::Relaxed);
        for i in 0..20 {
            net.cut.lock().unwrap().insert(1);
            tokio::time::sleep(Duration::from_millis(500)).await;
            net.cut.lock().unwrap().clear();
            write(&[&all[0].0], &format!("{i}")).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(all[0].0.metrics().term, term);
    });
}

#[test]
fn a_learner_that_cannot_catch_up_is_removed_again() {
    simulated(3, async {
        let net = Arc::new(Net::default());
        let all = group(&net, &disks(3, 3)).await;
        let e = all[0].0.add_learner_then_voter(&peer(4)).await.unwrap_err();
        assert!(matches!(&e, ProposeError::Members(m) if m.contains("host4:2377")), "{e}");
        assert_eq!(all[0].0.metrics().members.iter().map(|m| m.peer.id).collect::<Vec<_>>(), [1, 2, 3]);
        write(&[&all[0].0], "goes on").await;
    });
}

#[test]
fn a_member_that_moved_is_found_at_its_new_address() {
    simulated(4, async {
        let net = Arc::new(Net::default());
        let all = group(&net, &disks(3, 4)).await;
        all[0].0.update_peer(2, "elsewhere:2377").await.unwrap();
        all[0].0.update_peer(2, "elsewhere:2377").await.unwrap();
        until("all know the new address", || {
            all.iter().all(|(r, _)| r.metrics().members.iter().any(|m| m.peer.id == 2 && m.peer.addr == "elsewhere:2377"))
        })
        .await;
        net.seen.lock().unwrap().clear();
        write(&[&all[0].0], "line").await;
        until("it is called there", || net.seen.lock().unwrap().contains("elsewhere:2377")).await;
        until("and nowhere else", || {
            let mut seen = net.seen.lock().unwrap();
            let only = !seen.contains("host2:2377");
            seen.clear();
            only
        })
        .await;
        assert!(matches!(all[0].0.update_peer(77, "x:1").await, Err(ProposeError::Members(_))));
    });
}

struct Outcast;

#[async_trait]
impl Transport for Outcast {
    async fn call(&self, target: &Peer, _: MessageKind, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        tokio::time::sleep(Duration::from_micros(100)).await;
        Err(TransportError::Removed { addr: target.addr.clone() })
    }
}

#[test]
fn a_member_that_was_removed_learns_of_it_and_is_quiet() {
    simulated(5, async {
        let net = Arc::new(Net::default());
        let disks = disks(3, 5);
        let all = group(&net, &disks).await;
        write(&[&all[0].0], "line").await;
        until("it is a voter", || all[2].0.metrics().members.iter().any(|m| m.peer.id == 3 && m.voter)).await;
        net.members.lock().unwrap().clear();
        all[2].0.shutdown().await;
        disks[2].crash();
        let third =
            Raft::open(config(3), disks[2].mount(), keys(), Arc::new(Outcast), Arc::new(Lines::default())).await.unwrap();
        third.removed().wait_for(|r| *r).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let term = third.metrics().term;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(third.metrics().term, term, "it does not campaign");
    });
}

async fn forced(seed: u64, writes: usize) {
    let net = Arc::new(Net::default());
    let disks = disks(3, seed);
    let all = group(&net, &disks).await;
    for i in 0..writes {
        write(&[&all[0].0], &format!("{i}")).await;
    }
    until("the second has all", || all[1].1.count() == writes).await;
    net.members.lock().unwrap().clear();
    for (r, _) in &all {
        r.shutdown().await;
    }
    drop(all);
    for d in &disks {
        d.crash();
    }
    let me = Peer { id: 1000, node_id: "n2".into(), addr: "new:2377".into() };
    // A crash anywhere in it: it is done again.
    for at in 1..6 {
        disks[1].crash_after(at);
        let half = repair::force_single(&disks[1].mount(), &keys(), &Peer { id: 900 + at, ..me.clone() });
        drop(half);
        disks[1].crash();
    }
    repair::force_single(&disks[1].mount(), &keys(), &me).unwrap();
    let net = Arc::new(Net::default());
    let (raft, lines) = start_with(&net, disks[1].mount(), config(1000)).await;
    raft.leadership().wait_for(|l| l.is_leader).await.unwrap();
    write(&[&raft], "after").await;
    let expected: Vec<Vec<u8>> = (0..writes).map(|i| i.to_string().into_bytes()).chain([b"after".to_vec()]).collect();
    assert_eq!(*lines.lines.lock().unwrap(), expected);
    assert_eq!(raft.metrics().members.iter().map(|m| m.peer.clone()).collect::<Vec<_>>(), [me]);
    // Others can join, and a snapshot carries the new membership.
    let (other, got) = start_with(&net, SimDisk::new(seed + 500).mount(), config(1001)).await;
    raft.add_learner_then_voter(&peer(1001)).await.unwrap();
    for i in 0..700 {
        write(&[&raft], &format!("more {i}")).await;
    }
    until("the other has all", || got.count() == writes + 701).await;
    drop(other);
}

#[test]
fn a_group_of_one_is_made_of_a_survivor() {
    // A log only; a snapshot and a log; a log that was purged up to a snapshot.
    for (seed, writes) in [(6, 10), (7, 60), (8, 720)] {
        simulated(seed, forced(seed, writes));
    }
}

#[test]
fn a_survivor_with_nothing_or_that_runs_is_refused() {
    simulated(9, async {
        let disk = SimDisk::new(9);
        assert!(repair::force_single(&disk.mount(), &keys(), &peer(5)).is_err());
        let (_one, _) = start_with(&Arc::new(Net::default()), disk.mount(), config(1)).await;
        let e = repair::force_single(&disk.mount(), &keys(), &peer(5)).unwrap_err();
        assert!(e.to_string().contains("stop it first"), "{e}");
    });
}

#[test]
fn a_new_group_starts_from_a_backup() {
    simulated(10, async {
        // Two lines as the state machine writes them.
        let state = b"\x03\0\0\0one\x03\0\0\0two";
        let disk = SimDisk::new(10);
        for at in 1..9 {
            disk.crash_after(at);
            drop(repair::found_from(&disk.mount(), &keys(), &peer(7), 41, &mut &state[..]));
            disk.crash();
        }
        let storage: Arc<dyn Storage> = disk.mount();
        match repair::found_from(&storage, &keys(), &peer(7), 41, &mut &state[..]) {
            Ok(()) => {}
            // The last attempt may have been whole.
            Err(e) => assert!(e.to_string().contains("a log already"), "{e}"),
        }
        let (raft, lines) = start_with(&Arc::new(Net::default()), storage.clone(), RaftConfig { id: 7, ..config(7) }).await;
        raft.leadership().wait_for(|l| l.is_leader).await.unwrap();
        let index = write(&[&raft], "three").await;
        assert!(index > 41, "the log goes on after the backup: {index}");
        assert_eq!(*lines.lines.lock().unwrap(), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        raft.shutdown().await;
    });
}
