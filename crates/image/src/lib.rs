//! Images of one host: fetched from registries, read from archives, kept by content, unpacked for overlay mounts.
//!
//! [`ImageStore`] is the door. What comes from outside is never trusted: every blob is hashed while it is written, sizes are bounded
//! by what was declared, and no entry of a layer can leave its directory. Nothing here knows of containers or clusters.

#![forbid(unsafe_code)]

mod archive;
mod blobs;
mod builder;
mod commit;
mod compression;
mod config;
mod error;
mod history;
mod import;
mod index;
mod layers;
mod registry;
mod store;

pub use builder::ImageBuilder;
pub use commit::Commit;
pub use error::ImageError;
pub use history::Step;
pub use registry::{RegistryOptions, Remote};
pub use skep_types::reference::{InvalidReference, Reference};
pub use store::ImageStore;
