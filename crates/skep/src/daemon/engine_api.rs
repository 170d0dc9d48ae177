//! The API's [`skep_api::Engine`] over the engine and the image store: each call handed on.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use skep_api::{
    ApiResult, Archive, DaemonInfo, Distribution, ImageStep, NewImage, NewNetwork, Stdio, Upload, WaitCondition, Waited,
};
use skep_engine::container::{AttachStream, WaitFor, has_readable_log};
use skep_engine::error::{internal, invalid, not_found};
use skep_engine::net::{LocalNetwork, LocalNetworkSpec};
use skep_engine::volumes::NewVolume;
use skep_engine::{Engine, logs};
use skep_image::Commit;
use skep_types::container::{ContainerInfo, CreateContainer, Event, ExecConfig, ExecInfo, NetworkJoin, PathStat, VolumeInfo};
use skep_types::host::{ImageInfo, LocalNetworkInfo, LogOptions, LogRecord, Progress, RegistryAuth, Removed};
use skep_types::netreport::NetworkReport;
use skep_types::object::Network;
use skep_types::spec::Labels;
use skep_types::usage::{Change, NewLimits, Process, Usage};
use skep_types::{NodeId, Time};
use tokio::sync::{broadcast, mpsc};

use super::config::Config;
use super::images::ImageAdapter;

/// This host, as the API sees it.
pub(crate) struct EngineApi {
    pub(crate) engine: Arc<Engine>,
    pub(crate) images: Arc<ImageAdapter>,
    pub(crate) config: Config,
    pub(crate) id: String,
}

fn stdio(stream: AttachStream) -> Stdio {
    Stdio { input: stream.input, output: stream.output }
}

fn network(n: LocalNetwork) -> LocalNetworkInfo {
    // A configuration is shown as it was given.
    let given = n.spec.config_only;
    LocalNetworkInfo {
        id: n.id,
        name: n.name,
        driver: n.driver,
        created: Time(i64::try_from(n.created).unwrap_or(0)),
        subnet: n.subnet.or(n.spec.subnet.filter(|_| given)),
        gateway: n.gateway.or(n.spec.gateway.filter(|_| given)),
        ip_range: n.spec.ip_range,
        auxiliary: n.spec.auxiliary,
        ipv6: n.v6.is_some() || given && n.spec.ipv6,
        subnet6: n.v6.map(|v6| v6.subnet).or(n.spec.subnet6.filter(|_| given)),
        gateway6: n.v6.map(|v6| v6.gateway).or(n.spec.gateway6.filter(|_| given)),
        internal: n.spec.internal,
        attachable: n.spec.attachable,
        options: n.spec.options,
        labels: n.spec.labels,
        config_only: n.spec.config_only,
        config_from: n.spec.config_from,
    }
}

#[async_trait]
impl skep_api::Engine for EngineApi {
    fn daemon(&self) -> DaemonInfo {
        let facts = self.engine.facts();
        DaemonInfo {
            id: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: facts.hostname,
            kernel: facts.kernel,
            architecture: facts.architecture,
            os: facts.os,
            cpus: facts.cpus,
            memory: facts.memory,
            cgroup_version: facts.cgroup_version,
            root: self.config.data_root.display().to_string(),
            labels: self.config.labels.clone(),
            insecure_registries: self.config.insecure_registries.clone(),
            mirrors: self.config.registry_mirrors.clone(),
            images: self.images.count(),
            network_features: self.engine.net.host().features().named().map(|(n, t)| (n.to_owned(), t)).to_vec(),
            log_driver: self.config.log_driver.clone(),
            volume_drivers: self.engine.plugins.volume_drivers(),
            warnings: Vec::new(),
        }
    }

    fn containers(&self) -> Vec<ContainerInfo> {
        self.engine.list()
    }

    fn container(&self, target: &str) -> ApiResult<ContainerInfo> {
        self.engine.find(target).map(|c| c.info())
    }

    async fn create(&self, request: CreateContainer) -> ApiResult<String> {
        self.engine.create(request).await
    }

    async fn start(&self, target: &str) -> ApiResult<()> {
        self.engine.start(target).await
    }

    async fn stop(&self, target: &str, timeout: Option<i64>, signal: Option<&str>) -> ApiResult<()> {
        self.engine.stop(target, timeout, signal).await
    }

    async fn restart(&self, target: &str, timeout: Option<i64>, signal: Option<&str>) -> ApiResult<()> {
        self.engine.restart(target, timeout, signal).await
    }

    async fn kill(&self, target: &str, signal: Option<&str>) -> ApiResult<()> {
        self.engine.kill(target, signal).await
    }

    async fn remove(&self, target: &str, force: bool, volumes: bool) -> ApiResult<()> {
        self.engine.remove(target, force, volumes).await
    }

    async fn pause(&self, target: &str) -> ApiResult<()> {
        self.engine.pause(target).await
    }

    async fn unpause(&self, target: &str) -> ApiResult<()> {
        self.engine.unpause(target).await
    }

    async fn rename(&self, target: &str, name: &str) -> ApiResult<()> {
        self.engine.rename(target, name).await
    }

    async fn update_limits(&self, target: &str, limits: NewLimits) -> ApiResult<()> {
        self.engine.update_limits(target, limits).await
    }

    async fn usage(&self, target: &str) -> ApiResult<Option<Usage>> {
        self.engine.usage(target).await
    }

    async fn processes(&self, target: &str) -> ApiResult<Vec<Process>> {
        self.engine.processes(target).await
    }

    async fn path_stat(&self, target: &str, path: &str) -> ApiResult<PathStat> {
        self.engine.path_stat(target, path).await
    }

    async fn copy_out(&self, target: &str, path: &str) -> ApiResult<(PathStat, Archive)> {
        self.engine.copy_out(target, path).await
    }

    async fn copy_in(&self, target: &str, path: &str, keep_kinds: bool, to_user: bool, archive: Upload) -> ApiResult<()> {
        self.engine.copy_in(target, path, keep_kinds, to_user, archive).await
    }

    async fn changes(&self, target: &str) -> ApiResult<Vec<Change>> {
        self.engine.changes(target).await
    }

    async fn export(&self, target: &str) -> ApiResult<Archive> {
        self.engine.export(target).await
    }

    async fn commit(&self, new: NewImage) -> ApiResult<String> {
        let info = self.container(&new.container)?;
        let commit = Commit {
            parent: info.image_id.clone(),
            config: info.config.clone(),
            reference: new.reference.clone(),
            changes: new.changes,
            author: new.author,
            comment: new.comment,
        };
        // One that somebody else paused stays so.
        let paused = new.pause && self.engine.pause(&info.id).await.is_ok();
        let made = match self.engine.layer(&info.id).await {
            Ok(layer) => self.images.commit(commit, layer).await,
            Err(e) => Err(e),
        };
        if paused && let Err(e) = self.engine.unpause(&info.id).await {
            tracing::warn!(container = %info.id, error = %e, "a container that was committed does not go on");
        }
        let id = made?;
        self.engine.events.emit("image", "create", &id, [("name".to_owned(), new.reference)]);
        Ok(id)
    }

    async fn written(&self, target: &str) -> ApiResult<u64> {
        self.engine.written(target).await
    }

    fn wait(&self, target: &str, condition: WaitCondition) -> ApiResult<Pin<Box<dyn Future<Output = Waited> + Send>>> {
        let condition = match condition {
            WaitCondition::NotRunning => WaitFor::NotRunning,
            WaitCondition::NextExit => WaitFor::NextExit,
            WaitCondition::Removed => WaitFor::Removed,
        };
        let waiting = self.engine.find(target)?.wait(condition);
        Ok(Box::pin(async move {
            let phase = waiting.await;
            Waited { code: phase.exit_code, error: phase.error }
        }))
    }

    async fn attach(&self, target: &str, stdin: bool, stdout: bool, stderr: bool) -> ApiResult<Stdio> {
        self.engine.find(target)?.attach(stdin, stdout, stderr).await.map(stdio)
    }

    async fn resize(&self, target: &str, height: u16, width: u16) -> ApiResult<()> {
        self.engine.resize(target, height, width).await
    }

    fn logs(&self, target: &str, options: LogOptions) -> ApiResult<mpsc::Receiver<LogRecord>> {
        let container = self.engine.find(target)?;
        let info = container.info();
        if !has_readable_log(&info) {
            return Err(invalid("configured logging driver does not support reading"));
        }
        let path = info.log_path.into();
        Ok(logs::stream(path, options, move || container.is_running()))
    }

    fn exec_create(&self, target: &str, config: ExecConfig) -> ApiResult<String> {
        self.engine.exec_create(target, config)
    }

    fn exec_check(&self, id: &str) -> ApiResult<ExecInfo> {
        self.engine.exec_check(id)
    }

    async fn exec_start(&self, id: &str) -> ApiResult<Stdio> {
        self.engine.exec_start(id).await.map(stdio)
    }

    fn exec(&self, id: &str) -> ApiResult<ExecInfo> {
        self.engine.execs.get(id)
    }

    async fn exec_resize(&self, id: &str, height: u16, width: u16) -> ApiResult<()> {
        self.engine.exec_resize(id, height, width).await
    }

    fn images(&self) -> Vec<ImageInfo> {
        self.images.list()
    }

    fn image(&self, reference: &str) -> ApiResult<ImageInfo> {
        self.images.get(reference)
    }

    async fn remove_image(&self, reference: &str, force: bool) -> ApiResult<Vec<Removed>> {
        let users = self.engine.list().into_iter().map(|c| (c.image_id, c.id, c.pid != 0)).collect();
        let removed = self.images.remove(reference, force, users).await?;
        for one in &removed {
            let (action, id) = match one {
                Removed::Untagged(name) => ("untag", name),
                Removed::Deleted(id) => ("delete", id),
            };
            self.engine.events.emit("image", action, id, [("name".to_owned(), reference.to_owned())]);
        }
        Ok(removed)
    }

    async fn tag(&self, source: &str, target: &str) -> ApiResult<()> {
        let id = self.images.tag(source, target)?;
        self.engine.events.emit("image", "tag", &id, [("name".to_owned(), target.to_owned())]);
        Ok(())
    }

    async fn pull(&self, reference: &str, auth: RegistryAuth) -> ApiResult<mpsc::Receiver<Progress>> {
        self.images.pull(reference, auth, Arc::clone(&self.engine.events)).await
    }

    async fn push(&self, reference: &str, auth: RegistryAuth) -> ApiResult<mpsc::Receiver<Progress>> {
        self.images.push(reference, auth, Arc::clone(&self.engine.events))
    }

    async fn load(&self, archive: Upload) -> ApiResult<mpsc::Receiver<Progress>> {
        self.images.load(archive, Arc::clone(&self.engine.events))
    }

    fn save(&self, names: Vec<String>) -> ApiResult<Archive> {
        self.images.save(names, &self.engine.events)
    }

    fn image_history(&self, reference: &str) -> ApiResult<Vec<ImageStep>> {
        self.images.history(reference)
    }

    async fn login(&self, server: &str, auth: RegistryAuth) -> ApiResult<()> {
        self.images.login(server, auth).await
    }

    async fn import(&self, archive: Upload, reference: &str, changes: Vec<String>, message: &str) -> ApiResult<String> {
        let id = self.images.import(archive, reference, changes, message).await?;
        self.engine.events.emit("image", "import", &id, [("name".to_owned(), reference.to_owned())]);
        Ok(id)
    }

    async fn distribution(&self, reference: &str, auth: RegistryAuth) -> ApiResult<Distribution> {
        self.images.distribution(reference, auth).await
    }

    async fn volumes(&self) -> (Vec<VolumeInfo>, Vec<String>) {
        self.engine.all_volumes().await
    }

    async fn volume(&self, name: &str) -> ApiResult<VolumeInfo> {
        self.engine.volume(name).await
    }

    async fn create_volume(
        &self,
        name: &str,
        driver: &str,
        labels: Labels,
        options: BTreeMap<String, String>,
    ) -> ApiResult<VolumeInfo> {
        let anonymous = name.is_empty();
        let name = if anonymous { super::random_hex::<32>().map_err(|e| internal("draw a name", e))? } else { name.to_owned() };
        self.engine.create_volume(NewVolume { name, driver: driver.to_owned(), labels, anonymous, options }).await
    }

    async fn volume_size(&self, name: &str) -> ApiResult<u64> {
        self.engine.volume_size(name).await
    }

    fn layer_sizes(&self) -> BTreeMap<String, u64> {
        self.images.layer_sizes()
    }

    async fn remove_volume(&self, name: &str, force: bool) -> ApiResult<()> {
        let users = self.engine.volume_users(name);
        self.engine.remove_volume(name, force, &users).await
    }

    async fn networks(&self) -> Vec<LocalNetworkInfo> {
        self.engine.net.networks().await.into_iter().map(network).collect()
    }

    async fn overlays(&self) -> Vec<Network> {
        self.engine.net.overlays().await
    }

    async fn create_network(&self, new: NewNetwork) -> ApiResult<String> {
        let info = new.info;
        let made = self
            .engine
            .net
            .create_network(LocalNetworkSpec {
                name: info.name,
                driver: info.driver,
                subnet: info.subnet,
                gateway: info.gateway,
                ip_range: info.ip_range,
                auxiliary: info.auxiliary,
                ipv6: info.ipv6,
                subnet6: info.subnet6,
                gateway6: info.gateway6,
                internal: info.internal,
                attachable: info.attachable,
                options: info.options,
                labels: info.labels,
                config_only: info.config_only,
                config_from: info.config_from,
            })
            .await?;
        let attributes = [("name".to_owned(), made.name.clone()), ("type".to_owned(), made.driver.clone())];
        self.engine.events.emit("network", "create", &made.id, attributes);
        Ok(made.id)
    }

    async fn remove_network(&self, target: &str) -> ApiResult<()> {
        let network = self.engine.net.network(target).await.map_err(|_| not_found(format!("network {target} not found")))?;
        self.engine.net.remove_network(&network.id).await?;
        let attributes = [("name".to_owned(), network.name), ("type".to_owned(), network.driver)];
        self.engine.events.emit("network", "destroy", &network.id, attributes);
        Ok(())
    }

    async fn network_report(&self, probe: bool, managers: Vec<(NodeId, String)>) -> NetworkReport {
        self.engine.net.report(probe, managers).await
    }

    async fn connect_network(&self, network: &str, container: &str, join: NetworkJoin) -> ApiResult<()> {
        self.engine.connect(network, container, join).await
    }

    async fn disconnect_network(&self, network: &str, container: &str) -> ApiResult<()> {
        self.engine.disconnect(network, container).await
    }

    fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.engine.events.subscribe()
    }
}
