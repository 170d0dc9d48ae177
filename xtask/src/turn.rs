//! Turns on this machine: tests and benchmarks make hosts of the same names, so that two runs at once would remove each other's.

use std::fs::{File, TryLockError};

/// Held while hosts are made; the next run waits for its end.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The lock goes with it, also when this process is killed.
    _file: File,
}

impl Turn {
    /// Waits for the turn.
    pub(crate) fn take() -> Result<Self, String> {
        let path = std::env::temp_dir().join("skep-hosts.lock");
        let fail = |e: std::io::Error| format!("lock {}: {e}", path.display());
        let file = File::options().create(true).append(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("another run makes hosts on this machine: waiting for its end ({})", path.display());
                file.lock().map_err(fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        Ok(Self { _file: file })
    }
}
