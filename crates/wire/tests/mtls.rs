//! A server and its callers over real sockets: joining, roles, wrong roots, dead peers.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use skep_pki::{Identity, JoinToken, RootCa, key_pair};
use skep_types::control::*;
use skep_types::file::Bytes;
use skep_types::session::{AgentMessage, ManagerMessage};
use skep_types::spec::{Availability, Role};
use skep_types::tunnel::TunnelMessage;
use skep_types::{ClusterId, NodeId, Time};
use skep_wire::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;

/// Says when a session has ended, and what came through a tunnel.
struct Echo(RootCa, watch::Sender<bool>, mpsc::Sender<Vec<u8>>);

const CLUSTER: ClusterId = ClusterId(u128::MAX - 5);

#[async_trait]
impl Handler for Echo {
    async fn root(&self) -> skep_wire::RootAnswer {
        skep_wire::RootAnswer { pem: self.0.cert_pem().to_owned(), time: Time(1) }
    }
    async fn issue(&self, r: CertificateRequest) -> Result<IssuedCertificate, ControlError> {
        let who = Identity { node: NodeId(u128::MAX - 9), role: Role::Worker, cluster: CLUSTER };
        let chain = self.0.issue(&r.csr, &who, SystemTime::now(), Duration::from_secs(3600)).unwrap();
        Ok(IssuedCertificate {
            node: who.node,
            cluster: CLUSTER,
            role: who.role,
            chain,
            issued_at: Time(1),
            unlock_key: Default::default(),
            unlock_version: Default::default(),
        })
    }
    async fn renew(&self, who: Identity, _: String) -> Result<IssuedCertificate, ControlError> {
        Err(ControlError::new(Code::Unavailable, who.node.to_string()))
    }
    async fn raft(&self, _: Identity, m: RaftMessage) -> Result<Vec<u8>, String> {
        Ok(m.bytes.0)
    }
    async fn control(&self, _: Identity, _: ControlCall) -> ControlAnswer {
        ControlAnswer::Joined
    }
    async fn logs(&self, _: Identity, mut messages: LogStream) {
        while messages.next().await.is_some() {}
    }
    async fn session(&self, _: Identity, _: SocketAddr, mut i: Incoming, out: mpsc::Sender<ManagerMessage>) {
        while i.next().await.is_some() {
            if out.send(ManagerMessage::Heartbeat).await.is_err() {
                break;
            }
        }
        self.1.send_replace(true);
    }
    async fn tunnel(&self, _: Identity, mut incoming: TunnelStream, out: mpsc::Sender<TunnelMessage>) {
        let mut first = incoming.next().await;
        if matches!(first, Some(TunnelMessage::Begin { .. })) {
            // As a client that has no more to say, and listens to the end.
            let mut io = tunnel::stream(incoming, out, ());
            io.shutdown().await.unwrap();
            let mut heard = Vec::new();
            io.read_to_end(&mut heard).await.unwrap();
            self.2.send(heard).await.unwrap();
            return;
        }
        while let Some(m) = first {
            if out.send(m).await.is_err() {
                return;
            }
            first = incoming.next().await;
        }
    }
}

fn credentials(root: &RootCa, node: u128, role: Role) -> Credentials {
    let (key, csr) = key_pair().unwrap();
    let who = Identity { node: NodeId(u128::MAX - node), role, cluster: CLUSTER };
    let chain = root.issue(&csr, &who, SystemTime::now(), Duration::from_secs(3600)).unwrap();
    Credentials { root: root.cert_pem().into(), chain, key }
}

async fn start() -> (Server, RootCa, String) {
    let (server, root, addr, ..) = start_and_watch().await;
    (server, root, addr)
}

/// Also what is up when a session has ended, and what comes through tunnels.
async fn start_and_watch() -> (Server, RootCa, String, watch::Receiver<bool>, mpsc::Receiver<Vec<u8>>) {
    let root = RootCa::create(SystemTime::now()).unwrap();
    let tls = Tls::new(&credentials(&root, 1, Role::Manager)).unwrap();
    let copy = RootCa::load(root.cert_pem(), root.key_pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ((ended, ends), (heard, hears)) = (watch::channel(false), mpsc::channel(1));
    let s = Server::start(listener, tls, Arc::new(Echo(copy, ended, heard))).unwrap();
    let addr = s.addr().to_string();
    (s, root, addr, ends, hears)
}

/// A way to `to` on which nothing passes while the gate is shut, as between hosts that have too much to do; its address.
async fn gated(to: String, gate: watch::Receiver<bool>) -> String {
    async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
        let mut chunk = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            if open.wait_for(|open| *open).await.is_err() || to.write_all(&chunk[..n]).await.is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = TcpStream::connect(&to).await.unwrap().into_split();
            tokio::spawn(pass(near_read, far_write, gate.clone()));
            tokio::spawn(pass(far_read, near_write, gate.clone()));
        }
    });
    addr
}

fn raft_message(bytes: Vec<u8>) -> RaftMessage {
    RaftMessage { kind: 1, from: 4, target: 5, bytes: Payload(bytes) }
}

const LONG: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_joiner_checks_the_root_and_gets_a_certificate() {
    let (_s, root, addr) = start().await;
    let token = JoinToken::new(root.cert_pem(), [1; 16]).unwrap();
    let pem = fetch_root(&addr, &token).await.unwrap().pem;
    let (key, csr) = key_pair().unwrap();
    let req = CertificateRequest { csr, token: token.to_string(), availability: Availability::Active, expired: String::new() };
    let got = request_certificate(&addr, &pem, req.clone()).await.unwrap().unwrap();
    let tls = Tls::new(&Credentials { root: pem, chain: got.chain, key }).unwrap();
    assert_eq!(tls.identity().node, got.node);
    let c = Client::new(&addr, None, &tls).unwrap();
    assert_eq!(c.renew(req).await.unwrap().unwrap_err().message, got.node.to_string());

    let other = RootCa::create(SystemTime::now()).unwrap();
    let wrong = JoinToken::new(other.cert_pem(), [1; 16]).unwrap();
    let e = fetch_root(&addr, &wrong).await.unwrap_err().to_string();
    assert!(e.starts_with("remote CA does not match fingerprint. Expected: "), "{e}");
}

#[tokio::test]
async fn roles_and_roots_decide_who_may_call() {
    let (_s, root, addr) = start().await;
    let manager = Tls::new(&credentials(&root, 2, Role::Manager)).unwrap();
    let c = Client::new(&addr, Some(NodeId(u128::MAX - 1)), &manager).unwrap();
    let call = ControlCall::Request(Box::new(ControlRequest::ListNodes));
    assert!(matches!(c.control(call.clone(), LONG).await.unwrap(), ControlAnswer::Joined));
    let big = vec![7; 3 << 20];
    assert_eq!(c.raft(raft_message(big.clone())).await.unwrap(), big);
    // The same manager with a worker's certificate from its next connection on.
    manager.replace(&credentials(&root, 2, Role::Worker)).unwrap();
    let c = Client::new(&addr, None, &manager).unwrap();
    assert!(matches!(c.control(call.clone(), LONG).await, Err(WireError::Denied { .. })));
    assert!(matches!(c.raft(raft_message(vec![])).await, Err(WireError::Denied { .. })));
    // Not the node that was meant.
    let c = Client::new(&addr, Some(NodeId(u128::MAX - 77)), &manager).unwrap();
    assert!(matches!(c.control(call.clone(), LONG).await, Err(WireError::Connect { .. })));
    // A stranger's certificate.
    let foreign = RootCa::create(SystemTime::now()).unwrap();
    let mut cred = credentials(&foreign, 3, Role::Manager);
    cred.root = root.cert_pem().into();
    let c = Client::new(&addr, None, &Tls::new(&cred).unwrap()).unwrap();
    assert!(c.control(call, LONG).await.is_err());
}

#[tokio::test]
async fn a_stopped_server_cuts_sessions_and_a_silent_peer_is_noticed() {
    let (s, root, addr) = start().await;
    let tls = Tls::new(&credentials(&root, 2, Role::Worker)).unwrap();
    let c = Client::new(&addr, None, &tls).unwrap();
    let (tx, rx) = mpsc::channel(1);
    let mut session = c.session(rx, LONG).await.unwrap();
    tx.send(AgentMessage::Heartbeat).await.unwrap();
    assert!(matches!(session.next().await, Some(Ok(ManagerMessage::Heartbeat))));
    drop(s);
    let end = tokio::time::timeout(LONG, session.next()).await.unwrap();
    assert!(matches!(end, None | Some(Err(_))));

    // Accepts and says nothing, as a host does that lost its power behind a switch.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = mute.local_addr().unwrap().to_string();
    let c = Client::new(&addr, None, &tls).unwrap();
    // Noticed by the handshake's own limit, not by the call's.
    let answer = c.control(ControlCall::Request(Box::new(ControlRequest::ListNodes)), LONG * 4).await;
    assert!(matches!(answer, Err(WireError::Connect { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_tunnel_outlives_a_standstill_that_ends_a_session() {
    let (_s, root, addr, mut session_ended, _) = start_and_watch().await;
    let (gate, open) = watch::channel(true);
    let addr = gated(addr, open).await;
    let tls = Tls::new(&credentials(&root, 2, Role::Worker)).unwrap();
    let (out, rx) = mpsc::channel(1);
    let mut tunnel = Client::patient(&addr, &tls).unwrap().tunnel(rx, LONG).await.unwrap();
    let word = |text: &str| TunnelMessage::Data(Bytes(Arc::from(text.as_bytes())));
    out.send(word("before")).await.unwrap();
    assert_eq!(tunnel.next().await, Some(word("before")));
    // Later than the tunnel, so that this would be given up before it.
    let (session_out, rx) = mpsc::channel(1);
    let mut session = Client::new(&addr, None, &tls).unwrap().session(rx, LONG).await.unwrap();
    session_out.send(AgentMessage::Heartbeat).await.unwrap();
    assert!(matches!(session.next().await, Some(Ok(ManagerMessage::Heartbeat))));

    gate.send_replace(false);
    out.send(word("meanwhile")).await.unwrap();
    // Both sides find out, in about the same time.
    let end = tokio::time::timeout(2 * LONG, session.next()).await.expect("the agent finds out");
    assert!(matches!(end, None | Some(Err(_))), "{end:?}");
    tokio::time::timeout(2 * LONG, session_ended.wait_for(|ended| *ended)).await.expect("the manager finds out").unwrap();
    gate.send_replace(true);
    assert_eq!(tunnel.next().await, Some(word("meanwhile")));
}

#[tokio::test]
async fn the_last_words_through_a_tunnel_are_heard() {
    let (_s, root, addr, _, mut heard) = start_and_watch().await;
    let tls = Tls::new(&credentials(&root, 2, Role::Worker)).unwrap();
    for round in 0..20 {
        let (out, rx) = mpsc::channel(4);
        out.send(TunnelMessage::Begin { ask: skep_types::LogId(round) }).await.unwrap();
        let incoming = Client::patient(&addr, &tls).unwrap().tunnel(rx, LONG).await.unwrap();
        let mut io = tunnel::stream(incoming, out, ());
        let mut input = Vec::new();
        io.read_to_end(&mut input).await.unwrap();
        // As a process that sums up its input and ends.
        io.write_all(b"that is all").await.unwrap();
        drop(io);
        let all = tokio::time::timeout(LONG, heard.recv()).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(all).unwrap(), "that is all", "round {round}");
    }
}
