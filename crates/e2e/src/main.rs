//! `skep-e2e chaos SECONDS [SEED]`: faults on real managers under load, for `cargo xtask chaos`.

use std::process::ExitCode;
use std::time::Duration;

/// No test has this place.
const PLACE: u8 = 60;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let (seconds, seed) = match words.as_slice() {
        ["chaos", s] => (number(s), Some(1)),
        ["chaos", s, seed] => (number(s), number(seed)),
        _ => (None, None),
    };
    let (Some(seconds), Some(seed)) = (seconds, seed) else {
        eprintln!("usage: skep-e2e chaos SECONDS [SEED]");
        return ExitCode::from(2);
    };
    if let Some(why) = skep_e2e::missing() {
        eprintln!("chaos: {why}");
        return ExitCode::FAILURE;
    }
    match skep_e2e::chaos::run(PLACE, Duration::from_secs(seconds), seed) {
        Ok(r) => {
            let (done, refused, unknown) = r.writes;
            println!(
                "chaos: {seconds} s, {} faults, {} services: {} reads, {done} writes acknowledged, {refused} refused, {unknown} without an answer: linearizable",
                r.faults.len(),
                r.services,
                r.reads
            );
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("chaos: {e}");
            ExitCode::FAILURE
        }
    }
}
