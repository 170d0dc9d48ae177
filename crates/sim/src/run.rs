//! One simulation from beginning to end. Must never let anything into it but its seed and its schedule.

use std::sync::Arc;
use std::time::Duration;

use skep_types::spec::Role;
use tokio::time::Instant;

use crate::check::{Checker, Violation, converged, look};
use crate::host::Host;
use crate::net::Net;
use crate::rng::Rng;
use crate::schedule::{Event, Schedule, Size};
use crate::world::World;
use crate::{operator, schedule};

/// Once nothing is broken any more, everything must be as it should be within this time (invariant 3).
const CONVERGE: Duration = Duration::from_secs(240);
/// Violations are looked for this often between two events.
const LOOK: Duration = Duration::from_millis(500);

/// Errors of a simulated disk that is full, sick or without power; anything else at a start is damage.
const DISK_ERRORS: [&str; 3] = ["Input/output error", "storage is full", "lost its power"];

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Seconds that passed in it.
    pub seconds: u64,
    /// Transactions that were applied and checked.
    pub transactions: u64,
    /// A digest of all of them, equal in two runs that went the same way.
    pub trace: u64,
    /// The first invariant that was broken.
    pub violation: Option<Violation>,
}

/// Simulates the schedule of a seed.
#[must_use]
pub fn simulate(seed: u64, size: Size) -> Report {
    run(seed, size, &schedule::generate(seed, size))
}

/// Simulates a schedule; the seed decides everything else.
///
/// # Panics
/// If no runtime can be made.
#[must_use]
pub fn run(seed: u64, size: Size, events: &Schedule) -> Report {
    skep_raft::seed_this_thread(seed ^ 0x5eed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Tokio wakes waiters of one value in a random order; without this flag only the faults are repeated, not every step.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    #[allow(clippy::expect_used)] // Without a runtime there is nothing to simulate on.
    let runtime = builder.build().expect("runtime");
    runtime.block_on(simulation(seed, size, events))
}

async fn simulation(seed: u64, size: Size, events: &Schedule) -> Report {
    let mut rng = Rng::new(seed ^ 0xd1ce);
    let start = Instant::now();
    let check = Arc::new(Checker::new(start));
    let hosts: Vec<Host> = (0..size.hosts).map(|i| Host::new(i, start, &mut rng)).collect();
    let world = Arc::new(World { net: Net::new(rng.fork(), size.hosts), hosts, check: check.clone() });
    if let Err(e) = form(&world, size).await {
        check.broken(3, format!("the swarm could not be formed: {e}"));
    }
    let begin = Instant::now();
    for (at, event) in events {
        let at = begin + Duration::from_millis(*at);
        while Instant::now() < at && check.violation().is_none() {
            tokio::time::sleep_until((Instant::now() + LOOK).min(at)).await;
            check.check(3, look(&world));
        }
        if check.violation().is_some() {
            break;
        }
        happen(&world, event);
    }
    if check.violation().is_none() {
        settle(&world).await;
    }
    // Hosts and world hold each other: what is left must not outlive the simulation.
    world.hosts.iter().for_each(|h| h.kill(true));
    let (transactions, trace) = check.summary();
    Report { seconds: start.elapsed().as_secs(), transactions, trace, violation: check.violation() }
}

async fn form(world: &Arc<World>, size: Size) -> Result<(), String> {
    let end = Instant::now() + CONVERGE;
    world.hosts[0].found(world).await?;
    for i in 1..size.hosts {
        let role = if i < size.managers { Role::Manager } else { Role::Worker };
        // A change of members may be under way.
        while let Err(e) = world.hosts[i].join(world, 0, role).await {
            if Instant::now() > end {
                return Err(e.message);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    loop {
        let joined = world.leader().is_some_and(|l| {
            let s = l.store();
            s.nodes().filter(|n| n.state == skep_types::object::NodeState::Ready).count() == size.hosts
                && s.nodes().filter(|n| n.manager.is_some()).count() == size.managers
        });
        if joined {
            return Ok(());
        }
        if Instant::now() > end {
            return Err("not all hosts are ready".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn happen(world: &Arc<World>, event: &Event) {
    tracing::debug!(?event, "sim");
    world.check.lately.note(event, world.hosts.len());
    let host = |i: usize| &world.hosts[i];
    match event.clone() {
        Event::Operate(which, op) => {
            if let Some((_, m)) = world.some_manager(which) {
                tokio::spawn(operator::operate(world.clone(), m, op));
            }
        }
        Event::Kill(i) => kill(world, i, false),
        Event::PowerOff(i) => kill(world, i, true),
        Event::Start(i) => start(world, i),
        Event::Cut(a, b, cut) => world.net.cut(a, b, cut),
        Event::Isolate(i, cut) => {
            if cut && host(i).manager().is_some_and(|m| m.is_leading()) {
                tokio::spawn(operator::try_both_sides(world.clone(), i));
            }
            for other in (0..world.hosts.len()).filter(|o| *o != i) {
                world.net.cut(i, other, cut);
                world.net.cut(other, i, cut);
            }
        }
        Event::Weather(delay, loss, double) => world.net.weather(delay, loss, double),
        Event::Hold(i, ms) => world.net.hold(i, ms),
        Event::SlowDisk(i, ms) => host(i).disk().slow(Duration::from_millis(ms)),
        Event::FullDisk(i, full) => host(i).disk().full(full),
        Event::FailSync(i) => host(i).disk().fail_syncs(1),
        Event::Skew(i, ms) => host(i).clock.set_skew(ms),
        Event::Exit(i, which, code) => host(i).executor.exit_one(which, code),
        Event::Failures(per_mille) => world.hosts.iter().for_each(|h| h.executor.set_failures(per_mille)),
        Event::Forget(i) => {
            kill(world, i, true);
            host(i).forget();
        }
        Event::Stranger(i, number) => {
            if host(i).node().is_some() && !host(i).is_removed() {
                host(i).executor.add_stranger(skep_types::TaskId(u128::from(number)));
            }
        }
        Event::Rogue(i) => {
            if let (Some(node), Some((_, m))) = (host(i).node(), world.some_manager(0)) {
                tokio::spawn(operator::lie(world.clone(), m, node));
            }
        }
    }
}

fn kill(world: &Arc<World>, i: usize, power: bool) {
    world.check.restarted(i);
    world.hosts[i].kill(power);
}

fn start(world: &Arc<World>, i: usize) {
    let world = world.clone();
    tokio::spawn(async move {
        // A daemon that a sick disk stops is started again, as by its unit.
        while let Err(e) = world.hosts[i].start(&world).await {
            if e.contains("killed") {
                return;
            }
            if !DISK_ERRORS.iter().any(|d| e.contains(d)) {
                world.check.broken(11, format!("host {i} cannot start again: {e}"));
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// Everything is repaired; now everything must become as it should be.
async fn settle(world: &Arc<World>) {
    world.net.calm();
    for (i, h) in world.hosts.iter().enumerate() {
        h.disk().full(false);
        h.disk().slow(Duration::ZERO);
        h.clock.set_skew(0);
        h.executor.set_failures(0);
        if !h.is_up() {
            start(world, i);
        }
    }
    let end = Instant::now() + CONVERGE;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if world.check.violation().is_some() {
            return;
        }
        match converged(world) {
            Ok(()) => break,
            Err(why) if Instant::now() > end => {
                world.check.broken(3, format!("not converged within {} s: {why}", CONVERGE.as_secs()));
                return;
            }
            Err(_) => {}
        }
    }
    if let Some(l) = world.leader() {
        let store = l.store();
        let expected = world.check.history.expected();
        world.check.check(2, expected.seen(store.services().map(|s| &**s), &expected));
        world.check.whole(&store);
    }
}
