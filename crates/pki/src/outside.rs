//! Roots that operators bring, and the change from one root to another by cross-signing (`swarm-semantics` 6.6). Must never take
//! a root that could not issue, or that some node would not accept.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyUsagePurpose, PublicKeyData,
};
use skep_types::spec::Role;
use skep_types::{ClusterId, NodeId};
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::X509Name;

use crate::cert::parse;
use crate::root::{BACKDATE, key};
use crate::{Identity, PkiError, RootCa, certificates, key_pair, validity, verify_node};

/// A root must be valid for this long.
const MIN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

fn refuse(text: impl std::fmt::Display) -> PkiError {
    PkiError::Root(text.to_string())
}

impl RootCa {
    /// A root that an operator brings, after checking that it can be one: one certificate of a CA that is valid for a year at
    /// least, with its own key, and that issues certificates which can be verified.
    ///
    /// # Errors
    /// [`PkiError::Root`] with Docker's text where it has one, [`PkiError::Parse`].
    pub fn outside(cert_pem: &str, key_pem: &str, now: SystemTime) -> Result<Self, PkiError> {
        if cert_pem.trim().is_empty() {
            return Err(refuse("if a signing CA key is provided, the signing CA cert must also be provided"));
        }
        let all = certificates(cert_pem)?;
        let [der] = all.as_slice() else {
            return Err(refuse("the desired CA certificate cannot contain multiple certificates"));
        };
        if key_pem.trim().is_empty() {
            return Err(refuse(
                "there must be at least one valid, reachable external CA corresponding to the desired CA certificate",
            ));
        }
        let (_, until) = validity(der)?;
        if until < now + MIN_LIFETIME {
            return Err(refuse("CA certificate expires too soon"));
        }
        let cert = parse(der)?;
        if !cert.is_ca() {
            return Err(refuse("the desired CA certificate is not one of a CA (basicConstraints CA:TRUE is missing)"));
        }
        if key(key_pem)?.subject_public_key_info() != cert.public_key().raw {
            return Err(refuse("certificate key mismatch: the key does not belong to the CA certificate"));
        }
        let root = Self::load(cert_pem, key_pem)?;
        // Whatever else could be wrong with it shows in the first certificate that it issues.
        let who = Identity { node: NodeId(1), role: Role::Manager, cluster: ClusterId(1) };
        let trial = root.issue(&key_pair()?.1, &who, now, BACKDATE)?;
        verify_node(cert_pem, &trial, now).map_err(|e| refuse(format!("the desired CA certificate cannot be used: {e}")))?;
        Ok(root)
    }

    /// Signs another root's name and key with this root, so that who trusts this one accepts what that one issues. Returns the
    /// certificate, PEM.
    ///
    /// # Errors
    /// [`PkiError::Root`] if both have one key, or the name cannot be copied; [`PkiError::Crypto`].
    pub fn cross_sign(&self, new: &Self, now: SystemTime) -> Result<String, PkiError> {
        let err = |e: rcgen::Error| PkiError::Crypto { op: "cross-sign root certificate", cause: e.to_string() };
        let (old_der, new_der) = (certificates(self.cert_pem())?.remove(0), certificates(new.cert_pem())?.remove(0));
        let (old_cert, new_cert) = (parse(&old_der)?, parse(&new_der)?);
        if old_cert.public_key().raw == new_cert.public_key().raw {
            return Err(refuse("Cannot update to a cert with an identical key"));
        }
        let mut p = CertificateParams::default();
        p.distinguished_name = name(new_cert.subject())?;
        // A CA whose length of path is written wider than any chain of ours.
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        p.not_before = (now - BACKDATE).into();
        p.not_after = validity(&old_der)?.1.min(validity(&new_der)?.1).into();
        let issuer = Issuer::from_ca_cert_pem(self.cert_pem(), key(self.key_pem())?).map_err(err)?;
        let signed = p.signed_by(&key(new.key_pem())?, &issuer).map_err(err)?;
        if parse(signed.der())?.subject().as_raw() != new_cert.subject().as_raw() {
            return Err(refuse("the subject of the desired CA certificate cannot be copied; make one with a plain CN"));
        }
        Ok(signed.pem())
    }
}

/// The same name for a certificate to be made.
fn name(from: &X509Name<'_>) -> Result<DistinguishedName, PkiError> {
    let odd = || refuse("the subject of the desired CA certificate has parts that cannot be copied; make one with a plain CN");
    let mut out = DistinguishedName::new();
    for attribute in from.iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().ok_or_else(odd)?.collect();
        let text = attribute.as_str().map_err(|_| odd())?;
        let value = match attribute.attr_value().header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(|_| odd())?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(|_| odd())?),
            _ => return Err(odd()),
        };
        out.push(DnType::CustomDnType(oid), value);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{desired_info, tls_info};

    const DAY: Duration = Duration::from_secs(86_400);

    fn who() -> Identity {
        Identity { node: NodeId(5), role: Role::Worker, cluster: ClusterId(7) }
    }

    fn issue(root: &RootCa) -> String {
        root.issue(&key_pair().unwrap().1, &who(), SystemTime::now(), DAY).unwrap()
    }

    #[test]
    fn who_trusts_the_old_root_accepts_what_the_new_one_issues() {
        let now = SystemTime::now();
        let (old, new) = (RootCa::create(now).unwrap(), RootCa::create(now).unwrap());
        let cross = old.cross_sign(&new, now).unwrap();
        let plain = issue(&new);
        let chain = issue(&RootCa::load(new.cert_pem(), new.key_pem()).unwrap().with_intermediate(&cross));
        assert_eq!(certificates(&chain).unwrap().len(), 2);
        verify_node(old.cert_pem(), &chain, now).unwrap();
        verify_node(new.cert_pem(), &chain, now).unwrap();
        verify_node(new.cert_pem(), &plain, now).unwrap();
        assert!(verify_node(old.cert_pem(), &plain, now).is_err());
        assert!(verify_node(old.cert_pem(), &chain, now + DAY * 2).is_err(), "expired");
        // What nodes report tells old from new, also where both roots have one name.
        let (a, b) = (tls_info(old.cert_pem(), &issue(&old)).unwrap(), tls_info(old.cert_pem(), &chain).unwrap());
        assert_ne!(a.issuer_public_key, b.issuer_public_key);
        assert_eq!(b, desired_info(old.cert_pem(), new.cert_pem()).unwrap());
        assert_eq!(tls_info(new.cert_pem(), &plain).unwrap(), tls_info(new.cert_pem(), &chain).unwrap());
        let e = old.cross_sign(&old, now).unwrap_err().to_string();
        assert_eq!(e, "Cannot update to a cert with an identical key");
    }

    /// Roots as `openssl` makes them.
    fn openssl(key: &[&str], extra: &[&str], subject: &str) -> Option<(String, String)> {
        let dir = tempfile::TempDir::new().unwrap();
        let (k, c) = (dir.path().join("k"), dir.path().join("c"));
        let run = |args: &[&str]| {
            let done = std::process::Command::new("openssl").args(args).current_dir(dir.path()).output().ok()?;
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(())
        };
        run(key)?;
        run(&[&["req", "-x509", "-new", "-key", "k", "-out", "c", "-subj", subject], extra].concat())?;
        Some((std::fs::read_to_string(c).unwrap(), std::fs::read_to_string(k).unwrap()))
    }

    #[test]
    fn an_operators_root_of_each_usual_kind_works() {
        let now = SystemTime::now();
        let own = RootCa::create(now).unwrap();
        let ec = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "k"];
        let pk8 = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "k"];
        let rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "k"];
        let days = ["-days", "3650"];
        for (kind, subject) in
            [(&ec[..], "/C=DE/O=Firm/OU=One/OU=Two/CN=Firm CA"), (&pk8[..], "/CN=root"), (&rsa[..], "/CN=root")]
        {
            let Some((cert, key)) = openssl(kind, &days, subject) else { return };
            let root = match RootCa::outside(&cert, &key, now) {
                Ok(root) => root,
                // Two attributes of one kind are lost on the way, which the trial finds.
                Err(PkiError::Root(e)) if subject.contains("Two") => {
                    assert!(e.contains("cannot be used"), "{e}");
                    let (cert, key) = openssl(kind, &days, "/C=DE/O=Firm/CN=Firm CA").unwrap();
                    RootCa::outside(&cert, &key, now).unwrap()
                }
                Err(e) => panic!("{kind:?}: {e}"),
            };
            let cross = own.cross_sign(&root, now).unwrap();
            let chain = issue(&RootCa::load(root.cert_pem(), root.key_pem()).unwrap().with_intermediate(&cross));
            verify_node(own.cert_pem(), &chain, now).unwrap();
            verify_node(root.cert_pem(), &chain, now).unwrap();
            // And away from it again.
            let back = root.cross_sign(&own, now).unwrap();
            let chain = issue(&RootCa::load(own.cert_pem(), own.key_pem()).unwrap().with_intermediate(&back));
            verify_node(root.cert_pem(), &chain, now).unwrap();
        }
    }

    #[test]
    fn roots_that_cannot_be_are_refused_with_the_known_texts() {
        let now = SystemTime::now();
        let (a, b) = (RootCa::create(now).unwrap(), RootCa::create(now).unwrap());
        let text = |cert: &str, key: &str| RootCa::outside(cert, key, now).unwrap_err().to_string();
        assert_eq!(
            text(&format!("{}{}", a.cert_pem(), b.cert_pem()), a.key_pem()),
            "the desired CA certificate cannot contain multiple certificates"
        );
        assert!(text(a.cert_pem(), b.key_pem()).starts_with("certificate key mismatch"));
        assert_eq!(text("", a.key_pem()), "if a signing CA key is provided, the signing CA cert must also be provided");
        assert!(text(a.cert_pem(), "").starts_with("there must be at least one valid, reachable external CA"));
        assert!(text("nonsense", a.key_pem()).starts_with("read certificates"));
        assert!(text(a.cert_pem(), "nonsense").starts_with("read root key"));
        let later = now + Duration::from_secs(19 * 365 * 86_400 + 10 * 86_400);
        assert_eq!(
            RootCa::outside(a.cert_pem(), a.key_pem(), later).unwrap_err().to_string(),
            "CA certificate expires too soon"
        );
        let (key, csr) = key_pair().unwrap();
        let leaf = a.issue(&csr, &who(), now, DAY * 4000).unwrap();
        assert!(text(&leaf, &key).contains("is not one of a CA"));
    }

    #[test]
    fn an_expired_node_proves_its_key() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let (key, csr) = key_pair().unwrap();
        let chain = root.issue(&csr, &who(), now - DAY * 3, DAY).unwrap();
        let leaf = certificates(&chain).unwrap().remove(0);
        assert!(verify_node(root.cert_pem(), &chain, now).is_err());
        let until = validity(&leaf).unwrap().1;
        verify_node(root.cert_pem(), &chain, until - Duration::from_secs(1)).unwrap();
        assert!(crate::same_key(&crate::key_request(&key).unwrap(), &leaf).unwrap());
        assert!(!crate::same_key(&key_pair().unwrap().1, &leaf).unwrap());
        assert!(crate::same_key("nonsense", &leaf).is_err());
    }
}
