//! Changes of the tables as the events that Docker's clients know (`swarm-semantics` 2.5): each manager tells every one of its
//! own tables. Must never tell what happened before this manager started, which a restart applies again.

use std::collections::BTreeMap;

use skep_state::Change;
use skep_types::Time;
use skep_types::container::Event;
use skep_types::file::StoredFile;
use skep_types::object::{Meta, Node, Service};
use skep_types::spec::ServiceMode;
use tokio::sync::broadcast;

/// Tells whoever listens.
pub(crate) struct Teller {
    pub(crate) out: broadcast::Sender<Event>,
    /// When this manager started.
    pub(crate) since: Time,
}

impl Teller {
    /// Tells of the changes that a transaction of that time made.
    pub(crate) fn tell(&self, changes: &[Change], time: Time) {
        if time < self.since {
            return;
        }
        for event in changes.iter().filter_map(|c| told(c, time)) {
            // Nobody needs to listen.
            let _ = self.out.send(event);
        }
    }
}

type Attributes = BTreeMap<String, String>;

fn told(c: &Change, time: Time) -> Option<Event> {
    match c {
        Change::Cluster | Change::Task { .. } => None,
        Change::Node { id, old, new } => {
            if let (Some(old), Some(new)) = (old, new)
                && old.attached != new.attached
            {
                // The node's containers come and go; nothing of the node itself has changed with them.
                return None;
            }
            let name = |n: &Node| n.spec.name.clone().unwrap_or_else(|| n.description.hostname.clone());
            Some(event("node", id, (old.as_deref(), new.as_deref()), |n| (n.meta, name(n)), node, time))
        }
        Change::Service { id, old, new } => {
            let known = |s: &Service| (s.meta, s.spec.name.clone());
            Some(event("service", id, (old.as_deref(), new.as_deref()), known, service, time))
        }
        Change::Network { id, old, new } => {
            let known = |n: &skep_types::object::Network| (n.meta, n.spec.name.clone());
            Some(event("network", id, (old.as_deref(), new.as_deref()), known, |_, _, _| {}, time))
        }
        Change::File { id, old, new } => {
            let kind = new.iter().chain(old).next().map(|f| f.spec.kind.as_str())?;
            let known = |f: &StoredFile| (f.meta, f.spec.name.clone());
            Some(event(kind, id, (old.as_deref(), new.as_deref()), known, |_, _, _| {}, time))
        }
    }
}

/// What became of one object. `differs` adds what an update has changed.
fn event<T>(
    kind: &str,
    id: &impl ToString,
    (old, new): (Option<&T>, Option<&T>),
    known: impl Fn(&T) -> (Meta, String),
    differs: impl Fn(&T, &T, &mut Attributes),
    removed_at: Time,
) -> Event {
    let (meta, name) = new.or(old).map(known).unwrap_or_default();
    let mut attributes = Attributes::from([("name".to_owned(), name)]);
    let (action, time) = match (old, new) {
        (_, None) => ("remove", removed_at),
        (None, Some(_)) => ("create", meta.created_at),
        (Some(old), Some(new)) => {
            differs(old, new, &mut attributes);
            ("update", meta.updated_at)
        }
    };
    Event { kind: kind.to_owned(), action: action.to_owned(), id: id.to_string(), attributes, time, swarm: true }
}

/// Notes a field that has another value than before.
fn note(a: &mut Attributes, key: &str, old: &str, new: &str) {
    if old != new {
        a.insert(format!("{key}.old"), old.to_owned());
        a.insert(format!("{key}.new"), new.to_owned());
    }
}

fn node(old: &Node, new: &Node, a: &mut Attributes) {
    note(a, "availability", old.spec.availability.as_str(), new.spec.availability.as_str());
    note(a, "role", old.role.as_str(), new.role.as_str());
    note(a, "state", old.state.as_str(), new.state.as_str());
}

fn service(old: &Service, new: &Service, a: &mut Attributes) {
    note(a, "image", &old.spec.task.container.image, &new.spec.task.container.image);
    if let (ServiceMode::Replicated { replicas: before }, ServiceMode::Replicated { replicas: now }) =
        (&old.spec.mode, &new.spec.mode)
    {
        note(a, "replicas", &before.to_string(), &now.to_string());
    }
    let state = |s: &Service| s.update_status.as_ref().map(|u| u.state.as_str());
    match (state(old), state(new)) {
        (None, Some(now)) => _ = a.insert("updatestate.new".to_owned(), now.to_owned()),
        (Some(before), Some(now)) => note(a, "updatestate", before, now),
        (_, None) => {}
    }
}

/// How a manager stands, as `docker node ls` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) leader: bool,
    pub(crate) reachable: bool,
}

/// The event of a manager whose standing has changed.
pub(crate) fn stands(n: &Node, old: Standing, new: Standing, time: Time) -> Event {
    let name = n.spec.name.clone().unwrap_or_else(|| n.description.hostname.clone());
    let mut attributes = Attributes::from([("name".to_owned(), name)]);
    let word = |s: Standing| if s.reachable { "reachable" } else { "unreachable" };
    note(&mut attributes, "leader", &old.leader.to_string(), &new.leader.to_string());
    note(&mut attributes, "reachability", word(old), word(new));
    Event { kind: "node".to_owned(), action: "update".to_owned(), id: n.id.to_string(), attributes, time, swarm: true }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_types::object::{NodeState, UpdateState, UpdateStatus};
    use skep_types::spec::{Availability, EndpointSpec, Role, ServiceSpec, TaskSpec};
    use skep_types::{NodeId, ServiceId};
    use std::sync::Arc;

    fn text(c: &Change) -> String {
        let e = told(c, Time(9)).unwrap();
        let all: Vec<String> = e.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{} {} {} {}", e.time.0, e.kind, e.action, all.join(", "))
    }

    #[test]
    fn an_update_says_what_has_changed() {
        let mut old = Node::new(NodeId(1), Role::Worker, Availability::Active);
        old.description.hostname = "one".into();
        old.meta.updated_at = Time(4);
        let mut new = old.clone();
        new.spec.availability = Availability::Drain;
        new.state = NodeState::Ready;
        let id = old.id;
        let change = |old, new| Change::Node { id, old, new };
        let (old, new) = (Arc::new(old), Arc::new(new));
        assert_eq!(text(&change(None, Some(old.clone()))), "0 node create name=one");
        let all = "availability.new=drain, availability.old=active, name=one, state.new=ready, state.old=unknown";
        assert_eq!(text(&change(Some(old.clone()), Some(new))), format!("4 node update {all}"));
        assert_eq!(text(&change(Some(old), None)), "9 node remove name=one");
    }

    #[test]
    fn an_update_of_a_service_tells_image_replicas_and_state() {
        let spec = ServiceSpec {
            name: "web".into(),
            labels: Attributes::new(),
            mode: ServiceMode::Replicated { replicas: 2 },
            task: TaskSpec::default(),
            update: None,
            rollback: None,
            endpoint: EndpointSpec::default(),
        };
        let old = Service::new(ServiceId(1), spec, Time(1));
        let mut new = old.clone();
        new.spec.mode = ServiceMode::Replicated { replicas: 3 };
        new.spec.task.container.image = "b".into();
        let status = |state| UpdateStatus { state, started_at: Time(1), completed_at: None, message: String::new(), slots: 0 };
        new.update_status = Some(status(UpdateState::RollbackStarted));
        let mut done = new.clone();
        done.update_status = Some(status(UpdateState::RollbackCompleted));
        let change = |old: &Service, new: &Service| {
            text(&Change::Service { id: ServiceId(1), old: Some(Arc::new(old.clone())), new: Some(Arc::new(new.clone())) })
        };
        let all = "image.new=b, image.old=, name=web, replicas.new=3, replicas.old=2, updatestate.new=rollback_started";
        assert_eq!(change(&old, &new), format!("0 service update {all}"));
        let all = "name=web, updatestate.new=rollback_completed, updatestate.old=rollback_started";
        assert_eq!(change(&new, &done), format!("0 service update {all}"));
    }
}
