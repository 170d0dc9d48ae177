//! Chores of the house: `cargo xtask house`, `test`, `vm`, `commands`, `fuzz`, `sim`, `chaos`, `mutants`, and `bench swarm`, `stack`, `control`, `net` and `plan`.

mod bench;
mod chaos;
mod commands;
mod fuzz;
mod house;
mod mutants;
mod packages;
mod sim;
mod test;
mod turn;
mod vm;
mod workspace;

use std::process::ExitCode;

/// What `cargo xtask` without a chore says.
const USAGE: &str = "usage: cargo xtask CHORE

  house                  check how the code is laid out
  test [ARGS…]           install what the tests need, build skep, run all tests; ARGS go to `cargo nextest run`
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["house"] => house::run(),
        ["test", extra @ ..] => test::run(extra),
        ["bench", "control", options @ ..] => bench::run_control(options),
        ["chaos", words @ ..] => chaos::run(words),
        ["bench", "net", options @ ..] => bench::run_net(options),
        ["bench", "plan", options @ ..] => bench::run_plan(options),
        ["commands"] => commands::run(),
        ["fuzz", words @ ..] => fuzz::run(words),
        ["mutants", words @ ..] => mutants::run(words),
        ["sim", options @ ..] => sim::run(options),
        ["vm", filters @ ..] => vm::run(filters),
        ["bench", "swarm", options @ ..] => bench::run(bench::Script::Swarm, options),
        ["bench", "stack", options @ ..] => bench::run(bench::Script::Stack, options),
        _ => Err(format!(
            "{USAGE}{}{}{}{}{}{}{}",
            vm::USAGE,
            commands::USAGE,
            fuzz::USAGE,
            sim::USAGE,
            mutants::USAGE,
            chaos::USAGE,
            bench::USAGE
        )),
    };
    result.unwrap_or_else(|e| {
        eprintln!("xtask: {e}");
        ExitCode::FAILURE
    })
}
