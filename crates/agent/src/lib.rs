//! The agent: makes this host equal to what the managers assigned to it, and reports what it sees.
//!
//! What it was assigned is on disk, so tasks go on without managers and after a restart. It drives one machine per task through
//! an [`Executor`]. This crate must never decide what should run, and never touch the host by itself.

#![deny(unsafe_code)]

mod agent;
mod attachments;
mod choice;
mod driver;
mod executor;
mod files;
mod gossip;
mod logs;
mod plane;
mod reporter;
mod session;
mod stored;
mod tunnel;
mod uplink;
mod worker;

pub use agent::{Agent, AgentConfig, AgentEvent, Ear};
pub use attachments::Attachments;
pub use executor::{ExecError, Executor, Exit, ObservedState, ObservedTask, Started, Turn};
pub use files::{DirMemory, Memory};
pub use uplink::{TlsUplink, Uplink};
