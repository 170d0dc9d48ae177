//! The engine's [`skep_engine::Attachments`] over the agent's, which tells the managers.

use std::sync::Arc;

use async_trait::async_trait;
use skep_agent::Attachments;
use skep_engine::Engine;
use skep_engine::error::Result;
use skep_types::NetworkId;
use skep_types::attach::{Held, Wanted};

/// The agent's list, as the engine sees it.
pub(crate) struct Door(pub(crate) Arc<Attachments>);

#[async_trait]
impl skep_engine::Attachments for Door {
    async fn hold(&self, wanted: Wanted) -> Result<Held> {
        self.0.hold(wanted).await
    }

    fn release(&self, container: &str, network: Option<NetworkId>) {
        self.0.release(container, network);
    }

    fn adopt(&self, held: &[Held]) {
        self.0.adopt(held);
    }
}

/// Takes containers off networks on which the managers hold no place for them any more.
pub(crate) async fn evict(attachments: Arc<Attachments>, engine: Arc<Engine>) {
    loop {
        let (held, why) = attachments.lost().await;
        engine.evict(&held, &why).await;
    }
}
