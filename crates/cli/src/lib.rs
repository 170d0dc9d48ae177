//! What talks to the API from outside: its client, and the small web server of the demo image.
//!
//! The commands with Docker's grammar come with their own issue; until then the stock `docker` client is used. This crate
//! knows nothing of the daemon's parts.

#![forbid(unsafe_code)]

pub mod client;
pub mod whoami;
