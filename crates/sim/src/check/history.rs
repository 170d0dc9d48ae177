//! What operators were told (invariant 2): nothing acknowledged is lost, of two updates from one version at most one is
//! accepted, and what was refused did not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_types::ServiceId;
use skep_types::object::{Service, Version};
use skep_types::spec::ServiceSpec;

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

/// Updates, by the label that each of them sets.
#[derive(Debug, Default)]
struct Stamps {
    last: u64,
    applied: BTreeSet<String>,
    refused: BTreeSet<String>,
}

/// Label whose value is another one with each update.
const STAMP: &str = "stamp";

/// The writes of all operators with what they were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    services: Mutex<BTreeMap<ServiceId, Known>>,
    stamps: Mutex<Stamps>,
}

/// What a reader must see at least.
#[derive(Debug, Clone)]
pub(crate) struct Expected(BTreeMap<ServiceId, Known>);

impl History {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceId, Known>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self) -> MutexGuard<'_, Stamps> {
        self.stamps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an update known by what it writes.
    pub(crate) fn stamp(&self, spec: &mut ServiceSpec) -> String {
        let mut stamps = self.stamps();
        stamps.last += 1;
        let stamp = stamps.last.to_string();
        spec.labels.insert(STAMP.into(), stamp.clone());
        stamp
    }

    /// An update was refused for its version.
    ///
    /// # Errors
    /// If it was written.
    pub(crate) fn refused(&self, stamp: &str) -> Result<(), String> {
        let mut stamps = self.stamps();
        stamps.refused.insert(stamp.to_owned());
        if stamps.applied.contains(stamp) { Err(format!("update {stamp} was written, and refused")) } else { Ok(()) }
    }

    /// A service was written.
    ///
    /// # Errors
    /// If that update was refused.
    pub(crate) fn written(&self, service: &Service) -> Result<(), String> {
        let Some(stamp) = service.spec.labels.get(STAMP) else { return Ok(()) };
        let mut stamps = self.stamps();
        stamps.applied.insert(stamp.clone());
        if stamps.refused.contains(stamp) { Err(format!("update {stamp} was refused, and written")) } else { Ok(()) }
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
