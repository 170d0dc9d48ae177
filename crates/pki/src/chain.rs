//! Chains: who issued a certificate, and whether a chain leads to a root. Must never hold anything for true that is not signed.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::UnixTime;
use skep_types::object::TlsInfo;

use crate::cert::parse;
use crate::{PkiError, certificates};

/// What a node with this chain (PEM) trusts and who issued its certificate: the intermediate certificate if it has one, else
/// the root.
///
/// # Errors
/// [`PkiError::Parse`].
pub fn tls_info(root_pem: &str, chain_pem: &str) -> Result<TlsInfo, PkiError> {
    let (roots, chain) = (certificates(root_pem)?, certificates(chain_pem)?);
    issuer_info(root_pem, chain.get(1).unwrap_or(&roots[0]))
}

/// What nodes trust a root (PEM) and have certificates of an issuer (PEM).
///
/// # Errors
/// [`PkiError::Parse`].
pub fn desired_info(root_pem: &str, issuer_pem: &str) -> Result<TlsInfo, PkiError> {
    issuer_info(root_pem, &certificates(issuer_pem)?[0])
}

fn issuer_info(root_pem: &str, issuer: &[u8]) -> Result<TlsInfo, PkiError> {
    let issuer = parse(issuer)?;
    Ok(TlsInfo {
        trust_root: root_pem.to_owned(),
        issuer_subject: STANDARD.encode(issuer.subject().as_raw()),
        issuer_public_key: STANDARD.encode(issuer.public_key().raw),
    })
}

/// Checks that a node's chain (PEM) was issued under a root (PEM), at a time when it was valid.
///
/// # Errors
/// [`PkiError::Untrusted`], [`PkiError::Parse`].
pub fn verify_node(root_pem: &str, chain_pem: &str, at: SystemTime) -> Result<(), PkiError> {
    let no = |e: &dyn std::fmt::Display| PkiError::Untrusted(e.to_string());
    let mut roots = RootCertStore::empty();
    for c in certificates(root_pem)? {
        roots.add(c).map_err(|e| no(&e))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().map_err(|e| no(&e))?;
    let chain = certificates(chain_pem)?;
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_client_cert(&chain[0], &chain[1..], at).map(|_| ()).map_err(|e| no(&e))
}
