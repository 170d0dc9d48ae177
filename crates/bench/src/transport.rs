//! Raft's messages over the wire of real managers: mutual TLS, HTTP/2. Must never do more than the manager's own way does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use skep_pki::Identity;
use skep_raft::{MessageKind, Peer, Raft, Transport, TransportError};
use skep_types::Time;
use skep_types::control::{CertificateRequest, Code, ControlError, IssuedCertificate};
use skep_types::session::ManagerMessage;
use skep_wire::{
    Client, ControlAnswer, ControlCall, Handler, Incoming, LogStream, Payload, RaftMessage, RootAnswer, Tls, WireError,
};
use tokio::sync::mpsc;

/// The way out.
pub(crate) struct Links {
    pub(crate) from: u64,
    pub(crate) tls: Tls,
    pub(crate) open: Mutex<BTreeMap<String, Client>>,
}

impl Links {
    fn get(&self, peer: &Peer) -> Result<Client, WireError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = open.get(&peer.addr) {
            return Ok(c.clone());
        }
        let c = Client::new(&peer.addr, peer.node_id.parse().ok(), &self.tls)?;
        open.insert(peer.addr.clone(), c.clone());
        Ok(c)
    }
}

#[async_trait]
impl Transport for Links {
    async fn call(&self, target: &Peer, kind: MessageKind, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let fail = |e: WireError| TransportError::Unreachable { addr: target.addr.clone(), cause: e.to_string() };
        let message = RaftMessage { kind: kind.code(), from: self.from, target: target.id, bytes: Payload(bytes) };
        self.get(target).map_err(fail)?.raft(message).await.map_err(fail)
    }
}

/// The way in.
#[derive(Default)]
pub(crate) struct Door(pub(crate) Arc<OnceLock<Raft>>);

fn only_raft() -> ControlError {
    ControlError::new(Code::Unavailable, "a member of a benchmark answers raft messages only")
}

#[async_trait]
impl Handler for Door {
    async fn root(&self) -> RootAnswer {
        RootAnswer { pem: String::new(), time: Time(0) }
    }

    async fn issue(&self, _: CertificateRequest) -> Result<IssuedCertificate, ControlError> {
        Err(only_raft())
    }

    async fn renew(&self, _: Identity, _: String) -> Result<IssuedCertificate, ControlError> {
        Err(only_raft())
    }

    async fn raft(&self, _: Identity, message: RaftMessage) -> Result<Vec<u8>, String> {
        let raft = self.0.get().ok_or("not started yet")?;
        let kind = MessageKind::from_code(message.kind).ok_or("unknown kind of message")?;
        raft.handle(kind, &message.bytes.0).await.map_err(|e| e.to_string())
    }

    async fn control(&self, _: Identity, _: ControlCall) -> ControlAnswer {
        ControlAnswer::Error(only_raft())
    }

    async fn session(&self, _: Identity, _: SocketAddr, _: Incoming, _: mpsc::Sender<ManagerMessage>) {}

    async fn logs(&self, _: Identity, _: LogStream) {}
}
