//! Containers that are no tasks on overlay networks of the swarm: what the engine asks of this host's part in it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use skep_types::NetworkId;
use skep_types::attach::{Held, Wanted};
use skep_types::container::NetworkJoin;

use crate::Engine;
use crate::container::{Container, Record};
use crate::error::{Code, EngineError, Result};
use crate::net::NetworkRequest;

/// What a container holds on an overlay network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// What the network was called when the container asked.
    pub asked: String,
    /// What the managers gave.
    pub held: Held,
}

/// As long as Docker waits (`swarm-semantics` 8.2).
const WAIT: Duration = Duration::from_secs(20);

/// Who gives addresses on overlay networks: the managers, through the agent.
#[async_trait]
pub trait Attachments: Send + Sync {
    /// Gets an address for a container; what it has already it gets at once. Who drops the future wants it no more.
    ///
    /// # Errors
    /// What the managers say; 404 on a host that is in no swarm.
    async fn hold(&self, wanted: Wanted) -> Result<Held>;

    /// Gives up what a container has on one network, or on all. The managers learn of it when they can be reached.
    fn release(&self, container: &str, network: Option<NetworkId>);

    /// Takes up what containers had before a restart.
    fn adopt(&self, held: &[Held]);
}

impl Engine {
    /// Where a container is to be on a network: as it is said for a local one and for a task, by the managers for another container
    /// on an overlay network.
    pub(crate) async fn place(&self, container: &Container, record: &Record, join: &NetworkJoin) -> Result<NetworkRequest> {
        let request = crate::container::request_of(join);
        if join.assigned || self.net.is_local(&request.network).await {
            return Ok(request);
        }
        match self.hold(container, record, join).await {
            Ok(held) => Ok(NetworkRequest {
                network: held.network.to_string(),
                address: Some(held.addr.addr),
                aliases: request.aliases,
                address6: request.address6,
            }),
            // A few digits of a local network's id, perhaps.
            Err(e) if e.code == Code::NotFound => match self.net.network(&request.network).await {
                Ok(_) => Ok(request),
                Err(_) => Err(e),
            },
            Err(e) => Err(e),
        }
    }

    /// Gets a container an address on an overlay network, and notes that it has one.
    pub(crate) async fn hold(&self, container: &Container, record: &Record, join: &NetworkJoin) -> Result<Held> {
        let short = container.id[..12].to_owned();
        let mut names = vec![record.info.name.clone(), short];
        names.extend([record.info.config.hostname.clone()].into_iter().filter(|h| !h.is_empty()));
        names.extend(join.aliases.iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|n| seen.insert(n.clone()));
        // What it holds already it has by its id, whoever can be asked: it is being restarted.
        let kept = record.places.iter().find(|p| p.asked == join.network).map(|p| p.held.network.to_string());
        let network = kept.unwrap_or_else(|| join.network.clone());
        let wanted = Wanted { container: container.id.clone(), network, addr: join.address, names, addr6: join.address6 };
        let held = match tokio::time::timeout(WAIT, self.attachments.hold(wanted)).await {
            Ok(held) => held?,
            Err(_) => {
                let text = "attaching to network failed, make sure your network options are correct and check manager logs";
                return Err(EngineError::new(Code::Internal, format!("{text}: no manager answered within 20 s")));
            }
        };
        container.update(false, |r| {
            r.places.retain(|p| p.held.network != held.network);
            r.places.push(Place { asked: join.network.clone(), held: held.clone() });
        })?;
        Ok(held)
    }

    /// Gives up every address that a container holds on overlay networks.
    pub(crate) fn let_go(&self, container: &Container) {
        self.attachments.release(&container.id, None);
        if container.record().places.is_empty() {
            return;
        }
        if let Err(e) = container.update(false, |r| r.places.clear()) {
            // The next start of the daemon would take it up again, and find that the container has ended.
            tracing::warn!(container = %container.id, error = %e, "what a container held on overlay networks could not be forgotten");
        }
    }

    /// Takes a container off an overlay network on which it has no place any more.
    pub async fn evict(self: &Arc<Self>, held: &Held, why: &EngineError) {
        let network = held.network.to_string();
        tracing::warn!(container = %held.container, %network, error = %why, "a container is taken off an overlay network");
        let Ok(container) = self.find(&held.container) else { return };
        let _guard = container.ops.lock().await;
        if let Err(e) = self.leave_overlay(&container, &network, false).await {
            tracing::warn!(container = %held.container, %network, error = %e, "it is still on the network");
        }
    }

    /// Takes the containers that are no tasks off the networks of a swarm which this host has left.
    pub async fn evict_all(self: &Arc<Self>) {
        let why = EngineError::new(Code::NotFound, "this host has left the swarm");
        for info in self.list() {
            let Ok(container) = self.find(&info.id) else { continue };
            for Place { held, .. } in container.record().places {
                self.attachments.release(&held.container, Some(held.network));
                self.evict(&held, &why).await;
            }
        }
    }
}
