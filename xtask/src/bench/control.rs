//! `cargo xtask bench control`: builds `skep-bench` and lets it measure the managers' engine.

use std::process::{Command, ExitCode};

use super::table;
use crate::test::{Profile, build};
use crate::workspace::Workspace;

/// Runs the benchmark in a directory of the target folder, which is on a real disk, and removes it afterwards.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    let smoke = words.contains(&"--smoke");
    let rest: Vec<&str> = words.iter().copied().filter(|w| *w != "--smoke").collect();
    let workspace = Workspace::read()?;
    let binary = build(&workspace, "skep-bench", if smoke { Profile::Debug } else { Profile::Release })?;
    let dir = workspace.target.join(format!("bench-control-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| format!("make {}: {e}", dir.display()))?;
    println!("{}\nThree processes on loopback, mutual TLS, sealed logs with fdatasync.\n", table::machine());
    let mut command = Command::new(&binary);
    command.arg("control").arg(&dir);
    if smoke {
        command.args(["--seconds", "1", "--kills", "2"]);
    }
    let status = command.args(rest).status().map_err(|e| format!("run {}: {e}", binary.display()));
    std::fs::remove_dir_all(&dir).map_err(|e| format!("remove {}: {e}", dir.display()))?;
    if !status?.success() {
        return Ok(ExitCode::FAILURE);
    }
    println!("\nWatchers of a manager's tables, in one process.\n");
    let mut command = Command::new(&binary);
    command.arg("watch").args(if smoke { &["--seconds", "1"][..] } else { &[] });
    let status = command.status().map_err(|e| format!("run {}: {e}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
