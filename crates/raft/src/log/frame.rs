//! The frame: the unit of a group commit, sealed. `magic | length | crc32 | nonce | sealed records`, numbers little endian; the
//! checksum covers what follows it and the length. It tells damage apart from a wrong key without any key. Must never decide what
//! a bad frame means; [`super::replay`] does.

use std::io;

use serde::{Deserialize, Serialize};

use crate::config::{Entry, LogId, Vote};
use crate::keys::{Key, NONCE, TAG};
use crate::runtime::random;

const MAGIC: [u8; 4] = *b"SKf1";
const HEAD: usize = 12;
/// No frame is longer: the writer closes a frame after 8 MiB, one record may add a proposal, and some room for encoding.
const MAX_PAYLOAD: usize = 32 * 1024 * 1024;

/// One thing that must survive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Record {
    /// An entry of the log.
    Entry(Entry),
    /// Entries after this one (all if `None`) are void.
    Truncate(Option<LogId>),
    /// Entries up to and with this one are no longer needed.
    Purge(LogId),
    /// The vote of this member.
    Vote(Vote),
    /// Everything up to here is known to be agreed on.
    Committed(Option<LogId>),
}

/// Where a frame stands. Authenticated with it, so that it cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Place {
    fn bytes(self) -> [u8; 24] {
        let mut out = *b"skep log................";
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..].copy_from_slice(&self.offset.to_le_bytes());
        out
    }
}

/// Appends the records as one frame to `out`.
pub(crate) fn encode(records: &[Record], key: &Key, place: Place, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let nonce: [u8; NONCE] = random();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&nonce);
    let mut writer = &mut *out;
    rmp_serde::encode::write_named(&mut writer, records).map_err(io::Error::other)?;
    key.seal(&nonce, &place.bytes(), out, start + HEAD + NONCE)?;
    let len = out.len() - start - HEAD;
    if len > MAX_PAYLOAD {
        return Err(io::Error::other(format!("log frame of {len} bytes is too long")));
    }
    // Fits: checked against MAX_PAYLOAD above.
    let len32 = (len as u32).to_le_bytes();
    let crc = checksum(&len32, &out[start + HEAD..]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&MAGIC);
    out[start + 4..start + 8].copy_from_slice(&len32);
    out[start + 8..start + 12].copy_from_slice(&crc);
    Ok(())
}

/// The whole frame at `offset`, without opening it: its nonce and sealed records, or what is wrong.
fn whole(bytes: &[u8], offset: usize) -> Result<&[u8], String> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let (Some(magic), Some(len), Some(crc)) = (array(rest, 0), array(rest, 4), array(rest, 8)) else {
        return Err(format!("{} bytes are too few for a frame", rest.len()));
    };
    if magic != MAGIC {
        return Err("no frame begins here".into());
    }
    let n = u32::from_le_bytes(len) as usize;
    if !(NONCE + TAG..=MAX_PAYLOAD).contains(&n) {
        return Err(format!("impossible frame length {n}"));
    }
    let Some(payload) = rest.get(HEAD..HEAD + n) else {
        return Err(format!("frame of {n} bytes is cut short"));
    };
    if checksum(&len, payload) != u32::from_le_bytes(crc) {
        return Err("checksum does not match".into());
    }
    Ok(payload)
}

/// Reads the frame at `place`: its records and the offset after it, or what is wrong.
pub(crate) fn decode(bytes: &[u8], key: &Key, place: Place) -> Result<(Vec<Record>, usize), String> {
    let offset = usize::try_from(place.offset).map_err(|e| e.to_string())?;
    let payload = whole(bytes, offset)?;
    let (nonce, sealed) = payload.split_first_chunk::<NONCE>().ok_or("cut short")?;
    let plain = key.open(nonce, &place.bytes(), sealed).ok_or("not sealed with its key for this place")?;
    let records = rmp_serde::from_slice(&plain).map_err(|e| format!("records cannot be decoded: {e}"))?;
    Ok((records, offset + HEAD + payload.len()))
}

/// Whether a whole frame begins anywhere at or after `offset`.
pub(crate) fn any_after(bytes: &[u8], offset: usize) -> bool {
    let tail = bytes.get(offset..).unwrap_or_default();
    tail.windows(4).enumerate().any(|(i, w)| w == MAGIC && whole(tail, i).is_ok())
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn checksum(len: &[u8], payload: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(len);
    h.update(payload);
    h.finalize()
}
