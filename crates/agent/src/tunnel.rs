//! Ways to the containers of this host's tasks, brought to the manager that asks for them. What may be done on one is the executor's
//! to say.

use std::sync::Arc;
use std::time::Duration;

use skep_types::tunnel::{TunnelAsk, TunnelMessage};
use tokio::sync::mpsc;

use crate::agent::Inner;

/// Ways at once; each is a user who works in a container, or looks at it.
pub(crate) const CLIENTS: usize = 64;
/// Messages on their way to the manager; then whoever sends waits.
const OUT: usize = 4;
/// The manager that asked is there, or has gone.
const CONNECT: Duration = Duration::from_secs(5);

/// Serves one ask, in the background.
pub(crate) fn serve(inner: &Arc<Inner>, ask: TunnelAsk) {
    let Ok(slot) = inner.tunnels.clone().try_acquire_owned() else {
        tracing::warn!(task = %ask.task, "agent: too many clients are in containers");
        return;
    };
    let inner = inner.clone();
    tokio::spawn(async move {
        let (out, outgoing) = mpsc::channel(OUT);
        // The channel has room for it.
        let _ = out.send(TunnelMessage::Begin { ask: ask.id }).await;
        match inner.config.uplink.tunnel(&ask.manager, outgoing, CONNECT).await {
            Ok(incoming) => {
                // Also when the connection has become that of an exec, which the executor does not wait for.
                let io = skep_wire::tunnel::stream(incoming, out, slot);
                let served = match ask.network {
                    true => inner.config.executor.network(io).await,
                    false => inner.config.executor.tunnel(ask.task, io).await,
                };
                if let Err(e) = served {
                    tracing::debug!(task = %ask.task, error = %e.message, "agent: no way to a container");
                }
            }
            Err(e) => tracing::debug!(manager = ask.manager, error = %e, "agent: a container is not wanted any more"),
        }
    });
}
