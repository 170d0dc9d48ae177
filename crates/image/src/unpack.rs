//! A layer's archive becomes a directory for overlay mounts.
//!
//! Every path is resolved by the kernel inside the directory (`openat2`, `RESOLVE_IN_ROOT`), so neither `..`, nor an absolute name, nor
//! a symlink that an earlier entry planted can lead out of it. Whiteouts take overlayfs' form.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

/// Entries of one layer. The largest images in use have some hundred thousand files.
const MAX_ENTRIES: u64 = 4_000_000;
/// Depth of a path: deeper than PATH_MAX allows.
const MAX_DEPTH: usize = 2_048;
const OPAQUE: &str = ".wh..wh..opq";
const WHITEOUT: &str = ".wh.";

/// Unpacks an archive into an empty directory; the bytes that its files hold.
pub(crate) fn unpack(archive: impl Read, dir: &Path) -> io::Result<u64> {
    let root = openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut archive = Archive::new(archive);
    let (mut count, mut size) = (0u64, 0u64);
    // a directory's time changes with each entry in it: set at the end
    let mut times: Vec<(PathBuf, Timestamps)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(io::Error::other("too many entries in a layer"));
        }
        let name = clean(&entry.path()?)?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", name.display()));
        size += extract(&root, &mut entry, &name).map_err(named)?;
        if entry.header().entry_type() == EntryType::Directory {
            times.push((name, timestamps(&entry)?));
        }
    }
    for (name, time) in times {
        // replaced by something else later in the archive: then it has no time to keep
        if let Ok(dir) = open_in(&root, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
            futimens(&dir, &time)?;
        }
    }
    Ok(size)
}

/// The path without `/`, `.` and `..` at its start; `..` further in is refused.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(io::Error::other(format!("{}: path leaves the layer", path.display()))),
        }
    }
    if out.components().count() > MAX_DEPTH {
        return Err(io::Error::other("path is too deep"));
    }
    Ok(out)
}

fn open_in(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens a directory of the layer, making what is missing of its path.
fn parent(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_in(root, path, flags) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let mut so_far = PathBuf::new();
    let mut at = open_in(root, &so_far, flags)?;
    for part in path.components() {
        match mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        so_far.push(part);
        at = open_in(root, &so_far, flags)?;
    }
    Ok(at)
}

fn extract(root: &OwnedFd, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<u64> {
    let kind = entry.header().entry_type();
    let Some(name) = path.file_name() else {
        // the root itself: only what it is like counts
        if kind == EntryType::Directory {
            dress(root.as_fd(), entry)?;
        }
        return Ok(0);
    };
    let at = parent(root, path.parent().unwrap_or(Path::new("")))?;
    if name == OPAQUE {
        fsetxattr(&at, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
        return Ok(0);
    }
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
        let hidden = OsStr::from_bytes(hidden);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(io::Error::other("whiteout without a name"));
        }
        // a layer may hide what it also brings, in either order; Docker lets the whiteout speak of the layers below only
        return match mknodat(&at, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
            Ok(()) | Err(Errno::EXIST) => Ok(0),
            Err(e) => Err(e.into()),
        };
    }
    let keeps = kind == EntryType::Directory && is_dir(&at, name);
    if !keeps {
        clear(&at, name)?;
    }
    make(root, &at, entry, name, kind, keeps)
}

fn make(
    root: &OwnedFd,
    at: &OwnedFd,
    entry: &mut Entry<'_, impl Read>,
    name: &OsStr,
    kind: EntryType,
    keeps: bool,
) -> io::Result<u64> {
    match kind {
        EntryType::Directory => {
            if !keeps {
                mkdirat(at, name, Mode::from_raw_mode(0o755))?;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dress(openat(at, name, flags, Mode::empty())?.as_fd(), entry)?;
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(at, name, flags, Mode::from_raw_mode(0o600))?);
            let size = io::copy(entry, &mut file)?;
            dress(file.as_fd(), entry)?;
            futimens(&file, &timestamps(entry)?)?;
            return Ok(size);
        }
        EntryType::Symlink => {
            let target = link_name(entry)?;
            symlinkat(target, at, name)?;
            own_nofollow(at, name, entry)?;
        }
        EntryType::Link => {
            let target = clean(Path::new(&link_name(entry)?))?;
            let last = target.file_name().ok_or_else(|| io::Error::other("hard link to nothing"))?;
            let from = open_in(root, target.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
            linkat(&from, last, at, name, AtFlags::empty())?;
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let (file, dev) = match kind {
                EntryType::Fifo => (FileType::Fifo, 0),
                _ => {
                    let header = entry.header();
                    let dev = makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
                    (if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice }, dev)
                }
            };
            let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
            mknodat(at, name, file, mode, dev)?;
            own_nofollow(at, name, entry)?;
            // the process' umask had its say in the mode
            rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
        }
        // extensions were applied to the entry that follows them
        _ => {}
    }
    Ok(0)
}

fn is_dir(at: &OwnedFd, name: &OsStr) -> bool {
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode as RawMode) == FileType::Directory)
}

/// Removes what an earlier entry put there, directories with their content.
fn clear(at: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(at, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let inner = entry.file_name().to_bytes();
        if inner != b"." && inner != b".." {
            clear(&dir, OsStr::from_bytes(inner))?;
        }
    }
    Ok(unlinkat(at, name, AtFlags::REMOVEDIR)?)
}

fn link_name(entry: &Entry<'_, impl Read>) -> io::Result<OsString> {
    let target = entry.link_name()?.ok_or_else(|| io::Error::other("link to nothing"))?;
    Ok(target.into_owned().into_os_string())
}

fn ids(entry: &Entry<'_, impl Read>) -> io::Result<(Option<Uid>, Option<Gid>)> {
    // an empty field, which some archivers write, stands for zero
    let id = |value: io::Result<u64>| u32::try_from(value.unwrap_or(0)).map_err(|_| io::Error::other("owner is out of range"));
    Ok((Some(Uid::from_raw(id(entry.header().uid())?)), Some(Gid::from_raw(id(entry.header().gid())?))))
}

fn own_nofollow(at: &OwnedFd, name: &OsStr, entry: &Entry<'_, impl Read>) -> io::Result<()> {
    let (uid, gid) = ids(entry)?;
    chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(at, name, &timestamps(entry)?, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Owner, then mode (a change of owner clears setuid), then extended attributes (the same for capabilities).
fn dress(file: BorrowedFd<'_>, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let (uid, gid) = ids(entry)?;
    fchown(file, uid, gid)?;
    fchmod(file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(key) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        // what steers overlayfs is ours to write; an image must not
        if key.starts_with(b"trusted.overlay.") {
            continue;
        }
        match fsetxattr(file, OsStr::from_bytes(key), extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn timestamps(entry: &Entry<'_, impl Read>) -> io::Result<Timestamps> {
    let seconds = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(Timestamps { last_access: time, last_modification: time })
}

#[cfg(test)]
mod tests;
