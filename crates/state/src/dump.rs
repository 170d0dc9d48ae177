//! The whole store as one value, for raft snapshots. Indexes are built again when it is read. Must stay readable by other
//! versions of this program.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_types::ServiceId;
use skep_types::object::{Cluster, Network, Node, Service, Task};
use skep_types::spec::TaskSpec;

use crate::{Refused, Store};

/// Everything in a store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dump {
    applied: u64,
    cluster: Option<Arc<Cluster>>,
    networks: Vec<Arc<Network>>,
    nodes: Vec<Arc<Node>>,
    services: Vec<Arc<Service>>,
    revisions: Vec<(ServiceId, u64, Arc<TaskSpec>)>,
    tasks: Vec<Arc<Task>>,
}

impl Store {
    /// Everything in this store. The objects are shared, not copied.
    #[must_use]
    pub fn dump(&self) -> Dump {
        Dump {
            applied: self.applied,
            cluster: self.cluster.clone(),
            networks: self.networks.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            services: self.services.values().cloned().collect(),
            revisions: self.revisions.iter().map(|((s, r), t)| (*s, *r, t.clone())).collect(),
            tasks: self.tasks.values().cloned().collect(),
        }
    }

    /// The store that a dump was made of.
    ///
    /// # Errors
    /// [`Refused`] if the dump contradicts itself, which a dump of this program does not.
    pub fn restore(d: Dump) -> Result<Self, Refused> {
        let mut s = Self { applied: d.applied, cluster: d.cluster, ..Self::default() };
        for n in d.networks {
            s.index.check_network(&n, s.networks.values().map(|n| (**n).clone()))?;
            s.index.add_network(&n);
            s.networks.insert(n.id, n);
        }
        for n in d.nodes {
            s.index.check_node(&n)?;
            s.index.add_node(&n);
            s.nodes.insert(n.id, n);
        }
        for x in d.services {
            s.index.check_service(&x, |_| String::new())?;
            s.index.add_service(&x);
            s.services.insert(x.id, x);
        }
        s.revisions = d.revisions.into_iter().map(|(a, b, c)| ((a, b), c)).collect();
        for t in d.tasks {
            s.index.check_task(&t)?;
            s.index.add_task(&t, s.revisions.get(&(t.service, t.revision)).map(|s| &**s));
            s.tasks.insert(t.id, t);
        }
        Ok(s)
    }
}
