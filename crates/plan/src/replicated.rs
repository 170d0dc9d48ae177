//! Replicated services (`swarm-semantics` 4.1, 3.4): as many places as asked for, the rest given up. Must never create a second
//! task in a place that has a live one; that is the rolling update's right alone.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::NodeId;
use skep_types::object::{Service, SlotKey, TaskState};

use crate::create::{Place, create};
use crate::draft::Draft;
use crate::slot::{Slot, slots};
use crate::{give_up, reaper, restart, tend};

/// Brings a service to the number of places it should have.
pub(crate) fn run(d: &mut Draft<'_>, service: &Service, wanted: u64) {
    let id = service.id;
    // Which places are filled is decided before anything dies, so that a surplus is not replaced first.
    let all = slots(&d.work, id);
    let filled: BTreeMap<SlotKey, Slot> = all.into_iter().filter(|(_, s)| is_filled(d, service, s)).collect();
    let surplus = filled.len().saturating_sub(usize::try_from(wanted).unwrap_or(usize::MAX));
    let victims: BTreeSet<SlotKey> =
        if surplus > 0 { victims(&filled, surplus).into_iter().collect() } else { BTreeSet::new() };
    let keys: BTreeSet<SlotKey> = d.work.places_of_service(id).collect();
    for key in keys.iter().copied() {
        if d.is_full() {
            d.rest.services.insert(id);
            return;
        }
        if victims.contains(&key) {
            give_up(d, id, key);
        } else if let Some(s) = filled.get(&key) {
            tend(d, service, key, s);
        } else {
            reaper::run(d, id, key);
        }
    }
    let mut missing = wanted.saturating_sub(filled.len() as u64);
    let mut number = 1;
    while missing > 0 {
        if d.is_full() {
            d.rest.services.insert(id);
            return;
        }
        if !filled.contains_key(&SlotKey::number(number)) {
            create(d, service, Place::Number(number), TaskState::Running, None);
            if keys.contains(&SlotKey::number(number)) {
                reaper::run(d, id, SlotKey::number(number));
            }
            missing -= 1;
        }
        number += 1;
    }
}

/// A place counts as filled with a task that is meant to live, or when its last task ended and may not be replaced.
pub(crate) fn is_filled(d: &Draft<'_>, service: &Service, slot: &Slot) -> bool {
    slot.wanted().next().is_some() || slot.newest().is_some_and(|t| !restart::allowed(&restart::policy(d, service, t), slot, t))
}

/// Which places go: those without a node, then those that are the n-th copy on their node with the highest n, then those that do
/// not run, then the higher number.
fn victims(filled: &BTreeMap<SlotKey, Slot>, count: usize) -> Vec<SlotKey> {
    let best = |s: &Slot| s.wanted().max_by_key(|t| t.status.state == TaskState::Running).cloned();
    let mut order: Vec<(SlotKey, Option<NodeId>, bool)> = filled
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
    let mut ranked: Vec<(u64, bool, SlotKey)> = order
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
