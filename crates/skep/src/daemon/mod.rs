//! `skep daemon`: reads the configuration, opens the parts, serves the API, ends on SIGTERM with its containers running.

mod attachments;
mod cluster_api;
mod config;
mod engine_api;
mod executor;
mod images;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use skep_api::{App, Listener};
use skep_engine::net::NetConfig;
use skep_engine::plugin::PluginDirs;
use skep_engine::{Engine, EngineConfig};
use skep_linux::net::LinuxNet;
use skep_linux::runtime::LinuxRuntime;
use tokio::signal::unix::{SignalKind, signal};

use config::{Config, ConfigError};

/// How often free memory goes back to the kernel; it costs about a millisecond.
const TRIM_PERIOD: std::time::Duration = std::time::Duration::from_secs(30);

type AnyError = Box<dyn Error + Send + Sync>;

/// Runs the daemon until it is told to end.
pub(crate) fn main(args: &[String], as_dockerd: bool) -> ExitCode {
    let config = match Config::read(args) {
        Ok(Ok(config)) => config,
        Ok(Err(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(ConfigError(text)) => {
            eprintln!("{}", text.trim_end());
            return ExitCode::FAILURE;
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{},openraft=error", config.log_level)).unwrap_or_default();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    if as_dockerd {
        tracing::info!("called as dockerd: running as skep daemon");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    skep_linux::memory::keep_until_trimmed();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(config));
    // Work on blocking threads (a log that is followed) must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{}", chain(&*e));
            ExitCode::FAILURE
        }
    }
}

/// Two at least, so that one busy task never stops heartbeats; more than eight bring nothing.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8)
}

/// An error with its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

/// Random bytes as hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// A daemon that was killed has its files open until its last thread is gone.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// One daemon per data root: the lock lives as long as the file is open.
fn lock(data_root: &Path) -> Result<File, AnyError> {
    std::fs::create_dir_all(data_root).map_err(|e| format!("make {}: {e}", data_root.display()))?;
    // Layers hold set-user-id programs: nobody else may reach them by path (CVE-2021-41091).
    std::fs::set_permissions(data_root, std::os::unix::fs::PermissionsExt::from_mode(0o710))
        .map_err(|e| format!("set the mode of {}: {e}", data_root.display()))?;
    let path = data_root.join("skep.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    let until = std::time::Instant::now() + LOCK_WAIT;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if std::time::Instant::now() > until {
            let path = data_root.display();
            return Err(format!("{path} is used by another skep daemon: stop it, or give this one its own --data-root").into());
        }
        // Nothing else runs yet.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(file)
}

/// The daemon's id, drawn once.
fn daemon_id(data_root: &Path) -> Result<String, AnyError> {
    let path = data_root.join("engine-id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        _ => {
            let id = random_hex::<16>()?;
            std::fs::write(&path, &id)?;
            Ok(id)
        }
    }
}

/// Number of a group; `docker` may be missing, one that the user named may not.
fn group(name: Option<&str>) -> Result<Option<u32>, AnyError> {
    let wanted = name.unwrap_or("docker");
    let file = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let found = file.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() > 2 && f[0] == wanted);
    match (found.and_then(|f| f[2].parse().ok()), name) {
        (Some(id), _) => Ok(Some(id)),
        (None, Some(name)) => Err(format!("--group {name}: no such group in /etc/group").into()),
        (None, None) => Ok(None),
    }
}

async fn run(config: Config) -> Result<(), AnyError> {
    if !rustix::process::geteuid().is_root() {
        return Err("the daemon needs root: run it with sudo or as a system service".into());
    }
    // Keys and secrets are in this memory: no core dump of it, and no other user's debugger (invariant 9).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // Installed first, so that a signal during the start ends it cleanly.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let _lock = lock(&config.data_root)?;
    std::fs::create_dir_all(&config.exec_root).map_err(|e| format!("make {}: {e}", config.exec_root.display()))?;
    if let Some(path) = &config.pidfile {
        std::fs::write(path, std::process::id().to_string()).map_err(|e| format!("write {}: {e}", path.display()))?;
    }
    let id = daemon_id(&config.data_root)?;
    let group = group(config.group.as_deref())?;
    // The sockets come early: a second daemon on the same one must fail before it touches anything.
    let listeners = config.hosts.iter().map(|path| Listener::bind(path, group)).collect::<Result<Vec<_>, _>>()?;
    let images = Arc::new(images::ImageAdapter::open(&config)?);
    let engine_config = EngineConfig {
        data_root: config.data_root.clone(),
        exec_root: config.exec_root.clone(),
        cgroup_parent: config.cgroup_parent.clone(),
        log_driver: config.log_driver.clone(),
        log_opts: config.log_opts.clone(),
        plugins: PluginDirs::default(),
    };
    let mut net_config = NetConfig::new(config.data_root.clone());
    net_config.mtu = config.mtu;
    net_config.icc = config.icc;
    net_config.ipv6 = config.ipv6;
    net_config.fixed_cidr6 = config.fixed_cidr6;
    let net_host = LinuxNet::open(config.exec_root.join("netns"))?;
    let host = Arc::new(LinuxRuntime::new(&config.exec_root)?);
    let attachments = Arc::new(skep_agent::Attachments::default());
    let door = Arc::new(attachments::Door(Arc::clone(&attachments)));
    let engine = Engine::open(engine_config, host, Arc::clone(&images) as _, Arc::new(net_host), net_config, door).await?;
    tokio::spawn(attachments::evict(Arc::clone(&attachments), Arc::clone(&engine)));
    let labels: BTreeMap<String, String> =
        config.labels.iter().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let executor = Arc::new(executor::EngineExecutor::new(
        Arc::clone(&engine),
        Arc::clone(&images),
        labels,
        config.generic.clone(),
        attachments,
    ));
    let cluster = Arc::new(cluster_api::ClusterApi::open(&config, Arc::clone(&executor), Arc::clone(&engine)).await?);
    let app = App {
        engine: Arc::new(engine_api::EngineApi { engine, images, config: config.clone(), id }),
        cluster: Arc::clone(&cluster) as _,
    };
    executor.serves(app.clone());
    for listener in listeners {
        tokio::spawn(skep_api::serve(listener, app.clone()));
    }
    tracing::info!(sockets = ?config.hosts, version = env!("CARGO_PKG_VERSION"), "API listens");
    tokio::spawn(async {
        // Images pass through large buffers; what is free afterwards belongs to the host.
        let mut tick = tokio::time::interval(TRIM_PERIOD);
        loop {
            tick.tick().await;
            skep_linux::memory::trim();
        }
    });
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: the daemon ends, its containers go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: the daemon ends, its containers go on"),
            _ = hangup.recv() => {
                // Units made for dockerd send it when they are reloaded.
                tracing::warn!("SIGHUP: daemon.json is read at the start only: restart the daemon, its containers go on");
                continue;
            }
        }
        break;
    }
    cluster.stop().await;
    for path in config.hosts.iter().chain(&config.pidfile) {
        // Already gone is as good.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}
