//! Which containers exist, by id and by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::container::ContainerInfo;

use crate::Engine;
use crate::container::Container;
use crate::error::{Result, invalid, not_found};

/// Containers by id; ids by name. A name is taken before its container exists, so that two creations cannot share it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    containers: BTreeMap<String, Arc<Container>>,
    names: BTreeMap<String, String>,
}

impl Engine {
    /// The container of a name, id or unique id prefix.
    ///
    /// # Errors
    /// 404 and 400 with Docker's texts.
    pub fn find(&self, target: &str) -> Result<Arc<Container>> {
        let registry = crate::lock(&self.registry);
        let name = target.strip_prefix('/').unwrap_or(target);
        let by_name = || registry.names.get(name).and_then(|id| registry.containers.get(id));
        if let Some(found) = registry.containers.get(target).or_else(by_name) {
            return Ok(Arc::clone(found));
        }
        let missing = || not_found(format!("No such container: {target}"));
        if target.is_empty() {
            return Err(missing());
        }
        let mut matches = registry.containers.range(target.to_owned()..).take_while(|(id, _)| id.starts_with(target));
        match (matches.next(), matches.next()) {
            (Some((_, found)), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => Err(invalid(format!("multiple IDs found with provided prefix: {target}"))),
            _ => Err(missing()),
        }
    }

    /// The container that carries a label with this value; looks at the labels in place, since agents ask this for each step
    /// of each task.
    pub fn labelled(&self, key: &str, value: &str) -> Option<Arc<Container>> {
        let registry = crate::lock(&self.registry);
        registry.containers.values().find(|c| c.has_label(key, value)).cloned()
    }

    /// All containers, newest first.
    pub fn list(&self) -> Vec<ContainerInfo> {
        let all: Vec<Arc<Container>> = crate::lock(&self.registry).containers.values().cloned().collect();
        let mut infos: Vec<ContainerInfo> = all.iter().map(|c| c.info()).collect();
        infos.sort_by_key(|i| std::cmp::Reverse(i.created));
        infos
    }

    /// Takes a name for an id; the holder if it is taken.
    pub(crate) fn take_name(&self, name: &str, id: &str) -> std::result::Result<(), String> {
        let mut registry = crate::lock(&self.registry);
        match registry.names.get(name) {
            Some(holder) => Err(holder.clone()),
            None => {
                registry.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    pub(crate) fn release_name(&self, name: &str, id: &str) {
        let mut registry = crate::lock(&self.registry);
        if registry.names.get(name).is_some_and(|holder| holder == id) {
            registry.names.remove(name);
        }
    }

    pub(crate) fn registry_insert(&self, container: Arc<Container>) {
        let mut registry = crate::lock(&self.registry);
        registry.names.insert(container.info().name, container.id.clone());
        registry.containers.insert(container.id.clone(), container);
    }

    /// Whether this call removed it.
    pub(crate) fn registry_remove(&self, id: &str) -> bool {
        let mut registry = crate::lock(&self.registry);
        let removed = registry.containers.remove(id).is_some();
        registry.names.retain(|_, holder| holder != id);
        removed
    }
}
