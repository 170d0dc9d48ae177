//! A swarm of three hosts that the script runs on, and how it comes and goes.

use std::path::{Path, PathBuf};

use super::api::Daemon;

/// What makes swarms of one kind.
pub(super) trait Contestant {
    /// Name of its column.
    fn name(&self) -> String;

    /// Fresh hosts, the manager first, with the image loaded.
    fn up(&mut self, archive: &Path) -> Result<Vec<Daemon>, String>;

    /// Takes the last host off the network.
    fn cut(&mut self) -> Result<(), String>;

    /// And on again.
    fn heal(&mut self) -> Result<(), String>;

    /// The hosts' network namespaces; none if unknown, then memory is not measured.
    fn namespaces(&self) -> Vec<PathBuf>;

    /// Whether the last host can be cut.
    fn can_cut(&self) -> bool {
        true
    }

    /// Removes everything.
    fn down(&mut self) -> Result<(), String>;
}

/// Daemons that somebody else runs.
pub(super) struct Given {
    pub(super) daemons: Vec<Daemon>,
}

impl Contestant for Given {
    fn name(&self) -> String {
        self.daemons.first().map(|d| d.socket.display().to_string()).unwrap_or_default()
    }

    fn up(&mut self, archive: &Path) -> Result<Vec<Daemon>, String> {
        for daemon in &self.daemons {
            daemon.load(archive)?;
        }
        Ok(self.daemons.clone())
    }

    fn cut(&mut self) -> Result<(), String> {
        Err("cut a host of somebody else's".to_owned())
    }

    fn heal(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn namespaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn can_cut(&self) -> bool {
        false
    }

    fn down(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Runs a program; its output is part of the error.
pub(super) fn run(program: &Path, args: &[&str]) -> Result<String, String> {
    let output =
        std::process::Command::new(program).args(args).output().map_err(|e| format!("run {}: {e}", program.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} {}: {}", program.display(), args.join(" "), said.trim()))
}
