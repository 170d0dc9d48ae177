//! `cargo xtask bench net`: builds `skep-bench` and lets it measure the data plane.

use std::process::{Command, ExitCode};

use super::table;
use crate::test::{Profile, build};
use crate::turn::Turn;
use crate::workspace::Workspace;

/// Runs the benchmark; its namespaces go when it ends.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let smoke = words.contains(&"--smoke");
    let rest: Vec<&str> = words.iter().copied().filter(|w| *w != "--smoke").collect();
    let workspace = Workspace::read()?;
    let binary = build(&workspace, "skep-bench", if smoke { Profile::Debug } else { Profile::Release })?;
    // Tests with hosts of their own would take the cores.
    let _turn = Turn::take()?;
    println!("{}\n", table::machine());
    let mut command = Command::new(&binary);
    command.arg("net");
    if smoke {
        command.args(["--rounds", "1", "--millis", "200"]);
    }
    let status = command.args(rest).status().map_err(|e| format!("run {}: {e}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
