//! The daemon's side of a shim's socket.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{FrameKind, MAX_FRAME, Request, Response, SOCKET_FILE};

/// A connection to a shim.
#[derive(Debug)]
pub struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
}

/// A frame as it arrived.
#[derive(Debug)]
pub enum Frame {
    /// An answer.
    Message(Response),
    /// Output; `true` for standard error.
    Output(bool, Vec<u8>),
}

impl Connection {
    /// Connects to the shim of the bundle.
    ///
    /// # Errors
    /// When no shim listens there.
    pub async fn open(bundle: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(bundle.join(SOCKET_FILE)).await?;
        let (read, write) = stream.into_split();
        Ok(Self { read, write })
    }

    /// Asks and reads one answer.
    ///
    /// # Errors
    /// When the connection breaks or the shim speaks nonsense.
    pub async fn ask(&mut self, request: &Request) -> io::Result<Response> {
        send_request(&mut self.write, request).await?;
        loop {
            if let Frame::Message(response) = self.next().await? {
                return Ok(response);
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// `UnexpectedEof` when the shim closed.
    pub async fn next(&mut self) -> io::Result<Frame> {
        next_frame(&mut self.read).await
    }

    /// Sends a request whose answers are read with [`Connection::next`].
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        send_request(&mut self.write, request).await
    }

    /// Splits into the two directions of a stream.
    #[must_use]
    pub fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.read, self.write)
    }
}

/// Reads one frame.
///
/// # Errors
/// When the connection breaks or the frame is malformed.
pub async fn next_frame(read: &mut OwnedReadHalf) -> io::Result<Frame> {
    let mut head = [0u8; 5];
    read.read_exact(&mut head).await?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame of a shim is too long"));
    }
    let mut body = vec![0u8; len];
    read.read_exact(&mut body).await?;
    match FrameKind::of(head[4]) {
        Some(FrameKind::Message) => {
            serde_json::from_slice(&body).map(Frame::Message).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
        }
        Some(FrameKind::Stdout) => Ok(Frame::Output(false, body)),
        Some(FrameKind::Stderr) => Ok(Frame::Output(true, body)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unknown frame of a shim")),
    }
}

/// Writes one frame.
///
/// # Errors
/// When the connection breaks.
pub async fn send_frame(write: &mut OwnedWriteHalf, kind: FrameKind, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    write.write_all(&frame).await
}

/// Writes a request.
///
/// # Errors
/// When the connection breaks.
pub async fn send_request(write: &mut OwnedWriteHalf, request: &Request) -> io::Result<()> {
    let body = serde_json::to_vec(request).map_err(io::Error::other)?;
    send_frame(write, FrameKind::Message, &body).await
}
