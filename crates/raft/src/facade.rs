//! The facade: one member of the group. Must never expose a type of the consensus library.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{Mutex, watch};

use crate::config::{Blob, Inner, NodeInfo, Snapshot, TypeConfig};
use crate::incoming::{Incoming, Taken};
use crate::log::{Shared, WeakLog};
use crate::monitor::Health;
use crate::network::{PartAnswer, SnapshotPart, decode, encode};
use crate::snapshots::Snapshots;
use crate::{HandleError, Leadership, MAX_PROPOSAL_BYTES, MessageKind, Peer, ProposeError, RaftConfig};

/// With more bytes or writes than this waiting for the disk, more is refused: memory is bounded, and the writer's queue
/// never fills, on which the core would wait.
const MAX_WAITING: (u64, u64) = (64 * 1024 * 1024, 512);

/// One member of the raft group. Clones share it.
#[derive(Clone)]
pub struct Raft {
    pub(crate) raft: Inner,
    pub(crate) config: RaftConfig,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) heard: Arc<watch::Sender<Option<(u64, u64)>>>,
    pub(crate) incoming: Arc<Mutex<Incoming>>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) log: WeakLog,
    pub(crate) disk: Arc<Shared>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) removed: watch::Receiver<bool>,
    pub(crate) snapshot_every: Arc<AtomicU64>,
    /// Ends the monitor when the last clone is dropped.
    pub(crate) _alive: Arc<watch::Sender<()>>,
}

impl Raft {
    /// Begins a new group of which this member is the only one.
    ///
    /// # Errors
    /// [`ProposeError::Members`] if this member already belongs to a group.
    pub async fn initialize(&self, me: &Peer) -> Result<(), ProposeError> {
        let nodes = BTreeMap::from([(me.id, info(me))]);
        self.raft.initialize(nodes).await.map_err(|e| ProposeError::Members(e.to_string()))
    }

    /// Whether this member has a log, that is, belongs to a group.
    pub async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(false)
    }

    /// Proposes bytes; returns their index in the log and the state machine's response after they were agreed on and applied
    /// here.
    ///
    /// # Errors
    /// [`ProposeError`]. After [`ProposeError::NoQuorum`] the bytes may still be applied later.
    pub async fn propose(&self, bytes: Vec<u8>) -> Result<(u64, Vec<u8>), ProposeError> {
        if bytes.len() > MAX_PROPOSAL_BYTES {
            return Err(ProposeError::TooLarge { bytes: bytes.len() });
        }
        self.room().map_err(ProposeError::Stalled)?;
        let r = self.in_time(self.raft.client_write(Blob(bytes))).await?.map_err(|e| self.write_error(e))?;
        Ok((r.log_id.index, r.data.0))
    }

    /// Makes sure that what this member has applied contains everything acknowledged before this call (ReadIndex).
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] or [`ProposeError::NoQuorum`].
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        match self.in_time(self.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await? {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => Err(not_leader(f)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ProposeError::NoQuorum),
            Err(RaftError::Fatal(f)) => Err(ProposeError::Stopped(f.to_string())),
        }
    }

    /// Handles a message from another member.
    ///
    /// # Errors
    /// [`HandleError`] if it is not a message of ours or this member has failed.
    pub async fn handle(&self, kind: MessageKind, bytes: &[u8]) -> Result<Vec<u8>, HandleError> {
        let bad = |cause| HandleError::Decode { kind: kind.name(), cause };
        let failed = |e: &dyn std::fmt::Display| HandleError::Failed(e.to_string());
        let answer = match kind {
            MessageKind::Append => {
                let request: AppendEntriesRequest<TypeConfig> = decode(bytes).map_err(bad)?;
                // Only a leader sends these. A core that waits for its disk learns of a new leader late; callers should not.
                let leader = (request.vote.leader_id.term, request.vote.leader_id.node_id);
                self.heard.send_if_modified(|h| {
                    let newer = h.is_none_or(|h| h.0 < leader.0);
                    if newer {
                        *h = Some(leader);
                    }
                    newer
                });
                if !request.entries.is_empty() {
                    self.room().map_err(HandleError::Failed)?;
                }
                encode(&self.raft.append_entries(request).await.map_err(|e| failed(&e))?)
            }
            MessageKind::Vote => encode(&self.raft.vote(decode(bytes).map_err(bad)?).await.map_err(|e| failed(&e))?),
            MessageKind::PreVote => encode(&self.raft.pre_vote(decode(bytes).map_err(bad)?).await.map_err(|e| failed(&e))?),
            MessageKind::Transfer => {
                encode(&self.raft.handle_transfer_leader(decode(bytes).map_err(bad)?).await.map_err(|e| failed(&e))?)
            }
            MessageKind::Snapshot => encode(&self.take_part(decode(bytes).map_err(bad)?).await?),
        };
        answer.map_err(HandleError::Failed)
    }

    /// Whether what waits for the disk leaves room for more.
    fn room(&self) -> Result<(), String> {
        let (bytes, writes) = self.disk.waiting();
        if bytes < MAX_WAITING.0 && writes < MAX_WAITING.1 {
            return Ok(());
        }
        let cause = self.disk.trouble().and_then(|(_, cause)| cause).unwrap_or_else(|| "it is too slow".into());
        Err(format!("{bytes} bytes wait for the disk of this manager: {cause}"))
    }

    async fn take_part(&self, part: SnapshotPart) -> Result<PartAnswer, HandleError> {
        // Held to the end: the file must not be begun anew while it is installed.
        let mut incoming = self.incoming.lock().await;
        let whole = match incoming.take(&self.snapshots, &part).await? {
            Taken::Wants(next) => return Ok(PartAnswer { vote: part.vote, next }),
            Taken::Whole(h) => h,
        };
        let snapshot = Snapshot { meta: part.meta, snapshot: whole };
        let r = self.raft.install_full_snapshot(part.vote, snapshot).await.map_err(|e| HandleError::Failed(e.to_string()))?;
        Ok(PartAnswer { vote: r.vote, next: part.parts })
    }

    /// Stops this member. What it has acknowledged is on disk.
    pub async fn shutdown(&self) {
        self.disk.stop();
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "raft: shutdown");
        }
    }

    pub(crate) async fn in_time<T>(&self, f: impl Future<Output = T>) -> Result<T, ProposeError> {
        tokio::time::timeout(self.config.propose_timeout, f).await.map_err(|_| ProposeError::NoQuorum)
    }

    pub(crate) fn write_error(&self, e: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ProposeError {
        match e {
            RaftError::APIError(ClientWriteError::ForwardToLeader(f)) => not_leader(f),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => ProposeError::NoQuorum,
            RaftError::APIError(e) => ProposeError::Members(e.to_string()),
            RaftError::Fatal(f) => ProposeError::Stopped(f.to_string()),
        }
    }
}

fn not_leader(f: ForwardToLeader<TypeConfig>) -> ProposeError {
    let leader = f.leader_id.zip(f.leader_node).map(|(id, n)| peer(id, &n));
    ProposeError::NotLeader { leader }
}

pub(crate) fn info(p: &Peer) -> NodeInfo {
    NodeInfo { node_id: p.node_id.clone(), addr: p.addr.clone() }
}

pub(crate) fn peer(id: u64, n: &NodeInfo) -> Peer {
    Peer { id, node_id: n.node_id.clone(), addr: n.addr.clone() }
}
