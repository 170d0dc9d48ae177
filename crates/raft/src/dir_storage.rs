//! Real files. Must never acknowledge a sync that the kernel did not.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Storage, StorageFile};

/// Files below a directory of the host. They are readable by their owner alone.
#[derive(Debug, Clone)]
pub struct DirStorage {
    root: PathBuf,
}

impl DirStorage {
    /// Files below `root`, which is made when it is first needed.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Nothing has this name.
    fn free(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.locate(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn file(&self, name: &str, options: &mut OpenOptions) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(Real(options.read(true).write(true).mode(0o600).open(self.locate(name))?)))
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

impl Storage for DirStorage {
    fn locate(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.locate(dir);
        if path.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        path.parent().map_or(Ok(()), sync)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for e in std::fs::read_dir(self.locate(dir))? {
            // A name that is no text is not one of ours.
            names.extend(e?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.free(name)?;
        self.file(name, OpenOptions::new().create_new(true))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.file(name, &mut OpenOptions::new())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.locate(from), self.locate(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.free(to)?;
        std::fs::hard_link(self.locate(from), self.locate(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.locate(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync(&self.locate(dir))
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let file = File::create(self.locate("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

#[derive(Debug)]
struct Real(File);

impl StorageFile for Real {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < out.len() {
            match self.0.read_at(&mut out[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
