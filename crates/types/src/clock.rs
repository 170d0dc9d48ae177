//! What a decision needs from outside besides the tables: the time, and dice. A trait, so that a simulation can give both from
//! one seed. Must never be used by the pure crates, which get times and ids as arguments.

use crate::Time;

/// The clock and the dice of one host.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// The time of day on this host. May jump, forwards and back; must not be used to measure how long something takes.
    fn now(&self) -> Time;

    /// Fills the buffer with random bytes, fit for secrets.
    fn fill(&self, bytes: &mut [u8]);

    /// Whether time is simulated: then nothing may be handed to another thread.
    fn is_simulated(&self) -> bool {
        false
    }
}

impl dyn Clock {
    /// Random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// The bits of a new id.
    #[must_use]
    pub fn new_id(&self) -> u128 {
        u128::from_le_bytes(self.random())
    }

    /// A number from 0 up to, not including, 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        f64::from(u32::from_le_bytes(self.random())) / (f64::from(u32::MAX) + 1.0)
    }
}
