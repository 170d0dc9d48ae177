//! The head of a segment: `magic | version | key id | segment number | crc32`. Must never be written twice.

use super::frame::array;
use crate::keys::KeyId;

const MAGIC: [u8; 8] = *b"SKEPLOG\n";
/// Version of the format that this build writes. Version 1 is the first that was released.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a head.
pub(crate) const HEAD: usize = 32;

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) key: KeyId,
    pub(crate) number: u64,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..20].copy_from_slice(&self.key.0);
        out[20..28].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32fast::hash(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head at the beginning of `bytes`, or `None` if there is no whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let crc = u32::from_le_bytes(array(bytes, 28)?);
        if array::<8>(bytes, 0)? != MAGIC || crc32fast::hash(bytes.get(..28)?) != crc {
            return None;
        }
        Some(Self {
            version: u32::from_le_bytes(array(bytes, 8)?),
            key: KeyId(array(bytes, 12)?),
            number: u64::from_le_bytes(array(bytes, 20)?),
        })
    }
}
