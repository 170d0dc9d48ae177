//! Three real managers under faults, while clients read and write services at all of them: what they were answered must be
//! explained by one register a service (`skep_testkit::linear`). Must never take a call for answered that was not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skep_testkit::linear::{Call, Operation, check};

use crate::bed::{Bed, LONG};
use crate::disks::Disks;
use crate::{that, wait};

const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];
/// Clients at once, and the services that they share: few enough to meet each other.
const CLIENTS: u64 = 4;
const REGISTERS: usize = 2;
/// Calls on one service before another takes its place: the search for an explanation grows with what is left open.
const CALLS: u64 = 120;
/// Pause of a client between two calls.
const PAUSE: Duration = Duration::from_millis(10);
/// Writes a second that a slow disk takes: each of a log's takes most of a second then.
const SLOW: u32 = 2;

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Faults, by name.
    pub faults: Vec<String>,
    /// Services that were written to.
    pub services: usize,
    /// Reads with an answer.
    pub reads: u64,
    /// Writes that were acknowledged, refused for their version, and without a clear answer.
    pub writes: (u64, u64, u64),
}

/// One service, as a register: its label is the value. Its version says that nothing was written since it was read.
#[derive(Debug, Clone)]
struct Register {
    key: u64,
    id: String,
    calls: u64,
}

/// What a client did. Each value is written by one call only.
#[derive(Debug, Clone, Copy)]
enum Told {
    Read(u64),
    /// Wrote the second in place of the first; whether that is sure.
    Wrote(u64, u64, bool),
}

/// What was told of one register, as the checker wants it: a value's number of writes follows from what it was written over. A
/// write without an answer whose value nobody read need not have happened, and nothing needs it: whoever wrote over it had read it.
/// Left in, many of them would make the search long.
fn operations(history: &[(Operation, Told)]) -> Vec<Operation> {
    let written = history.iter().filter_map(|(_, t)| match t {
        Told::Wrote(old, new, _) => Some((*new, *old)),
        Told::Read(_) => None,
    });
    let parents: BTreeMap<u64, u64> = written.collect();
    let writes = |value: u64| std::iter::successors(Some(value), |v| parents.get(v).copied()).count() as u64 - 1;
    let call = |told: &Told| match *told {
        Told::Read(value) => Call::Read((value, writes(value))),
        Told::Wrote(old, value, sure) => Call::Swap { version: writes(old), value, done: sure.then_some(true) },
    };
    let value = |told: &Told| if let Told::Read(value) = told { Some(*value) } else { None };
    let read: BTreeSet<u64> = history.iter().filter_map(|(_, told)| value(told)).collect();
    let matters = |told: &Told| !matches!(told, Told::Wrote(_, new, false) if !read.contains(new));
    history.iter().filter(|(_, told)| matters(told)).map(|(o, told)| Operation { call: call(told), ..*o }).collect()
}

struct World<'a> {
    bed: &'a Bed,
    disks: Disks<'a>,
    begin: Instant,
    /// SplitMix64's state: choices differ between runs as their timing does.
    dice: AtomicU64,
    next: AtomicU64,
    over: AtomicBool,
    registers: Mutex<Vec<Register>>,
    history: Mutex<Vec<(Operation, Told)>>,
    refused: AtomicU64,
    broken: Mutex<Option<String>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one step.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World<'_> {
    fn roll(&self, below: u64) -> u64 {
        let mut z = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn host(&self) -> &'static str {
        // Below three, so it fits.
        HOSTS[self.roll(HOSTS.len() as u64) as usize]
    }

    fn now(&self) -> u64 {
        // A run does not last half a million years.
        self.begin.elapsed().as_micros() as u64
    }

    fn fail(&self, what: String) {
        lock(&self.broken).get_or_insert(what);
        self.over.store(true, Ordering::SeqCst);
    }

    /// Makes a new service to write to. One whose creation was not acknowledged is never looked at.
    fn create(&self) -> Option<Register> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let made = self.bed.api(self.host(), "POST", "/services/create", Some(&spec(key, 0))).ok()?;
        let id = made["ID"].as_str()?.to_owned();
        // Acknowledged: from now on each read must find it.
        loop {
            match self.read(&id) {
                Ok(Some(_)) => return Some(Register { key, id, calls: 0 }),
                Ok(None) => {
                    self.fail(format!("service {id} was acknowledged and is not there"));
                    return None;
                }
                Err(_) if self.over.load(Ordering::SeqCst) => return None,
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Value and version of a service; `None` if it does not exist.
    fn read(&self, id: &str) -> Result<Option<(u64, u64)>, String> {
        match self.bed.api(self.host(), "GET", &format!("/services/{id}"), None) {
            Ok(s) => {
                let value = s["Spec"]["Labels"]["value"].as_str().and_then(|v| v.parse().ok());
                let version = s["Version"]["Index"].as_u64();
                value.zip(version).map(Some).ok_or_else(|| format!("not a service: {s}"))
            }
            Err(e) if e.contains("not found") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A register to use now, once more.
    fn take(&self, which: u64) -> Register {
        let mut all = lock(&self.registers);
        let i = which as usize % all.len();
        all[i].calls += 1;
        all[i].clone()
    }

    fn client(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let r = self.take(self.roll(REGISTERS as u64));
            if r.calls == CALLS {
                // Whoever makes the last call finds the successor.
                if let Some(next) = self.create()
                    && let Some(old) = lock(&self.registers).iter_mut().find(|o| o.key == r.key)
                {
                    *old = next;
                }
                continue;
            }
            self.call(&r);
            std::thread::sleep(PAUSE);
        }
    }

    fn note(&self, r: &Register, begin: u64, end: u64, told: Told) {
        // The checker's own form of the call is made at the end.
        let operation = Operation { key: r.key, begin, end, call: Call::Read((0, 0)) };
        lock(&self.history).push((operation, told));
    }

    fn call(&self, r: &Register) {
        let begin = self.now();
        let (old, version) = match self.read(&r.id) {
            Ok(Some(found)) => found,
            Ok(None) => return self.fail(format!("service {} was acknowledged and is not there", r.id)),
            Err(_) => return,
        };
        self.note(r, begin, self.now(), Told::Read(old));
        if self.roll(2) == 0 {
            return;
        }
        let new = self.next.fetch_add(1, Ordering::Relaxed);
        let begin = self.now();
        let path = format!("/services/{}/update?version={version}", r.id);
        match self.bed.api(self.host(), "POST", &path, Some(&spec(r.key, new))) {
            Ok(_) => self.note(r, begin, self.now(), Told::Wrote(old, new, true)),
            Err(e) if e.contains("update out of sequence") => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            Err(_) => self.note(r, begin, u64::MAX, Told::Wrote(old, new, false)),
        }
    }

    /// One fault and its end.
    fn fault(&self) -> String {
        let (host, b) = (self.host(), self.bed);
        let hold = || std::thread::sleep(Duration::from_millis(200 + self.roll(2500)));
        match self.roll(8) {
            0 => {
                b.kill_daemon(host);
                hold();
                b.start_daemon(host);
                format!("kill -9 of {host}'s daemon")
            }
            1 => {
                b.power_off(host);
                hold();
                self.disks.insert(host).unwrap_or_else(|e| panic!("{e}"));
                b.power_on(host);
                format!("power-off of {host}")
            }
            2 => {
                b.cut(host);
                hold();
                b.heal(host);
                format!("{host} cut off")
            }
            3 => {
                let other = HOSTS.iter().find(|h| **h != host).unwrap_or(&HOSTS[0]);
                b.cut_pair(host, other);
                hold();
                b.heal_pair(host, other);
                format!("{host} cut from {other}")
            }
            4 => {
                b.pause_daemon(host, true);
                hold();
                b.pause_daemon(host, false);
                format!("{host}'s daemon stopped for a while")
            }
            5 => {
                HOSTS.iter().for_each(|h| b.kill_daemon(h));
                HOSTS.iter().for_each(|h| b.start_daemon(h));
                "kill -9 of all daemons".to_owned()
            }
            6 => {
                let slow = |writes| self.disks.slow(host, writes).unwrap_or_else(|e| panic!("{e}"));
                slow(Some(SLOW));
                hold();
                hold();
                slow(None);
                format!("{host}'s disk slow")
            }
            _ => {
                b.stop_daemon(host);
                b.start_daemon(host);
                format!("restart of {host}'s daemon")
            }
        }
    }
}

/// Calls on one register around the first that cannot be explained, in the order in which they were begun.
fn around(history: &[Operation], bad: &[Operation]) -> String {
    const BEFORE: usize = 40;
    const AFTER: usize = 40;
    let Some(last) = bad.iter().filter(|o| o.end < u64::MAX).max_by_key(|o| o.end) else { return String::new() };
    let mut all: Vec<&Operation> = history.iter().filter(|o| o.key == last.key).collect();
    all.sort_by_key(|o| o.begin);
    let at = all.iter().position(|o| o.begin >= last.begin).unwrap_or_default();
    let some = all.iter().skip(at.saturating_sub(BEFORE)).take(BEFORE + AFTER);
    let line = |o: &&&Operation| {
        let mark = if o.begin == last.begin { "  <- not explained" } else { "" };
        format!("\n  {} to {} µs: {:?}{mark}", o.begin, o.end, o.call)
    };
    some.map(|o| line(&o)).collect()
}

fn spec(key: u64, value: u64) -> Value {
    json!({
        "Name": format!("register{key}"),
        "Labels": { "value": value.to_string() },
        "TaskTemplate": { "ContainerSpec": { "Image": "skep/none" } },
        "Mode": { "Replicated": { "Replicas": 0 } },
    })
}

/// Ends the clients also when something panics, so that nobody waits for them for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets clients work and things break for so long, on hosts of a test's place.
///
/// # Errors
/// What the clients were told that no single register can have told, or nothing was written at all.
///
/// # Panics
/// If the hosts cannot be made, or do not recover.
pub fn run(place: u8, lasts: Duration, seed: u64) -> Result<Report, String> {
    let bed = Bed::bare(place, 3, &[]);
    let disks = Disks::insert_everywhere(&bed)?;
    bed.form(3);
    let world = World {
        bed: &bed,
        disks,
        begin: Instant::now(),
        dice: AtomicU64::new(seed),
        next: AtomicU64::new(1),
        over: AtomicBool::new(false),
        registers: Mutex::default(),
        history: Mutex::default(),
        refused: AtomicU64::new(0),
        broken: Mutex::default(),
    };
    let first: Vec<Register> = (0..REGISTERS).filter_map(|_| world.create()).collect();
    if first.len() < REGISTERS {
        return Err("no service could be made to begin with".into());
    }
    *lock(&world.registers) = first;
    let mut report = Report::default();
    std::thread::scope(|s| {
        for _ in 0..CLIENTS {
            s.spawn(|| world.client());
        }
        let _over = Over(&world.over);
        while world.begin.elapsed() < lasts && !world.over.load(Ordering::SeqCst) {
            report.faults.push(world.fault());
            // Some faults come while the last one is still being got over.
            std::thread::sleep(Duration::from_millis(world.roll(4000)));
        }
    });
    wait("all managers to be ready again", LONG * 2, || {
        let ls = bed.docker("manager", &["node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}"]);
        let well = |l: &&str| matches!(*l, "Ready Leader" | "Ready Reachable");
        that(ls.out.lines().filter(well).count() == HOSTS.len(), format!("{}{}", ls.out, ls.err))
    });
    // What is there now is the last word.
    let last = lock(&world.registers).clone();
    for r in &last {
        for _ in 0..HOSTS.len() {
            world.call(r);
        }
    }
    if let Some(what) = lock(&world.broken).take() {
        return Err(format!("{what}, after {:?}", report.faults));
    }
    let told = lock(&world.history).clone();
    let count = |f: fn(&Told) -> bool| told.iter().filter(|(_, t)| f(t)).count() as u64;
    report.reads = count(|t| matches!(t, Told::Read(_)));
    report.writes.0 = count(|t| matches!(t, Told::Wrote(_, _, true)));
    report.writes.1 = world.refused.load(Ordering::Relaxed);
    report.writes.2 = count(|t| matches!(t, Told::Wrote(_, _, false)));
    let history = operations(&told);
    report.services = history.iter().map(|o| o.key).collect::<BTreeSet<_>>().len();
    check(&history).map_err(|bad| format!("not linearizable: {}, after {:?}", around(&history, &bad), report.faults))?;
    if report.writes.0 == 0 {
        return Err(format!("nothing was written: {report:?}"));
    }
    Ok(report)
}
