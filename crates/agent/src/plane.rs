//! Applying the data plane: one at a time, always the newest. Must never apply an older one after a newer one.

use std::sync::Arc;
use std::time::Duration;

use skep_types::dataplane::DataPlane;
use tokio::sync::watch;

use crate::Executor;
use crate::files::Files;

/// Pause after the host refused it.
const RETRY: Duration = Duration::from_secs(1);
/// A task waits this long at most for the data plane that came with it; the executor waits for its networks itself.
const WAIT: Duration = Duration::from_secs(10);
const FILE: &str = "dataplane.json";
/// It is written down this often at most: what a restart without any manager begins with may be so old.
const SAVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Plane {
    wanted: watch::Sender<(u64, Option<DataPlane>)>,
    applied: watch::Receiver<u64>,
}

impl Plane {
    /// Starts with what was applied before a restart. Ends when the last clone is dropped.
    pub(crate) fn start(executor: Arc<dyn Executor>, files: Files) -> Self {
        let (done, applied) = watch::channel(0);
        let known: Option<DataPlane> = files.named(FILE);
        let (wanted, mut rx) = watch::channel((u64::from(known.is_some()), known));
        rx.mark_changed();
        tokio::spawn(save(wanted.subscribe(), files));
        tokio::spawn(async move {
            while rx.changed().await.is_ok() {
                loop {
                    let (number, plane) = rx.borrow_and_update().clone();
                    let Some(plane) = plane else { break };
                    match executor.set_dataplane(plane).await {
                        Ok(()) => {
                            done.send_replace(number);
                            break;
                        }
                        Err(e) => {
                            tracing::warn!(error = %e, "agent: data plane not applied yet");
                            tokio::select! {
                                biased;
                                () = tokio::time::sleep(RETRY) => {}
                                c = rx.changed() => if c.is_err() { return },
                            }
                        }
                    }
                }
            }
        });
        Self { wanted, applied }
    }

    /// Digest of what is wanted now; 0 if nothing is.
    pub(crate) fn digest(&self) -> u64 {
        self.wanted.borrow().1.as_ref().map_or(0, DataPlane::digest)
    }

    pub(crate) fn set(&self, plane: DataPlane) {
        self.wanted.send_modify(|w| *w = (w.0 + 1, Some(plane)));
    }

    /// Waits until what is known now is applied, for a while.
    pub(crate) async fn settled(&self) {
        let number = self.wanted.borrow().0;
        let mut applied = self.applied.clone();
        // Late or gone: the executor says what is missing then.
        let _ = tokio::time::timeout(WAIT, applied.wait_for(|a| *a >= number)).await;
    }
}

/// Writes down what is wanted, until nobody wants anything any more.
async fn save(mut wanted: watch::Receiver<(u64, Option<DataPlane>)>, files: Files) {
    // Nothing is written once the agent has stopped: the host may have left the swarm since.
    while wanted.changed().await.is_ok() && wanted.has_changed().is_ok() {
        let plane = wanted.borrow_and_update().1.clone();
        if let Some(p) = plane {
            files.put_named(FILE, &p);
        }
        tokio::time::sleep(SAVE_EVERY).await;
    }
}
