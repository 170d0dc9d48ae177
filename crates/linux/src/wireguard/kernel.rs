//! The kernel's WireGuard by generic netlink.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use nix::sys::socket::SockProtocol;
use skep_types::wireguard::PublicKey;

use super::Link;
use crate::net::msg::{ACK, CREATE, DUMP, EXCL, Msg, Socket, attrs, find};

const NEWLINK: u16 = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;

/// Generic netlink's own family, and its question for the number of another one.
const CTRL: u16 = 16;
const GETFAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const DEVICE_IFNAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_ALLOWED_IPS: u16 = 9;
const REMOVE_ME: u32 = 1;
const REPLACE_ALLOWED_IPS: u32 = 2;
const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDR: u16 = 2;
const ALLOWED_MASK: u16 = 3;
const AF_INET: u16 = 2;

/// Makes the link in the calling thread's namespace. `EOPNOTSUPP` if the kernel has no WireGuard.
pub(super) fn create(name: &str, mtu: u32) -> io::Result<()> {
    let mut msg = Msg::new(NEWLINK, ACK | CREATE | EXCL).raw(&[0; 16]);
    msg.text(IFLA_IFNAME, name);
    msg.u32(IFLA_MTU, mtu);
    msg.nest(IFLA_LINKINFO, |m| m.text(INFO_KIND, "wireguard"));
    Socket::open(SockProtocol::NetlinkRoute)?.request(msg)
}

/// A link of the kernel's.
pub(super) struct Client {
    socket: Socket,
    family: u16,
    name: String,
}

impl Client {
    /// In the calling thread's namespace.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let mut socket = Socket::open(SockProtocol::NetlinkGeneric)?;
        let mut msg = Msg::new(CTRL, ACK).raw(&[GETFAMILY, 1, 0, 0]);
        msg.text(FAMILY_NAME, "wireguard");
        let told = socket.dump(msg)?;
        let id = told.first().and_then(|body| find(&attrs(body, 4), FAMILY_ID)?.try_into().ok().map(u16::from_ne_bytes));
        let family = id.ok_or_else(|| io::Error::other("the kernel does not tell the number of WireGuard"))?;
        Ok(Self { socket, family, name: name.to_owned() })
    }

    fn message(&self, command: u8, flags: u16) -> Msg {
        let mut msg = Msg::new(self.family, flags).raw(&[command, 1, 0, 0]);
        msg.text(DEVICE_IFNAME, &self.name);
        msg
    }
}

impl Link for Client {
    fn identify(&mut self, private: &[u8; 32], port: u16) -> io::Result<()> {
        let mut msg = self.message(SET_DEVICE, ACK);
        msg.attr(DEVICE_PRIVATE_KEY, private);
        msg.attr(DEVICE_LISTEN_PORT, &port.to_ne_bytes());
        self.socket.request(msg)
    }

    fn set_peer(&mut self, key: PublicKey, addr: Ipv4Addr, port: u16) -> io::Result<()> {
        let mut endpoint = [0u8; 16];
        endpoint[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        endpoint[2..4].copy_from_slice(&port.to_be_bytes());
        endpoint[4..8].copy_from_slice(&addr.octets());
        let mut msg = self.message(SET_DEVICE, ACK);
        msg.nest(DEVICE_PEERS, |m| {
            m.nest(0, |m| {
                m.attr(PEER_PUBLIC_KEY, &key.0);
                m.u32(PEER_FLAGS, REPLACE_ALLOWED_IPS);
                m.attr(PEER_ENDPOINT, &endpoint);
                m.nest(PEER_ALLOWED_IPS, |m| {
                    m.nest(0, |m| {
                        m.attr(ALLOWED_FAMILY, &AF_INET.to_ne_bytes());
                        m.attr(ALLOWED_ADDR, &addr.octets());
                        m.attr(ALLOWED_MASK, &[32]);
                    });
                });
            });
        });
        self.socket.request(msg)
    }

    fn delete_peer(&mut self, key: PublicKey) -> io::Result<()> {
        let mut msg = self.message(SET_DEVICE, ACK);
        msg.nest(DEVICE_PEERS, |m| {
            m.nest(0, |m| {
                m.attr(PEER_PUBLIC_KEY, &key.0);
                m.u32(PEER_FLAGS, REMOVE_ME);
            });
        });
        self.socket.request(msg)
    }

    fn peers(&mut self) -> io::Result<BTreeMap<Ipv4Addr, PublicKey>> {
        let msg = self.message(GET_DEVICE, DUMP);
        let mut out = BTreeMap::new();
        for body in self.socket.dump(msg)? {
            let device = attrs(&body, 4);
            for (_, peer) in attrs(find(&device, DEVICE_PEERS).unwrap_or_default(), 0) {
                let peer = attrs(peer, 0);
                let key = find(&peer, PEER_PUBLIC_KEY).and_then(|k| k.try_into().ok()).map(PublicKey);
                let addr = find(&peer, PEER_ENDPOINT).and_then(|e| <[u8; 4]>::try_from(e.get(4..8)?).ok());
                out.extend(addr.map(Ipv4Addr::from).zip(key));
            }
        }
        Ok(out)
    }
}
