//! Calls from outside, by the rights of their callers. Whatever only the leader can answer is passed on to it, once. Must never
//! pass a call on twice: two managers that take each other for the leader would do so for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_pki::Identity;
use skep_raft::{MessageKind, Peer, ProposeError};
use skep_types::NodeId;
use skep_types::control::{CertificateRequest, Code, ControlError, IssuedCertificate};
use skep_types::object::ManagerStatus;
use skep_types::session::ManagerMessage;
use skep_types::spec::Role;
use skep_types::tunnel::TunnelMessage;
use skep_wire::{ControlAnswer, ControlCall, Handler, Incoming, LogStream, RaftMessage, RootAnswer, TunnelStream, WireError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::{WriteError, answer_lost, no_leader, rpc};
use crate::links::REMOVED;
use crate::shared::{CALL_TIMEOUT, Shared};
use crate::{ca, control, dispatch, presence, statuses};

/// The handler given to the wire.
pub(crate) struct Door(pub(crate) Arc<Shared>);

impl Shared {
    /// Answers a call if this manager leads.
    pub(crate) async fn answer(&self, call: ControlCall) -> ControlAnswer {
        let call = match call {
            // Any manager may have the node's session.
            ControlCall::Logs { node, ask } => {
                self.logs.pass_on(node, *ask);
                return self.noted();
            }
            ControlCall::Tunnel { node, ask } => {
                self.tunnels.pass_on(node, *ask);
                return self.noted();
            }
            call => call,
        };
        if !self.is_leading() {
            return ControlAnswer::NotLeader { leader: self.leader_addr() };
        }
        let result = match call {
            ControlCall::Request(r) => match control::catch_up(self).await {
                Ok(true) => control::answer(self, *r).await.map(|r| ControlAnswer::Response(Box::new(r))),
                Ok(false) => return ControlAnswer::NotLeader { leader: self.leader_addr() },
                Err(e) => Err(e),
            },
            ControlCall::JoinRaft { node, raft_id, addr } => {
                self.take_in(node, raft_id, addr).await.map(|()| ControlAnswer::Joined)
            }
            ControlCall::Renew { node, csr } => ca::renew(self, node, &csr).map(ControlAnswer::Certificate),
            ControlCall::Issue(r) => ca::issue(self, &r).await.map(ControlAnswer::Certificate),
            ControlCall::Register(r) => return dispatch::register(self, &r).await,
            ControlCall::Presence { manager, nodes, follows } => {
                tracing::trace!(%manager, nodes = nodes.len(), "presence");
                presence::take(self, &nodes);
                let applied = self.store().applied();
                Ok(ControlAnswer::Noted { applied, drained: self.followed.take(manager, follows, applied, Instant::now()) })
            }
            ControlCall::Statuses { reports } => statuses::write(self, reports).await.map(|()| self.noted()),
            ControlCall::Attach { node, list } => dispatch::attach(self, node, &list).await.map(ControlAnswer::Attached),
            ControlCall::Logs { .. } | ControlCall::Tunnel { .. } => Ok(self.noted()),
        };
        result.unwrap_or_else(ControlAnswer::Error)
    }

    pub(crate) fn noted(&self) -> ControlAnswer {
        ControlAnswer::Noted { applied: self.store().applied(), drained: 0 }
    }

    /// Whom to ask for what only the leader can answer: the leader as raft knows it, or as another manager said; else any
    /// manager, which may know it. This one can be the last to learn of a new leader.
    pub(crate) fn target(&self) -> Option<String> {
        let hint = || self.hint.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        self.leader_addr().or_else(hint).or_else(|| {
            let members = self.raft.metrics().members;
            let others: Vec<_> = members.into_iter().filter(|m| m.peer.id != self.config.raft_id).collect();
            let which = u64::from_le_bytes(self.clock.random());
            // A remainder below a length fits a usize.
            (!others.is_empty()).then(|| others[(which % others.len() as u64) as usize].peer.addr.clone())
        })
    }

    /// Asks another manager, and remembers whom it takes for the leader.
    pub(crate) async fn ask(&self, addr: &str, call: ControlCall, within: Duration) -> Result<ControlAnswer, WireError> {
        let answer = self.links.control(addr, call, within).await;
        let hint = match &answer {
            Ok(ControlAnswer::NotLeader { leader }) => leader.clone().filter(|l| *l != self.config.addr),
            Ok(_) => Some(addr.to_owned()),
            Err(_) => None,
        };
        *self.hint.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = hint;
        answer
    }

    /// Answers a call here or at the leader, without waiting for there being one.
    pub(crate) async fn once(&self, call: ControlCall) -> Result<ControlAnswer, ControlError> {
        if self.is_leading() {
            return Ok(self.answer(call).await);
        }
        let Some(leader) = self.target() else { return Ok(ControlAnswer::NotLeader { leader: None }) };
        self.ask(&leader, call, CALL_TIMEOUT).await.map_err(|e| rpc(Code::Unavailable, e))
    }

    /// Answers a call here or at the leader, waiting a while for there being one, but not if there can be none.
    ///
    /// A call whose answer was lost is made again: a version or a name keeps it from being done twice. Only what is said then need
    /// not be true of the first time, so a refusal is not passed on.
    pub(crate) async fn call(&self, call: ControlCall) -> Result<ControlAnswer, ControlError> {
        let end = tokio::time::Instant::now() + CALL_TIMEOUT;
        let writes = matches!(&call, ControlCall::Request(r) if control::writes(r));
        let mut lost = false;
        loop {
            match self.answer(call.clone()).await {
                ControlAnswer::NotLeader { .. } => {}
                ControlAnswer::Error(_) if lost => return Err(answer_lost()),
                other => return Ok(other),
            }
            if let Some(addr) = self.target() {
                let left = end.saturating_duration_since(tokio::time::Instant::now());
                match self.ask(&addr, call.clone(), left).await {
                    Ok(ControlAnswer::NotLeader { .. }) => {}
                    Ok(ControlAnswer::Error(_)) if lost => return Err(answer_lost()),
                    Ok(other) => return Ok(other),
                    Err(e) => {
                        lost |= writes;
                        tracing::debug!(node = %self.config.node, error = %e, "call to the leader failed");
                    }
                }
            }
            // Any manager of an election that is under way is known within a second or two.
            let pause = tokio::time::Instant::now() + Duration::from_millis(100);
            if pause >= end || self.quorum_is_lost() {
                return Err(no_leader(self.quorum()));
            }
            tokio::time::sleep_until(pause).await;
        }
    }

    /// Takes a new manager into raft.
    async fn take_in(&self, node: NodeId, raft_id: u64, addr: String) -> Result<(), ControlError> {
        let peer = Peer { id: raft_id, node_id: node.to_string(), addr: addr.clone() };
        let _one_at_a_time = self.membership.lock().await;
        let is_manager = |n: &std::sync::Arc<skep_types::object::Node>| {
            n.role == Role::Manager && n.spec.role == Role::Manager && n.retired_raft_id != raft_id
        };
        if !self.store().node(node).is_some_and(is_manager) {
            return Err(rpc(Code::PermissionDenied, format!("node {node} is not a manager of this swarm")));
        }
        let member = self.raft.metrics().members.into_iter().find(|m| m.peer.id == raft_id && m.voter);
        if member.is_some() {
            // It is in already, perhaps at another address.
            self.raft.update_peer(raft_id, &addr).await.map_err(|e| rpc(Code::Unavailable, e))?;
        } else if let Err(e) = self.raft.add_learner_then_voter(&peer).await {
            if !matches!(e, ProposeError::NotLeader { .. })
                && let Err(e) = self.raft.remove(raft_id).await
            {
                tracing::warn!(error = %e, "cannot remove the member that did not join");
            }
            return Err(rpc(Code::Unavailable, format!("manager at {addr} cannot be taken in: {e}")));
        }
        // A node that lost its disk comes with a new raft id, and that it has caught up proves that it is this one; the old one
        // must not count for the quorum any longer.
        for m in self.raft.metrics().members.into_iter().filter(|m| m.peer.node_id == peer.node_id && m.peer.id != raft_id) {
            self.raft.remove(m.peer.id).await.map_err(|e| rpc(Code::Unavailable, e))?;
        }
        let status = Some(ManagerStatus { raft_id, addr });
        self.edit_node(node, |n| n.manager.clone_from(&status)).await.map_err(WriteError::into_control)
    }
}

fn certificate(a: Result<ControlAnswer, ControlError>) -> Result<IssuedCertificate, ControlError> {
    match a? {
        ControlAnswer::Certificate(c) => Ok(c),
        ControlAnswer::Error(e) => Err(e),
        _ => Err(rpc(Code::Internal, "the leader answered something else")),
    }
}

#[async_trait]
impl Handler for Door {
    async fn root(&self) -> RootAnswer {
        // The log may hold a newer one than this node has learnt of, and before the first session it holds none.
        let pem = self.0.store().cluster().map_or_else(|| self.0.config.root_pem.clone(), |c| c.root_ca_cert.clone());
        RootAnswer { pem, time: self.0.clock.now() }
    }

    async fn issue(&self, request: CertificateRequest) -> Result<IssuedCertificate, ControlError> {
        certificate(self.0.call(ControlCall::Issue(request)).await)
    }

    async fn renew(&self, who: Identity, csr: String) -> Result<IssuedCertificate, ControlError> {
        certificate(self.0.call(ControlCall::Renew { node: who.node, csr }).await)
    }

    async fn raft(&self, who: Identity, message: RaftMessage) -> Result<Vec<u8>, String> {
        // A certificate outlives a demotion. These tables may be behind, so that only what can never be undone counts: a removed
        // node's id and a demoted manager's raft id are never used again.
        let store = self.0.store();
        let retired = store.node(who.node).is_some_and(|n| n.retired_raft_id != 0 && n.retired_raft_id == message.from);
        if retired || ca::is_removed(&store, who.node) {
            return Err(REMOVED.to_owned());
        }
        if message.target != self.0.config.raft_id {
            return Err("the message is meant for another member".into());
        }
        let kind = MessageKind::from_code(message.kind).ok_or("unknown kind of message")?;
        self.0.contacts.heard(message.from);
        self.0.raft.handle(kind, &message.bytes.0).await.map_err(|e| e.to_string())
    }

    async fn control(&self, who: Identity, call: ControlCall) -> ControlAnswer {
        // The tables of a leader are complete; another manager's may be behind, but it has nothing to answer either.
        let store = self.0.store();
        let known = store.node(who.node).is_some_and(|n| n.role == Role::Manager);
        if ca::is_removed(&store, who.node) || (self.0.is_leading() && !known) {
            let text = format!("node {} is not a manager of this swarm", who.node);
            return ControlAnswer::Error(rpc(Code::PermissionDenied, text));
        }
        self.0.answer(call).await
    }

    async fn session(&self, who: Identity, peer: SocketAddr, incoming: Incoming, out: mpsc::Sender<ManagerMessage>) {
        dispatch::session(&self.0, who, peer, incoming, out).await;
    }

    async fn logs(&self, who: Identity, incoming: LogStream) {
        self.0.logs.take(who.node, incoming).await;
    }

    async fn tunnel(&self, who: Identity, incoming: TunnelStream, out: mpsc::Sender<TunnelMessage>) {
        self.0.tunnels.take(who.node, incoming, out).await;
    }
}
