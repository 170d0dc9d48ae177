//! Join tokens: `SWMTKN-1-<digest of the root, 50 digits>-<secret, 25 digits>` (`swarm-semantics` 6.6). Must never say which
//! part of a wrong token is wrong.

use sha2::{Digest, Sha256};

use crate::{PkiError, base36, certificates};

const PREFIX: &str = "SWMTKN-1-";
const FIPS_PREFIX: &str = "SWMTKN-2-";
const DIGEST_DIGITS: usize = 50;
const SECRET_DIGITS: usize = 25;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    digest: [u8; 32],
    secret: [u8; 16],
}

impl std::fmt::Debug for JoinToken {
    /// Shows the digest only; the secret must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({})", hex(&self.digest))
    }
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = base36::encode(&self.digest, DIGEST_DIGITS);
        write!(f, "{PREFIX}{digest}-{}", base36::encode(&self.secret, SECRET_DIGITS))
    }
}

impl JoinToken {
    /// A token for the swarm with this root certificate; `secret` is 16 random bytes.
    ///
    /// # Errors
    /// [`PkiError::Parse`] if `root_pem` is not exactly one certificate.
    pub fn new(root_pem: &str, secret: [u8; 16]) -> Result<Self, PkiError> {
        Ok(Self { digest: root_digest(root_pem)?, secret })
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`PkiError::FipsToken`], and [`PkiError::Token`] for anything truncated, too long or with foreign characters.
    pub fn parse(text: &str) -> Result<Self, PkiError> {
        if text.trim().starts_with(FIPS_PREFIX) {
            return Err(PkiError::FipsToken);
        }
        let (digest, secret) = text.trim().strip_prefix(PREFIX).and_then(|t| t.split_once('-')).ok_or(PkiError::Token)?;
        if digest.len() != DIGEST_DIGITS || secret.len() != SECRET_DIGITS {
            return Err(PkiError::Token);
        }
        let digest = base36::decode(digest).ok_or(PkiError::Token)?;
        let secret = base36::decode(secret).ok_or(PkiError::Token)?;
        Ok(Self { digest, secret })
    }

    /// Checks that a root certificate got from a stranger is the one this token was made for.
    ///
    /// # Errors
    /// [`PkiError::Fingerprint`], or [`PkiError::Parse`] if it is not exactly one certificate.
    pub fn check_root(&self, root_pem: &str) -> Result<(), PkiError> {
        if root_digest(root_pem)? == self.digest { Ok(()) } else { Err(PkiError::Fingerprint { expected: hex(&self.digest) }) }
    }
}

/// SHA-256 of the one certificate in `root_pem`. More than one is refused, so that nothing unchecked is trusted beside it.
///
/// # Errors
/// [`PkiError::Parse`].
pub fn root_digest(root_pem: &str) -> Result<[u8; 32], PkiError> {
    let certs = certificates(root_pem)?;
    let [cert] = certs.as_slice() else {
        return Err(PkiError::Parse { what: "root certificate", cause: "expected exactly one certificate".into() });
    };
    Ok(Sha256::digest(cert.as_ref()).into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::RootCa;
    use proptest::prelude::*;
    use std::time::SystemTime;

    #[test]
    fn tokens_have_the_known_form_and_know_their_root() {
        let (a, b) = (RootCa::create(SystemTime::now()).unwrap(), RootCa::create(SystemTime::now()).unwrap());
        let t = JoinToken::new(a.cert_pem(), [255; 16]).unwrap();
        let text = t.to_string();
        assert_eq!(text.len(), 9 + 50 + 1 + 25);
        let back = JoinToken::parse(&text).unwrap();
        assert_eq!(back, t);
        back.check_root(a.cert_pem()).unwrap();
        let e = back.check_root(b.cert_pem()).unwrap_err().to_string();
        assert!(e.starts_with("remote CA does not match fingerprint. Expected: "), "{e}");
        assert!(back.check_root(&format!("{}{}", a.cert_pem(), b.cert_pem())).is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let text = JoinToken::new(root.cert_pem(), [7; 16]).unwrap().to_string();
        for n in 0..text.len() {
            assert!(JoinToken::parse(&text[..n]).is_err());
        }
        assert!(JoinToken::parse(&text.to_uppercase()).is_err());
        assert_eq!(JoinToken::parse(&text.replace("-1-", "-2-1-")), Err(PkiError::FipsToken));
        assert!(JoinToken::parse(&text.replace('-', "_")).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(SWMTKN-1-)?[0-9a-z-]{0,90}|.*") {
            let _ = JoinToken::parse(&text);
        }

        #[test]
        fn base36_round_trips(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(base36::decode::<32>(&base36::encode(&bytes, 50)), Some(bytes));
        }
    }
}
