//! The dispatcher: what each node must run, and what it reports back (`swarm-semantics` 7). Must never send a node a task of
//! another.

mod assignments;
mod attach;
mod dataplane;
mod drain;
mod driven;
mod register;
mod session;
mod told;

pub(crate) use attach::attach;
pub(crate) use dataplane::Planes;
pub(crate) use drain::Followed;
pub(crate) use driven::AT_ONCE;
pub use driven::SecretDrivers;
pub(crate) use register::register;
pub(crate) use session::session;

#[cfg(test)]
mod tests;
