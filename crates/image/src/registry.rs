//! Registries: finding a manifest, fetching and sending blobs. Blob-level calls only; nothing large is held in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth as OciAuth;
use oci_client::{Client, RegistryOperation};
use skep_types::host::{Progress, RegistryAuth};
use tokio::sync::mpsc;

use crate::blobs::Blobs;
use crate::compression::digest_of;
use crate::config::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, Manifest, OCI_INDEX, OCI_MANIFEST, host_architecture};
use crate::error::{ImageError, Result};
use crate::index::short;
use skep_types::reference::Reference;

mod login;
mod pull;
mod push;

/// Manifests and configurations are small; a larger one is an attack.
const MAX_DOCUMENT: usize = 8 << 20;
/// A registry that sends nothing for so long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts for a blob; pauses of 250, 500 and 1000 ms between them ride out a registry's restart of a worker.
const ATTEMPTS: u32 = 4;

/// How registries are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Registries that speak plain HTTP, besides those on the loopback.
    pub insecure: BTreeSet<String>,
    /// Asked before `docker.io`, in order: `host[:port]`, with `http://` before it for plain HTTP.
    pub mirrors: Vec<String>,
}

/// What a registry says of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Digest of the manifest or list.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub size: u64,
    /// (os, architecture).
    pub platforms: Vec<(String, String)>,
}

/// Whether a registry is on this host's loopback, where nobody has certificates.
fn loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// A registry to talk to about one repository.
pub(crate) struct Session {
    client: Client,
    remote: oci_client::Reference,
    auth: OciAuth,
    name: Reference,
}

impl Session {
    /// Sessions in the order in which they should be tried: mirrors, then the registry itself.
    fn all(options: &RegistryOptions, name: &Reference, auth: &RegistryAuth) -> Vec<Self> {
        let mut out = Vec::new();
        if name.registry == "docker.io" {
            for mirror in &options.mirrors {
                let (plain, host) = match mirror.split_once("://") {
                    Some((scheme, host)) => (scheme == "http", host),
                    None => (loopback(mirror), mirror.as_str()),
                };
                out.push(Self::new(host.trim_end_matches('/'), plain, name, &RegistryAuth::default()));
            }
        }
        out.push(Self::direct(options, name, auth));
        out
    }

    fn direct(options: &RegistryOptions, name: &Reference, auth: &RegistryAuth) -> Self {
        let plain = loopback(&name.registry) || options.insecure.contains(&name.registry);
        Self::new(&name.registry, plain, name, auth)
    }

    fn new(registry: &str, plain: bool, name: &Reference, auth: &RegistryAuth) -> Self {
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("skep/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let (registry, repository) = (registry.to_owned(), name.repository.clone());
        let remote = match &name.digest {
            Some(digest) => oci_client::Reference::with_digest(registry, repository, digest.clone()),
            None => oci_client::Reference::with_tag(registry, repository, name.identifier().to_owned()),
        };
        let auth = if auth.username.is_empty() && auth.password.is_empty() {
            OciAuth::Anonymous
        } else {
            OciAuth::Basic(auth.username.clone(), auth.password.clone())
        };
        Self { client: Client::new(config), remote, auth, name: name.clone() }
    }

    /// Bytes, digest and media type of the manifest or list.
    async fn manifest(&self, digest: Option<&str>) -> Result<(Vec<u8>, String, String)> {
        let remote = digest.map_or_else(|| self.remote.clone(), |d| self.remote.clone_with_digest(d.to_owned()));
        let accepted = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
        let pulled = self.client.pull_manifest_raw(&remote, &self.auth, &accepted).await;
        let (bytes, _) = pulled.map_err(|e| self.explain("fetch manifest of", e))?;
        if bytes.len() > MAX_DOCUMENT {
            return Err(ImageError::invalid("manifest", "it is too large"));
        }
        let actual = digest_of(&bytes);
        if let Some(wanted) = digest.or(self.name.digest.as_deref())
            && wanted != actual
        {
            return Err(ImageError::invalid("manifest", format!("content has digest {actual}, not {wanted}")));
        }
        let media_type = media_type(&bytes)?;
        Ok((bytes.to_vec(), actual, media_type))
    }

    /// Fetches a blob into the store, with pauses and new attempts if the registry falters.
    async fn fetch(&self, blobs: &Blobs, blob: &Descriptor, progress: &mpsc::Sender<Progress>) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.fetch_once(blobs, blob, progress).await {
                Err(ImageError::Registry { cause, object, .. }) if attempt < ATTEMPTS => {
                    tracing::debug!(%object, %cause, attempt, "fetching again");
                    tokio::time::sleep(Duration::from_millis(125) * 2u32.pow(attempt)).await;
                }
                other => return other,
            }
        }
    }

    async fn fetch_once(&self, blobs: &Blobs, blob: &Descriptor, progress: &mpsc::Sender<Progress>) -> Result<()> {
        let opened = self.client.pull_blob_stream(&self.remote, blob.digest.as_str()).await;
        let mut stream = opened.map_err(|e| self.explain("fetch blob of", e))?.stream;
        let mut writer = blobs.writer()?;
        // one report for each hundredth: the receiver draws, it does not compute
        let step = (blob.size / 100).max(64 * 1024);
        let mut told = 0;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|e| ImageError::Registry {
                operation: "fetch blob",
                object: blob.digest.clone(),
                cause: e.into(),
            })?;
            writer.write(&chunk)?;
            if writer.size > blob.size {
                return Err(ImageError::invalid("blob", format!("{} is longer than declared", blob.digest)));
            }
            if writer.size >= told + step {
                told = writer.size;
                tell(progress, &blob.digest, "Downloading", Some((writer.size, blob.size))).await;
            }
        }
        if writer.size != blob.size {
            let why = format!("{} ended at {} of {} bytes", blob.digest, writer.size, blob.size);
            return Err(ImageError::Registry { operation: "fetch", object: "blob".to_owned(), cause: why.into() });
        }
        blobs.commit(writer, Some(&blob.digest))?;
        Ok(())
    }

    /// Docker's words for a registry's refusal.
    fn explain(&self, operation: &'static str, error: OciDistributionError) -> ImageError {
        let denied = || ImageError::PullDenied(self.name.familiar_name());
        let unknown = || ImageError::ManifestUnknown(self.name.to_string());
        match &error {
            OciDistributionError::ImageManifestNotFoundError(_) => unknown(),
            OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => denied(),
            OciDistributionError::ServerError { code: 404, .. } => unknown(),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NotFound]) {
                    unknown()
                } else if has(&[OciErrorCode::NameUnknown, OciErrorCode::Denied, OciErrorCode::Unauthorized]) {
                    denied()
                } else {
                    self.other(operation, error)
                }
            }
            _ => self.other(operation, error),
        }
    }

    fn other(&self, operation: &'static str, error: OciDistributionError) -> ImageError {
        ImageError::Registry { operation, object: self.name.to_string(), cause: Box::new(error) }
    }
}

/// The manifest's own word, or what its shape says.
fn media_type(bytes: &[u8]) -> Result<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| ImageError::invalid("manifest", e))?;
    if let Some(named) = value.get("mediaType").and_then(|v| v.as_str()) {
        return Ok(named.to_owned());
    }
    Ok(if value.get("manifests").is_some() { OCI_INDEX } else { OCI_MANIFEST }.to_owned())
}

fn document(bytes: &[u8]) -> Result<Document> {
    serde_json::from_slice(bytes).map_err(|e| ImageError::invalid("manifest", e))
}

/// The manifest of a list that fits this host.
pub(crate) fn pick<'a>(manifests: &'a [Descriptor], name: &str) -> Result<&'a Descriptor> {
    let wanted = host_architecture();
    let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == wanted);
    manifests.iter().find(fits).ok_or_else(|| ImageError::NoPlatform(format!("linux/{wanted} of {name}")))
}

/// Sends a step to whoever draws it; nobody listening is fine.
pub(crate) async fn tell(progress: &mpsc::Sender<Progress>, digest: &str, status: &str, bytes: Option<(u64, u64)>) {
    let id = if digest.starts_with("sha256:") { short(digest) } else { digest.to_owned() };
    let step = Progress { id, status: status.to_owned(), bytes, ..Progress::default() };
    let _ = progress.send(step).await;
}

/// Authorisation for sending comes before any look at the repository, whose token it widens.
async fn authorise(session: &Session) -> Result<()> {
    let done = session.client.auth(&session.remote, &session.auth, RegistryOperation::Push).await;
    done.map(|_| ()).map_err(|e| session.explain("authenticate at registry of", e))
}
