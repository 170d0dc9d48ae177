//! `cp`: an archive goes to the daemon or comes from it; which name it begins with is decided here, by Docker's rules.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use skep_archive::{Extract, extract_as, open_root, pack_as};

use crate::app::{App, Failure};
use crate::client::{Client, Stream, escape, query};
use crate::grammar::Matches;
use crate::output::human::size;
use crate::output::note;

/// Where clients find what is at a path of a container.
const PATH_STAT: &str = "X-Docker-Container-Path-Stat";
/// Go's bits of directories and symlinks.
const DIRECTORY: u64 = 1 << 31;
const SYMLINK: u64 = 1 << 27;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    Inside(&'a str, &'a str),
}

/// `CONTAINER:PATH`, or a path here; one that begins with a dot or a slash is always here.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with('/') && !container.starts_with('.') && !container.is_empty() => {
            Side::Inside(container, path)
        }
        _ => Side::Here(text),
    }
}

/// What is known of a path that something is copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Directory,
    Other,
    Nothing,
}

/// The directory to unpack in and the name that the archive begins with; an empty name puts the content itself there.
fn place(source_name: &str, source_is_dir: bool, to: &str, found: Found) -> Result<(PathBuf, String), Failure> {
    let contents = matches!(source_name, "." | "/");
    if found == Found::Directory {
        let name = if contents { String::new() } else { source_name.to_owned() };
        return Ok((PathBuf::from(to), name));
    }
    if source_is_dir && found == Found::Other {
        return Err(Failure::new("cannot copy directory"));
    }
    if !source_is_dir && (to.ends_with('/') || to.ends_with("/.")) {
        return Err(Failure::new("no such directory"));
    }
    let path = Path::new(to);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((path.parent().unwrap_or(Path::new("")).to_owned(), name))
}

/// The last part of a path as an archive begins with it.
fn last_part(path: &str) -> String {
    if path.ends_with("/.") || path == "." {
        return ".".to_owned();
    }
    Path::new(path).file_name().map_or_else(|| "/".to_owned(), |n| n.to_string_lossy().into_owned())
}

/// The container that one side of a copy names.
pub(crate) fn container(m: &Matches) -> Result<Option<&str>, Failure> {
    match (side(m.arg(0)), side(m.arg(1))) {
        (Side::Inside(..), Side::Inside(..)) => Err(Failure::new("copying between containers is not supported")),
        (Side::Inside(name, _), _) | (_, Side::Inside(name, _)) => Ok(Some(name)),
        _ => Ok(None),
    }
}

pub(crate) async fn copy(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let (from, to) = (m.arg(0), m.arg(1));
    match (side(from), side(to)) {
        (Side::Inside(..), Side::Inside(..)) => Err(Failure::new("copying between containers is not supported")),
        (Side::Here(_), Side::Here(_)) => Err(Failure::new("must specify at least one container source")),
        (Side::Inside(container, path), Side::Here(here)) => copy_out(client, m, container, path, here).await,
        (Side::Here(here), Side::Inside(container, path)) => copy_in(client, m, here, container, path).await,
    }
}

fn archive_path(container: &str, pairs: &[(&str, &str)]) -> String {
    query(&format!("/containers/{}/archive", escape(container)), pairs)
}

/// What the daemon says of a path.
fn read_stat(header: Option<&str>) -> Result<Value, Failure> {
    let bytes = header.and_then(|h| STANDARD.decode(h).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|e| Failure::new(format!("the daemon does not say what the path is: {e}")))
}

fn is(stat: &Value, bit: u64) -> bool {
    stat["mode"].as_u64().is_some_and(|mode| mode & bit != 0)
}

/// Says how much was copied, as the stock client does.
fn tell(m: &Matches, bytes: u64, to: &str) {
    if !m.on("quiet") {
        note(&format!("Successfully copied {} to {to}\n", size(i64::try_from(bytes).unwrap_or(i64::MAX))));
    }
}

async fn copy_out(client: &Client, m: &Matches, container: &str, path: &str, here: &str) -> Result<u8, Failure> {
    let mut path = path.to_owned();
    if m.on("follow-link")
        && let Ok(Some(header)) = client.header("HEAD", &archive_path(container, &[("path", &path)]), PATH_STAT).await
    {
        let stat = read_stat(Some(&header))?;
        if is(&stat, SYMLINK) {
            path = stat["linkTarget"].as_str().unwrap_or(&path).to_owned();
        }
    }
    let stream = client.open("GET", &archive_path(container, &[("path", &path)]), &[]).await?;
    if here == "-" {
        return pass_on(stream).await;
    }
    let stat = read_stat(stream.header(PATH_STAT).as_deref())?;
    let found = match std::fs::metadata(here) {
        Ok(meta) if meta.is_dir() => Found::Directory,
        Ok(_) => Found::Other,
        Err(_) => Found::Nothing,
    };
    let name = stat["name"].as_str().unwrap_or_default().to_owned();
    let (dir, wanted) = place(&name, is(&stat, DIRECTORY), here, found)?;
    let owner = (!m.on("archive")).then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let how = Extract { owner, keep_kinds: true, ..Extract::default() };
    let bytes = unpack(stream, dir, how, (name, wanted)).await?;
    tell(m, bytes, here);
    Ok(0)
}

/// An archive to standard output.
async fn pass_on(mut stream: Stream) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    while let Some(chunk) = stream.next().await? {
        out.write_all(&chunk).map_err(|e| Failure::new(format!("write standard output: {e}")))?;
    }
    out.flush().map_err(|e| Failure::new(format!("write standard output: {e}")))?;
    Ok(0)
}

/// Unpacks an archive as it comes; its bytes.
async fn unpack(mut stream: Stream, dir: PathBuf, how: Extract, rename: (String, String)) -> Result<u64, Failure> {
    let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
    let root = open_root(&dir).map_err(|e| Failure::new(format!("{}: {}", dir.display(), io::Error::from(e))))?;
    let (reader, mut writer) = io::pipe().map_err(|e| Failure::new(format!("make a pipe: {e}")))?;
    let work = tokio::task::spawn_blocking(move || {
        let (from, to) = rename;
        let mut reader = reader;
        let done = extract_as(&mut reader, &root, Path::new(""), how, Some((Path::new(&from), Path::new(&to))));
        // What follows the archive's end is nobody's, but whoever writes it must not wait.
        let _ = io::copy(&mut reader, &mut io::sink());
        done
    });
    let mut bytes = 0u64;
    while let Some(chunk) = stream.next().await? {
        bytes += chunk.len() as u64;
        // A pipe's reader is the thread above, which reads to the end.
        let sent = tokio::task::spawn_blocking(move || writer.write_all(&chunk).map(|()| writer)).await;
        writer = match sent {
            Ok(Ok(writer)) => writer,
            _ => break_off()?,
        };
    }
    drop(writer);
    match work.await {
        Ok(done) => done.map_err(|e| Failure::new(e.to_string()))?,
        Err(e) => return Err(Failure::new(format!("unpack the archive: {e}"))),
    };
    Ok(bytes)
}

fn break_off<T>() -> Result<T, Failure> {
    Err(Failure::new("unpack the archive: nobody reads it any more"))
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: tokio::io::AsyncRead + Unpin> tokio::io::AsyncRead for Counted<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = std::pin::Pin::new(&mut self.inner).poll_read(cx, buf);
        self.bytes.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        done
    }
}

async fn copy_in(client: &Client, m: &Matches, here: &str, container: &str, path: &str) -> Result<u8, Failure> {
    let (path, found) = destination(client, container, path).await?;
    let to_user = if m.on("archive") { "" } else { "1" };
    let put = |dir: &str| {
        let pairs =
            [("path", dir), ("noOverwriteDirNonDir", "true"), ("copyUIDGID", if to_user.is_empty() { "true" } else { "" })];
        archive_path(container, &pairs)
    };
    if here == "-" {
        if found != Found::Directory {
            return Err(Failure::new(format!("destination \"{container}:{path}\" must be a directory")));
        }
        client.upload_from("PUT", &put(&path), tokio::io::stdin()).await?;
        return Ok(0);
    }
    let missing = |e: io::Error| Failure::new(format!("lstat {here}: {}", plain(&e)));
    let meta = if m.on("follow-link") { std::fs::metadata(here) } else { std::fs::symlink_metadata(here) };
    let meta = meta.map_err(missing)?;
    let (dir, name) = place(&last_part(here), meta.is_dir(), &path, found)?;
    let source = if m.on("follow-link") { std::fs::canonicalize(here).map_err(missing)? } else { PathBuf::from(here) };
    let source = if here.ends_with("/.") || here == "." { source.join(".") } else { source };
    let absolute = std::path::absolute(&source).map_err(missing)?;
    let (reader, writer) = io::pipe().map_err(|e| Failure::new(format!("make a pipe: {e}")))?;
    let work = tokio::task::spawn_blocking(move || {
        let name = if name.is_empty() { "." } else { &name };
        pack_as(&open_root(Path::new("/"))?, &absolute, name.as_bytes(), writer)
    });
    let bytes = Arc::new(AtomicU64::new(0));
    let inner = tokio::fs::File::from_std(File::from(OwnedFd::from(reader)));
    let dir = if dir.as_os_str().is_empty() { "/".to_owned() } else { dir.display().to_string() };
    let sent = client.upload_from("PUT", &put(&dir), Counted { inner, bytes: Arc::clone(&bytes) }).await;
    // What could not be read here explains more than an archive that ends too soon.
    let packed = work.await.map_err(|e| Failure::new(format!("pack {here}: {e}")))?;
    match (sent, packed) {
        (Err(e), _) => Err(e.into()),
        (Ok(_), Err(e)) => Err(Failure::new(format!("pack {here}: {e}"))),
        (Ok(_), Ok(())) => {
            tell(m, bytes.load(Ordering::Relaxed), &format!("{container}:{path}"));
            Ok(0)
        }
    }
}

/// Where a path of a container leads, and what is there.
async fn destination(client: &Client, container: &str, path: &str) -> Result<(String, Found), Failure> {
    let mut path = path.to_owned();
    for _ in 0..2 {
        let Ok(Some(header)) = client.header("HEAD", &archive_path(container, &[("path", &path)]), PATH_STAT).await else {
            // That it is not there is told when its directory is not there either.
            return Ok((path, Found::Nothing));
        };
        let stat = read_stat(Some(&header))?;
        if is(&stat, SYMLINK) {
            path = stat["linkTarget"].as_str().unwrap_or_default().to_owned();
            continue;
        }
        return Ok((path, if is(&stat, DIRECTORY) { Found::Directory } else { Found::Other }));
    }
    Ok((path, Found::Nothing))
}

/// The kernel's words without Rust's number.
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// An archive from the daemon to a file or to standard output.
pub(crate) async fn save(mut stream: Stream, file: Option<&str>) -> Result<u8, Failure> {
    let Some(path) = file else { return pass_on(stream).await };
    let fail = |e: io::Error| Failure::new(format!("write {path}: {e}"));
    let mut out = File::create(path).map_err(fail)?;
    while let Some(chunk) = stream.next().await? {
        out.write_all(&chunk).map_err(fail)?;
    }
    out.flush().map_err(fail)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        assert_eq!(side("box:/etc"), Side::Inside("box", "/etc"));
        for here in ["/a:b", "./a:b", "a", "-", ":x"] {
            assert_eq!(side(here), Side::Here(here));
        }
    }

    #[test]
    fn what_is_copied_gets_dockers_name() {
        let of = |name, dir, to, found| place(name, dir, to, found).map(|(d, n)| format!("{}|{n}", d.display()));
        for (name, dir, to, found, wanted) in [
            ("one", false, "/in", Found::Directory, "/in|one"),
            (".", true, "/in", Found::Directory, "/in|"),
            ("one", false, "/in/x", Found::Nothing, "/in|x"),
            ("one", false, "/in/x", Found::Other, "/in|x"),
            ("tree", true, "/in/x", Found::Nothing, "/in|x"),
            (".", true, "new", Found::Nothing, "|new"),
        ] {
            assert_eq!(of(name, dir, to, found).ok().as_deref(), Some(wanted));
        }
        assert!(of("tree", true, "/in/x", Found::Other).is_err());
        assert!(of("one", false, "/in/x/", Found::Nothing).is_err());
        assert_eq!((last_part("a/."), last_part("/"), last_part("a/b/")), (".".into(), "/".into(), "b".into()));
    }
}
