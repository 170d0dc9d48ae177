//! A few small simulations with every kind of fault; `cargo xtask sim` runs the long ones.

use skep_sim::{Size, run, schedule, simulate};

const SMALL: Size = Size { managers: 3, hosts: 8, seconds: 40 };

#[test]
fn no_invariant_is_broken_in_small_swarms() {
    for seed in 1..=4 {
        let report = simulate(seed, SMALL);
        assert_eq!(report.violation, None, "seed {seed}");
        assert!(report.transactions > 20, "seed {seed} did nothing: {report:?}");
    }
}

#[test]
fn a_swarm_that_can_never_come_back_is_noticed_and_its_schedule_made_small() {
    // Faults that the schedules of seeds never make: two of three managers lose their power for longer than convergence may take.
    let mut events = schedule::generate(3, Size { seconds: 20, ..SMALL });
    events.push((10_000, schedule::Event::Forget(1)));
    events.push((10_000, schedule::Event::Forget(2)));
    events.sort_by_key(|(at, _)| *at);
    let size = Size { seconds: 20, ..SMALL };
    let broken = run(3, size, &events).violation;
    let Some(violation) = broken else { panic!("two of three managers are gone, and nothing was noticed") };
    let before = events.len();
    let (small, again) = skep_sim::shrink(3, size, events, violation.clone(), 12);
    assert_eq!(again.invariant, violation.invariant);
    assert!(small.iter().filter(|(_, e)| matches!(e, schedule::Event::Forget(_))).count() == 2, "{small:?}");
    assert!(small.len() < before / 2, "{} of {before}", small.len());
}
