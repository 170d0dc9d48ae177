//! The tree of commands. Each room below holds one group; the words at the top (`ps`, `run`) are members of groups under a
//! shorter name.

pub mod container;
mod context;
mod doctor;
mod each;
pub mod files;
pub mod image;
pub mod inspect;
mod login;
pub mod network;
pub mod node;
mod prune;
pub mod service;
mod shell;
pub mod stack;
pub mod swarm;
pub mod system;
pub mod tasks;
pub mod volume;
mod why;

use crate::grammar::Command;

/// Flags that many commands share.
pub(crate) const FORMAT: &str =
    "--format string How to show it: 'table', 'table TEMPLATE', 'json', or a Go template for each row";
pub(crate) const FILTER: &str = "-f --filter filter* Show only what fits, such as name=web";
pub(crate) const INSPECT_FORMAT: &str = "-f --format string How to show it: 'json', or a Go template";

/// All commands.
pub static TREE: &[Command] = &[
    container::RUN,
    container::CREATE,
    container::START_CMD,
    container::STOP_CMD,
    container::RESTART,
    container::KILL_CMD,
    container::RM_CMD.named("rm"),
    container::LS_CMD.named("ps"),
    container::LOGS_CMD,
    container::EXEC_CMD,
    container::ATTACH_CMD,
    container::WAIT,
    container::RENAME,
    container::PAUSE,
    container::UNPAUSE,
    container::PORT,
    container::TOP,
    container::STATS_CMD,
    container::UPDATE_CMD,
    container::CP_CMD,
    container::DIFF,
    container::EXPORT_CMD,
    container::COMMIT_CMD,
    container::GROUP,
    image::LS_CMD.named("images"),
    image::PULL_CMD,
    image::PUSH,
    image::LOAD_CMD,
    image::IMPORT_CMD,
    image::TAG,
    image::RM_CMD.named("rmi"),
    image::HISTORY_CMD,
    image::SAVE_CMD,
    image::SEARCH_CMD,
    image::GROUP,
    login::LOGIN,
    login::LOGOUT,
    inspect::INSPECT,
    network::GROUP,
    volume::GROUP,
    node::GROUP,
    service::GROUP,
    stack::GROUP,
    files::SECRET,
    files::CONFIG,
    context::GROUP,
    why::WHY,
    shell::COMPLETION,
    shell::MAN,
    swarm::GROUP,
    system::GROUP,
    system::INFO,
    system::VERSION,
    system::EVENTS,
    system::PING,
    Command::elsewhere("daemon", "Run the daemon"),
    Command::elsewhere("playground", "A swarm of several hosts on this machine, to try things on"),
    Command::elsewhere("demo-image", "Pack the demo image, a small web server"),
];

#[cfg(test)]
pub(crate) mod tests {
    use crate::grammar::{Matches, find, read};

    /// What a command line means, split at spaces.
    pub(crate) fn read(line: &str) -> Matches {
        words(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    /// What the words of a command line mean.
    pub(crate) fn words(words: &[String]) -> Matches {
        let (command, path, used) = find(super::TREE, words).unwrap_or_else(|| panic!("no command {words:?}"));
        read::read(command, &path, &words[used..]).unwrap_or_else(|e| panic!("{words:?}: {e:?}"))
    }
}
