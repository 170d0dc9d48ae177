//! Signs of life: which agents this manager hears, told to the leader several times a second, and whether this manager itself
//! hears the leader, and follows it. A manager that does not must not keep agents: nobody would know that they live, and they
//! would not be told anything. Must never count as heard what was not heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_types::NodeId;
use skep_types::control::Code;
use skep_wire::{ControlAnswer, ControlCall};
use tokio::time::Instant;

use crate::liveness::SILENCE;
use crate::shared::Shared;

/// The leader is told this often: often enough that what one lost message costs does not matter against [`SILENCE`].
const TELL: Duration = Duration::from_millis(300);
/// And this often while a task waits for all networks to have taken it out of service.
const TELL_URGENT: Duration = Duration::from_millis(25);
/// A leader that answers later than this is as good as none.
const ANSWER: Duration = Duration::from_millis(1000);
/// Without an answer of a leader for so long, agents are sent to other managers: they find one within the time that is left
/// of [`SILENCE`]. Longer than an election, which is no reason to lose them.
const DETACHED: Duration = Duration::from_millis(2000);
/// A manager whose tables are still not where the leader's were so long ago has nothing new to tell its agents: its disk is full, or
/// entries do not get through to it.
const BEHIND: Duration = Duration::from_secs(3);

/// Whose agents have a session here, and when each was last heard.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<BTreeMap<NodeId, Instant>>);

impl Heard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        // Entries are inserted and removed whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, node: NodeId) {
        self.note_at(node, Instant::now());
    }

    /// Notes a time unless a later one is known.
    pub(crate) fn note_at(&self, node: NodeId, at: Instant) {
        let mut all = self.lock();
        let entry = all.entry(node).or_insert(at);
        *entry = (*entry).max(at);
    }

    pub(crate) fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    pub(crate) fn replace(&self, all: BTreeMap<NodeId, Instant>) {
        *self.lock() = all;
    }

    /// When a node was last heard; noted as heard now if it never was.
    pub(crate) fn last_or_now(&self, node: NodeId) -> Instant {
        *self.lock().entry(node).or_insert_with(Instant::now)
    }

    pub(crate) fn last(&self, node: NodeId) -> Option<Instant> {
        self.lock().get(&node).copied()
    }

    pub(crate) fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        self.lock().retain(|id, _| keep(*id));
    }

    /// Everybody was heard now: after this process itself was stopped for a while.
    pub(crate) fn all_now(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|t| *t = now);
    }

    /// Who was heard within [`SILENCE`], with the milliseconds since then. The others are forgotten.
    fn lately(&self) -> Vec<(NodeId, u32)> {
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|_, at| now.saturating_duration_since(*at) < SILENCE);
        // Below SILENCE, so it fits.
        all.iter().map(|(id, at)| (*id, now.saturating_duration_since(*at).as_millis() as u32)).collect()
    }
}

/// Takes what a manager tells.
pub(crate) fn take(s: &Shared, nodes: &[(NodeId, u32)]) {
    let now = Instant::now();
    for (node, ago) in nodes {
        s.heard.note_at(*node, now.checked_sub(Duration::from_millis(u64::from(*ago))).unwrap_or(now));
    }
}

pub(crate) async fn run(s: Arc<Shared>) {
    let mut stop = s.stop.subscribe();
    let mut leadership = s.raft.leadership();
    let mut leading = s.leading.subscribe();
    let mut last = Instant::now();
    // Up to where the leader's tables were, and when it said so.
    let mut told = (0, last);
    loop {
        let nodes = s.sessions.lately();
        // Nothing lasts beyond the moment at which agents are to be sent away: they have little time to find another manager.
        let left = (last + DETACHED).saturating_duration_since(Instant::now());
        let before_detached = |most: Duration| if left.is_zero() { most } else { most.min(left) };
        if s.is_leading() {
            take(&s, &nodes);
            s.followed.take(s.config.node, s.followed.here(), s.tables.applied(), last);
            last = Instant::now();
            told = (0, last);
            s.attached.send_if_modified(|a| !std::mem::replace(a, true));
        } else if let Some(leader) = s.target() {
            let call = ControlCall::Presence { manager: s.config.node, nodes, follows: s.followed.here() };
            tokio::select! {
                biased;
                _ = stop.wait_for(|s| *s) => return,
                c = leadership.changed() => match c {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                answer = s.ask(&leader, call, before_detached(ANSWER)) => match answer {
                    Ok(ControlAnswer::Noted { applied, drained }) => {
                        s.followed.learn(drained);
                        last = Instant::now();
                        if s.tables.applied() >= told.0 {
                            told = (applied, last);
                        }
                        let follows = last - told.1 < BEHIND;
                        s.attached.send_if_modified(|a| std::mem::replace(a, follows) != follows);
                    }
                    // Demoted or removed. Agents that heard nothing of it until the leader was taken for lost would have no time left,
                    // since it has not counted them as heard by this manager from then on.
                    Ok(ControlAnswer::Error(e)) if e.code == Code::PermissionDenied => {
                        s.attached.send_if_modified(std::mem::take);
                    }
                    Ok(_) => {}
                    Err(e) => tracing::debug!(error = %e, "presence: the leader does not answer"),
                },
            }
        }
        let left = DETACHED.saturating_sub(last.elapsed());
        if left.is_zero() {
            s.attached.send_if_modified(|a| std::mem::replace(a, false));
        }
        let pause = if s.followed.urgent() { TELL_URGENT } else { TELL };
        tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            // A new leader hears at once who lives.
            c = leadership.changed() => if c.is_err() { return },
            _ = leading.changed() => {}
            () = tokio::time::sleep(if left.is_zero() { pause } else { pause.min(left) }) => {}
            () = s.followed.news.notified() => {}
        }
    }
}
