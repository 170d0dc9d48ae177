//! What benchmarks run as processes of their own; `cargo xtask bench control`, `bench net` and `bench plan` build and start it.
//! Does not ship.

#![deny(unsafe_code)]

#[cfg(feature = "control")]
mod child;
#[cfg(feature = "control")]
mod control;
#[cfg(feature = "control")]
mod files;
#[cfg(feature = "control")]
mod load;
#[cfg(feature = "control")]
mod member;
#[cfg(feature = "control")]
mod net;
mod numbers;
mod plan;
#[cfg(feature = "control")]
mod tables;
#[cfg(feature = "control")]
mod transport;
#[cfg(feature = "control")]
mod watch;

use std::process::ExitCode;

const USAGE: &str = "usage: skep-bench control DIRECTORY [--seconds N] [--kills N] | skep-bench tables DIRECTORY [--smoke] | \
                     skep-bench watch [--seconds N] | skep-bench net [--rounds N] [--millis N] [--only WORDS] | skep-bench plan [--smoke | --only PART]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["plan", options @ ..] => plan::run(options),
        #[cfg(feature = "control")]
        ["control", dir, options @ ..] => control::run(dir.as_ref(), options),
        #[cfg(feature = "control")]
        ["tables", dir, options @ ..] => tables::run(dir.as_ref(), options),
        #[cfg(feature = "control")]
        ["net", options @ ..] => net::bench(options),
        #[cfg(feature = "control")]
        ["watch", options @ ..] => watch::run(options),
        // Started for encrypted networks where the kernel has no WireGuard.
        #[cfg(feature = "control")]
        ["wireguard", ..] => return ExitCode::from(u8::from(skep_linux::wireguard::main(&args[1..]) != 0)),
        // Started by the first.
        #[cfg(feature = "control")]
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
