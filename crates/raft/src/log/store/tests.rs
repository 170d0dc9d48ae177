//! The log on a real disk: append, truncate, purge, and what a crash leaves.

#![allow(clippy::unwrap_used)]
use std::path::PathBuf;

use openraft::EntryPayload;
use openraft::storage::RaftLogStorageExt;
use tempfile::TempDir;

use super::*;
use crate::DirStorage;
use crate::config::Blob;

fn entry(index: u64, len: usize) -> Entry {
    let leader = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 7 };
    Entry { log_id: LogId::new(leader, index), payload: EntryPayload::Normal(Blob(vec![index as u8; len])) }
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let mut v: Vec<_> = std::fs::read_dir(dir.path().join("log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some())
        .collect();
    v.sort();
    v
}

fn keys() -> KeyRing {
    KeyRing::new(Key::new([7; 32]))
}

fn storage(dir: &TempDir) -> Arc<dyn Storage> {
    Arc::new(DirStorage::new(dir.path()))
}

async fn open(dir: &TempDir, segment: u64) -> LogStore {
    let s = storage(dir);
    let lock = loop {
        match s.lock() {
            Ok(l) => break Arc::from(l),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    };
    LogStore::open(&s, &keys(), segment, Arc::new(Shared::new()), lock).await.unwrap()
}

async fn fill(dir: &TempDir, range: std::ops::Range<u64>, segment: u64) -> LogStore {
    let mut s = open(dir, segment).await;
    for i in range {
        s.blocking_append([entry(i, 100)]).await.unwrap();
    }
    s
}

fn reopen(dir: &TempDir) -> Result<Content, LogError> {
    Disk::open(&storage(dir), &keys(), 1 << 20).map(|(_, c)| c)
}

/// Closes the log and waits for the writer thread's last write, which is over when the lock is free.
async fn settle(s: LogStore, dir: &TempDir) {
    drop(s);
    drop(open(dir, 1 << 20).await);
    while storage(dir).lock().is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let mut s = fill(&dir, 0..20, 1 << 20).await;
    let vote = Vote::new(3, 7);
    s.save_vote(&vote).await.unwrap();
    s.truncate_after(Some(entry(14, 1).log_id)).await.unwrap();
    s.blocking_append([entry(15, 5)]).await.unwrap();
    s.purge(entry(4, 1).log_id).await.unwrap();
    settle(s, &dir).await;
    let c = reopen(&dir).unwrap();
    assert_eq!(c.entries.keys().copied().collect::<Vec<_>>(), (5..16).collect::<Vec<_>>());
    assert_eq!(c.vote, Some(vote));
    assert_eq!(c.purged.map(|p| p.index), Some(4));
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_at_any_length() {
    let dir = TempDir::new().unwrap();
    settle(fill(&dir, 0..5, 1 << 20).await, &dir).await;
    let path = segments(&dir).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let c = reopen(&dir).unwrap();
        let n = c.entries.len() as u64;
        assert_eq!(c.entries.keys().copied().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        // What is left is a log that can be opened and continued.
        assert_eq!(reopen(&dir).unwrap().entries.len() as u64, n);
    }
}

#[tokio::test]
async fn a_flipped_byte_before_valid_records_is_refused() {
    let dir = TempDir::new().unwrap();
    settle(fill(&dir, 0..5, 1 << 20).await, &dir).await;
    let path = segments(&dir).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len() / 2).step_by(3) {
        let mut bad = whole.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        let e = reopen(&dir).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains("is damaged at byte"), "flip at {at}: {e}");
    }
}

#[tokio::test]
async fn purging_drops_whole_segments_and_keeps_the_vote() {
    let dir = TempDir::new().unwrap();
    let mut s = open(&dir, 1000).await;
    s.save_vote(&Vote::new(9, 7)).await.unwrap();
    for i in 0..100 {
        s.blocking_append([entry(i, 100)]).await.unwrap();
    }
    let before = segments(&dir).len();
    s.purge(entry(80, 1).log_id).await.unwrap();
    // They go one after the other, between writes.
    let gone = async {
        while segments(&dir).len() >= before / 2 {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(10), gone).await;
    assert!(in_time.is_ok(), "{before} then {}", segments(&dir).len());
    settle(s, &dir).await;
    let c = reopen(&dir).unwrap();
    assert_eq!(c.entries.first_key_value().map(|(k, _)| *k), Some(81));
    assert_eq!(c.vote, Some(Vote::new(9, 7)));
}

#[tokio::test]
async fn damage_in_a_closed_segment_or_a_missing_one_is_refused() {
    let dir = TempDir::new().unwrap();
    settle(fill(&dir, 0..50, 1000).await, &dir).await;
    let all = segments(&dir);
    let good = std::fs::read(&all[0]).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&all[0], &bad).unwrap();
    assert!(matches!(reopen(&dir), Err(LogError::Damaged { .. })));
    std::fs::write(&all[0], &good).unwrap();
    assert!(reopen(&dir).is_ok());
    std::fs::remove_file(&all[1]).unwrap();
    assert!(matches!(reopen(&dir), Err(LogError::Damaged { .. })));
}

#[tokio::test]
async fn nothing_is_written_in_the_clear_and_no_frame_can_be_moved() {
    let dir = TempDir::new().unwrap();
    let mut s = open(&dir, 1 << 20).await;
    for i in 0..4 {
        let mut e = entry(i, 0);
        e.payload = EntryPayload::Normal(Blob(b"the secret of the swarm".to_vec()));
        s.blocking_append([e]).await.unwrap();
    }
    settle(s, &dir).await;
    let path = segments(&dir).pop().unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(!whole.windows(10).any(|w| w == b"the secret"));
    // Frames of equal length change places.
    let starts: Vec<usize> = whole.windows(4).enumerate().filter(|(_, w)| *w == b"SKf1").map(|(i, _)| i).collect();
    let (a, b, c) = (starts[1], starts[2], starts[3]);
    assert_eq!(b - a, c - b);
    let swapped = [&whole[..a], &whole[b..c], &whole[a..b], &whole[c..]].concat();
    std::fs::write(&path, swapped).unwrap();
    let e = reopen(&dir).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("is damaged at byte"), "{e}");
}

#[tokio::test]
async fn a_missing_key_is_named_and_a_new_key_leaves_nothing_under_the_old() {
    let dir = TempDir::new().unwrap();
    let mut s = fill(&dir, 0..50, 1000).await;
    s.save_vote(&Vote::new(3, 7)).await.unwrap();
    s.purge(entry(9, 1).log_id).await.unwrap();
    let new = Key::new([8; 32]);
    s.weak().rekey(new.clone()).await.unwrap();
    assert_eq!(s.shared.usage().keys.into_iter().collect::<Vec<_>>(), [new.id()]);
    assert_eq!(segments(&dir).len(), 1);
    s.blocking_append([entry(50, 5)]).await.unwrap();
    drop(s);
    while storage(&dir).lock().is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let e = reopen(&dir).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains(&new.id().to_string()) && e.contains("not among the keys"), "{e}");
    let (_, c) = Disk::open(&storage(&dir), &KeyRing::new(new), 1 << 20).unwrap();
    assert_eq!(c.entries.keys().copied().collect::<Vec<_>>(), (10..51).collect::<Vec<_>>());
    assert_eq!((c.vote, c.purged.map(|p| p.index)), (Some(Vote::new(3, 7)), Some(9)));
}
