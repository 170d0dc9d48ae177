//! Places in files, and what is told about them.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Where something stands: file, line and column, both from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, beginning with the path of the key (`services.web.deploy.replicas …`) where there is one.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// All that is wrong, in the order of the files' lines; at least one and at most [`limits::FAULTS`]. Displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The first ones.
    pub list: Vec<Fault>,
    /// How many more there were.
    pub more: usize,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.list.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        if self.more > 0 {
            write!(f, "\n({} more)", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// What kind of notice a key deserves (`swarm-semantics` 9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// Docker lists it after `Ignoring unsupported options:`.
    Unsupported,
    /// Docker lists it after `Ignoring deprecated options:`.
    Deprecated,
    /// Docker says nothing, or does not know the key.
    Note,
}

/// A key that a swarm does not act on, or not as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Where the key stands.
    pub place: Place,
    /// Which list it belongs to.
    pub kind: WarningKind,
    /// The key's own name: `build`.
    pub key: String,
    /// Its path: `services.web.build`.
    pub path: String,
    /// Why, and what to do.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.path, self.text)
    }
}

/// Text of a file, fit for a line of a terminal: keys and values may hold line breaks and worse.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Collects what is wrong, so that all of it is told at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    faults: Vec<Fault>,
    more: usize,
    warnings: Vec<Warning>,
}

impl Report {
    pub(crate) fn fault(&mut self, place: &Place, text: impl Into<String>) {
        let fault = Fault { place: place.clone(), text: one_line(&text.into()) };
        if self.faults.contains(&fault) {
            return;
        }
        if self.faults.len() < limits::FAULTS {
            self.faults.push(fault);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(crate) fn warn(&mut self, mut warning: Warning) {
        warning.path = one_line(&warning.path);
        warning.text = one_line(&warning.text);
        if self.warnings.len() < limits::WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes over what another report has, but for faults at places that have one already.
    pub(crate) fn add(&mut self, other: Self) {
        let known: Vec<Place> = self.faults.iter().map(|f| f.place.clone()).collect();
        for fault in other.faults.into_iter().filter(|f| !known.contains(&f.place)) {
            self.fault(&fault.place, fault.text);
        }
        self.more = self.more.saturating_add(other.more);
        other.warnings.into_iter().for_each(|w| self.warn(w));
    }

    pub(crate) fn failed(&self) -> bool {
        !self.faults.is_empty()
    }

    /// How many faults there are so far; a step that added none has worked.
    pub(crate) fn count(&self) -> usize {
        self.faults.len() + self.more
    }

    /// The warnings in order, or all that is wrong.
    pub(crate) fn finish(mut self) -> Result<Vec<Warning>, Faults> {
        if self.faults.is_empty() {
            self.warnings.sort();
            return Ok(self.warnings);
        }
        self.faults.sort();
        Err(Faults { list: self.faults, more: self.more })
    }
}
