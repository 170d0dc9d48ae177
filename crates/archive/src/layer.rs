//! A writable layer becomes the archive of an image's layer: what was deleted is told in the form that images have for it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use crate::changes::{is_given, is_opaque, is_whiteout};
use crate::pack::{Packer, is};
use crate::root::{names, open_entry, open_root, os};

/// Levels of directories, each of which costs a descriptor.
const MAX_DEPTH: usize = 900;

/// Writes the archive of a writable layer.
///
/// # Errors
/// It cannot be read, or the writer fails.
pub fn pack_layer(upper: &Path, out: impl Write) -> io::Result<()> {
    let mut packer = Packer::new(out);
    walk(&open_root(upper)?, b"", 0, &mut packer)?;
    packer.finish()
}

fn empty_file() -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(0);
    header
}

fn walk<W: Write>(dir: &OwnedFd, path: &[u8], depth: usize, packer: &mut Packer<W>) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(path)));
    if depth > MAX_DEPTH {
        return Err(named(io::Error::other("directories are nested too deeply")));
    }
    for name in names(dir).map_err(named)? {
        let join = |last: &[u8]| if path.is_empty() { last.to_vec() } else { [path, b"/", last].concat() };
        let item = match open_entry(dir, os(&name)) {
            Ok(item) => item,
            // Removed since the directory was read.
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(named(e.into())),
        };
        let s = fstat(&item)?;
        let full = join(&name);
        if is_given(&Path::new("/").join(os(&full)), &item, &s) {
            continue;
        }
        if is_whiteout(&s) {
            packer.entry(empty_file(), &join(&[b".wh.", name.as_slice()].concat()), &[], &[])?;
            continue;
        }
        packer.one(&item, &full).map_err(named)?;
        if is(s.st_mode, FileType::Directory) {
            if is_opaque(&item) {
                packer.entry(empty_file(), &[full.as_slice(), b"/.wh..wh..opq"].concat(), &[], &[])?;
            }
            walk(&item, &full, depth + 1, packer)?;
        }
    }
    Ok(())
}
