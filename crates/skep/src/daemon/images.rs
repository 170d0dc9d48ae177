//! The image store as the engine, the API and the tasks use it: classes of errors, background work, events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_api::{Archive, Distribution, ImageStep, Upload};
use skep_engine::error::{EngineError, Result, internal};
use skep_engine::events::Events;
use skep_engine::images::Images;
use skep_image::{Commit, ImageError, ImageStore, Reference, RegistryOptions, Remote};
use skep_types::control::Code;
use skep_types::host::{ImageInfo, Progress, RegistryAuth, Removed};
use tokio::sync::mpsc;

use super::AnyError;
use super::config::Config;

/// Steps of a pull, push or load on their way to a client; a slow client slows the work, not the memory.
const QUEUE: usize = 64;

/// Bytes that are sent to a client at once; what waits for a slow one is 64 times this.
const PIECE: usize = 64 << 10;

/// How long a registry may take before it counts as out of reach: a look-up is one small request.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// How long a registry that was out of reach is not asked again. Without this every task and every `service create` on a
/// network without that registry would wait for its time-out (Docker's do).
const UNREACHABLE_FOR: Duration = Duration::from_secs(30);

/// The images of this host.
pub(crate) struct ImageAdapter {
    store: Arc<ImageStore>,
    /// Registries that were out of reach, and when.
    unreachable: Mutex<BTreeMap<String, Instant>>,
    /// Pulls under way for tasks, by reference: several tasks of a service ask for the same image at once.
    pulls: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

fn refused(error: ImageError) -> EngineError {
    let code = match error.status() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        409 => Code::Conflict,
        _ => Code::Internal,
    };
    EngineError::new(code, error.chain())
}

impl ImageAdapter {
    /// Opens the store.
    pub(crate) fn open(config: &Config) -> std::result::Result<Self, AnyError> {
        let options = RegistryOptions {
            insecure: config.insecure_registries.iter().cloned().collect(),
            mirrors: config.registry_mirrors.clone(),
        };
        let store = ImageStore::open(&config.data_root, options).map_err(|e| e.chain())?;
        Ok(Self { store: Arc::new(store), unreachable: Mutex::default(), pulls: Mutex::default() })
    }

    /// Whether an image is here.
    pub(crate) fn has(&self, reference: &str) -> bool {
        self.store.get(reference).is_ok()
    }

    /// Asks a registry what a reference is now, unless the registry was just out of reach.
    async fn look_up(&self, reference: &str, auth: &RegistryAuth) -> Result<Remote> {
        let name = Reference::parse(reference).map_err(|e| refused(ImageError::from(e)))?;
        let out_of_reach = || EngineError::new(Code::Internal, format!("registry {} cannot be reached", name.registry));
        {
            // A panic while the map was held leaves a map that is still right.
            let mut map = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
            map.retain(|_, since| since.elapsed() < UNREACHABLE_FOR);
            if map.contains_key(&name.registry) {
                return Err(out_of_reach());
            }
        }
        let answer = tokio::time::timeout(LOOKUP_LIMIT, self.store.remote(reference, auth)).await;
        let error = match answer {
            Ok(Ok(remote)) => return Ok(remote),
            Ok(Err(e)) => refused(e),
            Err(_) => out_of_reach(),
        };
        if error.code == Code::Internal {
            let mut map = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
            map.insert(name.registry.clone(), Instant::now());
        }
        Err(error)
    }

    /// Fetches an image for a task; calls for the same one wait for each other.
    pub(crate) async fn pull_quietly(&self, reference: &str, auth: RegistryAuth) -> Result<()> {
        let turn = {
            // A panic while the map was held leaves a map that is still right.
            let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(pulls.entry(reference.to_owned()).or_default())
        };
        let _turn = turn.lock().await;
        self.look_up(reference, &auth).await?;
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        self.store.pull(reference, &auth, &sender).await.map(drop).map_err(refused)
    }

    /// Number of images.
    pub(crate) fn count(&self) -> usize {
        self.store.count()
    }

    /// All images.
    pub(crate) fn list(&self) -> Vec<ImageInfo> {
        self.store.list()
    }

    /// One image.
    pub(crate) fn get(&self, reference: &str) -> Result<ImageInfo> {
        self.store.get(reference).map_err(refused)
    }

    /// Takes a name or an image away; `users` are (image id, container id, running).
    pub(crate) async fn remove(
        &self,
        reference: &str,
        force: bool,
        users: Vec<(String, String, bool)>,
    ) -> Result<Vec<Removed>> {
        let (store, reference) = (Arc::clone(&self.store), reference.to_owned());
        let work = move || {
            let of = |image: &str| {
                users.iter().filter(|(i, _, _)| i == image).map(|(_, c, running)| (c.clone(), *running)).collect()
            };
            store.remove(&reference, force, &of)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(removed) => removed.map_err(refused),
            Err(e) => Err(internal("remove an image", e)),
        }
    }

    /// Gives an image another name; its id.
    pub(crate) fn tag(&self, source: &str, target: &str) -> Result<String> {
        self.store.tag(source, target).map_err(refused)?;
        self.get(source).map(|i| i.id)
    }

    /// Runs work whose steps and failure go to a client.
    fn background<F>(&self, work: impl FnOnce(Arc<ImageStore>, mpsc::Sender<Progress>) -> F) -> mpsc::Receiver<Progress>
    where
        F: Future<Output = std::result::Result<(), ImageError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let future = work(Arc::clone(&self.store), sender.clone());
        tokio::spawn(async move {
            if let Err(e) = future.await {
                // A client that went away does not care why it failed.
                let _ = sender.send(Progress { error: Some(e.chain()), ..Progress::default() }).await;
            }
        });
        receiver
    }

    /// Fetches an image. Refusals that come before anything was fetched are the call's own, as in Docker.
    pub(crate) async fn pull(
        &self,
        reference: &str,
        auth: RegistryAuth,
        events: Arc<Events>,
    ) -> Result<mpsc::Receiver<Progress>> {
        Reference::parse(reference).map_err(|e| refused(ImageError::from(e)))?;
        // Asking first costs one small request and lets clients see 404 instead of a stream with an error in it.
        self.look_up(reference, &auth).await?;
        let reference = reference.to_owned();
        Ok(self.background(|store, sender| async move {
            let image = store.pull(&reference, &auth, &sender).await?;
            events.emit("image", "pull", &reference, [("name".to_owned(), reference.clone()), ("id".to_owned(), image.id)]);
            Ok(())
        }))
    }

    /// Sends an image.
    pub(crate) fn push(&self, reference: &str, auth: RegistryAuth, events: Arc<Events>) -> Result<mpsc::Receiver<Progress>> {
        Reference::parse(reference).map_err(|e| refused(ImageError::from(e)))?;
        let reference = reference.to_owned();
        Ok(self.background(|store, sender| async move {
            store.push(&reference, &auth, &sender).await?;
            events.emit("image", "push", &reference, [("name".to_owned(), reference.clone())]);
            Ok(())
        }))
    }

    /// Reads images from an archive.
    pub(crate) fn load(&self, archive: Upload, events: Arc<Events>) -> Result<mpsc::Receiver<Progress>> {
        Ok(self.background(|store, sender| async move {
            for name in store.load(archive, &sender).await? {
                events.emit("image", "load", &name, [("name".to_owned(), name.clone())]);
            }
            Ok(())
        }))
    }

    /// Writes images as an archive, as fast as they are taken.
    pub(crate) fn save(&self, names: Vec<String>, events: &Events) -> Result<Archive> {
        let meant = names.iter().map(|name| self.store.meant(name).map_err(refused)).collect::<Result<Vec<_>>>()?;
        for (name, ids) in names.iter().zip(meant) {
            for id in ids {
                events.emit("image", "save", &id, [("name".to_owned(), name.clone())]);
            }
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            let out = std::io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
            if let Err(e) = store.save(&names, out) {
                // A client that went away does not care why it failed.
                let _ = sender.blocking_send(Err(std::io::Error::other(e.chain())));
            }
        });
        Ok(receiver)
    }

    /// The steps of an image's build.
    pub(crate) fn history(&self, reference: &str) -> Result<Vec<ImageStep>> {
        let steps = self.store.history(reference).map_err(refused)?;
        let step =
            |s: skep_image::Step| ImageStep { created: s.created, created_by: s.created_by, comment: s.comment, size: s.size };
        Ok(steps.into_iter().map(step).collect())
    }

    /// Asks a registry whether it takes credentials.
    pub(crate) async fn login(&self, server: &str, auth: RegistryAuth) -> Result<()> {
        self.store.login(server, &auth).await.map_err(refused)
    }

    /// Makes an image of a root filesystem; its id.
    pub(crate) async fn import(&self, archive: Upload, reference: &str, changes: Vec<String>, message: &str) -> Result<String> {
        self.store.import(archive, reference, &changes, message).await.map_err(refused)
    }

    /// Makes an image of a container's layer, as it comes; the image's id.
    pub(crate) async fn commit(&self, commit: Commit, layer: Archive) -> Result<String> {
        self.store.commit(commit, Chunks { archive: layer, chunk: Vec::new(), at: 0 }).await.map_err(refused)
    }

    /// Bytes of each layer, by its digest.
    pub(crate) fn layer_sizes(&self) -> BTreeMap<String, u64> {
        self.store.layer_sizes()
    }

    /// What a registry says of a reference.
    pub(crate) async fn distribution(&self, reference: &str, auth: RegistryAuth) -> Result<Distribution> {
        let remote = self.look_up(reference, &auth).await?;
        Ok(Distribution {
            media_type: remote.media_type,
            digest: remote.digest,
            size: remote.size,
            platforms: remote.platforms,
        })
    }
}

/// Bytes of an archive on their way to a client, from a thread that may block.
struct Pieces(mpsc::Sender<std::io::Result<Vec<u8>>>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(bytes.to_vec())).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An archive as a thread that may block reads it.
struct Chunks {
    archive: Archive,
    chunk: Vec<u8>,
    at: usize,
}

impl std::io::Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.chunk.len() {
            (self.chunk, self.at) = (self.archive.blocking_recv().transpose()?.unwrap_or_default(), 0);
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl Images for ImageAdapter {
    fn image(&self, reference: &str) -> Result<ImageInfo> {
        self.get(reference)
    }

    fn lower(&self, id: &str) -> Result<Vec<PathBuf>> {
        self.store.mount_plan(id).map_err(refused)
    }
}
