//! What the binary does besides the daemon and Docker's commands (those are `skep_cli`): playground and demo image.

mod playground;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use skep_playground::demo;

/// Docker Swarm, made anew: container engine, cluster manager and worker in one binary.
#[derive(Debug, Parser)]
#[command(name = "skep", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A swarm of several hosts on this machine, to try things on.
    #[command(subcommand)]
    Playground(playground::Action),
    /// Pack the demo image, a small web server made of this binary.
    DemoImage {
        /// File to write; standard output if absent.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Name of the image.
        #[arg(short, long, default_value = demo::DEMO_IMAGE)]
        tag: String,
        /// What the server says its version is.
        #[arg(long, default_value = "1.0")]
        image_version: String,
    },
    /// Serve the demo page (what the demo image runs).
    Whoami {
        /// TCP and UDP port.
        #[arg(long, default_value_t = demo::DEMO_PORT)]
        port: u16,
        /// How long to go on after SIGTERM, such as 5s.
        #[arg(long, default_value = "0s")]
        slow_shutdown: String,
    },
}

/// Becomes a host of a playground: `playground-host NETNS HOSTNAME PROGRAM ARGS…`; `-` as name keeps the machine's.
pub(crate) fn enter_host(args: &[String]) -> ExitCode {
    let [netns, name, program @ ..] = args else {
        eprintln!("skep: this command is for the playground's own use");
        return ExitCode::FAILURE;
    };
    let program: Vec<OsString> = program.iter().map(OsString::from).collect();
    let name = (name != "-").then_some(name.as_str());
    let error = skep_linux::host::become_host(Path::new(netns), name, &program);
    eprintln!("enter host {netns}: {error}");
    ExitCode::FAILURE
}

/// Whether a first word is for this module.
pub(crate) fn own(word: Option<&str>) -> bool {
    matches!(word, Some("playground" | "demo-image" | "whoami"))
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no failures.
            let code = if e.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            let _ = e.print();
            return code;
        }
    };
    let result = match cli.command {
        Command::Playground(action) => playground::run(action),
        Command::DemoImage { output, tag, image_version } => {
            pack(output.as_deref(), &tag, &image_version).map(|()| ExitCode::SUCCESS)
        }
        Command::Whoami { port, slow_shutdown } => whoami(port, &slow_shutdown).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|e| {
        eprintln!("skep: {e}");
        ExitCode::FAILURE
    })
}

fn pack(output: Option<&Path>, tag: &str, version: &str) -> Result<(), String> {
    match output {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|e| format!("create {}: {e}", path.display()))?;
            let mut out = std::io::BufWriter::new(file);
            demo::write_image(tag, version, &mut out).map_err(|e| e.to_string())?;
            out.flush().map_err(|e| format!("write {}: {e}", path.display()))
        }
        None => demo::write_image(tag, version, std::io::stdout().lock()).map_err(|e| e.to_string()),
    }
}

/// `5s`, `500ms`, `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration {text:?}: expected a number with ms, s or m, such as 5s");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(bad),
        _ => Err(bad()),
    }
}

fn whoami(port: u16, slow_shutdown: &str) -> Result<(), String> {
    let options = skep_cli::whoami::Options { port, slow_shutdown: duration(slow_shutdown)? };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("start the runtime: {e}"))?;
    runtime.block_on(skep_cli::whoami::run(options)).map_err(|e| format!("serve on port {port}: {e}"))
}
