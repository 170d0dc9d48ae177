//! Watching a manager from inside, for the simulator: every step is checked as it is made. Must never change anything.

use skep_state::{Change, Refused, Store, Transaction};

/// Told of each step of one manager.
pub trait Observer: Send + Sync + 'static {
    /// An entry of the log, `bytes`, was applied, or refused; `store` has it.
    fn applied(&self, index: u64, bytes: &[u8], t: &Transaction, outcome: Result<&[Change], &Refused>, store: &Store);

    /// The tables were replaced by a snapshot.
    fn restored(&self, store: &Store);

    /// This manager leads in a term, and has caught up.
    fn leads(&self, term: u64);
}
