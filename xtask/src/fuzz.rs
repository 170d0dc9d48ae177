//! `cargo xtask fuzz`: feeds what reads others' words with anything, for a time. Needs no nightly compiler.

use std::process::{Command, ExitCode};

use crate::test::{Profile, build};
use crate::workspace::Workspace;

/// What `cargo xtask` without a chore says.
pub(crate) const USAGE: &str = "  fuzz [TARGET…] [--seconds N] [--seed S]
                         feed what reads compose files, templates, references, filters, logs and messages with random input
                         for so long (default 60), beginning with that seed; `TARGET --input FILE` for one input again
";

/// Builds and runs the fuzzer.
///
/// # Errors
/// If it cannot be built or started.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let binary = build(&workspace, "skep-fuzz", Profile::Debug)?;
    let dir = workspace.target.join("fuzz");
    let status = Command::new(binary)
        .args(words)
        .arg("--dir")
        .arg(&dir)
        .current_dir(&workspace.root)
        .status()
        .map_err(|e| format!("run the fuzzer: {e}"))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("the fuzzer ended with {status}: what it found is in {}", dir.display()))
}
