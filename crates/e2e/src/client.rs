//! The two clients that every journey is driven by.

use std::process::Command;

use crate::Run;
use crate::bed::Bed;

/// Who is typed: the stock client, or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `docker`.
    Docker,
    /// `skep`.
    Skep,
}

impl Client {
    /// Both, the stock one first.
    pub const BOTH: [Self; 2] = [Self::Docker, Self::Skep];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Skep => "skep",
        }
    }

    /// Its command for a host's daemon.
    #[must_use]
    pub fn command(self, bed: &Bed, host: &str, args: &[&str]) -> Command {
        match self {
            Self::Docker => bed.command(host, args),
            Self::Skep => bed.skep_command(host, args),
        }
    }

    /// Runs it against a host's daemon.
    #[must_use]
    pub fn run(self, bed: &Bed, host: &str, args: &[&str]) -> Run {
        Run::of(&mut self.command(bed, host, args))
    }

    /// Like [`Client::run`], split at spaces.
    #[must_use]
    pub fn line(self, bed: &Bed, host: &str, args: &str) -> Run {
        self.run(bed, host, &args.split_whitespace().collect::<Vec<_>>())
    }
}
