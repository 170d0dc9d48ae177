//! The manager: agreed tables, the leader's loop over them, and the doors for agents, other managers and operators.
//!
//! Whoever leads plans, watches the nodes' signs of life, takes their reports and answers calls; every other manager passes
//! calls on to the leader. This crate must never decide what `plan` decides, nor touch the host.

#![deny(unsafe_code)]

mod ca;
mod control;
mod dispatch;
mod error;
mod events;
mod handler;
mod leader;
mod links;
mod liveness;
mod logs;
mod manager;
mod observer;
mod planner;
mod presence;
mod quorum;
mod repair;
mod roles;
mod rotation;
mod shared;
mod standing;
mod status;
mod statuses;
mod tables;
mod tunnel;

pub use control::shown;
pub use dispatch::SecretDrivers;
pub use error::ManagerError;
pub use links::{Links, TlsLinks, refused};
pub use manager::{Bootstrap, Manager, ManagerConfig};
pub use observer::Observer;
pub use repair::{Restored, force_single};
/// Where a manager keeps its log, and the keys it is sealed with.
pub use skep_raft::{DirStorage, Key, KeyId, KeyRing, Storage};
pub use tables::{News, Tables, Watcher};
