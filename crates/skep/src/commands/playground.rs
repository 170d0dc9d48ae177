//! `skep playground …`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Subcommand;
use skep_cli::output::say;
use skep_playground::lan::netns_path;
use skep_playground::swarm::{Playground, down, host_names};
use skep_playground::{Place, PlaygroundError};

/// Port that the demo service is published on.
const WEB_PORT: u16 = 8080;

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Make the hosts, form a swarm over them, deploy a small web service.
    Up {
        /// Number of hosts.
        #[arg(long, default_value_t = 3)]
        hosts: u8,
        /// How many of them are managers; all if absent.
        #[arg(long)]
        managers: Option<u8>,
        /// Do not deploy the web service.
        #[arg(long)]
        no_service: bool,
        /// Further flag for each host's daemon; may be given several times.
        #[arg(long)]
        daemon_flag: Vec<String>,
    },
    /// Remove everything of the playground.
    Down,
    /// Show the hosts.
    Status,
    /// Run a command on a host: in its network, with DOCKER_HOST set to its daemon.
    Exec {
        /// The host.
        host: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Power off a host: daemon, shims and containers are killed, its network is gone.
    Kill {
        /// The host.
        host: String,
    },
    /// Power on a host again.
    Start {
        /// The host.
        host: String,
    },
    /// Drop all traffic of a host, both ways.
    Cut {
        /// The host.
        host: String,
    },
    /// Let a cut host's traffic pass again.
    Heal {
        /// The host.
        host: String,
    },
}

fn place() -> Result<Place, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the playground makes network namespaces, bridges and cgroups: it needs root, run it with sudo".to_owned());
    }
    let binary = std::env::current_exe().map_err(|e| format!("find the skep binary: {e}"))?;
    Ok(Place::standard(binary))
}

pub(crate) fn run(action: Action) -> Result<ExitCode, String> {
    let place = place()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("start the runtime: {e}"))?;
    runtime.block_on(act(action, place)).map_err(|e: PlaygroundError| e.to_string())
}

async fn act(action: Action, place: Place) -> Result<ExitCode, PlaygroundError> {
    match action {
        Action::Up { hosts, managers, no_service, daemon_flag } => {
            let managers = managers.unwrap_or(hosts);
            if managers == 0 || managers > hosts {
                return Err(PlaygroundError::Invalid(format!("--managers must be 1 to {hosts}, not {managers}")));
            }
            up(place, hosts, managers, no_service, &daemon_flag).await?;
        }
        Action::Down => down(&place)?,
        Action::Status => status(&Playground::find(place)?).await,
        Action::Exec { host, command } => {
            let playground = Playground::find(place)?;
            return exec(&playground, &host, &command);
        }
        Action::Kill { host } => {
            let playground = Playground::find(place)?;
            playground.kill(playground.host(&host)?);
        }
        Action::Start { host } => {
            let playground = Playground::find(place)?;
            playground.start(playground.host(&host)?).await?;
        }
        Action::Cut { host } => {
            let playground = Playground::find(place)?;
            playground.lan.cut(&playground.place, playground.host(&host)?)?;
        }
        Action::Heal { host } => {
            let playground = Playground::find(place)?;
            playground.lan.heal(&playground.place, playground.host(&host)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(place: Place, hosts: u8, managers: u8, no_service: bool, flags: &[String]) -> Result<(), PlaygroundError> {
    let begin = Instant::now();
    let step = |what: &str| say(format_args!("{:>5.1} s  {what}", begin.elapsed().as_secs_f64()));
    let playground = Playground::up(place, &host_names(hosts), flags).await?;
    step(&format!("{hosts} hosts are up"));
    playground.form(usize::from(managers)).await?;
    step(&format!("a swarm over them, {managers} of them managers"));
    playground.load_demo().await?;
    step("demo image skep/whoami on every host");
    if !no_service {
        playground.deploy_demo(3, WEB_PORT).await?;
        step("service web: 3 replicas run");
    }
    say(format_args!(""));
    hints(&playground, no_service);
    Ok(())
}

fn hints(playground: &Playground, no_service: bool) {
    let place = &playground.place;
    let Some(first) = playground.hosts.first() else { return };
    say(format_args!("Try:"));
    say(format_args!("  export DOCKER_HOST=unix://{}", first.socket(place).display()));
    say(format_args!("  skep node ls"));
    if !no_service {
        say(format_args!("  skep service ps web"));
        for host in &playground.hosts {
            say(format_args!(
                "  curl http://{}:{WEB_PORT}/        # any host answers, and sees your own address",
                host.address
            ));
        }
        say(format_args!("  skep service scale web=6"));
    }
    if let Some(last) = playground.hosts.last().filter(|_| playground.hosts.len() > 1) {
        say(format_args!("  skep playground kill {}       # power off; its tasks run elsewhere in seconds", last.name));
        say(format_args!("  skep playground start {}", last.name));
    }
    say(format_args!("  skep playground down"));
}

async fn status(playground: &Playground) {
    say(format_args!("{:<12} {:<14} {:<9} {:<16} SOCKET", "HOST", "ADDRESS", "DAEMON", "SWARM"));
    for host in &playground.hosts {
        let daemon = host.daemon(&playground.place).map_or_else(|| "off".to_owned(), |pid| pid.to_string());
        let info = playground.client(host).call("GET", "/info", None).await.unwrap_or_default();
        let swarm = match (info["Swarm"]["LocalNodeState"].as_str(), info["Swarm"]["ControlAvailable"].as_bool()) {
            (Some("active"), Some(true)) => "manager",
            (Some("active"), _) => "worker",
            (Some(other), _) => other,
            (None, _) => "-",
        };
        let socket = host.socket(&playground.place);
        say(format_args!("{:<12} {:<14} {daemon:<9} {swarm:<16} {}", host.name, host.address, socket.display()));
    }
}

fn exec(playground: &Playground, name: &str, command: &[OsString]) -> Result<ExitCode, PlaygroundError> {
    let host = playground.host(name)?;
    let netns = netns_path(&playground.place, &host.name);
    let status = Command::new(&playground.place.binary)
        .arg("playground-host")
        .arg(netns)
        .arg(&host.name)
        .args(command)
        .env("DOCKER_HOST", format!("unix://{}", host.socket(&playground.place).display()))
        .status()
        .map_err(|e| PlaygroundError::Host { operation: format!("run a command on {name}"), cause: e.to_string() })?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
