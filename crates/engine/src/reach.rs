//! The door to the helper that reaches into a container's files: what it is told, and what it answers.
//!
//! The daemon itself never resolves a path of a container, nor opens anything in it. A process of its own does, for one call, in a
//! mount namespace of its own. It reads [`Plan`] as JSON after its length (u32, little endian) on its standard input, then the archive
//! that is to be unpacked; it writes one line of [`Outcome`] on its standard output, then the archive that was asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_types::container::{MountPoint, PathStat};
use skep_types::usage::Change;

use crate::shim::VolumeMount;

/// Longest plan: some hundred layers and mounts.
pub const MAX_PLAN: u32 = 4 << 20;

/// Whose view of the files is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// What the processes of a running container see, volumes included.
    Running {
        /// Its bundle, where its shim answers.
        bundle: PathBuf,
    },
    /// A running container's own filesystem, without what is mounted in it.
    Own {
        /// Its bundle.
        bundle: PathBuf,
        /// Where its shim has it.
        rootfs: PathBuf,
    },
    /// What the container would see if it ran; mounted for this call only.
    Stopped {
        /// Lower directories, top first.
        lower: Vec<PathBuf>,
        /// Writable layer.
        upper: PathBuf,
        /// Work directory of overlayfs.
        work: PathBuf,
        /// Where to mount it.
        rootfs: PathBuf,
        /// Volumes and binds to mount in it.
        mounts: Vec<MountPoint>,
        /// Volumes that are more than directories, to mount before.
        filesystems: Vec<VolumeMount>,
        /// Nothing may be written outside of the mounts.
        readonly: bool,
    },
    /// The writable layer by itself, as it lies on the disk.
    Layer {
        /// Lower directories, top first.
        lower: Vec<PathBuf>,
        /// Writable layer.
        upper: PathBuf,
    },
}

/// What is to be done there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Look at a path.
    Stat {
        /// Absolute.
        path: String,
    },
    /// Send what is at a path.
    Read {
        /// Absolute.
        path: String,
    },
    /// Unpack an archive into a directory.
    Write {
        /// Absolute.
        path: String,
        /// A directory is never replaced by something else, nor something else by one.
        keep_kinds: bool,
        /// `user[:group]` of the container that is to own all of it.
        owner: Option<String>,
    },
    /// Send everything; of a layer in the form of images.
    All,
    /// Tell how the layer differs from those below.
    Changes,
    /// Tell how many bytes the files of the layer have.
    Size,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose files.
    pub root: Root,
    /// What with them.
    pub work: Work,
}

/// Why it could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such path.
    Missing,
    /// It is read-only there.
    ReadOnly,
    /// What was asked for makes no sense.
    Invalid,
    /// The kernel or the disk refused.
    Failed,
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// What is at the path; of `Read`, the archive follows.
    Stat(PathStat),
    /// The differences.
    Changes(Vec<Change>),
    /// Bytes.
    Size(u64),
    /// Done, or the archive follows.
    Done,
    /// Not done.
    Refused {
        /// Kind.
        why: Refusal,
        /// In words.
        message: String,
    },
}
