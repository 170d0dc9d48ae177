//! The form of a backup: one line that says what it is, then the content, sealed with the swarm's unlock key where there is one. A
//! checksum tells damage from a wrong key. Must never do I/O, nor know what the content means.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::UnlockKey;
use crate::keyfile::{open, seal};

const MAGIC: &str = "SKEP-BACKUP";
const FORMAT: u32 = 1;
/// The first line is no longer than this.
const MAX_HEAD: usize = 4096;
const PLACE: &str = "backup";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHead {
    /// When it was made, RFC 3339.
    pub time: String,
    /// The swarm's id.
    pub cluster: String,
    /// Version of the program that made it.
    pub version: String,
    /// Whether the content is sealed.
    pub sealed: bool,
    /// Bytes of the content as it lies in the file.
    pub length: u64,
    /// SHA-256 of this line with an empty checksum and of those, hexadecimal.
    pub sha256: String,
}

/// Why a backup cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("this is no backup of a swarm: its first line does not begin with {MAGIC}")]
    Foreign,
    /// It was made by a newer version.
    #[error("the backup has format {0}, this version of Skep knows only {FORMAT}: use a newer one")]
    Newer(String),
    /// Its first line is damaged.
    #[error("the backup is damaged: its first line cannot be read: {0}")]
    Head(String),
    /// Something is missing or added at the end.
    #[error("the backup is damaged: it should have {wanted} bytes of content, but has {found}")]
    Length {
        /// Bytes that the first line tells of.
        wanted: u64,
        /// Bytes there.
        found: u64,
    },
    /// Something is changed.
    #[error("the backup is damaged: its checksum is {found}, its first line says {wanted}")]
    Checksum {
        /// By the first line.
        wanted: String,
        /// By the content.
        found: String,
    },
    /// It is sealed and no key was given.
    #[error("the backup is sealed: the unlock key that the swarm had when it was made is needed (--unlock-key)")]
    Locked,
    /// It is sealed with another key.
    #[error("the backup cannot be opened with this unlock key: the one that the swarm had when it was made is needed")]
    WrongKey,
}

fn line(head: &BackupHead) -> String {
    // Strings and numbers always have a JSON form; without it the backup is refused as damaged.
    serde_json::to_string(head).unwrap_or_default()
}

fn digest(head: &BackupHead, body: &[u8]) -> String {
    let mut hash = Sha256::new_with_prefix(line(&BackupHead { sha256: String::new(), ..head.clone() }));
    hash.update(body);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A backup with this content. Of `head` the time, the swarm and the version are taken; `nonce` is random.
#[must_use]
pub fn write_backup(head: BackupHead, content: &[u8], kek: Option<&UnlockKey>, nonce: [u8; 24]) -> Vec<u8> {
    let body = match kek {
        Some(kek) => seal(kek, nonce, PLACE, content),
        None => content.to_vec(),
    };
    let mut head = BackupHead { sealed: kek.is_some(), length: body.len() as u64, ..head };
    head.sha256 = digest(&head, &body);
    [format!("{MAGIC} {FORMAT} {}\n", line(&head)).as_bytes(), &body].concat()
}

/// The first line and the content of a backup, after checking that it is whole.
///
/// # Errors
/// [`BackupError`].
pub fn read_backup(bytes: &[u8], kek: Option<&UnlockKey>) -> Result<(BackupHead, Vec<u8>), BackupError> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|r| r.strip_prefix(b" ")).ok_or(BackupError::Foreign)?;
    let bad = |e: &dyn std::fmt::Display| BackupError::Head(e.to_string());
    let end = rest.iter().take(MAX_HEAD).position(|b| *b == b'\n').ok_or_else(|| bad(&"it has no end"))?;
    let line = std::str::from_utf8(&rest[..end]).map_err(|e| bad(&e))?;
    let (format, line) = line.split_once(' ').ok_or_else(|| bad(&"it is too short"))?;
    if format != FORMAT.to_string() {
        return Err(BackupError::Newer(format.to_owned()));
    }
    let head: BackupHead = serde_json::from_str(line).map_err(|e| bad(&e))?;
    let body = &rest[end + 1..];
    if body.len() as u64 != head.length {
        return Err(BackupError::Length { wanted: head.length, found: body.len() as u64 });
    }
    let found = digest(&head, body);
    if found != head.sha256 {
        return Err(BackupError::Checksum { wanted: head.sha256, found });
    }
    let content = match (head.sealed, kek) {
        (false, _) => body.to_vec(),
        (true, None) => return Err(BackupError::Locked),
        (true, Some(kek)) => open(kek, PLACE, body).map_err(|_| BackupError::WrongKey)?,
    };
    Ok((head, content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn head() -> BackupHead {
        let text = |t: &str| t.to_owned();
        BackupHead { time: text("2026"), cluster: text("c"), version: text("0"), sealed: false, length: 0, sha256: text("") }
    }

    #[test]
    fn a_backup_comes_back_and_damage_is_named() {
        let kek = UnlockKey::new([1; 32]);
        for key in [None, Some(&kek)] {
            let bytes = write_backup(head(), b"the tables", key, [7; 24]);
            let (h, content) = read_backup(&bytes, Some(&kek)).unwrap();
            assert_eq!((h.sealed, content.as_slice()), (key.is_some(), b"the tables".as_slice()));
            assert_eq!(bytes.windows(10).any(|w| w == b"the tables"), key.is_none());
            let n = bytes.len();
            assert!(matches!(read_backup(&bytes[..n - 1], key), Err(BackupError::Length { .. })));
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(matches!(read_backup(&longer, key), Err(BackupError::Length { .. })));
            for at in 0..n {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                let read = read_backup(&flipped, key);
                assert!(read.is_err(), "a flipped bit at {at} went unnoticed");
            }
            for short in 0..n {
                assert!(read_backup(&bytes[..short], key).is_err());
            }
        }
        let sealed = write_backup(head(), b"x", Some(&kek), [7; 24]);
        assert_eq!(read_backup(&sealed, None).unwrap_err(), BackupError::Locked);
        assert_eq!(read_backup(&sealed, Some(&UnlockKey::new([2; 32]))).unwrap_err(), BackupError::WrongKey);
        assert_eq!(read_backup(b"PK\x03\x04", None).unwrap_err(), BackupError::Foreign);
        assert_eq!(read_backup(b"SKEP-BACKUP 2 {}\n", None).unwrap_err(), BackupError::Newer("2".into()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>(), line in ".*") {
            let _ = read_backup(&bytes, None);
            let _ = read_backup(format!("SKEP-BACKUP 1 {line}\n").as_bytes(), None);
        }
    }
}
