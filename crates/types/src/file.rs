//! Secrets and configs: small files that the swarm keeps and gives to tasks (`swarm-semantics` 2.4 and 7.3). They differ in who
//! may read them back: a config's bytes are shown to clients, a secret's never. Must never be printed with their bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::Meta;
use crate::spec::{EndpointSpec, Labels};
use crate::{FileId, TaskId};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// Never shown again.
    Secret,
    /// Shown to whoever may ask.
    Config,
}

impl FileKind {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// A file of it is smaller than so many bytes.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::Secret => 500 * 1024,
            Self::Config => 1000 * 1024,
        }
    }

    /// Where a file with this target is in a container: secrets below `/run/secrets`, configs below the root, both anywhere by an
    /// absolute path.
    #[must_use]
    pub fn path(self, target: &str) -> String {
        match (self, target.starts_with('/')) {
            (_, true) => target.to_owned(),
            (Self::Secret, false) => format!("/run/secrets/{target}"),
            (Self::Config, false) => format!("/{target}"),
        }
    }
}

/// Bytes of a secret or a config: shared, and never printed. Encoded as a byte string.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Arc<[u8]>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} hidden)", self.0.len())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }
        }
        d.deserialize_bytes(Visitor)
    }
}

/// A secret or a config as its operator made it. Only the labels change afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Which of the two.
    pub kind: FileKind,
    /// Unique among its kind: 1 to 64 of `[a-zA-Z0-9-_.]`, a letter or digit first and last.
    pub name: String,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// What is in it.
    pub data: Bytes,
    /// Each task fills in the placeholders in it (`--template-driver golang`).
    #[serde(default)]
    pub template: bool,
    /// Who is asked for what is in a secret each time that a task needs it; `data` is empty then.
    #[serde(default)]
    pub driver: Option<FileDriver>,
}

/// A plugin that keeps secrets elsewhere (`swarm-semantics` 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDriver {
    /// Name of the plugin, which every manager has.
    pub name: String,
    /// Options as given; SwarmKit keeps them and hands them to nobody.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// What a driver is asked when a task needs a secret of its: the fields that SwarmKit sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverAsk {
    /// Name of the plugin.
    pub driver: String,
    /// The secret's name.
    pub name: String,
    /// The secret's labels.
    pub labels: Labels,
    /// The service's id.
    pub service_id: String,
    /// The service's name.
    pub service: String,
    /// The service's labels.
    pub service_labels: Labels,
    /// Host name that its containers ask for.
    pub hostname: String,
    /// How it is reached.
    pub endpoint: EndpointSpec,
    /// The task's id.
    pub task_id: String,
    /// The task's name.
    pub task: String,
    /// The task's image.
    pub image: String,
    /// The node that the task is on.
    pub node: String,
}

/// What a driver gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverAnswer {
    /// The secret.
    pub data: Bytes,
    /// It is for this task alone: the driver is asked again for the next one.
    pub once: bool,
}

/// A secret or a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its id.
    pub id: FileId,
    /// Version and times.
    pub meta: Meta,
    /// As its operator made it.
    pub spec: FileSpec,
}

impl StoredFile {
    /// The id under which a node has what a driver gave for one task alone.
    #[must_use]
    pub fn id_for(file: FileId, task: TaskId) -> FileId {
        // Both are drawn at random, so that no other pair gives this.
        FileId(file.0 ^ task.0.rotate_left(64))
    }

    /// What clients may see of it.
    #[must_use]
    pub fn shown(self: &Arc<Self>) -> Arc<Self> {
        match self.spec.kind {
            FileKind::Config => self.clone(),
            FileKind::Secret => {
                let spec = FileSpec { data: Bytes::default(), ..self.spec.clone() };
                Arc::new(Self { id: self.id, meta: self.meta, spec })
            }
        }
    }
}

/// A secret or a config that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Which of the two.
    pub kind: FileKind,
    /// Which.
    pub id: FileId,
    /// Its name.
    pub name: String,
    /// Where in the container; see [`FileKind::path`].
    pub target: String,
    /// Owner, a number.
    #[serde(default)]
    pub uid: u32,
    /// Group, a number.
    #[serde(default)]
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

impl FileRef {
    /// Its path in the container.
    #[must_use]
    pub fn path(&self) -> String {
        self.kind.path(&self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_never_printed() {
        let spec = FileSpec {
            kind: FileKind::Secret,
            name: "a".into(),
            labels: Labels::new(),
            data: b"hunter2".to_vec().into(),
            template: false,
            driver: None,
        };
        assert!(!format!("{spec:?}").contains("hunter2") && format!("{spec:?}").contains("7 hidden"));
        let stored = Arc::new(StoredFile { id: FileId(1), meta: Meta::default(), spec });
        assert!(stored.shown().spec.data.0.is_empty());
    }

    #[test]
    fn targets_become_paths() {
        assert_eq!(FileKind::Secret.path("a/b"), "/run/secrets/a/b");
        assert_eq!(FileKind::Config.path("nginx.conf"), "/nginx.conf");
        assert_eq!(FileKind::Secret.path("/etc/key"), "/etc/key");
    }
}
