//! Completions for shells, and man pages, from the tables of the commands.
//!
//! A shell's script asks the program itself (`skep __complete WORDS…`), so it never grows old; the words come from the tables alone
//! and no daemon is asked.

use super::{Body, Command, find, flags, help};

/// What may stand where the last word is begun: commands, or flags after a dash.
#[must_use]
pub fn words(tree: &'static [Command], globals: &'static [&'static str], typed: &[String]) -> Vec<String> {
    let (before, last) = match typed.split_last() {
        Some((last, before)) => (before, last.as_str()),
        None => (typed, ""),
    };
    let place = find(tree, before);
    let mut out: Vec<String> = match (last.starts_with('-'), place) {
        (true, Some((command, ..))) => flags::of(command.flags).iter().map(|f| format!("--{}", f.name)).collect(),
        (true, None) => flags::of(globals).iter().map(|f| format!("--{}", f.name)).collect(),
        (false, Some((Command { body: Body::Group(members), .. }, ..))) => members.iter().map(|c| c.name.to_owned()).collect(),
        (false, None) if before.is_empty() => tree.iter().map(|c| c.name.to_owned()).collect(),
        _ => Vec::new(),
    };
    out.retain(|w| w.starts_with(last));
    out.sort();
    out
}

/// A shell's script; `None` for a shell that is not known.
#[must_use]
pub fn script(program: &str, shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(format!(
            "_{program}() {{\n    local IFS=$'\\n'\n    COMPREPLY=($({program} __complete \"${{COMP_WORDS[@]:1:$COMP_CWORD}}\" 2>/dev/null))\n}}\n\
             complete -o default -F _{program} {program}\n"
        )),
        "zsh" => Some(format!(
            "#compdef {program}\n_{program}() {{\n    local -a all\n    all=(${{(f)\"$({program} __complete \"${{(@)words[2,$CURRENT]}}\" 2>/dev/null)\"}})\n    \
             if (( $#all )); then compadd -a all; else _files; fi\n}}\ncompdef _{program} {program}\n"
        )),
        "fish" => Some(format!(
            "function __{program}_words\n    set -l typed (commandline -opc) (commandline -ct)\n    set -l words ({program} __complete $typed[2..-1] 2>/dev/null)\n    \
             if set -q words[1]\n        string join \\n -- $words\n    else\n        __fish_complete_path (commandline -ct)\n    end\nend\n\
             complete -c {program} -f -a '(__{program}_words)'\n"
        )),
        _ => None,
    }
}

/// Text for a man page: no line is taken for a command of the formatter, and dashes and backslashes stay themselves.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |l: &str| if l.starts_with(['.', '\'']) { format!("\\&{l}\n") } else { format!("{l}\n") };
    escaped.lines().map(line).collect()
}

/// A command's man page.
#[must_use]
pub fn man(program: &str, command: &Command, path: &str) -> String {
    let title = format!("{program}-{}", path.replace(' ', "-"));
    let mut out = format!(".TH {} 1\n.SH NAME\n{}", title.to_uppercase(), roff(&format!("{title} - {}", command.about)));
    out += &format!(".SH SYNOPSIS\n{}", roff(&help::usage(program, command, path)));
    let all = flags::of(command.flags);
    if !all.is_empty() {
        out += ".SH OPTIONS\n";
        for f in &all {
            out += &format!(".TP\n{}{}", roff(format!("{} {}", f.shown(), f.word).trim()), roff(f.about));
        }
    }
    if !command.examples.is_empty() {
        out += ".SH EXAMPLES\n.nf\n";
        out += &command.examples.iter().map(|e| roff(&format!("{program} {e}"))).collect::<String>();
        out += ".fi\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(typed: &[&str]) -> Vec<String> {
        let typed: Vec<String> = typed.iter().map(|s| (*s).to_owned()).collect();
        words(crate::commands::TREE, &[crate::app::GLOBALS], &typed)
    }

    #[test]
    fn words_come_from_the_tables() {
        assert_eq!(of(&["swa"]), ["swarm"]);
        assert_eq!(of(&["node", "p"]), ["promote", "ps"]);
        assert_eq!(of(&["node", "ls", "--q"]), ["--quiet"]);
        assert!(of(&["--tlsv"]).contains(&"--tlsverify".to_owned()));
        assert!(of(&["nothing", "x"]).is_empty());
    }

    #[test]
    fn scripts_and_pages() {
        for shell in ["bash", "zsh", "fish"] {
            assert!(script("skep", shell).unwrap().contains("skep __complete"), "{shell}");
        }
        assert!(script("skep", "sh").is_none());
        let words = ["node".to_owned(), "update".to_owned()];
        let (command, path, _) = find(crate::commands::TREE, &words).unwrap();
        let page = man("skep", command, &path);
        assert!(page.starts_with(".TH SKEP-NODE-UPDATE 1\n") && page.contains("\\-\\-availability"), "{page}");
    }
}
