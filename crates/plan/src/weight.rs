//! How many bytes an operation takes in the log, by estimate and rather too many, so that a plan can be cut in time. Must grow
//! with everything whose size a user chooses.

use skep_state::Op;
use skep_types::object::{Service, Task};
use skep_types::spec::{Labels, PortConfig, ServiceSpec, TaskSpec};

/// A version that was read.
pub(crate) const READ: usize = 80;
/// Names of the fields of an object, numbers and ids.
const OBJECT: usize = 600;
/// The same of a part of one: a port, an address, a mount.
const PART: usize = 120;

pub(crate) fn of(op: &Op) -> usize {
    READ + match op {
        Op::PutTask(t) => task(t),
        Op::PutService(s) => service(s),
        Op::PutRevision { spec, .. } => template(spec),
        Op::PutNode(n) => 2 * OBJECT + labels(&n.spec.labels) + labels(&n.description.engine_labels) + 4096,
        _ => OBJECT,
    }
}

fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> usize {
    all.into_iter().map(|s| s.len() + 8).sum()
}

fn labels(l: &Labels) -> usize {
    l.iter().map(|(k, v)| k.len() + v.len() + 16).sum()
}

fn ports(all: &[PortConfig]) -> usize {
    all.iter().map(|p| PART + p.name.len()).sum()
}

fn task(t: &Task) -> usize {
    let s = &t.status;
    let told = s.message.len() + s.err.as_ref().map_or(0, String::len) + t.given_up.as_ref().map_or(0, String::len);
    let generic = t.generic.len() * PART;
    OBJECT + t.service_name.len() + told + ports(&s.ports) + ports(&t.host_ports) + t.networks.len() * PART + generic
}

fn service(s: &Service) -> usize {
    let message = s.update_status.as_ref().map_or(0, |u| u.message.len());
    let previous = s.previous_spec.as_ref().map_or(0, |p| spec(p));
    OBJECT + spec(&s.spec) + previous + ports(&s.ports) + s.vips.len() * PART + message
}

fn spec(s: &ServiceSpec) -> usize {
    OBJECT + s.name.len() + labels(&s.labels) + template(&s.task) + ports(&s.endpoint.ports)
}

fn template(t: &TaskSpec) -> usize {
    let c = &t.container;
    let lists = [&c.command, &c.args, &c.env, &c.hosts, &t.placement.constraints, &t.placement.preferences];
    let lists: usize = lists.into_iter().map(texts).sum();
    let mounts: usize = c
        .mounts
        .iter()
        .map(|m| {
            PART + texts([&m.source, &m.target].into_iter().chain(&m.volume_driver))
                + labels(&m.volume_labels)
                + labels(&m.volume_options)
        })
        .sum();
    let networks: usize = t.networks.iter().map(|n| PART + texts(&n.aliases)).sum();
    let single = texts([&c.image, &c.hostname, &c.dir, &c.user, &c.stop_signal]);
    let auth = texts(t.registry_auth.iter().chain(&t.log_driver));
    let generic = texts(t.resources.reserve_generic.keys()) + labels(&t.log_options);
    OBJECT * 2 + labels(&c.labels) + lists + mounts + networks + single + auth + generic + t.placement.platforms.len() * 32
}
