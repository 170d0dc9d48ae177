//! The API's [`skep_api::Cluster`] over this host's part in a swarm.

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use skep_api::ApiResult;
use skep_engine::Engine;
use skep_engine::plugin::Plugins;
use skep_node::{SecretDrivers, SwarmNode};
use skep_types::NodeId;
use skep_types::container::Event;
use skep_types::control::{ControlRequest, ControlResponse, InitRequest, JoinRequest, RestoreRequest, SwarmInfo, SwarmStatus};
use skep_types::file::{DriverAnswer, DriverAsk};
use skep_types::host::LogOptions;
use skep_types::logs::{LogItem, LogTarget};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::AnyError;
use super::config::Config;
use super::executor::EngineExecutor;

/// This host in its swarm, as the API sees it.
pub(crate) struct ClusterApi {
    node: SwarmNode,
    engine: Arc<Engine>,
    advertise: Option<String>,
}

impl ClusterApi {
    /// Takes up the swarm that this host was in.
    pub(crate) async fn open(config: &Config, executor: Arc<EngineExecutor>, engine: Arc<Engine>) -> Result<Self, AnyError> {
        let interfaces = skep_linux::runtime::interface_addresses();
        let secrets: Arc<dyn SecretDrivers> = Arc::new(Vaults(Arc::clone(&engine.plugins)));
        let node = SwarmNode::open_at(&config.data_root.join("swarm"), executor, &interfaces, Some(secrets)).await?;
        tokio::spawn(pass_on(node.events(), Arc::clone(&engine)));
        Ok(Self { node, engine, advertise: config.advertise.clone() })
    }

    /// Ends this host's part; its tasks go on.
    pub(crate) async fn stop(&self) {
        self.node.stop().await;
    }

    /// The bridge that tasks reach the world through exists from the first moment in a swarm, as users see it in Docker.
    async fn ensure_gwbridge(&self) {
        if let Err(e) = self.engine.net.ensure_gwbridge().await {
            tracing::warn!(error = %e, "docker_gwbridge could not be made; it is tried again with the first task");
        }
    }
}

/// Plugins that keep secrets.
struct Vaults(Arc<Plugins>);

#[async_trait]
impl SecretDrivers for Vaults {
    async fn secret(&self, ask: DriverAsk) -> Result<DriverAnswer, String> {
        self.0.secret(&ask).await
    }
}

/// What happens in the swarm is told together with what happens on this host.
async fn pass_on(mut events: broadcast::Receiver<Event>, engine: Arc<Engine>) {
    loop {
        match events.recv().await {
            Ok(event) => engine.events.tell(event),
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events of the swarm came faster than they were told"),
            Err(RecvError::Closed) => return,
        }
    }
}

#[async_trait]
impl skep_api::Cluster for ClusterApi {
    async fn init(&self, request: InitRequest) -> ApiResult<NodeId> {
        let id = self.node.init(request).await?;
        self.ensure_gwbridge().await;
        Ok(id)
    }

    async fn join(&self, request: JoinRequest) -> ApiResult<()> {
        self.node.join(request).await?;
        self.ensure_gwbridge().await;
        Ok(())
    }

    async fn leave(&self, force: bool) -> ApiResult<()> {
        self.node.leave(force).await?;
        if let Err(e) = self.engine.net.clear_swarm().await {
            tracing::warn!(error = %e, "networks of the swarm not wholly removed");
        }
        Ok(())
    }

    async fn unlock(&self, key: &str) -> ApiResult<()> {
        self.node.unlock(key).await
    }

    async fn status(&self) -> ApiResult<SwarmStatus> {
        self.node.status().await
    }

    async fn backup(&self) -> ApiResult<Vec<u8>> {
        self.node.backup().await
    }

    async fn restore(&self, request: RestoreRequest) -> ApiResult<NodeId> {
        let id = self.node.restore(request).await?;
        self.ensure_gwbridge().await;
        Ok(id)
    }

    async fn renew(&self, token: &str, remote: &str) -> ApiResult<()> {
        self.node.renew(token, remote).await
    }

    async fn info(&self) -> SwarmInfo {
        self.node.info()
    }

    async fn call(&self, request: ControlRequest) -> ApiResult<ControlResponse> {
        self.node.call(request).await
    }

    async fn logs(&self, target: &LogTarget, options: LogOptions) -> ApiResult<mpsc::Receiver<LogItem>> {
        self.node.logs(target, options).await
    }

    async fn tunnel(&self, task: &str) -> ApiResult<tokio::io::DuplexStream> {
        self.node.tunnel(task).await
    }

    async fn network_tunnel(&self, node: &str) -> ApiResult<tokio::io::DuplexStream> {
        self.node.network_tunnel(node).await
    }

    fn addresses(&self) -> Vec<(String, Ipv4Addr)> {
        skep_linux::runtime::interface_addresses()
    }

    fn default_advertise(&self) -> Option<String> {
        self.advertise.clone()
    }
}
