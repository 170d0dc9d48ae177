//! The stock docker client against a daemon's socket, and `skep` beside it.

use std::path::Path;
use std::process::{Command, Stdio};

/// How a run of the client ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its arguments, for messages.
    pub args: String,
    /// Exit status; -1 after a signal.
    pub status: i32,
    /// Standard output, without the last line break.
    pub stdout: String,
    /// Standard error, without the last line break.
    pub stderr: String,
}

impl Output {
    /// Standard output of a run that succeeded.
    ///
    /// # Panics
    /// With everything it said if it failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "docker {}\nstdout: {}\nstderr: {}", self.args, self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a run that failed.
    ///
    /// # Panics
    /// If it succeeded.
    #[must_use]
    pub fn err(self) -> String {
        assert_ne!(self.status, 0, "docker {} succeeded\nstdout: {}\nstderr: {}", self.args, self.stdout, self.stderr);
        self.stderr
    }
}

/// Runs `docker -H unix://SOCKET ARGS…` with a configuration of its own (the user's could change what it prints).
///
/// # Panics
/// If the client cannot be started.
#[must_use]
pub fn docker(socket: &Path, args: &[&str]) -> Output {
    run("docker", &mut Command::new("docker"), socket, args)
}

/// The same with the `skep` client under test; as `name` (`skep` or `docker`) it calls itself so.
///
/// # Panics
/// If the client cannot be started.
#[must_use]
pub fn skep(binary: &Path, name: &str, socket: &Path, args: &[&str]) -> Output {
    use std::os::unix::process::CommandExt;
    run(name, Command::new(binary).arg0(name), socket, args)
}

fn run(name: &str, command: &mut Command, socket: &Path, args: &[&str]) -> Output {
    let done = command
        .args(["--config", "/nonexistent", "-H"])
        .arg(format!("unix://{}", socket.display()))
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("run {name} {}: {e}", args.join(" ")));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if done.status.success() {
        crate::typed::note_words(name, &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
    }
    Output {
        args: args.join(" "),
        status: done.status.code().unwrap_or(-1),
        stdout: text(&done.stdout),
        stderr: text(&done.stderr),
    }
}
