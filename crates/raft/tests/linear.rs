//! Registers with versions on a group of three, under crashes, cuts, sick disks and hand-overs, on simulated disks and one
//! thread: whatever clients were told must be explainable as one register at a time.
#![allow(clippy::unwrap_used)]

mod kit;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Net, Wire, keys, peer, simulated};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skep_raft::sim_disk::SimDisk;
use skep_raft::{ProposeError, Raft, RaftConfig, SnapshotFn, StateMachine};
use skep_testkit::linear::{self, Call, Held, Operation};
use tokio::time::{Instant, sleep};

const KEYS: u64 = 3;

#[derive(Default)]
struct Registers(Mutex<BTreeMap<u64, Held>>);

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap())
}

impl Registers {
    fn get(&self, key: u64) -> Held {
        self.0.lock().unwrap().get(&key).copied().unwrap_or_default()
    }
}

impl StateMachine for Registers {
    fn apply(&self, _: u64, bytes: &[u8]) -> Vec<u8> {
        let (key, version, value) = (number(bytes, 0), number(bytes, 1), number(bytes, 2));
        let mut all = self.0.lock().unwrap();
        let held = all.entry(key).or_default();
        let fits = held.1 == version;
        if fits {
            *held = (value, version + 1);
        }
        vec![u8::from(fits)]
    }
    fn snapshot(&self) -> SnapshotFn {
        let all = self.0.lock().unwrap().clone();
        Box::new(move |w| all.iter().flat_map(|(k, h)| [*k, h.0, h.1]).try_for_each(|n| w.write_all(&n.to_le_bytes())))
    }
    fn restore(&self, from: &mut dyn Read) -> Result<(), String> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let all = bytes.chunks(24).map(|c| (number(c, 0), (number(c, 1), number(c, 2)))).collect();
        *self.0.lock().unwrap() = all;
        Ok(())
    }
}

struct World {
    net: Arc<Net>,
    disks: Vec<SimDisk>,
    running: Mutex<BTreeMap<u64, (Raft, Arc<Registers>)>>,
    history: Mutex<Vec<Operation>>,
    /// One more at each begin and end: a clock on which no two things happen at once.
    clock: Mutex<u64>,
}

impl World {
    fn tick(&self) -> u64 {
        let mut c = self.clock.lock().unwrap();
        *c += 1;
        *c
    }

    async fn start(&self, id: u64) {
        let mut config = RaftConfig::new(id);
        config.snapshot_every = 40;
        config.propose_timeout = Duration::from_secs(2);
        let registers = Arc::new(Registers::default());
        let wire = Arc::new(Wire::new(id, &self.net));
        let disk = self.disks[id as usize - 1].mount();
        let raft = loop {
            match Raft::open(config.clone(), disk.clone(), keys(), wire.clone(), registers.clone()).await {
                Ok(r) => break r,
                // A sync that fails at the start is told to whoever starts it, who tries again.
                Err(e) => assert!(e.to_string().contains("Input/output error"), "{e}"),
            }
        };
        self.net.members.lock().unwrap().insert(id, raft.clone());
        self.running.lock().unwrap().insert(id, (raft, registers));
    }

    fn member(&self, id: u64) -> Option<(Raft, Arc<Registers>)> {
        self.running.lock().unwrap().get(&id).cloned()
    }

    fn record(&self, key: u64, begin: u64, answered: bool, call: Call) {
        let end = if answered { self.tick() } else { u64::MAX };
        self.history.lock().unwrap().push(Operation { key, begin, end, call });
    }

    async fn client(self: Arc<Self>, seed: u64, until: Instant) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut known: BTreeMap<u64, u64> = BTreeMap::new();
        let mut value = seed * 1_000_000;
        while Instant::now() < until {
            sleep(Duration::from_millis(rng.random_range(1..40))).await;
            let (key, id) = (rng.random_range(0..KEYS), rng.random_range(1..=3));
            let Some((raft, registers)) = self.member(id) else { continue };
            let begin = self.tick();
            if rng.random_bool(0.5) {
                if raft.read_barrier().await.is_ok() {
                    let held = registers.get(key);
                    known.insert(key, held.1);
                    self.record(key, begin, true, Call::Read(held));
                }
                continue;
            }
            let version = known.get(&key).copied().unwrap_or(0);
            value += 1;
            let bytes = [key, version, value].iter().flat_map(|n| n.to_le_bytes()).collect();
            match raft.propose(bytes).await {
                Ok((_, answer)) => {
                    let done = Some(answer == [1]);
                    self.record(key, begin, true, Call::Swap { version, value, done });
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Stalled(_)) => {}
                Err(_) => self.record(key, begin, false, Call::Swap { version, value, done: None }),
            }
        }
    }

    async fn trouble(self: Arc<Self>, seed: u64, until: Instant) {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xbad);
        while Instant::now() < until {
            sleep(Duration::from_millis(rng.random_range(300..2500))).await;
            let id = rng.random_range(1..=3_u64);
            let disk = self.disks[id as usize - 1].clone();
            match rng.random_range(0..6) {
                0 => drop(self.net.cut.lock().unwrap().insert(id)),
                1 => self.net.cut.lock().unwrap().clear(),
                2 => {
                    disk.crash();
                    self.net.members.lock().unwrap().remove(&id);
                    let old = self.running.lock().unwrap().remove(&id);
                    if let Some((raft, _)) = old {
                        raft.shutdown().await;
                    }
                    sleep(Duration::from_millis(rng.random_range(10..1500))).await;
                    self.start(id).await;
                }
                3 => {
                    disk.full(true);
                    sleep(Duration::from_millis(rng.random_range(100..3000))).await;
                    disk.full(false);
                }
                4 => {
                    disk.slow(Duration::from_millis(rng.random_range(10..2000)));
                    sleep(Duration::from_millis(rng.random_range(100..3000))).await;
                    disk.slow(Duration::ZERO);
                    disk.fail_syncs(1);
                }
                _ => {
                    if let Some((raft, _)) = self.member(id) {
                        raft.hand_over(Duration::from_secs(1)).await;
                    }
                }
            }
        }
        self.net.cut.lock().unwrap().clear();
    }
}

async fn run(seed: u64) -> Vec<Operation> {
    let world = Arc::new(World {
        net: Arc::new(Net::default()),
        disks: (0..3).map(|i| SimDisk::new(seed * 10 + i)).collect(),
        running: Mutex::default(),
        history: Mutex::default(),
        clock: Mutex::default(),
    });
    for id in 1..=3 {
        world.start(id).await;
    }
    let (first, _) = world.member(1).unwrap();
    first.initialize(&peer(1)).await.unwrap();
    first.leadership().wait_for(|l| l.is_leader).await.unwrap();
    for id in 2..=3 {
        first.add_learner_then_voter(&peer(id)).await.unwrap();
    }
    drop(first);
    let until = Instant::now() + Duration::from_secs(40);
    let mut tasks = vec![tokio::spawn(world.clone().trouble(seed, until))];
    tasks.extend((1..=4).map(|c| tokio::spawn(world.clone().client(seed * 100 + c, until))));
    for t in tasks {
        t.await.unwrap();
    }
    world.history.lock().unwrap().clone()
}

#[test]
fn what_clients_were_told_is_one_register_at_a_time() {
    let (mut swaps, mut unknown) = (0, 0);
    for seed in 1..=12 {
        let history = simulated(seed, run(seed));
        if let Err(bad) = linear::check(&history) {
            panic!("seed {seed}: this cannot be explained: {bad:#?}");
        }
        swaps += history.iter().filter(|o| matches!(o.call, Call::Swap { done: Some(true), .. })).count();
        unknown += history.iter().filter(|o| o.end == u64::MAX).count();
    }
    assert!(swaps > 500 && unknown > 5, "enough happened: {swaps} writes, {unknown} without an answer");
}
