//! The demo image, packed from the binary under test.

use skep_image::ImageBuilder;
use skep_testkit::images::{archive, with_program};

use crate::bed::binary;

/// The demo image with a shell and a health check that asks for its page; on SIGTERM it serves on for a second, as servers do
/// that finish what they began.
///
/// # Panics
/// If the binary under test or busybox cannot be read.
#[must_use]
pub fn checked(tag: &str, version: &str) -> Vec<u8> {
    let program = binary();
    let busybox = skep_testkit::images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    let image = with_program(busybox, &program);
    let path = program.to_string_lossy();
    let image = image.entrypoint(&[&path, "whoami"]).cmd(&["--port", "8000", "--slow-shutdown", "1s"]).env("VERSION", version);
    let check = "wget -q -O /dev/null http://127.0.0.1:8000/health";
    archive(&image.expose("8000/tcp").healthcheck(check, 200_000_000, 10), tag)
}

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
