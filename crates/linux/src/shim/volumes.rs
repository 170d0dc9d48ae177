//! Volumes with options, mounted where only this shim (or the helper that looks into a stopped container) and its container see them.
//! Where another container has the volume, its mount is taken: a tmpfs has the same content for all, as a mount of the host's would.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_remount, move_mount, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skep_engine::shim::{MOUNT_FAILED, VolumeMount};
use skep_types::volume::Filesystem;

use super::ShimError;
use crate::peer::Peer;

/// How long all volumes of a container may take: a server that has not answered by then is down. Less than a shim's whole start may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Mounts all volumes on their directories.
pub(crate) fn mount_all(volumes: &[VolumeMount]) -> Result<(), ShimError> {
    let until = Instant::now() + LIMIT;
    for v in volumes {
        // One that ends just now lends nothing; then the volume is mounted anew.
        if v.lenders.iter().any(|bundle| borrow(bundle, &v.at).is_ok()) {
            continue;
        }
        let mounted = in_time(until, || mount_one(&v.filesystem, &v.at));
        mounted.map_err(|why| {
            let f = &v.filesystem;
            let options = if f.options.is_empty() { String::new() } else { format!(", data: {}", f.shown_options()) };
            ShimError(format!(
                "{MOUNT_FAILED}'{}': failed to mount local volume: mount {}:{}, type: {}{options}: {why}",
                v.name,
                f.device,
                v.at.display(),
                f.kind
            ))
        })?;
    }
    Ok(())
}

/// Takes the mount of another shim.
fn borrow(bundle: &Path, at: &Path) -> std::io::Result<()> {
    let own = openat(CWD, "/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let theirs = Peer::connect(bundle)?.mounts()?;
    let mounts = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(theirs.as_fd(), mounts)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, at, flags);
    // Nothing can be gone on with in another's namespace; this one was entered before, so that it can be again.
    move_into_link_name_space(own.as_fd(), mounts)?;
    Ok(move_mount(&tree?, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Lets a process of its own do what the kernel may never come back from: the server of a network filesystem may be down.
#[allow(unsafe_code)]
fn in_time(until: Instant, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let fail = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| fail("make a pipe", &e))?;
    // SAFETY: the process has one thread, so the child may go on with any code.
    let child = match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { child }) => child,
        Ok(nix::unistd::ForkResult::Child) => {
            let said = work().err().unwrap_or_default();
            // One that cannot tell is taken for done; the container then fails at what is not there.
            let _ = std::fs::File::from(writer).write_all(said.as_bytes());
            // SAFETY: ends this process only, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        Err(e) => return Err(fail("fork", &e)),
    };
    drop(writer);
    let answered = wait_for(&reader, until);
    if !answered {
        // A process that waits for a server can be killed.
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    }
    let mut said = String::new();
    if answered {
        std::fs::File::from(reader).read_to_string(&mut said).map_err(|e| fail("read what the kernel said", &e))?;
        let _ = nix::sys::wait::waitpid(child, None);
    } else {
        return Err(format!("no answer within {} s: is the server up, and can this host reach it?", LIMIT.as_secs()));
    }
    if said.is_empty() { Ok(()) } else { Err(said) }
}

fn wait_for(reader: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let limit =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// What of the options is the kernel's own, and what the filesystem's.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    flags: MountFlags,
    bind: bool,
    data: String,
}

/// Options as mount(8) knows them; what it does not know goes to the filesystem.
fn parts(options: &str) -> Result<Parts, String> {
    let mut out = Parts { flags: MountFlags::empty(), bind: false, data: String::new() };
    let mut data = Vec::new();
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (flag, on) = match option {
            "defaults" | "private" | "rprivate" => continue,
            "bind" | "rbind" => {
                out.bind = true;
                if option == "rbind" {
                    out.flags |= MountFlags::REC;
                }
                continue;
            }
            "ro" => (MountFlags::RDONLY, true),
            "rw" => (MountFlags::RDONLY, false),
            "nosuid" => (MountFlags::NOSUID, true),
            "suid" => (MountFlags::NOSUID, false),
            "nodev" => (MountFlags::NODEV, true),
            "dev" => (MountFlags::NODEV, false),
            "noexec" => (MountFlags::NOEXEC, true),
            "exec" => (MountFlags::NOEXEC, false),
            "sync" => (MountFlags::SYNCHRONOUS, true),
            "async" => (MountFlags::SYNCHRONOUS, false),
            "dirsync" => (MountFlags::DIRSYNC, true),
            "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
            "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
            "noatime" => (MountFlags::NOATIME, true),
            "atime" => (MountFlags::NOATIME, false),
            "nodiratime" => (MountFlags::NODIRATIME, true),
            "diratime" => (MountFlags::NODIRATIME, false),
            "relatime" => (MountFlags::RELATIME, true),
            "norelatime" => (MountFlags::RELATIME, false),
            "strictatime" => (MountFlags::STRICTATIME, true),
            "nostrictatime" => (MountFlags::STRICTATIME, false),
            "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" | "remount" => {
                return Err(format!("the option {option} is not built yet in Skep"));
            }
            other => {
                data.push(other);
                continue;
            }
        };
        out.flags.set(flag, on);
    }
    out.data = data.join(",");
    Ok(out)
}

fn mount_one(f: &Filesystem, at: &Path) -> Result<(), String> {
    let Parts { flags, bind, data } = parts(&f.options)?;
    let said = |e: Errno| words(f, bind, e);
    if bind {
        let recursive = flags & MountFlags::REC;
        mount(f.device.as_str(), at, "none", MountFlags::BIND | recursive, None).map_err(said)?;
        let rest = flags - MountFlags::REC;
        // The kernel takes these of a bind only when it is there.
        return if rest.is_empty() { Ok(()) } else { mount_remount(at, MountFlags::BIND | rest, "").map_err(said) };
    }
    let data = CString::new(data).map_err(|_| "an option holds a zero byte".to_owned())?;
    mount(f.device.as_str(), at, f.kind.as_str(), flags, Some(data.as_c_str())).map_err(said)
}

/// The kernel's answer in words that help.
fn words(f: &Filesystem, bind: bool, e: Errno) -> String {
    let Filesystem { kind, device, .. } = f;
    let help = match e {
        Errno::NODEV => format!("there is no filesystem {kind} in this kernel"),
        Errno::NOENT if bind => format!("{device} does not exist on this host"),
        Errno::NOENT => format!("there is no {device}, or the server does not know it"),
        Errno::NOTBLK => format!("{device} is no block device: a file needs a loop device first"),
        Errno::NOTDIR => format!("{device} is no directory"),
        Errno::BUSY => format!("{device} is in use otherwise"),
        Errno::INVAL => {
            "the kernel does not take these options, or there is no such filesystem on it: its log (dmesg) may say more"
                .to_owned()
        }
        Errno::ACCESS | Errno::PERM => "the server or the kernel does not allow it".to_owned(),
        Errno::CONNREFUSED | Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN => {
            "the server does not answer".to_owned()
        }
        _ => return e.to_string(),
    };
    format!("{e}: {help}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_parted_as_mount_does() {
        let nfs = parts("addr=10.0.0.1,ro,nfsvers=4,soft,noatime").unwrap();
        assert_eq!(nfs.flags, MountFlags::RDONLY | MountFlags::NOATIME);
        assert_eq!((nfs.bind, nfs.data.as_str()), (false, "addr=10.0.0.1,nfsvers=4,soft"));
        let bind = parts("defaults,rbind,nosuid,ro,rw").unwrap();
        assert_eq!((bind.bind, bind.flags), (true, MountFlags::REC | MountFlags::NOSUID));
        assert_eq!(parts("").unwrap().data, "");
        assert!(parts("bind,rshared").unwrap_err().contains("rshared"));
    }

    #[test]
    fn the_kernels_answer_is_told_in_words() {
        let f = Filesystem { kind: "nosuchfs".into(), device: "x".into(), options: String::new() };
        let at = std::env::temp_dir();
        if rustix::process::geteuid().is_root() {
            let said = mount_one(&f, &at).unwrap_err();
            assert!(said.ends_with(": there is no filesystem nosuchfs in this kernel"), "{said}");
        }
        let missing = Filesystem { kind: "none".into(), device: "/no/such/dir".into(), options: "bind".into() };
        if rustix::process::geteuid().is_root() {
            let said = mount_one(&missing, &at).unwrap_err();
            assert!(said.ends_with(": /no/such/dir does not exist on this host"), "{said}");
        }
    }

    #[test]
    fn a_mount_that_never_returns_is_given_up() {
        let said = in_time(Instant::now(), || {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        });
        assert!(said.unwrap_err().starts_with("no answer within 60 s"));
        let far = Instant::now() + Duration::from_secs(30);
        assert_eq!(in_time(far, || Err("refused".to_owned())), Err("refused".to_owned()));
        assert_eq!(in_time(far, || Ok(())), Ok(()));
    }
}
