//! A member's process as the benchmark holds it. Must never leave a process behind.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Lines read and not yet looked at; members say a line for a line.
const LINES: usize = 256;
/// No answer is due later than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a member said, and when.
pub(crate) struct Said {
    pub(crate) line: String,
    pub(crate) at: Instant,
}

/// One running member.
pub(crate) struct Member {
    pub(crate) id: u64,
    process: Child,
    input: ChildStdin,
    lines: Receiver<Said>,
}

fn read(from: impl std::io::Read, to: &SyncSender<Said>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if to.send(Said { line, at: Instant::now() }).is_err() {
            return;
        }
    }
}

impl Member {
    /// Starts member `id` and waits until it is ready.
    pub(crate) fn start(dir: &Path, id: u64) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| format!("find this program: {e}"))?;
        let mut process = Command::new(own)
            .arg("member")
            .arg(dir)
            .arg(id.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("start member {id}: {e}"))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("start member {id}: no pipes"));
        };
        let (tx, lines) = sync_channel(LINES);
        std::thread::spawn(move || read(output, &tx));
        let mut m = Self { id, process, input, lines };
        match m.next(PATIENCE)? {
            Some(s) if s.line == "ready" => Ok(m),
            _ => Err(format!("member {id} did not get ready")),
        }
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), String> {
        writeln!(self.input, "{line}").map_err(|e| format!("tell member {}: {e}", self.id))
    }

    /// What it says next, if it says something within this time.
    pub(crate) fn next(&mut self, within: Duration) -> Result<Option<Said>, String> {
        match self.lines.recv_timeout(within) {
            Ok(s) => Ok(Some(s)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(format!("member {} is gone", self.id)),
        }
    }

    /// Tells it something and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String, String> {
        self.tell(line)?;
        let s = self.next(PATIENCE)?.ok_or_else(|| format!("member {} does not answer to {line}", self.id))?;
        if let Some(e) = s.line.strip_prefix("error ") {
            return Err(format!("member {}: {line}: {e}", self.id));
        }
        Ok(s.line)
    }

    /// Whether it leads, and what it has applied.
    pub(crate) fn status(&mut self) -> Result<(bool, u64), String> {
        let text = self.ask("status")?;
        let mut words = text.split(' ').skip(1);
        let leads = words.next() == Some("1");
        Ok((leads, words.next().and_then(|n| n.parse().ok()).unwrap_or(0)))
    }

    /// Kills it with SIGKILL; returns when that was.
    pub(crate) fn kill(mut self) -> Instant {
        let at = Instant::now();
        // One that is dead already is as good.
        drop(self.process.kill());
        drop(self.process.wait());
        at
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
