//! Who leads, as callers are told. Must never call a member leader that another one has replaced.

use openraft::async_runtime::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;

use crate::Leadership;
use crate::config::{Inner, TypeConfig};
use crate::facade::peer;

/// Keeps `tx` true until the core stops. `heard` is the newest leader (term, id) that sent something: it counts although the
/// core, waiting for its disk, has not taken it in yet.
pub(crate) async fn follow(raft: Inner, tx: watch::Sender<Leadership>, mut heard: watch::Receiver<Option<(u64, u64)>>) {
    let mut metrics = raft.metrics();
    // Else this task would keep the core running.
    drop(raft);
    let mut before = None;
    loop {
        let now = {
            let m = metrics.borrow_watched();
            let heard = *heard.borrow_and_update();
            // Metrics change with every heartbeat, and what is told is made of these alone.
            let of_what = (m.current_term, m.state, m.current_leader, *m.membership_config.log_id(), heard);
            (before.replace(of_what) != Some(of_what)).then(|| with_heard(of(&m), &m, heard))
        };
        if let Some(now) = now {
            tx.send_if_modified(|old| {
                let changed = *old != now;
                *old = now;
                changed
            });
        }
        tokio::select! {
            biased;
            r = metrics.changed() => if r.is_err() { return },
            r = heard.changed() => if r.is_err() { return },
        }
    }
}

fn with_heard(own: Leadership, m: &RaftMetrics<TypeConfig>, heard: Option<(u64, u64)>) -> Leadership {
    match heard {
        Some((term, id)) if term > own.term => {
            let leader = m.membership_config.get_node(&id).map(|n| peer(id, n));
            Leadership { term, leader, is_leader: false }
        }
        _ => own,
    }
}

/// A member counts as leader only once its own vote is on disk, which is when it accepts proposals.
pub(crate) fn of(m: &RaftMetrics<TypeConfig>) -> Leadership {
    let leader = m.current_leader.and_then(|id| m.membership_config.get_node(&id).map(|n| peer(id, n)));
    Leadership { term: m.current_term, leader, is_leader: m.state == ServerState::Leader && m.current_leader == Some(m.id) }
}
