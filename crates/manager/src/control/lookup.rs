//! Finding an object by what an operator typed: full id, exact name, or unique id prefix (`swarm-semantics` 1.1). Must never
//! pick one of several.

use std::sync::Arc;

use skep_state::Store;
use skep_types::control::{Code, ControlError};
use skep_types::file::{FileKind, StoredFile};
use skep_types::object::{Network, Node, Service, Task};

fn one<'a, T: 'a>(
    kind: &str,
    target: &str,
    all: impl Iterator<Item = &'a Arc<T>>,
    id: impl Fn(&T) -> String,
    names: impl Fn(&T) -> Vec<String>,
) -> Result<Arc<T>, ControlError> {
    let (mut by_name, mut by_prefix) = (Vec::new(), Vec::new());
    for o in all {
        let this = id(o);
        if this == target {
            return Ok(o.clone());
        }
        if names(o).iter().any(|n| n == target) {
            by_name.push(o);
        } else if !target.is_empty() && this.starts_with(target) {
            by_prefix.push(o);
        }
    }
    let found = if by_name.is_empty() { by_prefix } else { by_name };
    match found.as_slice() {
        [] => Err(ControlError::new(Code::NotFound, format!("{kind} {target} not found"))),
        [x] => Ok((*x).clone()),
        many => Err(ControlError::new(
            Code::InvalidArgument,
            format!("{kind} {target} is ambiguous ({} matches found)", many.len()),
        )),
    }
}

pub(crate) fn node(s: &Store, target: &str) -> Result<Arc<Node>, ControlError> {
    one(
        "node",
        target,
        s.nodes(),
        |n| n.id.to_string(),
        |n: &Node| n.spec.name.iter().cloned().chain([n.description.hostname.clone()]).collect(),
    )
}

pub(crate) fn service(s: &Store, target: &str) -> Result<Arc<Service>, ControlError> {
    if let Some(x) = s.service_by_name(target) {
        return Ok(x.clone());
    }
    one("service", target, s.services(), |x| x.id.to_string(), |x: &Service| vec![x.spec.name.clone()])
}

pub(crate) fn task(s: &Store, target: &str) -> Result<Arc<Task>, ControlError> {
    one(
        "task",
        target,
        s.tasks(),
        |t| t.id.to_string(),
        |t: &Task| vec![t.container_name(), format!("{}.{}", t.service_name, t.slot)],
    )
}

pub(crate) fn network(s: &Store, target: &str) -> Result<Arc<Network>, ControlError> {
    if let Some(x) = s.network_by_name(target) {
        return Ok(x.clone());
    }
    one("network", target, s.networks(), |n| n.id.to_string(), |n: &Network| vec![n.spec.name.clone()])
}

pub(crate) fn file(s: &Store, kind: FileKind, target: &str) -> Result<Arc<StoredFile>, ControlError> {
    if let Some(x) = s.file_by_name(kind, target) {
        return Ok(x.clone());
    }
    one(kind.as_str(), target, s.files(kind), |f| f.id.to_string(), |f: &StoredFile| vec![f.spec.name.clone()])
}
