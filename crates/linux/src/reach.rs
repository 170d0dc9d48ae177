//! The helper that reaches into a container's files for one call (see `skep_engine::reach`). It mounts what a stopped container has in
//! a namespace of its own, or takes a running one's root by the descriptor of its process. Must never follow a path of the container
//! but by `skep_archive`, which stays inside.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, mount_remount, move_mount, open_tree,
};
use skep_archive::{Extract, extract, open_in, open_root, pack, pack_all, pack_layer};
use skep_engine::reach::{MAX_PLAN, Outcome, Plan, Refusal, Root, Work};
use skep_engine::shim::VolumeMount;
use skep_types::Time;
use skep_types::container::{MountPoint, PathStat};
use skep_types::usage::{Change, ChangeKind};

use crate::peer::Peer;
use crate::shim::{Layers, make_dir_inside, mount_volumes, overlay, resolve_user};

/// What went wrong, on its way to the daemon.
struct Refused(Refusal, String);

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        let why = match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Refusal::Missing,
            Some(libc::EROFS) => Refusal::ReadOnly,
            _ => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::Missing,
                io::ErrorKind::ReadOnlyFilesystem => Refusal::ReadOnly,
                io::ErrorKind::InvalidInput => Refusal::Invalid,
                _ => Refusal::Failed,
            },
        };
        Self(why, e.to_string())
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(e: rustix::io::Errno) -> Self {
        io::Error::from(e).into()
    }
}

/// Carries one call out; the process's exit code.
#[must_use]
pub fn main() -> i32 {
    match run() {
        Ok(()) => 0,
        Err(Refused(why, message)) => {
            // After the archive has begun this is no line of its own any more; then the exit code tells that it is not whole.
            let _ = tell(&Outcome::Refused { why, message });
            1
        }
    }
}

fn tell(outcome: &Outcome) -> io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn run() -> Result<(), Refused> {
    let mut input = io::stdin().lock();
    let mut length = [0u8; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_PLAN {
        return Err(Refused(Refusal::Invalid, format!("a plan of {length} bytes is too long")));
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|e| Refused(Refusal::Invalid, format!("read the plan: {e}")))?;
    match (&plan.root, &plan.work) {
        (Root::Layer { upper, .. }, Work::All) => {
            tell(&Outcome::Done)?;
            return Ok(pack_layer(upper, io::stdout().lock())?);
        }
        (Root::Layer { upper, .. }, Work::Size) => return Ok(tell(&Outcome::Size(skep_archive::size(upper)?))?),
        (Root::Layer { upper, lower }, _) => {
            let all = skep_archive::changes(upper, lower)?.into_iter().map(change).collect();
            return Ok(tell(&Outcome::Changes(all))?);
        }
        _ => {}
    }
    let root = open(&plan.root)?;
    match &plan.work {
        Work::Stat { path } => tell(&Outcome::Stat(look(&root, path)?))?,
        Work::Read { path } => {
            tell(&Outcome::Stat(look(&root, path)?))?;
            pack(&root, Path::new(path), io::stdout().lock())?;
        }
        Work::Write { path, keep_kinds, owner } => {
            write(&root, Path::new(path), *keep_kinds, owner.as_deref(), input)?;
            tell(&Outcome::Done)?;
        }
        Work::All | Work::Changes | Work::Size => {
            tell(&Outcome::Done)?;
            pack_all(&root, io::stdout().lock())?;
        }
    }
    Ok(())
}

fn look(root: &OwnedFd, path: &str) -> Result<PathStat, Refused> {
    let s = skep_archive::stat(root, Path::new(path))?;
    let mtime = Time(s.mtime.0.saturating_mul(1_000_000_000).saturating_add(i64::from(s.mtime.1)));
    Ok(PathStat { name: s.name, size: s.size, mode: s.mode, mtime, link: s.link })
}

fn write(root: &OwnedFd, path: &Path, keep_kinds: bool, owner: Option<&str>, archive: impl Read) -> Result<(), Refused> {
    if let Err(e) = open_in(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        let there = open_in(root, path, OFlags::PATH).is_ok();
        return Err(if there { Refused(Refusal::Invalid, "extraction point is not a directory".to_owned()) } else { e.into() });
    }
    let owner = match owner {
        None => None,
        Some(user) => {
            let at = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(root)));
            Some(resolve_user(&at, user).map_err(|e| Refused(Refusal::Invalid, e))?)
        }
    };
    extract(archive, root, path, Extract { whiteouts: false, keep_kinds, owner })?;
    Ok(())
}

fn change(c: skep_archive::Change) -> Change {
    let kind = match c.kind {
        skep_archive::ChangeKind::Modified => ChangeKind::Modified,
        skep_archive::ChangeKind::Added => ChangeKind::Added,
        skep_archive::ChangeKind::Deleted => ChangeKind::Deleted,
    };
    Change { path: c.path.display().to_string(), kind }
}

/// A container's root as a descriptor.
fn open(root: &Root) -> Result<OwnedFd, Refused> {
    match root {
        Root::Running { bundle } => {
            let mut peer = Peer::connect(bundle)?;
            let (init, shim) = (peer.hello()?, peer.pid());
            let process = process(init)?;
            // The container's first process is a child of its shim, which lives: no other process can have taken its number.
            if parent(&process)? != shim {
                return Err(Refused(Refusal::Failed, "the container has just ended".to_owned()));
            }
            Ok(openat(&process, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
        }
        Root::Own { bundle, rootfs } => {
            let mut peer = Peer::connect(bundle)?;
            let process = process(peer.pid())?;
            // After it was opened, so that it is the shim's.
            peer.hello()?;
            let view = openat(&process, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(open_in(&view, rootfs, OFlags::PATH | OFlags::DIRECTORY)?)
        }
        Root::Stopped { lower, upper, work, rootfs, mounts, filesystems, readonly } => {
            mount_all(&Layers { lower, upper, work, rootfs }, mounts, filesystems, *readonly)
        }
        Root::Layer { upper, .. } => Ok(open_root(upper)?),
    }
}

fn process(pid: i32) -> Result<OwnedFd, Refused> {
    Ok(openat(CWD, format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The parent of a process that is held by its directory.
fn parent(process: &OwnedFd) -> Result<i32, Refused> {
    let mut text = String::new();
    let stat = openat(process, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    std::fs::File::from(stat).read_to_string(&mut text)?;
    let after = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let parent = after.split_whitespace().nth(1).and_then(|p| p.parse().ok());
    parent.ok_or_else(|| Refused(Refusal::Failed, "the kernel does not tell a process's parent".to_owned()))
}

/// Mounts what a stopped container would see, for this process alone.
#[allow(unsafe_code)]
fn mount_all(
    layers: &Layers<'_>,
    mounts: &[MountPoint],
    filesystems: &[VolumeMount],
    readonly: bool,
) -> Result<OwnedFd, Refused> {
    // SAFETY: the helper has one thread and shares no descriptors or filesystem state that unsharing mounts would affect.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    for dir in [layers.upper, layers.work, layers.rootfs] {
        std::fs::create_dir_all(dir)?;
    }
    overlay(layers)?;
    mount_volumes(filesystems).map_err(|e| Refused(Refusal::Failed, e.0))?;
    let mut sorted: Vec<&MountPoint> = mounts.iter().filter(|m| matches!(m.kind.as_str(), "bind" | "volume")).collect();
    sorted.sort_by_key(|m| m.destination.matches('/').count());
    for m in sorted {
        let source = Path::new(&m.source);
        // A source that is gone is told when the container is started.
        let Ok(meta) = source.metadata() else { continue };
        if meta.is_dir() {
            make_dir_inside(layers.rootfs, &m.destination).map_err(|e| Refused(Refusal::Failed, e))?;
        }
        let root = open_root(layers.rootfs)?;
        let Ok(target) = open_in(&root, Path::new(&m.destination), OFlags::PATH) else { continue };
        let tree = open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, "", &target, "", flags)?;
        if !m.rw {
            make_readonly(&open_in(&root, Path::new(&m.destination), OFlags::PATH)?)?;
        }
    }
    let root = open_root(layers.rootfs)?;
    if readonly {
        make_readonly(&root)?;
    }
    Ok(root)
}

fn make_readonly(mounted: &OwnedFd) -> Result<(), Refused> {
    let at = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(mounted));
    Ok(mount_remount(at, MountFlags::BIND | MountFlags::RDONLY, "")?)
}
