//! The user's terminal: its size, raw input, a question whose answer is not shown. Whatever is changed is put back when it is
//! dropped.

use std::io::{BufRead, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Longest answer to a question: keys are some 60 characters.
const MAX_ANSWER: u64 = 4096;

/// Rows and columns of the terminal on standard output.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Standard input with its modes changed, until it is dropped.
#[derive(Debug)]
pub struct Changed {
    before: Termios,
}

impl Changed {
    /// Every key comes at once and as it is, signals' keys too.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn raw() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }

    /// Keys are not shown.
    fn hidden() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to put back.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Asks for a line.
///
/// # Errors
/// When the terminal cannot be used.
pub fn ask(question: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| format!("ask on the terminal: {e}");
    let mut out = std::io::stdout();
    write!(out, "{question}").and_then(|()| out.flush()).map_err(fail)?;
    let mut line = String::new();
    std::io::Read::take(std::io::stdin().lock(), MAX_ANSWER).read_line(&mut line).map_err(fail)?;
    Ok(line.trim().to_owned())
}

/// Asks for something that must not be seen.
///
/// # Errors
/// When the terminal cannot be used.
pub fn ask_hidden(question: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| format!("ask on the terminal: {e}");
    let hidden = Changed::hidden().map_err(fail)?;
    let typed = ask(question);
    drop(hidden);
    crate::output::say(format_args!(""));
    typed
}

/// Asks before something is done that cannot be undone, unless the user has said `--force`; whether it shall be done.
///
/// # Errors
/// When the terminal cannot be used.
pub fn confirm(force: bool, warning: &str) -> Result<bool, crate::app::Failure> {
    use crate::app::Failure;
    if force {
        return Ok(true);
    }
    let fail = |e: std::io::Error| Failure::new(format!("ask on the terminal: {e}"));
    crate::output::print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut line = String::new();
    std::io::Read::take(std::io::stdin().lock(), MAX_ANSWER).read_line(&mut line).map_err(fail)?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}
