//! Images of the distribution's own software, packed from the files that its packages installed on this machine.

pub mod wordpress;

use std::path::Path;
use std::process::Command;

use skep_image::ImageBuilder;

use crate::program;

/// What every image gets: users that software expects, and a place for temporary files.
fn base() -> ImageBuilder {
    ImageBuilder::new()
        .dir("/tmp", 0o1777)
        .file(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nmysql:x:999:999:mysql:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            0o644,
        )
        .file("/etc/group", "root:x:0:\nwww-data:x:33:\nmysql:x:999:\nnogroup:x:65534:\n", 0o644)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Adds a program under its own path, with the libraries and the loader that it is linked with.
///
/// # Panics
/// If a file cannot be read.
#[must_use]
pub fn with_program(image: ImageBuilder, program: &Path) -> ImageBuilder {
    let read = |path: &str| std::fs::read(path).unwrap_or_else(|e| panic!("pack {path}: {e}"));
    let path = program.to_string_lossy();
    let mut image = image.file(&path, read(&path), 0o755);
    for library in libraries(program) {
        image = image.file(&library, read(&library), 0o755);
    }
    image
}

/// What the dynamic loader maps for a program; nothing for a static one.
fn libraries(program: &Path) -> Vec<String> {
    let said = Command::new("ldd").arg(program).output().unwrap_or_else(|e| panic!("run ldd {}: {e}", program.display()));
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(!text.contains("not found"), "ldd {}: {text}", program.display());
    let path = |line: &str| line.split_whitespace().find(|w| w.starts_with('/')).map(str::to_owned);
    text.lines().filter_map(path).collect()
}

/// Writes an image as an archive for `docker load`, named `tag`.
///
/// # Panics
/// If it cannot be packed.
#[must_use]
pub fn archive(image: &ImageBuilder, tag: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write(tag, &mut bytes).unwrap_or_else(|e| panic!("pack image {tag}: {e}"));
    bytes
}

/// Busybox (package `busybox-static`) with a link for each of its applets; runs `sh`. `None` if it is not installed.
#[must_use]
pub fn busybox() -> Option<ImageBuilder> {
    let path = program("busybox")?;
    let listed = Command::new(&path).arg("--list").output().ok()?;
    // One that is linked dynamically brings its libraries.
    let mut image = with_program(base(), &path).dir("/root", 0o700);
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|a| *a != "busybox") {
        image = image.link(&format!("/bin/{applet}"), &path.to_string_lossy());
    }
    Some(image.cmd(&["sh"]))
}

/// Nginx (package `nginx-light`) on port 80 with a page that says `version`; logs to standard output. `None` if it is not
/// installed.
#[must_use]
pub fn nginx(version: &str) -> Option<ImageBuilder> {
    let path = program("nginx")?;
    let conf = "\
daemon off;
worker_processes 1;
user www-data;
pid /tmp/nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
    default_type text/plain;
    access_log /dev/stdout;
    server {
        listen 80 default_server;
        root /var/www/html;
        index index.html;
    }
}
";
    let image = with_program(base(), &path)
        .dir("/var/lib/nginx", 0o755)
        .dir("/var/log/nginx", 0o755)
        .dir("/run", 0o755)
        .file("/etc/nginx/nginx.conf", conf, 0o644)
        .file("/var/www/html/index.html", format!("{version}\n"), 0o644)
        .entrypoint(&[&path.to_string_lossy(), "-c", "/etc/nginx/nginx.conf"])
        .label("version", version)
        .expose("80/tcp");
    Some(image)
}

/// Redis (package `redis-server`) on port 6379 for anybody, keeping its data below /data. `None` if it is not installed.
#[must_use]
pub fn redis() -> Option<ImageBuilder> {
    let path = program("redis-server")?;
    let image = with_program(base(), &path)
        .dir("/data", 0o755)
        .working_dir("/data")
        .entrypoint(&[&path.to_string_lossy(), "--protected-mode", "no", "--port", "6379", "--dir", "/data"])
        .expose("6379/tcp");
    Some(image)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;
    use crate::skip;

    /// Files of an archive.
    fn unpack(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    /// Configuration and paths of the one layer of an archive.
    fn look(bytes: &[u8]) -> (serde_json::Value, Vec<String>) {
        let files = unpack(bytes);
        let list: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config = serde_json::from_slice(&files[list[0]["Config"].as_str().unwrap()]).unwrap();
        let layer = unpack(&files[list[0]["Layers"][0].as_str().unwrap()]);
        (config, layer.into_keys().collect())
    }

    #[test]
    fn busybox_packs_with_its_applets() {
        let Some(image) = busybox() else { return skip("needs busybox") };
        let (config, paths) = look(&archive(&image, "busybox:test"));
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["sh"]));
        for wanted in ["bin/sh", "bin/sleep", "etc/passwd", "tmp/"] {
            assert!(paths.iter().any(|p| p == wanted), "{wanted} is not in {paths:?}");
        }
    }

    #[test]
    fn nginx_packs_with_its_libraries() {
        let Some(image) = nginx("v1") else { return skip("needs nginx") };
        let (config, paths) = look(&archive(&image, "nginx:test"));
        assert_eq!(config["config"]["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
        assert!(paths.iter().any(|p| p.contains("libc.so")), "{paths:?}");
        assert!(paths.iter().any(|p| p == "var/www/html/index.html"));
    }

    #[test]
    fn redis_packs() {
        let Some(image) = redis() else { return skip("needs redis-server") };
        let (config, _) = look(&archive(&image, "redis:test"));
        assert_eq!(config["config"]["WorkingDir"], "/data");
    }
}
