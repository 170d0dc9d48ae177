//! Compose files to the bodies of the Engine API: versions 3.0 to 3.13 and the Compose Specification.
//!
//! A file goes through these rooms, in this order: [`yaml`](crate::node) text becomes nodes that know their place; variables are
//! put in (`interpolate`); the tree is held against the table of the format (`schema`, `check`); short forms become long ones
//! (`canon`); `extends`, `include` and further files are merged (`load`, `merge`); and of the one tree that is left a
//! [`Stack`] is made (`convert`), or the text of `stack config` (`emit`).
//!
//! The crate does no I/O and reads no environment: files come through [`Files`], variables as a map. Nothing in a file makes it
//! panic, loop or take memory without bound ([`limits`]); what is wrong is told with file, line and column, all at once.

#![forbid(unsafe_code)]

mod canon;
mod check;
mod convert;
mod dotenv;
mod emit;
mod interpolate;
pub mod limits;
mod load;
mod merge;
pub mod node;
mod place;
mod ports;
mod schema;
mod stack;
mod values;
mod volumes;
mod warn;
mod words;
mod yaml;

pub use convert::{check_name, version_name};
pub use load::{Files, Options, Project, load};
pub use place::{Fault, Faults, Place, Warning, WarningKind};
pub use stack::{Data, Network, Object, Service, Stack};
