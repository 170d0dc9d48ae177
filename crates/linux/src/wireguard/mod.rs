//! The WireGuard link of encrypted networks: the kernel's where it has one, else a process of ours behind a TUN device.
//!
//! Both are told the same things: key and port, peers in and out. The private key is made on this host, is kept in memory and in a file
//! below the exec root, which is gone after a reboot, and never leaves it. Must never let a packet pass that is not encrypted: a link
//! that cannot be set up is not there.

mod kernel;
mod segments;
mod tun;
mod udp;
mod user;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use gotatun::x25519::{PublicKey as Public, StaticSecret};
use skep_types::wireguard::PublicKey;

pub use user::main;

/// File of the private key.
const KEY: &str = "private.key";

/// What may be done to a link, whoever carries it.
trait Link {
    /// Sets this host's key and the UDP port.
    fn identify(&mut self, private: &[u8; 32], port: u16) -> io::Result<()>;
    /// Adds a peer, or sets it anew; its packets go to `port` of its address, and through it goes what is for that address.
    fn set_peer(&mut self, key: PublicKey, addr: Ipv4Addr, port: u16) -> io::Result<()>;
    /// Takes a peer away; no error if it is not there.
    fn delete_peer(&mut self, key: PublicKey) -> io::Result<()>;
    /// Peers by address.
    fn peers(&mut self) -> io::Result<BTreeMap<Ipv4Addr, PublicKey>>;
}

/// The WireGuard links of one host; there is one at most.
#[derive(Debug)]
pub(crate) struct WireGuard {
    /// Where key and control socket are.
    dir: PathBuf,
    key: Mutex<Option<[u8; 32]>>,
}

impl WireGuard {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, key: Mutex::new(None) }
    }

    /// This host's private key, made when it is first asked for.
    fn private(&self) -> io::Result<[u8; 32]> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = *known {
            return Ok(key);
        }
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(KEY);
        // One that is not whole is of no use to anybody: a new one is told to the peers.
        let key = match fs::read(&path).map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => key,
            _ => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                let next = self.dir.join("private.key.new");
                let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
                file.write_all(&key)?;
                fs::rename(&next, &path)?;
                key
            }
        };
        *known = Some(key);
        Ok(key)
    }

    /// What peers must know of this host.
    pub(crate) fn public(&self) -> io::Result<PublicKey> {
        let private = StaticSecret::from(self.private()?);
        Ok(PublicKey(*Public::from(&private).as_bytes()))
    }

    /// Makes the link. To be called on a thread in the namespace that it shall be in.
    pub(crate) fn create(&self, name: &str, mtu: u32) -> io::Result<()> {
        match kernel::create(name, mtu) {
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EOPNOTSUPP as i32) => user::start(&self.dir, name, mtu),
            other => other,
        }
    }

    /// Whoever carries the link; on a thread in its namespace.
    fn link(&self, name: &str) -> io::Result<Box<dyn Link>> {
        match user::Client::connect(&self.dir) {
            Some(client) => Ok(Box::new(client)),
            None => Ok(Box::new(kernel::Client::open(name)?)),
        }
    }

    /// Sets key and port of the link; on a thread in its namespace.
    pub(crate) fn identify(&self, name: &str, port: u16) -> io::Result<()> {
        self.link(name)?.identify(&self.private()?, port)
    }

    /// Adds a peer, or sets it anew; on a thread in the link's namespace.
    pub(crate) fn set_peer(&self, name: &str, key: PublicKey, addr: Ipv4Addr, port: u16) -> io::Result<()> {
        self.link(name)?.set_peer(key, addr, port)
    }

    /// Takes a peer away; on a thread in the link's namespace.
    pub(crate) fn delete_peer(&self, name: &str, key: PublicKey) -> io::Result<()> {
        self.link(name)?.delete_peer(key)
    }

    /// Peers of the link by address; on a thread in its namespace.
    pub(crate) fn peers(&self, name: &str) -> io::Result<BTreeMap<Ipv4Addr, PublicKey>> {
        self.link(name)?.peers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_anew_when_its_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let public = || WireGuard::new(dir.path().to_owned()).public().unwrap();
        let first = public();
        assert_eq!(public(), first);
        let path = dir.path().join(KEY);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
        fs::write(&path, [1; 31]).unwrap();
        let second = public();
        assert_ne!(second, first);
        assert_eq!(public(), second);
    }
}
