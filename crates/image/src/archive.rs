//! `docker load` and `docker save`: archives of images, in Docker's form and as OCI layout.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Component, Path};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_types::host::Progress;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedRwLockReadGuard, mpsc};

use crate::compression::{decompressed, is_gzip};
use crate::config::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor, Document, ImageConfig, Index, Manifest,
    OCI_MANIFEST,
};
use crate::error::{ImageError, Result};
use crate::layers::read_bounded;
use crate::registry::pick;
use crate::store::ImageStore;
use skep_types::reference::Reference;

/// Entries of an archive: some per layer of some hundred images.
const MAX_ENTRIES: usize = 1_000_000;
/// Documents inside.
const MAX_DOCUMENT: u64 = 64 << 20;

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What an archive holds: digest and size by path.
struct Contents(BTreeMap<String, (String, u64)>);

impl Contents {
    fn get(&self, path: &str) -> Result<&(String, u64)> {
        let missing = || ImageError::invalid("archive", format!("{path} is missing"));
        self.0.get(&normal(Path::new(path)).unwrap_or_default()).ok_or_else(missing)
    }
}

/// Reads an asynchronous stream on a thread that may block.
pub(crate) struct Blocking {
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) inner: Pin<Box<dyn AsyncRead + Send>>,
}

impl Read for Blocking {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.runtime.block_on(self.inner.read(buf))
    }
}

impl ImageStore {
    /// Reads images from a stream that `docker save` wrote, or an OCI layout; compressed or not. Returns their names or ids.
    ///
    /// # Errors
    /// The archive is not of these forms, or its content is not what it declares.
    pub async fn load(
        self: &Arc<Self>,
        archive: Pin<Box<dyn AsyncRead + Send>>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Vec<String>> {
        let (store, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let loaded = tokio::task::spawn_blocking(move || store.load_from(Blocking { runtime, inner: archive })).await;
        let names = loaded.map_err(|e| ImageError::io("load", "archive", io::Error::other(e)))??;
        for name in &names {
            let what = if name.starts_with("sha256:") { "Loaded image ID: " } else { "Loaded image: " };
            let step = Progress { stream: Some(format!("{what}{name}\n")), ..Progress::default() };
            // nobody listening is fine
            let _ = progress.send(step).await;
        }
        Ok(names)
    }

    /// The same from a blocking reader.
    ///
    /// # Errors
    /// As for [`ImageStore::load`].
    pub fn load_from(&self, archive: impl Read + Send) -> Result<Vec<String>> {
        // held until all is named, so that nothing of it is swept
        let _arriving = self.keep();
        let contents = self.spool(archive)?;
        let mut names = Vec::new();
        if contents.0.contains_key("manifest.json") {
            let saved: Vec<Saved> = self.parse(&contents, "manifest.json")?;
            for entry in &saved {
                self.load_saved(&contents, entry, &mut names)?;
            }
        } else if contents.0.contains_key("index.json") {
            let index: Index = self.parse(&contents, "index.json")?;
            for entry in &index.manifests {
                self.load_oci(entry, &mut names)?;
            }
        } else {
            return Err(ImageError::invalid("archive", "neither manifest.json nor index.json is in it"));
        }
        Ok(names)
    }

    /// Nothing is swept while this is held; a sweep in progress is short.
    fn keep(&self) -> OwnedRwLockReadGuard<()> {
        loop {
            if let Ok(guard) = self.arriving.clone().try_read_owned() {
                return guard;
            }
            std::thread::yield_now();
        }
    }

    /// Keeps every file of the archive as a blob.
    fn spool(&self, archive: impl Read + Send) -> Result<Contents> {
        let failed = |e: io::Error| ImageError::io("read", "archive", e);
        let mut archive = tar::Archive::new(decompressed(archive).map_err(failed)?);
        let mut contents = BTreeMap::new();
        let mut links = Vec::new();
        for (count, entry) in archive.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            if count > MAX_ENTRIES {
                return Err(ImageError::invalid("archive", "too many entries"));
            }
            let path = entry.path().map_err(failed)?.into_owned();
            let Some(name) = normal(&path) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                contents.insert(name, self.blobs.put_stream(&mut entry)?);
            } else if let Some(target) = entry.link_name().map_err(failed)?.filter(|_| kind.is_symlink() || kind.is_hard_link())
            {
                // a symlink is relative to its own directory, a hard link to the archive
                let base = path.parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
                links.extend(normal(&base.join(target)).map(|target| (name, target)));
            }
        }
        for (name, target) in links {
            if let Some(found) = contents.get(&target).cloned() {
                contents.insert(name, found);
            }
        }
        Ok(Contents(contents))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, contents: &Contents, path: &str) -> Result<T> {
        let (digest, _) = contents.get(path)?;
        self.parse_blob(digest, path)
    }

    fn parse_blob<T: serde::de::DeserializeOwned>(&self, digest: &str, what: &str) -> Result<T> {
        let bytes = read_bounded(self.blobs.open_blob(digest)?, MAX_DOCUMENT).map_err(|e| ImageError::io("read", what, e))?;
        serde_json::from_slice(&bytes).map_err(|e| ImageError::invalid(what, e))
    }

    fn load_saved(&self, contents: &Contents, saved: &Saved, names: &mut Vec<String>) -> Result<()> {
        let (config, size) = contents.get(&saved.config)?.clone();
        let parsed: ImageConfig = self.parse_blob(&config, &saved.config)?;
        if parsed.rootfs.diff_ids.len() != saved.layers.len() {
            return Err(ImageError::invalid("archive", "configuration and manifest name different layers"));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in saved.layers.iter().zip(&parsed.rootfs.diff_ids) {
            let (digest, size) = contents.get(path)?.clone();
            self.layers.add(&self.blobs, &digest, Some(diff_id))?;
            layers.push(self.describe_layer(digest, size)?);
        }
        self.finish(Manifest::of(descriptor(DOCKER_CONFIG, config, size), layers), &saved.repo_tags, names)
    }

    fn describe_layer(&self, digest: String, size: u64) -> Result<Descriptor> {
        let mut head = [0; 2];
        let gzip = self.blobs.open_blob(&digest)?.read_exact(&mut head).is_ok() && is_gzip(&head);
        Ok(descriptor(if gzip { DOCKER_LAYER_GZIP } else { DOCKER_LAYER }, digest, size))
    }

    /// Keeps a manifest that we made, and names the image.
    pub(crate) fn finish(&self, manifest: Manifest, tags: &Option<Vec<String>>, names: &mut Vec<String>) -> Result<()> {
        let bytes = serde_json::to_vec(&manifest).map_err(|e| ImageError::invalid("manifest", e))?;
        let digest = self.blobs.put(&bytes)?;
        let tags: Vec<Reference> =
            tags.iter().flatten().map(|t| Ok(Reference::parse(t)?.with_default_tag())).collect::<Result<_>>()?;
        let id = self.adopt(&manifest, &digest, DOCKER_MANIFEST, &tags, None)?;
        if tags.is_empty() {
            names.push(id);
        }
        names.extend(tags.iter().map(Reference::to_string));
        Ok(())
    }

    fn load_oci(&self, entry: &Descriptor, names: &mut Vec<String>) -> Result<()> {
        let mut digest = entry.digest.clone();
        let manifest: Manifest = match self.parse_blob(&digest, "manifest")? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                digest.clone_from(&pick(&index.manifests, "the archive")?.digest);
                self.parse_blob(&digest, "manifest")?
            }
        };
        let config: ImageConfig = self.parse_blob(&manifest.config.digest, "configuration")?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::invalid("archive", "configuration and manifest name different layers"));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            self.layers.add(&self.blobs, &layer.digest, Some(diff_id))?;
        }
        let named = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let name = named.iter().find_map(|key| entry.annotations.get(*key)).and_then(|n| Reference::parse(n).ok());
        let name = name.map(Reference::with_default_tag);
        let media_type = if manifest.media_type.is_empty() { OCI_MANIFEST } else { manifest.media_type.as_str() };
        let id = self.adopt(&manifest, &digest, media_type, name.as_slice(), None)?;
        names.push(name.map_or(id, |n| n.to_string()));
        Ok(())
    }

    /// Writes images as `docker save` does. A name without a tag means all tags of its repository.
    ///
    /// # Errors
    /// No such image, or the writer fails.
    pub fn save(&self, references: &[String], out: impl Write) -> Result<()> {
        let failed = |e: io::Error| ImageError::io("write", "archive", e);
        // nothing is swept meanwhile: an image that is removed is written to its end
        let _kept = self.keep();
        let mut archive = tar::Builder::new(out);
        let mut saved: BTreeMap<String, Saved> = BTreeMap::new();
        for text in references {
            for (id, image, name) in self.named_images(text)? {
                let blob = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
                let entry = saved.entry(id.clone()).or_insert_with(|| Saved {
                    config: blob(&id),
                    repo_tags: None,
                    layers: image.layers.iter().map(|l| blob(&l.blob)).collect(),
                });
                let tags = entry.repo_tags.get_or_insert_default();
                tags.extend(name.filter(|n| !tags.contains(n)));
            }
        }
        let mut written = std::collections::BTreeSet::new();
        for path in saved.values().flat_map(|s| std::iter::once(&s.config).chain(&s.layers)) {
            if written.insert(path.clone()) {
                let digest = format!("sha256:{}", path.trim_start_matches("blobs/sha256/"));
                let mut header = header(self.blobs.size(&digest));
                archive.append_data(&mut header, path, self.blobs.open_blob(&digest)?).map_err(failed)?;
            }
        }
        let list = serde_json::to_vec(&saved.values().collect::<Vec<_>>()).map_err(|e| failed(e.into()))?;
        archive.append_data(&mut header(list.len() as u64), "manifest.json", list.as_slice()).map_err(failed)?;
        archive.into_inner().and_then(|mut out| out.flush()).map_err(failed)
    }
}

/// Header of a plain file that anyone may read.
pub(crate) fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

pub(crate) fn descriptor(media_type: &str, digest: String, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), size, digest, platform: None, annotations: BTreeMap::new() }
}

impl Manifest {
    /// A manifest in Docker's form.
    pub(crate) fn of(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: DOCKER_MANIFEST.to_owned(), config, layers }
    }
}

/// A path inside an archive in one form; `None` if it leads out of it.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            _ => {}
        }
    }
    Some(parts.join("/"))
}
