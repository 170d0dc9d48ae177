//! Calls to one manager. Must never retry: only the caller knows whether a call may be made twice.

use std::error::Error as _;
use std::pin::Pin;
use std::time::Duration;

use skep_pki::{CA_NAME, JoinToken};
use skep_types::NodeId;
use skep_types::control::{CertificateRequest, ControlError, IssuedCertificate};
use skep_types::session::{AgentMessage, ManagerMessage};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::connect::{Settings, channel};
use crate::message::{ControlAnswer, ControlCall, Empty, Gossip, LogMessage, RaftMessage, RootAnswer, TunnelMessage};
use crate::server::rpc::{
    ca_client::CaClient, control_client::ControlClient, dispatcher_client::DispatcherClient, gossip_client::GossipClient,
    raft_client::RaftClient,
};
use crate::{MAX_MESSAGE, Tls, TunnelStream, WireError, tls};

/// A joiner waits this long for the root or a certificate, as the reference does.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to one manager. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    addr: String,
    channel: Channel,
}

fn failure(addr: &str, s: &Status) -> WireError {
    let addr = addr.to_owned();
    // The chain tells why a connection failed; the status itself says "transport error" only.
    let mut cause = s.message().to_owned();
    let mut source = s.source();
    while let Some(e) = source {
        cause = format!("{cause}: {e}");
        source = e.source();
    }
    match s.code() {
        Code::PermissionDenied | Code::Unauthenticated => WireError::Denied { addr, message: s.message().to_owned() },
        Code::Unavailable | Code::Unknown | Code::Cancelled => WireError::Connect { addr, cause },
        _ => WireError::Failed { addr, message: cause },
    }
}

async fn in_time<T>(
    addr: &str,
    after: Duration,
    f: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(after, f).await {
        Ok(Ok(r)) => Ok(r.into_inner()),
        Ok(Err(s)) => Err(failure(addr, &s)),
        Err(_) => Err(WireError::Timeout { addr: addr.to_owned(), after }),
    }
}

impl Client {
    /// The way to the manager at `addr` (`host:port`). With `node` its certificate must be that node's, else any manager's.
    ///
    /// # Errors
    /// [`WireError::Connect`] if the address is no address. The connection itself is made at the first call.
    pub fn new(addr: &str, node: Option<NodeId>, tls: &Tls) -> Result<Self, WireError> {
        let name = node.map_or_else(|| CA_NAME.to_owned(), |n| n.to_string());
        Ok(Self { addr: addr.to_owned(), channel: channel(addr, &name, Settings::Node(tls.clone()))? })
    }

    /// The way to the manager at `addr` for logs and tunnels, which is not given up as soon as others are.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn patient(addr: &str, tls: &Tls) -> Result<Self, WireError> {
        Ok(Self { addr: addr.to_owned(), channel: channel(addr, CA_NAME, Settings::Patient(tls.clone()))? })
    }

    /// The manager's address.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Asks the leader for something.
    ///
    /// # Errors
    /// [`WireError`] if there is no answer.
    pub async fn control(&self, call: ControlCall, after: Duration) -> Result<ControlAnswer, WireError> {
        let mut c = ControlClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        in_time(&self.addr, after, c.call(call)).await
    }

    /// Sends a raft message. The caller limits the time.
    ///
    /// # Errors
    /// [`WireError`] if there is no answer.
    pub async fn raft(&self, message: RaftMessage) -> Result<Vec<u8>, WireError> {
        let mut c =
            RaftClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        Ok(c.call(message).await.map_err(|s| failure(&self.addr, &s))?.into_inner().bytes.0)
    }

    /// Renews this node's certificate.
    ///
    /// # Errors
    /// [`WireError`] if there is no answer; the inner error is the manager's refusal.
    pub async fn renew(&self, request: CertificateRequest) -> Result<Result<IssuedCertificate, ControlError>, WireError> {
        let mut c = CaClient::new(self.channel.clone());
        Ok(in_time(&self.addr, JOIN_TIMEOUT, c.renew(request)).await?.0)
    }

    /// Tells another node something.
    ///
    /// # Errors
    /// [`WireError`] if it cannot be reached within `after`, or is no node of this swarm.
    pub async fn gossip(&self, gossip: Gossip, after: Duration) -> Result<(), WireError> {
        in_time(&self.addr, after, GossipClient::new(self.channel.clone()).tell(gossip)).await.map(drop)
    }

    /// Brings logs to the manager that asked for them; returns when that has all of them, or wants no more.
    ///
    /// # Errors
    /// [`WireError`] if the manager cannot be reached or its connection breaks.
    pub async fn logs(&self, messages: mpsc::Receiver<LogMessage>) -> Result<(), WireError> {
        let mut c = DispatcherClient::new(self.channel.clone()).max_encoding_message_size(MAX_MESSAGE);
        c.logs(ReceiverStream::new(messages)).await.map(drop).map_err(|s| failure(&self.addr, &s))
    }

    /// Brings a tunnel to the manager that asked for it: what is put into `outgoing` is sent, what comes back is in the returned stream.
    ///
    /// # Errors
    /// [`WireError`] if the manager cannot be reached within `after` or refuses.
    pub async fn tunnel(&self, outgoing: mpsc::Receiver<TunnelMessage>, after: Duration) -> Result<TunnelStream, WireError> {
        let mut c = DispatcherClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let stream = in_time(&self.addr, after, c.tunnel(ReceiverStream::new(outgoing))).await?;
        // The connection lives as long as its stream.
        let kept = self.clone();
        let whole = move |m: Result<TunnelMessage, Status>| {
            m.inspect_err(|e| tracing::debug!(manager = kept.addr, error = %e, "wire: a tunnel broke")).ok()
        };
        Ok(Box::pin(stream.map_while(whole)))
    }

    /// Opens an agent's session: what is put into `outgoing` is sent, what the manager sends is in the returned stream.
    ///
    /// # Errors
    /// [`WireError`] if the manager cannot be reached within `after` or refuses.
    pub async fn session(&self, outgoing: mpsc::Receiver<AgentMessage>, after: Duration) -> Result<SessionStream, WireError> {
        let mut c = DispatcherClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let stream = in_time(&self.addr, after, c.session(ReceiverStream::new(outgoing))).await?;
        // The connection lives as long as its stream.
        let (addr, kept) = (self.addr.clone(), self.clone());
        Ok(Box::pin(stream.map(move |m| {
            let _ = &kept;
            m.map_err(|s| failure(&addr, &s))
        })))
    }
}

/// What the manager sends in a session: ends when the manager ended it, or with an error when the connection broke.
pub type SessionStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<ManagerMessage, WireError>> + Send>>;

/// Fetches the root certificate of the swarm at `addr` and checks it against the token, and asks for the time there; the server
/// itself cannot be verified yet.
///
/// # Errors
/// [`WireError::Pki`] with `remote CA does not match fingerprint` for a wrong root, otherwise why there is no answer.
pub async fn fetch_root(addr: &str, token: &JoinToken) -> Result<RootAnswer, WireError> {
    let mut c = CaClient::new(channel(addr, CA_NAME, Settings::Fixed(tls::unverified()?))?);
    let root = in_time(addr, JOIN_TIMEOUT, c.root(Empty {})).await?;
    token.check_root(&root.pem)?;
    Ok(root)
}

/// Asks a manager, verified by `root_pem`, for a first certificate.
///
/// # Errors
/// [`WireError`] if there is no answer; the inner error is the manager's refusal.
pub async fn request_certificate(
    addr: &str,
    root_pem: &str,
    request: CertificateRequest,
) -> Result<Result<IssuedCertificate, ControlError>, WireError> {
    let mut c = CaClient::new(channel(addr, CA_NAME, Settings::Fixed(tls::joiner(root_pem)?))?);
    Ok(in_time(addr, JOIN_TIMEOUT, c.issue(request)).await?.0)
}
