//! The benchmark of the managers' engine: three processes on loopback, mutual TLS, sealed logs with fdatasync. Writes a second,
//! and how long no write succeeds when the leader dies or hands over.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::child::Member;
use crate::files::{self, MEMBERS};
use crate::numbers::times;

/// How long the group may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: [u64; 4] = [1, 16, 64, 256];

struct Group<'a> {
    dir: &'a Path,
    members: Vec<Member>,
}

impl<'a> Group<'a> {
    fn start(dir: &'a Path) -> Result<Self, String> {
        let members = (1..=MEMBERS).map(|id| Member::start(dir, id)).collect::<Result<Vec<_>, _>>()?;
        let mut group = Self { dir, members };
        group.members[0].ask("found")?;
        group.leader()?;
        for id in 2..=MEMBERS {
            group.members[0].ask(&format!("add {id}"))?;
        }
        Ok(group)
    }

    /// Waits until somebody leads.
    fn leader(&mut self) -> Result<usize, String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for (i, m) in self.members.iter_mut().enumerate() {
                if m.status()?.0 {
                    return Ok(i);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("nobody leads".into())
    }

    /// Waits until all have applied the same.
    fn settle(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.members.iter_mut().map(|m| m.status().map(|s| s.1)).collect::<Result<Vec<_>, _>>()?;
            if all.windows(2).all(|w| w[0] == w[1]) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!("members do not catch up: {all:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets all but `leader` try to write, does `event`, and returns how long it took from then to the first write.
    fn gap(
        &mut self,
        leader: usize,
        event: impl FnOnce(Member) -> Result<(Instant, Option<Member>), String>,
    ) -> Result<u64, String> {
        let old = self.members.remove(leader);
        for m in &mut self.members {
            m.tell("until-written")?;
        }
        // Their loops run by now, and heartbeats stand at no particular point.
        std::thread::sleep(Duration::from_millis(300 + old.id * 37));
        let (begin, kept) = event(old)?;
        let end = Instant::now() + PATIENCE;
        let first = 'found: loop {
            for m in &mut self.members {
                if let Some(s) = m.next(Duration::from_millis(1))? {
                    break 'found s;
                }
            }
            if Instant::now() >= end {
                return Err("no write succeeds".into());
            }
        };
        let took = first.at.saturating_duration_since(begin).as_millis() as u64;
        for m in &mut self.members {
            m.tell("stop")?;
        }
        // The other one says that it stopped, or that it wrote too.
        self.members.iter_mut().try_for_each(|m| m.next(Duration::from_millis(300)).map(drop))?;
        self.members.extend(kept);
        self.members.sort_by_key(|m| m.id);
        Ok(took)
    }

    fn kill(&mut self) -> Result<u64, String> {
        let leader = self.leader()?;
        let id = self.members[leader].id;
        let took = self.gap(leader, |m| Ok((m.kill(), None)))?;
        self.members.push(Member::start(self.dir, id)?);
        self.members.sort_by_key(|m| m.id);
        self.settle()?;
        Ok(took)
    }

    fn hand_over(&mut self) -> Result<u64, String> {
        let leader = self.leader()?;
        let took = self.gap(leader, |mut m| {
            let begin = Instant::now();
            match m.ask("hand-over")?.as_str() {
                "handed true" => Ok((begin, Some(m))),
                other => Err(format!("hand over: {other}")),
            }
        })?;
        self.settle()?;
        Ok(took)
    }
}

fn parse(options: &[&str]) -> Result<(u64, u64), String> {
    let (mut seconds, mut kills) = (10, 50);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let value: u64 = value.parse().map_err(|e| format!("{word} {value}: {e}"))?;
        match *word {
            "--seconds" => seconds = value,
            "--kills" => kills = value,
            other => return Err(format!("unknown word {other}")),
        }
    }
    Ok((seconds, kills))
}

/// Runs all of it in `dir` and prints tables.
pub(crate) fn run(dir: &Path, options: &[&str]) -> Result<(), String> {
    let (seconds, kills) = parse(options)?;
    files::make(dir)?;
    let mut group = Group::start(dir)?;
    println!("| Clients | Writes of 1 KiB a second | p50 | p99 |\n|---|---|---|---|");
    for clients in CLIENTS {
        let leader = group.leader()?;
        let text = group.members[leader].ask(&format!("load {clients} {seconds}"))?;
        let n: Vec<u64> = text.split(' ').skip(1).filter_map(|w| w.parse().ok()).collect();
        let [count, p50, p99] = n[..] else { return Err(format!("a member said: {text}")) };
        let ms = |micros: u64| micros as f64 / 1000.0;
        println!("| {clients} | {} | {:.2} ms | {:.2} ms |", count / seconds.max(1), ms(p50), ms(p99));
        group.settle()?;
    }
    println!("\n| Without a write | n | p50 | p99 | least–most |\n|---|---|---|---|---|");
    let gaps = (0..kills).map(|_| group.kill()).collect::<Result<Vec<_>, _>>()?;
    println!("{}", times("leader killed with -9", gaps));
    let gaps = (0..kills).map(|_| group.hand_over()).collect::<Result<Vec<_>, _>>()?;
    println!("{}", times("planned hand-over", gaps));
    Ok(())
}
