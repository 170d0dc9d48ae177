//! The invariants (`reference/invariants.md`), by their numbers, checked at every step. The first violation is kept. Must never
//! change what it looks at.

mod end;
mod history;
mod lately;
mod tables;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_manager::Observer;
use skep_state::{Change, Refused, Store, Transaction};
use skep_types::digest::Fnv;
use tokio::time::Instant;

pub(crate) use end::converged;
pub(crate) use history::History;
pub(crate) use lately::look;

/// The tables are checked whole at every so many transactions, and those a transaction touched at each.
const WHOLE_EVERY: u64 = 64;
/// Tables kept to be compared with. A host that is further behind gets a snapshot, or has been compared before it fell.
const STATES: usize = 64;

/// What was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant.
    pub invariant: u8,
    /// Simulated time since the start, in milliseconds.
    pub at_ms: u64,
    /// In words.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invariant {} broken after {:.3} s: {}", self.invariant, self.at_ms as f64 / 1000.0, self.what)
    }
}

#[derive(Debug, Default)]
struct Inner {
    violation: Option<Violation>,
    /// Digest of each applied entry, by index.
    log: BTreeMap<u64, u64>,
    /// The tables at some indexes, as whoever came first had them; they share what they have in common.
    states: BTreeMap<u64, Store>,
    leaders: BTreeMap<u64, usize>,
    /// Highest term in which each host has led.
    terms: BTreeMap<usize, u64>,
    /// Last index applied by each host.
    applied: BTreeMap<usize, u64>,
    /// Highest index whose tables were checked.
    checked: u64,
    transactions: u64,
    /// A digest of everything observed, to tell two runs apart.
    trace: u64,
}

/// Collects violations of one simulation.
pub(crate) struct Checker {
    start: Instant,
    inner: Mutex<Inner>,
    pub(crate) history: History,
    pub(crate) lately: lately::Lately,
}

/// Equal on all machines.
fn digest(parts: &[&[u8]]) -> u64 {
    let mut h = Fnv::default();
    parts.iter().for_each(|p| p.hash(&mut h));
    h.finish()
}

impl Checker {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, inner: Mutex::default(), history: History::default(), lately: lately::Lately::new(start) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    /// Number of transactions checked, and the digest of the whole run.
    pub(crate) fn summary(&self) -> (u64, u64) {
        let i = self.lock();
        (i.transactions, i.trace)
    }

    pub(crate) fn broken(&self, invariant: u8, what: String) {
        // A simulation does not last 500 million years.
        let at_ms = self.start.elapsed().as_millis() as u64;
        self.lock().violation.get_or_insert(Violation { invariant, at_ms, what });
    }

    pub(crate) fn check<T>(&self, invariant: u8, found: Result<T, String>) {
        if let Err(what) = found {
            self.broken(invariant, what);
        }
    }

    /// The observer of the manager on one host.
    pub(crate) fn observe(self: Arc<Self>, host: usize) -> Arc<dyn Observer> {
        Arc::new(OfHost { host, check: self })
    }

    /// Checks tables at the end.
    pub(crate) fn whole(&self, store: &Store) {
        self.check(6, tables::held_once(store));
        self.check(7, tables::resources(store));
        self.check(13, tables::bounded(store));
    }

    /// A host lost its memory: what it applies may begin anew.
    pub(crate) fn restarted(&self, host: usize) {
        self.lock().applied.remove(&host);
    }
}

struct OfHost {
    host: usize,
    check: Arc<Checker>,
}

impl Observer for OfHost {
    fn applied(&self, index: u64, bytes: &[u8], t: &Transaction, outcome: Result<&[Change], &Refused>, store: &Store) {
        let refused = [u8::from(outcome.is_err())];
        let d = digest(&[bytes, &refused]);
        let (first, whole) = {
            let mut i = self.check.lock();
            let last = i.applied.insert(self.host, index).unwrap_or(0);
            if last >= index {
                drop(i);
                self.check.broken(1, format!("host {} applied index {index} after {last}", self.host));
                return;
            }
            let known = *i.log.entry(index).or_insert(d);
            if known != d {
                drop(i);
                self.check.broken(1, format!("host {} applied another entry at index {index} than a host before", self.host));
                return;
            }
            let first = index > i.checked;
            if first {
                i.checked = index;
                i.transactions += 1;
                i.trace = digest(&[&i.trace.to_le_bytes(), &d.to_le_bytes(), &index.to_le_bytes()]);
            }
            (first, first && i.transactions.is_multiple_of(WHOLE_EVERY))
        };
        if let (true, Ok(changes)) = (first, outcome) {
            for c in changes {
                if let Change::Service { new: Some(service), .. } = c {
                    self.check.check(2, self.check.history.written(service));
                }
            }
            self.check.check(5, tables::forward(t, changes));
            self.check.check(8, tables::parallelism(changes, store));
            self.check.check(8, tables::gently(t, changes, store));
            self.check.check(7, tables::placed(changes, store));
        }
        if whole {
            self.check.whole(store);
        }
        if index.is_multiple_of(WHOLE_EVERY) {
            self.same_state(index, store);
        }
    }

    fn restored(&self, store: &Store) {
        let index = store.applied();
        self.check.lock().applied.insert(self.host, index);
        if index.is_multiple_of(WHOLE_EVERY) {
            self.same_state(index, store);
        }
        self.check.check(6, tables::held_once(store));
    }

    fn leads(&self, term: u64) {
        let mut i = self.check.lock();
        let other = *i.leaders.entry(term).or_insert(self.host);
        let before = i.terms.insert(self.host, term).unwrap_or(0);
        drop(i);
        if other != self.host {
            self.check.broken(1, format!("hosts {other} and {} both lead in term {term}", self.host));
        }
        if before > term {
            self.check.broken(1, format!("host {} led in term {before} and then in {term}", self.host));
        }
    }
}

impl OfHost {
    /// Two replicas that applied the same entries have the same tables.
    fn same_state(&self, index: u64, store: &Store) {
        let known = {
            let mut i = self.check.lock();
            let known = i.states.entry(index).or_insert_with(|| store.clone()).clone();
            if i.states.len() > STATES {
                i.states.pop_first();
            }
            known
        };
        if !known.is_same(store) {
            self.check.broken(1, format!("host {} has other tables at index {index} than a host before", self.host));
        }
    }
}
