//! Reading what may be compressed, told by its first bytes, never by its name.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

/// Readers are stacked on a buffer of this size; larger ones measured no faster.
const BUFFER: usize = 128 * 1024;

/// The uncompressed bytes of a gzip, zstd or plain stream.
pub(crate) fn decompressed<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let head = reader.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(reader)));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(reader).map_err(io::Error::other)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

/// Whether the bytes begin a gzip stream.
pub(crate) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

/// Hashes and counts what passes, and fails past a limit.
pub(crate) struct Meter<R> {
    inner: R,
    hash: Sha256,
    count: u64,
    limit: u64,
}

impl<R: Read> Meter<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, hash: Sha256::new(), count: 0, limit }
    }

    /// Digest and number of bytes so far.
    pub(crate) fn finish(self) -> (String, u64) {
        (digest_text(&self.hash.finalize()), self.count)
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.hash.update(&buf[..len]);
        self.count += len as u64;
        if self.count > self.limit {
            return Err(io::Error::other(format!("more than {} bytes", self.limit)));
        }
        Ok(len)
    }
}

/// `sha256:…` of a hash's bytes.
pub(crate) fn digest_text(hash: &[u8]) -> String {
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// Digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}
