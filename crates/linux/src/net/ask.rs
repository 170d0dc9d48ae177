//! Whether other nodes answer on a link: questions of ARP, which no firewall of IP's sees, of the size that is wanted.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType, netdevice, socket_with};
use skep_netplan::Mac;

const ETH_P_ARP: u16 = 0x0806;
/// Questions to one node that does not answer.
const TRIES: usize = 3;
/// A node that answers does so in a fraction of this, wherever it is.
const WITHIN: Duration = Duration::from_millis(300);
const ETHERNET: usize = 14;
/// Length of an ARP packet for Ethernet and IPv4.
const ARP: usize = 28;

/// Asks each of the peers on the link, in packets of so many bytes; those that answered.
pub(super) fn ask(dev: &str, own: (Mac, Ipv4Addr), peers: &[(Mac, Ipv4Addr)], size: u32) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = open(dev)?;
    let mut missing: BTreeSet<(Mac, Ipv4Addr)> = peers.iter().copied().collect();
    let mut answered = BTreeSet::new();
    for _ in 0..TRIES {
        for peer in &missing {
            // One that cannot be sent is not answered.
            let _ = rustix::net::send(&socket, &question(own, *peer, size), rustix::net::SendFlags::empty());
        }
        let end = Instant::now() + WITHIN;
        while !missing.is_empty() && Instant::now() < end {
            let mut frame = [0; ETHERNET + ARP];
            match rustix::net::recv(&socket, &mut frame[..], rustix::net::RecvFlags::empty()) {
                Ok((_, len)) if len >= frame.len() => {
                    if let Some(addr) = answer(&frame, own.1) {
                        missing.retain(|(_, peer)| *peer != addr);
                        answered.insert(addr);
                    }
                }
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    let asked: BTreeSet<Ipv4Addr> = peers.iter().map(|p| p.1).collect();
    Ok(answered.intersection(&asked).copied().collect())
}

/// A socket for ARP on one link of the calling thread's namespace.
#[allow(unsafe_code)]
fn open(dev: &str) -> io::Result<OwnedFd> {
    let protocol = RawProtocol::new(u32::from(ETH_P_ARP.to_be())).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    let index = netdevice::name_to_index(&socket, dev)?;
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: ETH_P_ARP.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is whole, of the given length, and lives until the call returns.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(WITHIN / 4))?;
    Ok(socket)
}

fn question(own: (Mac, Ipv4Addr), peer: (Mac, Ipv4Addr), size: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(peer.0.0);
    out.extend(own.0.0);
    out.extend(ETH_P_ARP.to_be_bytes());
    // Ethernet, IPv4, their lengths, and that this is a question.
    out.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    out.extend(own.0.0);
    out.extend(own.1.octets());
    out.extend([0; 6]);
    out.extend(peer.1.octets());
    // What follows the packet is padding, of which Ethernet allows any amount.
    let size = usize::try_from(size).unwrap_or(ARP).max(ARP);
    out.resize(ETHERNET + size, 0);
    out
}

/// Who answers, if the frame is an answer to us.
fn answer(frame: &[u8], own: Ipv4Addr) -> Option<Ipv4Addr> {
    let arp = frame.get(ETHERNET..)?;
    let four = |at: usize| arp.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(Ipv4Addr::from);
    (arp.get(6..8)? == [0, 2] && four(24)? == own).then(|| four(14))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_a_question() {
        let own = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1));
        let peer = (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2));
        let asked = question(own, peer, 1450);
        assert_eq!(asked.len(), 1464);
        assert_eq!(question(own, peer, 0).len(), 42);
        assert_eq!(answer(&asked, own.1), None);
        let mut back = question(peer, own, 28);
        back[21] = 2;
        assert_eq!(answer(&back, own.1), Some(peer.1));
        assert_eq!(answer(&back, peer.1), None);
        assert_eq!(answer(&back[..20], own.1), None);
    }
}
