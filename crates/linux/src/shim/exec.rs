//! A process beside the container's first: a helper of its own joins the namespaces, since libcontainer changes its caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_engine::shim::{ExecRequest, ShimConfig};

use super::launch::{Console, load_filter, runtime_id, set_identity};
use super::session::{Session, Streams};
use super::workload::Workload;
use super::{ShimError, chain, users};

/// What the helper must do.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    runtime_root: PathBuf,
    runtime_id: String,
    process: PathBuf,
    console: Option<PathBuf>,
    capabilities: Vec<String>,
    seccomp: Option<PathBuf>,
    console_size: Option<(u16, u16)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Started(i32),
    Failed(String),
}

/// An exec whose helper still runs.
pub(crate) struct Pending {
    pub(crate) id: String,
    pub(crate) helper: Child,
    streams: Streams,
    console: Option<Console>,
    plan: PathBuf,
}

fn all_capabilities() -> Vec<String> {
    caps::all().iter().map(ToString::to_string).collect()
}

/// Starts the helper of an exec.
pub(crate) fn begin(bundle: &Path, config: &ShimConfig, request: &ExecRequest) -> Result<Pending, ShimError> {
    let short: String = request.id.chars().take(12).collect();
    if !short.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(ShimError("exec: the id has characters other than letters and digits".to_owned()));
    }
    let user = if request.user.is_empty() { &config.user } else { &request.user };
    let identity = users::resolve(&config.rootfs, user, &config.groups)?;
    let cwd = if request.cwd.is_empty() { "/" } else { &request.cwd };
    let mut process = json!({
        "terminal": request.tty, "args": request.args, "env": request.env, "cwd": cwd,
        "user": {"uid": 0, "gid": 0}, "noNewPrivileges": config.spec["process"]["noNewPrivileges"],
        "rlimits": config.spec["process"]["rlimits"],
    });
    set_identity(&mut process, &identity);
    let file = |suffix: &str| bundle.join(format!("x{short}.{suffix}"));
    let write =
        |path: &Path, text: String| fs::write(path, text).map_err(|e| ShimError::new(&format!("write {}", path.display()), e));
    write(&file("process"), process.to_string())?;
    let console = if request.tty { Some(Console::listen(bundle, &format!("x{short}.tty"))?) } else { None };
    let plan = Plan {
        runtime_root: config.runtime_root.clone(),
        runtime_id: runtime_id(&config.id).to_owned(),
        process: file("process"),
        console: console.as_ref().map(|c| c.path.clone()),
        capabilities: if request.privileged { all_capabilities() } else { config.capabilities.clone() },
        seccomp: config.seccomp.clone().filter(|_| !request.privileged),
        console_size: request.console_size.filter(|_| request.tty),
    };
    write(&file("plan"), serde_json::to_string(&plan).map_err(|e| ShimError::new("plan an exec", e))?)?;
    let (streams, given) = Streams::make(request.tty, request.stdin)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("shim-exec").arg(file("plan")).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some([stdin, stdout, stderr]) = given {
        command.stdin(stdin).stdout(stdout).stderr(stderr);
    }
    let helper = command.spawn().map_err(|e| ShimError::new("start the helper of an exec", e))?;
    Ok(Pending { id: request.id.clone(), helper, streams, console, plan: file("plan") })
}

/// Takes over the process once its helper ended; `last` if no other helper is at work.
pub(crate) fn finish(config: &ShimConfig, pending: Pending, last: bool) -> Result<Session, ShimError> {
    let outcome_file = pending.plan.with_extension("outcome");
    let outcome = fs::read(&outcome_file).ok().and_then(|b| serde_json::from_slice::<Outcome>(&b).ok());
    for suffix in ["plan", "process", "outcome"] {
        let _ = fs::remove_file(pending.plan.with_extension(suffix));
    }
    if last {
        // Another exec may still need its own.
        sweep(&config.runtime_root.join(runtime_id(&config.id)));
    }
    match outcome {
        Some(Outcome::Started(pid)) => {
            let streams = match pending.console {
                Some(console) => Streams::terminal(console.receive()?),
                None => pending.streams,
            };
            Session::new(Some(pending.id), pid, streams)
        }
        Some(Outcome::Failed(message)) => Err(ShimError(message)),
        None => Err(ShimError("exec: its helper ended without an answer".to_owned())),
    }
}

/// The library leaves a socket behind for each exec.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tenant-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The helper: joins the container and becomes the parent of nothing, since the process is made a child of the shim.
/// Returns the exit code.
#[must_use]
pub fn exec_main(plan: &Path) -> i32 {
    let outcome = match join(plan) {
        Ok(pid) => Outcome::Started(pid),
        Err(e) => Outcome::Failed(e.0),
    };
    let text = serde_json::to_string(&outcome).unwrap_or_default();
    i32::from(fs::write(plan.with_extension("outcome"), text).is_err())
}

fn join(path: &Path) -> Result<i32, ShimError> {
    let bytes = fs::read(path).map_err(|e| ShimError::new(&format!("read {}", path.display()), e))?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|e| ShimError::new("parse the plan of an exec", e))?;
    let filter = load_filter(plan.seccomp.as_deref())?;
    let mut builder = ContainerBuilder::new(plan.runtime_id.clone(), SyscallType::Linux)
        .with_root_path(&plan.runtime_root)
        .map_err(|e| ShimError(chain(&e)))?
        .with_executor(Workload::new(&plan.capabilities, filter).sized(plan.console_size));
    if plan.console.is_some() {
        builder = builder.with_console_socket(plan.console.clone());
    } else {
        let clone = |fd: std::os::fd::BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|e| ShimError::new("duplicate standard streams", e))
        };
        builder = builder
            .with_stdin(clone(rustix::stdio::stdin())?)
            .with_stdout(clone(rustix::stdio::stdout())?)
            .with_stderr(clone(rustix::stdio::stderr())?);
    }
    let pid = builder
        .as_tenant()
        .with_process(Some(plan.process))
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|e| ShimError(chain(&e)))?;
    Ok(pid.as_raw())
}
