//! A small image of given files, as an archive for `docker load`: how the demonstration's and the tests' images are packed.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::archive::header;
use crate::compression::digest_of;
use crate::config::{Healthcheck, ImageConfig, RootFs, RunConfig, host_architecture};

/// What is put at a path.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Dir(u32),
    Link(String),
}

/// An image in the making: one layer and a configuration.
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    nodes: BTreeMap<String, Node>,
    run: RunConfig,
    created: String,
}

impl ImageBuilder {
    /// An empty image. The same calls make the same bytes: its time is fixed.
    #[must_use]
    pub fn new() -> Self {
        Self { created: "1970-01-01T00:00:01Z".to_owned(), ..Self::default() }
    }

    /// Adds a file; directories on its way are made.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.add(path, Node::File(bytes.into(), mode));
        self
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(mut self, path: &str, mode: u32) -> Self {
        self.add(path, Node::Dir(mode));
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.add(path, Node::Link(target.to_owned()));
        self
    }

    fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.nodes.entry(path[..end].to_owned()).or_insert(Node::Dir(0o755));
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// ENTRYPOINT.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.run.entrypoint = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// CMD.
    #[must_use]
    pub fn cmd(mut self, words: &[&str]) -> Self {
        self.run.cmd = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// ENV.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.run.env.push(format!("{key}={value}"));
        self
    }

    /// HEALTHCHECK by a line for the shell; times in nanoseconds, zero means Docker's default.
    #[must_use]
    pub fn healthcheck(mut self, line: &str, interval: u64, retries: u32) -> Self {
        let test = vec!["CMD-SHELL".to_owned(), line.to_owned()];
        self.run.healthcheck = Some(Healthcheck { test, interval, retries, ..Healthcheck::default() });
        self
    }

    /// EXPOSE, `80/tcp`.
    #[must_use]
    pub fn expose(mut self, port: &str) -> Self {
        self.run.exposed_ports.insert(port.to_owned(), BTreeMap::new());
        self
    }

    /// VOLUME.
    #[must_use]
    pub fn volume(mut self, path: &str) -> Self {
        self.run.volumes.insert(path.to_owned(), BTreeMap::new());
        self
    }

    /// LABEL.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.run.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// USER.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.run.user = user.to_owned();
        self
    }

    /// WORKDIR.
    #[must_use]
    pub fn working_dir(mut self, dir: &str) -> Self {
        self.run.working_dir = dir.to_owned();
        self
    }

    /// The layer's archive.
    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            match node {
                Node::File(bytes, mode) => {
                    let mut header = header(bytes.len() as u64);
                    header.set_mode(*mode);
                    archive.append_data(&mut header, path, bytes.as_slice())?;
                }
                Node::Dir(mode) => {
                    let mut header = header(0);
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::Link(target) => {
                    let mut header = header(0);
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }

    /// Writes the archive, named `tag`.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, tag: &str, out: impl Write) -> io::Result<()> {
        let layer = self.layer()?;
        let config = ImageConfig {
            architecture: host_architecture().to_owned(),
            os: "linux".to_owned(),
            author: String::new(),
            created: self.created.clone(),
            config: self.run.clone(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![digest_of(&layer)] },
            history: Vec::new(),
        };
        let config = serde_json::to_vec(&config)?;
        let hex = |bytes: &[u8]| digest_of(bytes).trim_start_matches("sha256:").to_owned();
        let (config_path, layer_path) = (format!("{}.json", hex(&config)), format!("{}/layer.tar", hex(&layer)));
        let list = serde_json::json!([{"Config": config_path, "RepoTags": [tag], "Layers": [layer_path]}]).to_string();
        let mut archive = tar::Builder::new(out);
        for (path, bytes) in [(&config_path, &config), (&layer_path, &layer), (&"manifest.json".to_owned(), &list.into_bytes())]
        {
            archive.append_data(&mut header(bytes.len() as u64), path, bytes.as_slice())?;
        }
        archive.finish()
    }
}
