//! The script: the same steps on any swarm, each timed from the call to what a user waits for.

use std::path::Path;
use std::time::{Duration, Instant};

use super::api::{Daemon, form, promote, wait};
use super::contest::Contestant;
use super::memory;
use super::table::Results;

/// Longest that a step may take; a slow machine with 150 tasks is well within.
const STEP: Duration = Duration::from_secs(180);
/// How long after a change daemons get to settle before their memory is read.
const SETTLE: Duration = Duration::from_secs(3);
/// Replicas of the service that loses a host.
const CUT_REPLICAS: u64 = 12;
/// Clients that create services at the same time.
const CLIENTS: usize = 64;

/// What is run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Image whose default command stays up.
    pub(super) image: String,
    /// Only that it works at all.
    pub(super) smoke: bool,
}

/// Runs the script once on fresh hosts.
pub(super) fn round(contestant: &mut dyn Contestant, archive: &Path, plan: &Plan, results: &mut Results) -> Result<(), String> {
    let outcome = steps(contestant, archive, plan, results);
    let removed = contestant.down();
    outcome.and(removed)
}

fn steps(contestant: &mut dyn Contestant, archive: &Path, plan: &Plan, results: &mut Results) -> Result<(), String> {
    let daemons = contestant.up(archive)?;
    let joined = form(&daemons)?;
    let manager = daemons.first().ok_or("a swarm of no hosts")?;
    let name = contestant.name();
    let mut note = |what: &str, unit: &'static str, value: f64| {
        println!("  {name}: {what}: {value:.2} {unit}");
        results.add(&name, what, unit, value);
    };
    let grown = |begin, n: u64| wait(begin, STEP, &format!("{n} tasks to run"), || Ok(manager.running(None)? == n));

    if let Some(seconds) = joined {
        note("a worker joins, until it is ready", "s", seconds);
    }
    if !plan.smoke {
        std::thread::sleep(SETTLE);
        let idle = memory::of_hosts(&contestant.namespaces());
        if idle.daemons > 0.0 {
            note("idle: daemons of 3 hosts, PSS", "MiB", idle.daemons);
        }
    }
    let begin = Instant::now();
    let service = manager.create_service("bench", &plan.image, 6)?;
    note("create a service, 6 replicas run", "s", grown(begin, 6)?);
    if !plan.smoke {
        let begin = Instant::now();
        manager.scale(&service, 60)?;
        note("scale 6 to 60, all run", "s", grown(begin, 60)?);
        std::thread::sleep(SETTLE);
        let full = memory::of_hosts(&contestant.namespaces());
        if full.daemons > 0.0 {
            note("60 tasks: daemons of 3 hosts, PSS", "MiB", full.daemons);
            note("60 tasks: all shims, PSS", "MiB", full.shims);
            note("60 tasks: everything, PSS", "MiB", full.daemons + full.shims);
        }
        let begin = Instant::now();
        manager.scale(&service, 150)?;
        note("scale 60 to 150, all run", "s", grown(begin, 150)?);
    }
    let what = if plan.smoke { "scale 6 to 0, none left" } else { "scale 150 to 0, none left" };
    let begin = Instant::now();
    manager.scale(&service, 0)?;
    note(what, "s", emptied(begin, manager, &daemons)?);
    manager.call("DELETE", &format!("/services/{service}"), None)?;

    if !plan.smoke && contestant.can_cut() {
        let service = manager.create_service("bench-cut", &plan.image, CUT_REPLICAS)?;
        grown(Instant::now(), CUT_REPLICAS)?;
        let lost = daemons.last().ok_or("a swarm of no hosts")?.node_id()?;
        let begin = Instant::now();
        contestant.cut()?;
        let done =
            wait(begin, STEP, "the lost host's tasks to run elsewhere", || Ok(manager.running(Some(&lost))? == CUT_REPLICAS));
        contestant.heal()?;
        note("a host of 3 is cut off, all 12 run elsewhere", "s", done?);
        manager.call("DELETE", &format!("/services/{service}"), None)?;
    }
    promote(&daemons)?;
    let each = if plan.smoke { 1 } else { 30 };
    let what = format!("{} services created by {CLIENTS} clients at three managers", each * CLIENTS);
    note(&what, "s", create_many(&daemons, &plan.image, each)?);
    Ok(())
}

/// Creates services without a task, so many by each client, at all daemons alike.
fn create_many(daemons: &[Daemon], image: &str, each: usize) -> Result<f64, String> {
    let begin = Instant::now();
    std::thread::scope(|s| {
        let client = |c: usize| {
            let daemon = &daemons[c % daemons.len()];
            move || (0..each).try_for_each(|i| daemon.create_service(&format!("many-{c}-{i}"), image, 0).map(drop))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|c| s.spawn(client(c))).collect();
        clients.into_iter().try_for_each(|c| c.join().unwrap_or_else(|_| Err("a client panicked".to_owned())))
    })?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Waits until no task is at work and no host runs a container.
fn emptied(begin: Instant, manager: &Daemon, daemons: &[Daemon]) -> Result<f64, String> {
    wait(begin, STEP, "all tasks to end", || {
        if manager.busy()? > 0 {
            return Ok(false);
        }
        for daemon in daemons {
            if daemon.containers()? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    })
}
