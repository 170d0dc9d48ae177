//! Connections that become raw streams: attach and exec.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::Stdio;
use crate::version::Version;

/// How long a client may take to close its side once it has all the output.
const FAREWELL: Duration = Duration::from_secs(1);
/// Largest piece read from a client at once.
const CHUNK: usize = 32 << 10;

/// A request that asks for its connection.
pub(crate) struct Hijack {
    upgrade: OnUpgrade,
    asked: bool,
    multiplexed_type: bool,
}

impl Hijack {
    /// Takes what is needed off the request.
    pub(crate) fn of(request: &mut Request<Body>) -> Self {
        let asked = has_upgrade(request.headers());
        let version = request.extensions().get::<Version>().copied().unwrap_or(Version(1, 50));
        Self { upgrade: hyper::upgrade::on(request), asked, multiplexed_type: version >= Version(1, 42) }
    }

    /// The answer that turns the connection over; `tty` streams are raw, others multiplexed.
    pub(crate) fn accept(&self, tty: bool) -> Response {
        let kind = if tty || !self.multiplexed_type {
            "application/vnd.docker.raw-stream"
        } else {
            "application/vnd.docker.multiplexed-stream"
        };
        if self.asked {
            let headers = [(header::CONTENT_TYPE, kind), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        } else {
            // Old clients take the connection over without asking.
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)]).into_response()
        }
    }

    /// Whether the client asked for an upgrade; without it there is no raw connection to give.
    pub(crate) fn asked(&self) -> bool {
        self.asked
    }

    /// Waits for the connection; call it in a task of its own after the answer was given.
    pub(crate) async fn connection(self) -> Option<TokioIo<Upgraded>> {
        self.upgrade.await.ok().map(TokioIo::new)
    }
}

fn has_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// Whose words a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout = 1,
    Stderr = 2,
    /// The daemon's own: clients end with them as an error.
    Daemon = 3,
}

impl Source {
    /// Of a process's output.
    pub(crate) fn of(stderr: bool) -> Self {
        if stderr { Self::Stderr } else { Self::Stdout }
    }
}

/// One piece of output in Docker's framing: stream, three zeros, length, bytes; raw on a terminal.
pub(crate) fn frame(source: Source, tty: bool, data: &[u8]) -> Vec<u8> {
    if tty {
        return data.to_vec();
    }
    let mut out = Vec::with_capacity(data.len() + 8);
    out.extend_from_slice(&[source as u8, 0, 0, 0]);
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// Carries bytes between a client and a process until the process's output ends or the client goes.
pub(crate) async fn carry(io: TokioIo<Upgraded>, stdio: Stdio, tty: bool, take_input: bool) {
    let (mut read, mut write) = tokio::io::split(io);
    let Stdio { input, mut output } = stdio;
    let reader = tokio::spawn(async move {
        let mut chunk = vec![0u8; CHUNK];
        loop {
            match read.read(&mut chunk).await {
                Ok(0) | Err(_) => {
                    // The client closed its side: its input ended, it may still read.
                    let _ = send(&input, take_input, None).await;
                    return;
                }
                // What comes when nobody takes it any more is read all the same: a connection that is closed with bytes unread
                // tells the client of a failure.
                Ok(n) => drop(send(&input, take_input, Some(chunk[..n].to_vec())).await),
            }
        }
    });
    while let Some((stderr, data)) = output.recv().await {
        if write.write_all(&frame(Source::of(stderr), tty, &data)).await.is_err() {
            break;
        }
    }
    // A client that is gone needs no farewell.
    let _ = write.shutdown().await;
    let stop = reader.abort_handle();
    if tokio::time::timeout(FAREWELL, reader).await.is_err() {
        stop.abort();
    }
}

async fn send(input: &mpsc::Sender<Option<Vec<u8>>>, take: bool, data: Option<Vec<u8>>) -> Result<(), ()> {
    if take { input.send(data).await.map_err(drop) } else { Ok(()) }
}
