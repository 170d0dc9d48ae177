//! Reading certificates, and making a key with its signing request. Must never trust what it reads: verification of the chain
//! is the TLS layer's work and comes first.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use skep_types::spec::Role;
use skep_types::{ClusterId, NodeId};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::PkiError;

/// Who a certificate says its holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `CN`.
    pub node: NodeId,
    /// `OU`.
    pub role: Role,
    /// `O`.
    pub cluster: ClusterId,
}

pub(crate) const OU_MANAGER: &str = "swarm-manager";
pub(crate) const OU_WORKER: &str = "swarm-worker";

/// Makes a key (ECDSA P-256) and a signing request for it; both PEM. The issuer fills in the subject.
///
/// # Errors
/// [`PkiError::Crypto`].
pub fn key_pair() -> Result<(String, String), PkiError> {
    let crypto = |e: rcgen::Error| PkiError::Crypto { op: "make key and signing request", cause: e.to_string() };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
    let csr = CertificateParams::default().serialize_request(&key).map_err(crypto)?.pem().map_err(crypto)?;
    Ok((key.serialize_pem(), csr))
}

/// A signing request with a key (PEM) that exists already.
///
/// # Errors
/// [`PkiError::Parse`] if it is no key, [`PkiError::Crypto`].
pub fn key_request(key_pem: &str) -> Result<String, PkiError> {
    let crypto = |e: rcgen::Error| PkiError::Crypto { op: "make signing request", cause: e.to_string() };
    let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::Parse { what: "key", cause: e.to_string() })?;
    CertificateParams::default().serialize_request(&key).map_err(crypto)?.pem().map_err(crypto)
}

/// Whether a signing request (PEM) was made with the key of a certificate. The request's own signature is checked, so it proves
/// that the requester has that key.
///
/// # Errors
/// [`PkiError::Parse`].
pub fn same_key(csr_pem: &str, certificate: &[u8]) -> Result<bool, PkiError> {
    use rcgen::PublicKeyData;
    let csr = rcgen::CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(|e| PkiError::Parse { what: "certificate signing request", cause: e.to_string() })?;
    Ok(csr.public_key.subject_public_key_info() == parse(certificate)?.public_key().raw)
}

/// All certificates of a PEM text, in order; at least one.
///
/// # Errors
/// [`PkiError::Parse`].
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let bad = |cause: String| PkiError::Parse { what: "certificates", cause };
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if all.is_empty() { Err(bad("no certificate in the text".into())) } else { Ok(all) }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    X509Certificate::from_der(der).map(|(_, c)| c).map_err(|e| PkiError::Parse { what: "certificate", cause: e.to_string() })
}

/// Who the holder of a certificate is.
///
/// # Errors
/// [`PkiError::Parse`] if it is not a node certificate of a swarm.
pub fn identity(der: &[u8]) -> Result<Identity, PkiError> {
    let cert = parse(der)?;
    let s: &X509Name<'_> = cert.subject();
    let bad = |cause: &str| PkiError::Parse { what: "certificate subject", cause: cause.into() };
    let cn = s.iter_common_name().next().and_then(|a| a.as_str().ok()).ok_or_else(|| bad("no CN"))?;
    let o = s.iter_organization().next().and_then(|a| a.as_str().ok()).ok_or_else(|| bad("no O"))?;
    let ou = s.iter_organizational_unit().next().and_then(|a| a.as_str().ok()).ok_or_else(|| bad("no OU"))?;
    let role = match ou {
        OU_MANAGER => Role::Manager,
        OU_WORKER => Role::Worker,
        _ => return Err(bad("OU is no role of a node")),
    };
    Ok(Identity {
        node: cn.parse().map_err(|_| bad("CN is no node id"))?,
        role,
        cluster: o.parse().map_err(|_| bad("O is no cluster id"))?,
    })
}

/// From when until when a certificate is valid.
///
/// # Errors
/// [`PkiError::Parse`].
pub fn validity(der: &[u8]) -> Result<(SystemTime, SystemTime), PkiError> {
    let cert = parse(der)?;
    let at = |secs: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(secs).unwrap_or(0));
    Ok((at(cert.validity().not_before.timestamp()), at(cert.validity().not_after.timestamp())))
}
