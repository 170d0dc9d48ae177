//! The Docker Engine HTTP API: routes, JSON, streams and exact texts, over two traits that others implement.
//!
//! Docker's JSON exists here and nowhere below. Fields of a request that have no effect yet are refused by name (501), never
//! ignored; fields that are zero are as good as absent. This crate knows no state, raft or kernel.

#![forbid(unsafe_code)]
// The objects of `inspect` and `info` are long.
#![recursion_limit = "256"]

mod auth;
mod body;
mod cluster;
mod containers;
mod create_json;
mod error;
mod events;
mod exec;
mod fields;
mod files;
mod filters;
#[doc(hidden)]
pub mod fuzz;
mod health_json;
mod hijack;
mod images;
mod inspect_json;
mod listen;
mod netreport;
mod networks;
mod nodes;
mod prune;
mod reach;
mod router;
mod scope;
mod service_logs;
mod services;
mod skep;
mod spec_read;
mod spec_write;
mod swarm;
mod system;
mod tasks;
mod usage;
mod version;
mod volumes;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use skep_types::NodeId;
use skep_types::container::{ContainerInfo, CreateContainer, Event, ExecConfig, ExecInfo, NetworkJoin, PathStat, VolumeInfo};
use skep_types::control::{
    ControlError, ControlRequest, ControlResponse, InitRequest, JoinRequest, RestoreRequest, SwarmInfo, SwarmStatus,
};
use skep_types::host::{ImageInfo, LocalNetworkInfo, LogOptions, LogRecord, Progress, RegistryAuth, Removed};
use skep_types::logs::{LogItem, LogTarget};
use skep_types::netreport::NetworkReport;
use skep_types::object::Network;
use skep_types::spec::Labels;
use skep_types::usage::{Change, NewLimits, Process, Usage};
use tokio::io::AsyncRead;
use tokio::sync::{broadcast, mpsc};

pub use auth::decode as decode_auth;
pub use listen::{ListenError, Listener, serve};
pub use scope::{serve_container, serve_network};
pub use version::{API_VERSION, MIN_API_VERSION};

/// A refusal: class and text.
pub type ApiResult<T> = Result<T, ControlError>;

/// A body that is still arriving.
pub type Upload = Pin<Box<dyn AsyncRead + Send>>;

/// An archive as it comes; the last item is an error if it is not whole.
pub type Archive = mpsc::Receiver<std::io::Result<Vec<u8>>>;

/// An image that is to be made of a container.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// The container.
    pub container: String,
    /// The image's name; may be empty.
    pub reference: String,
    /// Lines of a Dockerfile.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// The container stands still meanwhile.
    pub pause: bool,
}

/// Both directions of an attached process.
#[derive(Debug)]
pub struct Stdio {
    /// To the process: bytes, or `None` when standard input ended.
    pub input: mpsc::Sender<Option<Vec<u8>>>,
    /// From the process: whether it is standard error, and bytes.
    pub output: mpsc::Receiver<(bool, Vec<u8>)>,
}

/// What the daemon is, for `version` and `info`.
#[derive(Debug, Clone, Default)]
pub struct DaemonInfo {
    /// Stable id of the daemon.
    pub id: String,
    /// Version of Skep.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// As uname says it.
    pub architecture: String,
    /// Operating system in words.
    pub os: String,
    /// CPUs.
    pub cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Data root.
    pub root: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Registries that are asked without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors.
    pub mirrors: Vec<String>,
    /// Number of images.
    pub images: usize,
    /// Features of the kernel that networks use, and whether they are there.
    pub network_features: Vec<(String, bool)>,
    /// Log driver of containers that name none.
    pub log_driver: String,
    /// Plugins that are volume drivers.
    pub volume_drivers: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// How a wait ended.
#[derive(Debug, Clone, Default)]
pub struct Waited {
    /// Exit code.
    pub code: i32,
    /// Why it did not start.
    pub error: String,
}

/// Until when to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Does not run.
    NotRunning,
    /// Ends the next time.
    NextExit,
    /// Is removed.
    Removed,
}

/// A network that is to be made on this host.
#[derive(Debug, Clone, Default)]
pub struct NewNetwork {
    /// What the user wants; id and creation time are ignored.
    pub info: LocalNetworkInfo,
}

/// This host's containers, images, volumes and networks.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What the daemon is.
    fn daemon(&self) -> DaemonInfo;
    /// All containers, newest first.
    fn containers(&self) -> Vec<ContainerInfo>;
    /// One container.
    fn container(&self, target: &str) -> ApiResult<ContainerInfo>;
    /// Creates one; its id.
    async fn create(&self, request: CreateContainer) -> ApiResult<String>;
    /// Starts it.
    async fn start(&self, target: &str) -> ApiResult<()>;
    /// Stops it; seconds, signal.
    async fn stop(&self, target: &str, timeout: Option<i64>, signal: Option<&str>) -> ApiResult<()>;
    /// Stops and starts it.
    async fn restart(&self, target: &str, timeout: Option<i64>, signal: Option<&str>) -> ApiResult<()>;
    /// Signals it.
    async fn kill(&self, target: &str, signal: Option<&str>) -> ApiResult<()>;
    /// Removes it.
    async fn remove(&self, target: &str, force: bool, volumes: bool) -> ApiResult<()>;
    /// Stops its processes in their tracks.
    async fn pause(&self, target: &str) -> ApiResult<()>;
    /// Lets them go on.
    async fn unpause(&self, target: &str) -> ApiResult<()>;
    /// Gives it another name.
    async fn rename(&self, target: &str, name: &str) -> ApiResult<()>;
    /// Gives it other limits.
    async fn update_limits(&self, target: &str, limits: NewLimits) -> ApiResult<()>;
    /// What it uses; `None` when it does not run.
    async fn usage(&self, target: &str) -> ApiResult<Option<Usage>>;
    /// Its processes.
    async fn processes(&self, target: &str) -> ApiResult<Vec<Process>>;
    /// What is at a path of it.
    async fn path_stat(&self, target: &str, path: &str) -> ApiResult<PathStat>;
    /// What is at a path of it, as an archive.
    async fn copy_out(&self, target: &str, path: &str) -> ApiResult<(PathStat, Archive)>;
    /// Unpacks an archive into a directory of it; whether kinds are kept, and whether all of it becomes its user's.
    async fn copy_in(&self, target: &str, path: &str, keep_kinds: bool, to_user: bool, archive: Upload) -> ApiResult<()>;
    /// How it differs from its image.
    async fn changes(&self, target: &str) -> ApiResult<Vec<Change>>;
    /// Its filesystem as an archive.
    async fn export(&self, target: &str) -> ApiResult<Archive>;
    /// Makes an image of it; the image's id.
    async fn commit(&self, commit: NewImage) -> ApiResult<String>;
    /// Bytes that its own files take.
    async fn written(&self, target: &str) -> ApiResult<u64>;
    /// Begins to wait now; the answer comes later.
    fn wait(&self, target: &str, condition: WaitCondition) -> ApiResult<Pin<Box<dyn Future<Output = Waited> + Send>>>;
    /// Attaches to its streams.
    async fn attach(&self, target: &str, stdin: bool, stdout: bool, stderr: bool) -> ApiResult<Stdio>;
    /// Sets the size of its terminal.
    async fn resize(&self, target: &str, height: u16, width: u16) -> ApiResult<()>;
    /// Reads its log.
    fn logs(&self, target: &str, options: LogOptions) -> ApiResult<mpsc::Receiver<LogRecord>>;

    /// Prepares an exec; its id.
    fn exec_create(&self, target: &str, config: ExecConfig) -> ApiResult<String>;
    /// Whether it may be started.
    fn exec_check(&self, id: &str) -> ApiResult<ExecInfo>;
    /// Runs it.
    async fn exec_start(&self, id: &str) -> ApiResult<Stdio>;
    /// As it stands.
    fn exec(&self, id: &str) -> ApiResult<ExecInfo>;
    /// Sets the size of its terminal.
    async fn exec_resize(&self, id: &str, height: u16, width: u16) -> ApiResult<()>;

    /// All images.
    fn images(&self) -> Vec<ImageInfo>;
    /// One image.
    fn image(&self, reference: &str) -> ApiResult<ImageInfo>;
    /// Takes a name or an image away.
    async fn remove_image(&self, reference: &str, force: bool) -> ApiResult<Vec<Removed>>;
    /// Gives an image another name.
    async fn tag(&self, source: &str, target: &str) -> ApiResult<()>;
    /// Fetches an image.
    async fn pull(&self, reference: &str, auth: RegistryAuth) -> ApiResult<mpsc::Receiver<Progress>>;
    /// Sends an image.
    async fn push(&self, reference: &str, auth: RegistryAuth) -> ApiResult<mpsc::Receiver<Progress>>;
    /// Reads images from an archive.
    async fn load(&self, archive: Upload) -> ApiResult<mpsc::Receiver<Progress>>;
    /// Images as one archive; each name must be there before anything is written.
    fn save(&self, names: Vec<String>) -> ApiResult<Archive>;
    /// The steps of an image's build, the last one first.
    fn image_history(&self, reference: &str) -> ApiResult<Vec<ImageStep>>;
    /// Asks a registry, as credentials name it, whether it takes these.
    async fn login(&self, server: &str, auth: RegistryAuth) -> ApiResult<()>;
    /// Makes an image of a root filesystem; its id.
    async fn import(&self, archive: Upload, reference: &str, changes: Vec<String>, message: &str) -> ApiResult<String>;
    /// Digest of a reference at its registry, with its platforms as (os, architecture).
    async fn distribution(&self, reference: &str, auth: RegistryAuth) -> ApiResult<Distribution>;

    /// All volumes, and warnings of drivers that could not be asked.
    async fn volumes(&self) -> (Vec<VolumeInfo>, Vec<String>);
    /// One volume.
    async fn volume(&self, name: &str) -> ApiResult<VolumeInfo>;
    /// Makes one; an empty name lets the engine choose.
    async fn create_volume(
        &self,
        name: &str,
        driver: &str,
        labels: Labels,
        options: BTreeMap<String, String>,
    ) -> ApiResult<VolumeInfo>;
    /// Bytes that a volume's files take.
    async fn volume_size(&self, name: &str) -> ApiResult<u64>;
    /// Bytes of each layer on this host, by its digest.
    fn layer_sizes(&self) -> BTreeMap<String, u64>;
    /// Removes one.
    async fn remove_volume(&self, name: &str, force: bool) -> ApiResult<()>;

    /// Networks of this host.
    async fn networks(&self) -> Vec<LocalNetworkInfo>;
    /// Networks of the swarm that this host has now.
    async fn overlays(&self) -> Vec<Network>;
    /// Makes one; its id.
    async fn create_network(&self, network: NewNetwork) -> ApiResult<String>;
    /// Removes one.
    async fn remove_network(&self, target: &str) -> ApiResult<()>;
    /// What the kernel has of this host's networks beside what it should have; with `probe` also whether other nodes and these
    /// managers can be reached, and what all of it means.
    async fn network_report(&self, probe: bool, managers: Vec<(NodeId, String)>) -> NetworkReport;
    /// Connects a container to one, or to one of the swarm.
    async fn connect_network(&self, network: &str, container: &str, join: NetworkJoin) -> ApiResult<()>;
    /// Disconnects a container from one.
    async fn disconnect_network(&self, network: &str, container: &str) -> ApiResult<()>;

    /// What happened, and what comes after.
    fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>);
}

/// A step of an image's build.
#[derive(Debug, Clone, Default)]
pub struct ImageStep {
    /// When it was taken.
    pub created: skep_types::Time,
    /// What was done.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Bytes of the layer that it made; 0 if it made none.
    pub size: u64,
}

/// What a registry says of a reference.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// Media type of the manifest.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// (os, architecture).
    pub platforms: Vec<(String, String)>,
}

/// The swarm, as this host takes part in it.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Forms a swarm.
    async fn init(&self, request: InitRequest) -> ApiResult<NodeId>;
    /// Joins one.
    async fn join(&self, request: JoinRequest) -> ApiResult<()>;
    /// Leaves it.
    async fn leave(&self, force: bool) -> ApiResult<()>;
    /// Unlocks a manager that came up locked.
    async fn unlock(&self, key: &str) -> ApiResult<()>;
    /// How the managers are doing.
    async fn status(&self) -> ApiResult<SwarmStatus>;
    /// A backup of the swarm.
    async fn backup(&self) -> ApiResult<Vec<u8>>;
    /// Founds a swarm of one from a backup; this node's id.
    async fn restore(&self, request: RestoreRequest) -> ApiResult<NodeId>;
    /// A new certificate for this host, whose own has expired.
    async fn renew(&self, token: &str, remote: &str) -> ApiResult<()>;
    /// Where this host stands.
    async fn info(&self) -> SwarmInfo;
    /// A call on the cluster, answered by its leader.
    async fn call(&self, request: ControlRequest) -> ApiResult<ControlResponse>;
    /// Logs of tasks, from whichever nodes have them; a followed one goes on until the receiver is dropped.
    async fn logs(&self, target: &LogTarget, options: LogOptions) -> ApiResult<mpsc::Receiver<LogItem>>;
    /// A way to the container of a task, wherever it runs: the Engine API of this one container is spoken on it.
    async fn tunnel(&self, task: &str) -> ApiResult<tokio::io::DuplexStream>;
    /// A way to a node's network, to be looked at: `/skep/v1/network/…` is spoken on it.
    async fn network_tunnel(&self, node: &str) -> ApiResult<tokio::io::DuplexStream>;
    /// Addresses of this host that could be advertised: (interface, address).
    fn addresses(&self) -> Vec<(String, std::net::Ipv4Addr)>;
    /// The address to advertise when the user names none (`--swarm-default-advertise-addr`).
    fn default_advertise(&self) -> Option<String>;
}

/// What the routes share.
#[derive(Clone)]
pub struct App {
    /// This host.
    pub engine: Arc<dyn Engine>,
    /// The swarm.
    pub cluster: Arc<dyn Cluster>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}
