//! What the writer tells the others about the disk. Must never hold a lock across a write.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::KeyId;

/// A write that is not on disk after this long is called stalled.
const STALLED: Duration = Duration::from_secs(1);
/// So long after the last stalled write a disk is trusted again.
const CALM: Duration = Duration::from_secs(5);

/// What the log takes on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) keys: BTreeSet<KeyId>,
}

#[derive(Debug, Default)]
struct State {
    usage: Usage,
    /// Since when the write under way has not succeeded.
    busy: Option<Instant>,
    /// Why its last attempt failed.
    cause: Option<String>,
    /// The last write that took too long: since when, and when it was over.
    slow: Option<(Instant, Instant)>,
    /// Bytes and number of writes that were handed over and are not on disk yet.
    waiting: (u64, u64),
}

/// Shared by the writer and those who watch it.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    stop: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), stop: watch::channel(false).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update is one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn usage(&self) -> Usage {
        self.lock().usage.clone()
    }

    pub(crate) fn set_usage(&self, usage: (u64, u64, BTreeSet<KeyId>)) {
        let (segments, bytes, keys) = usage;
        self.lock().usage = Usage { segments, bytes, keys };
    }

    pub(crate) fn begin(&self) {
        self.lock().busy.get_or_insert_with(Instant::now);
    }

    pub(crate) fn failed(&self, cause: &str) {
        self.lock().cause = Some(cause.to_owned());
    }

    pub(crate) fn done(&self) {
        let mut s = self.lock();
        if let Some(since) = s.busy.take().filter(|t| t.elapsed() >= STALLED) {
            let began = s.slow.filter(|(_, over)| over.elapsed() < CALM).map_or(since, |(began, _)| began);
            s.slow = Some((began, Instant::now()));
        }
        s.cause = None;
    }

    /// Since when the disk takes too long, and why as far as it said. A disk that was too slow a moment ago still counts, so that
    /// leadership does not go back and forth.
    pub(crate) fn stalled(&self) -> Option<(Instant, Option<String>)> {
        let s = self.lock();
        let slow = s.slow.filter(|(_, over)| over.elapsed() < CALM).map(|(began, _)| began);
        let busy = s.busy.filter(|t| t.elapsed() >= STALLED);
        busy.or(slow).map(|t| (slow.unwrap_or(t), s.cause.clone()))
    }

    /// Since when the write under way has not succeeded, and why its last attempt failed.
    pub(crate) fn trouble(&self) -> Option<(Instant, Option<String>)> {
        let s = self.lock();
        s.busy.map(|since| (since, s.cause.clone()))
    }

    pub(crate) fn more_waits(&self, bytes: usize) {
        let mut s = self.lock();
        s.waiting = (s.waiting.0 + bytes as u64, s.waiting.1 + 1);
    }

    pub(crate) fn less_waits(&self, bytes: usize) {
        let mut s = self.lock();
        s.waiting = (s.waiting.0.saturating_sub(bytes as u64), s.waiting.1.saturating_sub(1));
    }

    /// Bytes and number of writes that were handed over and are not on disk yet.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        self.lock().waiting
    }

    /// Nobody waits for a disk that does not answer any more.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}
