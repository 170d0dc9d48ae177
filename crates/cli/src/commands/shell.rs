//! `completion` and `man`: what shells and readers of manuals get, from the tables of the commands.

use std::path::Path;

use crate::app::{App, Failure};
use crate::grammar::complete::{man, script};
use crate::grammar::{Arity, Body, Command, Matches};
use crate::output::print;

/// `completion`.
pub(super) const COMPLETION: Command = Command::new(
    "completion",
    "(bash|zsh|fish)",
    "Generate the completion script for a shell",
    Arity::Exactly(1),
    &[],
    |a, m| Box::pin(completion(a, m)),
)
.shown(&["completion bash > /etc/bash_completion.d/skep"]);
/// `man`.
pub(super) const MAN: Command =
    Command::new("man", "DIRECTORY", "Write a man page for each command", Arity::Exactly(1), &[], |a, m| Box::pin(pages(a, m)))
        .shown(&["man /usr/local/share/man/man1"]);

async fn completion(app: &App, m: &Matches) -> Result<u8, Failure> {
    let text = script(&app.program, m.arg(0))
        .ok_or_else(|| Failure::new(format!("no completions for {:?}: bash, zsh and fish are known", m.arg(0))))?;
    print(&text)?;
    Ok(0)
}

fn write(app: &App, dir: &Path, commands: &'static [Command], before: &str) -> Result<(), Failure> {
    for command in commands {
        let path = format!("{before}{}", command.name);
        let file = dir.join(format!("{}-{}.1", app.program, path.replace(' ', "-")));
        std::fs::write(&file, man(&app.program, command, &path))
            .map_err(|e| Failure::new(format!("write {}: {e}", file.display())))?;
        if let Body::Group(members) = command.body {
            write(app, dir, members, &format!("{path} "))?;
        }
    }
    Ok(())
}

async fn pages(app: &App, m: &Matches) -> Result<u8, Failure> {
    let dir = Path::new(m.arg(0));
    std::fs::create_dir_all(dir).map_err(|e| Failure::new(format!("create {}: {e}", dir.display())))?;
    write(app, dir, super::TREE, "")?;
    Ok(0)
}
