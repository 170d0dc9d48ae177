//! A process of the container and its streams: the first process, or an exec.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use super::ShimError;

/// Input that waits for a program which does not read; beyond it the client's frames stay in its socket.
pub(crate) const MAX_STDIN: usize = 256 << 10;

/// The shim's ends of a process's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Both directions go over one descriptor.
    pub(crate) terminal: bool,
}

impl Streams {
    /// Pipes, with the ends that the process gets; no descriptors for a terminal, which arrives later.
    pub(crate) fn make(tty: bool, open_stdin: bool) -> Result<(Self, Option<[OwnedFd; 3]>), ShimError> {
        if tty {
            return Ok((Self::default(), None));
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| ShimError::new("make a pipe", e));
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        let (stdin, given) = if open_stdin {
            let (read, write) = pipe()?;
            (Some(write), read)
        } else {
            let null = std::fs::File::open("/dev/null").map_err(|e| ShimError::new("open /dev/null", e))?;
            (None, OwnedFd::from(null))
        };
        let streams = Self { stdin, stdout: Some(out_read), stderr: Some(err_read), terminal: false };
        streams.unblock()?;
        Ok((streams, Some([given, out_write, err_write])))
    }

    /// Streams over a terminal's master.
    pub(crate) fn terminal(master: OwnedFd) -> Self {
        let streams = Self { stdin: master.try_clone().ok(), stdout: Some(master), stderr: None, terminal: true };
        // A terminal that cannot be made non-blocking still works, if slower clients may delay it.
        let _ = streams.unblock();
        streams
    }

    fn unblock(&self) -> Result<(), ShimError> {
        for fd in [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| ShimError::new("make a pipe non-blocking", e))?;
        }
        Ok(())
    }
}

/// A process with its streams.
#[derive(Debug)]
pub(crate) struct Session {
    /// Exec id; `None` for the container's first process.
    pub(crate) exec: Option<String>,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) streams: Streams,
    /// Input not yet taken by the process.
    pub(crate) stdin_buffer: Vec<u8>,
    /// Close the input once the buffer is empty.
    pub(crate) stdin_ends: bool,
    /// Exit code, and when it was seen.
    pub(crate) exited: Option<(i32, Instant)>,
}

impl Session {
    pub(crate) fn new(exec: Option<String>, pid: i32, streams: Streams) -> Result<Self, ShimError> {
        let id = Pid::from_raw(pid).ok_or_else(|| ShimError(format!("{pid} is no process id")))?;
        let pidfd = pidfd_open(id, PidfdFlags::empty()).map_err(|e| ShimError::new(&format!("watch process {pid}"), e))?;
        Ok(Self { exec, pid, pidfd, streams, stdin_buffer: Vec::new(), stdin_ends: false, exited: None })
    }

    /// Reaps the process if it ended.
    pub(crate) fn reap(&mut self) {
        if self.exited.is_some() {
            return;
        }
        match rustix::process::waitpid(Pid::from_raw(self.pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255);
                self.exited = Some((code, Instant::now()));
            }
            Ok(None) => {}
            // Not our child any more: it is gone, its code unknown.
            Err(_) => self.exited = Some((255, Instant::now())),
        }
    }

    pub(crate) fn signal(&self, signal: i32) -> std::io::Result<()> {
        let Some(signal) = rustix::process::Signal::from_named_raw(signal) else {
            // Real-time signals have no names; the process is our unreaped child, so its id cannot have been reused.
            return nix_kill(self.pid, signal);
        };
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    pub(crate) fn resize(&self, height: u16, width: u16) {
        if let Some(fd) = self.streams.stdout.as_ref().filter(|_| self.streams.terminal) {
            let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that is just closing has no size any more.
            let _ = rustix::termios::tcsetwinsize(fd.as_fd(), size);
        }
    }

    /// Moves buffered input on to the process.
    pub(crate) fn feed(&mut self) {
        while let Some(fd) = self.streams.stdin.as_ref().filter(|_| !self.stdin_buffer.is_empty()) {
            match rustix::io::write(fd, &self.stdin_buffer) {
                Ok(n) => drop(self.stdin_buffer.drain(..n)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.stdin_buffer.clear();
                    self.streams.stdin = None;
                }
            }
        }
        if self.stdin_ends && self.stdin_buffer.is_empty() && !self.streams.terminal {
            self.streams.stdin = None;
        }
    }
}

#[allow(unsafe_code)]
fn nix_kill(pid: i32, signal: i32) -> std::io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
