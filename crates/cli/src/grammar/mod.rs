//! The grammar of the command line: what a command is, told as data. The tree itself is in [`crate::commands`].
//!
//! Reading, help, completions and man pages all come from the same tables. Flags follow the rules that users of Go's clients
//! type by (`--x=false`, `-it`, everything after an image belongs to the container), with the texts and exit codes they
//! know; a general argument parser has other rules. Must never run anything or ask a daemon.

pub mod complete;
pub mod flags;
pub mod help;
pub mod read;
pub mod suggest;
pub mod values;

use std::future::Future;
use std::pin::Pin;

use crate::app::{App, Failure};
pub use read::Matches;

/// What a command does, while it does it; the number is the exit code.
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<u8, Failure>> + 'a>>;
/// A command's work.
pub type Work = for<'a> fn(&'a App, &'a Matches) -> Doing<'a>;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// None.
    None,
    /// Exactly so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// None up to so many.
    AtMost(usize),
    /// From so many to so many.
    Between(usize, usize),
    /// Any number.
    Any,
}

/// What stands behind a word.
#[derive(Clone, Copy)]
pub enum Body {
    /// More words.
    Group(&'static [Command]),
    /// Work to do.
    Run(Work),
    /// A part of the binary that reads its arguments itself (`daemon`, `playground`); only help and completions know it here.
    Elsewhere,
}

/// A word of the command line.
#[derive(Clone, Copy)]
pub struct Command {
    /// The word.
    pub name: &'static str,
    /// Other words for the same.
    pub aliases: &'static [&'static str],
    /// What follows the word in the usage line.
    pub usage: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Its arguments.
    pub arity: Arity,
    /// Its flags: tables as [`flags::Flag::table`] reads them.
    pub flags: &'static [&'static str],
    /// Whether the first argument ends the flags, as the rest belongs to a container.
    pub rest: bool,
    /// Lines that show its use, without the program's name.
    pub examples: &'static [&'static str],
    /// What stands behind it.
    pub body: Body,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Command {
    /// A command that does something.
    #[must_use]
    pub const fn new(
        name: &'static str,
        usage: &'static str,
        about: &'static str,
        arity: Arity,
        flags: &'static [&'static str],
        work: Work,
    ) -> Self {
        Self { name, aliases: &[], usage, about, arity, flags, rest: false, examples: &[], body: Body::Run(work) }
    }

    /// A group of commands.
    #[must_use]
    pub const fn group(name: &'static str, about: &'static str, members: &'static [Command]) -> Self {
        let body = Body::Group(members);
        Self { name, aliases: &[], usage: "COMMAND", about, arity: Arity::Any, flags: &[], rest: false, examples: &[], body }
    }

    /// A part of the binary with a reader of its own.
    #[must_use]
    pub const fn elsewhere(name: &'static str, about: &'static str) -> Self {
        let body = Body::Elsewhere;
        Self { name, aliases: &[], usage: "[OPTIONS]", about, arity: Arity::Any, flags: &[], rest: false, examples: &[], body }
    }

    /// Under another word.
    #[must_use]
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self.aliases = &[];
        self
    }

    /// With other words for the same.
    #[must_use]
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With lines that show its use.
    #[must_use]
    pub const fn shown(mut self, examples: &'static [&'static str]) -> Self {
        self.examples = examples;
        self
    }

    /// With flags before its first argument only.
    #[must_use]
    pub const fn before_rest(mut self) -> Self {
        self.rest = true;
        self
    }

    /// Whether a word means this command.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }
}

/// The command that words lead to, with its path (`service create`) and how many words that took; `None` for a word that
/// nothing stands behind.
#[must_use]
pub fn find(tree: &'static [Command], words: &[String]) -> Option<(&'static Command, String, usize)> {
    let (first, rest) = words.split_first()?;
    let command = tree.iter().find(|c| c.is(first))?;
    if let (Body::Group(members), Some(next)) = (command.body, rest.first())
        && !next.starts_with('-')
    {
        let (inner, path, used) = find(members, rest)?;
        return Some((inner, format!("{} {path}", command.name), used + 1));
    }
    Some((command, command.name.to_owned(), 1))
}
