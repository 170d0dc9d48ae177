//! A user at a process in a container: keys go in, output comes out, the terminal's size goes along, the detach keys end it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::output::copy_raw;
use crate::app::Failure;
use crate::client::{Client, Raw};
use crate::terminal::{self, Changed};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process's output ended.
    Output,
    /// The user typed the detach keys.
    Detached,
}

/// The keys that leave a session, as they are typed.
#[derive(Debug)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// Reads `ctrl-p,ctrl-q`: letters, or `ctrl-` with a letter or one of `@[\]^_`.
    ///
    /// # Errors
    /// When a key is not known.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let one = |key: &str| match (key.strip_prefix("ctrl-").map(str::as_bytes), key.as_bytes()) {
            (Some([c @ b'a'..=b'z']), _) => Some(c - b'a' + 1),
            (Some([c @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Some(c - b'@'),
            (None, [c]) => Some(*c),
            _ => None,
        };
        let sequence: Option<Vec<u8>> = text.split(',').map(one).collect();
        let sequence = sequence.ok_or_else(|| Failure::new(format!("invalid detach keys ({text}): unknown character")))?;
        Ok(Self { sequence, matched: 0 })
    }

    /// What of the typed bytes goes on, and whether the keys are complete. A begun sequence is held back.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if *byte != self.sequence[self.matched] && self.matched > 0 {
                out.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (out, true);
                }
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// What a session is to do.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The daemon.
    pub(crate) client: &'a Client,
    /// Whether input is passed on.
    pub(crate) input: bool,
    /// Whether the process has a terminal.
    pub(crate) tty: bool,
    /// Where the terminal's size is told: `/containers/ID/resize`, `/exec/ID/resize`.
    pub(crate) resize: String,
    /// The keys that leave it.
    pub(crate) keys: Keys,
}

/// Tells the terminal's size; a process that has ended does not want it.
pub(crate) async fn resize(client: &Client, path: &str) {
    if let Some((rows, columns)) = terminal::size() {
        let _ = client.call("POST", &format!("{path}?h={rows}&w={columns}"), None).await;
    }
}

impl Session<'_> {
    /// Makes the terminal raw, if keys go to another one. Keep what comes as long as the session lasts.
    ///
    /// # Errors
    /// When standard input is no terminal though the process has one.
    pub(crate) fn raw(&self) -> Result<Option<Changed>, Failure> {
        if !(self.input && self.tty) {
            return Ok(None);
        }
        Changed::raw()
            .map(Some)
            .map_err(|_| Failure::new("cannot attach stdin to a TTY-enabled container because stdin is not a terminal"))
    }

    /// Carries bytes until the output ends or the user leaves.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn run(mut self, raw: Raw) -> Result<Ended, Failure> {
        let multiplexed = raw.multiplexed || !self.tty;
        let (mut from, mut to) = tokio::io::split(raw.io);
        let (client, tty, path) = (self.client, self.tty, self.resize.clone());
        let sizes = async {
            if tty && let Ok(mut changed) = signal(SignalKind::window_change()) {
                while changed.recv().await.is_some() {
                    resize(client, &path).await;
                }
            }
            std::future::pending::<()>().await;
        };
        let input = async {
            if !self.input {
                return std::future::pending().await;
            }
            let mut stdin = tokio::io::stdin();
            let mut chunk = vec![0u8; 32 << 10];
            loop {
                let n = stdin.read(&mut chunk).await.unwrap_or(0);
                if n == 0 {
                    // That is all; the process sees the end of its input, and may still say something.
                    let _ = to.shutdown().await;
                    return std::future::pending().await;
                }
                let (bytes, left) = if tty { self.keys.feed(&chunk[..n]) } else { (chunk[..n].to_vec(), false) };
                if !bytes.is_empty() && to.write_all(&bytes).await.is_err() {
                    return std::future::pending().await;
                }
                if left {
                    return Ended::Detached;
                }
            }
        };
        tokio::select! {
            done = copy_raw(&mut from, multiplexed) => done.map(|()| Ended::Output),
            ended = input => Ok(ended),
            () = sizes => Ok(Ended::Output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn detach_keys_are_found_and_not_passed_on() {
        let mut keys = Keys::parse("").unwrap();
        assert_eq!(keys.feed(b"a\x10b"), (b"a\x10b".to_vec(), false));
        assert_eq!(keys.feed(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(keys.feed(b"\x10\x11y"), (b"\x10".to_vec(), true));
        let mut own = Keys::parse("ctrl-],q").unwrap();
        assert_eq!(own.feed(b"\x1dq"), (Vec::new(), true));
        assert!(Keys::parse("ctrl-1").is_err() && Keys::parse("ab").is_err());
    }
}
