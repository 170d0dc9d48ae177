//! The demo image, packed from the binary under test.

use skep_image::ImageBuilder;
use skep_testkit::images::{archive, with_program};

use crate::bed::binary;

/// The demo image under a tag.
///
/// # Panics
/// If the binary under test cannot be read.
#[must_use]
pub fn demo(tag: &str, version: &str) -> Vec<u8> {
    let program = binary();
    let image = with_program(ImageBuilder::new().dir("/tmp", 0o1777).dir("/etc", 0o755), &program);
    let path = program.to_string_lossy();
    let image = image.entrypoint(&[&path, "whoami"]).cmd(&["--port", "8000"]).env("VERSION", version).expose("8000/tcp");
    archive(&image, tag)
}
