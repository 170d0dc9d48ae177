//! TLS as Docker's clients do it: the daemon's certificate is checked against a CA of one's own, and a certificate of the client
//! goes with it. `--tls` alone encrypts without checking whom one talks to.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::connect::Io;

/// How to speak TLS with a daemon.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files; those that may be absent are given only if they are there. With `verify` the daemon's certificate must
    /// come from `ca`.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub fn load(verify: bool, ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("set up TLS: {e}"))?;
        let builder = if verify {
            let path = ca.ok_or("--tlsverify needs the CA's certificate: give --tlscacert, or DOCKER_CERT_PATH with ca.pem")?;
            let mut roots = RootCertStore::empty();
            for one in certificates(path)? {
                roots.add(one).map_err(|e| format!("could not read CA certificate {:?}: {e}", path.display()))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        };
        let config = match (cert, key) {
            (Some(cert), Some(key)) => {
                let own = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| format!("could not read X509 key pair: key {:?}: {e}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, own)
                    .map_err(|e| format!("could not use the client's certificate {:?}: {e}", cert.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config) })
    }

    /// Starts TLS on a connection.
    pub(super) async fn wrap(&self, address: &str, stream: TcpStream) -> std::io::Result<Box<dyn Io>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| std::io::Error::other(format!("name {host}: {e}")))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |e: rustls::pki_types::pem::Error| format!("could not read certificate {:?}: {e}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?;
    if all.is_empty() { Err(format!("could not read certificate {:?}: it holds none", path.display())) } else { Ok(all) }
}

/// Whoever answers is taken for the daemon: what `--tls` without `--tlsverify` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
