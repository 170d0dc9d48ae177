//! The cluster's tables.
//!
//! A [`Store`] is a value: its clone is an O(1) snapshot, [`Store::apply`] is a deterministic function of the store and a
//! [`Transaction`], so every manager that applies the same log holds the same tables. This crate must never read a clock, draw
//! a random number, or do I/O.

#![deny(unsafe_code)]

mod apply;
mod codec;
mod dump;
mod index;
mod store;
mod table;
mod transaction;

pub use codec::{Unknown, Unreadable};
pub use dump::{Dump, RestoreError};
pub use index::{AddressOwner, Load};
pub use store::Store;
pub use transaction::{Change, Key, Op, Refused, Transaction};
