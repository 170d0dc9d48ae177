//! Messages between members: encoding, and the way out through the caller's [`Transport`]. Must never open a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Blob, NodeInfo, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::snapshots::Handle;
use crate::storage::blocking;
use crate::{Peer, Storage, TransportError};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Entries or a heartbeat.
    Append,
    /// Request for a vote.
    Vote,
    /// Question whether a vote would be granted.
    PreVote,
    /// Part of a snapshot.
    Snapshot,
    /// The leader hands over.
    Transfer,
}

impl MessageKind {
    /// The number that stands for it on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Vote => 2,
            Self::PreVote => 3,
            Self::Snapshot => 4,
            Self::Transfer => 5,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Append, Self::Vote, Self::PreVote, Self::Snapshot, Self::Transfer].into_iter().find(|k| k.code() == code)
    }

    /// Name for logs and errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::Snapshot => "snapshot",
            Self::Transfer => "transfer",
        }
    }
}

/// The way to other members, given by the caller.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends one message and waits for its answer. The caller of this drops the future when it has waited long enough.
    ///
    /// # Errors
    /// [`TransportError`] if there is no answer.
    async fn call(&self, target: &Peer, kind: MessageKind, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError>;
}

/// A part of a snapshot: one chunk of its file, well below the wire's message limit.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// Tells this snapshot from any other.
    pub(crate) id: Blob,
    /// Number of this part, from 0.
    pub(crate) number: u64,
    /// How many there are.
    pub(crate) parts: u64,
    pub(crate) data: Blob,
}

/// The answer to a part: the receiver's vote, and the part it wants next. A receiver that has the beginning from before wants
/// a later one; one that lost it wants the first.
#[derive(Serialize, Deserialize)]
pub(crate) struct PartAnswer {
    pub(crate) vote: Vote,
    pub(crate) next: u64,
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    // Room for a heartbeat, which is most of what is sent.
    let mut out = Vec::with_capacity(512);
    rmp_serde::encode::write_named(&mut out, value).map_err(|e| e.to_string())?;
    Ok(out)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|e| e.to_string())
}

/// Entries are answered when the member's disk has them: one that is slow must not be sent them again and again for nothing.
/// The consensus library would give them the time of a heartbeat, and gives heartbeats no more than that itself.
const APPEND: Duration = Duration::from_secs(1);

/// Makes connections to members.
pub(crate) struct Factory {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) directory: Directory,
    pub(crate) removed: Arc<watch::Sender<bool>>,
}

/// Where members are reached now; a connection is made before its member's address changes.
pub(crate) type Directory = Arc<Mutex<BTreeMap<u64, Peer>>>;

/// The way to one member.
pub(crate) struct Client {
    transport: Arc<dyn Transport>,
    storage: Arc<dyn Storage>,
    directory: Directory,
    removed: Arc<watch::Sender<bool>>,
    target: Peer,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &NodeInfo) -> Client {
        let target = Peer { id: target, node_id: node.node_id.clone(), addr: node.addr.clone() };
        Client {
            transport: self.transport.clone(),
            storage: self.storage.clone(),
            directory: self.directory.clone(),
            removed: self.removed.clone(),
            target,
        }
    }
}

impl Client {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: MessageKind,
        request: &Q,
        option: &RPCOption,
    ) -> Result<A, RPCError<TypeConfig>> {
        let bytes = encode(request).map_err(|e| RPCError::Network(NetworkError::from_string(e)))?;
        let known = self.directory.lock().unwrap_or_else(PoisonError::into_inner).get(&self.target.id).cloned();
        let target = known.unwrap_or_else(|| self.target.clone());
        let call = self.transport.call(&target, kind, bytes);
        let limit = match kind {
            MessageKind::Append => option.hard_ttl().max(APPEND),
            _ => option.hard_ttl(),
        };
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => decode(&answer).map_err(|e| RPCError::Network(NetworkError::from_string(e))),
            Ok(Err(e)) => {
                if matches!(e, TransportError::Removed { .. }) {
                    self.removed.send_replace(true);
                }
                Err(RPCError::Unreachable(Unreachable::new(&e)))
            }
            Err(_) => Err(RPCError::Unreachable(Unreachable::from_string(format!(
                "{} to {} timed out after {limit:?}",
                kind.name(),
                target.addr,
            )))),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        option: &RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, RPCError<TypeConfig>> {
        let handle = snapshot.snapshot;
        let parts = handle.chunks();
        let (mut number, mut restarts) = (0, 0);
        loop {
            let from = handle.clone();
            let data = blocking(&self.storage, move || from.chunk(number))
                .await
                .map_err(|e| RPCError::Network(NetworkError::from_string(format!("read snapshot: {e}"))))?;
            let part = SnapshotPart {
                vote,
                meta: snapshot.meta.clone(),
                id: Blob(handle.id().to_vec()),
                number,
                parts,
                data: Blob(data),
            };
            let answer: PartAnswer = self.call(MessageKind::Snapshot, &part, option).await?;
            if answer.next >= parts || answer.vote > vote {
                return Ok(SnapshotResponse { vote: answer.vote });
            }
            // Twice is enough for a receiver that restarted; more often something is wrong, and the next attempt begins anew.
            restarts += u32::from(answer.next <= number);
            if restarts > 2 {
                return Err(RPCError::Network(NetworkError::from_string("the receiver of the snapshot does not get on")));
            }
            number = answer.next;
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Handle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(MessageKind::Append, &rpc, &option).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(MessageKind::Vote, &rpc, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(MessageKind::PreVote, &rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = std::pin::pin!(self.send_snapshot(vote, snapshot, &option));
        match select(send, std::pin::pin!(cancel)).await {
            Either::Left((Ok(r), _)) => Ok(r),
            Either::Left((Err(RPCError::Unreachable(e)), _)) => Err(StreamingError::Unreachable(e)),
            Either::Left((Err(e), _)) => Err(StreamingError::Network(NetworkError::from_string(e))),
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(MessageKind::Transfer, &req, &option).await
    }
}
