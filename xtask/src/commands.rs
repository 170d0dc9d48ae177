//! `cargo xtask commands`: the README's table of commands, from what the tests have typed with success since the file of that was
//! begun. Must never name a command that no test has typed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::test::{Profile, build};
use crate::workspace::Workspace;

/// What `cargo xtask` without a chore says.
pub(crate) const USAGE: &str =
    "  commands               write the README's table of commands, from what the last tests have typed; run all tests before
";

/// Between these lines of the README stands the table.
const BEGIN: &str = "<!-- commands: written by `cargo xtask commands` -->";
const END: &str = "<!-- end of commands -->";
/// What a group's member is called at the top.
const SHORT: [(&str, &str); 3] = [("container ls", "ps"), ("image ls", "images"), ("image rm", "rmi")];
/// Groups whose other members are also at the top, under the same word.
const AT_THE_TOP: [&str; 2] = ["container", "image"];

/// Writes the table.
///
/// # Errors
/// If the binary cannot be built, or no tests have run.
pub(crate) fn run() -> Result<ExitCode, String> {
    let workspace = Workspace::read()?;
    let binary = build(&workspace, "skep", Profile::Debug)?;
    let typed = workspace.target.join("typed");
    let text =
        std::fs::read_to_string(&typed).map_err(|e| format!("read {}: {e}: run `cargo xtask test` before", typed.display()))?;
    let known = all(&binary)?;
    let readme = workspace.root.join("README.md");
    let old = std::fs::read_to_string(&readme).map_err(|e| format!("read {}: {e}", readme.display()))?;
    let since = since(&old);
    let version = workspace.packages.first().and_then(|p| p["version"].as_str()).unwrap_or_default();
    let table = table(&seen(&text, &known), &since, version);
    let (before, rest) = old.split_once(BEGIN).ok_or("README.md has no place for the table of commands")?;
    let (_, after) = rest.split_once(END).ok_or("README.md: the table of commands has no end")?;
    std::fs::write(&readme, format!("{before}{BEGIN}\n{table}{END}{after}"))
        .map_err(|e| format!("write {}: {e}", readme.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The words that may follow some words.
fn words(binary: &Path, before: &[&str]) -> Result<Vec<String>, String> {
    let done = Command::new(binary).arg("__complete").args(before).arg("").output();
    let done = done.map_err(|e| format!("run {}: {e}", binary.display()))?;
    Ok(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect())
}

/// All commands.
fn all(binary: &Path) -> Result<BTreeSet<String>, String> {
    let mut all = BTreeSet::new();
    for first in words(binary, &[])? {
        let members = words(binary, &[&first])?;
        if members.is_empty() {
            all.insert(first);
        } else {
            all.extend(members.iter().map(|m| format!("{first} {m}")));
        }
    }
    Ok(all)
}

/// The one name that the table calls a command by.
fn canonical(command: &str, known: &BTreeSet<String>) -> String {
    if let Some((_, short)) = SHORT.iter().find(|(long, _)| *long == command) {
        return (*short).to_owned();
    }
    match command.split_once(' ') {
        Some((group, word)) if AT_THE_TOP.contains(&group) && known.contains(word) => word.to_owned(),
        _ => command.to_owned(),
    }
}

/// Who has typed each command with success.
fn seen(text: &str, known: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some((client, words)) = line.split_once(' ') else { continue };
        let words: Vec<&str> = words.split(' ').collect();
        let command = (1..=words.len().min(2)).rev().map(|n| words[..n].join(" ")).find(|c| known.contains(c));
        if let Some(command) = command {
            seen.entry(canonical(&command, known)).or_default().insert(client.to_owned());
        }
    }
    seen
}

/// Since when each command of an older table works.
fn since(readme: &str) -> BTreeMap<String, String> {
    let table = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(table, _)| table);
    let mut since = BTreeMap::new();
    for row in table.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if let [_, commands, _, version, ..] = cells[..] {
            let words: Vec<&str> = commands.trim_matches('`').split(' ').collect();
            let group = words.first().and_then(|w| w.strip_suffix(':'));
            let names = if group.is_some() { &words[1..] } else { &words[..] };
            for name in names {
                since.insert(group.map_or_else(|| (*name).to_owned(), |g| format!("{g} {name}")), version.to_owned());
            }
        }
    }
    since
}

/// A row for the commands of each group that the same clients have typed and that work since the same version.
fn table(seen: &BTreeMap<String, BTreeSet<String>>, since: &BTreeMap<String, String>, version: &str) -> String {
    let mut rows: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for (command, clients) in seen {
        let (group, word) = command.split_once(' ').map_or(("", command.as_str()), |(g, w)| (g, w));
        let clients = clients.iter().cloned().collect::<Vec<_>>().join(", ");
        let version = since.get(command).map_or(version, String::as_str);
        rows.entry((group.to_owned(), clients, version.to_owned())).or_default().push(word.to_owned());
    }
    let mut out = "| Command | Works, typed by | Since |\n|---|---|---|\n".to_owned();
    for ((group, clients, version), words) in rows {
        let group = if group.is_empty() { group } else { format!("{group}: ") };
        out += &format!("| `{group}{}` | {clients} | {version} |\n", words.join(" "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_becomes_rows_and_keeps_its_version() {
        let known: BTreeSet<String> =
            ["ps", "container ls", "run", "container run", "node ls", "node rm"].map(str::to_owned).into();
        let text =
            "docker node ls\nskep node ls -q\ndocker run alpine sh\nskep container ls\ndocker frobnicate\nskep node rm x\n";
        let first = table(&seen(text, &known), &BTreeMap::new(), "0.1.0");
        assert_eq!(
            first,
            "| Command | Works, typed by | Since |\n|---|---|---|\n| `run` | docker | 0.1.0 |\n| `ps` | skep | 0.1.0 |\n\
             | `node: ls` | docker, skep | 0.1.0 |\n| `node: rm` | skep | 0.1.0 |\n"
        );
        let old = since(&format!("x\n{BEGIN}\n{first}{END}\n"));
        let second = table(&seen(&format!("{text}skep node rm\ndocker ps\n"), &known), &old, "0.2.0");
        assert!(
            second.contains("| `node: rm` | skep | 0.1.0 |") && second.contains("| `ps` | docker, skep | 0.1.0 |"),
            "{second}"
        );
    }
}
