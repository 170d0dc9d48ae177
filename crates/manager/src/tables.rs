//! The tables as raft's state machine. Must never do anything in `apply` that depends on more than the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_plan::Dirty;
use skep_raft::{SnapshotFn, StateMachine};
use skep_state::{Change, Dump, Refused, Store, Transaction};
use tokio::sync::{Notify, watch};

use crate::Observer;
use crate::events::Teller;

/// Changes are gathered for so long before sessions are told of them.
const GATHER: Duration = Duration::from_millis(20);
/// With more to plan than this, planning everything is cheaper than remembering what.
const MAX_DIRTY: usize = 10_000;

/// What came of an entry of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Applied {
    Done,
    Refused(Refused),
    Unreadable(String),
}

/// Changes kept for watchers that are behind. Whoever is further behind starts again from a snapshot.
const RING_CHANGES: usize = 20_000;

/// The last changes, oldest first, with the index of the transaction that made them.
#[derive(Debug, Default)]
struct Ring {
    transactions: VecDeque<(u64, Arc<Vec<Change>>)>,
    changes: usize,
    /// Changes up to this index are no longer there.
    forgotten: u64,
}

impl Ring {
    fn push(&mut self, index: u64, changes: Vec<Change>) {
        self.changes += changes.len();
        self.transactions.push_back((index, Arc::new(changes)));
        while self.changes > RING_CHANGES
            && let Some((index, old)) = self.transactions.pop_front()
        {
            self.changes -= old.len();
            self.forgotten = index;
        }
    }

    fn clear(&mut self, index: u64) {
        *self = Self { forgotten: index, ..Self::default() };
    }
}

/// What a watcher missed.
pub enum News {
    /// These changes, transaction by transaction.
    Changes(Vec<Arc<Vec<Change>>>),
    /// Too much, or the tables were replaced: everything may be different.
    Restart,
}

/// Follows the tables: every change once, in order, or [`News::Restart`].
pub struct Watcher {
    seen: u64,
    changed: watch::Receiver<u64>,
}

impl Watcher {
    /// Waits for a change.
    pub async fn changed(&mut self) {
        // The sender lives as long as the manager; if it is gone there is no change any more.
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What came since the last call, and the tables with all of it.
    pub fn take(&mut self, tables: &Tables) -> (News, Arc<Store>) {
        self.changed.mark_unchanged();
        let store = lock(&tables.store);
        let ring = lock(&tables.ring);
        let news = if self.seen < ring.forgotten {
            News::Restart
        } else {
            let from = ring.transactions.partition_point(|(index, _)| *index <= self.seen);
            News::Changes(ring.transactions.range(from..).map(|(_, c)| c.clone()).collect())
        };
        self.seen = store.applied();
        (news, store.clone())
    }
}

/// The tables, and who wants to know that they changed. Public for benchmarks.
pub struct Tables {
    /// Shared with whoever reads them: what is copied for the next change is copied once, however many read.
    store: Mutex<Arc<Store>>,
    /// Changed only while `store` is locked.
    ring: Mutex<Ring>,
    changed: watch::Sender<u64>,
    /// Changed a while after `changed`, once for all that came meanwhile.
    gathered: watch::Sender<u64>,
    observer: Option<Arc<dyn Observer>>,
    teller: Option<Teller>,
    dirty: Mutex<Dirty>,
    pub(crate) planner: Notify,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values are replaced whole, so a panic elsewhere leaves them usable.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Tables {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>, teller: Option<Teller>) -> Self {
        Self {
            observer,
            teller,
            store: Mutex::default(),
            ring: Mutex::default(),
            changed: watch::channel(0).0,
            gathered: watch::channel(0).0,
            dirty: Mutex::new(Dirty::all()),
            planner: Notify::new(),
        }
    }

    /// The tables at this moment.
    pub(crate) fn snapshot(&self) -> Arc<Store> {
        lock(&self.store).clone()
    }

    /// Up to where everything is applied here.
    pub(crate) fn applied(&self) -> u64 {
        lock(&self.store).applied()
    }

    /// Changes with every change of the tables.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Follows the tables from now on; the first [`Watcher::take`] gives the tables of then.
    #[must_use]
    pub fn follow(&self) -> Watcher {
        let changed = self.changed.subscribe();
        Watcher { seen: lock(&self.store).applied(), changed }
    }

    /// As [`Tables::follow`] for whoever may learn of changes some milliseconds later, many at once: thousands of sessions need no
    /// timer each. Needs [`Tables::gather`] to run.
    pub(crate) fn follow_gathered(&self) -> Watcher {
        let changed = self.gathered.subscribe();
        Watcher { seen: lock(&self.store).applied(), changed }
    }

    /// Tells of gathered changes those who follow them; every change from this call on. Never ends.
    pub(crate) fn gather(self: Arc<Self>) -> impl Future<Output = ()> {
        let mut changed = self.changed.subscribe();
        async move {
            // The sender lives as long as this.
            while changed.changed().await.is_ok() {
                tokio::time::sleep(GATHER).await;
                let newest = *changed.borrow_and_update();
                self.gathered.send_replace(newest);
            }
        }
    }

    /// Waits until everything up to `index` is applied here.
    pub(crate) async fn reached(&self, index: u64) {
        let mut changed = self.changed.subscribe();
        // The sender lives as long as this.
        let _ = changed.wait_for(|applied| *applied >= index).await;
    }

    /// Takes what is to be planned.
    pub(crate) fn take_dirty(&self) -> Dirty {
        std::mem::take(&mut *lock(&self.dirty))
    }

    /// This is to be planned too.
    pub(crate) fn more_dirty(&self, more: Dirty) {
        lock(&self.dirty).merge(more);
    }

    /// Everything is to be planned.
    pub(crate) fn all_dirty(&self) {
        *lock(&self.dirty) = Dirty::all();
        self.planner.notify_one();
    }
}

impl StateMachine for Tables {
    fn apply(&self, index: u64, bytes: &[u8]) -> Vec<u8> {
        let applied = match Transaction::decode(bytes) {
            Err(e) => Applied::Unreadable(e.to_string()),
            Ok(t) => {
                let mut current = lock(&self.store);
                let store = Arc::make_mut(&mut current);
                let outcome = store.apply(index, &t);
                if let Some(o) = &self.observer {
                    o.applied(index, bytes, &t, outcome.as_deref(), store);
                }
                match outcome {
                    Err(e) => Applied::Refused(e),
                    Ok(changes) => {
                        let mut d = lock(&self.dirty);
                        changes.iter().for_each(|c| d.note(c));
                        if d.len() > MAX_DIRTY {
                            *d = Dirty::all();
                        }
                        drop(d);
                        if let Some(teller) = &self.teller {
                            teller.tell(&changes, t.time);
                        }
                        if !changes.is_empty() {
                            lock(&self.ring).push(index, changes);
                        }
                        Applied::Done
                    }
                }
            }
        };
        self.changed.send_replace(index);
        self.planner.notify_one();
        // An encoding into memory of a small enum does not fail; an empty answer would be reported as unreadable.
        rmp_serde::to_vec_named(&applied).unwrap_or_default()
    }

    fn snapshot(&self) -> SnapshotFn {
        let store = Tables::snapshot(self);
        Box::new(move |out| rmp_serde::encode::write_named(out, &store.dump()).map_err(std::io::Error::other))
    }

    fn restore(&self, bytes: &mut dyn std::io::Read) -> Result<(), String> {
        let dump: Dump = rmp_serde::from_read(bytes).map_err(|e| e.to_string())?;
        let store = Store::restore(dump).map_err(|e| e.to_string())?;
        let index = store.applied();
        let mut current = lock(&self.store);
        *current = Arc::new(store);
        if let Some(o) = &self.observer {
            o.restored(&current);
        }
        lock(&self.ring).clear(index);
        drop(current);
        self.changed.send_replace(index);
        self.all_dirty();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use skep_state::Op;
    use skep_types::attach::HeldList;
    use skep_types::object::{Meta, Node, NodeDescription, NodeState, Service};
    use skep_types::spec::*;
    use skep_types::{NodeId, ServiceId, Time};

    /// Everything that the log and the snapshots hold must come back from its encoding.
    #[test]
    fn what_is_written_comes_back_from_a_snapshot() {
        let node = Node {
            id: NodeId(u128::MAX),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            role: Role::Manager,
            description: NodeDescription::default(),
            state: NodeState::Ready,
            message: "m".into(),
            addr: Some("10.1.2.3".parse().unwrap()),
            ingress_addr: None,
            manager: None,
            retired_raft_id: 0,
            renew: false,
            attached: HeldList::default(),
        };
        let update = UpdateConfig { max_failure_ratio: 0.25, ..UpdateConfig::default() };
        let spec = ServiceSpec {
            name: "web".into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            mode: ServiceMode::Replicated { replicas: 3 },
            task: TaskSpec { restart: Some(RestartPolicy::default()), ..TaskSpec::default() },
            update: Some(update),
            rollback: None,
            endpoint: EndpointSpec::default(),
        };
        let service =
            Service { previous_spec: Some(Box::new(spec.clone())), revision: 2, ..Service::new(ServiceId(9), spec, Time(5)) };
        let ops = vec![Op::PutNode(Box::new(node)), Op::PutService(Box::new(service))];
        let bytes = rmp_serde::to_vec_named(&Transaction::new(Time(5), vec![], ops)).unwrap();
        let a = Tables::new(None, None);
        let answer: Applied = rmp_serde::from_slice(&a.apply(7, &bytes)).unwrap();
        assert!(matches!(answer, Applied::Done));
        let b = Tables::new(None, None);
        let mut bytes = Vec::new();
        StateMachine::snapshot(&a)(&mut bytes).unwrap();
        b.restore(&mut &bytes[..]).unwrap();
        let (a, b) = (Tables::snapshot(&a), Tables::snapshot(&b));
        assert_eq!(a.applied(), b.applied());
        assert_eq!(a.nodes().collect::<Vec<_>>(), b.nodes().collect::<Vec<_>>());
        assert_eq!(a.services().collect::<Vec<_>>(), b.services().collect::<Vec<_>>());
        assert!(b.service_by_name("web").is_some());
        assert!(Tables::new(None, None).restore(&mut &b"nonsense"[..]).is_err());
        let answer: Applied = rmp_serde::from_slice(&Tables::new(None, None).apply(1, b"nonsense")).unwrap();
        assert!(matches!(answer, Applied::Unreadable(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn gathered_changes_are_told_once_and_none_is_missed() {
        let tables = Arc::new(Tables::default());
        let mut watcher = tables.follow_gathered();
        let gather = tokio::spawn(tables.clone().gather());
        let change = |index| {
            let node = Node::new(NodeId(index), Role::Worker, Availability::Active);
            let t = Transaction::new(Time(1), vec![], vec![Op::PutNode(Box::new(node))]);
            let index = u64::try_from(index).unwrap();
            let _ = tables.apply(index, &rmp_serde::to_vec_named(&t).unwrap());
        };
        let mut seen = 0;
        for round in [1..=2, 3..=3, 4..=6] {
            let last = *round.end();
            round.for_each(change);
            tokio::time::timeout(Duration::from_secs(1), watcher.changed()).await.unwrap();
            let (News::Changes(news), store) = watcher.take(&tables) else { panic!("nothing was restarted") };
            seen += news.len() as u128;
            assert_eq!((seen, u128::from(store.applied())), (last, last));
            assert!(tokio::time::timeout(Duration::from_secs(1), watcher.changed()).await.is_err(), "they are told once");
        }
        gather.abort();
    }
}
