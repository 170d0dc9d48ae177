//! The TUN device of the process that stands in for the kernel: it is there as long as that process. Where the kernel can, many segments
//! of one flow pass it as one packet.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::segments::{self, HEADER, Header, Joined};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54d8;
const IFF_TUN: u16 = 1;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// Checksums, segments of TCP over both IPs, and these in a tunnel with a checksum of its own or without: from Linux 6.17 on.
const OFFLOADS: libc::c_ulong = 1 | 2 | 4 | 0x80 | 0x100;
/// Packets that are taken before any of them is worked on: what is ready, so that they leave together.
const BATCH: usize = 64;
/// Packets that wait to be written; who has more waits.
const WAITING: usize = 512;
/// Most bytes of one packet.
const MOST: usize = 65_535;

/// Makes the device in the calling thread's namespace. Returns also whether packets have a header each, and may be of many segments.
///
/// # Errors
/// The kernel has no TUN devices, or there is a link of that name.
pub(super) fn open(name: &str) -> io::Result<(File, bool)> {
    let file = make(name, IFF_VNET_HDR)?;
    let size = HEADER as libc::c_int;
    if control(&file, TUNSETVNETHDRSZ, (&raw const size).cast_mut().cast()).is_ok()
        && control(&file, TUNSETOFFLOAD, OFFLOADS as *mut libc::c_void).is_ok()
    {
        return Ok((file, true));
    }
    // The device goes with its descriptor.
    drop(file);
    Ok((make(name, 0)?, false))
}

fn make(name: &str, flags: u16) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/net/tun")?;
    // struct ifreq: a name of 16 bytes, then flags; 40 bytes in all.
    let mut request = [0u8; 40];
    if name.len() > 15 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI | flags).to_ne_bytes());
    control(&file, TUNSETIFF, request.as_mut_ptr().cast())?;
    Ok(file)
}

/// `argument` is a number, or what points to as many bytes as the request says.
#[allow(unsafe_code)]
fn control(file: &File, request: libc::Ioctl, argument: *mut libc::c_void) -> io::Result<()> {
    // SAFETY: the descriptor is open; callers above give a number or what lives on their stack for longer than the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What both directions share.
#[derive(Clone)]
struct Device {
    file: Arc<AsyncFd<File>>,
    /// Whether packets have a header.
    headers: bool,
    /// Whether the kernel takes packets of many segments.
    joins: Arc<AtomicBool>,
    /// Told once the device is gone.
    gone: watch::Sender<bool>,
}

/// What comes from the device.
pub(super) struct Reader {
    device: Device,
    mtu: u16,
    buffer: Vec<u8>,
}

/// What goes to the device.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Packet<Ip>>);

/// Both directions of a device; to be called inside a runtime.
#[allow(unsafe_code)]
pub(super) fn split(file: File, headers: bool, mtu: u16, gone: watch::Sender<bool>) -> io::Result<(Writer, Reader)> {
    // SAFETY: the file owns its descriptor and keeps the same one until it is dropped, which the `AsyncFd` does.
    let file = Arc::new(unsafe { AsyncFd::register(file)? });
    let device = Device { file, headers, joins: Arc::new(AtomicBool::new(headers)), gone };
    let (to, from) = mpsc::channel(WAITING);
    tokio::spawn(device.clone().write_all(from));
    Ok((Writer(to), Reader { device, mtu, buffer: vec![0; HEADER + MOST] }))
}

impl Device {
    /// The kernel says `EBADFD` when somebody deleted the device.
    fn lost(&self, e: io::Error) -> io::Error {
        if e.raw_os_error() == Some(libc::EBADFD) {
            self.gone.send_replace(true);
        }
        e
    }

    /// Writes what comes, as much at once as is there, until the device is gone or nobody can send any more.
    async fn write_all(self, mut from: mpsc::Receiver<Packet<Ip>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while from.recv_many(&mut batch, BATCH).await > 0 {
            let packets = batch.drain(..).map(Packet::into_bytes);
            // A packet that the kernel refuses is lost, as any packet may be.
            if self.joins.load(Ordering::Relaxed) {
                for joined in segments::join(packets) {
                    let _ = self.write_joined(joined).await;
                }
            } else {
                for packet in packets {
                    let _ = self.write_joined(Joined::one(packet)).await;
                }
            }
        }
    }

    async fn write_joined(&self, mut joined: Joined<Packet>) -> io::Result<()> {
        let (header, payload) = joined.seal();
        let header = header.bytes();
        let header = self.headers.then_some(&header[..]);
        let rest = joined.packets.iter().skip(1).map(|p| &p[payload..]);
        let slices: Vec<IoSlice<'_>> =
            header.into_iter().chain([&joined.packets[0][..]]).chain(rest).map(IoSlice::new).collect();
        let written = self.write(&slices).await;
        if joined.packets.len() > 1 && written.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL)) {
            // A kernel that hands them out and does not take them: from now on one by one.
            self.joins.store(false, Ordering::Relaxed);
        }
        written
    }

    async fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        loop {
            match self.file.get_ref().write_vectored(slices) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.file.writable().await?.clear_ready(),
                Err(e) => return Err(self.lost(e)),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl IpSend for Writer {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        self.0.send(packet).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Reader {
    /// Reads once: the packets, as they go over the wire.
    fn read(&mut self, pool: &mut PacketBufPool, out: &mut Vec<Packet<Ip>>) -> io::Result<()> {
        let n = self.device.file.get_ref().read(&mut self.buffer)?;
        let read = &mut self.buffer[..n];
        let (header, packet) = match read.split_first_chunk_mut::<HEADER>() {
            Some((header, packet)) if self.device.headers => (Header::parse(header), packet),
            _ => (Header::default(), read),
        };
        segments::cut(&header, packet, |head, part, set| {
            let mut packet = pool.get();
            let bytes = packet.buf_mut();
            bytes.clear();
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(part);
            set(bytes);
            out.extend(packet.try_into_ip().ok());
        });
        Ok(())
    }
}

impl IpRecv for Reader {
    async fn recv<'a>(&'a mut self, pool: &mut PacketBufPool) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let mut out = Vec::new();
        loop {
            match self.read(pool, &mut out) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && out.is_empty() => {
                    // A device that somebody deleted is an error, and nothing to read.
                    self.device.file.ready(Interest::READABLE | Interest::ERROR).await?.clear_ready();
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(self.device.lost(e)),
            }
            if out.len() >= BATCH {
                break;
            }
        }
        Ok(out.into_iter())
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}
