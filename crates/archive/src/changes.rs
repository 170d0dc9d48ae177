//! How a writable layer differs from the layers below it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, openat2};
use rustix::io::Errno;

use crate::pack::is;
use crate::root::{names, open_entry, open_root, os, reopen};

/// Levels of directories, each of which costs a descriptor.
const MAX_DEPTH: usize = 900;
/// What every container gets to see at its start: no change of its own as long as it is empty.
const GIVEN: [&str; 11] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/proc",
    "/sys",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
];

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Other content, mode or owner.
    Modified,
    /// Not below.
    Added,
    /// Not here any more.
    Deleted,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

/// What overlayfs puts where a file was deleted.
pub(crate) fn is_whiteout(s: &Stat) -> bool {
    is(s.st_mode, FileType::CharacterDevice) && s.st_rdev == 0
}

/// Whether a directory hides all that is below it.
pub(crate) fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    reopen(dir).is_ok_and(|d| fgetxattr(&d, "trusted.overlay.opaque", &mut value[..]).is_ok() && value == *b"y")
}

/// Whether a path is there only because a container needs it at its start.
pub(crate) fn is_given(path: &Path, item: &OwnedFd, s: &Stat) -> bool {
    GIVEN.iter().any(|g| Path::new(g) == path)
        && match FileType::from_raw_mode(s.st_mode) {
            FileType::Directory => {
                names(item).is_ok_and(|all| all.iter().all(|n| GIVEN.iter().any(|g| Path::new(g) == path.join(os(n)))))
            }
            FileType::RegularFile => s.st_size == 0,
            _ => false,
        }
}

/// What a path is in the layers below, top first; nothing if the topmost one that knows it has it deleted.
fn below(lower: &[OwnedFd], path: &Path) -> Option<Stat> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for layer in lower {
        match openat2(layer, relative, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Ok(found) => return fstat(&found).ok().filter(|s| !is_whiteout(s)),
            // A file or a deletion on its way hides what lower layers have.
            Err(Errno::NOTDIR | Errno::LOOP) => return None,
            Err(_) => {}
        }
    }
    None
}

/// Walks a writable layer beside the layers below it (top first).
///
/// # Errors
/// A directory cannot be read, or is nested too deeply.
pub fn changes(upper: &Path, lower: &[PathBuf]) -> io::Result<Vec<Change>> {
    let lower = lower.iter().map(|l| open_root(l)).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    walk(&open_root(upper)?, Path::new("/"), &lower, 0, &mut out)?;
    out.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(out)
}

fn walk(dir: &OwnedFd, path: &Path, lower: &[OwnedFd], depth: usize, out: &mut Vec<Change>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{}: directories are nested too deeply", path.display())));
    }
    for name in names(dir)? {
        let full = path.join(os(&name));
        let item = match open_entry(dir, os(&name)) {
            Ok(item) => item,
            // Removed since the directory was read.
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let s = fstat(&item)?;
        if is_given(&full, &item, &s) {
            continue;
        }
        let old = below(lower, &full);
        let same = |o: &Stat| {
            is(o.st_mode, FileType::Directory)
                && is(s.st_mode, FileType::Directory)
                && (o.st_mode, o.st_uid, o.st_gid, o.st_mtime) == (s.st_mode, s.st_uid, s.st_gid, s.st_mtime)
        };
        let kind = match &old {
            _ if is_whiteout(&s) => Some(ChangeKind::Deleted),
            None => Some(ChangeKind::Added),
            // A directory is here as soon as something in it is.
            Some(old) if same(old) => None,
            Some(_) => Some(ChangeKind::Modified),
        };
        if let Some(kind) = kind {
            if kind != ChangeKind::Modified && path != Path::new("/") && !out.iter().rev().any(|c| c.path == path) {
                out.push(Change { path: path.to_owned(), kind: ChangeKind::Modified });
            }
            out.push(Change { path: full.clone(), kind });
        }
        if is(s.st_mode, FileType::Directory) {
            walk(&item, &full, lower, depth + 1, out)?;
        }
    }
    Ok(())
}
