//! What all parts of a manager share. Must never hold a lock over an await.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use skep_raft::{MAX_PROPOSAL_BYTES, Raft};
use skep_state::{Key, Op, Store, Transaction};
use skep_types::NodeId;
use skep_types::clock::Clock;
use skep_types::object::Node;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::dispatch::Followed;
use crate::dispatch::Planes;
use crate::error::WriteError;
use crate::links::{Contacts, Links};
use crate::logs::Broker;
use crate::manager::ManagerConfig;
use crate::presence::Heard;
use crate::statuses::Batch;
use crate::tables::{Applied, Tables};

/// A call gives up finding a leader after this; the CLI waits 20 s at most.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts of a write whose basis changed meanwhile. Each failure means that somebody else's write succeeded.
const ATTEMPTS: usize = 10;

pub(crate) struct Shared {
    pub(crate) config: ManagerConfig,
    pub(crate) raft: Raft,
    pub(crate) tables: Arc<Tables>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) links: Arc<dyn Links>,
    /// When each other member was last heard.
    pub(crate) contacts: Arc<Contacts>,
    /// The term in which this manager leads and has caught up.
    pub(crate) leading: watch::Sender<Option<u64>>,
    /// Whom another manager took for the leader, `ip:port`.
    pub(crate) hint: Mutex<Option<String>>,
    /// Held while a member is added or removed together with the role of its node, so that a node that is demoted while it is
    /// being taken in does not stay a member.
    pub(crate) membership: tokio::sync::Mutex<()>,
    /// When this manager started.
    pub(crate) started: Instant,
    /// Since when it leads.
    pub(crate) began: Mutex<Option<Instant>>,
    /// Whether this manager hears the leader (or is it), so that it may keep agents.
    pub(crate) attached: watch::Sender<bool>,
    /// When each agent with a session here was last heard.
    pub(crate) sessions: Heard,
    /// When each node was last heard by any manager, on the leader.
    pub(crate) heard: Heard,
    /// What sessions share of the data plane.
    pub(crate) planes: Planes,
    /// Which changes the agents' networks follow.
    pub(crate) followed: Followed,
    /// Held by whoever makes a decision again.
    pub(crate) turns: tokio::sync::Mutex<()>,
    /// Logs on their way to clients.
    pub(crate) logs: Broker,
    pub(crate) tunnels: crate::tunnel::Tunnels,
    /// Questions to drivers of secrets.
    pub(crate) asking: tokio::sync::Semaphore,
    pub(crate) statuses: mpsc::Sender<Batch>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn store(&self) -> Arc<Store> {
        self.tables.snapshot()
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.leading.borrow().is_some()
    }

    /// The leader's address, if it is another manager.
    pub(crate) fn leader_addr(&self) -> Option<String> {
        self.raft.leader().filter(|l| l.id != self.config.raft_id).map(|l| l.addr)
    }

    /// Whether any manager heard the node since this one leads.
    pub(crate) fn heard_since_it_leads(&self, node: NodeId) -> bool {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began.is_none_or(|b| self.heard.last(node).is_some_and(|at| at > b))
    }

    /// Writes a transaction and waits until it is agreed on and applied here.
    pub(crate) async fn write(&self, t: &Transaction) -> Result<(), WriteError> {
        let bytes = self.store().encode(t).map_err(|e| WriteError::Encode(e.to_string()))?;
        if bytes.len() > MAX_PROPOSAL_BYTES {
            return Err(WriteError::TooLarge { bytes: bytes.len() });
        }
        let (_, answer) = self.raft.propose(bytes).await?;
        match rmp_serde::from_slice(&answer) {
            Ok(Applied::Done) => Ok(()),
            Ok(Applied::Refused(r)) => Err(r.into()),
            Ok(Applied::Unreadable(e)) => Err(WriteError::Encode(e)),
            Err(e) => Err(WriteError::Encode(e.to_string())),
        }
    }

    /// Writes operations that no other write can invalidate.
    pub(crate) async fn write_ops(&self, ops: Vec<Op>) -> Result<(), WriteError> {
        self.write(&Transaction::new(self.clock.now(), vec![], ops)).await
    }

    /// Makes a decision from the tables and writes it; makes it again if the tables changed under it. Those that must be made
    /// again wait for each other: many that want the next address of one network would else all take the same one, each time.
    pub(crate) async fn decide<T, E: From<WriteError>>(
        &self,
        mut f: impl FnMut(&Store) -> Result<(Transaction, T), E>,
    ) -> Result<T, E> {
        let (mut last, mut turn) = (None, None);
        for _ in 0..ATTEMPTS {
            let (t, out) = f(&self.store())?;
            if t.ops.is_empty() {
                return Ok(out);
            }
            match self.write(&t).await {
                Ok(()) => return Ok(out),
                Err(e @ WriteError::Refused(_)) => {
                    last = Some(e);
                    if turn.is_none() {
                        turn = Some(self.turns.lock().await);
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        // `last` is set: the loop ran at least once and did not return.
        Err(last.unwrap_or_else(|| WriteError::Encode("no attempt was made".into())).into())
    }

    /// Changes a node as it is in the tables then; writes nothing if it is gone, or as it should be.
    pub(crate) async fn edit_node(&self, id: NodeId, edit: impl Fn(&mut Node)) -> Result<(), WriteError> {
        self.decide(|store| {
            let mut t = Transaction { time: self.clock.now(), ..Transaction::default() };
            if let Some(old) = store.node(id) {
                let mut n = (**old).clone();
                edit(&mut n);
                if n != **old {
                    t.reads.push((Key::Node(id), store.version(Key::Node(id))));
                    t.ops.push(Op::PutNode(Box::new(n)));
                }
            }
            Ok((t, ()))
        })
        .await
    }
}
