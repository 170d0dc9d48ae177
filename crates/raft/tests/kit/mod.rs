//! What the tests of a group share: members in one process over channels that can be cut, on real or simulated disks.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use skep_raft::{
    DirStorage, Key, KeyRing, MessageKind, Peer, Raft, RaftConfig, SnapshotFn, StateMachine, Storage, Transport, TransportError,
};
use tokio::time::Instant;

#[derive(Default)]
pub struct Net {
    pub members: Mutex<BTreeMap<u64, Raft>>,
    pub cut: Mutex<BTreeSet<u64>>,
    /// Addresses that were called.
    pub seen: Mutex<BTreeSet<String>>,
    /// Messages that were sent.
    pub messages: AtomicU64,
    /// Every so many messages one is lost (0 = none).
    pub lose: AtomicU64,
    /// Parts of snapshots that were sent.
    pub parts: AtomicU64,
    /// Every so many parts one is lost (0 = none).
    pub lose_part: AtomicU64,
}

pub struct Wire {
    from: u64,
    net: Arc<Net>,
}

impl Wire {
    pub fn new(from: u64, net: &Arc<Net>) -> Self {
        Self { from, net: net.clone() }
    }
}

#[async_trait]
impl Transport for Wire {
    async fn call(&self, target: &Peer, kind: MessageKind, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let lost = |cause: &str| TransportError::Unreachable { addr: target.addr.clone(), cause: cause.into() };
        self.net.seen.lock().unwrap().insert(target.addr.clone());
        let cut = |id: &u64| self.net.cut.lock().unwrap().contains(id);
        if cut(&self.from) || cut(&target.id) {
            return Err(lost("cut"));
        }
        let n = self.net.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let every = self.net.lose.load(Ordering::Relaxed);
        if every > 0 && n.is_multiple_of(every) {
            // Noticed late, as lost packets are.
            tokio::time::sleep(Duration::from_millis(250)).await;
            return Err(lost("lost"));
        }
        if kind == MessageKind::Snapshot {
            let n = self.net.parts.fetch_add(1, Ordering::Relaxed) + 1;
            let every = self.net.lose_part.load(Ordering::Relaxed);
            if every > 0 && n.is_multiple_of(every) {
                return Err(lost("lost"));
            }
        }
        // As long as a quick network takes; and a simulation must not run on while its clock stands still.
        tokio::time::sleep(Duration::from_micros(100)).await;
        let member = self.net.members.lock().unwrap().get(&target.id).cloned().ok_or_else(|| lost("down"))?;
        let answer = member.handle(kind, &bytes).await.map_err(|e| lost(&e.to_string()))?;
        if cut(&self.from) || cut(&target.id) {
            return Err(lost("cut"));
        }
        Ok(answer)
    }
}

/// Remembers every line; its snapshot waits while the gate is shut.
#[derive(Default)]
pub struct Lines {
    pub lines: Mutex<Vec<Vec<u8>>>,
    pub gate: Arc<Gate>,
}

#[derive(Default)]
pub struct Gate {
    pub shut: Mutex<bool>,
    pub opened: std::sync::Condvar,
    pub waiting: std::sync::atomic::AtomicBool,
}

impl Lines {
    pub fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }
}

impl StateMachine for Lines {
    fn apply(&self, _: u64, bytes: &[u8]) -> Vec<u8> {
        let mut l = self.lines.lock().unwrap();
        l.push(bytes.to_vec());
        l.len().to_string().into_bytes()
    }
    fn snapshot(&self) -> SnapshotFn {
        let lines = self.lines.lock().unwrap().clone();
        let gate = self.gate.clone();
        Box::new(move |w| {
            let mut shut = gate.shut.lock().unwrap();
            while *shut {
                gate.waiting.store(true, Ordering::SeqCst);
                shut = gate.opened.wait(shut).unwrap();
            }
            lines.iter().try_for_each(|l| {
                w.write_all(&(l.len() as u32).to_le_bytes())?;
                w.write_all(l)
            })
        })
    }
    fn restore(&self, from: &mut dyn Read) -> Result<(), String> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let mut bytes = &bytes[..];
        let mut out = Vec::new();
        while bytes.len() >= 4 {
            let n = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
            out.push(bytes[4..4 + n].to_vec());
            bytes = &bytes[4 + n..];
        }
        *self.lines.lock().unwrap() = out;
        Ok(())
    }
}

pub fn peer(id: u64) -> Peer {
    Peer { id, node_id: format!("n{id}"), addr: format!("host{id}:2377") }
}

pub fn keys() -> KeyRing {
    KeyRing::new(Key::new([1; 32]))
}

pub fn config(id: u64) -> RaftConfig {
    let mut config = RaftConfig::new(id);
    config.snapshot_every = 50;
    config
}

pub fn dir(root: &Path, id: u64) -> Arc<dyn Storage> {
    Arc::new(DirStorage::new(root.join(id.to_string())))
}

pub async fn start_with(net: &Arc<Net>, storage: Arc<dyn Storage>, config: RaftConfig) -> (Raft, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let id = config.id;
    let wire = Arc::new(Wire { from: id, net: net.clone() });
    let raft = Raft::open(config, storage, keys(), wire, lines.clone()).await.unwrap();
    net.members.lock().unwrap().insert(id, raft.clone());
    (raft, lines)
}

pub async fn start(net: &Arc<Net>, root: &Path, id: u64) -> (Raft, Arc<Lines>) {
    start_with(net, dir(root, id), config(id)).await
}

pub async fn until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !f() {
        assert!(Instant::now() < end, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn write(members: &[&Raft], line: &str) -> u64 {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        for m in members {
            if let Ok((i, _)) = m.propose(line.as_bytes().to_vec()).await {
                return i;
            }
        }
        assert!(Instant::now() < end, "nobody accepts writes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three members; the first leads.
pub async fn three_of(net: &Arc<Net>, storages: Vec<Arc<dyn Storage>>) -> Vec<(Raft, Arc<Lines>)> {
    let mut all = Vec::new();
    for (id, storage) in (1..).zip(storages) {
        all.push(start_with(net, storage, config(id)).await);
    }
    all[0].0.initialize(&peer(1)).await.unwrap();
    until("a first leader", || all[0].0.leadership().borrow().is_leader).await;
    for id in 2..=all.len() as u64 {
        all[0].0.add_learner_then_voter(&peer(id)).await.unwrap();
    }
    all
}

pub async fn three(net: &Arc<Net>, root: &Path) -> Vec<(Raft, Arc<Lines>)> {
    three_of(net, (1..=3).map(|id| dir(root, id)).collect()).await
}

/// Runs on one thread with a simulated clock, everything random following from `seed`.
pub fn simulated<T>(seed: u64, f: impl Future<Output = T>) -> T {
    skep_raft::seed_this_thread(seed);
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(f)
}
