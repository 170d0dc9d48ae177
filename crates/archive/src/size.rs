//! How much a directory holds.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};

use crate::pack::is;
use crate::root::{names, open_entry, open_root, os};

/// Levels of directories, each of which costs a descriptor; what is deeper is not counted.
const MAX_DEPTH: usize = 900;

/// Bytes of the files below a directory, each counted once whatever number of names it has.
///
/// # Errors
/// It cannot be read. What goes while it is looked at is no error.
pub fn size(dir: &Path) -> io::Result<u64> {
    let mut seen = BTreeSet::new();
    walk(&open_root(dir)?, 0, &mut seen)
}

fn walk(dir: &OwnedFd, depth: usize, seen: &mut BTreeSet<(u64, u64)>) -> io::Result<u64> {
    let mut sum = 0u64;
    for name in names(dir)? {
        let Ok(item) = open_entry(dir, os(&name)) else { continue };
        let s = fstat(&item)?;
        if is(s.st_mode, FileType::Directory) {
            if depth < MAX_DEPTH {
                sum += walk(&item, depth + 1, seen).unwrap_or(0);
            }
        } else if is(s.st_mode, FileType::RegularFile) && (s.st_nlink == 1 || seen.insert((s.st_dev, s.st_ino))) {
            sum += u64::try_from(s.st_size).unwrap_or(0);
        }
    }
    Ok(sum)
}
