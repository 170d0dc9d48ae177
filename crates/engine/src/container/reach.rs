//! A container's files, by way of the helper (`crate::reach`): copied in and out, compared, exported. A running container is looked
//! at as it is; one that does not run cannot be started until the call is over.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use skep_types::container::PathStat;
use skep_types::usage::Change;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::Container;
use crate::Engine;
use crate::error::{Code, EngineError, Result, conflict, internal, invalid, not_found};
use crate::reach::{Outcome, Plan, Refusal, Root, Work};

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;
/// Chunks on their way to a client; beyond it the helper waits.
const QUEUE: usize = 4;
/// A client that neither takes nor gives anything for this long is given up: a stopped container cannot be started meanwhile.
const STALLED: Duration = Duration::from_secs(60);
/// Longest answer of the helper: some hundred thousand changes.
const MAX_OUTCOME: u64 = 64 << 20;
/// Bytes of an archive that are still taken after it was refused, so that a client which sends first gets to read why.
const MAX_LEFT: u64 = 1 << 20;

/// An archive as it comes; the last item is an error if it is not whole.
pub type Archive = mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// Whose view of a container's files is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Its processes', with its volumes.
    Whole,
    /// Its own filesystem without its volumes.
    Own,
    /// Its writable layer.
    Layer,
}

/// The helper at work.
struct Helper {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Held while a container that does not run must not be started.
    _guard: Option<OwnedMutexGuard<()>>,
}

impl Helper {
    /// The helper's line; `path` is what it was to look at.
    async fn outcome(&mut self, path: &str) -> Result<Outcome> {
        let mut line = Vec::new();
        let fail = |e: &dyn std::fmt::Display| internal(&format!("look at {path} in a container"), e);
        (&mut self.out).take(MAX_OUTCOME).read_until(b'\n', &mut line).await.map_err(|e| fail(&e))?;
        let outcome = serde_json::from_slice(&line).map_err(|_| fail(&"the helper ended without a whole answer"))?;
        let Outcome::Refused { why, message } = outcome else { return Ok(outcome) };
        Err(match why {
            Refusal::Missing => not_found(message),
            Refusal::ReadOnly => EngineError::new(Code::PermissionDenied, message),
            Refusal::Invalid => invalid(message),
            Refusal::Failed => fail(&message),
        })
    }

    /// Passes the archive on until it is whole or the client is gone.
    fn pass_on(mut self) -> Archive {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            loop {
                let mut chunk = vec![0; CHUNK];
                let item = match self.out.read(&mut chunk).await {
                    Ok(0) => match self.child.wait().await {
                        Ok(status) if status.success() => return,
                        _ => Err(std::io::Error::other("the archive is not whole: a file could not be read")),
                    },
                    Ok(n) => {
                        chunk.truncate(n);
                        Ok(chunk)
                    }
                    Err(e) => Err(e),
                };
                let last = item.is_err();
                match sender.send_timeout(item, STALLED).await {
                    Ok(()) if !last => {}
                    Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                        // The container is let go; the client learns that it has not got all, should it ever look.
                        drop(self);
                        let _ = sender.send(Err(std::io::Error::other("the archive was not taken"))).await;
                        return;
                    }
                    _ => return,
                }
            }
        });
        receiver
    }
}

/// Docker's texts for what is not there, and for what cannot be written to.
fn in_dockers_words(error: EngineError, container: &Container, path: &str) -> EngineError {
    let info = container.info();
    let message = match error.code {
        Code::NotFound => format!("Could not find the file {path} in container {}", info.name),
        Code::PermissionDenied => {
            let in_volume = info.mounts.iter().any(|m| std::path::Path::new(path).starts_with(&m.destination));
            if in_volume { "mounted volume is marked read-only" } else { "container rootfs is marked read-only" }.to_owned()
        }
        _ => return error,
    };
    EngineError::new(error.code, message)
}

impl Engine {
    async fn helper(&self, container: &Arc<Container>, view: View, work: Work) -> Result<(Helper, ChildStdin)> {
        let guard = Arc::clone(&container.ops).lock_owned().await;
        let record = container.record();
        let (lower, upper) = (record.lower, container.dir.join("upper"));
        let (bundle, rootfs) = (container.bundle.clone(), container.dir.join("rootfs"));
        let running = container.is_running();
        let root = match view {
            View::Layer => Root::Layer { lower, upper },
            View::Whole if running => Root::Running { bundle },
            View::Own if running => Root::Own { bundle, rootfs },
            _ => {
                let mounts = if view == View::Whole { record.info.mounts } else { Vec::new() };
                if let Some(driven) = mounts.iter().find(|m| !m.driver.is_empty()) {
                    let (name, volume, driver) = (&record.info.name, &driven.name, &driven.driver);
                    return Err(conflict(format!(
                        "container {name} has the volume {volume} of the driver {driver}, which is mounted for containers that run: \
                         start it first"
                    )));
                }
                let filesystems = self.filesystems(&mounts, &container.id).await?;
                let readonly = record.info.host.readonly_rootfs;
                Root::Stopped { lower, upper, work: container.dir.join("work"), rootfs, mounts, filesystems, readonly }
            }
        };
        self.start_helper(Plan { root, work }, (!running).then_some(guard)).await
    }

    async fn start_helper(&self, plan: Plan, guard: Option<OwnedMutexGuard<()>>) -> Result<(Helper, ChildStdin)> {
        let fail = |e: std::io::Error| internal("start the helper that looks into containers", e);
        let mut child = self.runtime.reach().map_err(fail)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (mut stdin, stdout) = stdin.zip(stdout).ok_or_else(|| fail(std::io::Error::other("the helper has no pipes")))?;
        let plan = serde_json::to_vec(&plan).map_err(|e| fail(e.into()))?;
        let length = u32::try_from(plan.len()).map_err(|e| fail(std::io::Error::other(e)))?;
        stdin.write_all(&length.to_le_bytes()).await.map_err(fail)?;
        stdin.write_all(&plan).await.map_err(fail)?;
        Ok((Helper { child, out: BufReader::new(stdout), _guard: guard }, stdin))
    }

    /// What is at a path of a container.
    ///
    /// # Errors
    /// 404 for either, 500.
    pub async fn path_stat(&self, target: &str, path: &str) -> Result<PathStat> {
        let container = self.find(target)?;
        let path = absolute(path)?;
        let (mut helper, _) = self.helper(&container, View::Whole, Work::Stat { path: path.clone() }).await?;
        match helper.outcome(&path).await.map_err(|e| in_dockers_words(e, &container, &path))? {
            Outcome::Stat(stat) => Ok(stat),
            other => Err(internal("look at a path", format!("the helper answered {other:?}"))),
        }
    }

    /// What is at a path of a container as an archive.
    ///
    /// # Errors
    /// 400 for what is no file, 404, 500.
    pub async fn copy_out(&self, target: &str, path: &str) -> Result<(PathStat, Archive)> {
        let container = self.find(target)?;
        let path = absolute(path)?;
        let (mut helper, _) = self.helper(&container, View::Whole, Work::Read { path: path.clone() }).await?;
        let stat = match helper.outcome(&path).await.map_err(|e| in_dockers_words(e, &container, &path))? {
            Outcome::Stat(stat) => stat,
            other => return Err(internal("copy out of a container", format!("the helper answered {other:?}"))),
        };
        self.container_event(&container, "archive-path", [("path".to_owned(), path)]);
        Ok((stat, helper.pass_on()))
    }

    /// Unpacks an archive into a directory of a container. With `keep_kinds` a directory is never replaced by something else, nor
    /// something else by one; with `to_user` all of it is the container's user's.
    ///
    /// # Errors
    /// 400 for a damaged archive and what is no directory, 403 where it is read-only, 404, 500.
    pub async fn copy_in(
        &self,
        target: &str,
        path: &str,
        keep_kinds: bool,
        to_user: bool,
        mut archive: Pin<Box<dyn AsyncRead + Send>>,
    ) -> Result<()> {
        let container = self.find(target)?;
        let path = absolute(path)?;
        let owner = Some(container.info().config.user).filter(|user| to_user && !user.is_empty());
        let work = Work::Write { path: path.clone(), keep_kinds, owner };
        let (mut helper, mut stdin) = self.helper(&container, View::Whole, work).await?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match tokio::time::timeout(STALLED, archive.read(&mut chunk)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(n)) => n,
                // The helper finds the archive cut off, and stops.
                Ok(Err(e)) => return Err(invalid(format!("read the archive: {e}"))),
                Err(_) => return Err(invalid("the archive stopped coming")),
            };
            // One that takes no more has something to say.
            if stdin.write_all(&chunk[..n]).await.is_err() {
                break;
            }
        }
        drop(stdin);
        let outcome = helper.outcome(&path).await.map_err(|e| in_dockers_words(e, &container, &path));
        if outcome.is_err() {
            let _ = tokio::time::timeout(STALLED, tokio::io::copy(&mut archive.take(MAX_LEFT), &mut tokio::io::sink())).await;
        }
        outcome?;
        self.container_event(&container, "extract-to-dir", [("path".to_owned(), path)]);
        Ok(())
    }

    /// How a container's own filesystem differs from its image.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn changes(&self, target: &str) -> Result<Vec<Change>> {
        let container = self.find(target)?;
        let (mut helper, _) = self.helper(&container, View::Layer, Work::Changes).await?;
        match helper.outcome("/").await? {
            Outcome::Changes(changes) => Ok(changes),
            other => Err(internal("compare a container with its image", format!("the helper answered {other:?}"))),
        }
    }

    /// A container's own filesystem as an archive, without its volumes.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn export(&self, target: &str) -> Result<Archive> {
        let container = self.find(target)?;
        let archive = self.send_all(&container, View::Own).await?;
        self.container_event(&container, "export", []);
        Ok(archive)
    }

    /// The archive of a container's writable layer, in the form of images.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn layer(&self, target: &str) -> Result<Archive> {
        let container = self.find(target)?;
        self.send_all(&container, View::Layer).await
    }

    /// Bytes of the files that a container has written itself.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn written(&self, target: &str) -> Result<u64> {
        self.size_of(self.find(target)?.dir.join("upper")).await
    }

    /// Bytes of the files in a volume.
    ///
    /// # Errors
    /// 404, 500.
    pub async fn volume_size(&self, name: &str) -> Result<u64> {
        let volume = self.volumes.get(name)?;
        if volume.driver() != "local" {
            return Err(invalid(format!("the size of volume {name} is known to its driver {} alone", volume.driver())));
        }
        self.size_of(volume.mountpoint.into()).await
    }

    async fn size_of(&self, upper: std::path::PathBuf) -> Result<u64> {
        let plan = Plan { root: Root::Layer { lower: Vec::new(), upper }, work: Work::Size };
        let (mut helper, _) = self.start_helper(plan, None).await?;
        match helper.outcome("/").await? {
            Outcome::Size(size) => Ok(size),
            other => Err(internal("count bytes", format!("the helper answered {other:?}"))),
        }
    }

    async fn send_all(&self, container: &Arc<Container>, view: View) -> Result<Archive> {
        let (mut helper, _) = self.helper(container, view, Work::All).await?;
        helper.outcome("/").await?;
        Ok(helper.pass_on())
    }
}

/// A path of a container is absolute, as in Docker, whatever it begins with.
fn absolute(path: &str) -> Result<String> {
    if path.is_empty() {
        return Err(invalid("bad parameter: path cannot be empty"));
    }
    if path.contains('\0') {
        return Err(invalid("bad parameter: path holds a zero byte"));
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_root() {
        assert_eq!(absolute("etc/.").expect("good"), "/etc/.");
        assert_eq!(absolute("/").expect("good"), "/");
        assert!(absolute("").is_err() && absolute("a\0b").is_err());
    }
}
