//! Reports of the agents that have a session here, gathered: one message to the leader, and one commit there, serve whatever
//! came in within [`GATHER`]. Must never acknowledge what is not committed.

use std::sync::Arc;
use std::time::Duration;

use skep_state::Op;
use skep_types::NodeId;
use skep_types::control::{ControlError, StatusReport};
use skep_wire::{ControlAnswer, ControlCall};
use tokio::sync::mpsc;

use crate::error::WriteError;
use crate::shared::Shared;

/// Reports are gathered for so long; a task goes through five states in quick succession.
const GATHER: Duration = Duration::from_millis(20);
/// Most reports in one transaction, which stays below the log's limit with it.
const MOST: usize = 1000;
/// Batches waiting; a session whose batch does not fit waits, and its agent keeps only the newest status per task.
pub(crate) const QUEUE: usize = 256;
/// Pause before reports are sent to the leader again.
const RETRY: Duration = Duration::from_millis(100);

/// Reports of one node.
pub(crate) struct Batch {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
    pub(crate) reports: Vec<StatusReport>,
    /// Gets the number after the commit.
    pub(crate) done: mpsc::Sender<u64>,
}

pub(crate) async fn run(s: Arc<Shared>, mut queue: mpsc::Receiver<Batch>) {
    let mut stop = s.stop.subscribe();
    loop {
        let first = tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            b = queue.recv() => match b {
                Some(b) => b,
                None => return,
            },
        };
        let mut batches = vec![first];
        let mut count = batches[0].reports.len();
        let end = tokio::time::Instant::now() + GATHER;
        while count < MOST {
            match tokio::time::timeout_at(end, queue.recv()).await {
                Ok(Some(b)) => {
                    count += b.reports.len();
                    batches.push(b);
                }
                Ok(None) | Err(_) => break,
            }
        }
        let mut reports = Vec::with_capacity(count);
        let mut done = Vec::with_capacity(batches.len());
        for b in batches {
            reports.extend(b.reports.into_iter().map(|report| (b.node, report)));
            done.push((b.done, b.number));
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|s| *s) => return,
            written = deliver(&s, reports) => if written {
                // A session that ended meanwhile needs no answer; its agent reports again.
                done.into_iter().for_each(|(tx, n)| {
                    let _ = tx.try_send(n);
                });
            },
        }
    }
}

/// Whether the leader has written them. Tried until this manager lost the leader: then its sessions end, and the agents report
/// again to another manager.
async fn deliver(s: &Shared, reports: Vec<(NodeId, StatusReport)>) -> bool {
    while *s.attached.borrow() {
        match s.once(ControlCall::Statuses { reports: reports.clone() }).await {
            Ok(ControlAnswer::Noted { .. }) => return true,
            Ok(other) => tracing::debug!(?other, "statuses: not written yet"),
            Err(e) => tracing::debug!(error = %e, "statuses: not written yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
    false
}

/// Writes reports, on the leader.
pub(crate) async fn write(s: &Shared, reports: Vec<(NodeId, StatusReport)>) -> Result<(), ControlError> {
    for chunk in reports.chunks(MOST) {
        let ops = chunk.iter().map(|(node, report)| Op::Status { node: *node, report: report.clone() }).collect();
        s.write_ops(ops).await.map_err(WriteError::into_control)?;
    }
    Ok(())
}
