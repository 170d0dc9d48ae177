//! The ways to other managers, and when each was last heard. A trait, so that a simulation can be the network. Must never hold
//! more connections than there are managers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use skep_raft::{MessageKind, Peer, Transport, TransportError};
use skep_wire::{Client, ControlAnswer, ControlCall, Payload, RaftMessage, Tls, WireError};
use tokio::time::Instant;

/// More managers than this no swarm has; beyond it the oldest knowledge is dropped.
const MOST: usize = 64;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Entries are inserted and removed whole.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a manager answers to the raft messages of a member that was removed for good.
pub(crate) const REMOVED: &str = "this manager was removed from the swarm";

/// The error for a peer's refusal of a raft message.
#[must_use]
pub fn refused(addr: String, cause: String) -> TransportError {
    if cause == REMOVED { TransportError::Removed { addr } } else { TransportError::Refused { addr, cause } }
}

/// How a manager calls other managers.
#[async_trait]
pub trait Links: Send + Sync + 'static {
    /// Sends a raft message. The caller limits the time.
    ///
    /// # Errors
    /// [`TransportError`] if there is no answer.
    async fn raft(&self, target: &Peer, message: RaftMessage) -> Result<Vec<u8>, TransportError>;

    /// Asks whatever manager listens at `addr`.
    ///
    /// # Errors
    /// [`WireError`] if there is no answer within `within`.
    async fn control(&self, addr: &str, call: ControlCall, within: Duration) -> Result<ControlAnswer, WireError>;
}

/// Real connections, kept open.
pub struct TlsLinks {
    tls: Tls,
    open: Mutex<BTreeMap<(String, String), Client>>,
}

impl TlsLinks {
    /// Ways that use these certificates.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self { tls, open: Mutex::default() }
    }

    /// The connection to a manager; with an empty node id to whatever manager listens there.
    fn get(&self, addr: &str, node_id: &str) -> Result<Client, WireError> {
        let key = (addr.to_owned(), node_id.to_owned());
        let mut open = lock(&self.open);
        if let Some(c) = open.get(&key) {
            return Ok(c.clone());
        }
        let c = Client::new(addr, node_id.parse().ok(), &self.tls)?;
        if open.len() >= MOST {
            open.clear();
        }
        open.insert(key, c.clone());
        Ok(c)
    }
}

#[async_trait]
impl Links for TlsLinks {
    async fn raft(&self, target: &Peer, message: RaftMessage) -> Result<Vec<u8>, TransportError> {
        let fail = |e: WireError| match e {
            WireError::Denied { addr, message } | WireError::Failed { addr, message } => refused(addr, message),
            e => TransportError::Unreachable { addr: target.addr.clone(), cause: e.to_string() },
        };
        let client = self.get(&target.addr, &target.node_id).map_err(fail)?;
        client.raft(message).await.map_err(fail)
    }

    async fn control(&self, addr: &str, call: ControlCall, within: Duration) -> Result<ControlAnswer, WireError> {
        self.get(addr, "")?.control(call, within).await
    }
}

/// When each member was last heard, by raft id.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<BTreeMap<u64, Instant>>);

impl Contacts {
    /// A member sent or answered something.
    pub(crate) fn heard(&self, raft_id: u64) {
        let mut all = lock(&self.0);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(raft_id, Instant::now());
    }

    /// When a member was last heard, if ever.
    pub(crate) fn last(&self, raft_id: u64) -> Option<Instant> {
        lock(&self.0).get(&raft_id).copied()
    }
}

/// Raft's way over the links.
pub(crate) struct RaftLinks {
    pub(crate) links: Arc<dyn Links>,
    pub(crate) contacts: Arc<Contacts>,
    /// Raft id of this member.
    pub(crate) from: u64,
}

#[async_trait]
impl Transport for RaftLinks {
    async fn call(&self, target: &Peer, kind: MessageKind, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let message = RaftMessage { kind: kind.code(), from: self.from, target: target.id, bytes: Payload(bytes) };
        let answer = self.links.raft(target, message).await?;
        self.contacts.heard(target.id);
        Ok(answer)
    }
}
