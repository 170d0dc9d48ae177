//! The resolver inside each container: names of services, tasks and containers from a table in memory, all else from upstream.
//!
//! Sockets belong to the container's namespace and are served here. The table is a value that the network manager swaps whole;
//! nothing in this module asks anyone.

mod answer;
mod forward;
mod serve;
mod table;

pub use serve::{Resolver, Sockets};
pub use table::{NetNames, Table};
