//! What can go wrong with a network, in words that name the operation and its object.

use std::fmt;
use std::io;
use std::net::IpAddr;

/// An error of this host's networks. The texts of those that a user can cause are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel or the file system refused something.
    #[error("{operation} {object}")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// No such network (404).
    #[error("network {0} not found")]
    NotFound(String),
    /// The prefix of an id fits several networks (400).
    #[error("network {0} is ambiguous")]
    Ambiguous(String),
    /// The name is taken (409).
    #[error("network with name {0} already exists")]
    Exists(String),
    /// Someone is on it (403).
    #[error("error while removing network: network {0} has active endpoints")]
    InUse(String),
    /// The container is on it already (403).
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// Name of the container.
        container: String,
        /// Name of the network.
        network: String,
    },
    /// Predefined networks stay (403).
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// What Docker refuses in words of its own (403).
    #[error("{0}")]
    Forbidden(String),
    /// No configuration of that name (404).
    #[error("configuration network {0:?} does not exist")]
    NoConfiguration(String),
    /// The subnet touches another (403).
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlaps,
    /// No free subnet is left.
    #[error("all predefined address pools have been fully subnetted")]
    PoolsFull,
    /// No free address is left.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    AddressesFull(String),
    /// The wanted address is taken (403).
    #[error("Address already in use")]
    AddressTaken,
    /// The wanted address is not on the network (400).
    #[error("no configured subnet or ip-range contain the IP address {0}")]
    OutsideSubnet(IpAddr),
    /// Another container has the port (500, as in Docker).
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    PortTaken {
        /// Address of the host.
        ip: IpAddr,
        /// Port.
        port: u16,
    },
    /// A process of the host has the port.
    #[error("failed to bind host port {ip}:{port}/{proto}: address already in use")]
    PortBusy {
        /// Address of the host.
        ip: IpAddr,
        /// Port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        proto: &'static str,
    },
    /// The request makes no sense (400).
    #[error("{0}")]
    Invalid(String),
    /// Several errors of one operation that went on past them.
    #[error("{}", Listed(.0))]
    Many(Vec<NetError>),
}

struct Listed<'a>(&'a [NetError]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
            // a list has no single source to chain to
            if let NetError::Host { cause, .. } = error {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

impl NetError {
    /// An error of the kernel or file system.
    pub fn host(operation: &'static str, object: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self::Host { operation, object: object.into(), cause: cause.into() }
    }

    /// Nothing, the one, or all errors of an operation that went on past them.
    ///
    /// # Errors
    /// The given ones.
    pub fn collect(mut errors: Vec<NetError>) -> Result<(), NetError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}
