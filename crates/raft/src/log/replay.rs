//! Reading the log back: from segment files to what they add up to. Pure over the bytes it is given. Must never guess: what
//! cannot be read is either the torn end of the last segment or damage.

use std::collections::BTreeMap;
use std::path::Path;

use openraft::EntryPayload;

use super::LogError;
use super::frame::{self, Place, Record};
use super::header::{HEAD, Header, VERSION};
use crate::config::{Entry, LogId, Vote};
use crate::keys::{KeyId, KeyRing};

/// What the records of a log add up to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Content {
    /// Entries after `purged`, without a gap.
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// Last purged entry.
    pub(crate) purged: Option<LogId>,
    /// Vote of this member.
    pub(crate) vote: Option<Vote>,
    /// Last index known to be agreed on.
    pub(crate) committed: Option<LogId>,
    /// Roughly what the entries take, in bytes.
    pub(crate) bytes: u64,
}

/// Roughly what an entry takes in memory and on disk, in bytes.
pub(crate) fn entry_size(e: &Entry) -> usize {
    match &e.payload {
        EntryPayload::Normal(b) => b.0.len() + 64,
        _ => 512,
    }
}

fn size_of_all(entries: &BTreeMap<u64, Entry>) -> u64 {
    entries.values().map(|e| entry_size(e) as u64).sum()
}

impl Content {
    fn drop_before(&mut self, index: u64) {
        let kept = self.entries.split_off(&index);
        self.bytes -= size_of_all(&std::mem::replace(&mut self.entries, kept));
    }

    /// Takes one record in. An error says why it cannot follow what came before.
    pub(crate) fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Entry(e) => {
                let index = e.log_id.index;
                if let Some((&last, _)) = self.entries.last_key_value()
                    && index != last + 1
                {
                    return Err(format!("entry {index} follows entry {last}"));
                }
                self.bytes += entry_size(&e) as u64;
                self.entries.insert(index, e);
            }
            Record::Truncate(after) => {
                let keep = after.map_or(0, |id| id.index + 1);
                let gone = self.entries.split_off(&keep);
                self.bytes -= size_of_all(&gone);
            }
            Record::Purge(id) => {
                if self.purged.is_none_or(|p| p.index < id.index) {
                    self.purged = Some(id);
                }
                self.drop_before(id.index + 1);
            }
            Record::Vote(v) => self.vote = Some(v),
            Record::Committed(c) => self.committed = c,
        }
        Ok(())
    }

    /// The last entry, or the last purged one.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, e)| e.log_id).or(self.purged)
    }

    /// Checks the whole after the last record and drops what is no longer needed.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some(p) = self.purged {
            self.drop_before(p.index + 1);
        }
        let expected = self.purged.map_or(0, |p| p.index + 1);
        if let Some((&first, _)) = self.entries.first_key_value()
            && first != expected
        {
            return Err(format!("the log begins with entry {first} instead of {expected}"));
        }
        // The committed index is written without a sync of its own, so it is a hint: one that points past the log is dropped.
        if self.committed.map(|c| c.index) > self.last().map(|l| l.index) {
            self.committed = None;
        }
        Ok(())
    }
}

/// What was read of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Length of its good part; 0 if not even its head was written.
    pub(crate) good: u64,
    /// The highest index of an entry in it; 0 if there is none.
    pub(crate) highest: u64,
    /// The key it is sealed with.
    pub(crate) key: KeyId,
}

/// Reads the segment with this number into `content`.
///
/// # Errors
/// [`LogError::Damaged`] if something is bad and either a good frame comes after it or this is not the last segment;
/// [`LogError::MissingKey`]; [`LogError::Newer`].
pub(crate) fn segment(
    path: &Path,
    number: u64,
    bytes: &[u8],
    is_last: bool,
    keys: &KeyRing,
    content: &mut Content,
) -> Result<Segment, LogError> {
    let damaged = |offset: usize, what: String| LogError::Damaged { path: path.to_path_buf(), offset: offset as u64, what };
    let torn = |offset: usize, what: String| {
        if !is_last {
            return Err(damaged(offset, what));
        }
        if frame::any_after(bytes, offset + 1) {
            return Err(damaged(offset, format!("{what}, and valid records come after it")));
        }
        if offset < bytes.len() {
            tracing::warn!(path = %path.display(), offset, what, "raft log: torn end of the log dropped");
        }
        Ok(offset as u64)
    };
    let Some(header) = Header::decode(bytes) else {
        let good = torn(0, "it does not begin as a segment of the log".into())?;
        return Ok(Segment { good, highest: 0, key: keys.current.id() });
    };
    if header.number != number {
        return Err(damaged(0, format!("it is segment {}", header.number)));
    }
    if header.version > VERSION {
        return Err(LogError::Newer { path: path.to_path_buf(), version: header.version });
    }
    let Some(key) = keys.get(header.key) else {
        return Err(LogError::MissingKey { path: path.to_path_buf(), key: header.key });
    };
    let mut out = Segment { good: 0, highest: 0, key: header.key };
    let mut offset = HEAD;
    while offset < bytes.len() {
        match frame::decode(bytes, key, Place { segment: number, offset: offset as u64 }) {
            Ok((records, next)) => {
                for r in records {
                    if let Record::Entry(e) = &r {
                        out.highest = out.highest.max(e.log_id.index);
                    }
                    content.take(r).map_err(|what| damaged(offset, what))?;
                }
                offset = next;
            }
            Err(what) => {
                torn(offset, what)?;
                break;
            }
        }
    }
    // A head alone was never followed by anything acknowledged; it is written again with its first frame.
    out.good = if offset > HEAD { offset as u64 } else { 0 };
    Ok(out)
}
