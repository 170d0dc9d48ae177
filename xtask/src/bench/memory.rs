//! How much memory the daemons and shims of a set of hosts use: proportional set size, so that shared pages count once.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Memory of some hosts' processes, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// The daemons, with helpers that live as long as they do.
    pub(super) daemons: f64,
    /// The shims, one a container.
    pub(super) shims: f64,
    /// How many shims.
    pub(super) count: usize,
}

/// Process ids with a command line each.
fn processes() -> BTreeMap<i32, String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    all.filter_map(read).collect()
}

/// Processes in pinned network namespaces.
pub(super) fn processes_in(namespaces: &[PathBuf]) -> Vec<i32> {
    let wanted: Vec<(u64, u64)> =
        namespaces.iter().filter_map(|n| std::fs::metadata(n).ok()).map(|m| (m.dev(), m.ino())).collect();
    let inside =
        |pid: &i32| std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| wanted.contains(&(m.dev(), m.ino())));
    processes().into_keys().filter(inside).collect()
}

fn pss(pid: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Memory of what runs in hosts' network namespaces, and of the shims whose containers' hosts those are.
pub(super) fn of_hosts(namespaces: &[PathBuf]) -> Memory {
    let lines = processes();
    let mut sum = Memory::default();
    for pid in processes_in(namespaces) {
        let line = lines.get(&pid).map(String::as_str).unwrap_or_default();
        if is_shim(line) {
            sum.shims += pss(pid);
            sum.count += 1;
        } else {
            sum.daemons += pss(pid);
        }
    }
    sum
}

/// Whether a command line is a shim's: `skep shim …`, `containerd-shim-runc-v2 …`.
fn is_shim(line: &str) -> bool {
    let mut words = line.split(' ');
    let program = words.next().map(Path::new).and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    program.starts_with("containerd-shim") || program.starts_with("skep-shim") || words.next() == Some("shim")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_are_told_from_daemons() {
        assert!(is_shim("/usr/bin/containerd-shim-runc-v2 -namespace moby"));
        assert!(is_shim("/opt/skep shim /run/x"));
        assert!(!is_shim("/usr/sbin/dockerd -H unix:///x"));
        assert!(!is_shim("/opt/skep daemon --exec-root /run/shim"));
    }

    #[test]
    fn this_process_uses_memory() {
        let here = of_hosts(&["/proc/self/ns/net".into()]);
        assert!(here.daemons > 0.0);
    }
}
