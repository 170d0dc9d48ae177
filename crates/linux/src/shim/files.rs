//! The container's secrets and configs: on a tmpfs of its own in the shim's mount namespace, so that no other process of the host
//! sees them and nothing of them is left when the shim ends. Must never put them on a disk.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_remount};
use skep_engine::shim::{FILES_DIR, StagedFile};

use super::ShimError;

/// Longest file: a config with placeholders may grow when they are filled in.
const MAX_FILE: u32 = 4 << 20;
/// For directories and the rounding of sizes to pages.
const SPARE: u64 = 1 << 20;

/// Reads the files from the daemon and makes them.
pub(super) fn make(bundle: &Path, files: &[StagedFile], input: &mut impl Read) -> Result<(), ShimError> {
    if files.is_empty() {
        return Ok(());
    }
    let all = files.iter().map(|_| next(input)).collect::<Result<Vec<_>, _>>()?;
    let root = bundle.join(FILES_DIR);
    let fail = |what: &str, e: &dyn std::fmt::Display| ShimError::new(&format!("make the secrets and configs: {what}"), e);
    fs::create_dir_all(&root).map_err(|e| fail("directory", &e))?;
    let size = all.iter().map(|f| f.len().next_multiple_of(4096) as u64).sum::<u64>() + SPARE;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    let tmpfs = |options: String| {
        let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
        mount("tmpfs", &root, "tmpfs", flags, Some(options.as_c_str()))
    };
    // Kernels before 6.3 cannot keep a tmpfs out of the swap.
    tmpfs(format!("mode=755,size={size},noswap"))
        .or_else(|_| tmpfs(format!("mode=755,size={size}")))
        .map_err(|e| fail("tmpfs", &e))?;
    for (file, bytes) in files.iter().zip(all) {
        let path = root.join(&file.at);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            out.write_all(&bytes)?;
            chown(&path, Some(file.uid), Some(file.gid))?;
            // After the owner, whose change takes set-id bits away.
            fs::set_permissions(&path, Permissions::from_mode(file.mode & 0o7777))
        });
        made.map_err(|e| fail(&file.at.display().to_string(), &e))?;
    }
    mount_remount(&root, flags | MountFlags::RDONLY, "").map_err(|e| fail("make it read-only", &e))
}

fn next(input: &mut impl Read) -> Result<Vec<u8>, ShimError> {
    let fail = |e: &dyn std::fmt::Display| ShimError::new("read the secrets and configs", e);
    let mut length = [0u8; 4];
    input.read_exact(&mut length).map_err(|e| fail(&e))?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FILE {
        return Err(fail(&format!("one of {length} bytes is too long, {MAX_FILE} are allowed")));
    }
    let mut bytes = vec![0u8; length as usize];
    input.read_exact(&mut bytes).map_err(|e| fail(&e))?;
    Ok(bytes)
}
