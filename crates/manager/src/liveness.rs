//! Who is alive, decided by the leader: a node that no manager heard for [`SILENCE`] is down. Must never blame nodes for a
//! pause of this process itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skep_state::Op;
use skep_types::object::NodeState;
use tokio::time::Instant;

use crate::shared::Shared;

/// Agents are heard at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
/// A node not heard for so long is down. Six heartbeats: a connection that loses 1 % of its packets, a pause of 500 ms or a
/// busy disk never cost so many in a row, and an agent whose manager died has found another one by then.
pub(crate) const SILENCE: Duration = Duration::from_millis(3000);
/// Why a silent node is down, as the reference says it.
const FAILURE: &str = "heartbeat failure";
const TICK: Duration = Duration::from_millis(100);
/// A tick this late means that this process was stopped or starved: then nobody could be heard.
const PAUSED: Duration = Duration::from_millis(1000);

/// Every node gets the full time to be heard by the new leader, but for managers that raft has not heard for a while: the
/// leader before, above all.
pub(crate) fn begin(s: &Shared) {
    let now = Instant::now();
    let at = |n: &skep_types::object::Node| {
        let contact = n.manager.as_ref().and_then(|m| s.contacts.last(m.raft_id));
        contact.map_or(now, |c| c.max(now.checked_sub(SILENCE / 2).unwrap_or(now)))
    };
    let all: BTreeMap<_, _> = s.store().nodes().map(|n| (n.id, at(n))).collect();
    s.heard.replace(all);
    *s.began.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
}

pub(crate) async fn run(s: &Arc<Shared>) {
    let mut last = Instant::now();
    // The tables by which nodes were last forgotten.
    let mut known = None;
    loop {
        tokio::time::sleep(TICK).await;
        let now = Instant::now();
        if now - last > PAUSED {
            s.heard.all_now();
        }
        last = now;
        let store = s.store();
        if known.replace(store.applied()) != Some(store.applied()) {
            s.heard.retain(|id| store.node(id).is_some());
        }
        let mut ops = Vec::new();
        for n in store.nodes() {
            match n.state {
                NodeState::Ready | NodeState::Unknown if now.saturating_duration_since(s.heard.last_or_now(n.id)) > SILENCE => {
                    tracing::info!(node = %n.id, "node is down: {FAILURE}");
                    ops.push(Op::NodeState { node: n.id, state: NodeState::Down, message: FAILURE.into() });
                }
                // Its session outlived the silence: it was its manager that could not be heard.
                NodeState::Down
                    if n.message == FAILURE
                        && s.heard.last(n.id).is_some_and(|at| now.saturating_duration_since(at) < SILENCE / 2) =>
                {
                    ops.push(Op::NodeState { node: n.id, state: NodeState::Ready, message: String::new() });
                }
                _ => {}
            }
        }
        if ops.is_empty() {
            continue;
        }
        if let Err(e) = s.write_ops(ops).await {
            tracing::warn!(error = %e, "liveness: write failed");
        }
    }
}
