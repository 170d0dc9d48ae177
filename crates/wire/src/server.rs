//! The listening side: accept loop, handshake, and the check of who may call what. Must never hand a call to the handler whose
//! caller has no right to make it by its certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use skep_pki::Identity;
use skep_types::control::{CertificateRequest, ControlError, IssuedCertificate};
use skep_types::session::{AgentMessage, ManagerMessage};
use skep_types::spec::Role;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::conn::{Conn, PeerInfo};
use crate::message::{
    CertificateAnswer, ControlAnswer, ControlCall, Empty, Gossip, LogMessage, Payload, RaftAnswer, RaftMessage, RootAnswer,
    TunnelMessage,
};
use crate::{CONNECT_TIMEOUT, KeepAlive, MAX_GOSSIP, MAX_MESSAGE, PATIENT, PATIENT_PROTOCOL, QUICK, Tls};

/// Generated glue.
#[allow(missing_docs, unreachable_pub, clippy::all, unused)]
pub(crate) mod rpc {
    include!(concat!(env!("OUT_DIR"), "/skep.Ca.rs"));
    include!(concat!(env!("OUT_DIR"), "/skep.Raft.rs"));
    include!(concat!(env!("OUT_DIR"), "/skep.Control.rs"));
    include!(concat!(env!("OUT_DIR"), "/skep.Dispatcher.rs"));
    include!(concat!(env!("OUT_DIR"), "/skep.Gossip.rs"));
}

/// Handshakes going on at once; more strangers than this have to wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// Accepted connections not yet taken by HTTP; taken at once, so this is only a hand-over.
const ACCEPTED: usize = 16;
/// Messages of a tunnel that wait for its connection; then whoever sends waits.
const TUNNEL_OUT: usize = 4;
/// Messages to one agent that wait for its connection; then the session's task waits.
const SESSION_OUT: usize = 16;

/// What a manager does with calls. Who calls is already verified.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The swarm's root certificate, and the time here.
    async fn root(&self) -> RootAnswer;
    /// A first certificate for a joiner.
    async fn issue(&self, request: CertificateRequest) -> Result<IssuedCertificate, ControlError>;
    /// A new certificate for a node of the swarm.
    async fn renew(&self, who: Identity, csr: String) -> Result<IssuedCertificate, ControlError>;
    /// A raft message from another manager.
    async fn raft(&self, who: Identity, message: RaftMessage) -> Result<Vec<u8>, String>;
    /// A call from another manager.
    async fn control(&self, who: Identity, call: ControlCall) -> ControlAnswer;
    /// An agent's session; lasts until this returns.
    async fn session(&self, who: Identity, peer: SocketAddr, incoming: Incoming, out: mpsc::Sender<ManagerMessage>);
    /// Logs that an agent was asked for; lasts until this returns.
    async fn logs(&self, who: Identity, incoming: LogStream);
    /// A way to a task's container that an agent was asked for; ends when `out` is dropped.
    async fn tunnel(&self, who: Identity, incoming: TunnelStream, out: mpsc::Sender<TunnelMessage>) {
        // Whoever wants no containers lets go.
        drop((who, incoming, out));
    }
}

/// What a node does with what others tell it. Who tells is already verified.
pub trait Listener: Send + Sync + 'static {
    /// A node says what has become of its tasks.
    fn heard(&self, who: Identity, gossip: Gossip);
}

/// What comes through a tunnel; ends when the other side ended it or its connection broke.
pub type TunnelStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = TunnelMessage> + Send>>;

/// What an agent sends in its session; ends when the agent ended it or its connection broke.
pub type Incoming = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = AgentMessage> + Send>>;

/// Logs that an agent sends; ends when all is said or the connection broke.
pub type LogStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = LogMessage> + Send>>;

/// A listening server. Stops, and cuts its connections, when dropped.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Server {
    /// Serves on `listener` until dropped.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(listener: TcpListener, tls: Tls, handler: Arc<dyn Handler>) -> std::io::Result<Self> {
        Self::open(listener, tls, &routes(Service(handler)))
    }

    /// Serves what nodes tell each other on `listener` until dropped.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn listen(listener: TcpListener, tls: Tls, ear: Arc<dyn Listener>) -> std::io::Result<Self> {
        let told = rpc::gossip_server::GossipServer::new(Ear(ear)).max_decoding_message_size(MAX_GOSSIP);
        Self::open(listener, tls, &Routes::new(told))
    }

    fn open(listener: TcpListener, tls: Tls, routes: &Routes) -> std::io::Result<Self> {
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let serve = |alive| serve(routes.clone(), alive, stopped.clone());
        let doors = Doors { quick: serve(QUICK), patient: serve(PATIENT) };
        tokio::spawn(accept(listener, tls, doors, stopped));
        Ok(Self { stop, addr })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Connections on their way to HTTP.
type Accepted = mpsc::Sender<Result<Conn, std::io::Error>>;

/// Where connections go, by what they call themselves.
#[derive(Clone)]
struct Doors {
    quick: Accepted,
    patient: Accepted,
}

/// All that a manager answers.
fn routes(service: Service) -> Routes {
    let ca = rpc::ca_server::CaServer::new(service.clone());
    let raft = rpc::raft_server::RaftServer::new(service.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let control = rpc::control_server::ControlServer::new(service.clone())
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let dispatcher = rpc::dispatcher_server::DispatcherServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Routes::new(ca).add_service(raft).add_service(control).add_service(dispatcher)
}

/// Serves connections, each given up when it says nothing for as long as `alive` says.
fn serve(routes: Routes, alive: KeepAlive, mut until: watch::Receiver<bool>) -> Accepted {
    let (tx, rx) = mpsc::channel(ACCEPTED);
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(alive.interval))
        .http2_keepalive_timeout(Some(alive.timeout))
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .add_routes(routes);
    tokio::spawn(async move {
        let end = async move {
            // An error means that the server is gone, which is the same.
            let _ = until.wait_for(|s| *s).await;
        };
        if let Err(e) = router.serve_with_incoming_shutdown(ReceiverStream::new(rx), end).await {
            tracing::warn!(error = %e, "wire: server ended");
        }
    });
    tx
}

async fn accept(listener: TcpListener, tls: Tls, doors: Doors, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            a = listener.accept() => a,
            _ = stop.wait_for(|s| *s) => return,
        };
        let (tcp, remote) = match accepted {
            Ok(a) => a,
            Err(e) => {
                tracing::warn!(error = %e, "wire: accept");
                // Out of file descriptors, most likely: do not spin.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, doors, stop) = (tls.clone(), doors.clone(), stop.clone());
        tokio::spawn(async move {
            match handshake(tcp, remote, &tls, stop).await {
                // The server may have ended meanwhile.
                Ok((c, patient)) => {
                    let door = if patient { doors.patient } else { doors.quick };
                    drop(door.send(Ok(c)).await);
                }
                Err(e) => tracing::debug!(%remote, error = %e, "wire: handshake failed"),
            }
            drop(slot);
        });
    }
}

/// The connection, and whether it is for logs or a tunnel.
async fn handshake(
    tcp: TcpStream,
    remote: SocketAddr,
    tls: &Tls,
    stop: watch::Receiver<bool>,
) -> Result<(Conn, bool), Box<dyn std::error::Error + Send + Sync>> {
    tcp.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(tls.state().server.clone());
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, acceptor.accept(tcp)).await??;
    let identity = match stream.get_ref().1.peer_certificates().and_then(|c| c.first()) {
        Some(cert) => Some(skep_pki::identity(cert)?),
        None => None,
    };
    let patient = stream.get_ref().1.alpn_protocol() == Some(PATIENT_PROTOCOL);
    Ok((Conn::new(stream, PeerInfo { remote, identity }, stop), patient))
}

#[derive(Clone)]
struct Service(Arc<dyn Handler>);

#[derive(Clone)]
struct Ear(Arc<dyn Listener>);

#[async_trait]
impl rpc::gossip_server::Gossip for Ear {
    async fn tell(&self, r: Request<Gossip>) -> Result<Response<Empty>, Status> {
        let who = node(&r)?;
        self.0.heard(who, r.into_inner());
        Ok(Response::new(Empty {}))
    }
}

fn peer<T>(r: &Request<T>) -> Result<PeerInfo, Status> {
    r.extensions().get::<PeerInfo>().copied().ok_or_else(|| Status::internal("connection without a peer"))
}

fn node<T>(r: &Request<T>) -> Result<Identity, Status> {
    peer(r)?.identity.ok_or_else(|| Status::unauthenticated("a certificate of the swarm is needed"))
}

fn manager<T>(r: &Request<T>) -> Result<Identity, Status> {
    let who = node(r)?;
    if who.role == Role::Manager {
        Ok(who)
    } else {
        Err(Status::permission_denied("Permission denied: unauthorized peer role: rpc error: only managers may do this"))
    }
}

#[async_trait]
impl rpc::ca_server::Ca for Service {
    async fn root(&self, _: Request<Empty>) -> Result<Response<RootAnswer>, Status> {
        Ok(Response::new(self.0.root().await))
    }

    async fn issue(&self, r: Request<CertificateRequest>) -> Result<Response<CertificateAnswer>, Status> {
        Ok(Response::new(CertificateAnswer(self.0.issue(r.into_inner()).await)))
    }

    async fn renew(&self, r: Request<CertificateRequest>) -> Result<Response<CertificateAnswer>, Status> {
        let who = node(&r)?;
        Ok(Response::new(CertificateAnswer(self.0.renew(who, r.into_inner().csr).await)))
    }
}

#[async_trait]
impl rpc::raft_server::Raft for Service {
    async fn call(&self, r: Request<RaftMessage>) -> Result<Response<RaftAnswer>, Status> {
        let who = manager(&r)?;
        let bytes = self.0.raft(who, r.into_inner()).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(RaftAnswer { bytes: Payload(bytes) }))
    }
}

#[async_trait]
impl rpc::control_server::Control for Service {
    async fn call(&self, r: Request<ControlCall>) -> Result<Response<ControlAnswer>, Status> {
        let who = manager(&r)?;
        Ok(Response::new(self.0.control(who, r.into_inner()).await))
    }
}

type Tunnelled = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<TunnelMessage, Status>> + Send>>;
type Outgoing = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ManagerMessage, Status>> + Send>>;

#[async_trait]
impl rpc::dispatcher_server::Dispatcher for Service {
    type SessionStream = Outgoing;
    type TunnelStream = Tunnelled;

    async fn tunnel(&self, r: Request<Streaming<TunnelMessage>>) -> Result<Response<Tunnelled>, Status> {
        let who = node(&r)?;
        let (tx, rx) = mpsc::channel(TUNNEL_OUT);
        let handler = self.0.clone();
        let whole =
            |m: Result<TunnelMessage, Status>| m.inspect_err(|e| tracing::debug!(error = %e, "wire: a tunnel broke")).ok();
        let incoming: TunnelStream = Box::pin(r.into_inner().map_while(whole));
        tokio::spawn(async move { handler.tunnel(who, incoming, tx).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx).map(Ok))))
    }

    async fn session(&self, r: Request<Streaming<AgentMessage>>) -> Result<Response<Outgoing>, Status> {
        let (who, peer) = (node(&r)?, peer(&r)?);
        let (tx, rx) = mpsc::channel(SESSION_OUT);
        let handler = self.0.clone();
        let incoming: Incoming = Box::pin(r.into_inner().map_while(Result::ok));
        tokio::spawn(async move { handler.session(who, peer.remote, incoming, tx).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(rx).map(Ok))))
    }

    async fn logs(&self, r: Request<Streaming<LogMessage>>) -> Result<Response<Empty>, Status> {
        let who = node(&r)?;
        self.0.logs(who, Box::pin(r.into_inner().map_while(Result::ok))).await;
        Ok(Response::new(Empty {}))
    }
}
