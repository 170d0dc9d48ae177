//! The simulated swarm: the real planner, tables, dispatcher, task machines and raft of many hosts in one thread, on simulated
//! time, network, disks and clocks, all from one seed. Invariants are checked at every step; a seed that breaks one does so
//! again, bit for bit, and its schedule is made small.
//!
//! Must never use a real clock, file, socket or thread.

#![forbid(unsafe_code)]

mod check;
mod clock;
mod executor;
mod host;
mod memory;
mod net;
mod operator;
mod rng;
mod run;
pub mod schedule;
mod shrink;
mod world;

pub use check::Violation;
pub use run::{Report, run, simulate};
pub use schedule::Size;
pub use shrink::shrink;
