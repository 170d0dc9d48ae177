//! Control groups of containers beyond what the runtime library does: removal of whole trees, out-of-memory kills, and what
//! the host offers. Both layouts: v1 controllers (pure or hybrid) and v2.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the host has only the unified hierarchy.
#[must_use]
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Directories of a container's group, one for each mounted hierarchy.
fn dirs(path: &str) -> Vec<PathBuf> {
    let relative = path.trim_start_matches('/');
    if relative.is_empty() || relative.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    if is_v2() {
        return vec![Path::new(ROOT).join(relative)];
    }
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten();
    hierarchies.map(|h| h.path().join(relative)).filter(|p| p.is_dir()).collect()
}

/// Directory of a container's group for a v1 controller; on v2 there is one for all.
#[must_use]
pub(crate) fn dir(path: &str, controller: &str) -> Option<PathBuf> {
    let below = |d: &PathBuf| is_v2() || d.starts_with(Path::new(ROOT).join(controller));
    dirs(path).into_iter().find(below)
}

/// Removes a group and everything below it, in every hierarchy. What cannot be removed yet is left to the next sweep.
pub fn remove(path: &str) {
    for dir in dirs(path) {
        remove_tree(&dir, 0);
    }
}

/// Depth is bounded by what a container with its own cgroup namespace could nest.
fn remove_tree(dir: &Path, depth: usize) {
    if depth > 64 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path(), depth + 1);
        }
    }
    // Busy groups refuse, which is what a sweep wants.
    let _ = fs::remove_dir(dir);
}

/// Whether the kernel killed a process of the group for memory.
#[must_use]
pub fn oom_killed(path: &str) -> bool {
    let count = |text: &str| {
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let file = |name: &str| dirs(path).iter().find_map(|d| fs::read_to_string(d.join(name)).ok());
    file("memory.events").or_else(|| file("memory.oom_control")).is_some_and(|text| count(&text) > 0)
}

/// Ids of the groups below `parent` (which is one level deep, as `/skep`).
#[must_use]
pub fn children(parent: &str) -> Vec<String> {
    let mut names: Vec<String> = dirs(parent)
        .iter()
        .flat_map(|d| fs::read_dir(d).into_iter().flatten().flatten())
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Processes of a group.
#[must_use]
pub fn processes(path: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = dirs(path)
        .iter()
        .filter_map(|d| fs::read_to_string(d.join("cgroup.procs")).ok())
        .flat_map(|t| t.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
