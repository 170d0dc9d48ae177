//! Rows on a screen: drawn again in place on a terminal; elsewhere a row is printed when it has changed.

use crate::app::Failure;
use crate::output::{on_terminal, print};
use crate::terminal;

/// Where rows are shown.
#[derive(Debug)]
pub struct Screen {
    quiet: bool,
    moving: bool,
    shown: Vec<String>,
    /// Widest row that the terminal holds; longer ones would break the redrawing.
    width: usize,
}

impl Screen {
    /// Standard output; nothing at all if `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let moving = on_terminal();
        let width = if moving { terminal::size().map_or(80, |(_, w)| usize::from(w)) } else { 0 };
        Self { quiet, moving, shown: Vec::new(), width }
    }

    /// Columns that rows may fill; 0 where there is no terminal.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Shows rows in place of those that were shown before.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn rows(&mut self, rows: &[String]) -> Result<(), Failure> {
        if self.quiet || rows == self.shown {
            return Ok(());
        }
        let mut out = String::new();
        if self.moving {
            if !self.shown.is_empty() {
                out += &format!("\x1b[{}A", self.shown.len());
            }
            for row in rows {
                let cut: String = row.chars().take(self.width.saturating_sub(1).max(20)).collect();
                out += &format!("\x1b[2K{cut}\n");
            }
            // Rows that are no more.
            out += "\x1b[J";
        } else {
            for (i, row) in rows.iter().enumerate() {
                if self.shown.get(i) != Some(row) {
                    out += &format!("{row}\n");
                }
            }
        }
        self.shown = rows.to_vec();
        print(&out)
    }

    /// Ends the rows: what is printed next stands below them.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn end(&mut self) -> Result<(), Failure> {
        self.shown.clear();
        Ok(())
    }
}
