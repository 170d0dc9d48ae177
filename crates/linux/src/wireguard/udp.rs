//! The socket of the process that stands in for the kernel: what goes to one peer at once leaves in one call, and crosses the kernel as
//! one packet as far as it can.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gotatun::packet::Packet;
use gotatun::udp::socket::{UdpSocket, UdpSocketFactory};
use gotatun::udp::{UdpSend, UdpTransportFactory, UdpTransportFactoryParams};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use tokio::io::Interest;

/// The kernel's limit for one call.
const MOST: usize = 64;
/// Most bytes of one call: a length of IP, less its headers.
const MOST_BYTES: usize = 65_000;
/// A burst of packets must fit: at least as many as wait at the other end.
const BUFFER: usize = 4 << 20;

/// Makes the sockets.
pub(super) struct Sockets(UdpSocketFactory);

impl Sockets {
    pub(super) fn new() -> Self {
        Self(UdpSocketFactory { recv_buffer_size: Some(BUFFER), send_buffer_size: Some(BUFFER) })
    }
}

impl UdpTransportFactory for Sockets {
    type Send = Sender;
    type Recv = UdpSocket;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(Sender, UdpSocket)> {
        let (socket, receiver) = self.0.bind(params).await?;
        Ok((Sender { socket, whole: Arc::new(AtomicBool::new(true)) }, receiver))
    }
}

/// Sends; packets of one size to one peer in one call.
#[derive(Clone)]
pub(super) struct Sender {
    socket: UdpSocket,
    /// Whether the kernel, and the link that packets leave by, take many at once.
    whole: Arc<AtomicBool>,
}

/// How many of the packets go together: all of one size, but the last, which may be shorter.
fn together(packets: &[(Packet, SocketAddr)]) -> usize {
    let Some((first, to)) = packets.first() else { return 0 };
    let size = first.len();
    let (mut n, mut bytes) = (0, 0);
    for (packet, addr) in packets.iter().take(MOST) {
        bytes += packet.len();
        if addr != to || packet.len() > size || bytes > MOST_BYTES {
            break;
        }
        n += 1;
        if packet.len() < size {
            break;
        }
    }
    n.max(1)
}

impl Sender {
    async fn send_run(&self, run: &[(Packet, SocketAddr)]) -> io::Result<()> {
        let socket = self.socket.socket();
        let size = u16::try_from(run[0].0.len()).map_err(io::Error::other)?;
        let slices: Vec<IoSlice<'_>> = run.iter().map(|(p, _)| IoSlice::new(p)).collect();
        let to = SockaddrStorage::from(run[0].1);
        let sizes = [ControlMessage::UdpGsoSegments(&size)];
        let control = if run.len() > 1 { &sizes[..] } else { &[] };
        let send = || Ok(sendmsg(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_DONTWAIT, Some(&to))?);
        socket.async_io(Interest::WRITABLE, send).await.map(drop)
    }
}

impl UdpSend for Sender {
    type SendManyBuf = <UdpSocket as UdpSend>::SendManyBuf;

    async fn send_to(&self, packet: Packet, to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(packet, to).await
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        self.socket.max_number_of_packets_to_send()
    }

    async fn send_many_to(&self, buf: &mut Self::SendManyBuf, packets: &mut Vec<(Packet, SocketAddr)>) -> io::Result<()> {
        let mut sent = 0;
        while self.whole.load(Ordering::Relaxed) && sent < packets.len() {
            let n = together(&packets[sent..]);
            match self.send_run(&packets[sent..sent + n]).await {
                Ok(()) => sent += n,
                // A kernel or a link that cannot: from now on one by one.
                Err(e) if n > 1 && matches!(e.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)) => {
                    self.whole.store(false, Ordering::Relaxed);
                }
                Err(e) => return Err(e),
            }
        }
        packets.drain(..sent);
        if packets.is_empty() { Ok(()) } else { self.socket.send_many_to(buf, packets).await }
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        UdpSend::local_addr(&self.socket)
    }

    fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        self.socket.set_fwmark(mark)
    }
}
