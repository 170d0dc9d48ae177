//! Skep's side: its own playground.

use std::path::{Path, PathBuf};

use super::api::Daemon;
use super::contest::{Contestant, run};

/// The playground's hosts, the manager first.
const HOSTS: [&str; 3] = ["manager", "worker1", "worker2"];
/// Sockets of the playground.
const RUN: &str = "/run/skep/playground";

/// The playground of a binary.
pub(super) struct Skep {
    binary: PathBuf,
    label: String,
    /// Whether the playground is this run's own: nobody else's is ever taken down.
    ours: bool,
}

impl Skep {
    /// The playground of `binary`, not up yet.
    pub(super) fn new(binary: PathBuf, label: String) -> Self {
        Self { binary, label, ours: false }
    }

    fn playground(&self, args: &[&str]) -> Result<(), String> {
        let all: Vec<&str> = ["playground"].iter().chain(args).copied().collect();
        run(&self.binary, &all).map(drop)
    }
}

impl Contestant for Skep {
    fn name(&self) -> String {
        self.label.clone()
    }

    fn up(&mut self, archive: &Path) -> Result<Vec<Daemon>, String> {
        if Path::new(RUN).join("state.json").exists() {
            return Err("a playground is up already: remove it with `skep playground down` first".to_owned());
        }
        // From here on; a failed start cleans up after itself, and removing it again does no harm.
        self.ours = true;
        self.playground(&["up", "--hosts", "3", "--managers", "1", "--no-service"])?;
        let daemon = |name: &&str| Daemon { socket: Path::new(RUN).join(format!("{name}.sock")), address: String::new() };
        let daemons: Vec<Daemon> = HOSTS.iter().map(daemon).collect();
        for daemon in &daemons {
            daemon.load(archive)?;
        }
        Ok(daemons)
    }

    fn cut(&mut self) -> Result<(), String> {
        self.playground(&["cut", HOSTS[2]])
    }

    fn heal(&mut self) -> Result<(), String> {
        self.playground(&["heal", HOSTS[2]])
    }

    fn namespaces(&self) -> Vec<PathBuf> {
        HOSTS.iter().map(|h| PathBuf::from(format!("/run/netns/skep-{h}"))).collect()
    }

    fn down(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.ours) { self.playground(&["down"]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_run_did_not_make_is_left_alone() {
        // The program does not exist: `down` would fail if it were called.
        let mut skep = Skep::new("/nonexistent/skep".into(), "skep".to_owned());
        assert_eq!(skep.down(), Ok(()));
        skep.ours = true;
        assert!(skep.down().is_err());
        assert_eq!(skep.down(), Ok(()));
    }
}
