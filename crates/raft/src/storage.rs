//! The seam to files: what the log and the snapshots do with the disk, and the only place where that work leaves the async
//! tasks. Must never know what the bytes mean.
//!
//! Operations are synchronous. In production they run on the log's own thread, on tokio's blocking threads ([`blocking`]) or on one
//! that stands back ([`background`]); a simulated disk runs them at once on the calling task and lets the time they would have taken
//! pass in [`Storage::pause`].

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

/// Files below one directory. Names are relative, with `/` between a directory and what is in it, and contain no `..`.
#[async_trait]
pub trait Storage: Debug + Send + Sync + 'static {
    /// Where `name` is, for messages.
    fn locate(&self, name: &str) -> PathBuf;

    /// Makes a directory and those above it, durably. One that exists is no error. The empty name is the root.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// The names in a directory, in no particular order.
    ///
    /// # Errors
    /// Those of the file system; `NotFound` if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes an empty file. One that has the name is replaced by it; who has that open keeps it as it is. The name is durable
    /// after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// Those of the file system; `NotFound` if there is no such file.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Gives a file another name, replacing what had it. Durable after [`Storage::sync_dir`]; a crash leaves the old or the new.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name, replacing what had that. Durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// Those of the file system; `NotFound` if there is no such file.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Storage::sync_dir`].
    ///
    /// # Errors
    /// Those of the file system; `NotFound` if there is no such file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the directory for this process. It is given back when the returned value is dropped or the process dies.
    ///
    /// # Errors
    /// `WouldBlock` if it is taken; else those of the file system.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// Whether this is a simulation: then no thread is started for this storage, and operations run on the calling task.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Whether this storage will never work again, so that nobody need wait for it: the simulated host lost its power.
    fn is_dead(&self) -> bool {
        false
    }

    /// Waits as long as the operations since the last pause would have taken. Does nothing on a real disk.
    async fn pause(&self) {}
}

/// An open file.
pub trait StorageFile: Debug + Send + Sync {
    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn size(&self) -> io::Result<u64>;

    /// Reads at `offset` until `out` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// Those of the file system.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    ///
    /// # Errors
    /// Those of the file system.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `size` bytes. Durable after [`StorageFile::sync`].
    ///
    /// # Errors
    /// Those of the file system.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes the contents durable. After an error it is unknown what is; a later success says nothing of what was written before.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync(&self) -> io::Result<()>;
}

/// Runs file operations where they may take their time.
pub(crate) async fn blocking<T: Send + 'static>(
    storage: &Arc<dyn Storage>,
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if storage.is_simulated() {
        let r = f();
        storage.pause().await;
        return r;
    }
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)?
}

/// How far the threads of [`background`] stand back, of 19 (`nice`).
const BACK: i32 = 10;

/// As [`blocking`], for what takes seconds and nobody waits for: on a thread of its own that stands back where cores are wanted by
/// others, the log's first of all.
pub(crate) async fn background<T: Send + 'static>(
    storage: &Arc<dyn Storage>,
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if storage.is_simulated() {
        return blocking(storage, f).await;
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("background".to_owned()).spawn(move || {
        // Of this thread alone, on Linux; it works without, too.
        let _ = rustix::process::setpriority_process(None, BACK);
        // Who asked may have ended meanwhile.
        drop(tell.send(f()));
    })?;
    told.await.map_err(io::Error::other)?
}

/// Reads a whole file.
pub(crate) fn read_all(file: &dyn StorageFile) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut out = vec![0; size];
    let n = file.read_at(0, &mut out)?;
    out.truncate(n);
    Ok(out)
}
