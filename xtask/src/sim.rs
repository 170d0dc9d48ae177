//! `cargo xtask sim`: the simulator, built fast and with a tokio whose every choice follows from the seed, in as many processes
//! as there are cores. Must never report success unless each of them did.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use crate::workspace::{Workspace, cargo};

/// What `cargo xtask sim --help` says.
pub(crate) const USAGE: &str = "  sim [--hours N] [--within SECONDS] [--seed S] [OPTIONS…]
                         simulate N hours of a swarm of 5 managers and 50 nodes (default 1) from seed S on, but begin nothing
                         more after that many seconds of real time; after a failure the same seed with `--seeds 1` repeats
                         it, and `--only` its events that matter
";

/// Seeds of one process begin this far after those of the one before.
const STRIDE: u64 = 1_000_000;

/// Builds and runs the simulator.
///
/// # Errors
/// If it cannot be built or started.
pub(crate) fn run(options: &[&str]) -> Result<ExitCode, String> {
    let (mut hours, mut seed, mut rest) = (1.0, 1, Vec::new());
    let mut words = options.iter();
    while let Some(w) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{w} needs a value"));
        match *w {
            "--hours" => hours = value()?.parse::<f64>().map_err(|e| format!("--hours: {e}"))?,
            "--seed" => seed = value()?.parse::<u64>().map_err(|e| format!("--seed: {e}"))?,
            _ => rest.push(*w),
        }
    }
    let binary = build()?;
    if rest.contains(&"--seeds") {
        return finish(vec![start(&binary, seed, hours, &rest)?]);
    }
    // Two runs of one seed must go the same way, step by step.
    let twice = |_| Command::new(&binary).args(["--seed", "7", "--seeds", "2", "--seconds", "60", "--shrink", "0"]).output();
    let traces: Vec<_> = (0..2).map(twice).collect::<Result<_, _>>().map_err(|e| format!("run the simulator: {e}"))?;
    let trace = |out: &std::process::Output| {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().filter(|l| l.contains("trace")).map(str::to_owned).collect::<Vec<_>>()
    };
    if trace(&traces[0]).is_empty() || trace(&traces[0]) != trace(&traces[1]) {
        return Err("one seed was simulated twice and went two ways".into());
    }
    let processes = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = hours / processes as f64;
    let all = (0..processes).map(|i| start(&binary, seed + i * STRIDE, share, &rest)).collect::<Result<_, _>>()?;
    finish(all)
}

/// Builds the simulator; returns where it is.
///
/// # Errors
/// If it cannot be built.
pub(crate) fn build() -> Result<PathBuf, String> {
    let workspace = Workspace::read()?;
    build_of(&workspace, &workspace.root)
}

/// Builds the simulator of a tree that may be a copy of the workspace's; both share what they do not differ in. Each replaces the
/// other's binary.
///
/// # Errors
/// If it cannot be built.
pub(crate) fn build_of(workspace: &Workspace, tree: &Path) -> Result<PathBuf, String> {
    let target = workspace.target.join("sim");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let status = cargo()
        .args(["build", "--quiet", "--profile", "sim", "--package", "skep-sim", "-j2", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", format!("{flags} --cfg tokio_unstable"))
        .current_dir(tree)
        .status()
        .map_err(|e| format!("build the simulator: {e}"))?;
    if status.success() { Ok(target.join("sim/skep-sim")) } else { Err("the simulator does not build".into()) }
}

fn start(binary: &std::path::Path, seed: u64, hours: f64, rest: &[&str]) -> Result<Child, String> {
    Command::new(binary)
        .args(["--seed", &seed.to_string(), "--hours", &hours.to_string()])
        .args(rest)
        .spawn()
        .map_err(|e| format!("start the simulator: {e}"))
}

fn finish(all: Vec<Child>) -> Result<ExitCode, String> {
    let mut code = ExitCode::SUCCESS;
    for mut child in all {
        let status = child.wait().map_err(|e| format!("wait for the simulator: {e}"))?;
        if !status.success() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
