//! Clients that write as fast as they are answered.

use std::sync::Arc;
use std::time::Duration;

use skep_raft::Raft;
use tokio::time::Instant;

/// Bytes of a write.
pub(crate) const BYTES: usize = 1024;

/// Runs `clients` for `seconds`; returns how long each acknowledged write took, in microseconds.
pub(crate) async fn run(raft: &Arc<Raft>, clients: usize, seconds: u64) -> Vec<u64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let raft = raft.clone();
        tasks.push(tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                if raft.propose(vec![7; BYTES]).await.is_ok() {
                    took.push(begin.elapsed().as_micros() as u64);
                }
            }
            took
        }));
    }
    let mut all = Vec::new();
    for t in tasks {
        all.extend(t.await.unwrap_or_default());
    }
    all.sort_unstable();
    all
}
