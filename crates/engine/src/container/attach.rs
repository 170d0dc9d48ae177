//! Streams between clients and a container's first process, also for clients that come before the start.

use tokio::sync::mpsc;

use super::Container;
use crate::error::{Result, internal};
use crate::shim::client::{Connection, Frame, next_frame, send_frame};
use crate::shim::{FrameKind, Request, Response};

/// Chunks on their way to a client or a process; beyond it the sender waits.
const QUEUE: usize = 32;

/// Both directions. Output ends with the process; dropping it detaches.
#[derive(Debug)]
pub struct AttachStream {
    /// To the process: bytes, or `None` when standard input ended.
    pub input: mpsc::Sender<Option<Vec<u8>>>,
    /// From the process: whether it is standard error, and bytes.
    pub output: mpsc::Receiver<(bool, Vec<u8>)>,
}

/// The engine's ends of an [`AttachStream`].
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) input: mpsc::Receiver<Option<Vec<u8>>>,
    pub(crate) output: mpsc::Sender<(bool, Vec<u8>)>,
}

/// A client that waits for the start.
#[derive(Debug)]
pub(crate) struct Pending {
    request: Request,
    ends: Ends,
}

pub(crate) fn channel() -> (AttachStream, Ends) {
    let (input, input_end) = mpsc::channel(QUEUE);
    let (output_end, output) = mpsc::channel(QUEUE);
    (AttachStream { input, output }, Ends { input: input_end, output: output_end })
}

/// Called with what the shim said at the end (`None` if it said nothing) before the output ends, so that a client which saw
/// the end finds the exit code.
pub(crate) type OnExit = Box<dyn FnOnce(Option<Response>) + Send>;

/// Carries frames both ways until the process or the client is gone.
pub(crate) fn pump(connection: Connection, ends: Ends, on_exit: Option<OnExit>) {
    let (mut read, mut write) = connection.split();
    let Ends { mut input, output } = ends;
    let writer = tokio::spawn(async move {
        while let Some(message) = input.recv().await {
            let sent = match message {
                Some(data) => send_frame(&mut write, FrameKind::Stdin, &data).await,
                None => send_frame(&mut write, FrameKind::StdinEnd, &[]).await,
            };
            if sent.is_err() {
                return;
            }
        }
        // The client stopped sending; the connection stays open for output until the reader is done.
        std::future::pending::<()>().await;
        drop(write);
    });
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let frame = tokio::select! {
                frame = next_frame(&mut read) => frame,
                () = output.closed(), if on_exit.is_none() => break,
            };
            match frame {
                Ok(Frame::Output(stderr, data)) => {
                    // A client that went away does not end an exec, whose exit code is still wanted.
                    if output.send((stderr, data)).await.is_err() && on_exit.is_none() {
                        break;
                    }
                }
                Ok(Frame::Message(response @ Response::Exited(_))) => {
                    last = Some(response);
                    break;
                }
                Ok(Frame::Message(_)) => {}
                Err(_) => break,
            }
        }
        writer.abort();
        if let Some(on_exit) = on_exit {
            on_exit(last);
        }
        drop(output);
    });
}

impl Container {
    /// Attaches a client; before the start it is queued, so that it misses nothing.
    ///
    /// # Errors
    /// 500 when the shim does not answer.
    pub async fn attach(&self, stdin: bool, stdout: bool, stderr: bool) -> Result<AttachStream> {
        let request = Request::Attach { stdin, stdout, stderr };
        let (stream, ends) = channel();
        if self.is_running() {
            self.connect_attached(&request, ends).await?;
        } else {
            crate::lock(&self.pending).push(Pending { request, ends });
        }
        Ok(stream)
    }

    async fn connect_attached(&self, request: &Request, ends: Ends) -> Result<()> {
        let fail = |e: &dyn std::fmt::Display| internal(&format!("attach to container {}", self.id), e);
        let mut connection = Connection::open(&self.bundle).await.map_err(|e| fail(&e))?;
        connection.ask(request).await.map_err(|e| fail(&e))?;
        pump(connection, ends, None);
        Ok(())
    }

    /// Connects the clients that came before the start.
    pub(super) async fn attach_pending(&self) {
        let waiting = std::mem::take(&mut *crate::lock(&self.pending));
        for pending in waiting {
            // Its stream ends if this fails, and the client sees that.
            let _ = self.connect_attached(&pending.request, pending.ends).await;
        }
    }

    /// Ends the streams of clients that wait for a start that will not come.
    pub(super) fn drop_pending(&self) {
        crate::lock(&self.pending).clear();
    }
}

/// Asks a shim one thing on a connection of its own.
pub(crate) async fn ask(bundle: &std::path::Path, request: &Request) -> std::io::Result<Response> {
    let mut connection = Connection::open(bundle).await?;
    connection.ask(request).await
}
