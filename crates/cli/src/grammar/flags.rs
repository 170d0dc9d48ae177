//! One flag, and the tables they are written in.

/// What values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None, or `=true` and `=false`.
    Bool,
    /// Any text.
    Text,
    /// A signed number.
    Int,
    /// A number.
    Uint,
    /// A number with a point.
    Float,
    /// A span of time as Go writes it: `1m30s`.
    Duration,
    /// A size: `512m`, `1g`.
    Bytes,
    /// A number of CPUs: `0.5`.
    Cpus,
}

/// One flag of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// Its letter.
    pub letter: Option<char>,
    /// The word that help shows for its value; empty for switches.
    pub word: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Whether it may be given several times and all count; otherwise the last one does.
    pub many: bool,
    /// What it does.
    pub about: &'static str,
}

impl Flag {
    /// Reads a table: a line for each flag, `[-x] --name WORD[*] what it does`, where `WORD` is `bool` for a switch and `*`
    /// marks one that may be repeated. Lines that are not so are left out; a test reads every table.
    #[must_use]
    pub fn table(text: &'static str) -> Vec<Self> {
        text.lines().filter_map(Self::line).collect()
    }

    /// One line of a table.
    fn line(line: &'static str) -> Option<Self> {
        let mut words = line.trim();
        let mut letter = None;
        if let Some(after) = words.strip_prefix('-').filter(|w| !w.starts_with('-')) {
            letter = after.chars().next();
            words = after.get(1..)?.trim_start();
        }
        let (name, rest) = words.strip_prefix("--")?.split_once(' ')?;
        let (word, about) = rest.trim_start().split_once(' ')?;
        let many = word.ends_with('*');
        let word = word.trim_end_matches('*');
        let kind = match word {
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "uint" | "uint32" => Kind::Uint,
            "float" => Kind::Float,
            "duration" => Kind::Duration,
            "bytes" => Kind::Bytes,
            "decimal" => Kind::Cpus,
            _ => Kind::Text,
        };
        let word = if kind == Kind::Bool { "" } else { word };
        Some(Self { name, letter, word, kind, many, about: about.trim() })
    }

    /// How errors name it: `--replicas` or `-t, --timeout`.
    #[must_use]
    pub fn shown(&self) -> String {
        self.letter.map_or_else(|| format!("--{}", self.name), |l| format!("-{l}, --{}", self.name))
    }
}

/// All flags of a command, sorted by name.
#[must_use]
pub fn of(tables: &'static [&'static str]) -> Vec<Flag> {
    let mut all: Vec<Flag> = tables.iter().flat_map(|t| Flag::table(t)).collect();
    all.sort_by_key(|f| f.name);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let all = Flag::table("\n  -d --detach bool Do not wait\n  --env list* Set a variable\n");
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].letter, all[0].kind, all[0].word), (Some('d'), Kind::Bool, ""));
        assert_eq!((all[1].name, all[1].many, all[1].word, all[1].about), ("env", true, "list", "Set a variable"));
        assert_eq!(all[0].shown(), "-d, --detach");
    }

    #[test]
    fn every_table_of_the_tree_is_well_formed() {
        fn walk(commands: &'static [crate::grammar::Command]) {
            for c in commands {
                for table in c.flags {
                    let lines = table.lines().filter(|l| !l.trim().is_empty()).count();
                    assert_eq!(Flag::table(table).len(), lines, "{}: a line is no flag", c.name);
                }
                let all = of(c.flags);
                for pair in all.windows(2) {
                    assert_ne!(pair[0].name, pair[1].name, "{}", c.name);
                }
                let mut letters: Vec<char> = all.iter().filter_map(|f| f.letter).collect();
                letters.sort_unstable();
                assert!(letters.windows(2).all(|w| w[0] != w[1]), "{}: one letter twice: {letters:?}", c.name);
                if let crate::grammar::Body::Group(members) = c.body {
                    walk(members);
                }
            }
        }
        walk(crate::commands::TREE);
    }
}
