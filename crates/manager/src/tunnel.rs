//! Ways from clients of this manager to containers of tasks anywhere: the node is asked through whichever manager has its session, its
//! agent brings the stream. Must never take a stream of a node that was not asked for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_types::control::{Code, ControlError};
use skep_types::object::{NodeState, TaskState};
use skep_types::tunnel::{TunnelAsk, TunnelMessage};
use skep_types::{LogId, NodeId, TaskId};
use skep_wire::{ControlCall, TunnelStream, tunnel};
use tokio::io::DuplexStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::StreamExt;

use crate::error::rpc;
use crate::shared::Shared;
use crate::{control, logs};

/// Asks that sessions have not taken yet; who misses one is told that the node did not answer.
const ASKS: usize = 256;
/// Ways that are waited for at once; each is answered or given up within seconds.
const MOST: usize = 256;
/// An agent that has a session answers within this.
const ANSWER: Duration = Duration::from_secs(5);
/// Another manager takes an ask at once, or is not there.
const PASS_ON: Duration = Duration::from_secs(2);

/// An agent's end.
type End = (TunnelStream, mpsc::Sender<TunnelMessage>);

/// The ways that this manager waits for, and the asks for its own sessions.
pub(crate) struct Tunnels {
    open: Mutex<BTreeMap<LogId, (NodeId, oneshot::Sender<End>)>>,
    asks: broadcast::Sender<(NodeId, Arc<TunnelAsk>)>,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self { open: Mutex::default(), asks: broadcast::channel(ASKS).0 }
    }
}

impl Tunnels {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LogId, (NodeId, oneshot::Sender<End>)>> {
        // Entries are inserted and removed whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sessions of this manager are to ask their agents.
    pub(crate) fn asks(&self) -> broadcast::Receiver<(NodeId, Arc<TunnelAsk>)> {
        self.asks.subscribe()
    }

    /// Hands an ask to this manager's own sessions.
    pub(crate) fn pass_on(&self, node: NodeId, ask: TunnelAsk) {
        // There may be no session at all.
        let _ = self.asks.send((node, Arc::new(ask)));
    }

    /// Takes an agent's stream, if somebody waits for it.
    pub(crate) async fn take(&self, node: NodeId, mut incoming: TunnelStream, out: mpsc::Sender<TunnelMessage>) {
        let Ok(Some(TunnelMessage::Begin { ask })) = tokio::time::timeout(ANSWER, incoming.next()).await else { return };
        let mut open = self.lock();
        if open.get(&ask).is_some_and(|(asked, _)| *asked == node)
            && let Some((_, waiting)) = open.remove(&ask)
        {
            // Who waited may have given up.
            let _ = waiting.send((incoming, out));
        }
    }
}

/// Opens a way to the container of a task: full id or unique prefix.
///
/// # Errors
/// [`ControlError`] if there is no such task, it does not run, its node does not answer, or there is no quorum.
pub(crate) async fn open(s: &Arc<Shared>, target: &str) -> Result<DuplexStream, ControlError> {
    let store = logs::caught_up(s).await?;
    let task = control::find_task(&store, target)?;
    let state = task.status.state;
    if state != TaskState::Running {
        return Err(rpc(Code::FailedPrecondition, format!("task {} does not run: it is {}", task.id, state.as_str())));
    }
    let node = task.node.filter(|n| store.node(*n).is_some_and(|n| n.state == NodeState::Ready));
    let node = node.ok_or_else(|| rpc(Code::Unavailable, format!("the node of task {} is not available", task.id)))?;
    let ask = TunnelAsk { id: LogId(s.clock.new_id()), manager: s.config.addr.clone(), task: task.id, network: false };
    let late = || format!("node {node} did not answer for task {}: it may be busy, or of an older version of Skep", task.id);
    bring(s, node, ask, late).await
}

/// Opens a way to a node's network, to be looked at: the node by id, name or prefix.
///
/// # Errors
/// [`ControlError`] if there is no such node, it is not ready or does not answer, or there is no quorum.
pub(crate) async fn network(s: &Arc<Shared>, target: &str) -> Result<DuplexStream, ControlError> {
    let store = logs::caught_up(s).await?;
    let node = control::find_node(&store, target)?;
    if node.state != NodeState::Ready {
        return Err(rpc(Code::Unavailable, format!("node {} is not ready", node.id)));
    }
    let (id, manager) = (LogId(s.clock.new_id()), s.config.addr.clone());
    let ask = TunnelAsk { id, manager, task: TaskId(0), network: true };
    bring(s, node.id, ask, || format!("node {} did not answer", node.id)).await
}

/// Asks a node and waits for its stream.
async fn bring(s: &Arc<Shared>, node: NodeId, ask: TunnelAsk, late: impl Fn() -> String) -> Result<DuplexStream, ControlError> {
    let (waiting, arrived) = oneshot::channel();
    {
        let mut open = s.tunnels.lock();
        if open.len() >= MOST {
            return Err(rpc(Code::Unavailable, "too many containers are asked for at once: try again"));
        }
        open.insert(ask.id, (node, waiting));
    }
    for other in s.raft.metrics().members.into_iter().filter(|m| m.peer.id != s.config.raft_id) {
        let (s, ask) = (s.clone(), ask.clone());
        tokio::spawn(async move {
            let call = ControlCall::Tunnel { node, ask: Box::new(ask) };
            if let Err(e) = s.links.control(&other.peer.addr, call, PASS_ON).await {
                tracing::debug!(manager = other.peer.addr, error = %e, "tunnel: a manager was not asked");
            }
        });
    }
    let id = ask.id;
    s.tunnels.pass_on(node, ask);
    match tokio::time::timeout(ANSWER, arrived).await {
        Ok(Ok((incoming, out))) => {
            let gone = Box::pin(lost(s.clone(), node));
            Ok(tunnel::stream(Box::pin(futures_util::StreamExt::take_until(incoming, gone)), out, ()))
        }
        _ => {
            s.tunnels.lock().remove(&id);
            Err(rpc(Code::Unavailable, late()))
        }
    }
}

/// Waits until a node is not there any more. Its session tells sooner than its connection, which waits long for a sign of life.
async fn lost(s: Arc<Shared>, node: NodeId) {
    let mut changed = s.tables.watch();
    while s.store().node(node).is_some_and(|n| n.state == NodeState::Ready) {
        // Tables that are gone do not change.
        if changed.changed().await.is_err() {
            return;
        }
    }
}
