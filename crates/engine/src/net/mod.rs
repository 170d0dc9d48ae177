//! The networks of one host: local bridges, containers' namespaces, overlay networks and published ports.
//!
//! [`NetworkManager`] is the door. It keeps the facts, lets `netplan` say what each namespace should be, and has a [`NetHost`]
//! apply the difference; it never talks to the kernel itself. Work is done by one thread at a time.

mod apply;
mod config;
mod connect;
mod core;
mod doctor;
mod error;
mod guard;
mod host;
mod ipam;
mod manager;
mod options;
mod ports;
mod resolve;

mod sandbox;
mod spec;
mod store;

pub use error::NetError;
pub use host::{Found, NetHost, TableWatch};
pub use manager::NetworkManager;
pub use spec::{
    DnsOptions, LocalNetwork, LocalNetworkSpec, NetConfig, NetworkRequest, PortMap, Sandbox, SandboxEndpoint, SandboxRequest,
    SharedLink,
};
