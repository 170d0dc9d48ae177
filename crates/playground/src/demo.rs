//! The demo image: this very binary, with the libraries that it is mapped with.

use std::io::Write;
use std::path::PathBuf;

use skep_image::ImageBuilder;

use crate::PlaygroundError;

/// Name of the demo image.
pub const DEMO_IMAGE: &str = "skep/whoami:latest";
/// Port that it listens on.
pub const DEMO_PORT: u16 = 8000;

/// Files that this process is mapped from: its binary's libraries and loader.
fn libraries() -> std::io::Result<Vec<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut paths: Vec<PathBuf> = maps
        .lines()
        .filter_map(|l| l.split_whitespace().nth(5))
        .filter(|p| p.starts_with('/') && p.contains(".so"))
        .map(PathBuf::from)
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The path that a program's header names for its loader, on the architectures that Skep is built for.
const LOADER: &str = if cfg!(target_arch = "aarch64") { "/lib/ld-linux-aarch64.so.1" } else { "/lib64/ld-linux-x86-64.so.2" };

/// Writes the demo image as an archive for `docker load`, under `tag` and with `version` in its environment.
///
/// # Errors
/// When the binary cannot be read or the archive not be written.
pub fn write_image(tag: &str, version: &str, out: impl Write) -> Result<(), PlaygroundError> {
    let fail = |e: std::io::Error| PlaygroundError::host("pack the demo image", e);
    let binary = std::fs::read("/proc/self/exe").map_err(fail)?;
    let port = DEMO_PORT.to_string();
    let mut image = ImageBuilder::new()
        .file("/usr/bin/skep", binary, 0o755)
        .dir("/tmp", 0o1777)
        .dir("/etc", 0o755)
        .file("/etc/passwd", "root:x:0:0:root:/:/usr/bin/skep\n", 0o644)
        .entrypoint(&["/usr/bin/skep", "whoami"])
        .cmd(&["--port", &port])
        .env("VERSION", version)
        .expose(&format!("{port}/tcp"))
        .expose(&format!("{port}/udp"));
    for path in libraries().map_err(fail)? {
        let bytes = std::fs::read(&path).map_err(fail)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let place = if name.starts_with("ld-linux") || name.starts_with("ld-2") || name.starts_with("ld.so") {
            LOADER.to_owned()
        } else {
            format!("/lib/{name}")
        };
        image = image.file(&place, bytes, 0o755);
    }
    image.write(tag, out).map_err(fail)
}
