//! Repairs on the files of a member that does not run: a new group out of a survivor, a new group out of a backup. Must never
//! drop anything that the survivor has. Each may be repeated after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, Membership};

use crate::config::{Entry, LogId, NodeInfo, SnapshotMeta, StoredMembership, Vote};
use crate::facade::info;
use crate::log::{Content, Disk, Record};
use crate::snapshot_file::{SnapshotFile, Writer};
use crate::snapshots::CURRENT;
use crate::{KeyRing, LogError, OpenError, Peer, Storage};

/// A repair writes one frame; its segment is closed when the member opens the log.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

fn fail(storage: &dyn Storage, op: &'static str) -> impl FnOnce(io::Error) -> LogError + use<> {
    let path = storage.locate("");
    move |source| LogError::Io { op, path, source }
}

fn alone(me: &Peer) -> Result<Membership<u64, NodeInfo>, OpenError> {
    let nodes: BTreeMap<u64, NodeInfo> = BTreeMap::from([(me.id, info(me))]);
    Membership::new(vec![BTreeSet::from([me.id])], nodes).map_err(|e| OpenError::Start(e.to_string()))
}

fn open(storage: &Arc<dyn Storage>, keys: &KeyRing) -> Result<(Box<dyn Send + Sync>, Disk, Content), OpenError> {
    storage.create_dir("").map_err(fail(&**storage, "create directory"))?;
    let lock = storage.lock().map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => io::Error::other("in use by a running manager; stop it first"),
        _ => e,
    });
    let lock = lock.map_err(fail(&**storage, "lock"))?;
    let (disk, content) = Disk::open(storage, keys, SEGMENT_BYTES)?;
    Ok((lock, disk, content))
}

/// Makes a group of one out of a member whose group has lost its quorum. Everything in its log and snapshot stays, agreed on or
/// not; the only member is `me`, whose id must be fresh, never used before in this group. The member opened with that id
/// elects itself. The other members of the old group must never be started again.
///
/// # Errors
/// [`OpenError`] if the files cannot be read or written, or belong to a running member or to none.
pub fn force_single(storage: &Arc<dyn Storage>, keys: &KeyRing, me: &Peer) -> Result<(), OpenError> {
    let (_lock, mut disk, mut content) = open(storage, keys)?;
    let snapshot = SnapshotFile::open(storage, CURRENT, keys)?.and_then(|s| s.meta.last_log_id);
    let mut records = Vec::new();
    // A snapshot that was installed just before the end: its log is not cleaned up yet.
    if let Some(s) = snapshot.filter(|s| content.last().is_none_or(|l| l.index < s.index)) {
        records.push(Record::Purge(s));
    }
    for r in &records {
        content.take(r.clone()).map_err(OpenError::Start)?;
    }
    let Some(last) = content.last() else {
        return Err(OpenError::Start("there is neither a log nor a snapshot to make a group of".into()));
    };
    let term = content.vote.map_or(0, |v| v.leader_id.term).max(last.leader_id.term) + 1;
    let leader = LeaderId { term, node_id: me.id };
    let entry = Entry { log_id: LogId::new(leader, last.index + 1), payload: EntryPayload::Membership(alone(me)?) };
    records.push(Record::Entry(entry));
    records.push(Record::Vote(Vote::new(term, me.id)));
    // One frame: all of it or nothing.
    disk.commit(&records, &head(&content))?;
    Ok(())
}

fn head(content: &Content) -> Vec<Record> {
    let vote = content.vote.map(Record::Vote);
    vote.into_iter().chain(content.purged.map(Record::Purge)).chain([Record::Committed(content.committed)]).collect()
}

/// Makes a new group of one whose state machine starts from `state`, the bytes of a [`crate::StateMachine::snapshot`], as it was
/// after the entry `index`. The new group's log goes on after it.
///
/// # Errors
/// [`OpenError`] if there is a log already, or the files cannot be written.
pub fn found_from(
    storage: &Arc<dyn Storage>,
    keys: &KeyRing,
    me: &Peer,
    index: u64,
    state: &mut dyn Read,
) -> Result<(), OpenError> {
    let (_lock, mut disk, content) = open(storage, keys)?;
    if content.last().is_some() || content.vote.is_some() {
        return Err(OpenError::Start("there is a log already: leave the swarm first, or name an empty directory".into()));
    }
    let log_id = LogId::new(LeaderId { term: 1, node_id: me.id }, index);
    let meta = SnapshotMeta { last_log_id: Some(log_id), last_membership: StoredMembership::new(Some(log_id), alone(me)?) };
    let mut write = || {
        let mut w = Writer::create(&**storage, "snapshot.building", &keys.current, &meta)?;
        io::copy(state, &mut w)?;
        w.finish()?;
        storage.rename("snapshot.building", CURRENT)?;
        storage.sync_dir("")
    };
    write().map_err(fail(&**storage, "write snapshot into"))?;
    // The log last: as long as it is empty this may be done again.
    disk.commit(&[Record::Purge(log_id), Record::Vote(Vote::new(1, me.id))], &[Record::Committed(None)])?;
    Ok(())
}
