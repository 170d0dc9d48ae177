//! Netlink messages and the socket that carries them: a request is answered by an acknowledgement, a dump or an error.
//!
//! Knows nothing of routes or tables. Sockets stay in the namespace of the thread that opened them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// `NLM_F_DUMP_INTR`: what is dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// Tries for a dump during which nothing changes.
const DUMPS: usize = 8;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
/// Kernel answers are pages; a dump packs up to 32 KiB into one datagram.
const RECEIVE: usize = 64 * 1024;
/// A batch of ten thousand map elements takes about one MiB of socket buffer.
const SEND_BUFFER: usize = 64 * 1024 * 1024;
/// The kernel answers at once; this only keeps a lost answer from blocking a thread for ever.
const TIMEOUT_SECONDS: i64 = 20;

/// One message under construction.
pub(crate) struct Msg {
    buf: Vec<u8>,
}

impl Msg {
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut buf = vec![0; HEADER];
        buf[4..6].copy_from_slice(&kind.to_ne_bytes());
        buf[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        Self { buf }
    }

    /// Appends a fixed header's bytes.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.buf.extend_from_slice(bytes);
        self.align();
        self
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        // an attribute's length has sixteen bits; callers keep values far below
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.align();
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.nest_plain(kind | NESTED, fill);
    }

    /// The same without the flag, which a few old attributes do not expect.
    pub(crate) fn nest_plain(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buf.len();
        self.attr(kind, &[]);
        fill(self);
        let len = u16::try_from(self.buf.len() - start).unwrap_or(u16::MAX);
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Appends bytes inside a nest (a nested fixed header).
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        self.align();
    }

    fn align(&mut self) {
        self.buf.resize(self.buf.len().next_multiple_of(4), 0);
    }

    fn seal(mut self, seq: u32) -> Vec<u8> {
        let len = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
        self.buf[0..4].copy_from_slice(&len.to_ne_bytes());
        self.buf[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.buf
    }
}

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    seq: u32,
}

/// What came for one sequence number.
struct Answer {
    kind: u16,
    flags: u16,
    seq: u32,
    body: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(TIMEOUT_SECONDS, 0))?;
        // privileged; without it a batch is only smaller
        let _ = setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &SEND_BUFFER);
        Ok(Self { fd, seq: 0 })
    }

    /// Has the kernel heed what a dump asks for (since 4.20), instead of telling everything.
    #[allow(unsafe_code)]
    pub(super) fn strict(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        let len = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
        let (level, option) = (libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK);
        // SAFETY: the value is a number of the given length, and lives until the call returns.
        let done = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const on).cast(), len) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Index of a link of the socket's namespace.
    pub(crate) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.fd, name)?)
    }

    fn next(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<Answer>> {
        let mut buf = vec![0; RECEIVE];
        let len = loop {
            match recv(self.fd.as_raw_fd(), &mut buf, MsgFlags::empty()) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other?,
            }
        };
        let mut rest = buf.get(..len).unwrap_or_default();
        let mut out = Vec::new();
        while rest.len() >= HEADER {
            let size = word(rest, 0) as usize;
            if size < HEADER || size > rest.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "netlink message with a wrong length"));
            }
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            let flags = u16::from_ne_bytes([rest[6], rest[7]]);
            out.push(Answer { kind, flags, seq: word(rest, 8), body: rest[HEADER..size].to_vec() });
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(out)
    }

    /// Sends one message and waits for its acknowledgement.
    pub(crate) fn request(&mut self, msg: Msg) -> io::Result<()> {
        let seq = self.next();
        self.send(&msg.seal(seq))?;
        loop {
            for answer in self.receive()? {
                if answer.seq == seq && answer.kind == ERROR {
                    return outcome(&answer.body);
                }
            }
        }
    }

    /// Sends a dump request; the bodies of what came, each without the netlink header.
    pub(crate) fn dump(&mut self, msg: Msg) -> io::Result<Vec<Vec<u8>>> {
        self.dump_once(msg).map(|(out, _)| out)
    }

    /// A dump during which nothing changed.
    pub(crate) fn dump_whole(&mut self, make: impl Fn() -> Msg) -> io::Result<Vec<Vec<u8>>> {
        for _ in 0..DUMPS {
            let (out, whole) = self.dump_once(make())?;
            if whole {
                return Ok(out);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "somebody changes it without end"))
    }

    /// A dump, and whether nothing changed meanwhile.
    fn dump_once(&mut self, msg: Msg) -> io::Result<(Vec<Vec<u8>>, bool)> {
        let mut whole = true;
        let seq = self.next();
        self.send(&msg.seal(seq))?;
        let mut out = Vec::new();
        loop {
            for answer in self.receive()?.into_iter().filter(|a| a.seq == seq) {
                whole &= answer.flags & INTERRUPTED == 0;
                match answer.kind {
                    DONE => return Ok((out, whole)),
                    ERROR => return outcome(&answer.body).map(|()| (out, whole)),
                    _ => out.push(answer.body),
                }
            }
        }
    }

    /// Sends messages as one datagram; all but the first and last ask for an acknowledgement. On failure the index of the message
    /// that was refused, or one past the end if the batch as a whole was.
    pub(crate) fn batch(&mut self, messages: Vec<Msg>) -> Result<(), (usize, io::Error)> {
        let count = messages.len();
        let first = self.next();
        let mut bytes = Vec::new();
        let mut seqs = vec![first];
        for (index, msg) in messages.into_iter().enumerate() {
            let seq = if index == 0 { first } else { self.next() };
            if index > 0 {
                seqs.push(seq);
            }
            bytes.extend(msg.seal(seq));
        }
        let whole = |error| (count, error);
        self.send(&bytes).map_err(whole)?;
        let last = count.checked_sub(2).and_then(|i| seqs.get(i)).copied().unwrap_or(first);
        loop {
            for answer in self.receive().map_err(whole)? {
                let index = seqs.iter().position(|seq| *seq == answer.seq);
                let (Some(index), ERROR) = (index, answer.kind) else { continue };
                outcome(&answer.body).map_err(|error| (index, error))?;
                if answer.seq == last {
                    return Ok(());
                }
            }
        }
    }
}

fn outcome(body: &[u8]) -> io::Result<()> {
    match i32::from_ne_bytes(word(body, 0).to_ne_bytes()) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

/// The 32-bit word at an offset; 0 past the end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Attributes of a message body from an offset on, as (kind, value).
pub(crate) fn attrs(body: &[u8], at: usize) -> Vec<(u16, &[u8])> {
    let mut rest = body.get(at..).unwrap_or_default();
    let mut out = Vec::new();
    while rest.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & 0x3fff;
        let Some(value) = rest.get(4..len) else { break };
        out.push((kind, value));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

/// The first attribute of a kind.
pub(crate) fn find<'a>(attrs: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attrs.iter().find(|(k, _)| *k == kind).map(|(_, v)| *v)
}
