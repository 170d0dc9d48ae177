//! A host's clock and dice, both of the simulation. Must never read a real clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use skep_types::Time;
use skep_types::clock::Clock;
use tokio::time::Instant;

use crate::rng::Rng;

/// Simulations begin at this time of day, 2027-01-01.
const EPOCH: i64 = 1_798_761_600_000_000_000;

/// The clock of one host.
#[derive(Debug)]
pub(crate) struct SimClock {
    start: Instant,
    skew: AtomicI64,
    rng: Mutex<Rng>,
}

impl SimClock {
    pub(crate) fn new(start: Instant, rng: Rng) -> Self {
        Self { start, skew: AtomicI64::new(0), rng: Mutex::new(rng) }
    }

    /// Puts the clock forwards or back, in milliseconds from the true time.
    pub(crate) fn set_skew(&self, ms: i64) {
        self.skew.store(ms.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        let passed = i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX);
        Time(EPOCH.saturating_add(passed).saturating_add(self.skew.load(Ordering::Relaxed)))
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }

    fn is_simulated(&self) -> bool {
        true
    }
}
