//! What is at a path becomes an archive, and what it is like.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags, RawMode, fgetxattr, fstat, fstatfs, major, minor, readlinkat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use crate::root::{names, open_entry, open_in, os, reopen};

/// Levels of directories: each costs a descriptor while it is read, and a process has 1024 of them at least.
const MAX_DEPTH: usize = 900;
/// Files with several names that are remembered, so that each is sent once.
const MAX_LINKS: usize = 1_000_000;
/// Longest name that fits into an entry itself.
const SHORT: usize = 100;
/// Longest attribute: what file capabilities need.
const MAX_XATTR: usize = 256;
/// Filesystems that are no files but the kernel's own face: proc, sysfs, cgroups, terminals, message queues, security.
const KERNEL: [i64; 9] =
    [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202, 0x7363_6673, 0x6462_6720, 0x7472_6163];

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The path's last part, `/` for the root.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Type and permissions as the kernel has them.
    pub mode: u32,
    /// Change of content, in seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// What a symlink leads to in the end, absolute; empty for anything else.
    pub link: String,
}

/// The item that a path names, and its last part: a symlink itself, unless the path ends with a slash or `/.`.
fn item(root: &OwnedFd, path: &Path) -> io::Result<(OwnedFd, Vec<u8>)> {
    let bytes = path.as_os_str().as_bytes();
    let follow = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"." || bytes.is_empty();
    let last = if bytes.ends_with(b"/.") || bytes == b"." { Some(b".".as_slice()) } else { None };
    let name = path.file_name().map(|n| n.as_bytes().to_vec());
    match (name, path.parent()) {
        (Some(name), Some(parent)) if !follow => {
            let dir = open_in(root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
            Ok((open_entry(&dir, os(&name))?, name))
        }
        (name, _) => {
            let dir = open_in(root, path, OFlags::PATH | OFlags::DIRECTORY)?;
            Ok((dir, last.map_or_else(|| name.unwrap_or_else(|| b"/".to_vec()), <[u8]>::to_vec)))
        }
    }
}

/// Looks at a path below a root.
///
/// # Errors
/// There is nothing, or the kernel refuses.
pub fn stat(root: &OwnedFd, path: &Path) -> io::Result<Stat> {
    let (item, name) = item(root, path)?;
    let s = fstat(&item)?;
    let link = if is(s.st_mode, FileType::Symlink) { target(root, path, &item)? } else { String::new() };
    Ok(Stat {
        name: String::from_utf8_lossy(&name).into_owned(),
        size: u64::try_from(s.st_size).unwrap_or(0),
        mode: s.st_mode,
        mtime: (s.st_mtime, u32::try_from(s.st_mtime_nsec).unwrap_or(0)),
        link,
    })
}

/// Where a symlink leads, as far as that is there: the path that a process with this root would find at its end.
fn target(root: &OwnedFd, path: &Path, item: &OwnedFd) -> io::Result<String> {
    let own = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd)));
    if let (Ok(end), Ok(base)) = (open_in(root, path, OFlags::PATH).map_err(io::Error::from).and_then(|fd| own(&fd)), own(root))
    {
        let below = end.strip_prefix(&base).unwrap_or(&end);
        return Ok(Path::new("/").join(below).display().to_string());
    }
    let text = readlinkat(item, "", Vec::new())?;
    let wanted = path.parent().unwrap_or(Path::new("/")).join(os(text.as_bytes()));
    let mut out = PathBuf::from("/");
    for part in wanted.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    Ok(out.display().to_string())
}

/// Writes what is at a path below a root as an archive whose entries begin with the path's last part, as `docker cp` wants it.
///
/// # Errors
/// There is nothing, it cannot be read, or the writer fails.
pub fn pack(root: &OwnedFd, path: &Path, out: impl Write) -> io::Result<()> {
    let (item, name) = item(root, path)?;
    // Below the root's own name, which is empty, all others begin with a slash.
    tree(&item, if name == b"/" { b"" } else { &name }, out)
}

/// The same with a name of the caller's instead of the path's last part.
///
/// # Errors
/// As [`pack`].
pub fn pack_as(root: &OwnedFd, path: &Path, name: &[u8], out: impl Write) -> io::Result<()> {
    tree(&item(root, path)?.0, name, out)
}

/// Writes all that is below a root, by names without anything in front of them.
///
/// # Errors
/// As [`pack`].
pub fn pack_all(root: &OwnedFd, out: impl Write) -> io::Result<()> {
    let mut packer = Packer::new(out);
    for name in names(root)? {
        match open_entry(root, os(&name)) {
            Ok(entry) => packer.tree(&entry, &name, 0)?,
            // Removed since the directory was read.
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    packer.finish()
}

fn tree(item: &OwnedFd, name: &[u8], out: impl Write) -> io::Result<()> {
    let mut packer = Packer::new(out);
    packer.tree(item, name, 0)?;
    packer.finish()
}

/// Whether a mode is that of such a file.
pub(crate) fn is(mode: u32, kind: FileType) -> bool {
    FileType::from_raw_mode(mode as RawMode) == kind
}

/// An archive in the making.
pub(crate) struct Packer<W: Write> {
    out: tar::Builder<W>,
    links: BTreeMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out: tar::Builder::new(out), links: BTreeMap::new() }
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.finish()?;
        self.out.get_mut().flush()
    }

    /// An item with all that is below it.
    fn tree(&mut self, item: &OwnedFd, name: &[u8], depth: usize) -> io::Result<()> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(name)));
        if depth > MAX_DEPTH {
            return Err(named(io::Error::other("directories are nested too deeply")));
        }
        let kernel = fstatfs(item).is_ok_and(|f| KERNEL.contains(&f.f_type));
        let mode = fstat(item)?.st_mode;
        if kernel && is(mode, FileType::RegularFile) {
            return Err(named(io::Error::other("it is the kernel's own, and no file")));
        }
        self.one(item, name).map_err(named)?;
        if !is(mode, FileType::Directory) || kernel {
            return Ok(());
        }
        for below in names(item).map_err(named)? {
            let full = [name, b"/", &below].concat();
            match open_entry(item, os(&below)) {
                Ok(entry) => self.tree(&entry, &full, depth + 1)?,
                // Removed since the directory was read.
                Err(Errno::NOENT) => {}
                Err(e) => return Err(named(e.into())),
            }
        }
        Ok(())
    }

    /// An item alone.
    pub(crate) fn one(&mut self, item: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let s = fstat(item)?;
        let mut header = Header::new_gnu();
        header.set_mode(s.st_mode & 0o7777);
        header.set_uid(u64::from(s.st_uid));
        header.set_gid(u64::from(s.st_gid));
        header.set_mtime(u64::try_from(s.st_mtime).unwrap_or(0));
        header.set_size(0);
        let known = (s.st_dev, s.st_ino);
        match FileType::from_raw_mode(s.st_mode as RawMode) {
            FileType::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.entry(header, &[name, b"/"].concat(), &[], &[])
            }
            FileType::Symlink => {
                header.set_entry_type(EntryType::Symlink);
                let to = readlinkat(item, "", Vec::new())?;
                self.entry(header, name, to.as_bytes(), &[])
            }
            FileType::RegularFile if s.st_nlink > 1 && self.links.contains_key(&known) => {
                header.set_entry_type(EntryType::Link);
                let first = self.links[&known].clone();
                self.entry(header, name, &first, &[])
            }
            FileType::RegularFile => {
                if s.st_nlink > 1 && self.links.len() < MAX_LINKS {
                    self.links.insert(known, name.to_vec());
                }
                self.file(header, item, name, u64::try_from(s.st_size).unwrap_or(0))
            }
            FileType::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                self.entry(header, name, &[], &[])
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                header.set_entry_type(if kind == FileType::BlockDevice { EntryType::Block } else { EntryType::Char });
                header.set_device_major(major(s.st_rdev))?;
                header.set_device_minor(minor(s.st_rdev))?;
                self.entry(header, name, &[], &[])
            }
            // A socket is nothing without its server.
            _ => Ok(()),
        }
    }

    /// A file with as many bytes as it had a moment ago, whatever becomes of it meanwhile.
    fn file(&mut self, mut header: Header, item: &OwnedFd, name: &[u8], size: u64) -> io::Result<()> {
        let file = reopen(item)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        let mut value = [0u8; MAX_XATTR];
        let capability = fgetxattr(&file, "security.capability", &mut value[..]).ok().map(|n| value[..n].to_vec());
        let more: Vec<(&str, &[u8])> = capability.iter().map(|v| ("SCHILY.xattr.security.capability", v.as_slice())).collect();
        self.head(&mut header, name, &[], &more)?;
        let mut content = Exactly { file, left: size };
        self.out.append(&header, &mut content)
    }

    /// An entry without content.
    pub(crate) fn entry(&mut self, mut header: Header, name: &[u8], link: &[u8], more: &[(&str, &[u8])]) -> io::Result<()> {
        self.head(&mut header, name, link, more)?;
        self.out.append(&header, io::empty())
    }

    /// Name and link as they are, byte for byte: what does not fit goes before the entry.
    fn head(&mut self, header: &mut Header, name: &[u8], link: &[u8], more: &[(&str, &[u8])]) -> io::Result<()> {
        let mut before: Vec<(&str, &[u8])> = more.to_vec();
        for (key, value) in [("path", name), ("linkpath", link)] {
            if value.len() > SHORT {
                before.push((key, value));
            }
        }
        if !before.is_empty() {
            self.out.append_pax_extensions(before)?;
        }
        let raw = header.as_old_mut();
        for (field, value) in [(&mut raw.name, name), (&mut raw.linkname, link)] {
            field.fill(0);
            let n = value.len().min(SHORT);
            field[..n].copy_from_slice(&value[..n]);
        }
        header.set_cksum();
        Ok(())
    }
}

/// As many bytes of a file as its entry says: zeros where it has become shorter.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = match self.file.read(&mut buf[..room])? {
            0 => {
                buf[..room].fill(0);
                room
            }
            n => n,
        };
        self.left -= n as u64;
        Ok(n)
    }
}
