//! Differences of one table, in words.

use crate::nft::{Chain, Datum, Set, Table, words};

/// What is told of one table; the rest is counted.
const TOLD: usize = 12;

/// What of a table is not as it should be. Of one that is shared only that it has its chains.
pub(super) fn differences(wanted: &Table, found: Option<&Table>) -> Vec<String> {
    let Some(found) = found else { return vec!["it is missing".to_owned()] };
    let mut out = Vec::new();
    for (name, chain) in &wanted.chains {
        match found.chains.get(name) {
            None => out.push(format!("chain {name} is missing")),
            Some(_) if wanted.shared => {}
            Some(there) => out.extend(chain_difference(chain, there).map(|what| format!("chain {name} {what}"))),
        }
    }
    for (name, set) in &wanted.sets {
        match found.sets.get(name) {
            None => out.push(format!("set {name} is missing")),
            Some(there) if !set.same_type(there) => out.push(format!("set {name} is of another type")),
            Some(there) => elements(name, set, there, &mut out),
        }
    }
    if !wanted.shared {
        let foreign = found.chains.keys().filter(|n| !wanted.chains.contains_key(*n));
        out.extend(foreign.map(|n| format!("chain {n} is not ours")));
        let foreign = found.sets.keys().filter(|n| !wanted.sets.contains_key(*n));
        out.extend(foreign.map(|n| format!("set {n} is not ours")));
    }
    if out.len() > TOLD {
        let more = out.len() - TOLD;
        out.truncate(TOLD);
        out.push(format!("and {more} more"));
    }
    out
}

fn chain_difference(wanted: &Chain, found: &Chain) -> Option<String> {
    if wanted.hook != found.hook {
        return Some("is hooked in elsewhere, or has another policy".to_owned());
    }
    let at = wanted.rules.iter().zip(&found.rules).position(|(a, b)| a != b);
    match at {
        Some(index) => Some(format!("has another rule {index}")),
        None if wanted.rules.len() != found.rules.len() => {
            Some(format!("has {} rules instead of {}", found.rules.len(), wanted.rules.len()))
        }
        None => None,
    }
}

fn elements(name: &str, wanted: &Set, found: &Set, out: &mut Vec<String>) {
    let told = |key: &Vec<u8>| words::key(&wanted.key, key);
    for (key, datum) in &wanted.elements {
        match found.elements.get(key) {
            Some(there) if there == datum => {}
            Some(there) => {
                let (is, should) = (words::value(wanted, there), words::value(wanted, datum));
                out.push(format!("{name}: {} leads to {is} instead of {should}", told(key)));
            }
            None if *datum == Datum::None => out.push(format!("{name}: {} is missing", told(key))),
            None => out.push(format!("{name}: {} (to {}) is missing", told(key), words::value(wanted, datum))),
        }
    }
    let foreign = found.elements.keys().filter(|key| !wanted.elements.contains_key(*key));
    out.extend(foreign.map(|key| format!("{name}: {} should not be there", told(key))));
}
