//! What this node tells others while no manager can be reached: which of its tasks have ended or are unhealthy. Must never be silent
//! about one that others may still send requests to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use skep_types::gossip::{Gossip, PORT};

use crate::Uplink;
use crate::plane::Plane;

/// Whoever was not reached, or began to listen since, hears it again after this.
const AGAIN: Duration = Duration::from_secs(3);
/// A node that does not answer is not waited for longer.
const LIMIT: Duration = Duration::from_secs(2);
/// Handshakes at once.
const AT_ONCE: usize = 32;

/// Runs until it is dropped.
pub(crate) async fn run(uplink: Arc<dyn Uplink>, plane: Plane) {
    let mut said = Gossip::default();
    loop {
        let changes = plane.changes();
        match plane.news() {
            // There is something to say, or to take back.
            Some((gossip, peers)) if !gossip.ended.is_empty() || gossip != said => {
                let tell = |(node, addr)| {
                    let (uplink, gossip) = (uplink.clone(), gossip.clone());
                    async move {
                        let addr = SocketAddr::from((addr, PORT)).to_string();
                        if let Err(e) = uplink.gossip(&addr, node, gossip, LIMIT).await {
                            tracing::debug!(%node, error = %e, "agent: a node was not told which tasks take no more requests");
                        }
                    }
                };
                stream::iter(peers).map(tell).buffer_unordered(AT_ONCE).collect::<()>().await;
                plane.said(&gossip);
                said = gossip;
                let _ = tokio::time::timeout(AGAIN, changes).await;
            }
            Some(_) => changes.await,
            None => {
                said = Gossip::default();
                changes.await;
            }
        }
    }
}
