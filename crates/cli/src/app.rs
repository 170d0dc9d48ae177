//! One run of the command line: reads the words, finds the daemon, runs the command, tells how it ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::sync::OnceCell;

use crate::client::{Client, ClientError, Endpoint, Tls};
use crate::commands::TREE;
use crate::config::{self, Config, context};
use crate::grammar::{Body, Command, Matches, find, help, read, suggest};
use crate::output::{note, print, warn};

/// Newest version of the API that the commands are written for.
const API_VERSION: &str = "1.50";
/// Version of the stock client whose commands these are, for those who ask `docker --version`.
pub const DOCKER_VERSION: &str = "28.2.2";
/// Where a daemon listens if nobody says.
const SOCKET: &str = "/run/skep/docker.sock";
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Flags before the command.
pub const GLOBALS: &str = "
    --config string Where the client's configuration is
    -c --context string Name of the context whose daemon to use (overrides DOCKER_HOST)
    -D --debug bool Debug mode (taken and ignored)
    -H --host list* The daemon's socket: unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST
    -l --log-level string Level of logging (taken and ignored)
    --tls bool Use TLS; implied by --tlsverify
    --tlscacert string The CA that the daemon's certificate must come from
    --tlscert string The client's certificate
    --tlskey string The client's key
    --tlsverify bool Use TLS and check the daemon's certificate
    -v --version bool Print the version and quit";

/// A command that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to say on standard error; nothing if empty.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// With exit code 1.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// With an exit code of its own.
    #[must_use]
    pub fn with(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), code }
    }

    /// With nothing more to say.
    #[must_use]
    pub fn quiet(code: u8) -> Self {
        Self { message: String::new(), code }
    }

    /// Several failures as one, a line each; nothing failed if there are none.
    ///
    /// # Errors
    /// The failures.
    pub fn all(failures: Vec<Self>) -> Result<u8, Self> {
        if failures.is_empty() {
            return Ok(0);
        }
        Err(Self::new(failures.into_iter().map(|f| f.message).collect::<Vec<_>>().join("\n")))
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        Self::new(match e {
            ClientError::Refused { message, .. } => format!("Error response from daemon: {}", message.trim_end()),
            other => other.to_string(),
        })
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// What commands work with.
#[derive(Debug)]
pub struct App {
    /// The name that the program was called by: `skep` or `docker`.
    pub program: String,
    /// The user's file.
    pub config: Config,
    /// The context that is in use.
    pub context: String,
    bare: Client,
    client: OnceCell<Client>,
}

impl App {
    /// For a daemon.
    #[must_use]
    pub fn new(program: &str, config: Config, endpoint: Endpoint) -> Self {
        let bare = Client::new(endpoint, config.headers());
        Self { program: program.to_owned(), config, context: "default".to_owned(), bare, client: OnceCell::new() }
    }

    /// The same for the container of a task somewhere in the swarm, whatever name the container is called by.
    #[must_use]
    pub fn at_task(&self, task: &str) -> Self {
        let manager = Box::new(self.bare.clone());
        Self::new(&self.program, self.config.clone(), Endpoint::Task { manager, task: task.to_owned() })
    }

    /// The same for a node's network, to be looked at.
    #[must_use]
    pub fn at_node(&self, node: &str) -> Self {
        let manager = Box::new(self.bare.clone());
        Self::new(&self.program, self.config.clone(), Endpoint::Network { manager, node: node.to_owned() })
    }

    /// The daemon's API, in a version that both sides speak; asks the daemon for it at first.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn client(&self) -> Result<&Client, Failure> {
        let made = self.client.get_or_try_init(|| async {
            if let Some(fixed) = std::env::var("DOCKER_API_VERSION").ok().filter(|v| !v.is_empty()) {
                return Ok::<_, ClientError>(self.bare.at_version(&fixed));
            }
            let theirs = self.bare.ping().await?;
            Ok(self.bare.at_version(lower(&theirs)))
        });
        Ok(made.await?)
    }

    /// The daemon's API without a version, for what is Skep's own.
    #[must_use]
    pub fn unversioned(&self) -> &Client {
        &self.bare
    }

    /// A format of the user's file, unless one was given.
    #[must_use]
    pub fn format<'a>(&'a self, given: Option<&'a str>, key: &str, quiet: bool) -> &'a str {
        given.or_else(|| self.config.text(key).filter(|_| !quiet)).unwrap_or_default()
    }
}

/// The lower of the daemon's version and ours; ours if the daemon's cannot be read.
fn lower(theirs: &str) -> &str {
    let parts = |v: &str| v.split_once('.').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
    match (parts(theirs), parts(API_VERSION)) {
        (Some(a), Some(b)) if a < b => theirs,
        _ => API_VERSION,
    }
}

/// The daemon of this host.
fn usual(tls: Option<Tls>) -> Result<Endpoint, Failure> {
    let socket = if Path::new(SOCKET).exists() { SOCKET } else { DOCKER_SOCKET };
    Endpoint::parse(&format!("unix://{socket}"), tls).map_err(Failure::new)
}

/// The context that flags, environment and the user's file name.
fn context_name(globals: &Matches, config: &Config) -> String {
    let env = std::env::var("DOCKER_CONTEXT").ok().filter(|v| !v.is_empty());
    let named = globals.text("context").map(str::to_owned).or(env);
    named.or_else(|| config.text("currentContext").map(str::to_owned)).unwrap_or_else(|| context::DEFAULT.to_owned())
}

/// Which daemon is meant, and the name of the context that says so.
fn endpoint(globals: &Matches, config: &Config) -> Result<(Endpoint, String), Failure> {
    let env = |key: &str| std::env::var(key).ok().filter(|v| !v.is_empty());
    let hosts = globals.list("host");
    if hosts.len() > 1 {
        return Err(Failure::new("specify only one -H"));
    }
    if !hosts.is_empty() && globals.given("context") {
        return Err(Failure::new("conflicting options: cannot specify both --host and --context"));
    }
    let host = hosts.first().cloned().or_else(|| if globals.given("context") { None } else { env("DOCKER_HOST") });
    let name = if host.is_some() { context::DEFAULT.to_owned() } else { context_name(globals, config) };
    if name != context::DEFAULT {
        let unknown = |e: String| Failure::new(format!("Failed to initialize: unable to resolve docker endpoint: {e}"));
        let found = context::find(config, &name).map_err(unknown)?;
        let file = |n: &str| found.tls.as_ref().map(|d| d.join(n)).filter(|p| p.exists());
        let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
        let tls = if found.tls.is_some() || found.skip_verify {
            Some(Tls::load(!found.skip_verify, ca.as_deref(), cert.as_deref(), key.as_deref()).map_err(Failure::new)?)
        } else {
            None
        };
        return Ok((Endpoint::parse(&found.host, tls).map_err(Failure::new)?, name));
    }
    let verify = globals.switch("tlsverify").unwrap_or_else(|| env("DOCKER_TLS_VERIFY").is_some());
    let tls = if verify || globals.on("tls") || env("DOCKER_TLS").is_some() {
        let dir = env("DOCKER_CERT_PATH").map_or_else(|| config.dir.clone(), PathBuf::from);
        let file =
            |flag: &str, n: &str| globals.text(flag).map(PathBuf::from).or_else(|| Some(dir.join(n)).filter(|p| p.exists()));
        let (ca, cert, key) = (file("tlscacert", "ca.pem"), file("tlscert", "cert.pem"), file("tlskey", "key.pem"));
        Some(Tls::load(verify, ca.as_deref(), cert.as_deref(), key.as_deref()).map_err(Failure::new)?)
    } else {
        None
    };
    let endpoint = match host {
        Some(host) => Endpoint::parse(&host, tls).map_err(Failure::new)?,
        None => usual(tls)?,
    };
    Ok((endpoint, name))
}

/// The words of the command line that a tree of commands does not know.
fn unknown(program: &str, tree: &'static [Command], words: &[String]) -> Failure {
    let mut members = tree;
    let mut path = String::new();
    for word in words {
        match members.iter().find(|c| c.is(word)) {
            Some(Command { name, body: Body::Group(inner), .. }) => {
                path = format!("{path} {name}");
                members = inner;
            }
            _ => {
                let near = suggest::near(word, members.iter().map(|c| c.name));
                let hint = match near.as_slice() {
                    [] => String::new(),
                    near => format!("\nDid you mean this?\n\t{}\n", near.join("\n\t")),
                };
                let usage = if path.is_empty() { String::new() } else { format!("\nUsage:  {program}{path}\n") };
                // The stock client has words of its own for itself.
                let (what, end) = if program == "docker" || !path.is_empty() {
                    let end = format!("\nRun '{program}{path} --help' for more information");
                    (format!("{program}: unknown command: {program}{path} {word}\n"), end)
                } else {
                    (format!("{program}: '{word}' is not a {program} command.\n"), format!("\nSee '{program} --help'"))
                };
                return Failure::new(format!("{what}{hint}{usage}{end}"));
            }
        }
    }
    Failure::new(format!("{program}: nothing to do"))
}

/// What wrong flags or arguments are answered with.
fn misused(program: &str, command: &Command, path: &str, stop: read::Stop) -> Failure {
    let usage = help::usage(program, command, path);
    let more = format!("'{program} {path} --help' for more information");
    match stop {
        read::Stop::Help => Failure::quiet(0),
        read::Stop::Flag(text) => Failure::with(125, format!("{text}\n\nUsage:  {usage}\n\nRun {more}")),
        read::Stop::UnknownFlag(text, name) => {
            let all = crate::grammar::flags::of(command.flags);
            let near = suggest::near(&name, all.iter().map(|f| f.name));
            // Under its name, the stock client's words alone.
            let hint = if program == "docker" || near.is_empty() || near.len() > 5 {
                String::new()
            } else {
                format!(" (did you mean --{}?)", near.join(", --"))
            };
            Failure::with(125, format!("{text}{hint}\n\nUsage:  {usage}\n\nRun {more}"))
        }
        read::Stop::Arity(what) => {
            let word = if what.contains("at least") && !what.contains("at most") { "See" } else { "Run" };
            Failure::new(format!("{program}: '{program} {path}' {what}\n\nUsage:  {usage}\n\n{word} {more}"))
        }
    }
}

/// A value that a flag cannot have ends with the command's usage, wherever that was found out.
fn of_a_flag(program: &str, command: &Command, path: &str, failure: Failure) -> Failure {
    let told = failure.message.starts_with("invalid argument ") && failure.message.contains(" flag: ");
    if told && !failure.message.contains('\n') {
        return misused(program, command, path, read::Stop::Flag(failure.message));
    }
    failure
}

fn version(program: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    if program == "docker" {
        format!("Docker version {DOCKER_VERSION}, build skep-{own}\n")
    } else {
        format!("skep version {own}, commands and API of Docker {DOCKER_VERSION}\n")
    }
}

fn help_text(program: &str, words: &[String]) -> Result<String, Failure> {
    if words.is_empty() {
        return Ok(help::program(program, "Docker Swarm, made anew: containers and swarms", TREE, &[GLOBALS]));
    }
    let (command, path, _) = find(TREE, words).ok_or_else(|| unknown(program, TREE, words))?;
    Ok(help::command(program, command, &path))
}

fn show_help(program: &str, words: &[String]) -> Result<u8, Failure> {
    print(&help_text(program, words)?)?;
    Ok(0)
}

/// The same on standard error.
fn hint(program: &str, words: &[String]) -> Result<u8, Failure> {
    note(&help_text(program, words)?);
    Ok(0)
}

fn run(program: &str, words: &[String]) -> Result<u8, Failure> {
    let (globals, used) = match read::leading(&[GLOBALS], words) {
        Ok(read) => read,
        Err(read::Stop::Help) => return show_help(program, &[]),
        Err(read::Stop::Flag(text) | read::Stop::UnknownFlag(text, _) | read::Stop::Arity(text)) => {
            let more = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information");
            return Err(Failure::with(125, format!("{text}\n\n{more}")));
        }
    };
    let words = &words[used..];
    if globals.on("version") {
        print(&version(program))?;
        return Ok(0);
    }
    match words.first().map(String::as_str) {
        None => return hint(program, &[]),
        Some("help") => return show_help(program, &words[1..]),
        Some("__complete") => {
            let found = crate::grammar::complete::words(TREE, &[GLOBALS], &words[1..]);
            print(&found.iter().map(|w| format!("{w}\n")).collect::<String>())?;
            return Ok(0);
        }
        _ => {}
    }
    let (command, path, taken) = find(TREE, words).ok_or_else(|| unknown(program, TREE, words))?;
    let work = match command.body {
        Body::Run(work) => work,
        // Nothing was asked for: no output, but what could be asked for.
        Body::Group(_) => return hint(program, &words[..taken]),
        Body::Elsewhere => return Err(Failure::new(format!("{program}: '{path}' takes no flags before it"))),
    };
    let matches = match read::read(command, &path, &words[taken..]) {
        Ok(matches) => matches,
        Err(read::Stop::Help) => return show_help(program, &words[..taken]),
        Err(stop) => return Err(misused(program, command, &path, stop)),
    };
    let (config, why) = Config::load(globals.text("config").map_or_else(config::default_dir, PathBuf::from));
    if let Some(why) = why {
        warn(&why);
    }
    let (endpoint, context) = match endpoint(&globals, &config) {
        // What is wrong with a context is mended by these.
        Err(_) if path.starts_with("context ") => (usual(None)?, context_name(&globals, &config)),
        found => found?,
    };
    let mut app = App::new(program, config, endpoint);
    app.context = context;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("start the runtime: {e}")))?;
    let done = runtime.block_on(work(&app, &matches)).map_err(|e| of_a_flag(program, command, &path, e));
    // A thread that reads the terminal cannot be ended; the process's end does it.
    runtime.shutdown_background();
    done
}

/// Runs a command line; `program` is the name it was called by, `words` what follows.
#[must_use]
pub fn main(program: &str, words: &[String]) -> ExitCode {
    let code = run(program, words).unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            warn(&failure.message);
        }
        failure.code
    });
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_older_side_says_the_version() {
        assert_eq!(lower("1.41"), "1.41");
        assert_eq!(lower("1.60"), API_VERSION);
        assert_eq!(lower(""), API_VERSION);
        assert_eq!(lower("1.9"), "1.9");
    }

    #[test]
    fn what_is_not_known_is_told() {
        let said = |program: &str, text: &str| run(program, &words(text)).unwrap_err();
        assert_eq!(said("skep", "foo").message, "skep: 'foo' is not a skep command.\n\nSee 'skep --help'");
        assert_eq!(
            said("skep", "swrm ls").message,
            "skep: 'swrm' is not a skep command.\n\nDid you mean this?\n\tswarm\n\nSee 'skep --help'"
        );
        assert_eq!(
            said("docker", "foo").message,
            "docker: unknown command: docker foo\n\nRun 'docker --help' for more information"
        );
        assert_eq!(
            said("docker", "node foo").message,
            "docker: unknown command: docker node foo\n\nUsage:  docker node\n\nRun 'docker node --help' for more information"
        );
        let flag = said("docker", "node ls --foo");
        assert_eq!(flag.code, 125);
        assert_eq!(
            flag.message,
            "unknown flag: --foo\n\nUsage:  docker node ls [OPTIONS]\n\nRun 'docker node ls --help' for more information"
        );
        let few = said("docker", "node rm");
        assert_eq!(few.code, 1);
        assert_eq!(
            few.message,
            "docker: 'docker node rm' requires at least 1 argument\n\nUsage:  docker node rm [OPTIONS] NODE [NODE...]\n\n\
             See 'docker node rm --help' for more information"
        );
        assert_eq!(
            said("docker", "node ls a").message,
            "docker: 'docker node ls' accepts no arguments\n\nUsage:  docker node ls [OPTIONS]\n\n\
             Run 'docker node ls --help' for more information"
        );
    }
}
