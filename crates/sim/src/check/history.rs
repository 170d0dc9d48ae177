//! What operators were told (invariant 2): nothing acknowledged is lost, and of two updates from one version at most one is
//! accepted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_types::ServiceId;
use skep_types::object::{Service, Version};

#[derive(Debug, Default, Clone)]
struct Known {
    /// The version must be at least this, unless the service was removed.
    at_least: Version,
    /// Versions from which an update was acknowledged.
    updated_from: Vec<Version>,
    /// A removal was asked for, and may have happened.
    perhaps_removed: bool,
    removed: bool,
}

/// The acknowledged writes of all operators.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<BTreeMap<ServiceId, Known>>);

/// What a reader must see at least.
#[derive(Debug, Clone)]
pub(crate) struct Expected(BTreeMap<ServiceId, Known>);

impl History {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn created(&self, id: ServiceId) {
        self.lock().entry(id).or_default();
    }

    pub(crate) fn removing(&self, id: ServiceId) {
        self.lock().entry(id).or_default().perhaps_removed = true;
    }

    pub(crate) fn removed(&self, id: ServiceId) {
        self.lock().entry(id).or_default().removed = true;
    }

    /// An update from a version was acknowledged.
    ///
    /// # Errors
    /// If another one from the same version was acknowledged before.
    pub(crate) fn updated(&self, id: ServiceId, from: Version) -> Result<(), String> {
        let mut all = self.lock();
        let k = all.entry(id).or_default();
        if k.updated_from.contains(&from) {
            return Err(format!("two updates of service {id} from version {} were acknowledged", from.0));
        }
        k.updated_from.push(from);
        k.at_least = k.at_least.max(Version(from.0 + 1));
        Ok(())
    }

    /// What a read that begins now must see.
    pub(crate) fn expected(&self) -> Expected {
        Expected(self.lock().clone())
    }
}

impl Expected {
    /// Checks what a read saw that began after this was taken; `after` was taken when it had ended.
    ///
    /// # Errors
    /// If something acknowledged is missing.
    pub(crate) fn seen<'a>(&self, services: impl Iterator<Item = &'a Service>, after: &Self) -> Result<(), String> {
        let found: BTreeMap<ServiceId, Version> = services.map(|s| (s.id, s.meta.version)).collect();
        for (id, k) in &self.0 {
            match found.get(id) {
                None if after.0.get(id).is_none_or(|k| !k.perhaps_removed) => {
                    return Err(format!("service {id} was acknowledged and is not there"));
                }
                Some(v) if *v < k.at_least => {
                    return Err(format!("service {id} is at version {}, but {} was acknowledged", v.0, k.at_least.0));
                }
                Some(_) if k.removed => return Err(format!("service {id} was removed and is there again")),
                _ => {}
            }
        }
        Ok(())
    }
}
