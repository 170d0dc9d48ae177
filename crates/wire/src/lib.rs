//! Calls between managers, and between agents and managers: TLS 1.3 with certificates on both sides, HTTP/2, MessagePack.
//!
//! This crate moves messages and says who sent them. It must never decide anything: what a message means is the business of
//! the [`Handler`].

#![deny(unsafe_code)]

mod client;
mod clock;
mod codec;
mod conn;
mod connect;
pub mod message;
mod server;
mod tls;
pub mod tunnel;

pub use client::{Client, SessionStream, fetch_root, request_certificate};
pub use clock::SystemClock;
pub use conn::PeerInfo;
pub use message::{ControlAnswer, ControlCall, Payload, RaftMessage, Registration, RootAnswer};
pub use server::{Handler, Incoming, Listener, LogStream, Server, TunnelStream};
pub use skep_pki::Identity;
pub use tls::{Credentials, Tls};

use std::time::Duration;

/// How long a TCP connection and its handshake may take each; a powered-off host is noticed after this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How soon a connection that says nothing is taken for dead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    /// With nothing heard for so long it is asked for a sign of life.
    pub(crate) interval: Duration,
    /// If that does not come within this, it is dead.
    pub(crate) timeout: Duration,
}

/// Sessions and calls: whoever waits on one must soon turn to another host.
pub(crate) const QUICK: KeepAlive = KeepAlive { interval: Duration::from_millis(500), timeout: Duration::from_secs(1) };
/// Logs and tunnels: the answer to a sign of life stands in line behind megabytes, at a host that may have much to do, and nothing
/// is won by giving up early. A node that is down is known sooner by its session.
pub(crate) const PATIENT: KeepAlive = KeepAlive { interval: Duration::from_secs(2), timeout: Duration::from_secs(15) };
/// How a connection for logs or a tunnel calls itself (ALPN), so that the server is patient with it too. A server of the version
/// before takes it as any other.
pub(crate) const PATIENT_PROTOCOL: &[u8] = b"skep-stream";
/// Largest message. Control answers list whole tables; raft messages are below 4 MiB.
pub const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// Largest message from node to node: what a node says of itself at most, 40 bytes for each address.
pub const MAX_GOSSIP: usize = 1024 * 1024;

/// Why a call got no answer of the other side's handler.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WireError {
    /// No connection, or it broke.
    #[error("connect to {addr}: {cause}")]
    Connect {
        /// Address.
        addr: String,
        /// Cause.
        cause: String,
    },
    /// No answer in time.
    #[error("call {addr}: no answer within {after:?}")]
    Timeout {
        /// Address.
        addr: String,
        /// Limit.
        after: Duration,
    },
    /// The other side refuses this caller.
    #[error("call {addr}: permission denied: {message}")]
    Denied {
        /// Address.
        addr: String,
        /// Its words.
        message: String,
    },
    /// The other side failed.
    #[error("call {addr}: {message}")]
    Failed {
        /// Address.
        addr: String,
        /// Its words.
        message: String,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Pki(#[from] skep_pki::PkiError),
    /// TLS cannot be set up with them.
    #[error("set up TLS: {0}")]
    Tls(String),
}
