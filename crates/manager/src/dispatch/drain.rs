//! Which changes of the tables every agent's network has followed, so that a task is stopped only when nobody sends requests to
//! it any more. Each session counts what its agent was told and has applied; each manager tells the leader the least of its
//! sessions, and learns the least of all. Must never count a change as followed that an agent with a session has not applied.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_state::Change;
use skep_types::NodeId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::dataplane::serves;

/// A manager that told nothing for so long counts no more: its agents have gone to others, or are cut off like it. Several
/// times its period of telling.
const STALE: Duration = Duration::from_millis(1500);

/// Whether a change takes a task out of service that still runs.
pub(crate) fn drains(c: &Change) -> Option<NodeId> {
    let Change::Task { old: Some(old), new: Some(new), .. } = c else { return None };
    (serves(old) && !serves(new) && !new.status.state.is_terminal()).then_some(new.node)?
}

/// What one agent was told and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// It was told everything up to here.
    told: u64,
    /// It was asked whether it has applied everything up to here.
    asked: u64,
    /// It has.
    done: u64,
}

impl Progress {
    fn told(&mut self, index: u64, asks: bool) {
        if asks {
            // Nothing that it was told before is open: it stands where it was told.
            if self.done >= self.asked {
                self.done = self.told;
            }
            self.asked = index;
        }
        self.told = index;
    }

    fn follows(&self) -> u64 {
        if self.done >= self.asked { self.told } else { self.done }
    }
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<u64, Progress>,
    next: u64,
    /// What other managers told, on the leader.
    managers: BTreeMap<NodeId, (u64, Instant)>,
    /// The last change that took a task out of service.
    drain: u64,
}

/// What the networks of all agents have followed.
#[derive(Debug)]
pub(crate) struct Followed {
    inner: Mutex<Inner>,
    /// Every agent within reach has followed up to here.
    all: watch::Sender<u64>,
    /// Something is to be told to the leader at once.
    pub(crate) news: Notify,
}

impl Default for Followed {
    fn default() -> Self {
        Self { inner: Mutex::default(), all: watch::channel(0).0, news: Notify::new() }
    }
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Entries are replaced whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of an agent that knows nothing yet.
    pub(crate) fn session(&self) -> Session<'_> {
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        inner.sessions.insert(number, Progress::default());
        Session { followed: self, number }
    }

    /// The least that the agents of this manager follow; without any nothing is held up.
    pub(crate) fn here(&self) -> u64 {
        self.lock().sessions.values().map(Progress::follows).min().unwrap_or(u64::MAX)
    }

    /// Whether somebody waits for agents to follow.
    pub(crate) fn urgent(&self) -> bool {
        *self.all.borrow() < self.lock().drain
    }

    /// Notes what another manager's agents follow. Returns what all do. On the leader.
    pub(crate) fn take(&self, manager: NodeId, follows: u64, own: u64, now: Instant) -> u64 {
        let mut inner = self.lock();
        inner.managers.retain(|_, (_, at)| now.saturating_duration_since(*at) < STALE);
        inner.managers.insert(manager, (follows, now));
        let here = inner.sessions.values().map(Progress::follows);
        // Where nobody has an agent, nothing is followed beyond what the leader itself knows.
        let all = inner.managers.values().map(|(f, _)| *f).chain(here).min().unwrap_or(own).min(own);
        drop(inner);
        self.learn(all);
        *self.all.borrow()
    }

    /// Takes what all agents follow, as the leader tells it.
    pub(crate) fn learn(&self, all: u64) {
        self.all.send_if_modified(|a| std::mem::replace(a, all.max(*a)) < all);
    }

    /// Follows what all agents follow.
    pub(crate) fn all(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }
}

/// One agent's part; it counts no more when dropped.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    followed: &'a Followed,
    number: u64,
}

impl Session<'_> {
    /// The agent was told everything up to `index`, and, if `asks`, asked to answer.
    pub(crate) fn told(&self, index: u64, asks: bool) {
        let mut inner = self.followed.lock();
        if let Some(p) = inner.sessions.get_mut(&self.number) {
            p.told(index, asks);
        }
        if asks && inner.drain < index {
            inner.drain = index;
            self.followed.news.notify_one();
        }
    }

    /// The agent answered.
    pub(crate) fn done(&self, index: u64) {
        let mut inner = self.followed.lock();
        if let Some(p) = inner.sessions.get_mut(&self.number) {
            p.done = p.done.max(index);
        }
        let least = inner.sessions.values().map(Progress::follows).min();
        if least.is_some_and(|l| l >= inner.drain) {
            self.followed.news.notify_one();
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.followed.lock().sessions.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_agent_counts() {
        let f = Followed::default();
        let (a, b) = (f.session(), f.session());
        a.told(5, true);
        b.told(5, true);
        assert_eq!(f.here(), 0);
        a.done(5);
        a.told(7, false);
        assert_eq!(f.here(), 0);
        b.done(5);
        assert_eq!(f.here(), 5, "b was not told of 7 yet");
        b.told(8, true);
        a.told(8, true);
        assert_eq!(f.here(), 5);
        a.done(8);
        b.told(9, false);
        assert_eq!(f.here(), 5, "9 is after 8, which is open");
        b.done(8);
        assert_eq!(f.here(), 8);
        drop(a);
        assert_eq!(f.here(), 9);
        drop(b);
        assert_eq!(f.here(), u64::MAX);
    }

    #[test]
    fn a_manager_that_is_silent_holds_nobody_up() {
        let f = Followed::default();
        let (s, now) = (f.session(), Instant::now());
        s.told(3, true);
        assert!(f.urgent());
        s.done(3);
        assert_eq!(f.take(NodeId(2), 1, 3, now), 1);
        assert_eq!(f.take(NodeId(3), 3, 3, now), 1);
        let later = now + STALE;
        assert_eq!(f.take(NodeId(3), 3, 3, later), 3);
        assert!(!f.urgent());
        // What was followed once stays so.
        assert_eq!(f.take(NodeId(2), 1, 3, later), 3);
    }
}
