//! Paths below a root that others may be changing meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// How often a path is looked up again when somebody renames directories on its way.
const TRIES: usize = 64;

/// A directory that paths are resolved in.
///
/// # Errors
/// It is not there, or no directory.
pub fn open_root(dir: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a path as a process with this root would see it; never one outside of it.
///
/// # Errors
/// The kernel's.
pub fn open_in(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..TRIES {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(e) if e == Errno::AGAIN => last = e,
            other => return other,
        }
    }
    Err(last)
}

/// Opens an entry of a directory itself, whatever it is, without touching what is behind it.
pub(crate) fn open_entry(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// What a descriptor that only names a file or directory is opened as. It is the very same one, whatever its path is by now.
pub(crate) fn reopen(fd: &OwnedFd) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Names in a directory, in the order of their bytes.
pub(crate) fn names(dir: &OwnedFd) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(reopen(dir)?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The same as a name for the kernel.
pub(crate) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
