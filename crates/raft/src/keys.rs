//! Keys of what is written to the disk, and sealing with them. Must never show a key.
//!
//! Everything is sealed with XChaCha20-Poly1305. Where a piece belongs is authenticated with it, so that pieces cannot be moved,
//! dropped from the middle or taken from another file.

use std::fmt;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub(crate) const NONCE: usize = 24;
/// Bytes that sealing adds.
pub(crate) const TAG: usize = 16;

/// Names a key without giving it away: the first 8 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret of 32 bytes. Overwritten in memory when dropped; its `Debug` shows its id only.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key with these bytes, which should come from the system's randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = Sha256::digest(&self.0[..]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        KeyId(id)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    /// Seals `bytes[from..]` in place and appends the tag.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE], place: &[u8], bytes: &mut Vec<u8>, from: usize) -> std::io::Result<()> {
        let nonce: &XNonce = nonce.into();
        let tag = self
            .cipher()
            .encrypt_inout_detached(nonce, place, InOutBuf::from(&mut bytes[from..]))
            .map_err(|_| std::io::Error::other("too long to be sealed"))?;
        bytes.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens what [`Key::seal`] made: sealed bytes and tag. `None` if it was not sealed so, with this key, for this place.
    pub(crate) fn open(&self, nonce: &[u8; NONCE], place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let (nonce, tag): (&XNonce, &Tag) = (nonce.into(), tag.try_into().ok()?);
        let mut out = body.to_vec();
        self.cipher().decrypt_inout_detached(nonce, place, InOutBuf::from(&mut out[..]), tag).ok()?;
        Some(out)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The key that everything new is written under, and those that what is already there may need.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// For writing, and for reading.
    pub current: Key,
    /// For reading only. Bounded by what [`crate::Raft::keys_in_use`] names; the caller drops the others.
    pub older: Vec<Key>,
}

impl KeyRing {
    /// A ring of one key.
    #[must_use]
    pub fn new(current: Key) -> Self {
        Self { current, older: Vec::new() }
    }

    /// The key with this id.
    pub(crate) fn get(&self, id: KeyId) -> Option<&Key> {
        std::iter::once(&self.current).chain(&self.older).find(|k| k.id() == id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
        let mut bytes = b"head|secret".to_vec();
        key.seal(&[9; NONCE], b"here", &mut bytes, 5).unwrap();
        assert_eq!(&bytes[..5], b"head|");
        assert!(!bytes.windows(6).any(|w| w == b"secret"));
        assert_eq!(key.open(&[9; NONCE], b"here", &bytes[5..]).unwrap(), b"secret");
        assert!(key.open(&[9; NONCE], b"there", &bytes[5..]).is_none());
        assert!(key.open(&[8; NONCE], b"here", &bytes[5..]).is_none());
        assert!(other.open(&[9; NONCE], b"here", &bytes[5..]).is_none());
        assert!(key.open(&[9; NONCE], b"here", &bytes[5..9]).is_none());
    }

    #[test]
    fn a_key_is_not_shown() {
        let ring = KeyRing::new(Key::new([0xab; 32]));
        let shown = format!("{ring:?}");
        assert!(!shown.to_lowercase().contains("abab") && !shown.contains("171"), "{shown}");
        assert!(shown.contains(&ring.current.id().to_string()));
    }
}
