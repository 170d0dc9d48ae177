//! The one data model of Skep: ids, specs, objects and the messages that cross the doors between rooms.
//!
//! These types are used in memory, in the raft log and on the wire. Docker's JSON exists at the edge only (`api`, `cli`).
//! What is persisted or sent must be readable by the version before and after: new fields carry `#[serde(default)]`,
//! fields are never renamed. This crate never does I/O, reads no clock and draws no random numbers.

#![forbid(unsafe_code)]

pub mod attach;
pub mod clock;
pub mod container;
pub mod control;
pub mod dataplane;
pub mod digest;
pub mod file;
pub mod gossip;
pub mod health;
pub mod host;
pub mod id;
pub mod limits;
pub mod logdriver;
pub mod logs;
pub mod names;
pub mod net;
pub mod netreport;
pub mod object;
pub mod options;
pub mod peers;
pub mod reference;
pub mod secret;
pub mod session;
pub mod spec;
pub mod task;
pub mod template;
pub mod time;
pub mod tunnel;
pub mod usage;
pub mod volume;
pub mod wireguard;

pub use id::{ClusterId, FileId, LogId, NetworkId, NodeId, ServiceId, TaskId};
pub use net::{IpNet, Ipv4Net, Ipv6Net};
pub use secret::Secret;
pub use time::Time;
