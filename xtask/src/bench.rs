//! `cargo xtask bench swarm`: the same steps on a swarm of three hosts of Skep's, and of the peer's where it is installed.

mod api;
mod contest;
mod control;
mod http;
mod memory;
mod net;
mod peer;
mod plan;
mod script;
mod skep;
mod stack;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::api::Daemon;
use self::contest::{Contestant, Given, run as run_program};
use self::script::Plan;
use crate::packages;
use crate::test::{Profile, build};
use crate::turn::Turn;
use crate::workspace::Workspace;

/// What the benchmark takes.
pub(crate) const USAGE: &str = "\
  bench swarm [--smoke] [--rounds N] [--skep-only] [--skep-bin FILE] [--sockets A,B,C]…
                         time a swarm of three hosts: Skep's, and the peer's if dockerd is installed; needs root
                         --smoke     Skep alone, a debug build, one round of a few steps
                         --sockets   three daemons of your own instead, a manager first; each SOCKET or SOCKET=ADDRESS,
                                     the address to advertise if they are in no swarm yet
  bench stack …          a stack of 50 services, lists of 1,000, a log of 100 MB, the command lines; takes what bench swarm takes
  bench control [--smoke] [--seconds N] [--kills N]
                         three members of the managers' raft as processes: writes a second, failover, hand-over
                         --smoke     a debug build, one second each, two kills
  bench net [--smoke] [--rounds N] [--millis N] [--only WORDS] [--live-only] [--changes N] [--requests N]
                         the data plane between namespaces of this machine, as ratios; needs root, ip and nft; then on a swarm
                         of five hosts: how soon each applies a change, and requests that updates cost
                         --smoke     a debug build, one short round
                         --live-only     the swarm alone
                         --requests N    requests during ten updates (the target: 1000000)
  bench plan [--smoke]   the planner alone, up to a million tasks on 10,000 nodes
                         --smoke     a debug build, a hundredth of all
";
pub(crate) use self::control::run as run_control;
pub(crate) use self::net::run as run_net;
pub(crate) use self::plan::run as run_plan;

/// Image that the services run, on both sides.
const IMAGE: &str = "skep/whoami:latest";
/// Rounds unless told otherwise: the fewest that show a spread.
const ROUNDS: u32 = 3;

#[derive(Debug, Default)]
struct Options {
    smoke: bool,
    skep_only: bool,
    rounds: Option<u32>,
    binary: Option<PathBuf>,
    sockets: Vec<Vec<Daemon>>,
}

fn parse(words: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--smoke" => options.smoke = true,
            "--skep-only" => options.skep_only = true,
            "--rounds" => {
                let text = value()?;
                options.rounds = Some(text.parse().map_err(|e| format!("--rounds {text}: {e}"))?);
            }
            "--skep-bin" => options.binary = Some(value()?.into()),
            "--sockets" => options.sockets.push(value()?.split(',').map(daemon).collect()),
            other => return Err(format!("bench swarm: unknown word {other}\n\n{USAGE}")),
        }
    }
    Ok(options)
}

fn daemon(text: &str) -> Daemon {
    let (socket, address) = text.split_once('=').unwrap_or((text, ""));
    Daemon { socket: socket.trim_start_matches("unix://").into(), address: address.to_owned() }
}

/// What is raced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// Services that grow, shrink and lose a host.
    Swarm,
    /// Stacks, lists, logs and command lines.
    Stack,
}

/// Runs a benchmark and prints its table.
pub(crate) fn run(script: Script, words: &[&str]) -> Result<ExitCode, String> {
    let options = parse(words)?;
    if options.sockets.is_empty() && !packages::is_root() {
        return Err("bench swarm makes hosts of network namespaces: run it as root, or give it --sockets".to_owned());
    }
    let makes_hosts = options.sockets.is_empty();
    let workspace = Workspace::read()?;
    let profile = if options.smoke { Profile::Debug } else { Profile::Release };
    let binary = match options.binary {
        Some(given) => std::path::absolute(&given).map_err(|e| format!("find {}: {e}", given.display()))?,
        None => build(&workspace, "skep", profile)?,
    };
    let machine = table::machine();
    let skep = binary.clone();
    let archive = workspace.target.join("bench-image.tar");
    run_program(&binary, &["demo-image", "--tag", IMAGE, "--output", &archive.to_string_lossy()])?;

    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    for daemons in options.sockets {
        contestants.push(Box::new(Given { daemons }));
    }
    if contestants.is_empty() {
        let said = run_program(&binary, &["--version"])?;
        contestants.push(Box::new(skep::Skep::new(binary, said.trim().split(',').next().unwrap_or_default().to_owned())));
        if !options.smoke && !options.skep_only {
            match peer::Peer::find() {
                Some(peer) => {
                    packages::for_peer()?;
                    contestants.push(Box::new(peer));
                }
                None => println!("dockerd is not installed: Skep alone (Debian's package is docker.io)"),
            }
        }
    }
    let _turn = makes_hosts.then(Turn::take).transpose()?;
    let plan = Plan { image: IMAGE.to_owned(), smoke: options.smoke };
    let race_of = Race { script, plan: &plan, skep: &skep };
    let rounds = options.rounds.unwrap_or(if options.smoke { 1 } else { ROUNDS });
    race(&mut contestants, &archive, &race_of, rounds, &machine)
}

/// What each round runs.
struct Race<'a> {
    script: Script,
    plan: &'a Plan,
    /// The binary under test, as a client.
    skep: &'a Path,
}

/// Rounds take turns, so that whatever else the machine does hits all alike.
fn race(
    contestants: &mut [Box<dyn Contestant>],
    archive: &Path,
    of: &Race<'_>,
    rounds: u32,
    machine: &str,
) -> Result<ExitCode, String> {
    let mut results = table::Results::default();
    let mut failed = Vec::new();
    for number in 1..=rounds {
        for contestant in contestants.iter_mut() {
            println!("round {number} of {rounds}: {}", contestant.name());
            let done = match of.script {
                Script::Swarm => script::round(contestant.as_mut(), archive, of.plan, &mut results),
                Script::Stack => {
                    let setting = stack::Setting { image: &of.plan.image, smoke: of.plan.smoke, skep: of.skep };
                    stack::round(contestant.as_mut(), archive, &setting, &mut results)
                }
            };
            if let Err(e) = done {
                println!("  failed: {e}");
                failed.push(format!("round {number}, {}: {e}", contestant.name()));
            }
        }
    }
    let names: Vec<String> = contestants.iter().map(|c| c.name()).collect();
    println!(
        "\n{machine}\nMedian (least–most, rounds); three hosts as network namespaces, one manager, image {}.\n",
        of.plan.image
    );
    println!("{}", results.render(&names));
    for failure in &failed {
        println!("failed: {failure}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let words = ["--rounds", "5", "--sockets", "unix:///a.sock=10.0.0.1,/b.sock", "--smoke"];
        let options = parse(&words).unwrap();
        assert_eq!(options.rounds, Some(5));
        assert!(options.smoke);
        let daemons = &options.sockets[0];
        assert_eq!((daemons[0].socket.to_str(), daemons[0].address.as_str()), (Some("/a.sock"), "10.0.0.1"));
        assert_eq!((daemons[1].socket.to_str(), daemons[1].address.as_str()), (Some("/b.sock"), ""));
        assert!(parse(&["--round"]).is_err());
        assert!(parse(&["--rounds"]).is_err());
    }
}
