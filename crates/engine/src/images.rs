//! What the engine needs to know of images: the trait that the image store answers.

use std::path::PathBuf;

use skep_types::host::ImageInfo;

use crate::error::Result;

/// The images of this host.
pub trait Images: Send + Sync {
    /// The image of a reference or id.
    ///
    /// # Errors
    /// 404 with Docker's text, 400 for a malformed reference.
    fn image(&self, reference: &str) -> Result<ImageInfo>;

    /// Its unpacked layers, top first.
    ///
    /// # Errors
    /// 404, or 500 when a layer is damaged.
    fn lower(&self, id: &str) -> Result<Vec<PathBuf>>;
}
