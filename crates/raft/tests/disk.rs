//! Disks in trouble, on a group of three with simulated disks and a simulated clock: nothing acknowledged is lost, a leader with
//! a sick disk is replaced, and everything recovers without a restart.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{Lines, Net, config, peer, simulated, start_with, three_of, until, write};
use skep_raft::sim_disk::SimDisk;
use skep_raft::{Health, ProposeError, Raft, Storage};

struct Group {
    net: Arc<Net>,
    disks: Vec<SimDisk>,
    all: Vec<(Raft, Arc<Lines>)>,
    written: Vec<String>,
}

impl Group {
    async fn new(seed: u64) -> Self {
        let disks: Vec<SimDisk> = (1..=3).map(|i| SimDisk::new(seed * 10 + i)).collect();
        let storages: Vec<Arc<dyn Storage>> = disks.iter().map(SimDisk::mount).collect();
        let net = Arc::new(Net::default());
        let all = three_of(&net, storages).await;
        Self { net, disks, all, written: Vec::new() }
    }

    /// Writes through whoever leads.
    async fn write(&mut self, n: usize) {
        for _ in 0..n {
            let line = format!("line {}", self.written.len());
            let members: Vec<&Raft> = self.all.iter().map(|(r, _)| r).collect();
            write(&members, &line).await;
            self.written.push(line);
        }
    }

    fn leader(&self) -> Option<usize> {
        self.all.iter().position(|(r, _)| r.leadership().borrow().is_leader)
    }

    /// Every member has every acknowledged line, in order.
    async fn all_agree(&self) {
        until("all members have all lines", || {
            self.all.iter().all(|(_, l)| {
                let lines = l.lines.lock().unwrap();
                // An unanswered attempt may stand there twice.
                let mut mine: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
                mine.dedup();
                self.written.iter().all(|w| mine.contains(&w.as_bytes()))
            })
        })
        .await;
        let first = self.all[0].1.lines.lock().unwrap().clone();
        for (_, l) in &self.all {
            assert_eq!(*l.lines.lock().unwrap(), first);
        }
    }

    /// All hosts lose their power; what was acknowledged is there afterwards.
    async fn survives_loss_of_power(mut self) {
        for d in &self.disks {
            d.crash();
        }
        self.net.members.lock().unwrap().clear();
        for (r, _) in &self.all {
            r.shutdown().await;
        }
        self.all.clear();
        for (id, d) in (1..).zip(&self.disks) {
            self.all.push(start_with(&self.net, d.mount(), config(id)).await);
        }
        self.write(1).await;
        self.all_agree().await;
    }
}

#[test]
fn a_leader_whose_disk_is_full_is_replaced_and_comes_back() {
    simulated(1, async {
        let mut g = Group::new(1).await;
        g.write(20).await;
        assert_eq!(g.leader(), Some(0));
        g.disks[0].full(true);
        g.write(20).await;
        until("another one leads", || g.leader().is_some_and(|l| l != 0)).await;
        let mut health = g.all[0].0.health();
        health.wait_for(|h| matches!(h, Health::Stalled { .. })).await.unwrap();
        g.write(100).await;
        assert!(!g.all[0].0.leadership().borrow().is_leader);
        g.disks[0].full(false);
        health.wait_for(|h| *h == Health::Ok).await.unwrap();
        g.all_agree().await;
        g.write(20).await;
        g.survives_loss_of_power().await;
    });
}

#[test]
fn a_leader_whose_disk_is_very_slow_is_replaced() {
    simulated(2, async {
        let mut g = Group::new(2).await;
        g.write(5).await;
        g.disks[0].slow(Duration::from_secs(4));
        g.write(10).await;
        until("another one leads", || g.leader().is_some_and(|l| l != 0)).await;
        g.write(100).await;
        assert!(g.leader().is_some_and(|l| l != 0), "it stays so while the disk is slow");
        g.disks[0].slow(Duration::ZERO);
        g.all_agree().await;
        g.survives_loss_of_power().await;
    });
}

#[test]
fn leadership_does_not_go_round_where_all_disks_stall() {
    simulated(13, async {
        let mut g = Group::new(13).await;
        g.write(5).await;
        let term = |g: &Group| g.all.iter().map(|(r, _)| r.leadership().borrow().term).max().unwrap();
        let before = term(&g);
        g.disks.iter().for_each(|d| d.slow(Duration::from_millis(1500)));
        g.write(1).await;
        g.disks.iter().for_each(|d| d.slow(Duration::ZERO));
        let mut health = g.all[0].0.health();
        health.wait_for(|h| *h == Health::Ok).await.unwrap();
        let changes = term(&g) - before;
        assert!(changes < 10, "{changes} changes of the leader");
        g.write(20).await;
        g.all_agree().await;
    });
}

#[test]
fn a_follower_whose_disk_is_full_lags_and_catches_up() {
    simulated(3, async {
        let mut g = Group::new(3).await;
        g.disks[2].full(true);
        g.write(200).await;
        assert_eq!(g.leader(), Some(0));
        g.disks[2].full(false);
        g.all_agree().await;
        g.survives_loss_of_power().await;
    });
}

#[test]
fn a_failed_sync_loses_nothing_on_any_disk() {
    for seed in 4..12 {
        simulated(seed, async {
            let mut g = Group::new(seed).await;
            for i in 0..3 {
                g.write(3).await;
                g.disks[i].fail_syncs(2);
                g.write(20).await;
            }
            for d in &g.disks {
                d.fail_syncs(1);
            }
            g.write(5).await;
            g.all_agree().await;
            g.survives_loss_of_power().await;
        });
    }
}

#[test]
fn what_waits_for_a_full_disk_is_bounded() {
    simulated(20, async {
        let disk = SimDisk::new(20);
        let net = Arc::new(Net::default());
        let (one, lines) = start_with(&net, disk.mount(), config(1)).await;
        one.initialize(&peer(1)).await.unwrap();
        one.leadership().wait_for(|l| l.is_leader).await.unwrap();
        one.propose(b"before".to_vec()).await.unwrap();
        disk.full(true);
        let mut given = 0;
        loop {
            match one.propose(vec![b'x'; 1_000_000]).await {
                Err(ProposeError::NoQuorum) => given += 1,
                Err(ProposeError::Stalled(why)) => break assert!(why.contains("wait for the disk"), "{why}"),
                r => panic!("{r:?}"),
            }
            assert!(given < 100, "more and more is taken");
        }
        disk.full(false);
        until("it takes writes again", || *one.health().borrow() == Health::Ok).await;
        one.propose(b"after".to_vec()).await.unwrap();
        assert!(lines.lines.lock().unwrap().contains(&b"after".to_vec()));
    });
}

#[test]
fn the_same_seed_runs_the_same() {
    let run = || {
        simulated(30, async {
            let mut g = Group::new(30).await;
            g.write(10).await;
            g.disks[0].full(true);
            g.write(10).await;
            g.disks[0].full(false);
            g.write(10).await;
            let end = tokio::time::Instant::now();
            (g.leader(), g.all.iter().map(|(r, _)| r.metrics().last_log).collect::<Vec<_>>(), end)
        })
    };
    let ((a, b, _), (c, d, _)) = (run(), run());
    assert_eq!((a, b), (c, d));
}
