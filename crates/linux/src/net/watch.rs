//! Whether others have changed the host's nftables.
//!
//! The kernel counts the transactions of each namespace, and is asked how many there were. It would tell of each by itself, too; but as soon
//! as anybody listens, in whatever namespace, it writes down every element of every transaction in all of them, which made the loading of a
//! container's rules take half as long again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::SockProtocol;
use skep_engine::net::TableWatch;

use super::msg::{ACK, Msg, Socket, attrs, find};
use super::nft::SUBSYSTEM;

const GETGEN: u16 = 16;
/// Between two questions, each of which costs a few microseconds.
const PAUSE: Duration = Duration::from_millis(250);

/// Compares the kernel's count with our own.
#[derive(Debug)]
pub(super) struct Watch {
    socket: Socket,
    own: Arc<AtomicU32>,
    others: u32,
}

impl Watch {
    /// In the calling thread's namespace, where `own` counts this process's transactions.
    pub(super) fn open(own: Arc<AtomicU32>) -> io::Result<Self> {
        let mut watch = Self { socket: Socket::open(SockProtocol::NetlinkNetFilter)?, own, others: 0 };
        watch.others = watch.count()?;
        Ok(watch)
    }

    /// Transactions that are not our own. One of ours that is not counted yet is taken for another's, which costs a look.
    fn count(&mut self) -> io::Result<u32> {
        let answers = self.socket.dump(Msg::new((SUBSYSTEM << 8) | GETGEN, ACK).raw(&[0; 4]))?;
        let number = answers.first().and_then(|body| find(&attrs(body, 4), 1)?.try_into().ok()).map(u32::from_be_bytes);
        let all =
            number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no number of transactions in the answer"))?;
        Ok(all.wrapping_sub(self.own.load(Ordering::Relaxed)))
    }
}

impl TableWatch for Watch {
    fn changed(&mut self, within: Duration) -> io::Result<bool> {
        let end = Instant::now() + within;
        loop {
            let now = self.count()?;
            let before = std::mem::replace(&mut self.others, now);
            let rest = end.saturating_duration_since(Instant::now());
            if now != before || rest.is_zero() {
                return Ok(now != before);
            }
            thread::sleep(PAUSE.min(rest));
        }
    }
}
