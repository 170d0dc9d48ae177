//! The leader's loop: while this manager leads and has caught up, all its duties run; when it no longer leads, they are
//! dropped where they stand. Nothing of a decision is kept in memory, so nothing is lost. Must never run two terms at once.

use std::sync::Arc;
use std::time::Duration;

use crate::shared::Shared;
use crate::{liveness, planner, roles, rotation};

/// Pause after a barrier that failed; a new leader is elected in about a second anyway.
const RETRY: Duration = Duration::from_millis(50);
/// A leader without answers of a quorum for so long gives its duties up until there are some again.
const LOST: Duration = Duration::from_millis(1000);

pub(crate) async fn run(s: Arc<Shared>) {
    let mut leadership = s.raft.leadership();
    let mut stop = s.stop.subscribe();
    loop {
        let term = tokio::select! {
            biased;
            l = leadership.wait_for(|l| l.is_leader) => match l {
                Ok(l) => l.term,
                Err(_) => return,
            },
            _ = stop.wait_for(|s| *s) => return,
        };
        // Everything agreed on before must be in the tables before anything is decided, and so must what this manager itself has
        // proposed without learning the outcome: hence an entry of the log, which comes after all of that, and no read barrier.
        if let Err(e) = s.write_ops(vec![]).await {
            tracing::debug!(error = %e, "leader: not caught up yet");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        tracing::info!(term, "this manager leads");
        liveness::begin(&s);
        s.tables.all_dirty();
        s.leading.send_replace(Some(term));
        if let Some(o) = &s.config.observer {
            o.leads(term);
        }
        let duties = async {
            tokio::join!(planner::run(&s), liveness::run(&s), roles::run(&s), rotation::run(&s));
        };
        tokio::select! {
            biased;
            () = duties => {}
            () = lost(&s) => tracing::warn!(term, "no quorum has answered this leader for a while"),
            _ = leadership.wait_for(|l| !l.is_leader || l.term != term) => {}
            _ = stop.wait_for(|s| *s) => {}
        }
        s.leading.send_replace(None);
        tracing::info!(term, "this manager no longer leads");
        if *stop.borrow() {
            return;
        }
    }
}

/// Waits until this leader has had no quorum for a while: cut off, or with a disk that takes nothing, it may be the last to
/// learn that another one leads.
async fn lost(s: &Shared) {
    let mut since = tokio::time::Instant::now();
    while since.elapsed() < LOST {
        tokio::time::sleep(LOST / 10).await;
        if s.raft.has_quorum() {
            since = tokio::time::Instant::now();
        }
    }
}
