//! A container's output: frames that say which stream they are of, or plain bytes of a terminal.

use std::io::Write;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::app::Failure;
use crate::client::Stream;
use crate::output::print_bytes;

/// Longest frame that is taken; daemons send pieces of 32 KiB, a line of a log may be larger.
const MAX_FRAME: usize = 64 << 20;

/// Most that is kept before it is written.
const MAX_KEPT: usize = 64 << 10;

/// Output that is written in pieces of some size while more is there to come, and at once when nothing is.
#[derive(Debug, Default)]
pub(crate) struct Buffered {
    errors: bool,
    kept: Vec<u8>,
}

impl Buffered {
    /// Where to put bytes of a stream: 2 is standard error, everything else standard output. Their order is kept.
    pub(crate) fn of(&mut self, stream: u8) -> Result<&mut Vec<u8>, Failure> {
        if self.errors != (stream == 2) {
            self.flush()?;
            self.errors = stream == 2;
        }
        Ok(&mut self.kept)
    }

    /// Writes what is kept, if it is much or nothing more is coming.
    pub(crate) fn settle(&mut self, idle: bool) -> Result<(), Failure> {
        if idle || self.kept.len() > MAX_KEPT { self.flush() } else { Ok(()) }
    }

    /// Writes what is kept.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let bytes = std::mem::take(&mut self.kept);
        if bytes.is_empty() {
            return Ok(());
        }
        to(if self.errors { 2 } else { 1 }, &bytes)
    }
}

fn to(stream: u8, bytes: &[u8]) -> Result<(), Failure> {
    match stream {
        2 => {
            // Nobody to tell when standard error is gone.
            let _ = std::io::stderr().write_all(bytes);
            Ok(())
        }
        3 => Err(Failure::new(format!("error from daemon in stream: {}", String::from_utf8_lossy(bytes).trim_end()))),
        _ => print_bytes(bytes),
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        // What came before a failure is shown; another failure here has nobody to tell.
        let _ = self.flush();
    }
}

/// Copies an answer to standard output and error until it ends; `tty` says that there are no frames.
///
/// # Errors
/// When the connection breaks, or standard output cannot be written.
pub(crate) async fn copy(mut stream: Stream, tty: bool) -> Result<u8, Failure> {
    if stream.multiplexed == Some(false) || tty && stream.multiplexed.is_none() {
        while let Some(bytes) = stream.next().await? {
            print_bytes(&bytes)?;
        }
        return Ok(0);
    }
    let mut out = Buffered::default();
    while let Some(head) = stream.exactly(8).await? {
        let Some(bytes) = stream.exactly(length(&head)?).await? else { break };
        if head[0] == 3 {
            out.flush()?;
            to(3, &bytes)?;
        }
        out.of(head[0])?.extend_from_slice(&bytes);
        out.settle(stream.is_idle())?;
    }
    out.flush()?;
    Ok(0)
}

fn length(head: &[u8]) -> Result<usize, Failure> {
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match usize::try_from(length) {
        Ok(n) if n <= MAX_FRAME => Ok(n),
        _ => Err(Failure::new(format!("the daemon's output has a frame of {length} bytes: that is no output of a container"))),
    }
}

/// The same from a raw connection.
///
/// # Errors
/// As [`copy`].
pub(crate) async fn copy_raw(from: &mut (impl AsyncRead + Unpin), multiplexed: bool) -> Result<(), Failure> {
    let broken = |e: std::io::Error| Failure::new(format!("read the container's output: {e}"));
    if !multiplexed {
        let mut chunk = vec![0u8; 32 << 10];
        loop {
            match from.read(&mut chunk).await.map_err(broken)? {
                0 => return Ok(()),
                n => print_bytes(&chunk[..n])?,
            }
        }
    }
    frames(from, to).await
}

/// Reads frames until the stream ends; each is given with the stream that it is of.
///
/// # Errors
/// When the connection breaks, a frame is none, or what takes them says so.
pub(crate) async fn frames(
    from: &mut (impl AsyncRead + Unpin),
    mut give: impl FnMut(u8, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let broken = |e: std::io::Error| Failure::new(format!("read the container's output: {e}"));
    let mut head = [0u8; 8];
    loop {
        if let Err(e) = from.read_exact(&mut head).await {
            return if e.kind() == std::io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(broken(e)) };
        }
        let mut bytes = vec![0u8; length(&head)?];
        from.read_exact(&mut bytes).await.map_err(broken)?;
        give(head[0], &bytes)?;
    }
}
