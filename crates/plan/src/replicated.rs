//! Replicated services (`swarm-semantics` 4.1, 3.4): as many slots as asked for, dead tasks replaced, the rest given up. Must
//! never create a second task in a slot that has a live one; that is the rolling update's right alone.

use std::collections::BTreeMap;

use skep_state::Key;
use skep_types::object::{Service, Task, TaskState, TaskStatus};
use skep_types::spec::{PublishMode, RestartCondition, RestartPolicy};
use skep_types::{NodeId, ServiceId, TaskId, Time};

use crate::draft::Draft;
use crate::slot::{Slot, slots};
use crate::{allocate, restart};

/// Whether a task that ended may be replaced under a policy, its history aside.
#[must_use]
pub fn should_restart(p: &RestartPolicy, state: TaskState) -> bool {
    match p.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => state != TaskState::Complete,
        RestartCondition::Any => true,
    }
}

/// Brings one service to the number of slots it should have.
pub(crate) fn run(d: &mut Draft<'_>, id: ServiceId) {
    let Some(service) = d.work.service(id).cloned() else {
        give_up_all(d, id);
        return;
    };
    let wanted = service.spec.mode.replicas();
    d.rely_on(Key::Service(id));
    // Which slots are filled is decided before anything dies, so that a surplus is not replaced first.
    let all = slots(&d.work, id);
    let filled: BTreeMap<u64, Slot> = all.into_iter().filter(|(_, s)| is_filled(d, s)).collect();
    let surplus = filled.len().saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX));
    let victims = if surplus > 0 { victims(&filled, surplus) } else { vec![] };
    for (number, slot) in &filled {
        if d.is_full() {
            return;
        }
        if victims.contains(number) {
            let live: Vec<TaskId> = d.work.tasks_of_service(id).filter(|t| t.slot == *number).map(|t| t.id).collect();
            for t in live {
                d.edit(t, |t| t.desired = t.desired.max(TaskState::Remove));
            }
        } else {
            restart::replace_dead(d, &service, slot);
        }
    }
    let mut missing = wanted.saturating_sub(filled.len() as u64);
    let mut number = 1;
    while missing > 0 {
        if d.is_full() {
            return;
        }
        if !filled.contains_key(&number) {
            create(d, &service, number, TaskState::Running, None);
            missing -= 1;
        }
        number += 1;
    }
}

/// A slot counts as filled with a task that is meant to run, or when its last task ended and may not be replaced.
fn is_filled(d: &Draft<'_>, slot: &Slot) -> bool {
    slot.wanted().next().is_some() || slot.newest().is_some_and(|t| !restart::allowed(&restart::policy(d, t), slot, t))
}

fn give_up_all(d: &mut Draft<'_>, id: ServiceId) {
    let all: Vec<TaskId> = d.work.tasks_of_service(id).filter(|t| t.desired < TaskState::Remove).map(|t| t.id).collect();
    for t in all {
        if d.is_full() {
            return;
        }
        d.edit(t, |t| t.desired = TaskState::Remove);
    }
}

/// Which slots go: those without a node, then those that are the n-th copy on their node with the highest n, then those that do
/// not run, then the higher number.
fn victims(filled: &BTreeMap<u64, Slot>, count: usize) -> Vec<u64> {
    let best = |s: &Slot| s.wanted().max_by_key(|t| t.status.state == TaskState::Running).cloned();
    let mut order: Vec<(u64, Option<NodeId>, bool)> = filled
        .iter()
        .map(|(n, s)| {
            let t = best(s);
            let running = t.as_ref().is_some_and(|t| t.status.state == TaskState::Running);
            (*n, t.and_then(|t| t.node), running)
        })
        .collect();
    // Running first, then lower numbers, so that the copies counted last are the ones to go.
    order.sort_by_key(|(n, _, running)| (!running, *n));
    let mut copies: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut ranked: Vec<(u64, bool, u64)> = order
        .into_iter()
        .map(|(number, node, running)| {
            let nth = node.map_or(u64::MAX, |n| {
                let c = copies.entry(n).or_default();
                *c += 1;
                *c
            });
            (nth, !running, number)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().rev().take(count).map(|(_, _, n)| n).collect()
}

/// A new task of the service's current revision in a slot, with addresses but without a node.
pub(crate) fn create(
    d: &mut Draft<'_>,
    service: &Service,
    slot: u64,
    desired: TaskState,
    not_before: Option<Time>,
) -> Option<TaskId> {
    let spec = d.work.revision(service.id, service.revision).cloned()?;
    let ingress = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    let mut t = Task {
        id: TaskId(d.new_id()),
        meta: skep_types::object::Meta::default(),
        service: service.id,
        service_name: service.spec.name.clone(),
        service_labels: service.spec.labels.clone(),
        slot,
        revision: service.revision,
        node: None,
        desired,
        status: TaskStatus {
            timestamp: d.now,
            state: TaskState::Pending,
            message: "pending task scheduling".into(),
            ..TaskStatus::default()
        },
        networks: vec![],
        not_before,
        running_since: None,
    };
    if let Err(e) = allocate::task(&d.work, ingress, &spec, &mut t) {
        t.status.state = TaskState::New;
        t.status.message = "created".into();
        t.status.err = Some(e.to_string());
    }
    let id = t.id;
    d.put_task(t).then_some(id)
}
