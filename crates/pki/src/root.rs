//! The root of a swarm: makes itself, signs node certificates. Must never sign a subject that the requester chose.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use skep_types::spec::Role;

use crate::cert::{Identity, OU_MANAGER, OU_WORKER};
use crate::{CA_NAME, PkiError, certificates};

const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Node certificates begin this long ago, for nodes whose clocks are behind.
pub(crate) const BACKDATE: Duration = Duration::from_secs(3600);

/// The root certificate with its key.
pub struct RootCa {
    cert_pem: String,
    key_pem: String,
    /// Goes after each certificate that is issued; may be empty.
    intermediate: String,
}

impl std::fmt::Debug for RootCa {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootCa")
    }
}

fn crypto(op: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |e| PkiError::Crypto { op, cause: e.to_string() }
}

impl RootCa {
    /// A new self-signed root: ECDSA P-256, CN `swarm-ca`, valid for 20 years.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn create(now: SystemTime) -> Result<Self, PkiError> {
        let err = crypto("make root certificate");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&err)?;
        let mut p = CertificateParams::default();
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, CA_NAME);
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        p.not_before = (now - BACKDATE).into();
        p.not_after = (now + ROOT_LIFETIME).into();
        let cert = p.self_signed(&key).map_err(&err)?;
        Ok(Self { cert_pem: cert.pem(), key_pem: key.serialize_pem(), intermediate: String::new() })
    }

    /// A root from its stored parts; both PEM.
    ///
    /// # Errors
    /// [`PkiError::Parse`].
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        certificates(cert_pem)?;
        key(key_pem)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned(), intermediate: String::new() })
    }

    /// The same root, whose certificates go with a cross-signed one (PEM; may be empty).
    #[must_use]
    pub fn with_intermediate(mut self, pem: &str) -> Self {
        pem.clone_into(&mut self.intermediate);
        self
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The key, PEM. For the cluster object only.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Signs a request. Only its public key is taken; the subject is `who`. Returns the certificate with the intermediate one,
    /// if there is one, PEM.
    ///
    /// # Errors
    /// [`PkiError::Parse`] if the request is no request (or not signed by its own key), [`PkiError::Crypto`].
    pub fn issue(&self, csr_pem: &str, who: &Identity, now: SystemTime, lifetime: Duration) -> Result<String, PkiError> {
        let err = crypto("issue certificate");
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| PkiError::Parse { what: "certificate signing request", cause: e.to_string() })?;
        let (ou, is_manager) = match who.role {
            Role::Manager => (OU_MANAGER, true),
            Role::Worker => (OU_WORKER, false),
        };
        let mut p = CertificateParams::default();
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::OrganizationName, who.cluster.to_string());
        p.distinguished_name.push(DnType::OrganizationalUnitName, ou);
        p.distinguished_name.push(DnType::CommonName, who.node.to_string());
        let dns = |name: &str| name.try_into().map(SanType::DnsName).map_err(&err);
        p.subject_alt_names = vec![dns(&who.node.to_string())?];
        if is_manager {
            p.subject_alt_names.push(dns(CA_NAME)?);
        }
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        p.not_before = (now - BACKDATE).into();
        p.not_after = (now + lifetime).into();
        p.use_authority_key_identifier_extension = true;
        csr.params = p;
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, key(&self.key_pem)?).map_err(&err)?;
        let leaf = csr.signed_by(&issuer).map_err(&err)?.pem();
        Ok(if self.intermediate.is_empty() { leaf } else { format!("{}\n{}", leaf.trim_end(), self.intermediate) })
    }
}

/// A root's key, PEM: PKCS #8, or SEC 1 for a key on the curve P-256, as `openssl ecparam -genkey` writes it.
pub(crate) fn key(pem: &str) -> Result<KeyPair, PkiError> {
    let bad = |cause: String| PkiError::Parse { what: "root key", cause };
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let wrapped = match &der {
        PrivateKeyDer::Sec1(sec1) => {
            PrivateKeyDer::Pkcs8(pkcs8_of_p256(sec1.secret_sec1_der()).ok_or_else(|| bad("too long".into()))?.into())
        }
        _ => der,
    };
    KeyPair::try_from(&wrapped).map_err(|e| bad(e.to_string()))
}

/// PKCS #8 around a SEC 1 key of P-256 (RFC 5958, RFC 5915).
fn pkcs8_of_p256(sec1: &[u8]) -> Option<Vec<u8>> {
    // INTEGER 0; SEQUENCE { id-ecPublicKey, prime256v1 }
    const HEAD: [u8; 24] = [
        0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
        0x3d, 0x03, 0x01, 0x07,
    ];
    let tagged = |tag: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).ok()?;
        let mut out = vec![tag];
        match length {
            0..=127 => out.push(length as u8),
            128..=255 => out.extend([0x81, length as u8]),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend_from_slice(body);
        Some(out)
    };
    tagged(0x30, &[HEAD.as_slice(), &tagged(0x04, sec1)?].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{identity, key_pair, validity};
    use skep_types::{ClusterId, NodeId};

    const DAYS_90: Duration = Duration::from_secs(90 * 86_400);

    #[test]
    fn an_issued_certificate_says_who_it_is_for_and_verifies() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let root = RootCa::load(root.cert_pem(), root.key_pem()).unwrap();
        for role in [Role::Manager, Role::Worker] {
            let (_, csr) = key_pair().unwrap();
            let who = Identity { node: NodeId(u128::MAX - 42), role, cluster: ClusterId(7) };
            let pem = root.issue(&csr, &who, now, DAYS_90).unwrap();
            let chain = certificates(&pem).unwrap();
            assert_eq!(identity(&chain[0]).unwrap(), who);
            let (from, to) = validity(&chain[0]).unwrap();
            assert!(from < now && to > now + DAYS_90 - Duration::from_secs(2));
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificates(root.cert_pem()).unwrap().remove(0)).unwrap();
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let v = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            use rustls::client::danger::ServerCertVerifier;
            let check = |name: &str| {
                let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
                v.verify_server_cert(&chain[0], &[], &name, &[], rustls_pki_types::UnixTime::now()).is_ok()
            };
            assert!(check(&NodeId(u128::MAX - 42).to_string()));
            assert!(!check(&NodeId(u128::MAX - 43).to_string()));
            assert_eq!(check(CA_NAME), role == Role::Manager);
        }
    }

    #[test]
    fn what_is_no_request_or_certificate_is_refused() {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let who = Identity { node: NodeId(1), role: Role::Worker, cluster: ClusterId(1) };
        assert!(root.issue("nonsense", &who, SystemTime::now(), DAYS_90).is_err());
        assert!(identity(b"nonsense").is_err());
        assert!(identity(&certificates(root.cert_pem()).unwrap()[0]).is_err());
    }
}
