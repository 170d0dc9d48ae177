//! `cargo xtask chaos`: three real managers, clients, and faults, in namespaces of this machine.

use std::process::ExitCode;

use crate::test;

/// What `cargo xtask chaos --help` says.
pub(crate) const USAGE: &str = "  chaos [SECONDS] [SEED] three real managers under kill -9, power-off, partitions and stops, for 1800 s unless told otherwise:
                         is what the clients were answered linearizable? needs root
";

/// Half an hour.
const SECONDS: &str = "1800";

/// Runs the one test of it for that long.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let seconds = words.first().copied().unwrap_or(SECONDS);
    let seed = words.get(1).copied().unwrap_or("1");
    for (what, word) in [("SECONDS", seconds), ("SEED", seed)] {
        word.parse::<u64>().map_err(|e| format!("chaos: {what} {word}: {e}"))?;
    }
    let env = [("SKEP_CHAOS_SECONDS", seconds), ("SKEP_CHAOS_SEED", seed)];
    test::run_with(&["-E", "test(chaos)", "--retries", "0", "--no-capture"], &env)
}
