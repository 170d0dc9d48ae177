//! From a configuration to a created container: OCI bundle, stdio, libcontainer.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use serde_json::{Value, json};
use skep_engine::shim::ShimConfig;

use super::session::{Session, Streams};
use super::users::Identity;
use super::workload::Workload;
use super::{ShimError, chain, users};
use crate::seccomp;

/// Name of a container in libcontainer's state directory: short, since socket paths there are limited to 108 bytes.
pub(crate) fn runtime_id(id: &str) -> &str {
    id.get(..24).unwrap_or(id)
}

/// Creates the container; its first process waits for `start`.
pub(crate) fn create(bundle: &Path, config: &ShimConfig) -> Result<(Container, Session), ShimError> {
    let identity = users::resolve(&config.rootfs, &config.user, &config.groups)?;
    let mut spec = config.spec.clone();
    set_identity(&mut spec["process"], &identity);
    let file = bundle.join("config.json");
    fs::write(&file, spec.to_string()).map_err(|e| ShimError::new(&format!("write {}", file.display()), e))?;
    let filter = load_filter(config.seccomp.as_deref())?;
    let size = config.console_size.filter(|_| config.tty);
    let mut builder = ContainerBuilder::new(runtime_id(&config.id).to_owned(), SyscallType::Linux)
        .with_root_path(&config.runtime_root)
        .map_err(|e| ShimError(chain(&e)))?
        .with_executor(Workload::new(&config.capabilities, filter).under_init(config.init).sized(size));
    let (streams, given) = Streams::make(config.tty, config.open_stdin)?;
    let console = if config.tty { Some(Console::listen(bundle, "console.sock")?) } else { None };
    if let Some(console) = &console {
        builder = builder.with_console_socket(Some(console.path.clone()));
    }
    if let Some([stdin, stdout, stderr]) = given {
        builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    }
    let container = builder.as_init(bundle).with_systemd(false).with_detach(true).build().map_err(|e| ShimError(chain(&e)))?;
    let streams = match console {
        Some(console) => Streams::terminal(console.receive()?),
        None => streams,
    };
    // A container that was created has a first process.
    let pid = container.pid().map(nix::unistd::Pid::as_raw).ok_or_else(|| ShimError("container has no process".to_owned()))?;
    let session = Session::new(None, pid, streams)?;
    reset_oom_score();
    Ok((container, session))
}

pub(crate) fn load_filter(path: Option<&Path>) -> Result<Option<Vec<seccomp::Insn>>, ShimError> {
    let Some(path) = path else { return Ok(None) };
    let bytes = fs::read(path).map_err(|e| ShimError::new(&format!("read {}", path.display()), e))?;
    seccomp::from_bytes(&bytes).map(Some).ok_or_else(|| ShimError(format!("{} is no seccomp program", path.display())))
}

/// Fills user, groups and HOME into an OCI process.
pub(crate) fn set_identity(process: &mut Value, identity: &Identity) {
    process["user"] = json!({ "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups });
    if let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("HOME=")))
    {
        let home = if identity.home.is_empty() { "/" } else { &identity.home };
        env.push(Value::String(format!("HOME={home}")));
    }
}

/// libcontainer gives the container's score to its caller too; the shim takes its own back.
fn reset_oom_score() {
    // Low, so that the kernel prefers the container itself; a failure changes nothing else.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
}

/// Removes what a container left in the runtime's state directory and its cgroups. Goes on past errors.
pub(crate) fn cleanup(config: &ShimConfig) {
    crate::cgroup::remove(config.spec["linux"]["cgroupsPath"].as_str().unwrap_or_default());
    let _ = fs::remove_dir_all(config.runtime_root.join(runtime_id(&config.id)));
}

/// A socket on which the terminal's master arrives.
pub(crate) struct Console {
    listener: UnixListener,
    pub(crate) path: std::path::PathBuf,
}

impl Console {
    pub(crate) fn listen(bundle: &Path, name: &str) -> Result<Self, ShimError> {
        let path = bundle.join(name);
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|e| ShimError::new(&format!("listen on {}", path.display()), e))?;
        Ok(Self { listener, path })
    }

    /// Takes the descriptor that the container's process sent.
    pub(crate) fn receive(self) -> Result<OwnedFd, ShimError> {
        let fail = |e: &dyn std::fmt::Display| ShimError::new("receive the terminal", e);
        self.listener.set_nonblocking(true).map_err(|e| fail(&e))?;
        let (stream, _) = self.listener.accept().map_err(|e| fail(&e))?;
        let _ = fs::remove_file(&self.path);
        let mut bytes = [0u8; 256];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&stream, &mut iov, &mut control, rustix::net::RecvFlags::CMSG_CLOEXEC).map_err(|e| fail(&e))?;
        control
            .drain()
            .find_map(|m| match m {
                rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            })
            .ok_or_else(|| ShimError("receive the terminal: no descriptor came".to_owned()))
    }
}
