//! Generic resources (`swarm-semantics` 5.6): what of a node is free, and which of it a task gets. Must never give one out twice.

use std::collections::{BTreeMap, BTreeSet};

use skep_state::Store;
use skep_types::object::Node;
use skep_types::spec::GenericResource;

/// What a task with these reservations gets on a node: of named kinds the lowest names, of counted ones the number. `None` if
/// there is not enough.
pub(super) fn claim(store: &Store, n: &Node, wanted: &BTreeMap<String, u64>) -> Option<Vec<GenericResource>> {
    if wanted.is_empty() {
        return Some(Vec::new());
    }
    let (mut names, mut counts): (BTreeSet<(&str, &str)>, BTreeMap<&str, u64>) = Default::default();
    for r in &n.description.generic {
        match r {
            GenericResource::Named { kind, id } => drop(names.insert((kind, id))),
            GenericResource::Discrete { kind, count } => *counts.entry(kind).or_default() += count,
        }
    }
    for r in store.tasks_of_node(n.id).filter(|t| !t.status.state.is_terminal()).flat_map(|t| &t.generic) {
        match r {
            GenericResource::Named { kind, id } => drop(names.remove(&(kind.as_str(), id.as_str()))),
            GenericResource::Discrete { kind, count } => {
                if let Some(c) = counts.get_mut(kind.as_str()) {
                    *c = c.saturating_sub(*count);
                }
            }
        }
    }
    let mut out = Vec::new();
    for (kind, count) in wanted {
        let free: Vec<&str> = names.iter().filter(|(k, _)| k == kind).map(|(_, id)| *id).collect();
        if free.len() as u64 >= *count && !free.is_empty() {
            // As many as there are at most, so it fits.
            let ids = free.into_iter().take(*count as usize);
            out.extend(ids.map(|id| GenericResource::Named { kind: kind.clone(), id: id.to_owned() }));
        } else if counts.get(kind.as_str()).is_some_and(|c| c >= count) {
            out.push(GenericResource::Discrete { kind: kind.clone(), count: *count });
        } else {
            return None;
        }
    }
    Some(out)
}
