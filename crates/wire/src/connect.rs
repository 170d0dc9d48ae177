//! Outgoing connections: TCP and TLS with the settings of this moment. Must never retry by itself; the caller knows how often.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{CONNECT_TIMEOUT, KeepAlive, PATIENT, PATIENT_PROTOCOL, QUICK, Tls, WireError};

/// Where the settings of a connection come from.
#[derive(Clone)]
pub(crate) enum Settings {
    Node(Tls),
    /// For logs and tunnels.
    Patient(Tls),
    Fixed(Arc<ClientConfig>),
}

impl Settings {
    fn get(&self) -> Arc<ClientConfig> {
        match self {
            Self::Node(t) => t.state().client.clone(),
            Self::Patient(t) => {
                let mut settings = ClientConfig::clone(&t.state().client);
                settings.alpn_protocols.insert(0, PATIENT_PROTOCOL.to_vec());
                Arc::new(settings)
            }
            Self::Fixed(c) => c.clone(),
        }
    }

    fn keep_alive(&self) -> KeepAlive {
        if matches!(self, Self::Patient(_)) { PATIENT } else { QUICK }
    }
}

#[derive(Clone)]
pub(crate) struct Connector {
    addr: String,
    name: ServerName<'static>,
    settings: Settings,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let me = self.clone();
        Box::pin(async move {
            let late = |what: &'static str| move |_| io::Error::new(io::ErrorKind::TimedOut, what);
            let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&me.addr))
                .await
                .map_err(late("no TCP connection in time"))??;
            tcp.set_nodelay(true)?;
            let tls = TlsConnector::from(me.settings.get()).connect(me.name, tcp);
            let tls = tokio::time::timeout(CONNECT_TIMEOUT, tls).await.map_err(late("no TLS handshake in time"))??;
            Ok(TokioIo::new(tls))
        })
    }
}

/// A channel to `addr` (`host:port`) whose server must have a certificate for `name`. Connects at the first call, and again
/// when the connection broke.
pub(crate) fn channel(addr: &str, name: &str, settings: Settings) -> Result<Channel, WireError> {
    let bad = |cause: String| WireError::Connect { addr: addr.to_owned(), cause };
    let name = ServerName::try_from(name.to_owned()).map_err(|e| bad(e.to_string()))?;
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|e| bad(e.to_string()))?
        .http2_keep_alive_interval(settings.keep_alive().interval)
        .keep_alive_timeout(settings.keep_alive().timeout)
        .keep_alive_while_idle(true)
        // Raft batches and table lists are larger than HTTP/2's default of 64 KiB.
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024);
    let connector = Connector { addr: addr.to_owned(), name, settings };
    Ok(endpoint.connect_with_connector_lazy(connector))
}
