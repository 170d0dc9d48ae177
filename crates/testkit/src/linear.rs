//! Whether a history of calls on registers with versions is linearizable: whether each call can be given one moment between its
//! begin and its end so that the answers are those of one register at a time. Wing and Gong's search with memory of the states
//! seen. Pure; must never accept a history it could not explain.

use std::collections::{BTreeMap, BTreeSet};

/// What a register holds: 0 if it was never written, and how often it was written.
pub type Held = (u64, u64);

/// A call and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Read this.
    Read(Held),
    /// Wrote `value` on the condition that the version was `version`. `done` is `None` if the answer never came: the write may have
    /// happened, at any time after its begin, or never.
    Swap {
        /// Version that was expected.
        version: u64,
        /// Value written.
        value: u64,
        /// Whether it was written.
        done: Option<bool>,
    },
}

/// A call of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The register.
    pub key: u64,
    /// When it was begun, on any clock that all clients share.
    pub begin: u64,
    /// When its answer came; `u64::MAX` if it never did.
    pub end: u64,
    /// What it was.
    pub call: Call,
}

/// The register after the call, if the call can have happened to `held` with its answer.
fn step(held: Held, call: &Call) -> Option<Held> {
    match *call {
        Call::Read(seen) => (seen == held).then_some(held),
        Call::Swap { version, value, done } => match (version == held.1, done) {
            (true, Some(true) | None) => Some((value, held.1 + 1)),
            (false, Some(false)) => Some(held),
            // Without an answer and without an effect it need not be placed at all.
            _ => None,
        },
    }
}

/// Checks each register of a history. A register's calls are few dozen at once at most; memory grows with those that overlap.
///
/// # Errors
/// The shortest beginning (by end) of one register's calls that cannot be explained.
pub fn check(history: &[Operation]) -> Result<(), Vec<Operation>> {
    let mut keys: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for o in history {
        keys.entry(o.key).or_default().push(*o);
    }
    for all in keys.values() {
        if !explained(all) {
            return Err(shortest(all));
        }
    }
    Ok(())
}

/// Drops the latest ends as long as what is left is still bad. Calls that were begun before the cut stay, with unknown answers.
fn shortest(all: &[Operation]) -> Vec<Operation> {
    let ends: BTreeSet<u64> = all.iter().map(|o| o.end).filter(|e| *e < u64::MAX).collect();
    for cut in ends {
        let some: Vec<Operation> = all.iter().filter(|o| o.begin <= cut).filter_map(|o| until(o, cut)).collect();
        if !explained(&some) {
            return some;
        }
    }
    all.to_vec()
}

fn until(o: &Operation, cut: u64) -> Option<Operation> {
    match o.call {
        _ if o.end <= cut => Some(*o),
        Call::Read(_) => None,
        Call::Swap { version, value, .. } => {
            Some(Operation { end: u64::MAX, call: Call::Swap { version, value, done: None }, ..*o })
        }
    }
}

/// Searches an order of all calls that have an answer, and of any of the others.
fn explained(all: &[Operation]) -> bool {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|o| (o.begin, o.end));
    // Calls that are done already: all before the first number, and those in the set.
    let mut seen: BTreeSet<(usize, Vec<usize>, Held)> = BTreeSet::new();
    let mut stack = vec![(0_usize, Vec::<usize>::new(), (0_u64, 0_u64))];
    while let Some((mut first, mut done, held)) = stack.pop() {
        while done.first() == Some(&first) {
            done.remove(0);
            first += 1;
        }
        let open = |i: &usize| *i >= first && !done.contains(i);
        let rest: Vec<usize> = (first..sorted.len()).filter(|i| open(i)).collect();
        if rest.iter().all(|i| sorted[*i].end == u64::MAX) {
            return true;
        }
        if !seen.insert((first, done.clone(), held)) {
            continue;
        }
        // Whoever happens next must have begun before any of the rest had ended.
        let limit = rest.iter().map(|i| sorted[*i].end).min().unwrap_or(u64::MAX);
        for i in rest.into_iter().take_while(|i| sorted[*i].begin <= limit) {
            if let Some(after) = step(held, &sorted[i].call) {
                let mut more = done.clone();
                more.push(i);
                more.sort_unstable();
                stack.push((first, more, after));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(begin: u64, end: u64, call: Call) -> Operation {
        Operation { key: 1, begin, end, call }
    }

    fn swap(version: u64, value: u64, done: Option<bool>) -> Call {
        Call::Swap { version, value, done }
    }

    #[test]
    fn calls_one_after_the_other_are_explained() {
        let h = [
            op(0, 1, Call::Read((0, 0))),
            op(2, 3, swap(0, 7, Some(true))),
            op(4, 5, Call::Read((7, 1))),
            op(6, 7, swap(0, 8, Some(false))),
            op(8, 9, Call::Read((7, 1))),
        ];
        assert_eq!(check(&h), Ok(()));
    }

    #[test]
    fn a_stale_read_is_refused_and_the_shortest_history_ends_with_it() {
        let h = [
            op(0, 1, swap(0, 7, Some(true))),
            op(2, 3, Call::Read((0, 0))),
            op(4, 5, Call::Read((7, 1))),
            op(6, 7, swap(1, 9, Some(true))),
        ];
        assert_eq!(check(&h), Err(h[..2].to_vec()));
    }

    #[test]
    fn a_lost_write_and_a_double_write_are_refused() {
        assert!(check(&[op(0, 1, swap(0, 7, Some(true))), op(2, 3, swap(0, 8, Some(true)))]).is_err());
        assert!(check(&[op(0, 1, swap(0, 7, Some(true))), op(2, 3, Call::Read((7, 2)))]).is_err());
    }

    #[test]
    fn overlapping_calls_may_happen_in_any_order() {
        // The read began before the write ended, so it may see either.
        for seen in [(0, 0), (7, 1)] {
            assert_eq!(check(&[op(0, 10, swap(0, 7, Some(true))), op(5, 6, Call::Read(seen))]), Ok(()));
        }
        // But what one reader saw the next cannot unsee.
        let h = [op(0, 10, swap(0, 7, Some(true))), op(1, 2, Call::Read((7, 1))), op(3, 4, Call::Read((0, 0)))];
        assert!(check(&h).is_err());
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_late_or_never() {
        let lost = op(0, u64::MAX, swap(0, 7, None));
        assert_eq!(check(&[lost, op(5, 6, Call::Read((0, 0))), op(7, 8, Call::Read((7, 1)))]), Ok(()));
        assert_eq!(check(&[lost, op(5, 6, Call::Read((0, 0)))]), Ok(()));
        assert!(check(&[lost, op(5, 6, Call::Read((7, 1))), op(7, 8, Call::Read((0, 0)))]).is_err());
    }

    #[test]
    fn registers_are_apart() {
        let mut other = op(2, 3, Call::Read((0, 0)));
        other.key = 2;
        assert_eq!(check(&[op(0, 1, swap(0, 7, Some(true))), other]), Ok(()));
    }
}
