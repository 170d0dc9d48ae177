//! The unlock key of a swarm's managers: `SWMKEY-1-` and the base64 of 32 bytes (`swarm-semantics` 6.5). Must never be printed
//! but by its own [`std::fmt::Display`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::PkiError;

const PREFIX: &str = "SWMKEY-1-";

/// The key that seals what a manager keeps on disk.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey(pub(crate) [u8; 32]);

impl std::fmt::Debug for UnlockKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnlockKey")
    }
}

impl std::fmt::Display for UnlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl UnlockKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads a key as operators type it.
    ///
    /// # Errors
    /// [`PkiError::UnlockKey`].
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(PkiError::UnlockKey)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| PkiError::UnlockKey)?;
        bytes.try_into().map(Self).map_err(|_| PkiError::UnlockKey)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_have_the_known_form() {
        let k = UnlockKey::new([0xfb; 32]);
        let text = k.to_string();
        assert_eq!(text.len(), 9 + 43);
        assert!(text.starts_with("SWMKEY-1-") && !text.contains('='));
        assert_eq!(UnlockKey::parse(&format!(" {text}\n")).unwrap(), k);
        for n in 0..text.len() {
            assert_eq!(UnlockKey::parse(&text[..n]), Err(PkiError::UnlockKey));
        }
        assert_eq!(UnlockKey::parse(&format!("{text}A")), Err(PkiError::UnlockKey));
        assert!(!format!("{k:?}").contains("+/"));
    }
}
