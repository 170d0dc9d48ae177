//! What `--help` shows, in the layout that users of Docker's client know, and examples below it.

use super::{Body, Command, flags};

/// Width that help is made for.
const WIDTH: usize = 80;

/// Breaks a text into lines of a width, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The lines that tell of flags.
#[must_use]
pub fn options(tables: &'static [&'static str]) -> String {
    let all = flags::of(tables);
    let left: Vec<String> = all
        .iter()
        .map(|f| {
            let letter = f.letter.map_or_else(|| "    ".to_owned(), |l| format!("-{l}, "));
            let word = if f.word.is_empty() { String::new() } else { format!(" {}", f.word) };
            format!("  {letter}--{}{word}", f.name)
        })
        .collect();
    let indent = left.iter().map(|l| l.chars().count()).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (flag, left) in all.iter().zip(&left) {
        for (i, line) in wrap(flag.about, WIDTH.saturating_sub(indent).max(24)).iter().enumerate() {
            let start = if i == 0 { left.as_str() } else { "" };
            out += format!("{start:<indent$}{line}").trim_end();
            out.push('\n');
        }
    }
    out
}

fn members(title: &str, commands: &[&Command]) -> String {
    let width = commands.iter().map(|c| c.name.len()).max().unwrap_or(0).max(11);
    let mut out = format!("\n{title}:\n");
    for c in commands {
        out += &format!("  {:<width$} {}\n", c.name, c.about);
    }
    out
}

fn examples(program: &str, lines: &[&str]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    lines.iter().fold("\nExamples:\n".to_owned(), |out, line| out + &format!("  {program} {line}\n"))
}

/// Usage line of a command.
#[must_use]
pub fn usage(program: &str, command: &Command, path: &str) -> String {
    format!("{program} {path} {}", command.usage).trim_end().to_owned()
}

/// Help of a command or a group.
#[must_use]
pub fn command(program: &str, command: &Command, path: &str) -> String {
    let mut out = format!("Usage:  {}\n\n{}\n", usage(program, command, path), command.about);
    if !command.aliases.is_empty() {
        let parent = path.rsplit_once(' ').map_or(String::new(), |(p, _)| format!("{p} "));
        let all: Vec<String> =
            std::iter::once(&command.name).chain(command.aliases).map(|a| format!("{program} {parent}{a}")).collect();
        out += &format!("\nAliases:\n  {}\n", all.join(", "));
    }
    if let Body::Group(all) = command.body {
        let mut sorted: Vec<&Command> = all.iter().collect();
        sorted.sort_by_key(|c| c.name);
        out += &members("Commands", &sorted);
    }
    if !command.flags.is_empty() {
        out += &format!("\nOptions:\n{}", options(command.flags));
    }
    out += &examples(program, command.examples);
    if matches!(command.body, Body::Group(_)) {
        out += &format!("\nRun '{program} {path} COMMAND --help' for more information on a command.\n");
    }
    out
}

/// Help of the program.
#[must_use]
pub fn program(program: &str, about: &str, tree: &'static [Command], globals: &'static [&'static str]) -> String {
    const COMMON: &[&str] = &["run", "exec", "ps", "pull", "push", "images", "version", "info"];
    const SWARM: &[&str] = &["config", "node", "secret", "service", "stack", "swarm", "why"];
    let pick = |fits: &dyn Fn(&Command) -> bool| {
        let mut found: Vec<&Command> = tree.iter().filter(|c| fits(c)).collect();
        found.sort_by_key(|c| c.name);
        found
    };
    let mut common = pick(&|c| COMMON.contains(&c.name));
    common.sort_by_key(|c| COMMON.iter().position(|n| *n == c.name));
    let group = |c: &Command| matches!(c.body, Body::Group(_));
    let host = |c: &Command| matches!(c.body, Body::Elsewhere);
    let rest = |c: &Command| !COMMON.contains(&c.name) && !SWARM.contains(&c.name) && !group(c) && !host(c);
    let mut out = format!("Usage:  {program} [OPTIONS] COMMAND\n\n{about}\n");
    out += &members("Common Commands", &common);
    out += &members("Management Commands", &pick(&|c| group(c) && !SWARM.contains(&c.name)));
    out += &members("Swarm Commands", &pick(&|c| SWARM.contains(&c.name)));
    out += &members("Commands", &pick(&rest));
    let hosts = pick(&host);
    if !hosts.is_empty() {
        out += &members("Host Commands", &hosts);
    }
    out += &format!("\nGlobal Options:\n{}", options(globals));
    out += &format!("\nRun '{program} COMMAND --help' for more information on a command.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibilities x", 5), ["incomprehensibilities", "x"]);
    }

    #[test]
    fn options_stand_in_columns() {
        const T: &str = "-f --filter filter* Which to show
            --no-trunc bool Whole ids";
        assert_eq!(options(&[T]), "  -f, --filter filter   Which to show\n      --no-trunc        Whole ids\n");
    }
}
