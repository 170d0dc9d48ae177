//! `docker import`: a root filesystem becomes an image with one layer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncRead;

use crate::archive::{Blocking, descriptor};
use crate::compression::is_gzip;
use crate::config::{
    DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP, ImageConfig, Manifest, RootFs, RunConfig, host_architecture, now,
};
use crate::error::{ImageError, Result};
use crate::store::ImageStore;

impl ImageStore {
    /// Makes an image of a root filesystem's archive; its id. `reference` may be empty; `changes` are lines of a Dockerfile (`CMD`,
    /// `ENTRYPOINT`, `ENV`, `EXPOSE`, `LABEL`, `STOPSIGNAL`, `USER`, `VOLUME`, `WORKDIR`).
    ///
    /// # Errors
    /// The archive cannot be unpacked, or a change cannot be read.
    pub async fn import(
        self: &Arc<Self>,
        archive: Pin<Box<dyn AsyncRead + Send>>,
        reference: &str,
        changes: &[String],
        message: &str,
    ) -> Result<String> {
        let mut run = RunConfig::default();
        for change in changes {
            apply(&mut run, change)?;
        }
        let tags = if reference.is_empty() { None } else { Some(vec![reference.to_owned()]) };
        let _arriving = self.arriving.clone().read_owned().await;
        let (store, runtime, message) = (self.clone(), tokio::runtime::Handle::current(), message.to_owned());
        let work = move || {
            let (blob, size) = store.blobs.put_stream(&mut Blocking { runtime, inner: archive })?;
            let diff_id = store.layers.add(&store.blobs, &blob, None)?;
            let created = now();
            let config = ImageConfig {
                architecture: host_architecture().to_owned(),
                os: "linux".to_owned(),
                author: String::new(),
                created: created.clone(),
                config: run,
                rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
                history: vec![json!({"created": created, "comment": message})],
            };
            let bytes = serde_json::to_vec(&config).map_err(|e| ImageError::invalid("configuration", e))?;
            let id = store.blobs.put(&bytes)?;
            let mut head = [0; 2];
            let gzip = io::Read::read_exact(&mut store.blobs.open_blob(&blob)?, &mut head).is_ok() && is_gzip(&head);
            let layer = descriptor(if gzip { DOCKER_LAYER_GZIP } else { DOCKER_LAYER }, blob, size);
            let manifest = Manifest::of(descriptor(DOCKER_CONFIG, id.clone(), bytes.len() as u64), vec![layer]);
            store.finish(manifest, &tags, &mut Vec::new())?;
            Ok(id)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| ImageError::io("import", "archive", io::Error::other(e)))?
    }
}

/// Applies one line of a Dockerfile.
pub(crate) fn apply(run: &mut RunConfig, change: &str) -> Result<()> {
    let bad = || ImageError::invalid("change", change);
    let (word, rest) = change.trim().split_once(char::is_whitespace).ok_or_else(bad)?;
    let rest = rest.trim();
    // a JSON list, or a line for the shell
    let command = || {
        let list: Option<Vec<String>> = serde_json::from_str(rest).ok();
        list.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()])
    };
    let list = || {
        let list: Option<Vec<String>> = serde_json::from_str(rest).ok();
        list.unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect())
    };
    let pair = || {
        let (key, value) = rest.split_once('=').or_else(|| rest.split_once(' ')).ok_or_else(bad)?;
        Ok::<_, ImageError>((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    match word.to_ascii_uppercase().as_str() {
        "CMD" => run.cmd = command(),
        "ENTRYPOINT" => run.entrypoint = command(),
        "ENV" => {
            let (key, value) = pair()?;
            run.env.retain(|e| !e.starts_with(&format!("{key}=")));
            run.env.push(format!("{key}={value}"));
        }
        "LABEL" => run.labels.extend([pair()?]),
        "EXPOSE" => {
            let port = |p: String| if p.contains('/') { p } else { format!("{p}/tcp") };
            run.exposed_ports.extend(list().into_iter().map(|p| (port(p), Default::default())));
        }
        "VOLUME" => run.volumes.extend(list().into_iter().map(|v| (v, Default::default()))),
        "USER" => run.user = rest.to_owned(),
        "WORKDIR" => run.working_dir = rest.to_owned(),
        "STOPSIGNAL" => run.stop_signal = rest.to_owned(),
        _ => return Err(ImageError::invalid("change", format!("{word} is not a valid change command"))),
    }
    Ok(())
}
