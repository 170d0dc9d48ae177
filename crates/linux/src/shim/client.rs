//! A connection to the shim: frames in, frames out, both without blocking.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use skep_engine::shim::{FrameKind, MAX_FRAME, Request, Response};

/// Output that waits for a slow client; beyond it the container's output is not read on, so that nothing is lost.
pub(crate) const MAX_PENDING: usize = 1 << 20;
/// A client that takes nothing for this long is given up, so that the container goes on.
const STALLED: Duration = Duration::from_secs(10);

/// What a client turned its connection into.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Asks and is answered.
    Control,
    /// Waits for the container's end.
    Waiting,
    /// Streams a process: `None` is the first one.
    Attached { exec: Option<String>, stdin: bool, stdout: bool, stderr: bool },
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// When the output buffer last shrank or was empty.
    moved: Instant,
    pub(crate) role: Role,
    pub(crate) dead: bool,
    /// Nothing more will be written; close when the output is out.
    pub(crate) finished: bool,
}

/// A frame from a client.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Request),
    Stdin(Vec<u8>),
    StdinEnd,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            moved: Instant::now(),
            role: Role::Control,
            dead: false,
            finished: false,
        })
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(crate) fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.output.len() > MAX_PENDING
    }

    pub(crate) fn is_done(&self) -> bool {
        self.dead || (self.finished && self.output.is_empty()) || (self.is_full() && self.moved.elapsed() > STALLED)
    }

    pub(crate) fn answer(&mut self, response: &Response) {
        // Responses always serialise.
        let body = serde_json::to_vec(response).unwrap_or_default();
        self.send(FrameKind::Message, &body);
    }

    pub(crate) fn send(&mut self, kind: FrameKind, body: &[u8]) {
        if self.output.is_empty() {
            self.moved = Instant::now();
        }
        let len = u32::try_from(body.len()).unwrap_or(0);
        self.output.extend_from_slice(&len.to_le_bytes());
        self.output.push(kind as u8);
        self.output.extend_from_slice(body);
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => break,
                Ok(n) => {
                    self.output.drain(..n);
                    self.moved = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.dead = true;
                    self.output.clear();
                }
            }
        }
        if self.output.capacity() > MAX_PENDING {
            self.output.shrink_to_fit();
        }
    }

    /// Reads what is there and returns the next whole frame, if any.
    pub(crate) fn fill(&mut self) {
        let mut chunk = [0u8; 16 << 10];
        while self.input.len() <= MAX_FRAME {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.dead = true;
                    return;
                }
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
    }

    pub(crate) fn take_frame(&mut self) -> Option<Incoming> {
        let head: [u8; 5] = self.input.get(..5)?.try_into().ok()?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len > MAX_FRAME {
            self.dead = true;
            return None;
        }
        let body = self.input.get(5..5 + len)?.to_vec();
        self.input.drain(..5 + len);
        if self.input.is_empty() {
            self.input.shrink_to_fit();
        }
        match FrameKind::of(head[4]) {
            Some(FrameKind::Message) => match serde_json::from_slice(&body) {
                Ok(request) => Some(Incoming::Request(request)),
                Err(e) => {
                    self.answer(&Response::Failed { message: format!("unknown request of a shim: {e}") });
                    self.finished = true;
                    None
                }
            },
            Some(FrameKind::Stdin) => Some(Incoming::Stdin(body)),
            Some(FrameKind::StdinEnd) => Some(Incoming::StdinEnd),
            _ => {
                self.dead = true;
                None
            }
        }
    }
}
