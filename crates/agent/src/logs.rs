//! Logs of this host's tasks, brought to the manager that asks for them. Must never read on when that manager takes nothing.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use skep_types::TaskId;
use skep_types::host::LogRecord;
use skep_types::logs::{LogAsk, LogMessage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::agent::Inner;

/// Clients served at once, each of which may keep a file of each task open; the others wait for the managers to ask again.
pub(crate) const CLIENTS: usize = 64;
/// Messages on their way to the manager; then reading waits.
const OUT: usize = 4;
/// Records and bytes of a message.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// Serves one ask, in the background.
pub(crate) fn serve(inner: &Arc<Inner>, ask: LogAsk) {
    let Ok(slot) = inner.readers.clone().try_acquire_owned() else {
        tracing::warn!(tasks = ask.tasks.len(), "agent: too many clients read logs");
        return;
    };
    let inner = inner.clone();
    tokio::spawn(async move {
        let (tx, rx) = mpsc::channel(OUT);
        let sent = inner.config.uplink.logs(&ask.manager, rx);
        tokio::select! {
            biased;
            e = sent => {
                if let Err(e) = e {
                    tracing::debug!(manager = ask.manager, error = %e, "agent: logs are not wanted any more");
                }
            }
            // The call ends when the last message is taken, and must be waited for.
            () = async {
                if feed(&inner, &ask, tx).await.is_some() {
                    std::future::pending::<()>().await;
                }
            } => {}
        }
        drop(slot);
    });
}

/// Sends everything; `None` if the manager has gone.
async fn feed(inner: &Inner, ask: &LogAsk, tx: mpsc::Sender<LogMessage>) -> Option<()> {
    tx.send(LogMessage::Begin { ask: ask.id }).await.ok()?;
    let mut logs = Vec::new();
    for task in &ask.tasks {
        let task = *task;
        match inner.config.executor.logs(task, ask.options.clone()).await {
            Ok(records) => logs.push(ReceiverStream::new(records).map(move |r| (task, r)).boxed()),
            Err(e) => tracing::debug!(%task, error = %e, "agent: no log"),
        }
    }
    // What is there already goes together.
    let mut batches = select_all(logs).ready_chunks(BATCH);
    while let Some(records) = batches.next().await {
        for part in parts(records) {
            tx.send(LogMessage::Records(part)).await.ok()?;
        }
    }
    tx.send(LogMessage::Done).await.ok()
}

/// Cuts records into messages of bounded size.
fn parts(records: Vec<(TaskId, LogRecord)>) -> Vec<Vec<(TaskId, LogRecord)>> {
    let (mut out, mut bytes) = (vec![Vec::new()], 0);
    for r in records {
        bytes += r.1.line.len();
        if bytes > BATCH_BYTES {
            bytes = r.1.line.len();
            out.push(Vec::new());
        }
        if let Some(last) = out.last_mut() {
            last.push(r);
        }
    }
    out.retain(|p| !p.is_empty());
    out
}
