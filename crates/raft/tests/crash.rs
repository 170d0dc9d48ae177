//! A whole member on a simulated disk: power lost anywhere, also while snapshots are written.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use skep_raft::sim_disk::SimDisk;
use skep_raft::{
    Key, KeyRing, MessageKind, OpenError, Peer, Raft, RaftConfig, SnapshotFn, StateMachine, Transport, TransportError,
};

struct Alone;

#[async_trait]
impl Transport for Alone {
    async fn call(&self, target: &Peer, _: MessageKind, _: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::Unreachable { addr: target.addr.clone(), cause: "there is nobody".into() })
    }
}

/// Remembers the numbers it was given.
#[derive(Default)]
struct Numbers(Mutex<Vec<u32>>);

impl StateMachine for Numbers {
    fn apply(&self, _: u64, bytes: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap().push(u32::from_le_bytes(bytes[..4].try_into().unwrap()));
        Vec::new()
    }
    fn snapshot(&self) -> SnapshotFn {
        let numbers = self.0.lock().unwrap().clone();
        Box::new(move |w| numbers.iter().try_for_each(|n| w.write_all(&n.to_le_bytes())))
    }
    fn restore(&self, from: &mut dyn Read) -> Result<(), String> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        *self.0.lock().unwrap() = bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
        Ok(())
    }
}

fn me() -> Peer {
    Peer { id: 1, node_id: "n1".into(), addr: "host1:2377".into() }
}

async fn open(disk: &SimDisk, key: u8) -> Result<(Raft, Arc<Numbers>), OpenError> {
    let mut config = RaftConfig::new(1);
    config.snapshot_every = 7;
    config.segment_bytes = 2000;
    let numbers = Arc::new(Numbers::default());
    let keys = KeyRing { current: Key::new([key; 32]), older: (0..=3).map(|k| Key::new([k; 32])).collect() };
    let raft = Raft::open(config, disk.mount(), keys, Arc::new(Alone), numbers.clone()).await?;
    raft.set_snapshots_kept(2);
    Ok((raft, numbers))
}

/// Founds the group if need be and waits until this member leads.
async fn lead(raft: &Raft) -> bool {
    if !raft.is_initialized().await {
        drop(raft.initialize(&me()).await);
    }
    let mut l = raft.leadership();
    tokio::time::timeout(Duration::from_secs(10), l.wait_for(|l| l.is_leader)).await.is_ok_and(|r| r.is_ok())
}

fn simulated<T>(seed: u64, f: impl Future<Output = T>) -> T {
    skep_raft::seed_this_thread(seed);
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(f)
}

async fn lives(seed: u64, lives: &[(u64, u32, u8)]) -> Vec<u32> {
    let disk = SimDisk::new(seed);
    let (mut next, mut acknowledged) = (0, Vec::new());
    for &(crash_after, failing_syncs, key) in lives {
        disk.crash_after(crash_after);
        if let Ok((raft, _)) = open(&disk, 0).await
            && lead(&raft).await
        {
            disk.fail_syncs(failing_syncs);
            for i in 0..60 {
                next += 1;
                match raft.propose(u32::to_le_bytes(next).to_vec()).await {
                    Ok(_) => acknowledged.push(next),
                    Err(_) => break,
                }
                if i == 30 && key > 0 && raft.rotate_key(Key::new([key; 32])).await.is_ok() {
                    assert_eq!(raft.keys_in_use().into_iter().collect::<Vec<_>>(), [Key::new([key; 32]).id()]);
                }
            }
            disk.crash();
            raft.shutdown().await;
        }
        disk.fail_syncs(0);
        disk.crash();
    }
    let (raft, numbers) = open(&disk, 0).await.unwrap();
    if raft.is_initialized().await {
        assert!(lead(&raft).await, "the member leads again");
        raft.read_barrier().await.unwrap();
    }
    let found = numbers.0.lock().unwrap().clone();
    assert!(found.windows(2).all(|w| w[0] < w[1]), "in order and once: {found:?}");
    for a in &acknowledged {
        assert!(found.contains(a), "{a} was acknowledged and is gone; found {found:?}");
    }
    raft.shutdown().await;
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_member_keeps_what_it_acknowledged_over_crashes(
        seed: u64,
        plan in prop::collection::vec((1..400u64, 0..3u32, 0..4u8), 1..5),
    ) {
        simulated(seed, lives(seed, &plan));
    }
}

#[test]
fn the_same_seed_gives_the_same_lives() {
    let plan = [(150, 1, 2), (90, 0, 0), (300, 2, 3)];
    let run = |seed| simulated(seed, lives(seed, &plan));
    let first = run(5);
    assert!(first.len() > 30, "the plan lets something be written: {first:?}");
    assert_eq!(first, run(5));
}

/// A member that leads, after forty entries and a snapshot of them.
async fn with_snapshots(disk: &SimDisk) -> Raft {
    let (raft, _) = open(disk, 0).await.unwrap();
    assert!(lead(&raft).await);
    for n in 0..40u32 {
        raft.propose(n.to_le_bytes().to_vec()).await.unwrap();
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while raft.metrics().snapshot < 30 {
        assert!(tokio::time::Instant::now() < end, "a snapshot");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    raft
}

#[test]
fn older_snapshots_are_kept_as_many_as_asked_for_and_go_with_their_key() {
    let disk = SimDisk::new(4);
    simulated(4, async {
        let old = || {
            let all = disk.mount().list("").unwrap();
            all.into_iter().filter(|n| n.starts_with("snapshot.old-")).collect::<Vec<_>>()
        };
        let raft = with_snapshots(&disk).await;
        assert_eq!(old().len(), 2, "{:?}", old());
        // Each is a snapshot still.
        for name in old() {
            assert_eq!(disk.contents(&name).unwrap()[..8], disk.contents("snapshot").unwrap()[..8]);
        }
        // The id of the key that seals a file is in its head.
        let key = |name: &str| disk.contents(name).unwrap()[12..20].to_vec();
        let before = key("snapshot");
        raft.rotate_key(Key::new([9; 32])).await.unwrap();
        let after = key("snapshot");
        assert_ne!(before, after);
        // One that was taken meanwhile may be there, under the new key.
        assert!(old().iter().all(|name| key(name) == after), "{:?}", old());
        // A crash after the current one was sealed anew leaves older ones behind: the next try finds them.
        let left = format!("snapshot.old-{:020}", 7);
        disk.mount().link("snapshot", &left).unwrap();
        raft.rotate_key(Key::new([9; 32])).await.unwrap();
        assert!(old().contains(&left), "it is under the key of now");
        disk.flip(&left, 12, 0xff);
        raft.rotate_key(Key::new([9; 32])).await.unwrap();
        assert!(!old().contains(&left), "nobody has its key");
        raft.shutdown().await;
    });
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let disk = SimDisk::new(3);
    simulated(3, async {
        let raft = with_snapshots(&disk).await;
        raft.shutdown().await;
        disk.crash();
        for at in 0..disk.contents("snapshot").unwrap().len() {
            disk.flip("snapshot", at, 0x10);
            let e = open(&disk, 0).await.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains("is damaged at byte") || e.contains("not among the keys"), "byte {at}: {e}");
            disk.flip("snapshot", at, 0x10);
            disk.crash();
        }
        open(&disk, 0).await.unwrap();
    });
}
