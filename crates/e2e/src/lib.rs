//! What the end-to-end tests share: a playground of their own, the stock docker CLI against its hosts, images, and waiting.
//!
//! Everything panics with what was tried and what came of it: these are tests' helpers and ship with nothing.

#![forbid(unsafe_code)]

pub mod bed;
pub mod chaos;
pub mod client;
pub mod disks;
pub mod images;
pub mod live;
pub mod load;
pub mod plugin;
pub mod tables;
pub mod web;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a test cannot run here, if it cannot.
#[must_use]
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    if Command::new("docker").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Some("needs the docker CLI");
    }
    None
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Run {
    /// The command, for messages.
    pub command: String,
    /// Exit code, or -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let text = format!("{command:?}");
        let done = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("run {text}: {e}"));
        if done.status.success() {
            skep_testkit::typed::note(command);
        }
        Self {
            command: text,
            code: done.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&done.stdout).into_owned(),
            err: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }

    /// Its output, if it succeeded.
    ///
    /// # Panics
    /// If it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\nstdout: {}\nstderr: {}", self.command, self.out, self.err);
        self.out.trim_end().to_owned()
    }

    /// Asserts that it failed with exit code 1 and a message that contains `text`.
    ///
    /// # Panics
    /// If it did not.
    pub fn fails(self, text: &str) {
        let fits = self.code == 1 && self.err.contains(text);
        assert!(
            fits,
            "{}\nexpected exit code 1 and: {text}\nbut exit code {}\nstdout: {}\nstderr: {}",
            self.command, self.code, self.out, self.err
        );
    }
}

/// Waits until `probe` gives a value; a probe that fails says why.
///
/// # Panics
/// After `limit`, with what it waited for and the last reason.
pub fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) => assert!(start.elapsed() < limit, "waited {limit:?} for {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `Ok` if `fits`, else `why`: for probes.
///
/// # Errors
/// `why`.
pub fn that(fits: bool, why: impl std::fmt::Display) -> Result<(), String> {
    if fits { Ok(()) } else { Err(why.to_string()) }
}
