//! The files of the log, used by the writer alone. Must never acknowledge anything before the sync.
//!
//! After a failed write the open segment is not written to again: its torn end is cut off, durably, and the next frame goes to
//! a new segment, because what the kernel holds of a file after a failed sync is unknown.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use super::LogError;
use super::frame::{self, Place, Record};
use super::header::{HEAD, Header, VERSION};
use super::replay::{self, Content};
use crate::keys::{Key, KeyId, KeyRing};
use crate::storage::read_all;
use crate::{Storage, StorageFile};

const DIR: &str = "log";
const SUFFIX: &str = ".seg";
const NEW: &str = "log/new.tmp";

/// An older, closed segment.
#[derive(Debug)]
struct Closed {
    number: u64,
    highest: u64,
    size: u64,
    key: KeyId,
}

/// The segment that is written to.
#[derive(Debug)]
struct Open {
    file: Box<dyn StorageFile>,
    number: u64,
    size: u64,
    highest: u64,
    key: KeyId,
    /// Something was written after `size` that was not acknowledged.
    torn: bool,
}

/// The open segment and the closed ones before it.
#[derive(Debug)]
pub(crate) struct Disk {
    storage: Arc<dyn Storage>,
    key: Key,
    closed: VecDeque<Closed>,
    open: Option<Open>,
    segment_bytes: u64,
}

fn segment_name(number: u64) -> String {
    format!("{DIR}/{number:016}{SUFFIX}")
}

pub(crate) fn fail<'a>(
    storage: &'a Arc<dyn Storage>,
    op: &'static str,
    name: &'a str,
) -> impl FnOnce(io::Error) -> LogError + 'a {
    move |source| LogError::Io { op, path: storage.locate(name), source }
}

impl Disk {
    /// Opens the log (made if absent) and reads it. The caller holds the lock of the storage.
    pub(crate) fn open(storage: &Arc<dyn Storage>, keys: &KeyRing, segment_bytes: u64) -> Result<(Self, Content), LogError> {
        storage.create_dir(DIR).map_err(fail(storage, "create directory", DIR))?;
        let mut numbers = Vec::new();
        for name in storage.list(DIR).map_err(fail(storage, "list directory", DIR))? {
            if let Some(n) = name.strip_suffix(SUFFIX).and_then(|n| n.parse::<u64>().ok()) {
                numbers.push(n);
            } else if NEW.ends_with(&name) {
                storage.remove(NEW).map_err(fail(storage, "remove", NEW))?;
            }
        }
        numbers.sort_unstable();
        let mut content = Content::default();
        let mut disk =
            Self { storage: storage.clone(), key: keys.current.clone(), closed: VecDeque::new(), open: None, segment_bytes };
        for (i, &number) in numbers.iter().enumerate() {
            let name = segment_name(number);
            let path = storage.locate(&name);
            if i > 0 && numbers[i - 1] + 1 != number {
                let what = format!("the segment before it is missing (number {})", number - 1);
                return Err(LogError::Damaged { path, offset: 0, what });
            }
            let is_last = i + 1 == numbers.len();
            let file = storage.open(&name).map_err(fail(storage, "open", &name))?;
            let bytes = read_all(&*file).map_err(fail(storage, "read", &name))?;
            let read = replay::segment(&path, number, &bytes, is_last, keys, &mut content)?;
            if is_last {
                let torn = read.good < bytes.len() as u64 || read.good == 0;
                disk.open = Some(Open { file, number, size: read.good, highest: read.highest, key: read.key, torn });
            } else {
                disk.closed.push_back(Closed { number, highest: read.highest, size: read.good, key: read.key });
            }
        }
        content.finish().map_err(|what| LogError::Damaged { path: storage.locate(DIR), offset: 0, what })?;
        // Whatever was read may be acted on from now on, so it must not vanish with the next loss of power.
        if let Some(o) = &disk.open {
            o.file.sync().map_err(fail(storage, "sync", DIR))?;
        }
        storage.sync_dir(DIR).map_err(fail(storage, "sync directory", DIR))?;
        disk.mend()?;
        Ok((disk, content))
    }

    /// Writes the records as one frame and syncs it. `head` is what older segments may hold besides entries; it begins a new
    /// segment. After an error nothing of `records` counts as written, though it may be found after a crash; the same or other
    /// records may be given again.
    pub(crate) fn commit(&mut self, records: &[Record], head: &[Record]) -> Result<(), LogError> {
        self.mend()?;
        let key = self.key.id();
        if self.open.as_ref().is_none_or(|o| o.size >= self.segment_bytes || o.key != key) {
            self.begin(head)?;
        }
        let Some(open) = &mut self.open else { return Err(self.none_open()) };
        let mut buf = Vec::new();
        let name = segment_name(open.number);
        let storage = &self.storage;
        let place = Place { segment: open.number, offset: open.size };
        frame::encode(records, &self.key, place, &mut buf).map_err(fail(storage, "encode", &name))?;
        open.torn = true;
        open.file.write_at(open.size, &buf).map_err(fail(storage, "append to", &name))?;
        open.file.sync().map_err(fail(storage, "sync", &name))?;
        open.torn = false;
        open.size += buf.len() as u64;
        open.highest = open.highest.max(highest(records));
        Ok(())
    }

    fn none_open(&self) -> LogError {
        fail(&self.storage, "append to", DIR)(io::Error::other("no segment is open"))
    }

    /// Begins a new segment with its head and first frame.
    fn begin(&mut self, head: &[Record]) -> Result<(), LogError> {
        let number = self.open.as_ref().map(|o| o.number).or(self.closed.back().map(|c| c.number)).map_or(1, |n| n + 1);
        self.close();
        let name = segment_name(number);
        let storage = self.storage.clone();
        let file = storage.create(&name).map_err(fail(&storage, "create", &name))?;
        // A size of nothing: until the first frame is synced, mending removes the file again.
        let open = self.open.insert(Open { file, number, size: 0, highest: 0, key: self.key.id(), torn: true });
        let mut buf = Header { version: VERSION, key: open.key, number }.encode().to_vec();
        let place = Place { segment: number, offset: HEAD as u64 };
        frame::encode(head, &self.key, place, &mut buf).map_err(fail(&storage, "encode", &name))?;
        open.file.write_at(0, &buf).map_err(fail(&storage, "append to", &name))?;
        open.file.sync().map_err(fail(&storage, "sync", &name))?;
        storage.sync_dir(DIR).map_err(fail(&storage, "sync directory", DIR))?;
        open.size = buf.len() as u64;
        open.torn = false;
        Ok(())
    }

    fn close(&mut self) {
        if let Some(o) = self.open.take() {
            self.closed.push_back(Closed { number: o.number, highest: o.highest, size: o.size, key: o.key });
        }
    }

    /// Cuts off what a failed write left, and closes that segment.
    fn mend(&mut self) -> Result<(), LogError> {
        let Some(open) = self.open.as_ref().filter(|o| o.torn) else { return Ok(()) };
        let name = segment_name(open.number);
        let storage = &self.storage;
        if open.size == 0 {
            match storage.remove(&name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(storage, "remove", &name)(e)),
                _ => {}
            }
            storage.sync_dir(DIR).map_err(fail(storage, "sync directory", DIR))?;
            self.open = None;
            return Ok(());
        }
        open.file.truncate(open.size).map_err(fail(storage, "truncate", &name))?;
        open.file.sync().map_err(fail(storage, "sync", &name))?;
        self.close();
        Ok(())
    }

    /// Drops the oldest segment if it holds no entry after `purged`; whether it did.
    pub(crate) fn drop_one(&mut self, purged: u64) -> Result<bool, LogError> {
        self.drop_oldest(|c| c.highest <= purged)
    }

    fn drop_oldest(&mut self, unneeded: impl Fn(&Closed) -> bool) -> Result<bool, LogError> {
        let Some(c) = self.closed.front().filter(|c| unneeded(c)) else { return Ok(false) };
        let name = segment_name(c.number);
        match self.storage.remove(&name) {
            // Removed by an attempt before this one that failed later on.
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(&self.storage, "remove", &name)(e)),
            _ => {}
        }
        self.storage.sync_dir(DIR).map_err(fail(&self.storage, "sync directory", DIR))?;
        self.closed.pop_front();
        Ok(true)
    }

    /// Writes everything anew into one segment under `key` and drops the others. `frames` is all that the log holds; the first
    /// must void what came before it. A crash leaves the old or the new.
    pub(crate) fn rewrite(&mut self, key: &Key, frames: &[Vec<Record>]) -> Result<(), LogError> {
        self.mend()?;
        self.close();
        let number = self.closed.back().map_or(1, |c| c.number + 1);
        let storage = self.storage.clone();
        let file = storage.create(NEW).map_err(fail(&storage, "create", NEW))?;
        let mut size = 0;
        let mut buf = Header { version: VERSION, key: key.id(), number }.encode().to_vec();
        for records in frames {
            let place = Place { segment: number, offset: size + buf.len() as u64 };
            frame::encode(records, key, place, &mut buf).map_err(fail(&storage, "encode", NEW))?;
            file.write_at(size, &buf).map_err(fail(&storage, "append to", NEW))?;
            size += buf.len() as u64;
            buf.clear();
        }
        file.sync().map_err(fail(&storage, "sync", NEW))?;
        let name = segment_name(number);
        storage.rename(NEW, &name).map_err(fail(&storage, "rename", &name))?;
        // From here on the new segment may be found after a crash, so the old ones must not be written to any more.
        let highest = frames.iter().map(|f| highest(f)).max().unwrap_or(0);
        self.key = key.clone();
        self.closed.push_back(Closed { number, highest, size, key: key.id() });
        storage.sync_dir(DIR).map_err(fail(&storage, "sync directory", DIR))?;
        while self.drop_oldest(|c| c.number < number)? {}
        Ok(())
    }

    /// Segments, their bytes, and the keys they are sealed with.
    pub(crate) fn usage(&self) -> (u64, u64, BTreeSet<KeyId>) {
        let open = self.open.iter().map(|o| (o.size, o.key));
        let all: Vec<_> = self.closed.iter().map(|c| (c.size, c.key)).chain(open).collect();
        (all.len() as u64, all.iter().map(|(s, _)| s).sum(), all.into_iter().map(|(_, k)| k).collect())
    }
}

fn highest(records: &[Record]) -> u64 {
    records.iter().map(|r| if let Record::Entry(e) = r { e.log_id.index } else { 0 }).max().unwrap_or(0)
}
