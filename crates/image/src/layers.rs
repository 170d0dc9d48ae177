//! Unpacked layers, once for each content: `layers/<hex of the uncompressed digest>/fs`.
//!
//! A layer's directory depends on its own archive only, so it is named by that, not by the layers below: images share more.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::blobs::Blobs;
use crate::compression::{Meter, decompressed};
use crate::error::{ImageError, Result};
use skep_archive::unpack;
use skep_types::reference::valid_digest;

/// Uncompressed bytes of one layer: no layer in use comes near, and a disk is lost by it only once.
const MAX_LAYER: u64 = 128 << 30;

/// The unpacked layers of one store.
#[derive(Debug)]
pub(crate) struct Layers {
    dir: PathBuf,
}

impl Layers {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let dir = root.join("layers");
        fs::create_dir_all(&dir).map_err(|e| ImageError::io("create directory", dir.display(), e))?;
        Ok(Self { dir })
    }

    fn home(&self, diff_id: &str) -> Result<PathBuf> {
        if !valid_digest(diff_id) {
            return Err(ImageError::invalid("layer digest", diff_id));
        }
        Ok(self.dir.join(diff_id.trim_start_matches("sha256:")))
    }

    /// The directory to mount.
    pub(crate) fn path(&self, diff_id: &str) -> Result<PathBuf> {
        Ok(self.home(diff_id)?.join("fs"))
    }

    pub(crate) fn has(&self, diff_id: &str) -> bool {
        self.path(diff_id).is_ok_and(|path| path.exists())
    }

    /// Bytes of a layer's files.
    pub(crate) fn size(&self, diff_id: &str) -> u64 {
        let text = self.home(diff_id).ok().and_then(|home| fs::read_to_string(home.join("size")).ok());
        text.and_then(|t| t.parse().ok()).unwrap_or(0)
    }

    /// Unpacks a blob; refuses one whose uncompressed content is not `expected`. Returns its digest.
    pub(crate) fn add(&self, blobs: &Blobs, blob: &str, expected: Option<&str>) -> Result<String> {
        if let Some(known) = expected.filter(|id| self.has(id)) {
            return Ok(known.to_owned());
        }
        let tmp = blobs.scratch();
        let made = self.fill(blobs, blob, expected, &tmp);
        if made.is_err() {
            // nothing may hold on to a half-unpacked layer; what cannot be deleted now goes at the next start
            let _ = fs::remove_dir_all(&tmp);
        }
        made
    }

    fn fill(&self, blobs: &Blobs, blob: &str, expected: Option<&str>, tmp: &Path) -> Result<String> {
        let failed = |e: io::Error| ImageError::io("unpack layer", blob, e);
        let fs_dir = tmp.join("fs");
        fs::create_dir_all(&fs_dir).map_err(failed)?;
        let mut meter = Meter::new(decompressed(blobs.open_blob(blob)?).map_err(failed)?, MAX_LAYER);
        let size = unpack(&mut meter, &fs_dir).map_err(failed)?;
        // an archive may end before its stream does: the digest is over all of it
        io::copy(&mut meter, &mut io::sink()).map_err(failed)?;
        let (diff_id, _) = meter.finish();
        if expected.is_some_and(|e| e != diff_id) {
            let why = format!("content has digest {diff_id}, not {}", expected.unwrap_or_default());
            return Err(ImageError::invalid(format!("layer {blob}"), why));
        }
        fs::write(tmp.join("size"), size.to_string()).map_err(failed)?;
        let home = self.home(&diff_id)?;
        sync(tmp).map_err(failed)?;
        match fs::rename(tmp, &home) {
            // someone else was faster with the same content
            Err(_) if self.has(&diff_id) => fs::remove_dir_all(tmp).map_err(failed)?,
            other => other.map_err(failed)?,
        }
        Ok(diff_id)
    }

    /// Deletes all layers but these.
    pub(crate) fn sweep(&self, keep: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let failed = |e| ImageError::io("sweep", self.dir.display(), e);
        let mut gone = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let diff_id = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !keep(&diff_id) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
                gone.push(diff_id);
            }
        }
        gone.sort();
        Ok(gone)
    }
}

/// The layer's files reach the disk before its name does.
fn sync(dir: &Path) -> io::Result<()> {
    let file = fs::File::open(dir)?;
    Ok(rustix::fs::syncfs(&file)?)
}

/// Reads to the end of a stream, bounded.
pub(crate) fn read_bounded(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit + 1).read_to_end(&mut out)?;
    if out.len() as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(out)
}
