//! What happens in a simulation, and when: decided from the seed before it begins, so that a failing one can be repeated with
//! some of it left out. Every fault ends before the schedule does. Must never depend on what the simulated hosts do.

use crate::rng::Rng;

/// How large a simulation is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Hosts that begin as managers.
    pub managers: usize,
    /// Hosts in all.
    pub hosts: usize,
    /// Seconds in which operators work and things break; then it must converge.
    pub seconds: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { managers: 5, hosts: 50, seconds: 300 }
    }
}

/// What an operator does. Numbers choose among what there is then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new service.
    Create {
        /// Its number, and which of its properties are set.
        number: u64,
        /// Dice for the spec.
        dice: u64,
    },
    /// Another number of replicas.
    Scale(u64, u64),
    /// A new image, rolled out.
    Update(u64, u64),
    /// Back to the spec before.
    RollBack(u64),
    /// Away with it.
    Remove(u64),
    /// A new overlay network.
    CreateNetwork(u64),
    /// Away with it.
    RemoveNetwork(u64),
    /// Drain, pause or activate a node.
    Availability(u64, u64),
    /// Make a worker a manager.
    Promote(u64),
    /// Make a manager a worker.
    Demote(u64),
    /// Make a manager a worker, and a manager again after so many milliseconds.
    Waver(u64, u64),
    /// Forget a node.
    RemoveNode(u64),
    /// Read everything and compare with what was acknowledged.
    Read,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator does something at a manager chosen by the number.
    Operate(u64, Operation),
    /// The daemon of a host is killed.
    Kill(usize),
    /// A host loses its power.
    PowerOff(usize),
    /// A host starts again.
    Start(usize),
    /// Traffic from one host to another is cut or let pass.
    Cut(usize, usize, bool),
    /// A host is cut off from all others, or let in again.
    Isolate(usize, bool),
    /// Messages take this long (from, to, in ms); so many in 1,000 are lost and doubled.
    Weather((u64, u64), u64, u64),
    /// A host's process is paused again and again: its messages take this many ms more.
    Hold(usize, u64),
    /// A host's disk takes this many ms more for each change.
    SlowDisk(usize, u64),
    /// A host's disk is full, or no longer.
    FullDisk(usize, bool),
    /// The next sync of a host's disk fails.
    FailSync(usize),
    /// A host's clock is off by so many ms.
    Skew(usize, i64),
    /// A container on a host ends with this code.
    Exit(usize, u64, i32),
    /// So many in 1,000 preparations of tasks fail on all hosts.
    Failures(u64),
    /// A host burns down. No schedule of a seed has this: the swarm need not come back from it.
    Forget(usize),
    /// On a host, a container with this number for its task runs that no manager knows of.
    Stranger(usize, u64),
    /// A node reports on tasks that are not its own.
    Rogue(usize),
}

/// Events with the milliseconds from the start at which they happen, in order.
pub type Schedule = Vec<(u64, Event)>;

/// The schedule of a seed.
#[must_use]
pub fn generate(seed: u64, size: Size) -> Schedule {
    let mut rng = Rng::new(seed);
    let end = size.seconds * 1000;
    let mut out = Schedule::new();
    operations(&mut rng, end, &mut out);
    // Some simulations are calm in some respect, so that long stretches without faults are seen too.
    let violence = rng.range(0..4);
    let mut at = 5_000;
    while violence > 0 && at < end {
        fault(&mut rng, size, at, end, &mut out);
        at += rng.range(500..30_000 / violence);
    }
    out.sort_by_key(|(at, _)| *at);
    out
}

fn operations(rng: &mut Rng, end: u64, out: &mut Schedule) {
    let mut at = 1_000;
    let mut number = 0;
    let busy = rng.range(500..6_000);
    while at < end {
        let (a, b) = (rng.next(), rng.next());
        let op = match rng.range(0..100) {
            0..=14 => {
                number += 1;
                Operation::Create { number, dice: a }
            }
            15..=34 => Operation::Scale(a, b),
            35..=49 => Operation::Update(a, b),
            50..=52 => Operation::RollBack(a),
            53..=57 => Operation::Remove(a),
            58..=62 => Operation::CreateNetwork(a),
            63..=65 => Operation::RemoveNetwork(a),
            66..=76 => Operation::Availability(a, b),
            77..=80 => Operation::Promote(a),
            81..=83 => Operation::Demote(a),
            // Often within the few milliseconds that it takes to leave the group.
            84 => Operation::Waver(a, if b.is_multiple_of(2) { b % 40 } else { b % 2_000 }),
            85 => Operation::RemoveNode(a),
            _ => Operation::Read,
        };
        out.push((at, Event::Operate(rng.next(), op)));
        at += rng.range(50..busy);
    }
}

/// One fault and its end.
fn fault(rng: &mut Rng, size: Size, at: u64, end: u64, out: &mut Schedule) {
    // Managers are hit more often than their share.
    let host = if rng.chance(600) { rng.below(size.managers) } else { rng.below(size.hosts) };
    let other = if rng.chance(700) { rng.below(size.managers) } else { rng.below(size.hosts) };
    // Some are over before anybody has noticed.
    let longest = if rng.chance(250) { 1_500 } else { 40_000 };
    let until = (at + rng.range(200..longest)).min(end);
    let mut push = |at: u64, e: Event| out.push((at, e));
    match rng.range(0..100) {
        0..=14 => {
            push(at, Event::Kill(host));
            push(until, Event::Start(host));
        }
        15..=24 => {
            push(at, Event::PowerOff(host));
            push(until, Event::Start(host));
        }
        25..=29 => {
            // Everything at once, as after a failure of the power supply.
            for h in 0..size.managers {
                push(at, Event::PowerOff(h));
                push(until + rng.range(0..5_000), Event::Start(h));
            }
        }
        30..=39 => {
            push(at, Event::Cut(host, other, true));
            push(at, Event::Cut(other, host, true));
            push(until, Event::Cut(host, other, false));
            push(until, Event::Cut(other, host, false));
        }
        40..=46 => {
            push(at, Event::Cut(host, other, true));
            push(until, Event::Cut(host, other, false));
        }
        47..=54 => {
            push(at, Event::Isolate(host, true));
            push(until, Event::Isolate(host, false));
        }
        55..=62 => {
            let low = rng.range(0..20);
            push(at, Event::Weather((low, low + rng.range(1..200)), rng.range(0..50), rng.range(0..50)));
            push(until, Event::Weather((0, 1), 0, 0));
        }
        63..=67 => {
            push(at, Event::Hold(host, rng.range(50..600)));
            push(until, Event::Hold(host, 0));
        }
        68..=73 => {
            push(at, Event::SlowDisk(host, rng.range(5..1_500)));
            push(until, Event::SlowDisk(host, 0));
        }
        74..=78 => {
            push(at, Event::FullDisk(host, true));
            push(until, Event::FullDisk(host, false));
        }
        79..=80 => push(at, Event::FailSync(host)),
        81..=84 => {
            // Up to a minute and a half off, both ways. What a leader with a fast clock has dated lasts that much longer, and all
            // must converge within the limit.
            let skew = rng.range(0..180_000).cast_signed() - 90_000;
            push(at, Event::Skew(host, skew));
            push(until, Event::Skew(host, 0));
        }
        85..=94 => push(at, Event::Exit(host, rng.next(), i32::from(rng.chance(700)))),
        95..=97 => {
            push(at, Event::Failures(rng.range(10..300)));
            push(until, Event::Failures(0));
        }
        98 => push(at, Event::Rogue(host)),
        _ => {
            // Its daemon finds it when it starts.
            push(at, Event::Kill(host));
            push(at, Event::Stranger(host, rng.next()));
            push(until, Event::Start(host));
        }
    }
}
