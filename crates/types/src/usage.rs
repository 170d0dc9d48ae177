//! What a running container uses and may use, and what its filesystem has become: as `stats`, `top`, `update` and `diff` show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::container::EngineRestart;

/// What a container has used up to an instant. All counters begin with the container's start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// When it was read.
    pub read: Time,
    /// Processor time.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Number of threads and processes, as the kernel's controller counts them.
    pub pids: u64,
    /// Most of them; 0 is no limit.
    pub pids_limit: u64,
    /// Bytes moved to and from disks.
    pub disks: Vec<DiskUsage>,
    /// Bytes moved on each interface, by its name in the container; none if it has the host's network.
    pub networks: BTreeMap<String, NetworkUsage>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuUsage {
    /// All of the container's.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// Of each processor, where the kernel tells (cgroup v1).
    pub each: Vec<u64>,
    /// Of the whole host, on all processors.
    pub host: u64,
    /// Processors of the host.
    pub online: u64,
    /// Periods of the limit that passed, in which it was held back, and for how long.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled: u64,
    /// For how long it was held back.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryUsage {
    /// In use, the page cache included.
    pub used: u64,
    /// Most that was in use, where the kernel tells (cgroup v1).
    pub most: Option<u64>,
    /// What it may use: its own limit, or the host's memory.
    pub limit: u64,
    /// How often the limit was hit, where the kernel tells (cgroup v1).
    pub failures: Option<u64>,
    /// The kernel's own figures by name; they differ between cgroup v1 and v2.
    pub stats: BTreeMap<String, u64>,
}

/// What was moved to and from one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Number of the device.
    pub major: u64,
    /// Number of the device.
    pub minor: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub write: u64,
}

/// What was moved on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkUsage {
    /// Bytes, packets, errors, drops received.
    pub received: [u64; 4],
    /// Bytes, packets, errors, drops sent.
    pub sent: [u64; 4],
}

/// A process of a container, as the host counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Its id on the host.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// User by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// That user's name on the host, or the number.
    pub user: String,
    /// Short name of its program.
    pub name: String,
    /// Program and arguments; the short name in brackets for one that has none.
    pub command: String,
    /// State letters as `ps` shows them.
    pub state: String,
    /// `pts/0`, or `?` without a terminal.
    pub terminal: String,
    /// Processor time used, in seconds.
    pub time: u64,
    /// Seconds since it started.
    pub age: u64,
    /// Virtual size in KiB.
    pub virtual_size: u64,
    /// Resident size in KiB.
    pub resident: u64,
    /// Memory of the host in KiB.
    pub host_memory: u64,
    /// Nice value.
    pub nice: i64,
    /// Number of threads.
    pub threads: u64,
}

/// New limits of a container; what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLimits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// CPU in nano-CPUs.
    pub nano_cpus: Option<u64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Most processes; 0 takes the limit away.
    pub pids: Option<u64>,
    /// Restart policy.
    pub restart: Option<EngineRestart>,
}

/// How a path differs from the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Other content, mode or owner.
    Modified,
    /// Not in the image.
    Added,
    /// Not here any more.
    Deleted,
}

/// A path that differs from the image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute, in the container.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}
