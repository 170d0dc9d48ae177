//! What nodes must know of each other to encrypt overlay networks between them (`--opt encrypted`). Private keys are no part of it: they
//! never leave their host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Driver option of a network whose packets between nodes are encrypted; whatever its value, as in Docker.
pub const OPTION: &str = "encrypted";

/// A node's public key: 32 bytes of Curve25519. It may change whenever the node starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    /// In hexadecimal digits, as in WireGuard's configuration protocol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let mut out = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseKeyError);
        }
        for (i, b) in out.iter_mut().enumerate() {
            *b = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| ParseKeyError)?;
        }
        Ok(Self(out))
    }
}

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseKeyError;

impl fmt::Display for ParseKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a WireGuard key has 64 hexadecimal digits")
    }
}

impl std::error::Error for ParseKeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let mut key = PublicKey([0xa5; 32]);
        key.0[31] = 7;
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in ["", "a5", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }
}
