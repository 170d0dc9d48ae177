//! The last steps before a container's program runs: bounding set, system call filter, capabilities, execve.
//!
//! libcontainer's own order would load no filter for execs and could not load one without new privileges, so it is told of
//! no capabilities and this executor does both, in the order that works: drop the bounding set, load the filter while
//! privileged, then give up the rest.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use caps::{CapSet, Capability};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use super::init;
use crate::seccomp::Insn;

/// What a process is confined to.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    capabilities: Rc<HashSet<Capability>>,
    filter: Option<Rc<Vec<Insn>>>,
    /// A small init is the first process, and the program its child.
    init: bool,
    /// Rows and columns of its terminal.
    size: Option<(u16, u16)>,
}

impl Workload {
    pub(crate) fn new(capabilities: &[String], filter: Option<Vec<Insn>>) -> Self {
        let capabilities = capabilities.iter().filter_map(|c| c.parse().ok()).collect();
        Self { capabilities: Rc::new(capabilities), filter: filter.map(Rc::new), init: false, size: None }
    }

    pub(crate) fn under_init(self, init: bool) -> Self {
        Self { init, ..self }
    }

    /// A size for the terminal that is its standard input.
    pub(crate) fn sized(self, size: Option<(u16, u16)>) -> Self {
        Self { size, ..self }
    }

    fn confine(&self) -> Result<(), String> {
        for cap in caps::all() {
            if !self.capabilities.contains(&cap) && caps::has_cap(None, CapSet::Bounding, cap).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, cap).map_err(|e| format!("drop {cap} from the bounding set: {e}"))?;
            }
        }
        if let Some(filter) = &self.filter {
            load(filter).map_err(|e| format!("load the seccomp filter: {e}"))?;
        }
        let none = HashSet::new();
        // Kernels without ambient capabilities have nothing to clear.
        let _ = caps::clear(None, CapSet::Ambient);
        caps::set(None, CapSet::Inheritable, &none).map_err(|e| format!("clear inheritable capabilities: {e}"))?;
        let held = caps::read(None, CapSet::Permitted).map_err(|e| format!("read capabilities: {e}"))?;
        let keep: HashSet<Capability> = self.capabilities.intersection(&held).copied().collect();
        caps::set(None, CapSet::Effective, &keep).map_err(|e| format!("set effective capabilities: {e}"))?;
        caps::set(None, CapSet::Permitted, &keep).map_err(|e| format!("set permitted capabilities: {e}"))
    }
}

#[allow(unsafe_code)]
fn load(filter: &[Insn]) -> std::io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(std::io::Error::other)?;
    // SAFETY: `Insn` has the layout of `sock_filter` (u16, u8, u8, u32, repr C); the program outlives the call, which copies it.
    let rc = unsafe {
        let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Gives the program the signal state that it expects: this process ignores SIGPIPE, as all Rust programs do.
#[allow(unsafe_code)]
fn reset_signals() {
    // SAFETY: plain calls on this thread; the set is initialised by sigemptyset before use.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Finds the program as a shell would; errors are Docker's texts, by which clients choose exit code 126 or 127.
fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    let runnable = |p: &Path| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        let file = Path::new(name);
        return match file.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("exec: \"{name}\": stat {name}: no such file or directory"))
            }
            Ok(m) if m.is_dir() => Err(format!("exec: \"{name}\": is a directory: permission denied")),
            _ if runnable(file) => Ok(file.to_owned()),
            _ => Err(format!("exec: \"{name}\": permission denied")),
        };
    }
    path.split(':')
        .map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name))
        .find(|p| runnable(p))
        .ok_or_else(|| format!("exec: \"{name}\": executable file not found in $PATH"))
}

fn program(spec: &Spec) -> Result<(PathBuf, Vec<String>), String> {
    let process = spec.process().as_ref().ok_or("no process in the configuration")?;
    let args = process.args().clone().unwrap_or_default();
    let path = process
        .env()
        .iter()
        .flatten()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let name = args.first().filter(|n| !n.is_empty()).ok_or("exec: \"\": executable file not found in $PATH")?;
    Ok((find(name, path)?, args))
}

impl Executor for Workload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (file, args) = program(spec).map_err(ExecutorError::Other)?;
        if self.init {
            init::let_go();
        }
        if let Some((rows, columns)) = self.size {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // A program that cannot have its size runs all the same.
            let _ = rustix::termios::tcsetwinsize(rustix::stdio::stdin(), size);
        }
        self.confine().map_err(ExecutorError::Other)?;
        if self.init {
            init::become_parent().map_err(ExecutorError::Other)?;
        }
        reset_signals();
        let text = |s: &str| CString::new(s).map_err(|_| ExecutorError::Other("an argument holds a zero byte".to_owned()));
        let path = text(&file.to_string_lossy())?;
        let argv = args.iter().map(|a| text(a)).collect::<Result<Vec<_>, _>>()?;
        let Err(e) = nix::unistd::execv(&path, &argv);
        Err(ExecutorError::Other(format!("exec {}: {e}", file.display())))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        program(spec).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }
}
