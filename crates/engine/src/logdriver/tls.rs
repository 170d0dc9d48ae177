//! TLS to a server of logs (syslog by RFC 5425, Splunk, CloudWatch, fluentd) or a plugin: the server's certificate is checked against the host's authorities and one of the user's, unless the
//! user says that it need not be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where distributions keep the authorities that the host trusts; the first that there is.
const AUTHORITIES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How a server is known, and what it knows this host by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tls {
    /// File of an authority besides the host's.
    pub(crate) ca: Option<PathBuf>,
    /// Files of a certificate and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
    /// Any certificate will do.
    pub(crate) skip_verify: bool,
    /// Name that its certificate has, if it is not the one in its address.
    pub(crate) name: Option<String>,
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let fail = |e: &dyn std::fmt::Display| io::Error::other(format!("read the certificates in {}: {e}", path.display()));
    let found = CertificateDer::pem_file_iter(path).map_err(|e| fail(&e))?;
    found.collect::<Result<Vec<_>, _>>().map_err(|e| fail(&e))
}

fn roots(tls: &Tls) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(host) = AUTHORITIES.iter().find(|p| Path::new(p).exists()) {
        // Odd ones among the host's are no reason not to trust the others.
        roots.add_parsable_certificates(certificates(Path::new(host)).unwrap_or_default());
    }
    for ca in tls.ca.iter().map(|p| certificates(p)).collect::<io::Result<Vec<_>>>()?.concat() {
        roots.add(ca).map_err(io::Error::other)?;
    }
    Ok(roots)
}

fn config(tls: &Tls) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    match &tls.own {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let fail = |e| io::Error::other(format!("read the key in {}: {e}", key.display()));
            let key = PrivateKeyDer::from_pem_file(key).map_err(fail)?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(io::Error::other)
        }
    }
}

/// Speaks TLS on a connection to `host:port`.
pub(crate) async fn connect(tls: &Tls, address: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(tls.name.as_deref().unwrap_or(host).to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config(tls)?)).connect(name, stream).await
}

/// Takes any certificate of a server that has its key.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::About;
    use super::super::wire::{Target, Wire};
    use super::*;

    #[tokio::test]
    async fn a_server_is_known_by_its_certificate() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let ca = std::env::temp_dir().join(format!("skep-tls-{}.pem", std::process::id()));
        std::fs::write(&ca, made.cert.pem()).expect("written");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = format!("localhost:{}", listener.local_addr().expect("address").port());
        let (heard, mut hear) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that is not trusted breaks off.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut bytes = vec![0; 100];
                let n = stream.read(&mut bytes).await.unwrap_or(0);
                let _ = heard.send(bytes[..n].to_vec()).await;
            }
        });
        let unknown =
            Wire::connect(&Target::Tls(address.clone(), Tls::default()), &About::default()).await.expect_err("nobody knows it");
        assert!(unknown.to_string().contains("dial tcp localhost:"), "{unknown}");
        let known = Tls { ca: Some(ca.clone()), ..Tls::default() };
        let any = Tls { skip_verify: true, ..Tls::default() };
        for tls in [known, any] {
            let mut wire = Wire::connect(&Target::Tls(address.clone(), tls), &About::default()).await.expect("known");
            assert!(wire.send(&[b"hello".to_vec()]).await.1.is_ok());
            assert_eq!(hear.recv().await.expect("heard"), b"hello");
        }
        std::fs::remove_file(&ca).expect("removed");
    }
}
