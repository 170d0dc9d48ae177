//! Opening a member and starting what runs beside it. Must never leave a task running after the last handle is dropped.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use crate::config::Inner;
use crate::leadership;
use crate::log::{LogStore, Shared};
use crate::machine::Machine;
use crate::monitor::{Health, Monitor};
use crate::network::Factory;
use crate::snapshots::Snapshots;
use crate::storage::blocking;
use crate::{KeyRing, LogError, OpenError, Raft, RaftConfig, StateMachine, Storage, Transport};

/// A log that is just being closed by this process is free within milliseconds; another process keeps it for long.
const LOCK_WAIT: Duration = Duration::from_secs(5);

impl Raft {
    /// Opens the member whose files are in `storage` (made if absent) and starts it. A member without a log waits for
    /// [`Raft::initialize`] or for a leader that adds it. Everything is written under `keys.current`; the older keys are only
    /// needed for what they sealed.
    ///
    /// # Errors
    /// [`OpenError`] if the files are damaged, sealed with a key that is not given, in use, or cannot be written.
    pub async fn open(
        config: RaftConfig,
        storage: Arc<dyn Storage>,
        keys: KeyRing,
        network: Arc<dyn Transport>,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Self, OpenError> {
        let lock = lock(&storage).await?;
        let disk = Arc::new(Shared::new());
        let log = LogStore::open(&storage, &keys, config.segment_bytes, disk.clone(), lock.clone()).await?;
        let snapshots = Snapshots::open(storage.clone(), keys, disk.stopping(), lock).await?;
        let ms = |d: Duration| d.as_millis() as u64;
        let settings = Config {
            cluster_name: "swarm".into(),
            heartbeat_interval: ms(config.heartbeat),
            election_timeout_min: ms(config.election_min),
            election_timeout_max: ms(config.election_max),
            // For one part of a snapshot, or its installation at the end.
            install_snapshot_timeout: 30_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every),
            // Kept for followers that are a little behind, so that they need no snapshot.
            max_in_snapshot_log_to_keep: 500,
            enable_pre_vote: Some(true),
            // A leader sends entries before its own disk has them. One that lost its power may have forgotten some that others
            // keep; leading on in the same term it would give their numbers to other entries.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let settings = settings.validate().map_err(|e| OpenError::Start(e.to_string()))?;
        let machine = Machine::new(machine, snapshots.clone());
        let (removed_tx, removed) = watch::channel(false);
        let directory = Arc::new(Mutex::new(BTreeMap::new()));
        let factory = Factory { transport: network, storage, directory: directory.clone(), removed: Arc::new(removed_tx) };
        let weak = log.weak();
        let raft = Inner::new(config.id, Arc::new(settings), factory, log, machine)
            .await
            .map_err(|e| OpenError::Start(e.to_string()))?;
        let voters: Vec<u64> = raft.metrics().borrow_watched().membership_config.voter_ids().collect();
        if voters == [config.id] {
            // Nobody else can be elected: no need to wait for a time-out.
            raft.trigger().elect(false).await.map_err(|e| OpenError::Start(e.to_string()))?;
        }
        let heard = Arc::new(watch::channel(None).0);
        let first = leadership::of(&raft.metrics().borrow_watched());
        let (tx, leadership) = watch::channel(first);
        tokio::spawn(leadership::follow(raft.clone(), tx, heard.subscribe()));
        let (alive, gone) = watch::channel(());
        let snapshot_every = Arc::new(AtomicU64::new(u64::MAX));
        let (health_tx, health) = watch::channel(Health::Ok);
        let monitor = Monitor {
            raft: raft.clone(),
            log: weak.clone(),
            disk: disk.clone(),
            health: health_tx,
            leadership: leadership.clone(),
            removed: removed.clone(),
            directory,
            config: config.clone(),
            snapshot_every: snapshot_every.clone(),
        };
        tokio::spawn(monitor.run(gone));
        let _alive = Arc::new(alive);
        Ok(Self {
            raft,
            config,
            leadership,
            heard,
            incoming: Arc::default(),
            snapshots,
            log: weak,
            disk,
            health,
            removed,
            snapshot_every,
            _alive,
        })
    }
}

async fn lock(storage: &Arc<dyn Storage>) -> Result<Arc<dyn Send + Sync>, LogError> {
    let fail = |op: &'static str| {
        let path = storage.locate("");
        move |source| LogError::Io { op, path, source }
    };
    let end = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        let s = storage.clone();
        let taken = blocking(storage, move || {
            s.create_dir("")?;
            s.lock()
        })
        .await;
        match taken {
            Ok(guard) => return Ok(Arc::from(guard)),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(fail("lock")(e)),
            Err(_) if tokio::time::Instant::now() >= end => {
                return Err(fail("lock")(io::Error::other("in use by another process")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
