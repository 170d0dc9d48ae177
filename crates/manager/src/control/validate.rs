//! What a spec must fulfil before it is written, with the reference's texts (`swarm-semantics` 2.2, 5.5). Pure. Must never
//! change what it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_plan::constraint::Constraint;
use skep_state::{Key, Store};
use skep_types::control::{Code, ControlError};
use skep_types::file::{FileKind, FileRef};
use skep_types::object::{Node, Version};
use skep_types::reference::Reference;
use skep_types::spec::{ContainerSpec, EndpointMode, Labels, Protocol, PublishMode, Resources, ServiceSpec, UpdateConfig};
use skep_types::{ServiceId, limits, options, template};

use crate::error::{invalid, rpc};

/// Longest name, a DNS label's.
const MAX_NAME: usize = 63;

/// A name that can be part of a DNS name.
pub(crate) fn name(n: &str) -> Result<(), ControlError> {
    if n.is_empty() {
        return Err(invalid("meta: name must be provided"));
    }
    let inner = n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let ends = [n.chars().next(), n.chars().last()].into_iter().flatten().all(|c| c.is_ascii_alphanumeric());
    if !inner || !ends {
        return Err(invalid("name must be valid as a DNS name component"));
    }
    if n.len() > MAX_NAME {
        return Err(invalid("name must be 63 characters or fewer"));
    }
    Ok(())
}

/// A whole service spec. `id` is the service itself on an update.
pub(crate) fn service(store: &Store, spec: &ServiceSpec, id: Option<ServiceId>) -> Result<(), ControlError> {
    name(&spec.name)?;
    labels(&spec.labels)?;
    options::check_service(&spec.labels).map_err(invalid)?;
    resources(&spec.task.resources)?;
    for c in &spec.task.placement.constraints {
        Constraint::parse(c).map_err(invalid)?;
    }
    container(&spec.task.container)?;
    files(store, &spec.task.container)?;
    if spec.mode.is_job() && (spec.update.is_some() || spec.rollback.is_some()) {
        return Err(invalid("Jobs may not have an update config"));
    }
    for u in [&spec.update, &spec.rollback].into_iter().flatten() {
        update(u)?;
    }
    endpoint(spec)?;
    readable(store, spec)?;
    let publishes = spec.endpoint.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    for n in &spec.task.networks {
        if let Some(own) = n.target.of_each_host() {
            if spec.task.networks.len() > 1 {
                return Err(invalid(format!("a service on each host's own network \"{own}\" can be on no other network")));
            }
            if publishes {
                let instead = "publish them with mode=host, or on a network of the swarm";
                return Err(invalid(format!(
                    "a service on each host's own network \"{own}\" has no ports in the mesh: {instead}"
                )));
            }
            continue;
        }
        let net = store
            .network(n.target)
            .ok_or_else(|| ControlError::new(Code::NotFound, format!("network {} not found", n.target)))?;
        if net.spec.ingress {
            return Err(invalid(format!("Service cannot be explicitly attached to the ingress network \"{}\"", net.spec.name)));
        }
    }
    ports_are_free(store, spec, id)?;
    if publishes && store.ingress().is_none() {
        let text = "service needs ingress network, but no ingress network is present";
        return Err(rpc(Code::FailedPrecondition, text));
    }
    Ok(())
}

pub(crate) fn labels(l: &Labels) -> Result<(), ControlError> {
    if l.keys().any(String::is_empty) { Err(invalid("label key must not be empty")) } else { Ok(()) }
}

fn resources(r: &Resources) -> Result<(), ControlError> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for (cpus, memory) in [(r.limit_nano_cpus, r.limit_memory), (r.reserve_nano_cpus, r.reserve_memory)] {
        limits::nano_cpus(signed(cpus)).and_then(|_| limits::memory(signed(memory))).map_err(invalid)?;
    }
    Ok(())
}

fn container(c: &ContainerSpec) -> Result<(), ControlError> {
    template::check(c).map_err(invalid)?;
    if c.image.is_empty() {
        return Err(invalid("ContainerSpec: image reference must be provided"));
    }
    if Reference::parse(&c.image).is_err() {
        return Err(invalid(format!("ContainerSpec: {:?} is not a valid repository/tag", c.image)));
    }
    let mut targets = BTreeSet::new();
    match c.mounts.iter().find(|m| !targets.insert(&m.target)) {
        Some(twice) => Err(invalid(format!("ContainerSpec: duplicate mount point: {}", twice.target))),
        None => Ok(()),
    }
}

/// The secrets and configs that a container names are there under these names, and each has a place of its own.
fn files(store: &Store, c: &ContainerSpec) -> Result<(), ControlError> {
    for kind in [FileKind::Secret, FileKind::Config] {
        let (word, mut targets) = (kind.as_str(), BTreeMap::new());
        for f in c.files.iter().filter(|f| f.kind == kind) {
            if f.target.is_empty() || f.target.split('/').any(|part| part == "..") {
                return Err(invalid(format!("malformed file {word} reference, invalid target file name provided")));
            }
            if let Some(first) = targets.insert(f.path(), &f.name) {
                let (name, target) = (&f.name, &f.target);
                let text = format!("{word} references '{first}' and '{name}' have a conflicting target: '{target}'");
                return Err(invalid(text));
            }
        }
        let is_there = |f: &&FileRef| store.file(f.id).is_some_and(|x| x.spec.kind == kind && x.spec.name == f.name);
        let missing: Vec<&str> = c.files.iter().filter(|f| f.kind == kind && !is_there(f)).map(|f| f.name.as_str()).collect();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            return Err(invalid(format!("{word}{plural} not found: {}", missing.join(", "))));
        }
    }
    Ok(())
}

/// The versions of the secrets and configs that a service names: it is not written if one is gone by then.
pub(crate) fn reads_of_files(store: &Store, c: &ContainerSpec) -> Vec<(Key, Version)> {
    c.files.iter().map(|f| (Key::File(f.id), store.version(Key::File(f.id)))).collect()
}

fn update(u: &UpdateConfig) -> Result<(), ControlError> {
    if (0.0..=1.0).contains(&u.max_failure_ratio) {
        Ok(())
    } else {
        Err(invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1"))
    }
}

fn endpoint(spec: &ServiceSpec) -> Result<(), ControlError> {
    let mut seen = BTreeSet::new();
    for p in &spec.endpoint.ports {
        if p.target == 0 {
            return Err(invalid("EndpointSpec: target port must be between 1 and 65535"));
        }
        if spec.endpoint.mode == EndpointMode::Dnsrr && p.mode == PublishMode::Ingress {
            return Err(invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode"));
        }
        if p.published != 0 && !seen.insert((p.protocol, p.published)) {
            return Err(invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}

/// A protocol that a version before does not know would part a manager of that version from the tables, and a worker from its
/// managers. Nodes that never told of themselves are no reason to refuse: they only now join.
fn readable(store: &Store, spec: &ServiceSpec) -> Result<(), ControlError> {
    if !spec.endpoint.ports.iter().any(|p| p.protocol == Protocol::Sctp) {
        return Ok(());
    }
    let old = |n: &&Arc<Node>| n.description.form < 1 && !n.description.engine_version.is_empty();
    match store.nodes().find(old) {
        Some(n) => Err(rpc(
            Code::FailedPrecondition,
            format!(
                "EndpointSpec: node {} ({}) has a version of Skep that does not know ports of sctp: install this one there and \
                 restart its daemon, or remove the node from the swarm",
                n.description.hostname, n.id
            ),
        )),
        None => Ok(()),
    }
}

/// No other service publishes one of the ports: two on every node never, one on every node and one per task neither.
fn ports_are_free(store: &Store, spec: &ServiceSpec, id: Option<ServiceId>) -> Result<(), ControlError> {
    for p in spec.endpoint.ports.iter().filter(|p| p.published != 0) {
        for other in store.services().filter(|s| Some(s.id) != id) {
            for o in other.ports.iter().filter(|o| o.protocol == p.protocol && o.published == p.published) {
                let how = match (p.mode, o.mode) {
                    (_, PublishMode::Ingress) => "an ingress port",
                    (PublishMode::Ingress, PublishMode::Host) => "a host-published port",
                    // Two per-task ports only keep their tasks on different nodes.
                    (PublishMode::Host, PublishMode::Host) => continue,
                };
                return Err(rpc(
                    Code::InvalidArgument,
                    format!(
                        "port '{}' is already in use by service '{}' ({}) as {how}",
                        p.published, other.spec.name, other.id
                    ),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_state::{Op, Transaction};
    use skep_types::object::FORM;
    use skep_types::spec::{Availability, EndpointSpec, PortConfig, Role, ServiceMode, TaskSpec};
    use skep_types::{NodeId, Time};

    #[test]
    fn what_a_node_cannot_read_is_not_written() {
        let port = |protocol| PortConfig {
            name: String::new(),
            protocol,
            target: 9999,
            published: 9999,
            mode: PublishMode::Host,
            host_ip: None,
        };
        let spec = |protocol| ServiceSpec {
            name: "web".into(),
            labels: Labels::new(),
            mode: ServiceMode::Global,
            task: TaskSpec { container: ContainerSpec { image: "i".into(), ..Default::default() }, ..Default::default() },
            update: None,
            rollback: None,
            endpoint: EndpointSpec { ports: vec![port(protocol)], ..Default::default() },
        };
        let with = |version: &str, form| {
            let mut node = Node::new(NodeId(7), Role::Worker, Availability::Active);
            node.description.hostname = "old".into();
            node.description.engine_version = version.into();
            node.description.form = form;
            let mut store = Store::default();
            store.apply(1, &Transaction::new(Time(1), vec![], vec![Op::PutNode(Box::new(node))])).unwrap();
            store
        };
        let refused = service(&with("0.1.0", 0), &spec(Protocol::Sctp), None).unwrap_err();
        assert!(
            refused.message.contains("node old (") && refused.message.contains("does not know ports of sctp"),
            "{refused:?}"
        );
        assert_eq!(service(&with("0.1.0", 0), &spec(Protocol::Udp), None), Ok(()));
        assert_eq!(service(&with("0.1.0", FORM), &spec(Protocol::Sctp), None), Ok(()));
        assert_eq!(service(&with("", 0), &spec(Protocol::Sctp), None), Ok(()), "it has not told of itself yet");
    }
}
