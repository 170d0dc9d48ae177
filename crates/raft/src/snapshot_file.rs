//! The snapshot on disk: one file, replaced whole, in sealed chunks.
//!
//! `magic | version | key id | nonce prefix | length of the sealed meta | crc32 | sealed meta | sealed chunks`. Every chunk but the
//! last holds [`CHUNK`] bytes. A piece's nonce is the prefix and its number, the last chunk's has one bit more, and the head is
//! authenticated with each: pieces cannot be moved, dropped or taken from another file. Must never hold the whole in memory.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::SnapshotMeta;
use crate::keys::{Key, KeyId, KeyRing, NONCE, TAG};
use crate::runtime::random;
use crate::{LogError, Storage, StorageFile};

const MAGIC: [u8; 8] = *b"SKEPSNP\n";
/// Version of the format that this build writes. Version 1 is the first that was released.
const VERSION: u32 = 1;
const HEAD: usize = 44;
/// Plain bytes of a chunk, which is also what one message to a follower carries.
pub(crate) const CHUNK: usize = 1024 * 1024;
/// The meta holds the members; this is room for thousands.
const MAX_META: usize = 4 * 1024 * 1024;
const LAST: u64 = 1 << 63;

fn nonce(prefix: &[u8; 16], number: u64) -> [u8; NONCE] {
    let mut out = [0; NONCE];
    out[..16].copy_from_slice(prefix);
    out[16..].copy_from_slice(&number.to_le_bytes());
    out
}

/// Chunks that are written before they are made durable.
const SYNC_CHUNKS: u64 = 4;

/// Writes a snapshot, chunk by chunk.
pub(crate) struct Writer {
    file: Box<dyn StorageFile>,
    key: Key,
    head: [u8; HEAD],
    prefix: [u8; 16],
    at: u64,
    number: u64,
    buf: Vec<u8>,
}

impl Writer {
    /// Begins the file `name`, replacing what is there.
    pub(crate) fn create(storage: &dyn Storage, name: &str, key: &Key, meta: &SnapshotMeta) -> io::Result<Self> {
        let plain = rmp_serde::to_vec_named(meta).map_err(io::Error::other)?;
        let meta_len = u32::try_from(plain.len() + TAG).ok().filter(|l| *l as usize <= MAX_META);
        let meta_len = meta_len.ok_or_else(|| io::Error::other("too many members for a snapshot"))?;
        let prefix: [u8; 16] = random();
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..20].copy_from_slice(&key.id().0);
        head[20..36].copy_from_slice(&prefix);
        head[36..40].copy_from_slice(&meta_len.to_le_bytes());
        let crc = crc32fast::hash(&head[..40]);
        head[40..].copy_from_slice(&crc.to_le_bytes());
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&plain);
        key.seal(&nonce(&prefix, 0), &head, &mut bytes, HEAD)?;
        let file = storage.create(name)?;
        file.write_at(0, &bytes)?;
        Ok(Self {
            file,
            key: key.clone(),
            head,
            prefix,
            at: bytes.len() as u64,
            number: 0,
            buf: Vec::with_capacity(CHUNK + TAG),
        })
    }

    fn chunk(&mut self, last: bool) -> io::Result<()> {
        self.number += 1;
        let number = if last { self.number | LAST } else { self.number };
        self.key.seal(&nonce(&self.prefix, number), &self.head, &mut self.buf, 0)?;
        self.file.write_at(self.at, &self.buf)?;
        self.at += self.buf.len() as u64;
        self.buf.clear();
        // Else the log's own syncs, on which writers wait, would queue behind hundreds of megabytes at the end.
        if self.number.is_multiple_of(SYNC_CHUNKS) { self.file.sync() } else { Ok(()) }
    }

    /// Writes what is left and makes the contents durable; the name is the caller's.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.chunk(true)?;
        self.file.sync()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk is only sealed when more follows, so that the last one is never missing.
        if self.buf.len() == CHUNK {
            self.chunk(false)?;
        }
        let n = bytes.len().min(CHUNK - self.buf.len());
        self.buf.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which key seals the snapshot `name`; none where that is no snapshot.
///
/// # Errors
/// Those of the file system.
pub(crate) fn sealed_by(storage: &dyn Storage, name: &str) -> io::Result<Option<KeyId>> {
    let mut head = [0; HEAD];
    let n = storage.open(name)?.read_at(0, &mut head)?;
    let mut id = [0; 8];
    id.copy_from_slice(&head[12..20]);
    Ok((n == HEAD && head[..8] == MAGIC).then_some(KeyId(id)))
}

/// An open snapshot. It stays readable when its file is replaced.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) name: &'static str,
    pub(crate) meta: SnapshotMeta,
    file: Box<dyn StorageFile>,
    path: PathBuf,
    key: Key,
    head: [u8; HEAD],
    prefix: [u8; 16],
    body: u64,
    size: u64,
}

impl SnapshotFile {
    /// Opens the snapshot `name`, if there is one, and checks its head and length, not its chunks.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn open(storage: &Arc<dyn Storage>, name: &'static str, keys: &KeyRing) -> Result<Option<Self>, LogError> {
        let path = storage.locate(name);
        let fail = |op: &'static str| {
            let path = path.clone();
            move |source| LogError::Io { op, path, source }
        };
        let damaged = |what: &str| LogError::Damaged { path: path.clone(), offset: 0, what: what.into() };
        let file = match storage.open(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            r => r.map_err(fail("open"))?,
        };
        let mut head = [0; HEAD];
        let n = file.read_at(0, &mut head).map_err(fail("read"))?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if n < HEAD || head[..8] != MAGIC || crc32fast::hash(&head[..40]) != number(40) {
            return Err(damaged("it does not begin as a snapshot"));
        }
        if number(8) > VERSION {
            return Err(LogError::Newer { path: path.clone(), version: number(8) });
        }
        let (mut id, mut prefix) = ([0; 8], [0; 16]);
        id.copy_from_slice(&head[12..20]);
        prefix.copy_from_slice(&head[20..36]);
        let Some(key) = keys.get(KeyId(id)) else {
            return Err(LogError::MissingKey { path: path.clone(), key: KeyId(id) });
        };
        let meta_len = number(36) as usize;
        if meta_len > MAX_META {
            return Err(damaged("impossible length"));
        }
        let mut sealed = vec![0; meta_len];
        let n = file.read_at(HEAD as u64, &mut sealed).map_err(fail("read"))?;
        let plain =
            key.open(&nonce(&prefix, 0), &head, &sealed[..n]).ok_or_else(|| damaged("its meta is not what was written"))?;
        let meta = rmp_serde::from_slice(&plain).map_err(|e| damaged(&e.to_string()))?;
        let (size, body) = (file.size().map_err(fail("read"))?, (HEAD + meta_len) as u64);
        if size < body + TAG as u64 {
            return Err(damaged("cut short"));
        }
        Ok(Some(Self { name, meta, file, key: key.clone(), path, head, prefix, body, size }))
    }

    /// The key it is sealed with.
    pub(crate) fn key(&self) -> KeyId {
        self.key.id()
    }

    /// Tells this file from any other.
    pub(crate) fn id(&self) -> [u8; 16] {
        self.prefix
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// How many chunks it has, at least one.
    pub(crate) fn chunks(&self) -> u64 {
        (self.size - self.body).div_ceil((CHUNK + TAG) as u64)
    }

    /// The plain bytes of a chunk, counted from 0.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged; else those of the file system.
    pub(crate) fn chunk(&self, number: u64) -> io::Result<Vec<u8>> {
        let step = (CHUNK + TAG) as u64;
        let from = self.body + number * step;
        let len = self.size.saturating_sub(from).min(step) as usize;
        let mut sealed = vec![0; len];
        let n = self.file.read_at(from, &mut sealed)?;
        let last = if number + 1 == self.chunks() { LAST } else { 0 };
        self.key.open(&nonce(&self.prefix, (number + 1) | last), &self.head, &sealed[..n]).ok_or_else(|| {
            let path = self.path.clone();
            let what = "a chunk of the snapshot is not what was written".into();
            io::Error::new(io::ErrorKind::InvalidData, LogError::Damaged { path, offset: from, what })
        })
    }

    /// Reads its contents from the beginning.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { file: self, next: 0, buf: Vec::new(), at: 0 }
    }
}

/// The plain contents, one chunk in memory at a time.
pub(crate) struct Reader<'a> {
    file: &'a SnapshotFile,
    next: u64,
    buf: Vec<u8>,
    at: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.buf.len() {
            if self.next == self.file.chunks() {
                return Ok(0);
            }
            self.buf = self.file.chunk(self.next)?;
            self.at = 0;
            self.next += 1;
        }
        let n = out.len().min(self.buf.len() - self.at);
        out[..n].copy_from_slice(&self.buf[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
