//! How things are shown: columns, sizes, ages, and what `--format` asks for. Must never talk to a daemon.

pub mod human;
pub mod indent;
pub mod list;
pub mod natural;
pub mod order;
pub mod table;
pub mod time;
pub mod typed;

use std::fmt;
use std::io::{IsTerminal, Write};

use crate::app::Failure;

/// Writes to standard output.
///
/// # Errors
/// When nobody reads it (quietly, as of `| head`), or it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes to standard output and flushes.
///
/// # Errors
/// As [`print`].
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::quiet(1),
        _ => Failure::new(format!("write to standard output: {e}")),
    })
}

/// Writes a line to standard output, of something that goes on whether anybody reads it or not.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error; when that is closed there is nobody to tell.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes to standard error what is no line of its own; when that is closed there is nobody to tell.
pub fn note(text: &str) {
    let _ = write!(std::io::stderr(), "{text}");
}

/// Whether standard output is a terminal.
#[must_use]
pub fn on_terminal() -> bool {
    std::io::stdout().is_terminal()
}
