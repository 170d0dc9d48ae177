//! Sending an image: layers that the registry lacks, the configuration, and the manifest's very bytes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use skep_types::host::{Progress, RegistryAuth};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::{Manifest, Session, authorise, tell};
use crate::config::Descriptor;
use crate::error::{ImageError, Result};
use crate::store::ImageStore;
use skep_types::reference::Reference;

/// Bytes of one piece on the wire: registries that store in parts want at least 5 MiB.
const CHUNK: usize = 8 << 20;

impl ImageStore {
    /// Sends an image under its name; the digest of its manifest.
    ///
    /// # Errors
    /// No such image; what the registry refuses.
    pub async fn push(
        self: &Arc<Self>,
        reference: &str,
        auth: &RegistryAuth,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<String> {
        let name = Reference::parse(reference)?.with_default_tag();
        let missing =
            || ImageError::NoSuchImage(format!("An image does not exist locally with the tag: {}", name.familiar_name()));
        let (_, image) = self.image(&name.to_string()).map_err(|_| missing())?;
        tell(progress, "", &format!("The push refers to repository [{}]", name.name()), None).await;
        let session = Session::direct(&self.options, &name, auth);
        authorise(&session).await.map_err(|e| denied(e, &name))?;
        let bytes = self.blobs.read(&image.manifest)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| ImageError::invalid("manifest", e))?;
        for layer in &manifest.layers {
            tell(progress, &layer.digest, "Preparing", None).await;
        }
        for layer in &manifest.layers {
            self.send(&session, layer, Some(progress)).await?;
        }
        self.send(&session, &manifest.config, None).await?;
        let media_type = image.media_type.parse().map_err(|e| ImageError::invalid("media type", e))?;
        let size = bytes.len();
        let sent = session.client.push_manifest_raw(&session.remote, bytes, media_type).await;
        sent.map_err(|e| denied(session.explain("send manifest of", e), &name))?;
        let tag = name.identifier();
        tell(progress, "", &format!("{tag}: digest: {} size: {size}", image.manifest), None).await;
        self.change(|index| {
            if let Some(id) = index.tags.get(&crate::index::full_tag(&name)).cloned() {
                index.digests.insert(format!("{}@{}", name.name(), image.manifest), id);
            }
            Ok(())
        })?;
        Ok(image.manifest)
    }

    async fn send(&self, session: &Session, blob: &Descriptor, progress: Option<&mpsc::Sender<Progress>>) -> Result<()> {
        let exists = session.client.blob_exists(&session.remote, &blob.digest).await;
        if exists.map_err(|e| denied(session.explain("look for blob of", e), &session.name))? {
            if let Some(progress) = progress {
                tell(progress, &blob.digest, "Layer already exists", None).await;
            }
            return Ok(());
        }
        let path = self.blobs.path(&blob.digest)?;
        let file = tokio::fs::File::open(&path).await.map_err(|e| ImageError::io("open blob", &blob.digest, e))?;
        let told = progress.cloned();
        let (digest, total) = (blob.digest.clone(), blob.size);
        let pieces = stream::try_unfold((file, 0u64, told, digest), move |(mut file, sent, told, digest)| async move {
            let mut piece = Vec::new();
            (&mut file).take(CHUNK as u64).read_to_end(&mut piece).await?;
            if piece.is_empty() {
                return Ok(None);
            }
            let sent = sent + piece.len() as u64;
            if let Some(progress) = &told {
                tell(progress, &digest, "Pushing", Some((sent, total))).await;
            }
            Ok::<_, io::Error>(Some((Bytes::from(piece), (file, sent, told, digest))))
        });
        let pieces = futures_util::TryStreamExt::map_err(pieces, oci_client::errors::OciDistributionError::from);
        let sent = session.client.push_blob_stream(&session.remote, pieces, &blob.digest, Some(blob.size)).await;
        sent.map_err(|e| denied(session.explain("send blob of", e), &session.name))?;
        if let Some(progress) = progress {
            tell(progress, &blob.digest, "Pushed", None).await;
        }
        Ok(())
    }
}

/// The same refusal has other words when something is sent.
fn denied(error: ImageError, name: &Reference) -> ImageError {
    match error {
        ImageError::PullDenied(_) => ImageError::PushDenied(name.familiar_name()),
        other => other,
    }
}
