//! What talks to the API from outside: its client, the commands with Docker's grammar, and the small web server of the demo
//! image. This crate knows nothing of the daemon's parts.
//!
//! The way through: [`app::main`] reads the words by the tables of [`commands`] ([`grammar`] reads), finds the daemon ([`config`],
//! [`client`]), runs the command, which shows what it got through [`output`] and [`template`].

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, reason = "it panics when nobody reads (`| head`)")]

pub mod app;
pub mod client;
pub mod commands;
pub mod config;
#[doc(hidden)]
pub mod fuzz;
pub mod grammar;
pub mod options;
pub mod output;
pub mod progress;
pub mod template;
pub mod terminal;
pub mod whoami;
