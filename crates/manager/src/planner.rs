//! Planning whenever something changed, is due, or from time to time. Events wake it, they never inform it. Must never have two
//! plans under way.

use std::sync::Arc;
use std::time::Duration;

use skep_plan::{Dirty, Plan, plan};
use skep_types::Time;

use crate::error::WriteError;
use crate::shared::Shared;

/// A full pass finds whatever an event missed.
const FULL_PASS: Duration = Duration::from_secs(10);
/// Pause after a write that failed for another reason than a changed table.
const RETRY: Duration = Duration::from_millis(200);

pub(crate) async fn run(s: &Arc<Shared>) {
    let mut wake_at: Option<Time> = None;
    let mut next_full = tokio::time::Instant::now() + FULL_PASS;
    loop {
        let mut dirty = s.tables.take_dirty();
        if dirty.is_empty() {
            let due = wake_at.map_or(FULL_PASS, |w| w.since(s.clock.now()).min(FULL_PASS));
            let until = (tokio::time::Instant::now() + due).min(next_full);
            tokio::select! {
                biased;
                () = s.tables.planner.notified() => continue,
                () = tokio::time::sleep_until(until) => dirty = Dirty::all(),
            }
        }
        if dirty.all {
            next_full = tokio::time::Instant::now() + FULL_PASS;
            wake_at = None;
        }
        match step(s, dirty).await {
            Ok(p) => {
                wake_at = match (wake_at, p.wake_at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            Err(e) => {
                // What was to be planned is not lost.
                s.tables.all_dirty();
                if !matches!(e, WriteError::Refused(_)) {
                    tracing::warn!(error = %e, "planner: write failed");
                    // The transaction may still be agreed on later. Nothing may be planned beside it, so an entry after it in the
                    // log must be applied first.
                    tokio::time::sleep(RETRY).await;
                    while s.write_ops(vec![]).await.is_err() {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }
}

async fn step(s: &Arc<Shared>, dirty: Dirty) -> Result<Plan, WriteError> {
    let store = s.store();
    let now = s.clock.now();
    let clock = s.clock.clone();
    let work = move || plan(&store, &dirty, now, &mut || clock.new_id());
    let p = if s.clock.is_simulated() {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|e| WriteError::Encode(format!("planner failed: {e}")))?
    };
    if let Some(t) = &p.transaction {
        s.write(t).await?;
    }
    Ok(p)
}
