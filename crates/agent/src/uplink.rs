//! The way to the managers. A trait, so that a simulation can be the network. Must never retry by itself.

use std::time::Duration;

use async_trait::async_trait;
use skep_types::gossip::Gossip;
use skep_types::logs::LogMessage;
use skep_types::object::TlsInfo;
use skep_types::session::AgentMessage;
use skep_types::tunnel::TunnelMessage;
use skep_types::{NodeId, Time};
use skep_wire::{Client, SessionStream, Tls, TunnelStream, WireError};
use tokio::sync::mpsc;

/// How an agent reaches a manager.
#[async_trait]
pub trait Uplink: Send + Sync + 'static {
    /// Opens a session with the manager at `addr` (`ip:port`): what is put into `outgoing` is sent.
    ///
    /// # Errors
    /// [`WireError`] if it cannot be reached within `within` or refuses.
    async fn session(
        &self,
        addr: &str,
        outgoing: mpsc::Receiver<AgentMessage>,
        within: Duration,
    ) -> Result<SessionStream, WireError>;

    /// Brings logs to the manager at `addr` that asked for them; returns when that has all of them, or wants no more.
    ///
    /// # Errors
    /// [`WireError`] if it cannot be reached, or the connection breaks.
    async fn logs(&self, addr: &str, messages: mpsc::Receiver<LogMessage>) -> Result<(), WireError>;

    /// Brings a tunnel to the manager at `addr` that asked for it: what is put into `outgoing` is sent.
    ///
    /// # Errors
    /// [`WireError`] if it cannot be reached within `within` or refuses.
    async fn tunnel(
        &self,
        addr: &str,
        outgoing: mpsc::Receiver<TunnelMessage>,
        within: Duration,
    ) -> Result<TunnelStream, WireError> {
        drop((outgoing, within));
        Err(WireError::Connect { addr: addr.to_owned(), cause: "there are no tunnels on this network".into() })
    }

    /// Tells the node at `addr` (`ip:port`) something; for when no manager can be reached.
    ///
    /// # Errors
    /// [`WireError`] if it cannot be reached within `within`, or is not that node.
    async fn gossip(&self, addr: &str, node: NodeId, gossip: Gossip, within: Duration) -> Result<(), WireError> {
        drop((node, gossip, within));
        Err(WireError::Connect { addr: addr.to_owned(), cause: "nodes do not speak to each other on this network".into() })
    }

    /// What this node trusts, who issued its certificate, and from when until when that is valid, for its description.
    fn tls(&self) -> Option<(TlsInfo, (Time, Time))> {
        None
    }
}

/// Real connections: each session has its own, made with the certificate of that moment.
pub struct TlsUplink(pub Tls);

#[async_trait]
impl Uplink for TlsUplink {
    async fn session(
        &self,
        addr: &str,
        outgoing: mpsc::Receiver<AgentMessage>,
        within: Duration,
    ) -> Result<SessionStream, WireError> {
        Client::new(addr, None, &self.0)?.session(outgoing, within).await
    }

    async fn logs(&self, addr: &str, messages: mpsc::Receiver<LogMessage>) -> Result<(), WireError> {
        Client::patient(addr, &self.0)?.logs(messages).await
    }

    async fn tunnel(
        &self,
        addr: &str,
        outgoing: mpsc::Receiver<TunnelMessage>,
        within: Duration,
    ) -> Result<TunnelStream, WireError> {
        Client::patient(addr, &self.0)?.tunnel(outgoing, within).await
    }

    async fn gossip(&self, addr: &str, node: NodeId, gossip: Gossip, within: Duration) -> Result<(), WireError> {
        Client::new(addr, Some(node), &self.0)?.gossip(gossip, within).await
    }

    fn tls(&self) -> Option<(TlsInfo, (Time, Time))> {
        Some(self.0.info())
    }
}
