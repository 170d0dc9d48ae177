//! The clock and the dice of a real host. Must never be used where a [`Clock`] was given.

use std::time::{SystemTime, UNIX_EPOCH};

use skep_types::Time;
use skep_types::clock::Clock;

/// The clock of the system and the randomness of the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// Without randomness no id and no token may be made, so this waits for the kernel.
    fn fill(&self, bytes: &mut [u8]) {
        while let Err(e) = getrandom::fill(bytes) {
            tracing::error!(error = %e, "no randomness from the kernel");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
