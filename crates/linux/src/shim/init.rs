//! A small init (`--init`): the first process of a container, which starts its program, passes signals on to it and reaps what
//! becomes an orphan. It is the process that would have become the program, so it needs no file in the container. Must never
//! hold a descriptor beyond the standard streams, and never be looked into from inside the container.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setpgid};

/// Exit code of a program that an init lost sight of.
const LOST: i32 = 255;

/// Closes everything but the standard streams: the first process runs no program at which the kernel would do so.
#[allow(unsafe_code)]
pub(super) fn let_go() {
    // SAFETY: nothing that holds one of these descriptors is used again in this process or its child, which only execute.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

/// Returns in the child, which is to become the program; this process stays as the init and ends with the child's exit code.
#[allow(unsafe_code)]
pub(super) fn become_parent() -> Result<(), String> {
    let all = SigSet::all();
    // From here on nothing is lost: what comes before the init waits for it stays pending.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).map_err(|e| format!("block the signals of the init: {e}"))?;
    // SAFETY: the process has one thread, so the child may go on with any code.
    match unsafe { fork() }.map_err(|e| format!("fork the init: {e}"))? {
        ForkResult::Child => {
            // A group of its own, in the foreground of the terminal if there is one; without a terminal the second fails.
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid());
            Ok(())
        }
        ForkResult::Parent { child } => {
            hide();
            let code = serve(child, &all);
            // SAFETY: ends this process at once; nothing of the shim that it was copied from is to be run or flushed here.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Nobody in the container may look into this process: its program is the host's.
fn hide() {
    // Both only describe and protect; there is nothing to do about a failure.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = nix::sys::prctl::set_name(c"docker-init");
}

/// Passes signals on to the child and reaps until it has ended; its exit code, 128 + n for signal n.
fn serve(child: Pid, all: &SigSet) -> i32 {
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // Of the terminal's own, which concern a process that reads or writes it.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) => {}
            // The child may have ended already, which SIGCHLD says.
            Ok(signal) => _ = kill(child, signal),
            // A real-time signal, which has no name here; programs that need them do not run under an init.
            Err(_) => {}
        }
    }
}

/// Reaps all that ended; the child's exit code if it was among them.
fn reap(child: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, c)) if pid == child => code = Some(c),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) => return code,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left.
            Err(_) => return code.or(Some(LOST)),
        }
    }
}
