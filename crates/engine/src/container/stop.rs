//! Signals: stop, kill, restart.

use std::sync::Arc;
use std::time::Duration;

use skep_types::container::ContainerState;

use super::attach::ask;
use super::{Container, WaitFor};
use crate::Engine;
use crate::error::{Code, EngineError, Result, conflict, internal, invalid};
use crate::shim::{Request, Response};

/// Seconds between the stop signal and SIGKILL unless the container says otherwise.
const DEFAULT_STOP_TIMEOUT: i64 = 10;
/// The signal that asks a program to end.
const SIGTERM: i32 = 15;
/// How long a killed container may take to be gone before the call fails.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// The number of a signal given as `TERM`, `SIGTERM` or `15`.
///
/// # Errors
/// 400 for an unknown signal.
pub(crate) fn signal_number(text: &str) -> Result<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
        "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
        "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(invalid(format!("invalid signal: {text}"))) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let fixed = NAMES.iter().position(|n| *n == name).and_then(|i| i32::try_from(i + 1).ok());
    let realtime = || {
        let offset =
            |rest: &str, sign: i32| if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok().map(|n| n * sign) };
        match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => offset(rest, 1).map(|n| 34 + n),
            (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => offset(rest, -1).map(|n| 64 + n),
            _ => None,
        }
    };
    fixed.or_else(realtime).filter(|n| (1..=64).contains(n)).ok_or_else(|| invalid(format!("invalid signal: {text}")))
}

/// The signal that stops a container which names this one. An image may name one that there is not; its containers are stopped as
/// any other.
fn own_signal(text: &str) -> i32 {
    signal_number(text).unwrap_or(SIGTERM)
}

impl Engine {
    /// Stops a container: its stop signal, then SIGKILL after `timeout` seconds (negative waits for ever).
    ///
    /// # Errors
    /// 304 when it does not run, 404, 500.
    pub async fn stop(self: &Arc<Self>, target: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let container = self.find(target)?;
        let info = container.info();
        if info.state == ContainerState::Restarting {
            // It waits for its next start, which must not come.
            let _guard = container.ops.lock().await;
            if container.record().info.state == ContainerState::Restarting {
                let stopped = container.update(true, |r| {
                    r.stopped_by_user = true;
                    r.info.state = ContainerState::Exited;
                });
                self.let_go(&container);
                return stopped;
            }
        }
        if !container.is_running() {
            return Err(EngineError::new(Code::NotModified, "container already stopped"));
        }
        container.update(false, |r| r.stopped_by_user = true)?;
        let config = &info.config;
        let number = match signal {
            Some(wanted) => signal_number(wanted)?,
            None => own_signal(&config.stop_signal),
        };
        let seconds = timeout.or(config.stop_timeout).unwrap_or(DEFAULT_STOP_TIMEOUT);
        let end = container.wait(WaitFor::NotRunning);
        self.signal(&container, number).await?;
        self.thaw(&container);
        let gone = match u64::try_from(seconds) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), end).await.is_ok(),
            Err(_) => {
                end.await;
                true
            }
        };
        if !gone {
            self.kill_and_wait(&container).await?;
        }
        self.container_event(&container, "stop", []);
        Ok(())
    }

    /// Sends a signal (SIGKILL if none is named).
    ///
    /// # Errors
    /// 400, 404, 409 when it does not run.
    pub async fn kill(self: &Arc<Self>, target: &str, signal: Option<&str>) -> Result<()> {
        let container = self.find(target)?;
        let number = signal_number(signal.filter(|s| !s.is_empty()).unwrap_or("KILL"))?;
        if !container.is_running() {
            return Err(conflict(format!("cannot kill container: {target}: container {} is not running", container.id)));
        }
        if number == 9 {
            container.update(false, |r| r.stopped_by_user = true)?;
            self.kill_and_wait(&container).await
        } else {
            self.signal(&container, number).await?;
            self.thaw(&container);
            Ok(())
        }
    }

    /// Stops and starts.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(self: &Arc<Self>, target: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        match self.stop(target, timeout, signal).await {
            Err(e) if e.code != Code::NotModified => return Err(e),
            _ => {}
        }
        self.start(target).await?;
        self.container_event(&*self.find(target)?, "restart", []);
        Ok(())
    }

    pub(super) async fn signal(&self, container: &Container, number: i32) -> Result<()> {
        let answer = ask(&container.bundle, &Request::Kill { signal: number }).await;
        self.container_event(container, "kill", [("signal".to_owned(), number.to_string())]);
        match answer {
            Ok(Response::Failed { message }) if container.is_running() => {
                Err(internal(&format!("signal container {}", container.id), message))
            }
            // A shim that is gone has a container that is gone.
            _ => Ok(()),
        }
    }

    pub(super) async fn kill_and_wait(&self, container: &Container) -> Result<()> {
        let end = container.wait(WaitFor::NotRunning);
        self.signal(container, 9).await?;
        self.thaw(container);
        if tokio::time::timeout(KILL_LIMIT, end).await.is_err() {
            return Err(internal(
                &format!("kill container {}", container.id),
                "its process is still there after SIGKILL; it may wait for a device",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SYS", 31)] {
            assert_eq!(signal_number(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "FOO", "RTMIN-1", "RTMIN+", "-1"] {
            assert!(signal_number(text).is_err(), "{text}");
            assert_eq!(own_signal(text), SIGTERM, "{text}");
        }
        assert_eq!(own_signal("SIGINT"), 2);
    }
}
