//! The simulated hosts and what joins them. Must never hold a lock over an await.

use std::sync::Arc;

use crate::check::Checker;
use crate::host::Host;
use crate::net::Net;

/// Everything of one simulation.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) hosts: Vec<Host>,
    pub(crate) check: Arc<Checker>,
}

impl World {
    /// A manager that is up, chosen by `which`.
    pub(crate) fn some_manager(&self, which: u64) -> Option<(usize, Arc<skep_manager::Manager>)> {
        let up: Vec<_> = self.hosts.iter().enumerate().filter_map(|(i, h)| Some((i, h.manager()?))).collect();
        // A remainder below a length fits a usize.
        (!up.is_empty()).then(|| up[(which % up.len() as u64) as usize].clone())
    }

    /// The manager that leads, if there is one.
    pub(crate) fn leader(&self) -> Option<Arc<skep_manager::Manager>> {
        self.hosts.iter().filter_map(Host::manager).find(|m| m.is_leading())
    }
}
