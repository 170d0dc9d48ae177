//! Agreement on bytes among managers.
//!
//! This crate hides the consensus library behind a facade that knows only bytes: a caller proposes bytes, every member applies
//! the same bytes in the same order, and a response of bytes comes back. The log is a segment log of our own. This crate must
//! never know what the bytes mean: no state, no planning, no engine.

#![deny(unsafe_code)]

mod changes;
mod config;
mod dir_storage;
mod error;
mod facade;
mod handover;
mod incoming;
mod keys;
mod leadership;
mod log;
mod machine;
mod members;
mod monitor;
mod network;
mod open;
pub mod repair;
mod rotation;
mod runtime;
#[cfg(any(test, feature = "sim"))]
pub mod sim_disk;
mod snapshot_file;
mod snapshots;
mod storage;
mod views;

pub use config::{MAX_PROPOSAL_BYTES, RaftConfig};
pub use dir_storage::DirStorage;
pub use error::{HandleError, OpenError, ProposeError, TransportError};
pub use facade::Raft;
pub use keys::{Key, KeyId, KeyRing};
pub use log::LogError;
pub use machine::{SnapshotFn, StateMachine};
pub use members::{Leadership, Member, Metrics, Peer};
pub use monitor::Health;
pub use network::{MessageKind, Transport};
pub use runtime::seed_this_thread;
pub use storage::{Storage, StorageFile};
