//! Trees of files to archives and back: layers of images, files that are copied into and out of containers.
//!
//! Every path is resolved by the kernel inside a root (`openat2`, `RESOLVE_IN_ROOT`) and walked by descriptors, so that neither `..`,
//! nor an absolute name, nor a symlink that somebody plants meanwhile leads out of it. Nothing here opens a device, a pipe or a socket
//! for reading.

#![forbid(unsafe_code)]

mod changes;
mod layer;
mod pack;
mod root;
mod size;
mod unpack;

pub use changes::{Change, ChangeKind, changes};
pub use layer::pack_layer;
pub use pack::{Stat, pack, pack_all, pack_as, stat};
pub use root::{open_in, open_root};
pub use size::size;
pub use unpack::{Extract, extract, extract_as, unpack};
