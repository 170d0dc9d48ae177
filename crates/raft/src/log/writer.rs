//! The one who writes the log: group commits, and again after trouble. Must never acknowledge what is not synced, and never give
//! up on a disk that may come back.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::LogError;
use super::disk::Disk;
use super::frame::Record;
use super::replay::{Content, entry_size};
use super::status::Shared;
use crate::config::{LogId, TypeConfig, Vote};
use crate::{Key, Storage};

/// Writes waiting for the writer; openraft itself bounds what it has in flight, this only decouples the two.
pub(crate) const QUEUE: usize = 1024;
/// A group commit is closed at this size, so that a frame stays far below its limit.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Pauses between attempts: soon enough to be unnoticed after a hiccup, rare enough not to keep a sick disk busy.
const BACK_OFF: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

pub(crate) enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Reply(oneshot::Sender<io::Result<()>>),
}

pub(crate) struct Write {
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: usize,
    pub(crate) done: Done,
}

pub(crate) enum Work {
    Write(Write),
    /// From now on everything is written under this key, and nothing under another remains.
    Rekey(Key, oneshot::Sender<io::Result<()>>),
}

pub(crate) fn size_of(r: &Record) -> usize {
    match r {
        Record::Entry(e) => entry_size(e),
        _ => 64,
    }
}

/// The writer. Runs until every sender of its queue is gone.
pub(crate) struct Writer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) disk: Disk,
    pub(crate) content: Arc<Mutex<Content>>,
    pub(crate) shared: Arc<Shared>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    /// There may be segments that hold nothing after `purged`. They are dropped one at a time, between groups: to free hundreds of
    /// megabytes takes a disk tens of milliseconds, and writers would wait.
    dropping: bool,
    committed: Option<LogId>,
    /// Index of the last entry that was written.
    last: Option<u64>,
    /// Nobody else may open the log before the last write is over.
    _lock: Arc<dyn Send + Sync>,
}

impl Writer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        disk: Disk,
        content: Arc<Mutex<Content>>,
        shared: Arc<Shared>,
        lock: Arc<dyn Send + Sync>,
    ) -> Self {
        let c = content.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.set_usage(disk.usage());
        let last = c.last().map(|l| l.index);
        Self {
            storage,
            disk,
            content,
            shared,
            vote: c.vote,
            purged: c.purged,
            committed: c.committed,
            last,
            dropping: true,
            _lock: lock,
        }
    }

    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut next = None;
        loop {
            let first = match next.take().or_else(|| queue.try_recv().ok()) {
                Some(w) => w,
                None if self.dropping => {
                    self.drop_one().await;
                    continue;
                }
                None => match queue.recv().await {
                    Some(w) => w,
                    None => break,
                },
            };
            match first {
                Work::Rekey(key, reply) => {
                    let r = self.rekey(&key);
                    self.storage.pause().await;
                    self.shared.set_usage(self.disk.usage());
                    // The asker may be gone; the key is changed all the same.
                    drop(reply.send(r.map_err(io::Error::other)));
                }
                Work::Write(first) => {
                    // Group commit: everything that waits goes into one frame and one sync.
                    let mut bytes = first.bytes;
                    let mut group = vec![first];
                    while bytes < GROUP_BYTES {
                        match queue.try_recv() {
                            Ok(Work::Write(w)) => {
                                bytes += w.bytes;
                                group.push(w);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.group(group, &queue).await;
                    if self.dropping {
                        self.drop_one().await;
                    }
                }
            }
        }
        self.note_committed();
        if let Err(e) = self.disk.commit(&[Record::Committed(self.committed)], &self.head()) {
            tracing::warn!(error = %e, "raft log: last write at shutdown failed");
        }
    }

    /// The committed index as it is now, if the entry it names is on disk too. It rides along and never costs a sync.
    fn note_committed(&mut self) {
        let now = self.content.lock().unwrap_or_else(PoisonError::into_inner).committed;
        if now.map(|c| c.index) <= self.last {
            self.committed = now;
        }
    }

    /// What older segments may hold besides entries.
    fn head(&self) -> Vec<Record> {
        let vote = self.vote.map(Record::Vote);
        vote.into_iter().chain(self.purged.map(Record::Purge)).chain([Record::Committed(self.committed)]).collect()
    }

    fn note(&mut self, r: &Record) {
        match r {
            Record::Entry(e) => self.last = Some(e.log_id.index),
            Record::Truncate(after) => self.last = after.map(|l| l.index),
            Record::Purge(p) => {
                self.dropping = true;
                self.purged = Some(*p);
                self.last = self.last.max(Some(p.index));
            }
            Record::Vote(v) => self.vote = Some(*v),
            Record::Committed(_) => {}
        }
    }

    async fn group(&mut self, group: Vec<Write>, queue: &mpsc::Receiver<Work>) {
        // As it was before this group: a vote must not be on disk before what was to be written with it.
        let head = self.head();
        let mut records = Vec::new();
        let mut dones = Vec::new();
        for w in group {
            w.records.iter().for_each(|r| self.note(r));
            records.extend(w.records);
            dones.push((w.done, w.bytes));
        }
        self.note_committed();
        records.push(Record::Committed(self.committed));
        let result = self.until_written(&records, &head, queue).await;
        // What says that they are not needed must be on disk first.
        self.dropping &= result.is_ok();
        for (done, bytes) in dones {
            self.shared.less_waits(bytes);
            let r = result.clone().map_err(io::Error::other);
            match done {
                Done::Flushed(cb) => cb.io_completed(r),
                // The asker may be gone; nothing to do then.
                Done::Reply(tx) => drop(tx.send(r)),
            }
        }
    }

    /// Tries until the records are on disk. Fails only when nobody waits for them any more.
    async fn until_written(&mut self, records: &[Record], head: &[Record], queue: &mpsc::Receiver<Work>) -> Result<(), String> {
        let mut stop = self.shared.stopping();
        let mut attempt = 0;
        loop {
            self.shared.begin();
            let r = self.disk.commit(records, head);
            self.storage.pause().await;
            self.shared.set_usage(self.disk.usage());
            let Err(e) = r else {
                self.shared.done();
                if attempt > 0 {
                    tracing::info!(attempts = attempt, "raft log: writes succeed again");
                }
                return Ok(());
            };
            let cause = e.to_string();
            if attempt == 0 {
                tracing::error!(error = %cause, "raft log: write failed; tried again until it succeeds");
            }
            self.shared.failed(&cause);
            if *stop.borrow() || queue.is_closed() || self.storage.is_dead() {
                return Err(cause);
            }
            let pause = BACK_OFF[attempt.min(BACK_OFF.len() - 1)];
            attempt += 1;
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Drops a segment that is not needed any more. One that could not be dropped is dropped after the next purge.
    async fn drop_one(&mut self) {
        let dropped = self.purged.map_or(Ok(false), |p| self.disk.drop_one(p.index));
        if let Err(e) = &dropped {
            tracing::warn!(error = %e, "raft log: old segments not dropped yet");
        }
        self.storage.pause().await;
        self.shared.set_usage(self.disk.usage());
        self.dropping = dropped.unwrap_or(false);
    }

    fn rekey(&mut self, key: &Key) -> Result<(), LogError> {
        self.note_committed();
        let mut frames = vec![[vec![Record::Truncate(None)], self.head()].concat()];
        {
            let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = 0;
            let mut frame = Vec::new();
            // Entries that still wait in the queue follow as records of their own.
            for e in content.entries.values().take_while(|e| Some(e.log_id.index) <= self.last) {
                bytes += entry_size(e);
                frame.push(Record::Entry(e.clone()));
                if bytes >= GROUP_BYTES {
                    frames.push(std::mem::take(&mut frame));
                    bytes = 0;
                }
            }
            frames.push(frame);
        }
        self.disk.rewrite(key, &frames)
    }
}
