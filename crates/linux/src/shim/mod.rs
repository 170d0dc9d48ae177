//! The shim: a small process of one thread that runs one container and outlives the daemon.
//!
//! It mounts the root filesystem in a mount namespace of its own (so that nothing is left mounted whatever happens), creates
//! the container through `libcontainer`, owns its pipes or terminal, writes its log, serves attached clients and execs on
//! `shim.sock`, and writes `exit.json` durably before it tells anyone. It must never start a thread (libcontainer clones
//! without at-fork handling) and never touch the daemon's files beyond those that its configuration names.

mod client;
mod exec;
mod files;
mod init;
mod launch;
mod log;
mod output;
mod rootfs;
mod server;
mod session;
mod users;
mod volumes;
mod workload;

use std::io::Write;
use std::path::Path;

use skep_engine::shim::{CONFIG_FILE, Launch, ShimConfig};

pub use exec::exec_main;
pub(crate) use rootfs::{Layers, overlay};
pub(crate) use volumes::mount_all as mount_volumes;

/// Makes a directory inside of a root, with its parents.
pub(crate) fn make_dir_inside(root: &Path, path: &str) -> Result<(), String> {
    rootfs::make_dir_inside(root, path).map_err(|e| e.0)
}

/// User and group by the names of the root's own files.
pub(crate) fn resolve_user(root: &Path, user: &str) -> Result<(u32, u32), String> {
    users::resolve(root, user, &[]).map(|i| (i.uid, i.gid)).map_err(|e| e.0)
}

/// Why a container could not be made or run; the text is the engine's and reaches the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ShimError(pub(crate) String);

impl ShimError {
    pub(crate) fn new(operation: &str, cause: impl std::fmt::Display) -> Self {
        Self(format!("{operation}: {cause}"))
    }
}

/// Runs the shim of a bundle directory; the process id of the caller ends at once, a child of it goes on.
///
/// Prints one line of [`Launch`] on standard output. Returns the process's exit code.
#[must_use]
#[allow(unsafe_code)]
pub fn main(bundle: &Path) -> i32 {
    // SAFETY: the process has one thread, so the child may go on with any code.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { .. }) => return 0,
        Ok(nix::unistd::ForkResult::Child) => {}
        Err(e) => {
            report(&Launch::Failed { message: format!("fork the shim: {e}") });
            return 1;
        }
    }
    match run(bundle) {
        Ok(()) => 0,
        Err(e) => {
            report(&Launch::Failed { message: e.0 });
            1
        }
    }
}

fn run(bundle: &Path) -> Result<(), ShimError> {
    nix::unistd::setsid().map_err(|e| ShimError::new("start a session", e))?;
    let path = bundle.join(CONFIG_FILE);
    let bytes = std::fs::read(&path).map_err(|e| ShimError::new(&format!("read {}", path.display()), e))?;
    let config: ShimConfig =
        serde_json::from_slice(&bytes).map_err(|e| ShimError::new(&format!("parse {}", path.display()), e))?;
    drop(bytes);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|e| ShimError::new("become subreaper", e))?;
    rootfs::prepare(&config)?;
    files::make(bundle, &config.files, &mut std::io::stdin().lock())?;
    let listener = server::listen(bundle)?;
    let (container, init) = match launch::create(bundle, &config) {
        Ok(made) => made,
        Err(e) => {
            launch::cleanup(&config);
            return Err(e);
        }
    };
    report(&Launch::Ready { pid: init.pid });
    detach_stdio();
    // What the creation of the container needed is not needed any more.
    crate::memory::trim();
    server::Server::new(bundle, config, listener, container, init).run();
    Ok(())
}

/// Tells the daemon, which reads one line.
fn report(launch: &Launch) {
    let mut line = serde_json::to_vec(launch).unwrap_or_default();
    line.push(b'\n');
    let mut out = std::io::stdout();
    // The daemon may be gone; the shim goes on all the same.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Lets go of the pipe to the daemon.
fn detach_stdio() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// A kernel or library error with all of its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let part = e.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = e.source();
    }
    // What the container's own process said (see `workload`) is the part that users understand.
    match text.find("exec: \"") {
        Some(at) => text[at..].trim_end_matches(['"', ')']).replace("\\\"", "\"").to_string(),
        None => text,
    }
}
