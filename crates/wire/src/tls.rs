//! TLS settings from certificates. They are read anew for each connection, so that a renewed certificate or a new role takes
//! effect without a restart. Must never accept a server it cannot verify, except to fetch a root that is checked afterwards.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use skep_pki::Identity;
use skep_types::Time;
use skep_types::object::TlsInfo;

use crate::{PATIENT_PROTOCOL, WireError};

/// What a node shows of itself and whom it trusts; all PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The swarm's root certificate.
    pub root: String,
    /// This node's certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

pub(crate) struct State {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    identity: Identity,
    info: (TlsInfo, (Time, Time)),
}

/// The TLS settings of this node. Clones share them.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<State>>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({:?})", self.identity())
    }
}

impl Tls {
    /// Settings from certificates.
    ///
    /// # Errors
    /// [`WireError::Pki`] or [`WireError::Tls`] if they do not fit together.
    pub fn new(c: &Credentials) -> Result<Self, WireError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(State::new(c)?))))
    }

    /// Uses other certificates from the next connection on.
    ///
    /// # Errors
    /// As [`Tls::new`]; the settings stay as they were then.
    pub fn replace(&self, c: &Credentials) -> Result<(), WireError> {
        self.0.store(Arc::new(State::new(c)?));
        Ok(())
    }

    /// Who this node is by its certificate.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.load().identity
    }

    /// Whom this node trusts, who issued its certificate, and from when until when that is valid.
    #[must_use]
    pub fn info(&self) -> (TlsInfo, (Time, Time)) {
        self.0.load().info.clone()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.load_full()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn since_epoch(t: SystemTime) -> Duration {
    t.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn tls(e: impl std::fmt::Display) -> WireError {
    WireError::Tls(e.to_string())
}

fn roots(pem: &str) -> Result<Arc<RootCertStore>, WireError> {
    let mut store = RootCertStore::empty();
    for c in skep_pki::certificates(pem)? {
        store.add(c).map_err(tls)?;
    }
    Ok(Arc::new(store))
}

fn client_builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, WireError> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(tls)
}

impl State {
    fn new(c: &Credentials) -> Result<Self, WireError> {
        let chain = skep_pki::certificates(&c.chain)?;
        let key = || PrivateKeyDer::from_pem_slice(c.key.as_bytes()).map_err(tls);
        let identity = skep_pki::identity(&chain[0])?;
        let (from, until) = skep_pki::validity(&chain[0])?;
        let validity = (Time(0).after(since_epoch(from)), Time(0).after(since_epoch(until)));
        let roots = roots(&c.root)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            // A joiner has no certificate yet; what it may call is checked per call.
            .allow_unauthenticated()
            .build()
            .map_err(tls)?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key()?)
            .map_err(tls)?;
        // Of what a client offers, the first of these is taken.
        server.alpn_protocols = vec![PATIENT_PROTOCOL.to_vec(), b"h2".to_vec()];
        let mut client = client_builder()?.with_root_certificates(roots).with_client_auth_cert(chain, key()?).map_err(tls)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        // No resumption: a resumed session would keep the role of an older certificate.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            identity,
            info: (skep_pki::tls_info(&c.root, &c.chain)?, validity),
        })
    }
}

/// Settings of a joiner that trusts `root_pem` and has no certificate.
pub(crate) fn joiner(root_pem: &str) -> Result<Arc<ClientConfig>, WireError> {
    let mut c = client_builder()?.with_root_certificates(roots(root_pem)?).with_no_client_auth();
    c.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(c))
}

/// Settings that accept any server: only to fetch a root certificate whose digest is checked afterwards.
pub(crate) fn unverified() -> Result<Arc<ClientConfig>, WireError> {
    let mut c =
        client_builder()?.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider()))).with_no_client_auth();
    c.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(c))
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
