//! Words become [`Matches`], by the rules of Go's clients: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-it`,
//! switches with `=false`, `--` ends the flags, the last of several counts. Errors carry the texts that users know.

use std::collections::BTreeMap;

use super::flags::{Flag, Kind};
use super::{Arity, Command, values};

/// What was typed for a command.
#[derive(Debug, Clone, Default)]
pub struct Matches {
    /// The command's words: `service create`.
    pub path: String,
    flags: Vec<Flag>,
    given: BTreeMap<&'static str, Vec<String>>,
    args: Vec<String>,
}

/// What words may be instead of a command to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// `--help` was asked for.
    Help,
    /// A flag is wrong; exit code 125.
    Flag(String),
    /// A flag is not known; its name, for suggestions.
    UnknownFlag(String, String),
    /// The number of arguments is wrong: what the command requires; exit code 1.
    Arity(String),
}

impl Matches {
    /// Whether a flag was given at all.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.known(name);
        self.given.contains_key(name)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn on(&self, name: &str) -> bool {
        self.switch(name).unwrap_or(false)
    }

    /// A switch, if it was given.
    #[must_use]
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).and_then(|v| values::truth(v).ok())
    }

    /// A flag's last value.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.known(name);
        self.given.get(name).and_then(|v| v.last()).map(String::as_str)
    }

    /// A flag's last value, or the empty text.
    #[must_use]
    pub fn text_or_empty(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// All values of a flag that may be repeated.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        self.known(name);
        self.given.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A number, already checked.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|v| v.parse().ok())
    }

    /// A number, already checked.
    #[must_use]
    pub fn uint(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|v| v.parse().ok())
    }

    /// A number with a point, already checked.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f64> {
        self.text(name).and_then(|v| v.parse().ok())
    }

    /// A span of time in nanoseconds, already checked.
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|v| values::duration(v).ok())
    }

    /// A size in bytes, already checked.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|v| values::bytes(v).ok())
    }

    /// CPUs in billionths, already checked.
    #[must_use]
    pub fn nano_cpus(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|v| values::nano_cpus(v).ok())
    }

    /// The arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// An argument, or the empty text.
    #[must_use]
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// The names of all flags that were given.
    pub fn all_given(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.given.keys().copied()
    }

    /// Whether the command has such a flag. Commands that share code differ in their flags.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|f| f.name == name)
    }

    /// A name that the command's table lacks is a mistake of ours: tests find it.
    fn known(&self, name: &str) {
        debug_assert!(self.has(name), "{} has no flag --{name}", self.path);
    }
}

/// Reads what follows a command's word.
///
/// # Errors
/// [`Stop`].
pub fn read(command: &Command, path: &str, words: &[String]) -> Result<Matches, Stop> {
    let mut reader = Reader {
        made: Matches { path: path.to_owned(), flags: super::flags::of(command.flags), ..Matches::default() },
        words,
        next: 0,
    };
    reader.run(command.rest)?;
    arity(command.arity, reader.made.args.len())?;
    Ok(reader.made)
}

/// Reads flags up to the first word that is none, and how many words that took: for what stands before the command.
///
/// # Errors
/// [`Stop`].
pub fn leading(tables: &'static [&'static str], words: &[String]) -> Result<(Matches, usize), Stop> {
    let made = Matches { flags: super::flags::of(tables), ..Matches::default() };
    let mut reader = Reader { made, words, next: 0 };
    reader.run(true)?;
    let rest = reader.made.args.len();
    Ok((reader.made, words.len() - rest))
}

struct Reader<'a> {
    made: Matches,
    words: &'a [String],
    next: usize,
}

impl Reader<'_> {
    fn run(&mut self, rest: bool) -> Result<(), Stop> {
        while let Some(word) = self.words.get(self.next) {
            self.next += 1;
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                self.long(long)?;
            } else if word.len() > 1 && word.starts_with('-') {
                self.letters(&word[1..])?;
            } else {
                self.made.args.push(word.clone());
                if rest {
                    break;
                }
            }
        }
        self.made.args.extend(self.words[self.next.min(self.words.len())..].iter().cloned());
        Ok(())
    }

    fn long(&mut self, text: &str) -> Result<(), Stop> {
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
        if name.is_empty() || name.starts_with('-') {
            return Err(Stop::Flag(format!("bad flag syntax: --{text}")));
        }
        let Some(flag) = self.made.flags.iter().find(|f| f.name == name).cloned() else {
            return Err(if name == "help" {
                Stop::Help
            } else {
                Stop::UnknownFlag(format!("unknown flag: --{name}"), name.to_owned())
            });
        };
        match value {
            Some(value) => self.set(&flag, value),
            None if flag.kind == Kind::Bool => self.set(&flag, "true"),
            None => {
                let value = self.take().ok_or_else(|| Stop::Flag(format!("flag needs an argument: --{name}")))?;
                self.set(&flag, &value)
            }
        }
    }

    fn letters(&mut self, text: &str) -> Result<(), Stop> {
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let Some(flag) = self.made.flags.iter().find(|f| f.letter == Some(letter)).cloned() else {
                return Err(if letter == 'h' {
                    Stop::Help
                } else {
                    Stop::Flag(format!("unknown shorthand flag: '{letter}' in -{text}"))
                });
            };
            if flag.kind == Kind::Bool {
                match rest.strip_prefix('=') {
                    Some(value) => return self.set(&flag, value),
                    None => self.set(&flag, "true")?,
                }
                continue;
            }
            let value = if rest.is_empty() {
                self.take().ok_or_else(|| Stop::Flag(format!("flag needs an argument: '{letter}' in -{text}")))?
            } else {
                rest.strip_prefix('=').unwrap_or(rest).to_owned()
            };
            return self.set(&flag, &value);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<String> {
        let value = self.words.get(self.next).cloned();
        self.next += 1;
        value
    }

    fn set(&mut self, flag: &Flag, value: &str) -> Result<(), Stop> {
        values::check(flag.kind, value)
            .map_err(|why| Stop::Flag(format!("invalid argument {value:?} for \"{}\" flag: {why}", flag.shown())))?;
        let values = self.made.given.entry(flag.name).or_default();
        if !flag.many {
            values.clear();
        }
        values.push(value.to_owned());
        Ok(())
    }
}

fn plural(n: usize) -> String {
    format!("{n} argument{}", if n == 1 { "" } else { "s" })
}

fn arity(wanted: Arity, have: usize) -> Result<(), Stop> {
    let why = match wanted {
        Arity::None if have > 0 => "accepts no arguments".to_owned(),
        Arity::Exactly(n) if have != n => format!("requires {}", plural(n)),
        Arity::AtLeast(n) if have < n => format!("requires at least {}", plural(n)),
        Arity::AtMost(n) if have > n => format!("requires at most {}", plural(n)),
        Arity::Between(a, b) if have < a || have > b => format!("requires at least {a} and at most {}", plural(b)),
        _ => return Ok(()),
    };
    Err(Stop::Arity(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Body;

    const FLAGS: &str = "
        -d --detach bool Do not wait
        -i --interactive bool Keep input
        -t --tty bool Terminal
        -e --env list* Variable
        --name string Name
        --replicas uint Number";
    const RUN: Command = Command {
        name: "run",
        aliases: &[],
        usage: "",
        about: "",
        arity: Arity::AtLeast(1),
        flags: &[FLAGS],
        rest: true,
        examples: &[],
        body: Body::Elsewhere,
    };

    fn try_run(words: &str) -> Result<Matches, Stop> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        read(&RUN, "run", &words)
    }

    #[test]
    fn flags_are_read_as_users_type_them() {
        let m = try_run("-itd -eA=1 -e B=2 --env=C= --name a --name=b img -it --help").unwrap();
        assert!(m.on("interactive") && m.on("tty") && m.on("detach"));
        assert_eq!(m.list("env"), ["A=1", "B=2", "C="]);
        assert_eq!(m.text("name"), Some("b"));
        assert_eq!(m.args(), ["img", "-it", "--help"]);
        assert!(!try_run("--tty=false img").unwrap().on("tty"));
        assert_eq!(try_run("img -- a").unwrap().args(), ["img", "--", "a"]);
        assert_eq!(try_run("-- --name").unwrap().args(), ["--name"]);
        assert_eq!(try_run("-e --name img").unwrap().list("env"), ["--name"]);
    }

    #[test]
    fn mistakes_have_the_known_texts() {
        let flag = |w: &str| match try_run(w).unwrap_err() {
            Stop::Flag(text) | Stop::UnknownFlag(text, _) | Stop::Arity(text) => text,
            Stop::Help => "help".to_owned(),
        };
        assert_eq!(flag("--foo img"), "unknown flag: --foo");
        assert_eq!(flag("-x img"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(flag("--name"), "flag needs an argument: --name");
        assert_eq!(flag("-te"), "flag needs an argument: 'e' in -te");
        assert_eq!(
            flag("--replicas x img"),
            "invalid argument \"x\" for \"--replicas\" flag: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            flag("-t=x img"),
            "invalid argument \"x\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
        assert_eq!(flag("-d"), "requires at least 1 argument");
        assert_eq!(flag("--help"), "help");
        assert_eq!(flag("--=x"), "bad flag syntax: --=x");
    }

    #[test]
    fn what_stands_before_the_command_is_read_alone() {
        let words: Vec<String> = ["--name", "a", "run", "-t"].map(str::to_owned).to_vec();
        let (m, used) = leading(&[FLAGS], &words).unwrap();
        assert_eq!((m.text("name"), used), (Some("a"), 2));
    }
}
