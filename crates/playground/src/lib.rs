//! A swarm of several hosts on one machine: network namespaces joined by a bridge, each with its own daemon.
//!
//! Used by `skep playground` and by the tests. A host is real in everything but the kernel that it shares: its own addresses,
//! daemon, data, containers and overlay networks. Everything that is made here has names that tell, so that a crash leaves
//! nothing that `down` or the next `up` would not find.

#![forbid(unsafe_code)]

pub mod demo;
pub mod host;
pub mod lan;
pub mod swarm;

use std::path::PathBuf;

/// Something of the playground could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum PlaygroundError {
    /// The kernel or the disk refused.
    #[error("{operation}: {cause}")]
    Host {
        /// What was tried, on what.
        operation: String,
        /// Why not.
        cause: String,
    },
    /// There is no such host.
    #[error("no host {name} in the playground; it has {known}")]
    NoHost {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// There is no playground.
    #[error("no playground is up: run `skep playground up` first")]
    NotUp,
    /// A daemon refused a call.
    #[error("{operation} on {host}: {cause}")]
    Daemon {
        /// What was asked.
        operation: String,
        /// Of whom.
        host: String,
        /// Its answer.
        cause: String,
    },
    /// The user asked for something impossible.
    #[error("{0}")]
    Invalid(String),
}

impl PlaygroundError {
    pub(crate) fn host(operation: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Host { operation: operation.into(), cause: cause.to_string() }
    }
}

/// Where a playground lives. Tests run several at once, each with its own name and network.
#[derive(Debug, Clone)]
pub struct Place {
    /// Part of every name: `playground` for the command's own, else a test's.
    pub name: String,
    /// Sockets, state and exec roots.
    pub run: PathBuf,
    /// Data roots.
    pub data: PathBuf,
    /// First three bytes of the LAN's addresses; .1 is the machine, hosts count from .11.
    pub lan: [u8; 3],
    /// Prefix of namespaces and hosts' links.
    pub prefix: String,
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// The skep binary that the hosts run.
    pub binary: PathBuf,
}

impl Place {
    /// The command's own playground.
    #[must_use]
    pub fn standard(binary: PathBuf) -> Self {
        Self {
            name: "playground".to_owned(),
            run: "/run/skep/playground".into(),
            data: "/var/lib/skep/playground".into(),
            lan: [10, 88, 77],
            prefix: "skep-".to_owned(),
            bridge: "skep-lan".to_owned(),
            binary,
        }
    }

    /// A test's playground: `number` (0..=199) tells it from others that run at the same time.
    #[must_use]
    pub fn test(number: u8, binary: PathBuf) -> Self {
        Self {
            name: format!("t{number}"),
            run: format!("/run/skep/t{number}").into(),
            data: format!("/var/lib/skep/t{number}").into(),
            lan: [10, 89, number],
            prefix: format!("skep-t{number}-"),
            bridge: format!("skep-lan{number}"),
            binary,
        }
    }

    /// The machine's own address on the LAN.
    #[must_use]
    pub fn machine(&self) -> std::net::Ipv4Addr {
        self.address(1)
    }

    /// The address of IPv6 of whoever has this one on the LAN: `fd5c:<a>:<b>:<c>::<last>`, each number as it is written.
    #[must_use]
    pub fn address6(address: std::net::Ipv4Addr) -> std::net::Ipv6Addr {
        let as_written = |n: u8| u16::from_str_radix(&n.to_string(), 16).unwrap_or_default();
        let [a, b, c, last] = address.octets().map(as_written);
        std::net::Ipv6Addr::new(0xfd5c, a, b, c, 0, 0, 0, last)
    }

    /// An address of the LAN.
    #[must_use]
    pub fn address(&self, last: u8) -> std::net::Ipv4Addr {
        let [a, b, c] = self.lan;
        std::net::Ipv4Addr::new(a, b, c, last)
    }
}
