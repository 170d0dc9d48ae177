//! Which commands the tests have typed with success: what the README's table of commands is made from (`cargo xtask commands`).

use std::io::Write;
use std::process::Command;

/// Names the file that commands are noted in; without it nothing is noted.
const FILE: &str = "SKEP_TYPED";
/// Words of a command that tell which one it is; what follows are its arguments.
const WORDS: usize = 3;

/// Notes a client's command that has succeeded.
pub fn note(command: &Command) {
    let name = command.get_program().to_string_lossy();
    let client = name.rsplit('/').next().unwrap_or_default();
    let words = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>();
    note_words(client, &words);
}

/// The same by the client's name.
pub fn note_words(client: &str, words: &[String]) {
    let Some(path) = std::env::var_os(FILE).filter(|_| matches!(client, "docker" | "skep")) else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).take(WORDS).take_while(|w| !w.starts_with('-')).collect();
    let line = format!("{client} {}\n", words.join(" ").replace('\n', " "));
    // One write for a line: tests run side by side. A line that is missing is noticed in the table.
    let _ = std::fs::File::options().create(true).append(true).open(path).and_then(|mut f| f.write_all(line.as_bytes()));
}
