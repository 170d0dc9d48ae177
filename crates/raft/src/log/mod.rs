//! The segment log: what this member has promised, on disk.
//!
//! Everything that must survive (entries, votes, truncations, purges, the committed index) is a record; records written by one
//! group commit form one sealed frame with a checksum; frames are appended to segment files, and one writer syncs them before
//! anything is acknowledged. Since a frame is only begun when the one before it is on disk, only the very last frame of the
//! log can be torn by a crash. This module must never rewrite bytes that were acknowledged.

mod disk;
mod frame;
mod header;
mod replay;
mod status;
mod store;
mod writer;

#[cfg(test)]
mod crash_tests;

use std::path::PathBuf;

pub(crate) use disk::Disk;
pub(crate) use frame::Record;
pub(crate) use replay::Content;
pub(crate) use status::Shared;
pub(crate) use store::{LogStore, WeakLog};

use crate::KeyId;

/// Why the log on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("{op} {path}: {source}")]
    Io {
        /// What was attempted.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is sealed with a key that was not given.
    #[error(
        "{path} is sealed with key {key}, which is not among the keys given. Unlock this manager with the key that was in use, \
         or put its key file back; without it remove this manager from the swarm and join it again"
    )]
    MissingKey {
        /// Sealed file.
        path: PathBuf,
        /// The key it needs.
        key: KeyId,
    },
    /// The file was written by a later version.
    #[error(
        "{path} has format version {version}, which this version cannot read: install the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its format.
        version: u32,
    },
    /// Bytes that had been acknowledged are damaged. The member must be removed and join again.
    #[error(
        "{path} is damaged at byte {offset}: {what}. What this manager has acknowledged cannot be read; \
         remove this manager from the swarm and join it again"
    )]
    Damaged {
        /// Damaged file.
        path: PathBuf,
        /// Offset of the damaged frame.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}
