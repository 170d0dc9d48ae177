//! The log on a simulated disk: power lost anywhere, bytes flipped anywhere.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use proptest::prelude::*;

use super::disk::Disk;
use super::replay::Content;
use super::{LogError, LogStore, Shared};
use crate::config::{Blob, Entry, LogId, TypeConfig, Vote};
use crate::sim_disk::SimDisk;
use crate::{Key, KeyRing, seed_this_thread};

#[derive(Debug, Clone)]
enum Step {
    /// Appends this many writes of one entry each without waiting in between.
    Append(u8, u16),
    Vote,
    /// An append that is not waited for, and a vote right after it, as when a group is founded.
    AppendAndVote,
    /// Cuts off this many entries and begins a new term.
    Truncate(u8),
    /// Purges this many entries, and with them possibly what is not there yet.
    Purge(u8),
    Rekey(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..6u8, 0..600u16).prop_map(|(n, len)| Step::Append(n, len)),
        1 => Just(Step::Vote),
        2 => Just(Step::AppendAndVote),
        1 => (0..4u8).prop_map(Step::Truncate),
        1 => (0..6u8).prop_map(Step::Purge),
        1 => any::<u8>().prop_map(Step::Rekey),
    ]
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::impls::leader_id_adv::LeaderId { term, node_id: 7 }, index)
}

/// What must survive, comparable.
type Facts = (Vec<(u64, u64, usize)>, Option<u64>, Option<Vote>);

fn facts(c: &Content) -> Facts {
    let entry = |e: &Entry| {
        let len = if let EntryPayload::Normal(b) = &e.payload { b.0.len() } else { 0 };
        (e.log_id.index, e.log_id.leader_id.term, len)
    };
    (c.entries.values().map(entry).collect(), c.purged.map(|p| p.index), c.vote)
}

fn keys(n: u8) -> KeyRing {
    // A crash while keys change leaves some files under the one, some under the other.
    KeyRing { current: Key::new([n; 32]), older: (0..=255).map(|k| Key::new([k; 32])).collect() }
}

struct Run {
    disk: SimDisk,
    /// States that may be found: the last one acknowledged, and those that were on their way.
    may: Vec<Facts>,
    content: Content,
    term: u64,
}

impl Run {
    async fn open(&mut self) -> (LogStore, Content) {
        let storage = self.disk.mount();
        let lock = Arc::from(storage.lock().unwrap());
        let (_, content) = Disk::open(&storage, &keys(0), 700).unwrap();
        let log = LogStore::open(&storage, &keys(0), 700, Arc::new(Shared::new()), lock).await.unwrap();
        (log, content)
    }

    fn on_its_way(&mut self, record: super::frame::Record) {
        self.content.take(record).unwrap();
        self.may.push(facts(&self.content));
    }

    /// Does one step. An error means that the power is gone.
    async fn step(&mut self, log: &mut LogStore, step: &Step) -> std::io::Result<()> {
        use super::frame::Record;
        let next = self.content.last().map_or(0, |l| l.index + 1);
        match step {
            Step::Append(n, len) => {
                let mut waits = Vec::new();
                for i in next..next + u64::from(*n) {
                    let payload = EntryPayload::Normal(Blob(vec![i as u8; usize::from(*len)]));
                    let e = Entry { log_id: log_id(self.term, i), payload };
                    self.on_its_way(Record::Entry(e.clone()));
                    let (tx, rx) = TypeConfig::oneshot();
                    log.append([e], IOFlushed::<TypeConfig>::signal(tx)).await?;
                    waits.push(rx);
                }
                for w in waits {
                    w.await.map_err(std::io::Error::other)??;
                }
            }
            Step::Vote => {
                self.term += 1;
                let vote = Vote::new(self.term, 7);
                self.on_its_way(Record::Vote(vote));
                log.save_vote(&vote).await?;
            }
            Step::AppendAndVote => {
                let e = Entry { log_id: log_id(self.term, next), payload: EntryPayload::Blank };
                self.on_its_way(Record::Entry(e.clone()));
                let (tx, rx) = TypeConfig::oneshot();
                log.append([e], IOFlushed::<TypeConfig>::signal(tx)).await?;
                self.term += 1;
                let vote = Vote::new(self.term, 7);
                self.on_its_way(Record::Vote(vote));
                log.save_vote(&vote).await?;
                rx.await.map_err(std::io::Error::other)??;
            }
            Step::Truncate(back) => {
                let purged = self.content.purged.map_or(0, |p| p.index + 1);
                let keep = next.saturating_sub(u64::from(*back)).max(purged);
                let after = if keep == purged { self.content.purged } else { Some(self.content.entries[&(keep - 1)].log_id) };
                self.term += 1;
                self.on_its_way(Record::Truncate(after));
                log.truncate_after(after).await?;
            }
            Step::Purge(n) => {
                let first = self.content.purged.map_or(0, |p| p.index + 1);
                let upto = log_id(self.term, first + u64::from(*n));
                self.on_its_way(Record::Purge(upto));
                log.purge(upto).await?;
            }
            Step::Rekey(n) => log.weak().rekey(Key::new([*n; 32])).await?,
        }
        // Acknowledged: nothing older may be found any more.
        self.may = vec![facts(&self.content)];
        Ok(())
    }
}

fn paused<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(f)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_anywhere_loses_nothing_acknowledged(
        seed: u64,
        lives in prop::collection::vec((prop::collection::vec(step(), 1..25), 1..120u64, 0..3u32), 1..4),
    ) {
        paused(async {
            seed_this_thread(seed);
            let disk = SimDisk::new(seed);
            let mut run = Run { disk, may: vec![facts(&Content::default())], content: Content::default(), term: 1 };
            for (steps, crash_after, failing_syncs) in lives {
                let (mut log, found) = run.open().await;
                assert!(run.may.contains(&facts(&found)), "found {:?}, expected one of {:?}", facts(&found), run.may);
                run.content = found;
                run.may = vec![facts(&run.content)];
                run.disk.crash_after(crash_after);
                run.disk.fail_syncs(failing_syncs);
                for s in &steps {
                    if run.step(&mut log, s).await.is_err() {
                        break;
                    }
                }
                run.disk.fail_syncs(0);
                run.disk.crash();
                drop(log);
            }
            let (_, found) = run.open().await;
            assert!(run.may.contains(&facts(&found)), "found {:?}, expected one of {:?}", facts(&found), run.may);
        });
    }

    #[test]
    fn a_flipped_byte_before_the_last_frame_is_refused(seed: u64, writes in 4..30u64, at: prop::sample::Index, bit in 0..8u8) {
        paused(async {
            seed_this_thread(seed);
            let disk = SimDisk::new(seed);
            let mut run = Run { disk: disk.clone(), may: Vec::new(), content: Content::default(), term: 1 };
            let (mut log, _) = run.open().await;
            for _ in 0..writes {
                run.step(&mut log, &Step::Append(1, 100)).await.unwrap();
            }
            disk.crash();
            drop(log);
            let names: Vec<String> = disk.names().into_iter().filter(|n| n.ends_with(".seg")).collect();
            // Of the last segment all but the last two frames, of the others everything.
            let sizes: Vec<usize> = names.iter().map(|n| disk.contents(n).unwrap().len()).collect();
            let last = disk.contents(names.last().unwrap()).unwrap();
            let frames: Vec<usize> = last.windows(4).enumerate().filter(|(_, w)| *w == b"SKf1").map(|(i, _)| i).collect();
            let end = if frames.len() > 2 { frames[frames.len() - 1] } else { 0 };
            let total: usize = sizes[..sizes.len() - 1].iter().sum::<usize>() + end;
            prop_assume!(total > 0);
            let mut at = at.index(total);
            let mut name = 0;
            while at >= sizes[name] {
                at -= sizes[name];
                name += 1;
            }
            disk.flip(&names[name], at, 1 << bit);
            let e = Disk::open(&disk.mount(), &keys(0), 700).err();
            assert!(matches!(e, Some(LogError::Damaged { .. })), "{} byte {at}: {e:?}", names[name]);
            Ok(())
        })?;
    }
}
