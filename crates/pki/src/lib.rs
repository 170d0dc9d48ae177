//! Certificates and join tokens of a swarm.
//!
//! Root certificate and its change, node certificates from signing requests, join tokens, the form in which keys lie on disk, and
//! reading who a peer is from its certificate. Time and random numbers of tokens and seals are passed in. This crate must never
//! touch a disk nor decide who may have a certificate.

#![deny(unsafe_code)]

mod backup;
mod base36;
mod cert;
mod chain;
mod keyfile;
mod life;
mod outside;
mod root;
mod token;
mod unlock;

pub use backup::{BackupError, BackupHead, read_backup, write_backup};
pub use cert::{Identity, certificates, identity, key_pair, key_request, same_key, validity};
pub use chain::{desired_info, tls_info, verify_node};
pub use keyfile::{DataKey, KeyFile, KeyFileError};
pub use life::{renew_at, renew_pause};
pub use root::RootCa;
pub use token::{JoinToken, root_digest};
pub use unlock::UnlockKey;

/// DNS name that every manager's certificate carries, so that a joiner can check that it talks to the swarm's CA.
pub const CA_NAME: &str = "swarm-ca";

/// Why a certificate, request, key or token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Key generation or signing failed.
    #[error("{op}: {cause}")]
    Crypto {
        /// What was attempted.
        op: &'static str,
        /// Cause.
        cause: String,
    },
    /// Bytes from outside are not what they should be.
    #[error("read {what}: {cause}")]
    Parse {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The text is not a join token.
    #[error("invalid join token")]
    Token,
    /// The token of a swarm in FIPS mode.
    #[error("a FIPS join token (SWMTKN-2-…) cannot be used: Skep has no FIPS mode; take a token of a swarm without it")]
    FipsToken,
    /// The text is not an unlock key.
    #[error("invalid key string")]
    UnlockKey,
    /// A root certificate of the operator's own cannot be used.
    #[error("{0}")]
    Root(String),
    /// A certificate was not issued by the swarm's root.
    #[error("the certificate was not issued by this swarm: {0}")]
    Untrusted(String),
    /// The root certificate is not the one the token was made for.
    #[error("remote CA does not match fingerprint. Expected: {expected}")]
    Fingerprint {
        /// Digest in the token, hexadecimal.
        expected: String,
    },
}
