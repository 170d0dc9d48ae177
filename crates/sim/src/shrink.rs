//! Making a failing schedule small: leave out ever smaller parts of it as long as the same invariant is broken. Must never
//! report a schedule that was not run.

use crate::check::Violation;
use crate::run::run;
use crate::schedule::{Schedule, Size};

/// The smallest schedule found with at most `attempts` simulations, and what it breaks.
#[must_use]
pub fn shrink(seed: u64, size: Size, events: Schedule, broken: Violation, attempts: usize) -> (Schedule, Violation) {
    let (mut best, mut violation) = (events, broken);
    // Nothing after the violation matters.
    let cut = best.iter().position(|(at, _)| *at > violation.at_ms).unwrap_or(best.len());
    best.truncate(cut);
    let mut chunk = best.len().div_ceil(2).max(1);
    let mut left = attempts;
    while left > 0 {
        let mut at = 0;
        let mut smaller = false;
        while at < best.len() && left > 0 {
            let mut candidate = best.clone();
            candidate.drain(at..(at + chunk).min(best.len()));
            left -= 1;
            match run(seed, size, &candidate).violation {
                Some(v) if v.invariant == violation.invariant => {
                    best = candidate;
                    violation = v;
                    smaller = true;
                }
                _ => at += chunk,
            }
        }
        if chunk == 1 && !smaller {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    (best, violation)
}
