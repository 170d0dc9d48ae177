//! The root filesystem of a container: overlayfs in the shim's own mount namespace.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount,
};
use skep_engine::shim::{CopyUp, ShimConfig};

use super::ShimError;

/// Levels of directories that a volume's first content may have; deeper trees are refused rather than overflow the stack.
const MAX_DEPTH: usize = 128;

/// Mounts the root filesystem where only the shim and the container see it.
#[allow(unsafe_code)]
pub(crate) fn prepare(config: &ShimConfig) -> Result<(), ShimError> {
    // SAFETY: the shim has one thread and shares no descriptors or filesystem state that unsharing mounts would affect.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .map_err(|e| ShimError::new("make a mount namespace", e))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| ShimError::new("make the mounts private", e))?;
    for dir in [&config.upper, &config.work, &config.rootfs] {
        fs::create_dir_all(dir).map_err(|e| ShimError::new(&format!("make {}", dir.display()), e))?;
    }
    fs::set_permissions(&config.upper, fs::Permissions::from_mode(0o755))
        .map_err(|e| ShimError::new(&format!("set the mode of {}", config.upper.display()), e))?;
    let layers = Layers { lower: &config.lower, upper: &config.upper, work: &config.work, rootfs: &config.rootfs };
    overlay(&layers).map_err(|e| ShimError::new(&format!("mount overlayfs on {}", config.rootfs.display()), e))?;
    super::volumes::mount_all(&config.filesystems)?;
    for volume in &config.volumes {
        copy_up(&config.rootfs, volume)?;
    }
    let cwd = config.spec["process"]["cwd"].as_str().unwrap_or("/");
    make_dir_inside(&config.rootfs, cwd)
}

/// What a root filesystem is made of.
pub(crate) struct Layers<'a> {
    pub(crate) lower: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) rootfs: &'a Path,
}

/// One layer a call on kernels from 6.5 on, where the length of the list has no limit; older ones take one option string of a page.
pub(crate) fn overlay(config: &Layers<'_>) -> Result<(), rustix::io::Errno> {
    match by_layers(config) {
        // Older kernels take any option, and refuse it when the mount is made.
        Err(rustix::io::Errno::INVAL) => by_one_string(config),
        other => other,
    }
}

fn by_layers(config: &Layers<'_>) -> Result<(), rustix::io::Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in config.lower {
        fsconfig_set_string(&context, "lowerdir+", layer.as_os_str())?;
    }
    fsconfig_set_string(&context, "upperdir", config.upper.as_os_str())?;
    fsconfig_set_string(&context, "workdir", config.work.as_os_str())?;
    fsconfig_create(&context)?;
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&mounted, "", CWD, config.rootfs, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn by_one_string(config: &Layers<'_>) -> Result<(), rustix::io::Errno> {
    let lower = config.lower.iter().map(|l| l.display().to_string()).collect::<Vec<_>>().join(":");
    let data = format!("lowerdir={lower},upperdir={},workdir={}", config.upper.display(), config.work.display());
    let data = std::ffi::CString::new(data).map_err(|_| rustix::io::Errno::INVAL)?;
    mount("overlay", config.rootfs, "overlay", MountFlags::empty(), Some(data.as_c_str()))
}

/// Opens a path as the container would see it, never outside of its root.
pub(crate) fn open_inside(root: &Path, path: &str, flags: OFlags) -> rustix::io::Result<fs::File> {
    let dir = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        .map(fs::File::from)
}

/// Makes a directory (the working directory) and its parents, as Docker does, never outside of the root.
pub(super) fn make_dir_inside(root: &Path, path: &str) -> Result<(), ShimError> {
    let mut done = String::new();
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else { continue };
        let parent = if done.is_empty() { "/".to_owned() } else { done.clone() };
        done = format!("{done}/{}", name.to_string_lossy());
        if open_inside(root, &done, OFlags::PATH).is_ok() {
            continue;
        }
        let made = open_inside(root, &parent, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|dir| rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)));
        made.map_err(|e| ShimError::new(&format!("make the working directory {path}"), e))?;
    }
    Ok(())
}

/// Gives an empty volume the image's content at its target.
fn copy_up(root: &Path, volume: &CopyUp) -> Result<(), ShimError> {
    let fail = |e: std::io::Error| ShimError::new(&format!("copy the image's {} to its volume", volume.target), e);
    let empty = fs::read_dir(&volume.volume).map(|mut d| d.next().is_none()).map_err(fail)?;
    let Ok(source) = open_inside(root, &volume.target, OFlags::PATH | OFlags::DIRECTORY) else { return Ok(()) };
    if !empty {
        return Ok(());
    }
    // The descriptor's path is stable even if the container's image has symlinks on the way.
    let from = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&source)));
    let meta = fs::metadata(&from).map_err(fail)?;
    chown(&volume.volume, Some(meta.uid()), Some(meta.gid())).map_err(fail)?;
    fs::set_permissions(&volume.volume, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(fail)?;
    copy_tree(&from, &volume.volume, 0).map_err(fail)
}

fn copy_tree(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(std::io::Error::other("directories are nested too deeply"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target, depth + 1)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else {
            let mode = rustix::fs::FileType::from_raw_mode(meta.mode());
            rustix::fs::mknodat(CWD, &target, mode, Mode::from_raw_mode(meta.mode()), meta.rdev())?;
        }
        lchown(&target, Some(meta.uid()), Some(meta.gid()))?;
        if !kind.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        }
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: meta.atime(), tv_nsec: meta.atime_nsec() },
            last_modification: rustix::fs::Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() },
        };
        rustix::fs::utimensat(CWD, &target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
