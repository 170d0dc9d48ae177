//! Logs of tasks: the streams that this manager waits for, and how a node is asked for one (`swarm-semantics` 11). The manager
//! that a client talks to asks; whichever manager has the node's session passes it on; the agent brings the stream to the one
//! that asked. Must never take a record of a task that the sender was not asked for.

mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_types::host::LogRecord;
use skep_types::logs::{LogAsk, LogMessage};
use skep_types::{LogId, NodeId, TaskId};
use skep_wire::{ControlCall, LogStream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt;

pub(crate) use stream::{caught_up, open};

use crate::shared::Shared;

/// Messages on their way to a client; then the agents wait.
const QUEUE: usize = 16;
/// Asks that sessions have not taken yet. One that is missed is asked again, or told as missing.
const ASKS: usize = 256;
/// Another manager takes an ask at once, or is not there.
const PASS_ON: Duration = Duration::from_secs(2);

/// What came of an ask.
enum Arrived {
    /// The agent is there.
    Begun,
    Records(Vec<(TaskId, LogRecord)>),
    /// The stream ended; `whole` if the agent said so.
    Ended {
        whole: bool,
    },
}

struct Open {
    node: NodeId,
    tasks: BTreeSet<TaskId>,
    out: mpsc::Sender<(LogId, Arrived)>,
}

/// The streams that this manager waits for, and the asks for its own sessions.
pub(crate) struct Broker {
    open: Mutex<BTreeMap<LogId, Open>>,
    asks: broadcast::Sender<(NodeId, Arc<LogAsk>)>,
}

impl Default for Broker {
    fn default() -> Self {
        Self { open: Mutex::default(), asks: broadcast::channel(ASKS).0 }
    }
}

impl Broker {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LogId, Open>> {
        // Entries are inserted and removed whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sessions of this manager are to ask their agents.
    pub(crate) fn asks(&self) -> broadcast::Receiver<(NodeId, Arc<LogAsk>)> {
        self.asks.subscribe()
    }

    /// Hands an ask to this manager's own sessions.
    pub(crate) fn pass_on(&self, node: NodeId, ask: LogAsk) {
        // There may be no session at all.
        let _ = self.asks.send((node, Arc::new(ask)));
    }

    /// Takes an agent's stream, as long as somebody wants it.
    pub(crate) async fn take(&self, node: NodeId, mut incoming: LogStream) {
        let Some(LogMessage::Begin { ask }) = incoming.next().await else { return };
        let (out, tasks) = match self.lock().get(&ask) {
            Some(open) if open.node == node => (open.out.clone(), open.tasks.clone()),
            _ => return,
        };
        let mut whole = false;
        if out.send((ask, Arrived::Begun)).await.is_ok() {
            loop {
                let message = tokio::select! {
                    biased;
                    () = out.closed() => return,
                    m = incoming.next() => m,
                };
                let arrived = match message {
                    Some(LogMessage::Records(mut records)) => {
                        records.retain(|(task, _)| tasks.contains(task));
                        Arrived::Records(records)
                    }
                    Some(LogMessage::Begin { .. }) => continue,
                    Some(LogMessage::Done) => {
                        whole = true;
                        break;
                    }
                    None => break,
                };
                if out.send((ask, arrived)).await.is_err() {
                    return;
                }
            }
        }
        // The client may be gone.
        let _ = out.send((ask, Arrived::Ended { whole })).await;
    }
}

/// An ask that is open until this is dropped.
struct Asked<'a> {
    broker: &'a Broker,
    id: LogId,
    node: NodeId,
    tasks: Vec<TaskId>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.broker.lock().remove(&self.id);
    }
}

/// Asks a node for logs, through whichever manager has its session.
fn ask<'a>(s: &'a Arc<Shared>, node: NodeId, ask: LogAsk, out: &mpsc::Sender<(LogId, Arrived)>) -> Asked<'a> {
    let open = Open { node, tasks: ask.tasks.iter().copied().collect(), out: out.clone() };
    s.logs.lock().insert(ask.id, open);
    let asked = Asked { broker: &s.logs, id: ask.id, node, tasks: ask.tasks.clone() };
    for other in s.raft.metrics().members.into_iter().filter(|m| m.peer.id != s.config.raft_id) {
        let (s, ask) = (s.clone(), ask.clone());
        tokio::spawn(async move {
            let call = ControlCall::Logs { node, ask: Box::new(ask) };
            if let Err(e) = s.links.control(&other.peer.addr, call, PASS_ON).await {
                tracing::debug!(manager = other.peer.addr, error = %e, "logs: a manager was not asked");
            }
        });
    }
    s.logs.pass_on(node, ask);
    asked
}
