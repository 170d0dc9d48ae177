//! `cargo xtask test`: what the tests need, the binary that they run, then the tests.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::packages;
use crate::turn::Turn;
use crate::workspace::{Workspace, cargo};

/// Runs the tests; `extra` goes to `cargo nextest run`, whose summary is the last thing printed.
pub(crate) fn run(extra: &[&str]) -> Result<ExitCode, String> {
    run_with(extra, &[])
}

/// The same, with more in the environment of the tests.
pub(crate) fn run_with(extra: &[&str], environment: &[(&str, &str)]) -> Result<ExitCode, String> {
    packages::for_tests()?;
    if packages::program("cargo-nextest").is_none() {
        return Err("cargo-nextest is missing: install it with `cargo install --locked cargo-nextest`".to_owned());
    }
    let workspace = Workspace::read()?;
    let binary = build(&workspace, "skep", Profile::Debug)?;
    let typed = workspace.target.join("typed");
    if extra.is_empty() {
        // A run of all tests says what works, not those before it; there may have been none.
        let _ = std::fs::remove_file(&typed);
    }
    // Only root's tests make hosts.
    let _turn = packages::is_root().then(Turn::take).transpose()?;
    let status = cargo()
        .args(["nextest", "run", "--workspace"])
        .args(extra)
        .current_dir(&workspace.root)
        .env("SKEP_BIN", binary)
        .env("SKEP_TYPED", &typed)
        .envs(environment.iter().copied())
        .status()
        .map_err(|e| format!("run cargo nextest: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a binary is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly.
    Debug,
    /// As it ships.
    Release,
}

/// Builds a package with a binary of the same name; returns the binary.
pub(crate) fn build(workspace: &Workspace, package: &str, profile: Profile) -> Result<PathBuf, String> {
    build_binary(workspace, package, package, profile)
}

/// Builds a binary of a package; returns it.
pub(crate) fn build_binary(workspace: &Workspace, package: &str, name: &str, profile: Profile) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.args(["build", "-j2", "--package", package, "--bin", name]).current_dir(&workspace.root);
    let dir = match profile {
        Profile::Debug => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    let status = command.status().map_err(|e| format!("run cargo build: {e}"))?;
    if !status.success() {
        return Err(format!("build {package}: cargo build ended with {status}"));
    }
    Ok(workspace.target.join(dir).join(name))
}
