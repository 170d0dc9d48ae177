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
        bed.command_of(self, host, args)
    }

    /// Runs it against a host's daemon.
    #[must_use]
    pub fn run(self, bed: &Bed, host: &str, args: &[&str]) -> Run {
        Run::of(&mut self.command(bed, host, args))
    }

    /// Types a line into a terminal of 33 rows and 77 columns, and returns what that shows.
    #[must_use]
    pub fn typed(self, bed: &Bed, host: &str, args: &str) -> Run {
        let command = self.command(bed, host, &[]);
        let line = format!("stty rows 33 cols 77; exec {} {args}", command.get_program().display());
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]);
        terminal.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Run::of(&mut terminal)
    }

    /// Like [`Client::run`], split at spaces.
    #[must_use]
    pub fn line(self, bed: &Bed, host: &str, args: &str) -> Run {
        self.run(bed, host, &args.split_whitespace().collect::<Vec<_>>())
    }
}
