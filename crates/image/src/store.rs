//! The store: look-up, names, removal, and the directories to mount.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_types::host::{ImageInfo, Removed};
use tokio::sync::RwLock;

use crate::blobs::Blobs;
use crate::config::{ImageConfig, Manifest};
use crate::error::{ImageError, Result};
use crate::index::{Image, Index, Layer, familiar_full, full_tag, short};
use crate::layers::Layers;
use crate::registry::RegistryOptions;
use skep_types::reference::Reference;

/// The images of one host.
#[derive(Debug)]
pub struct ImageStore {
    pub(crate) blobs: Blobs,
    pub(crate) layers: Layers,
    pub(crate) options: RegistryOptions,
    index: Mutex<Index>,
    index_file: PathBuf,
    /// Held for reading while content comes in that no image names yet; only who holds it for writing may sweep.
    pub(crate) arriving: Arc<RwLock<()>>,
}

impl ImageStore {
    /// Opens the store below `<data-root>/image`, and deletes what no image needs.
    ///
    /// # Errors
    /// A directory cannot be made, or the index cannot be read.
    pub fn open(data_root: &Path, options: RegistryOptions) -> Result<Self> {
        // fails only if the process has one already, which serves as well
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = data_root.join("image");
        let blobs = Blobs::open(&root)?;
        let layers = Layers::open(&root)?;
        let index_file = root.join("images.json");
        let index = Index::load(&index_file)?;
        let store = Self { blobs, layers, options, index: Mutex::new(index), index_file, arriving: Arc::new(RwLock::new(())) };
        store.sweep()?;
        Ok(store)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // every change is made on a copy first: a panic leaves the index whole
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, on disk first.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let mut index = self.index();
        let mut next = index.clone();
        let out = work(&mut next)?;
        if next != *index {
            next.save(&self.index_file)?;
            *index = next;
        }
        Ok(out)
    }

    /// Number of images.
    #[must_use]
    pub fn count(&self) -> usize {
        self.index().images.len()
    }

    /// Bytes of the files of each layer, by its digest.
    #[must_use]
    pub fn layer_sizes(&self) -> BTreeMap<String, u64> {
        self.index().layers().into_iter().map(|diff_id| (diff_id.to_owned(), self.layers.size(diff_id))).collect()
    }

    /// All images.
    #[must_use]
    pub fn list(&self) -> Vec<ImageInfo> {
        let ids: Vec<String> = self.index().images.keys().cloned().collect();
        ids.iter().filter_map(|id| self.info(id).ok()).collect()
    }

    /// An image by name, id or beginning of its id.
    ///
    /// # Errors
    /// None or several fit; the name is malformed.
    pub fn get(&self, text: &str) -> Result<ImageInfo> {
        let id = self.index().find(text)?;
        self.info(&id)
    }

    fn info(&self, id: &str) -> Result<ImageInfo> {
        let config = self.config(id)?;
        let (repo_tags, repo_digests) = self.index().names(id);
        let size = config.rootfs.diff_ids.iter().map(|diff_id| self.layers.size(diff_id)).sum();
        Ok(ImageInfo { id: id.to_owned(), repo_tags, repo_digests, size, ..config.info() })
    }

    pub(crate) fn config(&self, id: &str) -> Result<ImageConfig> {
        let bytes = self.blobs.read(id)?;
        serde_json::from_slice(&bytes).map_err(|e| ImageError::invalid(format!("configuration of image {id}"), e))
    }

    pub(crate) fn image(&self, text: &str) -> Result<(String, Image)> {
        let index = self.index();
        let id = index.find(text)?;
        let image = index.images.get(&id).cloned().ok_or_else(|| ImageError::NoSuchImage(text.to_owned()))?;
        Ok((id, image))
    }

    /// Ids of the images that a name means for [`ImageStore::save`].
    ///
    /// # Errors
    /// No such image.
    pub fn meant(&self, text: &str) -> Result<Vec<String>> {
        Ok(self.named_images(text)?.into_iter().map(|(id, ..)| id).collect())
    }

    /// The images that a name means for `save`, each with the name to save it under: a repository alone means all its tags, and an
    /// id has no name.
    pub(crate) fn named_images(&self, text: &str) -> Result<Vec<(String, Image, Option<String>)>> {
        let index = self.index();
        let one = |id: &str, name: Option<String>| {
            let image = index.images.get(id).cloned().ok_or_else(|| ImageError::NoSuchImage(text.to_owned()))?;
            Ok((id.to_owned(), image, name))
        };
        if let Ok(name) = Reference::parse(text)
            && name.tag.is_none()
            && name.digest.is_none()
        {
            let repository = format!("{}:", name.name());
            let tags =
                index.tags.iter().filter(|(full, _)| full.strip_prefix(&repository).is_some_and(|tag| !tag.contains('/')));
            let all: Vec<_> = tags.map(|(full, id)| one(id, Some(familiar_full(full)))).collect::<Result<_>>()?;
            if !all.is_empty() {
                return Ok(all);
            }
        }
        let id = index.find(text)?;
        let named = Reference::parse(text).ok().map(|name| name.with_default_tag().to_string());
        let name = named.filter(|name| index.names(&id).0.contains(name));
        Ok(vec![one(&id, name)?])
    }

    /// The unpacked layers of an image, top first, for overlay's `lowerdir`. One that occurs twice is named at its upper place only:
    /// overlay refuses it twice, and the upper hides the lower.
    ///
    /// # Errors
    /// No such image, or a layer is missing.
    pub fn mount_plan(&self, text: &str) -> Result<Vec<PathBuf>> {
        let (_, image) = self.image(text)?;
        let mut out = Vec::new();
        for layer in image.layers.iter().rev() {
            let path = self.layers.path(&layer.diff_id)?;
            if !path.exists() {
                // the blob is still there: make the layer anew
                self.layers.add(&self.blobs, &layer.blob, Some(&layer.diff_id))?;
            }
            if !out.contains(&path) {
                out.push(path);
            }
        }
        Ok(out)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// No such image; a malformed name, or one with a digest.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let target = Reference::parse(target)?;
        if target.digest.is_some() {
            return Err(ImageError::invalid("tag", "refusing to create a tag with a digest reference"));
        }
        self.change(|index| {
            let id = index.find(source)?;
            index.tags.insert(full_tag(&target), id);
            Ok(())
        })
    }

    /// Notes a complete image and its names.
    pub(crate) fn adopt(
        &self,
        manifest: &Manifest,
        manifest_digest: &str,
        media_type: &str,
        names: &[Reference],
        pulled: Option<&str>,
    ) -> Result<String> {
        let id = manifest.config.digest.clone();
        let config = self.config(&id)?;
        let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let layers = pairs.map(|(l, d)| Layer { blob: l.digest.clone(), diff_id: d.clone() }).collect();
        let image = Image { manifest: manifest_digest.to_owned(), media_type: media_type.to_owned(), layers };
        self.change(|index| {
            // the same image by another way keeps what it has, unless that was only made up for an archive
            if pulled.is_some() || !index.images.contains_key(&id) {
                index.images.insert(id.clone(), image);
            }
            for name in names {
                if name.tag.is_some() {
                    index.tags.insert(full_tag(name), id.clone());
                }
                if let Some(digest) = pulled {
                    index.digests.insert(format!("{}@{digest}", name.name()), id.clone());
                }
            }
            Ok(id.clone())
        })
    }

    /// Takes a name away, and the image with its last one. `users` tells which containers run (`true`) or have (`false`) an image.
    ///
    /// # Errors
    /// No such image; it is used, or has several names and is named by id, without `force`.
    pub fn remove(&self, text: &str, force: bool, users: &dyn Fn(&str) -> Vec<(String, bool)>) -> Result<Vec<Removed>> {
        let mut out = Vec::new();
        let deleted = self.change(|index| {
            let id = index.find(text)?;
            let (tags, digests) = index.names(&id);
            let named = Reference::parse(text).ok().map(Reference::with_default_tag).filter(|_| !id.contains(text));
            let refuse = |id: String, must, why: String| ImageError::Conflict { what: "delete", id, must, why };
            let used = users(&id);
            if let Some(name) = &named {
                let shown = name.to_string();
                let last = tags.len() + usize::from(tags.is_empty()) * digests.len() <= 1;
                if last
                    && !force
                    && let Some((container, _)) = used.first()
                {
                    let why = format!("container {container} is using its referenced image {}", short(&id));
                    let id = format!("repository reference \"{shown}\"");
                    return Err(ImageError::Conflict { what: "remove", id, must: "must force", why });
                }
                let removed = match &name.digest {
                    Some(digest) => index.digests.remove(&format!("{}@{digest}", name.name())),
                    None => index.tags.remove(&full_tag(name)),
                };
                out.extend(removed.map(|_| Removed::Untagged(shown)));
                if index.tags.values().any(|v| *v == id) {
                    return Ok(false);
                }
                // digests of a repository go with its last tag
                if !used.is_empty() {
                    return Ok(false);
                }
            } else {
                if let Some((container, running)) = used.iter().find(|(_, running)| *running || !force) {
                    let state = if *running { "running" } else { "stopped" };
                    let must = if *running { "cannot be forced" } else { "must be forced" };
                    return Err(refuse(short(&id), must, format!("image is being used by {state} container {container}")));
                }
                if tags.len() > 1 && !force {
                    let why = "image is referenced in multiple repositories".to_owned();
                    return Err(refuse(short(&id), "must be forced", why));
                }
            }
            let (tags, digests) = index.names(&id);
            out.extend(tags.into_iter().chain(digests).map(Removed::Untagged));
            index.tags.retain(|_, v| *v != id);
            index.digests.retain(|_, v| *v != id);
            index.images.remove(&id);
            out.push(Removed::Deleted(id));
            Ok(true)
        })?;
        if deleted {
            out.extend(self.sweep()?.into_iter().map(Removed::Deleted));
        }
        Ok(out)
    }

    /// Deletes blobs and layers that no image names, unless something is arriving; then the next sweep does it.
    pub(crate) fn sweep(&self) -> Result<Vec<String>> {
        let Ok(_alone) = self.arriving.try_write() else { return Ok(Vec::new()) };
        let index = self.index();
        let (blobs, layers) = (index.blobs(), index.layers());
        self.blobs.sweep(&|digest| blobs.contains(digest))?;
        self.layers.sweep(&|diff_id| layers.contains(diff_id))
    }
}
