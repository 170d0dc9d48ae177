//! The demo image's server: says who answered, and who asked.
//!
//! `GET /` answers with the container's host name, its version (environment variable `VERSION`), its own address and the
//! client's; `GET /health` with `ok`. Over UDP on the same port every datagram is answered with the same text. On SIGTERM it
//! goes on serving for a while if told to, as a service that drains does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::output::say;

/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// How the server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// TCP and UDP port.
    pub port: u16,
    /// How long it goes on after SIGTERM.
    pub slow_shutdown: Duration,
}

fn text(own: SocketAddr, client: SocketAddr) -> String {
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let version = std::env::var("VERSION").unwrap_or_else(|_| "unset".to_owned());
    format!(
        "Hostname: {}\nVersion: {version}\nAddress: {}\nClient: {}\nClientPort: {}\n",
        hostname.trim(),
        own.ip().to_canonical(),
        client.ip().to_canonical(),
        client.port()
    )
}

fn answer(request: &Request<Incoming>, own: SocketAddr, client: SocketAddr) -> Response<Full<Bytes>> {
    say(format_args!("{} {} {}", client.ip().to_canonical(), request.method(), request.uri().path()));
    let (status, body) = match request.uri().path() {
        "/" => (StatusCode::OK, text(own, client)),
        "/health" => (StatusCode::OK, "ok\n".to_owned()),
        other => (StatusCode::NOT_FOUND, format!("no page {other}\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

async fn serve_udp(socket: UdpSocket) {
    let mut datagram = [0u8; 2048];
    while let Ok((_, client)) = socket.recv_from(&mut datagram).await {
        let own = socket.local_addr().unwrap_or(client);
        // A client that is gone needs no answer.
        let _ = socket.send_to(text(own, client).as_bytes(), client).await;
    }
}

async fn serve_tcp(listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, client)) = listener.accept().await else { continue };
        let own = stream.local_addr().unwrap_or(client);
        tokio::spawn(async move {
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, own, client)) });
            // One that says that it has nothing more to ask still gets its answer. A client that breaks off is no concern of the
            // server.
            let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the port cannot be used.
pub async fn run(options: Options) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Of both families, where the kernel has both.
    let listener = match TcpListener::bind(("::", options.port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", options.port)).await?,
    };
    let udp = match UdpSocket::bind(("::", options.port)).await {
        Ok(udp) => udp,
        Err(_) => UdpSocket::bind(("0.0.0.0", options.port)).await?,
    };
    say(format_args!("listening on port {}", options.port));
    tokio::spawn(serve_udp(udp));
    tokio::spawn(serve_tcp(listener));
    tokio::select! {
        _ = terminate.recv() => tokio::time::sleep(options.slow_shutdown).await,
        _ = interrupt.recv() => {}
    }
    say(format_args!("stopped"));
    Ok(())
}
