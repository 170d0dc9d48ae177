//! `docker commit`: an image, and on top of it what a container has changed.

use std::io;
use std::sync::Arc;

use serde_json::json;
use skep_types::container::ContainerConfig;

use crate::archive::descriptor;
use crate::config::{DOCKER_CONFIG, DOCKER_LAYER, Healthcheck, Manifest, RunConfig, now};
use crate::error::{ImageError, Result};
use crate::import::apply;
use crate::store::ImageStore;

/// What a new image is to be, besides what the container has changed.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Id of the image that the container was made of.
    pub parent: String,
    /// What the container runs.
    pub config: ContainerConfig,
    /// Its name; may be empty.
    pub reference: String,
    /// Lines of a Dockerfile, as for [`ImageStore::import`].
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// What a container runs, as an image says it.
fn run_config(config: &ContainerConfig) -> RunConfig {
    let health = |h: &skep_types::health::HealthConfig| Healthcheck {
        test: h.test.clone(),
        interval: u64::try_from(h.interval.as_nanos()).unwrap_or(0),
        timeout: u64::try_from(h.timeout.as_nanos()).unwrap_or(0),
        start_period: u64::try_from(h.start_period.as_nanos()).unwrap_or(0),
        start_interval: u64::try_from(h.start_interval.as_nanos()).unwrap_or(0),
        retries: h.retries,
    };
    let set = |keys: &[String]| keys.iter().map(|k| (k.clone(), Default::default())).collect();
    RunConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        cmd: config.cmd.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.health.as_ref().map(health),
    }
}

impl ImageStore {
    /// Makes an image of a container's image and the archive of its writable layer; its id.
    ///
    /// # Errors
    /// There is no such image, the archive is damaged, or a change cannot be read.
    pub async fn commit(self: &Arc<Self>, commit: Commit, mut layer: impl io::Read + Send + 'static) -> Result<String> {
        let mut run = run_config(&commit.config);
        for change in &commit.changes {
            apply(&mut run, change)?;
        }
        let _arriving = self.arriving.clone().read_owned().await;
        let store = self.clone();
        let work = move || store.put_commit(&commit, run, &mut layer);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|e| ImageError::io("commit", "layer", io::Error::other(e)))?
    }

    fn put_commit(&self, commit: &Commit, run: RunConfig, layer: &mut dyn io::Read) -> Result<String> {
        let (parent, image) = self.image(&commit.parent)?;
        let (blob, size) = self.blobs.put_stream(layer)?;
        let diff_id = self.layers.add(&self.blobs, &blob, None)?;
        let created = now();
        let mut config = self.config(&parent)?;
        config.rootfs.diff_ids.push(diff_id);
        config.history.push(json!({
            "created": created, "created_by": run.cmd.join(" "), "author": commit.author, "comment": commit.comment,
        }));
        config.created = created;
        config.author.clone_from(&commit.author);
        config.config = run;
        let bytes = serde_json::to_vec(&config).map_err(|e| ImageError::invalid("configuration", e))?;
        let id = self.blobs.put(&bytes)?;
        // Those of the parent are sent as they came.
        let known: Manifest = serde_json::from_slice(&self.blobs.read(&image.manifest)?)
            .map_err(|e| ImageError::invalid(format!("manifest of image {parent}"), e))?;
        let mut layers = known.layers;
        layers.push(descriptor(DOCKER_LAYER, blob, size));
        let manifest = Manifest::of(descriptor(DOCKER_CONFIG, id.clone(), bytes.len() as u64), layers);
        let tags = if commit.reference.is_empty() { None } else { Some(vec![commit.reference.clone()]) };
        self.finish(manifest, &tags, &mut Vec::new())?;
        Ok(id)
    }
}
