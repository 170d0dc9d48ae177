//! Planning whenever something changed, is due, or from time to time. Events wake it, they never inform it. Must never have two
//! plans under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skep_plan::{Dirty, Due, Plan, plan};
use skep_types::{ServiceId, Time};
use tokio::time::Instant;

use crate::error::WriteError;
use crate::shared::Shared;

/// In this time a look at everything finds whatever an event missed …
const FULL_PASS: Duration = Duration::from_secs(10);
/// … in slices of so many services, so that an event never waits for more than a few thousand tasks.
const SLICE: usize = 50;
/// Pause between two slices while there are more.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause after a write that failed for another reason than a changed table.
const RETRY: Duration = Duration::from_millis(200);
/// With more than this waiting for its time, everything is looked at when the first of it has come.
const MAX_DUE: usize = 200_000;

/// What time will make due. Read from the tables by a new leader's first plan; lost with it, and nothing with that.
#[derive(Default)]
struct Waiting {
    due: BTreeSet<(Time, Due)>,
    all_at: Option<Time>,
}

impl Waiting {
    fn add(&mut self, due: Vec<(Time, Due)>) {
        self.due.extend(due);
        if self.due.len() > MAX_DUE {
            let first = self.due.first().map(|(at, _)| *at);
            self.all_at = self.all_at.into_iter().chain(first).min();
            self.due.clear();
        }
    }

    fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.all_at).min()
    }

    fn take(&mut self, now: Time, dirty: &mut Dirty) {
        while let Some((at, what)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, what));
                break;
            }
            dirty.due(what);
        }
        if self.all_at.is_some_and(|at| at <= now) {
            self.all_at = None;
            dirty.merge(Dirty::all());
        }
    }
}

pub(crate) async fn run(s: &Arc<Shared>) {
    let mut waiting = Waiting::default();
    let mut next_slice = Instant::now() + FULL_PASS;
    let mut from = ServiceId(0);
    loop {
        let mut dirty = s.tables.take_dirty();
        waiting.take(s.clock.now(), &mut dirty);
        if dirty.is_empty() {
            // The clock may jump: it is looked at again soon in any case.
            let due = waiting.next().map_or(FULL_PASS, |w| w.since(s.clock.now()).min(FULL_PASS));
            let until = (Instant::now() + due).min(next_slice);
            tokio::select! {
                biased;
                () = s.tables.planner.notified() => continue,
                () = tokio::time::sleep_until(until) => {}
            }
            if Instant::now() < next_slice {
                continue;
            }
            let (slice, next) = Dirty::slice(&s.store(), from, SLICE);
            from = next.unwrap_or(ServiceId(0));
            next_slice = Instant::now() + if next.is_some() { PAUSE } else { FULL_PASS };
            dirty = slice;
        }
        match step(s, dirty).await {
            Ok(p) => {
                waiting.add(p.due);
                s.tables.more_dirty(p.rest);
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
    let mut p = if s.clock.is_simulated() {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|e| WriteError::Encode(format!("planner failed: {e}")))?
    };
    if let Some(t) = p.transaction.take() {
        s.write(&t).await?;
    }
    Ok(p)
}
