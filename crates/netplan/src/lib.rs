//! What the network of a node should be, and its difference from what is.
//!
//! Facts (the managers' view of the swarm, this node's bridges and containers) go in; the wanted state of each network namespace
//! comes out, and [`diff::diff`] turns applied and wanted state into ordered steps. Everything here is a value: no I/O, no clock,
//! no randomness, no hash order. How a step reaches the kernel is the business of crate `linux`.

#![forbid(unsafe_code)]

pub mod diff;
pub mod doctor;
pub mod drift;
pub mod entry;
pub mod facts;
pub mod host;
pub mod nft;
pub mod overlay;
pub mod report;
pub mod sandbox;
pub mod state;
pub mod version;

pub use diff::{Step, absorb, diff};
pub use state::{Mac, NetnsState, Ns};
