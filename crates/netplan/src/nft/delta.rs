//! The difference of two nftables tables as one atomic batch.
//!
//! Elements, chains without a hook and rules change in place; only when a hook or a set's type changed is the table replaced, in
//! the same single batch, so that no packet ever sees half of it.

use std::collections::BTreeMap;

use super::{Chain, Datum, Hook, Rule, Set, Table};

/// One operation inside a batch on one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftOp {
    /// Makes the table; no error if it exists.
    NewTable {
        /// See [`Table::shared`].
        shared: bool,
    },
    /// Deletes the table and all it holds.
    DelTable,
    /// Makes a set without its elements.
    NewSet(String, Set),
    /// Deletes a set.
    DelSet(String),
    /// Makes a chain without rules.
    NewChain(String, Option<Hook>),
    /// Deletes a chain and its rules.
    DelChain(String),
    /// Deletes a chain's rules.
    Flush(String),
    /// Appends rules to a chain.
    Rules(String, Vec<Rule>),
    /// Adds elements.
    AddElements(String, BTreeMap<Vec<u8>, Datum>),
    /// Deletes elements.
    DelElements(String, BTreeMap<Vec<u8>, Datum>),
}

/// Operations that make `wanted` from `applied` (`None`: unknown or absent). Empty if they are equal.
#[must_use]
pub fn delta(applied: Option<&Table>, wanted: &Table) -> Vec<NftOp> {
    match applied {
        Some(applied) if same_shape(applied, wanted) => in_place(applied, wanted),
        _ if wanted.shared => {
            let mut ops = vec![NftOp::NewTable { shared: true }];
            ops.extend(in_place(&Table::default(), wanted));
            ops
        }
        _ => {
            // made first so that the deletion cannot fail for want of a table
            let new = NftOp::NewTable { shared: false };
            let mut ops = vec![new.clone(), NftOp::DelTable, new];
            ops.extend(in_place(&Table::default(), wanted));
            ops
        }
    }
}

fn same_shape(applied: &Table, wanted: &Table) -> bool {
    let sets = wanted.sets.iter().all(|(name, set)| applied.sets.get(name).is_none_or(|old| old.same_type(set)));
    if applied.shared != wanted.shared {
        return false;
    }
    let chains = wanted.chains.iter().all(|(name, chain)| applied.chains.get(name).is_none_or(|old| old.hook == chain.hook));
    sets && chains
}

fn in_place(applied: &Table, wanted: &Table) -> Vec<NftOp> {
    let mut ops = Vec::new();
    for (name, set) in &wanted.sets {
        if !applied.sets.contains_key(name) {
            ops.push(NftOp::NewSet(name.clone(), Set { elements: BTreeMap::new(), ..set.clone() }));
        }
    }
    for (name, chain) in &wanted.chains {
        if !applied.chains.contains_key(name) {
            ops.push(NftOp::NewChain(name.clone(), chain.hook.clone()));
        }
    }
    for (name, chain) in &wanted.chains {
        let old = applied.chains.get(name).map_or(&[][..], |old| &old.rules);
        if old != chain.rules {
            if !old.is_empty() {
                ops.push(NftOp::Flush(name.clone()));
            }
            if !chain.rules.is_empty() {
                ops.push(NftOp::Rules(name.clone(), chain.rules.clone()));
            }
        }
    }
    let empty = BTreeMap::new();
    for (name, set) in &wanted.sets {
        let old = applied.sets.get(name).map_or(&empty, |old| &old.elements);
        let gone: BTreeMap<_, _> = old
            .iter()
            .filter(|(key, value)| set.elements.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let new: BTreeMap<_, _> = set
            .elements
            .iter()
            .filter(|(key, value)| old.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !gone.is_empty() {
            ops.push(NftOp::DelElements(name.clone(), gone));
        }
        if !new.is_empty() {
            ops.push(NftOp::AddElements(name.clone(), new));
        }
    }
    // a set or chain that goes may still be named by another that goes: verdicts first, then chains, then sets
    for (name, old) in &applied.sets {
        if !wanted.sets.contains_key(name) && !old.elements.is_empty() {
            ops.push(NftOp::DelElements(name.clone(), old.elements.clone()));
        }
    }
    for (name, old) in &applied.chains {
        if !wanted.chains.contains_key(name) && !old.rules.is_empty() {
            ops.push(NftOp::Flush(name.clone()));
        }
    }
    ops.extend(applied.chains.keys().filter(|n| !wanted.chains.contains_key(*n)).map(|n| NftOp::DelChain(n.clone())));
    ops.extend(applied.sets.keys().filter(|n| !wanted.sets.contains_key(*n)).map(|n| NftOp::DelSet(n.clone())));
    ops
}

/// What a table is after the operations; `None` if they end with its deletion.
#[must_use]
pub fn absorb(applied: Option<Table>, ops: &[NftOp]) -> Option<Table> {
    let mut table = applied;
    for op in ops {
        match op {
            NftOp::DelTable => table = None,
            NftOp::NewTable { shared } => {
                table.get_or_insert_default().shared = *shared;
            }
            _ => absorb_one(table.get_or_insert_default(), op),
        }
    }
    table
}

fn absorb_one(table: &mut Table, op: &NftOp) {
    match op {
        NftOp::NewTable { .. } | NftOp::DelTable => {}
        NftOp::NewSet(name, set) => {
            table.sets.insert(name.clone(), set.clone());
        }
        NftOp::DelSet(name) => {
            table.sets.remove(name);
        }
        NftOp::NewChain(name, hook) => {
            table.chains.insert(name.clone(), Chain { hook: hook.clone(), rules: Vec::new() });
        }
        NftOp::DelChain(name) => {
            table.chains.remove(name);
        }
        NftOp::Flush(name) => {
            if let Some(chain) = table.chains.get_mut(name) {
                chain.rules.clear();
            }
        }
        NftOp::Rules(name, rules) => {
            if let Some(chain) = table.chains.get_mut(name) {
                chain.rules.extend(rules.iter().cloned());
            }
        }
        NftOp::AddElements(name, elements) => {
            if let Some(set) = table.sets.get_mut(name) {
                set.elements.extend(elements.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        NftOp::DelElements(name, elements) => {
            if let Some(set) = table.sets.get_mut(name) {
                set.elements.retain(|key, _| !elements.contains_key(key));
            }
        }
    }
}
