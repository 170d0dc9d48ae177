//! Events of changes that others make to nftables.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::SockProtocol;
use skep_engine::net::TableWatch;

use super::msg::{Socket, attrs, find};
use super::nft::SUBSYSTEM;

const NEWGEN: u16 = 15;
/// `NFNLGRP_NFTABLES` as a bit.
const GROUP: u32 = 1 << 6;

/// Listens to the end of each transaction, which names the thread that made it.
#[derive(Debug)]
pub(super) struct Watch(Socket);

impl Watch {
    /// In the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(Socket::listening(SockProtocol::NetlinkNetFilter, GROUP)?))
    }
}

impl TableWatch for Watch {
    fn changed(&mut self, within: Duration) -> io::Result<bool> {
        match self.0.events(within) {
            Ok(events) => Ok(events.iter().any(|(kind, body)| *kind == (SUBSYSTEM << 8) | NEWGEN && !own(body))),
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EAGAIN as i32) => Ok(false),
            // More than fitted into the buffer, and something of it was lost.
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => Ok(true),
            Err(e) => Err(e),
        }
    }
}

/// Whether a thread of this process made the transaction. One that has ended is taken for another's, which costs a look.
fn own(body: &[u8]) -> bool {
    let thread = find(&attrs(body, 4), 2).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    thread.is_some_and(|t| Path::new("/proc/self/task").join(t.to_string()).exists())
}
