//! Blobs by content: `blobs/sha256/<hex>`. A file under that name always has that content: it is written elsewhere, hashed on the way,
//! synced, and renamed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::compression::{digest_of, digest_text};
use crate::error::{ImageError, Result};
use skep_types::reference::valid_digest;

/// The blobs of one store.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    next: AtomicU64,
}

impl Blobs {
    /// Opens the directory; what a former daemon left half-written goes.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let (dir, tmp) = (root.join("blobs/sha256"), root.join("tmp"));
        // absent at the first start
        let _ = fs::remove_dir_all(&tmp);
        for path in [&dir, &tmp] {
            fs::create_dir_all(path).map_err(|e| ImageError::io("create directory", path.display(), e))?;
        }
        Ok(Self { dir, tmp, next: AtomicU64::new(0) })
    }

    /// The file of a digest; an ill-formed one has none.
    pub(crate) fn path(&self, digest: &str) -> Result<PathBuf> {
        if !valid_digest(digest) {
            return Err(ImageError::invalid("digest", digest));
        }
        Ok(self.dir.join(digest.trim_start_matches("sha256:")))
    }

    pub(crate) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    pub(crate) fn open_blob(&self, digest: &str) -> Result<File> {
        let path = self.path(digest)?;
        File::open(&path).map_err(|e| ImageError::io("open blob", digest, e))
    }

    /// A whole small blob.
    pub(crate) fn read(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.path(digest)?;
        fs::read(&path).map_err(|e| ImageError::io("read blob", digest, e))
    }

    pub(crate) fn size(&self, digest: &str) -> u64 {
        self.path(digest).and_then(|p| p.metadata().map_err(|e| ImageError::io("stat", digest, e))).map_or(0, |m| m.len())
    }

    /// A new name below `tmp`.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.tmp.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Begins a blob.
    pub(crate) fn writer(&self) -> Result<BlobWriter> {
        let path = self.scratch();
        let file = File::create_new(&path).map_err(|e| ImageError::io("create", path.display(), e))?;
        Ok(BlobWriter { path, file, hash: Sha256::new(), size: 0 })
    }

    /// Keeps bytes; their digest.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<String> {
        let digest = digest_of(bytes);
        if !self.has(&digest) {
            let mut writer = self.writer()?;
            writer.write(bytes)?;
            self.commit(writer, Some(&digest))?;
        }
        Ok(digest)
    }

    /// Keeps a stream; its digest and size.
    pub(crate) fn put_stream(&self, reader: &mut dyn Read) -> Result<(String, u64)> {
        let mut writer = self.writer()?;
        let mut buf = vec![0; 128 * 1024];
        loop {
            let len = match reader.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ImageError::io("read", "archive", e)),
            };
            writer.write(&buf[..len])?;
        }
        let size = writer.size;
        Ok((self.commit(writer, None)?, size))
    }

    /// Ends a blob; refuses one that is not what was expected.
    pub(crate) fn commit(&self, mut writer: BlobWriter, expected: Option<&str>) -> Result<String> {
        let digest = digest_text(&std::mem::take(&mut writer.hash).finalize());
        if expected.is_some_and(|e| e != digest) {
            let why = format!("content has digest {digest}, not {}", expected.unwrap_or_default());
            return Err(ImageError::invalid("blob", why));
        }
        let to = self.path(&digest)?;
        let done = writer.file.sync_all().and_then(|()| fs::rename(&writer.path, &to));
        done.map_err(|e| ImageError::io("keep blob", &digest, e))?;
        Ok(digest)
    }

    /// Deletes all blobs but these.
    pub(crate) fn sweep(&self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let failed = |e| ImageError::io("sweep", self.dir.display(), e);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if !keep(&digest) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A blob being written; deleted unless it is committed.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    path: PathBuf,
    file: File,
    hash: Sha256,
    pub(crate) size: u64,
}

impl BlobWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| ImageError::io("write", self.path.display(), e))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // gone already after a commit
        let _ = fs::remove_file(&self.path);
    }
}
