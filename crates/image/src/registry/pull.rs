//! Fetching an image: manifest, configuration, layers; unpacked as they come in order.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use skep_types::host::{ImageInfo, Progress, RegistryAuth};
use tokio::sync::mpsc;

use super::{Document, MAX_DOCUMENT, Manifest, Remote, Session, document, pick, tell};
use crate::config::Descriptor;
use crate::error::{ImageError, Result};
use crate::store::ImageStore;
use skep_types::reference::Reference;

/// Layers fetched at the same time, as in Docker: more gain nothing on one line.
const PARALLEL: usize = 3;
/// Layers of one image: overlay mounts take at most 500.
const MAX_LAYERS: usize = 500;

/// A manifest that fits this host.
struct Resolved {
    session: Session,
    bytes: Vec<u8>,
    digest: String,
    media_type: String,
    /// Digest under which the reference is known: the list's, if there is one.
    top: String,
}

impl ImageStore {
    /// Fetches an image for this host's platform and names it.
    ///
    /// # Errors
    /// Docker's texts for what the registry refuses; content that is not what was declared.
    pub async fn pull(
        self: &Arc<Self>,
        reference: &str,
        auth: &RegistryAuth,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<ImageInfo> {
        let name = Reference::parse(reference)?.with_default_tag();
        let _arriving = self.arriving.clone().read_owned().await;
        let resolved = self.resolve(&name, auth).await?;
        tell(progress, name.identifier(), &format!("Pulling from {}", name.repository), None).await;
        let manifest: Manifest = serde_json::from_slice(&resolved.bytes).map_err(|e| ImageError::invalid("manifest", e))?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(ImageError::invalid("manifest", "too many layers"));
        }
        let id = manifest.config.digest.clone();
        let known = self.get(&id).is_ok();
        self.fetch_image(&resolved.session, &manifest, progress).await?;
        self.blobs.put(&resolved.bytes)?;
        self.adopt(&manifest, &resolved.digest, &resolved.media_type, std::slice::from_ref(&name), Some(&resolved.top))?;
        tell(progress, "", &format!("Digest: {}", resolved.top), None).await;
        let outcome = if known { "Image is up to date for" } else { "Downloaded newer image for" };
        tell(progress, "", &format!("Status: {outcome} {name}"), None).await;
        self.get(&id)
    }

    async fn resolve(&self, name: &Reference, auth: &RegistryAuth) -> Result<Resolved> {
        let mut last = None;
        for session in Session::all(&self.options, name, auth) {
            match Self::resolve_at(session, name).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ImageError::ManifestUnknown(name.to_string())))
    }

    async fn resolve_at(session: Session, name: &Reference) -> Result<Resolved> {
        let (bytes, top, media_type) = session.manifest(None).await?;
        match document(&bytes)? {
            Document::Manifest(_) => Ok(Resolved { session, bytes, digest: top.clone(), media_type, top }),
            Document::Index(index) => {
                let entry = pick(&index.manifests, &name.to_string())?;
                let (bytes, digest, media_type) = session.manifest(Some(&entry.digest)).await?;
                Ok(Resolved { session, bytes, digest, media_type, top })
            }
        }
    }

    async fn fetch_image(
        self: &Arc<Self>,
        session: &Session,
        manifest: &Manifest,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<()> {
        if manifest.config.size > MAX_DOCUMENT as u64 {
            return Err(ImageError::invalid("configuration", "it is too large"));
        }
        if !self.blobs.has(&manifest.config.digest) {
            // nobody draws the configuration
            let (quiet, _closed) = mpsc::channel(1);
            drop(_closed);
            session.fetch(&self.blobs, &manifest.config, &quiet).await?;
        }
        let config = self.config(&manifest.config.digest)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::invalid("image", "its configuration and manifest name different layers"));
        }
        for layer in &manifest.layers {
            tell(progress, &layer.digest, "Pulling fs layer", None).await;
        }
        // Boxed in a loop: a closure over borrowed pairs would keep the whole call from being `Send`.
        let mut work = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            work.push(self.fetch_layer(session, layer, diff_id, progress).boxed());
        }
        // in order, so that the lowest layers are unpacked while the upper ones still come
        stream::iter(work).buffered(PARALLEL).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn fetch_layer(
        self: &Arc<Self>,
        session: &Session,
        layer: &Descriptor,
        diff_id: &str,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<()> {
        if self.blobs.has(&layer.digest) && self.layers.has(diff_id) {
            tell(progress, &layer.digest, "Already exists", None).await;
            return Ok(());
        }
        if !self.blobs.has(&layer.digest) {
            session.fetch(&self.blobs, layer, progress).await?;
        }
        tell(progress, &layer.digest, "Download complete", None).await;
        tell(progress, &layer.digest, "Extracting", Some((layer.size, layer.size))).await;
        let (store, blob, expected) = (self.clone(), layer.digest.clone(), diff_id.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || store.layers.add(&store.blobs, &blob, Some(&expected))).await;
        unpacked.map_err(|e| ImageError::io("unpack layer", &layer.digest, std::io::Error::other(e)))??;
        tell(progress, &layer.digest, "Pull complete", None).await;
        Ok(())
    }

    /// What a registry says of a reference now.
    ///
    /// # Errors
    /// Docker's texts for what the registry refuses.
    pub async fn remote(&self, reference: &str, auth: &RegistryAuth) -> Result<Remote> {
        let name = Reference::parse(reference)?.with_default_tag();
        let mut last = None;
        for session in Session::all(&self.options, &name, auth) {
            match session.manifest(None).await {
                Ok((bytes, digest, media_type)) => {
                    let platforms = self.platforms(&session, &bytes).await?;
                    return Ok(Remote { digest, media_type, size: bytes.len() as u64, platforms });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ImageError::ManifestUnknown(name.to_string())))
    }

    /// Digest of the manifest (or list) that a reference names at its registry now.
    ///
    /// # Errors
    /// As for [`ImageStore::remote`].
    pub async fn resolve_digest(&self, reference: &str, auth: &RegistryAuth) -> Result<String> {
        Ok(self.remote(reference, auth).await?.digest)
    }

    async fn platforms(&self, session: &Session, bytes: &[u8]) -> Result<Vec<(String, String)>> {
        match document(bytes)? {
            Document::Index(index) => {
                let known = index.manifests.into_iter().filter_map(|d| d.platform);
                Ok(known.filter(|p| p.os != "unknown").map(|p| (p.os, p.architecture)).collect())
            }
            Document::Manifest(manifest) => {
                if manifest.config.size > MAX_DOCUMENT as u64 {
                    return Err(ImageError::invalid("configuration", "it is too large"));
                }
                let _arriving = self.arriving.clone().read_owned().await;
                let (quiet, closed) = mpsc::channel(1);
                drop(closed);
                session.fetch(&self.blobs, &manifest.config, &quiet).await?;
                let config = self.config(&manifest.config.digest)?;
                Ok(vec![(config.os, config.architecture)])
            }
        }
    }
}
