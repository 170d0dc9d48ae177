//! A simulated disk: files in memory that forget what was not synced. For tests and the simulator. Must never touch a real file.
//!
//! Contents and names are each a durable part and a list of changes that a sync makes durable. A crash keeps a random beginning
//! of each list and tears the change after it. Everything random follows from the seed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Storage, StorageFile};

/// Time that an operation takes, in microseconds: writes and names, then syncs.
const WRITE_MICROS: std::ops::Range<u64> = 5..60;
const SYNC_MICROS: std::ops::Range<u64> = 100..3000;

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Default)]
struct File {
    /// As a reader sees it.
    data: Vec<u8>,
    /// As it is after a crash, at least.
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Naming {
    Put(String, u64),
    Remove(String),
    Rename(String, String),
}

struct State {
    rng: StdRng,
    incarnation: u64,
    files: BTreeMap<u64, File>,
    next: u64,
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<Naming>,
    locked: bool,
    full: bool,
    slow: Duration,
    failing_syncs: u32,
    crash_in: Option<u64>,
    operations: u64,
    /// Time to pass at the next pause.
    owed: Duration,
}

fn apply(data: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            let (at, end) = (*at as usize, *at as usize + bytes.len());
            if data.len() < end {
                data.resize(end, 0);
            }
            data[at..end].copy_from_slice(bytes);
        }
        Change::Truncate(size) => data.truncate(*size as usize),
    }
}

fn name(names: &mut BTreeMap<String, u64>, change: &Naming) {
    match change {
        Naming::Put(n, file) => drop(names.insert(n.clone(), *file)),
        Naming::Remove(n) => drop(names.remove(n)),
        Naming::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated host lost its power")
}

impl State {
    fn crash(&mut self) {
        self.incarnation += 1;
        self.crash_in = None;
        self.locked = false;
        self.owed = Duration::ZERO;
        let survive = self.rng.random_range(0..=self.pending.len());
        for change in self.pending.drain(..).take(survive) {
            name(&mut self.durable, &change);
        }
        self.names = self.durable.clone();
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        for f in self.files.values_mut() {
            let survive = self.rng.random_range(0..=f.pending.len());
            for (i, change) in f.pending.drain(..).enumerate() {
                if i < survive {
                    apply(&mut f.durable, &change);
                } else if let Change::Write(at, mut bytes) = change {
                    bytes.truncate(self.rng.random_range(0..=bytes.len()));
                    apply(&mut f.durable, &Change::Write(at, bytes));
                    break;
                } else {
                    break;
                }
            }
            f.data = f.durable.clone();
        }
    }

    /// Counts an operation that changes something; the power may go with it.
    fn step(&mut self, sync: bool) -> io::Result<()> {
        self.operations += 1;
        let range = if sync { SYNC_MICROS } else { WRITE_MICROS };
        let micros = self.rng.random_range(range);
        self.owed += Duration::from_micros(micros) + self.slow;
        if let Some(n) = &mut self.crash_in {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.crash();
                return Err(dead());
            }
        }
        Ok(())
    }

    fn naming(&mut self, change: Naming) -> io::Result<()> {
        name(&mut self.names, &change);
        self.pending.push(change);
        self.step(false)
    }

    fn file(&mut self, id: u64) -> io::Result<&mut File> {
        self.files.get_mut(&id).ok_or_else(dead)
    }
}

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimDisk {
    /// An empty disk whose randomness follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            incarnation: 0,
            files: BTreeMap::new(),
            next: 0,
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            locked: false,
            full: false,
            slow: Duration::ZERO,
            failing_syncs: 0,
            crash_in: None,
            operations: 0,
            owed: Duration::ZERO,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as a running member sees it. After the next crash this handle only fails; mount again for the next life.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Storage> {
        let incarnation = self.state().incarnation;
        Arc::new(Mounted { disk: self.clone(), incarnation })
    }

    /// The power goes: of what was not synced a random part is lost, and every mounted handle is dead.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// The power goes with the `operations`-th change from now (1 = the next), in the middle of it.
    pub fn crash_after(&self, operations: u64) {
        self.state().crash_in = Some(operations.max(1));
    }

    /// How many changes were made so far, for choosing where to crash.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// While full, whatever needs more room fails with `StorageFull`, after a part of it was written.
    pub fn full(&self, full: bool) {
        self.state().full = full;
    }

    /// Every change takes this much longer.
    pub fn slow(&self, by: Duration) {
        self.state().slow = by;
    }

    /// The next `times` syncs of files fail. What they should have made durable is, each piece, either durable or zeros, and no later
    /// sync repairs it.
    pub fn fail_syncs(&self, times: u32) {
        self.state().failing_syncs = times;
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// The contents of a file, if there is one of this name.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let s = self.state();
        s.names.get(name).and_then(|id| s.files.get(id)).map(|f| f.data.clone())
    }

    /// Flips the bits of `mask` in the byte at `offset`, durably. No effect if there is no such byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut s = self.state();
        if let Some(id) = s.names.get(name).copied()
            && let Some(f) = s.files.get_mut(&id)
        {
            for part in [&mut f.data, &mut f.durable] {
                if let Some(b) = part.get_mut(offset) {
                    *b ^= mask;
                }
            }
        }
    }
}

#[derive(Debug)]
struct Mounted {
    disk: SimDisk,
    incarnation: u64,
}

impl Mounted {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let s = self.disk.state();
        if s.incarnation == self.incarnation { Ok(s) } else { Err(dead()) }
    }

    fn handle(&self, file: u64) -> Box<dyn StorageFile> {
        Box::new(Opened { mounted: Mounted { disk: self.disk.clone(), incarnation: self.incarnation }, file })
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

struct Locked(SimDisk, u64);

impl Drop for Locked {
    fn drop(&mut self) {
        let mut s = self.0.state();
        if s.incarnation == self.1 {
            s.locked = false;
        }
    }
}

#[async_trait]
impl Storage for Mounted {
    fn locate(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }

    fn create_dir(&self, _dir: &str) -> io::Result<()> {
        self.alive().map(drop)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let s = self.alive()?;
        let below = s.names.keys().filter_map(|n| n.strip_prefix(&prefix));
        Ok(below.filter(|n| !n.contains('/')).map(str::to_owned).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut s = self.alive()?;
        if s.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = s.next;
        s.next += 1;
        s.files.insert(id, File::default());
        s.naming(Naming::Put(name.to_owned(), id))?;
        Ok(self.handle(id))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let id = *self.alive()?.names.get(name).ok_or_else(not_found)?;
        Ok(self.handle(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut s = self.alive()?;
        if !s.names.contains_key(from) {
            return Err(not_found());
        }
        s.naming(Naming::Rename(from.to_owned(), to.to_owned()))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut s = self.alive()?;
        let id = *s.names.get(from).ok_or_else(not_found)?;
        s.naming(Naming::Put(to.to_owned(), id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut s = self.alive()?;
        if !s.names.contains_key(name) {
            return Err(not_found());
        }
        s.naming(Naming::Remove(name.to_owned()))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut s = self.alive()?;
        s.step(true)?;
        let inside = |n: &str| n.rsplit_once('/').map_or("", |(d, _)| d) == dir;
        // Renames stay within a directory here, so each change belongs to one.
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut s.pending).into_iter().partition(|c| match c {
            Naming::Put(n, _) | Naming::Remove(n) | Naming::Rename(n, _) => inside(n),
        });
        s.pending = later;
        now.iter().for_each(|c| name(&mut s.durable, c));
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut s = self.alive()?;
        if s.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        s.locked = true;
        Ok(Box::new(Locked(self.disk.clone(), self.incarnation)))
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn is_dead(&self) -> bool {
        self.alive().is_err()
    }

    async fn pause(&self) {
        let owed = self.alive().map(|mut s| std::mem::take(&mut s.owed)).unwrap_or_default();
        if !owed.is_zero() {
            tokio::time::sleep(owed).await;
        }
    }
}

#[derive(Debug)]
struct Opened {
    mounted: Mounted,
    file: u64,
}

impl StorageFile for Opened {
    fn size(&self) -> io::Result<u64> {
        Ok(self.mounted.alive()?.file(self.file)?.data.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut s = self.mounted.alive()?;
        let data = s.file(self.file)?.data.get(offset as usize..).unwrap_or_default();
        let n = out.len().min(data.len());
        out[..n].copy_from_slice(&data[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut s = self.mounted.alive()?;
        let grows = offset + bytes.len() as u64 > s.file(self.file)?.data.len() as u64;
        let refused = s.full && grows;
        let len = if refused { s.rng.random_range(0..=bytes.len()) } else { bytes.len() };
        let change = Change::Write(offset, bytes[..len].to_vec());
        let f = s.file(self.file)?;
        apply(&mut f.data, &change);
        f.pending.push(change);
        s.step(false)?;
        if refused { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut s = self.mounted.alive()?;
        let f = s.file(self.file)?;
        f.data.truncate(size as usize);
        f.pending.push(Change::Truncate(size));
        s.step(false)
    }

    fn sync(&self) -> io::Result<()> {
        let mut s = self.mounted.alive()?;
        s.step(true)?;
        let fails = s.failing_syncs > 0;
        s.failing_syncs = s.failing_syncs.saturating_sub(1);
        let pending = std::mem::take(&mut s.file(self.file)?.pending);
        for mut change in pending {
            if let Change::Write(_, bytes) = &mut change
                && fails
                && s.rng.random_bool(0.5)
            {
                bytes.fill(0);
            }
            apply(&mut s.file(self.file)?.durable, &change);
        }
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}
