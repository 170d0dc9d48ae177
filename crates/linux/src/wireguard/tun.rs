//! The TUN device of the process that stands in for the kernel: it is there as long as that process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TUN: u16 = 1;
const IFF_NO_PI: u16 = 0x1000;
/// Packets that are read before any of them is worked on: what the kernel has ready, so that they leave together.
const BATCH: usize = 64;

/// Makes the device in the calling thread's namespace.
///
/// # Errors
/// The kernel has no TUN devices, or there is a link of that name.
#[allow(unsafe_code)]
pub(super) fn open(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")?;
    // struct ifreq: a name of 16 bytes, then flags; 40 bytes in all.
    let mut request = [0u8; 40];
    if name.len() > 15 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    // SAFETY: the descriptor is open, and the kernel reads and writes within the 40 bytes of the request, which outlives the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// Both directions of the device.
#[derive(Clone)]
pub(super) struct Tun {
    file: Arc<AsyncFd<File>>,
    mtu: u16,
    /// Told once the device is gone.
    gone: watch::Sender<bool>,
}

impl Tun {
    /// To be called inside a runtime.
    #[allow(unsafe_code)]
    pub(super) fn new(file: File, mtu: u16, gone: watch::Sender<bool>) -> io::Result<Self> {
        // SAFETY: the file owns its descriptor and keeps the same one until it is dropped, which the `AsyncFd` does.
        let file = unsafe { AsyncFd::register(file)? };
        Ok(Self { file: Arc::new(file), mtu, gone })
    }

    /// The kernel says `EBADFD` when somebody deleted the device.
    fn lost(&self, e: io::Error) -> io::Error {
        if e.raw_os_error() == Some(libc::EBADFD) {
            self.gone.send_replace(true);
        }
        e
    }

    fn read_into(&self, pool: &mut PacketBufPool) -> io::Result<Packet> {
        let mut packet = pool.get();
        let n = self.file.get_ref().read(&mut packet)?;
        packet.truncate(n);
        Ok(packet)
    }
}

impl IpSend for Tun {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let bytes = packet.into_bytes();
        loop {
            match self.file.get_ref().write(&bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.file.writable().await?.clear_ready(),
                Err(e) => return Err(self.lost(e)),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl IpRecv for Tun {
    async fn recv<'a>(&'a mut self, pool: &mut PacketBufPool) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let mut out = Vec::new();
        loop {
            match self.read_into(pool) {
                Ok(packet) => out.extend(packet.try_into_ip().ok()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && out.is_empty() => {
                    // A device that somebody deleted is an error, and nothing to read.
                    self.file.ready(Interest::READABLE | Interest::ERROR).await?.clear_ready();
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(self.lost(e)),
            }
            if out.len() == BATCH {
                break;
            }
        }
        Ok(out.into_iter())
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}
