//! An accepted connection that knows its peer and can be cut from this side. Must never be kept alive by a peer after the
//! server was stopped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use skep_pki::Identity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct PeerInfo {
    /// Its address.
    pub remote: SocketAddr,
    /// Who it is by its certificate; absent for a joiner.
    pub identity: Option<Identity>,
}

pub(crate) struct Conn {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Conn {
    pub(crate) fn new(stream: TlsStream<TcpStream>, info: PeerInfo, mut stop: watch::Receiver<bool>) -> Self {
        let cut = Box::pin(async move {
            // An error means that the server is gone altogether.
            let _ = stop.wait_for(|s| *s).await;
        });
        Self { stream, info, cut }
    }
}

impl Connected for Conn {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.info
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            // A finished future must not be polled again.
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
