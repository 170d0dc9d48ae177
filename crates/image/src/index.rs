//! Which images there are and what they are called: one JSON file, replaced atomically.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use skep_types::reference::{Reference, familiar};

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Digest as it is sent.
    pub(crate) blob: String,
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: String,
}

/// An image; its id is the digest of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    /// Blob of the manifest as it came, or as we made it for an archive.
    pub(crate) manifest: String,
    /// Media type of the manifest.
    pub(crate) media_type: String,
    /// Bottom first.
    pub(crate) layers: Vec<Layer>,
}

/// Everything that has a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// By id.
    pub(crate) images: BTreeMap<String, Image>,
    /// Ids by `registry/repository:tag`, in full.
    pub(crate) tags: BTreeMap<String, String>,
    /// Ids by `registry/repository@sha256:…`, in full.
    pub(crate) digests: BTreeMap<String, String>,
}

impl Index {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let failed = |e: io::Error| ImageError::io("read", path.display(), e);
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(failed(e)),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let tmp = path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = File::create(&tmp)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&tmp, path)?;
            // the directory, too, or a crash could bring the old file back
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|e| ImageError::io("write", path.display(), e))
    }

    /// The id that a user means: a name, a full id, or the beginning of one.
    pub(crate) fn find(&self, text: &str) -> Result<String> {
        let unknown = |shown: String| ImageError::NoSuchImage(shown);
        if self.images.contains_key(text) {
            return Ok(text.to_owned());
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let parsed = Reference::parse(text);
        if let Ok(name) = &parsed {
            let name = name.clone().with_default_tag();
            if let Some(id) = self.named(&name) {
                return Ok(id.clone());
            }
        }
        if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let prefix = format!("sha256:{hex}");
            let mut fits = self.images.keys().filter(|id| id.starts_with(&prefix));
            match (fits.next(), fits.next()) {
                (Some(id), None) => return Ok(id.clone()),
                (Some(_), Some(_)) => return Err(unknown(format!("{text} (ambiguous)"))),
                _ => {}
            }
            if text.len() >= 64 {
                return Err(unknown(text.to_owned()));
            }
        }
        Err(unknown(parsed?.with_default_tag().to_string()))
    }

    fn named(&self, name: &Reference) -> Option<&String> {
        if let Some(digest) = &name.digest {
            return self.digests.get(&format!("{}@{digest}", name.name()));
        }
        self.tags.get(&format!("{}:{}", name.name(), name.tag.as_deref()?))
    }

    /// Familiar names of an image: tags and digests.
    pub(crate) fn names(&self, id: &str) -> (Vec<String>, Vec<String>) {
        let of = |map: &BTreeMap<String, String>| map.iter().filter(|(_, v)| *v == id).map(|(k, _)| familiar_full(k)).collect();
        (of(&self.tags), of(&self.digests))
    }

    /// Digests of the blobs in use.
    pub(crate) fn blobs(&self) -> BTreeSet<&str> {
        let mut out = BTreeSet::new();
        for (id, image) in &self.images {
            out.insert(id.as_str());
            out.insert(image.manifest.as_str());
            out.extend(image.layers.iter().map(|l| l.blob.as_str()));
        }
        out
    }

    /// Digests of the unpacked layers in use.
    pub(crate) fn layers(&self) -> BTreeSet<&str> {
        self.images.values().flat_map(|i| &i.layers).map(|l| l.diff_id.as_str()).collect()
    }
}

/// `docker.io/library/x:y` as `x:y`.
pub(crate) fn familiar_full(full: &str) -> String {
    let split = full.find('@').or_else(|| full.rfind(':')).unwrap_or(full.len());
    let (name, rest) = full.split_at(split);
    format!("{}{rest}", familiar(name))
}

/// Full form of a reference with its tag.
pub(crate) fn full_tag(reference: &Reference) -> String {
    format!("{}:{}", reference.name(), reference.tag.as_deref().unwrap_or("latest"))
}

/// The first twelve digits of an id.
pub(crate) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}
