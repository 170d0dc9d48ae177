//! Skep: container engine, cluster manager, worker agent, shim and command line in one binary.
//!
//! This crate only wires: it reads the configuration, opens the parts and connects their doors. Which part runs is told by
//! the name the binary was called by (`dockerd` is `skep daemon`, `docker` is `skep` with Docker's name) and by the first argument.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, reason = "it panics when nobody reads (`| head`)")]

mod commands;
mod daemon;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    // The shim and its helper come first: they must be small, and run before anything could start a thread.
    match args.get(1).map(String::as_str) {
        Some("shim") => return hidden(args.get(2), skep_linux::shim::main),
        Some("shim-exec") => return hidden(args.get(2), skep_linux::shim::exec_main),
        Some("wireguard") => return ExitCode::from(u8::from(skep_linux::wireguard::main(&args[2..]) != 0)),
        Some("container-files") => return ExitCode::from(u8::from(skep_linux::reach::main() != 0)),
        Some("playground-host") => return commands::enter_host(&args[2..]),
        _ => {}
    }
    let name = args.first().and_then(|a| Path::new(a).file_name()).map(|n| n.to_string_lossy().into_owned());
    if name.as_deref() == Some("dockerd") {
        return daemon::main(&args[1..], true);
    }
    if args.get(1).map(String::as_str) == Some("daemon") {
        return daemon::main(&args[2..], false);
    }
    if commands::own(args.get(1).map(String::as_str)) {
        return commands::main(&args);
    }
    let program = if name.as_deref() == Some("docker") { "docker" } else { "skep" };
    skep_cli::app::main(program, args.get(1..).unwrap_or_default())
}

fn hidden(path: Option<&String>, run: impl FnOnce(&Path) -> i32) -> ExitCode {
    match path {
        Some(path) => ExitCode::from(u8::try_from(run(Path::new(path))).unwrap_or(1)),
        None => {
            eprintln!("skep: this command is for the daemon's own use");
            ExitCode::FAILURE
        }
    }
}
