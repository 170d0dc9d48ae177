//! Processes and namespaces of a host that is one of several on this machine (playground, tests).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// Becomes a program inside a network namespace, under a host name of its own. Only returns when that failed.
#[must_use]
pub fn become_host(netns: &Path, hostname: Option<&str>, program: &[OsString]) -> std::io::Error {
    let enter = || -> std::io::Result<()> {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        if let Some(name) = hostname {
            unshare(CloneFlags::CLONE_NEWUTS)?;
            nix::unistd::sethostname(name)?;
        }
        Ok(())
    };
    if let Err(e) = enter() {
        return e;
    }
    match program.split_first() {
        Some((name, args)) => Command::new(name).args(args).exec(),
        None => std::io::Error::new(std::io::ErrorKind::InvalidInput, "no command given"),
    }
}

/// Processes whose network namespace is the pinned one: a host's daemon and its shims.
#[must_use]
pub fn processes_in(netns: &Path) -> Vec<i32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(netns) else { return Vec::new() };
    let same = |pid: &i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == wanted.ino() && m.dev() == wanted.dev())
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(same).collect()
}

/// Kills processes with SIGKILL; those that are gone are passed over.
pub fn kill_all(pids: &[i32]) {
    for pid in pids.iter().filter_map(|p| rustix::process::Pid::from_raw(*p)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Whether any of the processes still exists (a zombie does not count).
#[must_use]
pub fn any_alive(pids: &[i32]) -> bool {
    pids.iter().any(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// Unmounts everything mounted at or below a directory of this mount namespace, deepest first.
pub fn unmount_below(dir: &Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<String> = table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .filter(|p| Path::new(p).starts_with(dir))
        .map(str::to_owned)
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for point in points {
        // What is already gone, or busy in a process that is about to die, is detached.
        let _ = nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH);
    }
}
