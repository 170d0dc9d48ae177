//! An archive becomes files: a layer a directory for overlay mounts, where whiteouts take overlayfs' form; what is copied into a
//! container files there, where names are only names.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::root::{open_in, open_root};

/// Entries of one layer. The largest images in use have some hundred thousand files.
const MAX_ENTRIES: u64 = 4_000_000;
/// Depth of a path: deeper than PATH_MAX allows.
const MAX_DEPTH: usize = 2_048;
const OPAQUE: &str = ".wh..wh..opq";
const WHITEOUT: &str = ".wh.";

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extract {
    /// Names that begin with `.wh.` hide files of layers below.
    pub whiteouts: bool,
    /// A directory is never replaced by something else, nor something else by a directory.
    pub keep_kinds: bool,
    /// Who owns what is made (user, group), whatever the archive says.
    pub owner: Option<(u32, u32)>,
}

/// Unpacks a layer's archive into an empty directory; the bytes that its files hold.
///
/// # Errors
/// The archive is damaged or leaves the directory, or the disk refuses.
pub fn unpack(archive: impl Read, dir: &Path) -> io::Result<u64> {
    extract(archive, &open_root(dir)?, Path::new(""), Extract { whiteouts: true, ..Extract::default() })
}

/// Unpacks an archive into a directory below a root; the bytes that its files hold.
///
/// # Errors
/// The archive is damaged or leaves the directory, it would replace what is to be kept, or the disk refuses.
pub fn extract(archive: impl Read, root: &OwnedFd, at: &Path, how: Extract) -> io::Result<u64> {
    extract_as(archive, root, at, how, None)
}

/// The same with another name for the item that all of the archive is about: (its name in the archive, the name that it gets, which
/// may be empty).
///
/// # Errors
/// As [`extract`].
pub fn extract_as(
    archive: impl Read,
    root: &OwnedFd,
    at: &Path,
    how: Extract,
    rename: Option<(&Path, &Path)>,
) -> io::Result<u64> {
    let place = Place { root, at, how, rename };
    let mut archive = Archive::new(archive);
    let (mut count, mut size) = (0u64, 0u64);
    // a directory's time changes with each entry in it: set at the end
    let mut times: Vec<(PathBuf, Timestamps)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(io::Error::other("too many entries in an archive"));
        }
        let name = place.name(&entry.path()?)?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", name.display()));
        size += place.extract(&mut entry, &name).map_err(named)?;
        if entry.header().entry_type() == EntryType::Directory && !place.leaves(&name) {
            times.push((at.join(name), timestamps(&entry)?));
        }
    }
    for (name, time) in times {
        // replaced by something else later in the archive: then it has no time to keep
        if let Ok(dir) = open_in(root, &name, OFlags::RDONLY | OFlags::DIRECTORY) {
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

/// Where and how an archive is unpacked.
struct Place<'a> {
    root: &'a OwnedFd,
    at: &'a Path,
    how: Extract,
    rename: Option<(&'a Path, &'a Path)>,
}

impl Place<'_> {
    /// The name that an entry gets.
    fn name(&self, given: &Path) -> io::Result<PathBuf> {
        let name = clean(given)?;
        let Some((from, to)) = self.rename else { return Ok(name) };
        // The root's own content, and a directory's, have no name in front of theirs.
        let below = name.strip_prefix(clean(from)?).unwrap_or(&name);
        Ok(to.components().chain(below.components()).collect())
    }

    /// The directory that was there before is nobody's but its owner's, unless a layer says what it is like.
    fn leaves(&self, name: &Path) -> bool {
        name.as_os_str().is_empty() && !self.how.whiteouts
    }

    fn extract(&self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<u64> {
        let kind = entry.header().entry_type();
        let Some(name) = path.file_name() else {
            // the root itself: only what it is like counts
            if kind == EntryType::Directory && !self.leaves(path) {
                self.dress(open_in(self.root, self.at, OFlags::RDONLY | OFlags::DIRECTORY)?.as_fd(), entry)?;
            }
            return Ok(0);
        };
        let at = parent(self.root, &self.at.join(path.parent().unwrap_or(Path::new(""))))?;
        if self.how.whiteouts && name == OPAQUE {
            fsetxattr(&at, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
            return Ok(0);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()).filter(|_| self.how.whiteouts) {
            return whiteout(&at, OsStr::from_bytes(hidden));
        }
        let (was_dir, is_dir) = (is_dir(&at, name), kind == EntryType::Directory);
        if self.how.keep_kinds && was_dir != is_dir && (was_dir || exists(&at, name)) {
            let (old, new) = if was_dir { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let path = self.at.join(path);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "cannot overwrite {old} {:?} with {new} {:?}",
                    path.display().to_string(),
                    self.at.display().to_string()
                ),
            ));
        }
        let keeps = is_dir && was_dir;
        if !keeps {
            clear(&at, name)?;
        }
        self.make(&at, entry, name, kind, keeps)
    }

    fn make(
        &self,
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
                self.dress(openat(at, name, flags, Mode::empty())?.as_fd(), entry)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(at, name, flags, Mode::from_raw_mode(0o600))?);
                let size = io::copy(entry, &mut file)?;
                self.dress(file.as_fd(), entry)?;
                futimens(&file, &timestamps(entry)?)?;
                return Ok(size);
            }
            EntryType::Symlink => {
                let target = link_name(entry)?;
                symlinkat(target, at, name)?;
                self.own_nofollow(at, name, entry)?;
            }
            EntryType::Link => {
                let target = self.at.join(self.name(Path::new(&link_name(entry)?))?);
                let last = target.file_name().ok_or_else(|| io::Error::other("hard link to nothing"))?;
                let from = open_in(self.root, target.parent().unwrap_or(Path::new("")), OFlags::PATH | OFlags::DIRECTORY)?;
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
                self.own_nofollow(at, name, entry)?;
                // the process' umask had its say in the mode
                rustix::fs::chmodat(at, name, mode, AtFlags::empty())?;
            }
            // extensions were applied to the entry that follows them
            _ => {}
        }
        Ok(0)
    }

    fn ids(&self, entry: &Entry<'_, impl Read>) -> io::Result<(Option<Uid>, Option<Gid>)> {
        if let Some((uid, gid)) = self.how.owner {
            return Ok((Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))));
        }
        // an empty field, which some archivers write, stands for zero
        let id =
            |value: io::Result<u64>| u32::try_from(value.unwrap_or(0)).map_err(|_| io::Error::other("owner is out of range"));
        Ok((Some(Uid::from_raw(id(entry.header().uid())?)), Some(Gid::from_raw(id(entry.header().gid())?))))
    }

    fn own_nofollow(&self, at: &OwnedFd, name: &OsStr, entry: &Entry<'_, impl Read>) -> io::Result<()> {
        let (uid, gid) = self.ids(entry)?;
        chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        utimensat(at, name, &timestamps(entry)?, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Owner, then mode (a change of owner clears setuid), then extended attributes (the same for capabilities).
    fn dress(&self, file: BorrowedFd<'_>, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let (uid, gid) = self.ids(entry)?;
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
                // Who is not root does without.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// A layer may hide what it also brings, in either order; Docker lets the whiteout speak of the layers below only.
fn whiteout(at: &OwnedFd, hidden: &OsStr) -> io::Result<u64> {
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(io::Error::other("whiteout without a name"));
    }
    match mknodat(at, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
        Ok(()) | Err(Errno::EXIST) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

fn exists(at: &OwnedFd, name: &OsStr) -> bool {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
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

fn timestamps(entry: &Entry<'_, impl Read>) -> io::Result<Timestamps> {
    let seconds = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(Timestamps { last_access: time, last_modification: time })
}

#[cfg(test)]
mod tests;
