//! What this host is in a swarm: nothing, a worker, or a manager with an agent.
//!
//! Init, join, leave, changes of role, renewal of the certificate, and coming back after a restart with what is on disk. This
//! crate wires `agent`, `manager` and `wire` together; it must never decide anything about tasks.

#![deny(unsafe_code)]

mod address;
mod backup;
mod error;
mod files;
mod join;
mod keys;
mod leave;
mod lock;
mod node;
mod repair;
mod resume;
mod role;
mod running;
mod watch;

pub use node::SwarmNode;
/// Who is asked for secrets with a driver.
pub use skep_manager::SecretDrivers;
