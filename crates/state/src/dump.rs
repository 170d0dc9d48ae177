//! The whole store as one value, for raft snapshots. Indexes are built again when it is read. Must stay readable by other
//! versions of this program.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skep_types::ServiceId;
use skep_types::file::StoredFile;
use skep_types::object::{Cluster, Network, Node, Service, Task};
use skep_types::spec::TaskSpec;

use crate::codec::{Record, Unknown, Unreadable};
use crate::{Key, Refused, Store};

/// Everything in a store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dump {
    applied: u64,
    cluster: Option<Record<Cluster>>,
    networks: Vec<Record<Network>>,
    nodes: Vec<Record<Node>>,
    services: Vec<Record<Service>>,
    revisions: Vec<(ServiceId, u64, Record<TaskSpec>)>,
    tasks: Vec<Record<Task>>,
    #[serde(default)]
    files: Vec<Record<StoredFile>>,
    /// What the version that wrote this did not know of its objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<(Key, Unknown)>,
}

/// Why a dump is not the tables of this version.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It contradicts itself, which a dump of this program does not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What another version kept in it does not fit.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Fields that the writer did not know, and those that this version does not know either.
struct Fields {
    kept: BTreeMap<Key, Unknown>,
    left: BTreeMap<Key, Unknown>,
}

impl Fields {
    fn read<T: Serialize + DeserializeOwned>(&mut self, r: Record<T>, key: impl Fn(&T) -> Key) -> Result<Arc<T>, Unreadable> {
        let (object, unknown) = r.read(|o| self.kept.get(&key(o)).cloned())?;
        self.left.extend(unknown.map(|fields| (key(&object), fields)));
        Ok(object)
    }
}

impl Store {
    /// Everything in this store. The objects are shared, not copied.
    #[must_use]
    pub fn dump(&self) -> Dump {
        Dump {
            applied: self.applied,
            cluster: self.cluster.as_ref().map(Record::from),
            networks: self.networks.values().map(Record::from).collect(),
            nodes: self.nodes.values().map(Record::from).collect(),
            services: self.services.values().map(Record::from).collect(),
            revisions: self.revisions.iter().map(|((s, r), t)| (*s, *r, Record::from(t))).collect(),
            tasks: self.tasks.values().map(Record::from).collect(),
            files: self.files.values().map(Record::from).collect(),
            unknown: self.unknown.iter().map(|(key, fields)| (*key, (**fields).clone())).collect(),
        }
    }

    /// The store that a dump was made of.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(d: Dump) -> Result<Self, RestoreError> {
        let mut fields = Fields { kept: d.unknown.into_iter().collect(), left: BTreeMap::new() };
        let cluster = d.cluster.map(|c| fields.read(c, |_| Key::Cluster)).transpose()?;
        let mut s = Self { applied: d.applied, cluster, ..Self::default() };
        for n in d.networks {
            let n = fields.read(n, |n| Key::Network(n.id))?;
            s.index.check_network(&n, s.networks.values().map(|n| (**n).clone()))?;
            s.index.add_network(&n);
            s.networks.insert(n.id, n);
        }
        for n in d.nodes {
            let n = fields.read(n, |n| Key::Node(n.id))?;
            s.index.check_node(&n)?;
            s.index.add_node(&n);
            s.nodes.insert(n.id, n);
        }
        for x in d.services {
            let x = fields.read(x, |x| Key::Service(x.id))?;
            s.index.check_service(&x, |_| String::new())?;
            s.index.add_service(&x);
            s.services.insert(x.id, x);
        }
        for (service, revision, spec) in d.revisions {
            let spec = fields.read(spec, |_| Key::Revision(service, revision))?;
            s.revisions.insert((service, revision), spec);
        }
        for t in d.tasks {
            let t = fields.read(t, |t| Key::Task(t.id))?;
            s.index.check_task(&t)?;
            s.index.add_task(&t, s.revisions.get(&(t.service, t.revision)).map(|s| &**s));
            s.tasks.put(t.id, t);
        }
        for f in d.files {
            let f = fields.read(f, |f| Key::File(f.id))?;
            s.index.check_file(&f)?;
            s.index.add_file(&f);
            s.files.insert(f.id, f);
        }
        s.unknown = fields.left.into_iter().map(|(key, fields)| (key, Arc::new(fields))).collect();
        Ok(s)
    }
}
