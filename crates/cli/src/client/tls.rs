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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::client::{Client, Endpoint};

    /// A daemon that answers one ping over TLS and asks for the client's certificate; its address.
    async fn daemon(config: rustls::ServerConfig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut asked = [0u8; 512];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK").await;
            let _ = stream.shutdown().await;
        });
        format!("tcp://{address}")
    }

    #[tokio::test]
    async fn the_daemon_is_checked_and_the_client_shows_itself() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let issued = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            (cert, key)
        };
        let (server, server_key) = issued("127.0.0.1");
        let (client, client_key) = issued("client");
        let (ca_file, cert_file, key_file) =
            (write("ca.pem", ca.pem()), write("cert.pem", client.pem()), write("key.pem", client_key.serialize_pem()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = || {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let asks = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_client_cert_verifier(asks.build().unwrap())
                .with_single_cert(vec![server.der().clone()], PrivateKeyDer::try_from(server_key.serialize_der()).unwrap())
                .unwrap()
        };
        let ping =
            async |tls: Tls, host: String| Client::new(Endpoint::parse(&host, Some(tls)).unwrap(), Vec::new()).ping().await;
        let both = Tls::load(true, Some(&ca_file), Some(&cert_file), Some(&key_file)).unwrap();
        assert_eq!(ping(both, daemon(config()).await).await.unwrap(), "1.41");
        let unchecked = Tls::load(false, None, Some(&cert_file), Some(&key_file)).unwrap();
        assert_eq!(ping(unchecked, daemon(config()).await).await.unwrap(), "1.41");
        let stranger = Tls::load(true, Some(&cert_file), Some(&cert_file), Some(&key_file)).unwrap();
        assert!(ping(stranger, daemon(config()).await).await.is_err(), "a daemon of another CA is not trusted");
        let nobody = Tls::load(true, Some(&ca_file), None, None).unwrap();
        assert!(ping(nobody, daemon(config()).await).await.is_err(), "the daemon wants a certificate");
        assert!(Tls::load(true, None, None, None).unwrap_err().contains("--tlscacert"));
        assert!(Tls::load(true, Some(&key_file), None, None).unwrap_err().contains("it holds none"));
    }
}
