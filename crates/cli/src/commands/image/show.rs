//! Progress of pulls, pushes and loads: a line for each layer, drawn again in place on a terminal; elsewhere only what is said once.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::app::Failure;
use crate::client::Stream;

/// Most lines that are drawn in place; images have some tens of layers.
const MAX_LINES: usize = 500;

/// Where progress is shown.
struct Board {
    errors: bool,
    moving: bool,
    quiet: bool,
    ids: Vec<String>,
}

impl Board {
    fn write(&self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        if self.errors {
            // Nobody to tell when standard error is gone.
            let _ = std::io::stderr().write_all(text.as_bytes());
            return Ok(());
        }
        crate::output::print(text)
    }

    fn line(&mut self, id: &str, text: &str, again: bool) -> Result<(), Failure> {
        if id.is_empty() || !self.moving {
            self.ids.clear();
            return if again && !self.moving { Ok(()) } else { self.write(&format!("{text}\n")) };
        }
        match self.ids.iter().position(|i| i == id) {
            Some(at) => {
                let up = self.ids.len() - at;
                self.write(&format!("\x1b[{up}A\x1b[2K{text}\x1b[{up}B\r"))
            }
            None => {
                if self.ids.len() < MAX_LINES {
                    self.ids.push(id.to_owned());
                }
                self.write(&format!("{text}\n"))
            }
        }
    }
}

/// Shows a stream of progress until it ends; `errors` for standard error.
///
/// # Errors
/// What the stream says went wrong, or a broken connection.
pub(super) async fn show(mut stream: Stream, errors: bool, quiet: bool) -> Result<(), Failure> {
    let moving = if errors { std::io::stderr().is_terminal() } else { crate::output::on_terminal() };
    let mut board = Board { errors, moving, quiet, ids: Vec::new() };
    while let Some(message) = stream.json().await? {
        if let Some(text) = message["error"].as_str().or_else(|| message["errorDetail"]["message"].as_str()) {
            return Err(Failure::new(text));
        }
        if let Some(text) = message["stream"].as_str() {
            board.write(text)?;
            continue;
        }
        let text = |k: &str| message[k].as_str().unwrap_or_default();
        let Some(status) = message["status"].as_str() else { continue };
        let id = text("id");
        let progress = bar(&message);
        let head = if id.is_empty() { status.to_owned() } else { format!("{id}: {status}") };
        board.line(id, format!("{head} {progress}").trim_end(), !progress.is_empty())?;
    }
    Ok(())
}

/// `[=====>     ]  1.2MB/3.4MB`.
fn bar(message: &Value) -> String {
    let detail = &message["progressDetail"];
    let (Some(current), total) = (detail["current"].as_i64(), detail["total"].as_i64().unwrap_or(0)) else {
        return String::new();
    };
    if total <= 0 || current > total {
        return crate::output::human::size(current);
    }
    let full = usize::try_from(current * 50 / total).unwrap_or(0).min(50);
    let sizes = format!("{}/{}", crate::output::human::size(current), crate::output::human::size(total));
    format!("[{}>{}]  {sizes}", "=".repeat(full), " ".repeat(50 - full))
}
