//! `cargo xtask bench plan`: builds `skep-bench` with nothing but the pure crates and lets it measure the planner.

use std::process::{Command, ExitCode};

use super::table;
use crate::workspace::{Workspace, cargo};

/// Runs the benchmark.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let smoke = words.contains(&"--smoke");
    let mut build = cargo();
    build.args(["build", "-p", "skep-bench", "--no-default-features"]).args((!smoke).then_some("--release"));
    let built = build.status().map_err(|e| format!("run cargo: {e}"))?;
    if !built.success() {
        return Err("the benchmark could not be built".to_owned());
    }
    let binary = workspace.target.join(if smoke { "debug" } else { "release" }).join("skep-bench");
    println!("{}\nOne thread, no encoding.\n", table::machine());
    // The allocator as the daemon sets it (`linux::memory::keep_until_trimmed`), which the pure crates cannot.
    let allocator =
        [("MALLOC_TRIM_THRESHOLD_", "536870912"), ("MALLOC_TOP_PAD_", "16777216"), ("MALLOC_MMAP_THRESHOLD_", "4194304")];
    let status = Command::new(&binary).arg("plan").args(words).envs(allocator).status();
    let status = status.map_err(|e| format!("run {}: {e}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
