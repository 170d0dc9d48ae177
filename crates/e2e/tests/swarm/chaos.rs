//! Real managers under faults: `cargo xtask chaos` for long, a while in each run of the tests.

use std::time::Duration;

use crate::needs;

/// For so long, in seconds, unless `SKEP_CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 180;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_clients_are_told_under_faults_is_linearizable() {
    needs!();
    let seconds = number("SKEP_CHAOS_SECONDS").unwrap_or(SECONDS);
    let r = skep_e2e::chaos::run(48, Duration::from_secs(seconds), number("SKEP_CHAOS_SEED").unwrap_or(1));
    let r = r.unwrap_or_else(|e| panic!("{e}"));
    let (done, refused, unknown) = r.writes;
    println!(
        "{seconds} s, {} faults, {} services: {} reads, {done} writes acknowledged, {refused} refused, {unknown} without an answer",
        r.faults.len(),
        r.services,
        r.reads
    );
}
