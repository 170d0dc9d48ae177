//! One agent's session: signs of life and reports in, assignments and the data plane out. Any manager that hears the leader
//! has sessions. Must never go on when this manager has lost the leader, or the node was removed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use skep_pki::Identity;
use skep_types::NodeId;
use skep_types::attach::{Answer, WantedList};
use skep_types::control::ControlRequest;
use skep_types::session::{AgentMessage, ManagerMessage};
use skep_wire::{ControlAnswer, ControlCall, Incoming, Registration};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use super::drain::Session as Following;
use super::driven;
use super::told::Told;
use crate::liveness::HEARTBEAT;
use crate::shared::Shared;
use crate::statuses::Batch;
use crate::tables::Watcher;

/// An agent introduces itself at once, and this manager learns soon whether it hears the leader.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A manager that is this far behind the leader is of no use to an agent.
const CATCH_UP: Duration = Duration::from_millis(1000);
/// An agent that takes no message for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent that was not heard for so long is told so by the end of its session, in time to find another manager before the leader
/// takes its node for dead: it may hear this one all the while.
const UNHEARD: Duration = Duration::from_millis(1700);
/// Pause before a list is sent to the leader again.
const RETRY: Duration = Duration::from_millis(100);
/// Acknowledgements under way; an agent has one batch open at a time.
const ACKS: usize = 4;

struct Out(mpsc::Sender<ManagerMessage>);

impl Out {
    /// Whether the agent took the message.
    async fn send(&self, m: ManagerMessage) -> bool {
        match self.0.try_send(m) {
            Ok(()) => true,
            Err(TrySendError::Full(m)) => matches!(tokio::time::timeout(SEND_TIMEOUT, self.0.send(m)).await, Ok(Ok(()))),
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

pub(crate) async fn session(
    s: &Arc<Shared>,
    who: Identity,
    peer: SocketAddr,
    mut incoming: Incoming,
    out: mpsc::Sender<ManagerMessage>,
) {
    let out = Out(out);
    let mut attached = s.attached.subscribe();
    let mut stop = s.stop.subscribe();
    if tokio::time::timeout(CATCH_UP, becomes(&mut attached, true)).await.is_err() {
        out.send(ManagerMessage::Redirect { leader: s.leader_addr() }).await;
        return;
    }
    let hello = tokio::time::timeout(HELLO_TIMEOUT, incoming.next()).await;
    let Ok(Some(AgentMessage::Hello {
        description,
        addr,
        availability: _,
        known,
        plane,
        files,
        tunnels: knows_tunnels,
        refusals,
    })) = hello
    else {
        return;
    };
    let addr = addr.or(match peer.ip() {
        std::net::IpAddr::V4(ip) => Some(ip),
        std::net::IpAddr::V6(_) => None,
    });
    let registered = s.once(ControlCall::Register(Box::new(Registration { node: who.node, description, addr }))).await;
    let applied = match registered {
        Ok(ControlAnswer::Noted { applied, .. }) => applied,
        Ok(ControlAnswer::Removed) => {
            out.send(ManagerMessage::Removed).await;
            return;
        }
        other => {
            tracing::debug!(node = %who.node, ?other, "session: cannot register node");
            out.send(ManagerMessage::Redirect { leader: s.leader_addr() }).await;
            return;
        }
    };
    // An agent must never be told less than it already knows.
    let mut watcher = s.tables.follow_gathered();
    if tokio::time::timeout(CATCH_UP, s.tables.reached(applied)).await.is_err() {
        out.send(ManagerMessage::Redirect { leader: s.leader_addr() }).await;
        return;
    }
    tracing::debug!(node = %who.node, %peer, "session begins");
    s.sessions.note(who.node);
    if !out.send(ManagerMessage::Welcome { heartbeat: HEARTBEAT }).await {
        return;
    }
    let mut told = Told::new(who.node, who.role, known, plane, files);
    let (_, store) = watcher.take(&s.tables);
    if store.node(who.node).is_none() {
        // Removed since it was registered.
        out.send(ManagerMessage::Removed).await;
        return;
    }
    let planes = || s.planes.of_node(&s.tables, who.node);
    let followed = s.followed.session();
    let mut drained = s.followed.all();
    for m in told.begin(&store, &planes) {
        note(&followed, &m);
        if !out.send(m).await {
            return;
        }
    }
    let mut asked = FuturesUnordered::new();
    asked.extend(told.take_asks().into_iter().map(|pair| driven::asked(s.clone(), store.clone(), pair)));
    let (mut asks, mut tunnels) = (BroadcastStream::new(s.logs.asks()), BroadcastStream::new(s.tunnels.asks()));
    let (ack_tx, mut ack_rx) = mpsc::channel(ACKS);
    // An agent waits for the answer to a list before it sends the next.
    let mut attaching: Option<BoxFuture<'_, Option<Answer>>> = None;
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut heard = Instant::now();
    // What waits for long is made once: to queue up again for each of its messages would be most of a session's work.
    let mut unheard = std::pin::pin!(tokio::time::sleep(UNHEARD));
    let (mut stopped, mut detached) = (std::pin::pin!(becomes(&mut stop, true)), std::pin::pin!(becomes(&mut attached, false)));
    let mut changed = std::pin::pin!(changed_of(watcher));
    loop {
        tokio::select! {
            biased;
            () = stopped.as_mut() => break,
            () = detached.as_mut() => {
                out.send(ManagerMessage::Redirect { leader: s.leader_addr() }).await;
                break;
            }
            m = incoming.next() => {
                let Some(m) = m else { break };
                heard = Instant::now();
                s.sessions.note(who.node);
                if let AgentMessage::Followed { index } = m {
                    followed.done(index);
                } else if let AgentMessage::Attach(list) = m {
                    attaching = Some(Box::pin(attach(s, who.node, list)));
                } else if !take(s, who.node, m, &ack_tx).await {
                    break;
                }
            }
            answer = settled(&mut attaching) => {
                attaching = None;
                if let Some(answer) = answer
                    && !out.send(ManagerMessage::Attached(answer)).await
                {
                    break;
                }
            }
            index = reaches(&mut drained, told.drain) => {
                told.drain = None;
                if !out.send(ManagerMessage::Drained { index }).await {
                    break;
                }
            }
            Some((pair, answer)) = asked.next(), if !asked.is_empty() => {
                let store = s.tables.snapshot();
                if let Some(m) = told.driven(&store, pair, answer, refusals)
                    && !out.send(m).await
                {
                    break;
                }
            }
            Some(batch) = ack_rx.recv() => {
                if !out.send(ManagerMessage::Acknowledged { batch }).await {
                    break;
                }
            }
            // One that came too fast is asked again by whoever wants it.
            Some(Ok((node, ask))) = asks.next() => {
                if node == who.node && !out.send(ManagerMessage::Logs(Box::new((*ask).clone()))).await {
                    break;
                }
            }
            Some(Ok((node, ask))) = tunnels.next() => {
                // Whoever waits for one of an older version is told that the node does not answer.
                if node == who.node && knows_tunnels && !out.send(ManagerMessage::Tunnel(Box::new((*ask).clone()))).await {
                    break;
                }
            }
            () = unheard.as_mut() => {
                let silent = heard.elapsed();
                if silent >= UNHEARD + HEARTBEAT {
                    // So much later it was this process that could not hear.
                    heard = Instant::now();
                } else if silent >= UNHEARD {
                    break;
                }
                unheard.as_mut().reset(heard + UNHEARD);
            }
            _ = beat.tick() => {
                if !out.send(ManagerMessage::Heartbeat).await {
                    break;
                }
            }
            mut watcher = changed.as_mut() => {
                let (news, store) = watcher.take(&s.tables);
                if store.node(who.node).is_none() {
                    out.send(ManagerMessage::Removed).await;
                    break;
                }
                let mut alive = true;
                for m in told.differences(&store, &news, &planes) {
                    note(&followed, &m);
                    alive &= out.send(m).await;
                }
                asked.extend(told.take_asks().into_iter().map(|pair| driven::asked(s.clone(), store.clone(), pair)));
                followed.told(store.applied(), false);
                if !alive {
                    break;
                }
                changed.set(changed_of(watcher));
            }
        }
    }
    tracing::debug!(node = %who.node, "session ends");
}

/// Waits for changes of the tables.
async fn changed_of(mut watcher: Watcher) -> Watcher {
    watcher.changed().await;
    watcher
}

/// Notes what the agent is asked to follow.
fn note(followed: &Following<'_>, m: &ManagerMessage) {
    if let ManagerMessage::Follow { index } = m {
        followed.told(*index, true);
    }
}

/// Waits for work that is under way; for ever if none is.
async fn settled<T>(work: &mut Option<BoxFuture<'_, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// What the leader says to a list of an agent; asked until it answers or this manager lost it, and with it its sessions.
async fn attach(s: &Shared, node: NodeId, list: WantedList) -> Option<Answer> {
    while *s.attached.borrow() {
        match s.once(ControlCall::Attach { node, list: list.clone() }).await {
            Ok(ControlAnswer::Attached(answer)) => return Some(answer),
            other => tracing::debug!(%node, ?other, "attachments: not noted yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    None
}

/// Waits until everybody follows this change; for ever if there is none.
async fn reaches(all: &mut watch::Receiver<u64>, index: Option<u64>) -> u64 {
    if let Some(index) = index
        && let Ok(all) = all.wait_for(|a| *a >= index).await
    {
        return *all;
    }
    std::future::pending().await
}

/// Waits until a flag has this value; one whose owner is gone never will.
async fn becomes(flag: &mut watch::Receiver<bool>, value: bool) {
    if flag.wait_for(|f| *f == value).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Takes a message of the agent. Returns whether the session goes on.
async fn take(s: &Arc<Shared>, node: NodeId, m: AgentMessage, done: &mpsc::Sender<u64>) -> bool {
    let register = |description, addr| ControlCall::Register(Box::new(Registration { node, description, addr }));
    match m {
        AgentMessage::Heartbeat | AgentMessage::Followed { .. } | AgentMessage::Attach(_) => true,
        AgentMessage::Hello { description, addr, .. } => s.once(register(description, addr)).await.is_ok(),
        AgentMessage::Description(d) => s.once(register(d, None)).await.is_ok(),
        AgentMessage::Statuses { batch, reports } => {
            let b = Batch { node, number: batch, reports, done: done.clone() };
            s.statuses.send(b).await.is_ok()
        }
        AgentMessage::Goodbye => {
            let request = ControlRequest::NodeLeaves { node };
            if let Err(e) = s.call(ControlCall::Request(Box::new(request))).await {
                tracing::warn!(%node, error = %e, "session: cannot note that the node left");
            }
            s.sessions.forget(node);
            false
        }
    }
}
