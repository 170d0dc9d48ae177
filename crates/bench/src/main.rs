//! What benchmarks run as processes of their own; `cargo xtask bench control` and `bench net` build and start it. Does not ship.

#![deny(unsafe_code)]

mod child;
mod control;
mod files;
mod load;
mod member;
mod net;
mod numbers;
mod transport;

use std::process::ExitCode;

const USAGE: &str = "usage: skep-bench control DIRECTORY [--seconds N] [--kills N] | skep-bench net [--rounds N] [--millis N]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["control", dir, options @ ..] => control::run(dir.as_ref(), options),
        ["net", options @ ..] => net::bench(options),
        // Started by the first.
        ["member", dir, number] => member::run(dir.as_ref(), number),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("skep-bench: {e}");
            ExitCode::FAILURE
        }
    }
}
