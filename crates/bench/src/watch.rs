//! Watch fan-out: ten thousand watchers of a manager's tables, each of which looks for what concerns its own node as a session
//! does, while ten thousand objects a second change. How late a watcher has a change, and that it misses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep_manager::{News, Tables, Watcher};
use skep_raft::StateMachine;
use skep_state::{Change, Op, Transaction};
use skep_types::object::Node;
use skep_types::spec::{Availability, Role};
use skep_types::{NodeId, Time};

use crate::numbers::quantile;

const WATCHERS: u128 = 10_000;
/// Objects that one transaction changes, and transactions a second.
const CHANGES: u128 = 100;
const RATE: u32 = 100;
/// A session gathers changes for so long, too.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// When each transaction was applied, in microseconds since the beginning, by its index.
struct Applied {
    begin: Instant,
    at: Vec<AtomicU64>,
}

impl Applied {
    fn now(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }
}

#[derive(Default)]
struct Seen {
    /// Microseconds from each transaction to its arrival here.
    delays: Vec<u64>,
    changes: u128,
    /// Those of its own node.
    mine: u128,
    restarts: u64,
}

/// Follows the tables until it has seen the last transaction.
async fn follow(tables: Arc<Tables>, mut watcher: Watcher, applied: Arc<Applied>, node: NodeId) -> Seen {
    let mut seen = Seen::default();
    let last = applied.at.len() as u64 - 1;
    loop {
        watcher.changed().await;
        tokio::time::sleep(DEBOUNCE).await;
        let (news, store) = watcher.take(&tables);
        let now = applied.now();
        match news {
            News::Restart => seen.restarts += 1,
            News::Changes(all) => {
                // They are the last ones, without a gap.
                let from = store.applied() + 1 - all.len() as u64;
                let times = applied.at.iter().skip(from as usize).take(all.len());
                seen.delays.extend(times.map(|at| now.saturating_sub(at.load(Ordering::Relaxed))));
                for c in all.iter().flat_map(|t| t.iter()) {
                    seen.changes += 1;
                    seen.mine += u128::from(matches!(c, Change::Node { id, .. } if *id == node));
                }
            }
        }
        if store.applied() == last {
            return seen;
        }
    }
}

/// Measures for so many seconds.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let seconds: u32 = match options {
        [] => 10,
        ["--seconds", n] => n.parse().map_err(|e| format!("--seconds: {e}"))?,
        _ => return Err("usage: skep-bench watch [--seconds N]".into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| format!("start tokio: {e}"))?;
    runtime.block_on(fan_out(seconds))
}

async fn fan_out(seconds: u32) -> Result<(), String> {
    let tables = Arc::new(Tables::default());
    let transactions = u64::from(seconds * RATE);
    let applied = Arc::new(Applied { begin: Instant::now(), at: (0..=transactions).map(|_| AtomicU64::new(0)).collect() });
    let watchers = (1..=WATCHERS).map(|n| {
        let watcher = tables.follow();
        tokio::spawn(follow(tables.clone(), watcher, applied.clone(), NodeId(n)))
    });
    let watchers: Vec<_> = watchers.collect();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let begin = Instant::now();
    for index in 1..=transactions {
        tick.tick().await;
        let first = u128::from(index) * CHANGES;
        let nodes = (first..first + CHANGES).map(|i| {
            let mut node = Node::new(NodeId(i % WATCHERS + 1), Role::Worker, Availability::Active);
            node.description.hostname = format!("host at {index}");
            Op::PutNode(Box::new(node))
        });
        let bytes = rmp_serde::to_vec_named(&Transaction::new(Time(1), vec![], nodes.collect())).map_err(|e| e.to_string())?;
        applied.at[index as usize].store(applied.now(), Ordering::Relaxed);
        let _ = tables.apply(index, &bytes);
    }
    let took = begin.elapsed().as_secs_f64();
    let all = u128::from(transactions) * CHANGES;
    let (mut delays, mut mine, mut restarts) = (Vec::new(), 0, 0);
    for w in watchers {
        let seen = w.await.map_err(|e| format!("a watcher died: {e}"))?;
        if seen.restarts == 0 && seen.changes != all {
            return Err(format!("a watcher saw {} of {all} changes", seen.changes));
        }
        delays.extend(seen.delays);
        mine += seen.mine;
        restarts += seen.restarts;
    }
    if restarts == 0 && mine != all {
        return Err(format!("of {all} changes {mine} reached the node that they were about"));
    }
    delays.sort_unstable();
    let ms = |part| quantile(&delays, part) as f64 / 1000.0;
    println!("| watchers | changes a second | delay p50 | p99 | most | restarts |\n|---|---|---|---|---|---|");
    println!(
        "| {WATCHERS} | {:.0} | {:.1} ms | {:.1} ms | {:.1} ms | {restarts} |",
        all as f64 / took,
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
    Ok(())
}
