//! The log as the consensus library wants it: a copy in memory for reading, a writer for the disk.
//!
//! The memory copy holds what a snapshot has not replaced yet ([`crate::RaftConfig::snapshot_every`],
//! [`crate::RaftConfig::snapshot_bytes`]). Callbacks fire after the sync. Must never answer from the disk while running.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::LogError;
use super::disk::Disk;
use super::frame::Record;
use super::replay::{Content, entry_size};
use super::status::Shared;
use super::writer::{Done, QUEUE, Work, Write, Writer, size_of};
use crate::config::{Entry, LogId, TypeConfig, Vote};
use crate::storage::blocking;
use crate::{Key, KeyRing, Storage};

/// One replication message carries at most this many bytes of entries (and at least one entry).
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// The log store. Clones share one log.
#[derive(Clone)]
pub(crate) struct LogStore {
    content: Arc<Mutex<Content>>,
    queue: mpsc::Sender<Work>,
    shared: Arc<Shared>,
}

/// Reads the shared copy.
#[derive(Clone)]
pub(crate) struct Reader {
    content: Arc<Mutex<Content>>,
}

fn lock(m: &Mutex<Content>) -> MutexGuard<'_, Content> {
    // A panic while the lock was held leaves whole records only; the content stays usable.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Starts the writer of an opened log, which ends when the last clone is dropped: a thread of its own, or a task in a
    /// simulation.
    fn start(
        storage: Arc<dyn Storage>,
        disk: Disk,
        content: Content,
        shared: Arc<Shared>,
        lock: Arc<dyn Send + Sync>,
    ) -> Result<Self, LogError> {
        let content = Arc::new(Mutex::new(content));
        let (queue, rx) = mpsc::channel(QUEUE);
        let writer = Writer::new(storage.clone(), disk, content.clone(), shared.clone(), lock);
        if storage.is_simulated() {
            tokio::spawn(writer.run(rx));
        } else {
            let runtime = Handle::current();
            std::thread::Builder::new()
                .name("raft-log".into())
                .spawn(move || runtime.block_on(writer.run(rx)))
                .map_err(|source| LogError::Io { op: "start writer thread for", path: storage.locate("log"), source })?;
        }
        Ok(Self { content, queue, shared })
    }

    /// Opens the log and starts its writer, which holds the lock of the storage until its last write is over.
    pub(crate) async fn open(
        storage: &Arc<dyn Storage>,
        keys: &KeyRing,
        segment_bytes: u64,
        shared: Arc<Shared>,
        lock: Arc<dyn Send + Sync>,
    ) -> Result<Self, LogError> {
        let (s, k) = (storage.clone(), keys.clone());
        let opened = blocking(storage, move || Ok(Disk::open(&s, &k, segment_bytes))).await;
        let (disk, content) = opened.map_err(|source| LogError::Io { op: "open", path: storage.locate("log"), source })??;
        Self::start(storage.clone(), disk, content, shared, lock)
    }

    async fn write(&self, records: Vec<Record>) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.send(records, Done::Reply(tx)).await?;
        rx.await.map_err(|_| gone())?
    }

    async fn send(&self, records: Vec<Record>, done: Done) -> io::Result<()> {
        let bytes = records.iter().map(size_of).sum();
        self.shared.more_waits(bytes);
        self.queue.send(Work::Write(Write { records, bytes, done })).await.map_err(|_| gone())
    }

    /// A handle that does not keep the writer running.
    pub(crate) fn weak(&self) -> WeakLog {
        WeakLog { content: self.content.clone(), queue: self.queue.downgrade() }
    }
}

/// The log, for those who must not keep it open.
#[derive(Clone)]
pub(crate) struct WeakLog {
    content: Arc<Mutex<Content>>,
    queue: mpsc::WeakSender<Work>,
}

impl WeakLog {
    /// Whether the entries in memory after `index` take more than `limit` bytes.
    pub(crate) fn exceeds(&self, index: Option<u64>, limit: u64) -> bool {
        let content = lock(&self.content);
        let first = index.map_or(0, |i| i + 1);
        content.bytes > limit && content.entries.range(first..).map(|(_, e)| entry_size(e) as u64).sum::<u64>() > limit
    }

    /// The entry up to which everything must go, so that what is left takes at most `keep` bytes; `None` if it does already.
    pub(crate) fn excess(&self, keep: u64) -> Option<u64> {
        let content = lock(&self.content);
        if content.bytes <= keep {
            return None;
        }
        let mut bytes = 0;
        for (index, e) in content.entries.iter().rev() {
            bytes += entry_size(e) as u64;
            if bytes > keep {
                return Some(*index);
            }
        }
        None
    }

    /// Writes everything anew under `key`; nothing under another key remains.
    pub(crate) async fn rekey(&self, key: Key) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        let queue = self.queue.upgrade().ok_or_else(gone)?;
        queue.send(Work::Rekey(key, tx)).await.map_err(|_| gone())?;
        drop(queue);
        rx.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the raft log's writer has stopped")
}

impl RaftLogReader<TypeConfig> for Reader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(lock(&self.content).entries.range(bounds(&range)).map(|(_, e)| e.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(lock(&self.content).vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let content = lock(&self.content);
        let mut out = Vec::new();
        let mut bytes = 0;
        if start < end {
            for e in content.entries.range(start..end).map(|(_, e)| e) {
                bytes += entry_size(e);
                if !out.is_empty() && bytes > BATCH_BYTES {
                    break;
                }
                out.push(e.clone());
            }
        }
        Ok(out)
    }
}

/// A range whose start is not after its end, as `BTreeMap::range` demands.
fn bounds<RB: RangeBounds<u64>>(range: &RB) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&s) => s,
        Bound::Excluded(&s) => s.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&e) => e.saturating_add(1),
        Bound::Excluded(&e) => e,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Reader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let c = lock(&self.content);
        Ok(LogState { last_purged_log_id: c.purged, last_log_id: c.last() })
    }

    async fn get_log_reader(&mut self) -> Reader {
        Reader { content: self.content.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(vec![Record::Vote(*vote)]).await?;
        lock(&self.content).vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // The writer takes it along with whatever is written next.
        lock(&self.content).committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(lock(&self.content).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut c = lock(&self.content);
            for e in entries {
                let r = Record::Entry(e);
                c.take(r.clone()).map_err(io::Error::other)?;
                records.push(r);
            }
        }
        self.send(records, Done::Flushed(callback)).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        lock(&self.content).take(Record::Truncate(last_log_id)).map_err(io::Error::other)?;
        self.write(vec![Record::Truncate(last_log_id)]).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        lock(&self.content).take(Record::Purge(log_id)).map_err(io::Error::other)?;
        self.write(vec![Record::Purge(log_id)]).await
    }
}

#[cfg(test)]
mod tests;
