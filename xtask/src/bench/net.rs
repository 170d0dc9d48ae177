//! `cargo xtask bench net`: builds `skep-bench` and lets it measure the data plane, then Skep itself for what needs a real swarm of five
//! hosts (`crates/e2e`, `live`).

use std::process::{Command, ExitCode};

use super::table;
use crate::test::{Profile, build, build_binary};
use crate::turn::Turn;
use crate::workspace::Workspace;

/// Changes of endpoints: as many as a p99 needs.
const CHANGES: u64 = 100;
/// Requests during the updates, unless more are asked for.
const REQUESTS: u64 = 20_000;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    smoke: bool,
    live_only: bool,
    changes: Option<u64>,
    requests: Option<u64>,
    /// What is the bench's own.
    rest: Vec<&'a str>,
}

fn parse<'a>(words: &[&'a str]) -> Result<Options<'a>, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|e| format!("{word} {text}: {e}"))
        };
        match *word {
            "--smoke" => options.smoke = true,
            "--live-only" => options.live_only = true,
            "--changes" => options.changes = Some(number()?),
            "--requests" => options.requests = Some(number()?),
            other => options.rest.push(other),
        }
    }
    Ok(options)
}

/// Runs the benchmark; its namespaces go when it ends.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let options = parse(words)?;
    let workspace = Workspace::read()?;
    let profile = if options.smoke { Profile::Debug } else { Profile::Release };
    let binary = build(&workspace, "skep-bench", profile)?;
    let skep = build(&workspace, "skep", profile)?;
    let live = build_binary(&workspace, "skep-e2e", "live", profile)?;
    // Tests with hosts of their own would take the cores.
    let _turn = Turn::take()?;
    println!("{}\n", table::machine());
    if !options.live_only {
        let mut command = Command::new(&binary);
        command.arg("net");
        if options.smoke {
            command.args(["--rounds", "1", "--millis", "200"]);
        }
        let status = command.args(options.rest).status().map_err(|e| format!("run {}: {e}", binary.display()))?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
        println!();
    }
    let (changes, requests) = if options.smoke { (3, 500) } else { (CHANGES, REQUESTS) };
    let mut command = Command::new(&live);
    command.env("SKEP_BIN", &skep);
    command.args(["--changes", &options.changes.unwrap_or(changes).to_string()]);
    command.args(["--requests", &options.requests.unwrap_or(requests).to_string()]);
    let status = command.status().map_err(|e| format!("run {}: {e}", live.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_benchs_or_ours() {
        let got = parse(&["--rounds", "3", "--requests", "1000000", "--live-only", "--millis", "250"]);
        let want = Options {
            live_only: true,
            requests: Some(1_000_000),
            rest: vec!["--rounds", "3", "--millis", "250"],
            ..Options::default()
        };
        assert_eq!(got, Ok(want));
        assert!(parse(&["--changes", "x"]).is_err() && parse(&["--changes"]).is_err());
    }
}
