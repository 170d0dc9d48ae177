//! The door between the daemon and the shims: what a shim is told, what it answers, and the files it leaves.
//!
//! One shim runs one container and outlives the daemon. The daemon starts it with a bundle directory (in the exec root, a
//! tmpfs) that holds [`ShimConfig`]; the shim answers on `shim.sock` there, and writes [`Exit`] durably to the container's
//! directory before it tells anyone that the container ended. Frames are length-prefixed and the protocol is versioned, since
//! old shims outlive upgrades.

pub mod client;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_types::volume::Filesystem;

/// Version of the frames below. A daemon talks to shims of its own and the previous version.
pub const PROTOCOL: u32 = 1;
/// File name of [`ShimConfig`] in the bundle.
pub const CONFIG_FILE: &str = "shim.json";
/// File name of the shim's socket in the bundle.
pub const SOCKET_FILE: &str = "shim.sock";
/// Directory of the bundle where the shim has the container's secrets and configs.
pub const FILES_DIR: &str = "files";
/// File name of [`Exit`] in the container's directory.
pub const EXIT_FILE: &str = "exit.json";
/// Longest frame: one read of a container's output, or a request with a large environment.
pub const MAX_FRAME: usize = 4 << 20;

/// Kind of a frame: one byte after the length (u32, little endian, of what follows the kind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// JSON of [`Request`] or [`Response`].
    Message = 1,
    /// Bytes for standard input.
    Stdin = 2,
    /// Standard input ended.
    StdinEnd = 3,
    /// Bytes of standard output, or of the terminal.
    Stdout = 4,
    /// Bytes of standard error.
    Stderr = 5,
}

impl FrameKind {
    /// The kind of a byte, if it is one.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Stdin,
            3 => Self::StdinEnd,
            4 => Self::Stdout,
            5 => Self::Stderr,
            _ => return None,
        })
    }
}

/// A bind mount source that takes the image's content when it is an empty volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUp {
    /// Directory of the volume on the host.
    pub volume: PathBuf,
    /// Path in the container.
    pub target: String,
}

/// A volume that is more than a directory. The shim mounts it in its own mount namespace, so that it is gone with the shim, whatever
/// happens; containers that have it at the same time have one mount, as if it were the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// The volume's directory, on which it is mounted.
    pub at: PathBuf,
    /// What is mounted.
    pub filesystem: Filesystem,
    /// Bundles of running containers that have it: the mount of the first that answers is taken.
    pub lenders: Vec<PathBuf>,
}

/// How a failed mount of a volume begins, as Docker says it.
pub const MOUNT_FAILED: &str = "error while mounting volume ";

/// What a shim needs to run its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimConfig {
    /// Container id.
    pub id: String,
    /// Lower directories of the root filesystem, top first.
    pub lower: Vec<PathBuf>,
    /// Writable layer.
    pub upper: PathBuf,
    /// Work directory of overlayfs, beside `upper`.
    pub work: PathBuf,
    /// Where the root filesystem is mounted, in the shim's own mount namespace.
    pub rootfs: PathBuf,
    /// OCI runtime configuration; the shim fills in the user from the image's files.
    pub spec: serde_json::Value,
    /// `user[:group]` by name or number; empty is root.
    pub user: String,
    /// Groups besides the user's own, by name or number.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Pseudo-terminal.
    pub tty: bool,
    /// Standard input is a pipe.
    pub open_stdin: bool,
    /// Standard input closes with the first client that had it.
    pub stdin_once: bool,
    /// The log, whatever the driver; absent when that is `none`.
    pub log: Option<LogConfig>,
    /// Where [`Exit`] goes.
    pub exit_file: PathBuf,
    /// Compiled seccomp program to load; absent when unconfined.
    pub seccomp: Option<PathBuf>,
    /// Capabilities in effect, `CAP_…`.
    pub capabilities: Vec<String>,
    /// Volumes that take the image's content while they are empty.
    pub volumes: Vec<CopyUp>,
    /// Volumes to mount before anything else.
    #[serde(default)]
    pub filesystems: Vec<VolumeMount>,
    /// State directory of the runtime library.
    pub runtime_root: PathBuf,
    /// A small init is the container's first process.
    #[serde(default)]
    pub init: bool,
    /// Size of its terminal before the program runs: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Files whose bytes come on standard input, each after its length (u32, little endian), and go to a tmpfs at [`FILES_DIR`]
    /// of the bundle, in the shim's own mount namespace.
    #[serde(default)]
    pub files: Vec<StagedFile>,
}

/// A file that the shim makes for its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Path below [`FILES_DIR`].
    pub at: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// Where output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// File of JSON lines.
    pub path: PathBuf,
    /// Rotate beyond this many bytes; 0 never.
    pub max_size: u64,
    /// Files kept, the current one included; at least 1.
    pub max_files: u32,
    /// What each record says of its container: JSON, or nothing.
    #[serde(default)]
    pub attrs: String,
    /// The daemon packs what was rotated.
    #[serde(default)]
    pub packs: bool,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Exit {
    /// Exit code; 128 + n for signal n.
    pub code: i32,
    /// Killed by the kernel for memory.
    pub oom: bool,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// Process id that it had.
    pub pid: i32,
}

/// A process to run beside the container's first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ExecRequest {
    /// Id of the exec.
    pub id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Whole environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`.
    pub user: String,
    /// Pseudo-terminal.
    pub tty: bool,
    /// Standard input is a pipe.
    pub stdin: bool,
    /// All capabilities, no filter.
    pub privileged: bool,
    /// Size of its terminal before the program runs: rows, columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
}

/// Asked of a shim. `Attach` and `Exec` turn the connection into a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you?
    Hello,
    /// Let the container's first process run.
    Start,
    /// Signal the first process.
    Kill {
        /// Number of the signal.
        signal: i32,
    },
    /// Answered when the container ended.
    Wait,
    /// Stream the first process's output, and its input if wanted.
    Attach {
        /// Take input.
        stdin: bool,
        /// Give standard output.
        stdout: bool,
        /// Give standard error.
        stderr: bool,
    },
    /// Run a process; answered with `Started` or `Failed`, then streamed, then `Exited`.
    Exec(ExecRequest),
    /// Size of a terminal; of the exec if one is named.
    Resize {
        /// Exec id.
        exec: Option<String>,
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Signal an exec.
    KillExec {
        /// Its id.
        exec: String,
        /// Number of the signal.
        signal: i32,
    },
}

/// A shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Answer to `Hello`.
    Hello {
        /// [`PROTOCOL`] of the shim.
        version: u32,
        /// Process id of the first process.
        pid: i32,
        /// It was let run.
        started: bool,
    },
    /// Done.
    Done,
    /// A process runs.
    Started {
        /// Its id on the host.
        pid: i32,
    },
    /// It could not be done.
    Failed {
        /// Why, in the engine's words.
        message: String,
    },
    /// A process ended.
    Exited(Exit),
}

/// What a shim prints on its standard output once: whether it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Launch {
    /// The container is created and waits for `Start`.
    Ready {
        /// Process id of the first process.
        pid: i32,
    },
    /// It could not be created.
    Failed {
        /// Why, in the engine's words.
        message: String,
    },
}
