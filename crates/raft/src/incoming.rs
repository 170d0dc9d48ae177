//! A snapshot being received: at most one, written to a file as it comes. Must never keep more than one part in memory.

use std::io::{self, Write};
use std::sync::Arc;

use crate::HandleError;
use crate::config::SnapshotMeta;
use crate::network::SnapshotPart;
use crate::snapshot_file::Writer;
use crate::snapshots::{Handle, INCOMING, Snapshots};
use crate::storage::blocking;

/// What was received so far.
struct Begun {
    id: Vec<u8>,
    meta: SnapshotMeta,
    next: u64,
    writer: Writer,
}

/// What came of a part.
pub(crate) enum Taken {
    /// This part is wanted next.
    Wants(u64),
    /// It was the last; the snapshot is whole.
    Whole(Handle),
}

/// The place for a snapshot being received. A sender that was cut off goes on where it was.
#[derive(Default)]
pub(crate) struct Incoming(Option<Begun>);

impl Incoming {
    /// Takes a part in.
    pub(crate) async fn take(&mut self, snapshots: &Arc<Snapshots>, part: &SnapshotPart) -> Result<Taken, HandleError> {
        let failed = |e: io::Error| HandleError::Failed(format!("receive snapshot: {e}"));
        let known = self.0.as_ref().is_some_and(|b| b.id == part.id.0 && b.meta == part.meta);
        let next = if known { self.0.as_ref().map_or(0, |b| b.next) } else { 0 };
        if part.number != next {
            return Ok(Taken::Wants(next));
        }
        let begun = self.0.take().filter(|_| known);
        let (s, meta, id, data) = (snapshots.clone(), part.meta.clone(), part.id.0.clone(), part.data.0.clone());
        let last = part.number + 1 >= part.parts;
        // After a failure nothing is kept, and the sender begins anew.
        let begun = blocking(&snapshots.storage, move || {
            let mut b = match begun {
                Some(b) => b,
                None => {
                    let writer = Writer::create(&*s.storage, INCOMING, &s.keys().current, &meta)?;
                    Begun { id, meta, next: 0, writer }
                }
            };
            b.writer.write_all(&data)?;
            b.next += 1;
            if last {
                b.writer.finish()?;
                return Ok(None);
            }
            Ok(Some(b))
        })
        .await
        .map_err(failed)?;
        self.0 = begun;
        match &self.0 {
            Some(b) => Ok(Taken::Wants(b.next)),
            None => Ok(Taken::Whole(snapshots.received().await.map_err(failed)?)),
        }
    }
}
