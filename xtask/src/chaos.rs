//! `cargo xtask chaos`: three real managers, clients, and faults, in namespaces of this machine.

use std::process::{Command, ExitCode};

use crate::packages;
use crate::test::{Profile, build};
use crate::turn::Turn;
use crate::workspace::Workspace;

/// What `cargo xtask chaos --help` says.
pub(crate) const USAGE: &str = "  chaos [SECONDS] [SEED] three real managers under kill -9, power-off, partitions and stops, for 1800 s unless told otherwise:
                         is what the clients were answered linearizable? needs root
";

/// Half an hour.
const SECONDS: &str = "1800";

/// Builds what it needs and runs it.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode, String> {
    packages::for_tests()?;
    let workspace = Workspace::read()?;
    let skep = build(&workspace, "skep", Profile::Debug)?;
    let binary = build(&workspace, "skep-e2e", Profile::Debug)?;
    let _turn = packages::is_root().then(Turn::take).transpose()?;
    let words = if words.is_empty() { &[SECONDS] } else { words };
    let status = Command::new(&binary).arg("chaos").args(words).env("SKEP_BIN", skep).status();
    let status = status.map_err(|e| format!("run {}: {e}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
