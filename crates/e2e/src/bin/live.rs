//! `live --changes N --requests N`: the part of `cargo xtask bench net` that needs a real swarm.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mut changes, mut requests) = (0_usize, 0_u64);
    for pair in args.chunks(2) {
        match pair {
            [flag, value] if flag == "--changes" && value.parse::<usize>().is_ok() => {
                changes = value.parse().unwrap_or_default()
            }
            [flag, value] if flag == "--requests" && value.parse::<u64>().is_ok() => {
                requests = value.parse().unwrap_or_default()
            }
            other => {
                eprintln!("live: {}: expected --changes N and --requests N", other.join(" "));
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(why) = skep_e2e::missing() {
        eprintln!("live: {why}");
        return ExitCode::FAILURE;
    }
    let bed = skep_e2e::live::swarm();
    if changes > 0 {
        skep_e2e::live::changes(&bed, changes);
        println!();
    }
    if requests > 0 {
        skep_e2e::live::updates(&bed, requests);
    }
    ExitCode::SUCCESS
}
