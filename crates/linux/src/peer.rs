//! A running shim, reached by its socket: who it is, so that what it has mounted can be taken or looked at.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use skep_engine::shim::{FrameKind, MAX_FRAME, Request, Response, SOCKET_FILE};

/// How long a shim may take to answer: it does nothing else that takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a shim.
pub(crate) struct Peer {
    stream: UnixStream,
    pid: i32,
}

impl Peer {
    /// Reaches the shim of a bundle.
    pub(crate) fn connect(bundle: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(bundle.join(SOCKET_FILE))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let pid = rustix::net::sockopt::socket_peercred(&stream)?.pid.as_raw_nonzero().get();
        Ok(Self { stream, pid })
    }

    /// Process id of the shim, which has been the same since it began to listen.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks who it is: process id of the container's first process. What was opened of the shim before it answers is the shim's.
    pub(crate) fn hello(&mut self) -> io::Result<i32> {
        let odd = || io::Error::other("the container's shim did not answer as it should");
        let body = serde_json::to_vec(&Request::Hello)?;
        let length = u32::try_from(body.len()).map_err(|_| odd())?;
        self.stream.write_all(&[&length.to_le_bytes()[..], &[FrameKind::Message as u8], &body].concat())?;
        let mut head = [0u8; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > MAX_FRAME {
            return Err(odd());
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        match serde_json::from_slice(&answer) {
            Ok(Response::Hello { pid, .. }) => Ok(pid),
            _ => Err(odd()),
        }
    }

    /// Its mount namespace.
    pub(crate) fn mounts(&mut self) -> io::Result<OwnedFd> {
        let path = format!("/proc/{}/ns/mnt", self.pid);
        let fd = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.hello()?;
        Ok(fd)
    }
}
