//! When a certificate is to be renewed, and whether it has expired. Pure: the clock is passed in. Must never need a memory: the
//! point is drawn from the certificate itself, so it is the same after a restart.

use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::root::BACKDATE;
use crate::{PkiError, validity};

/// The moment to renew a certificate: a point between 50 % and 80 % of its life, drawn once for each certificate so that the
/// nodes of a swarm do not all come at once (`swarm-semantics` 6.6).
///
/// # Errors
/// [`PkiError::Parse`].
pub fn renew_at(der: &[u8]) -> Result<SystemTime, PkiError> {
    let (from, to) = validity(der)?;
    // The life begins when it was issued, not where it was backdated to.
    let from = from + BACKDATE;
    let life = to.duration_since(from).unwrap_or_default();
    let digest = Sha256::digest(der);
    let draw = f64::from(u16::from_le_bytes([digest[0], digest[1]])) / f64::from(u16::MAX);
    Ok(from + life.mul_f64(0.5 + 0.3 * draw))
}

/// Pause after the attempt number `failures` (from 1) to renew: 5 s, doubled each time, an hour at most.
#[must_use]
pub fn renew_pause(failures: u32) -> Duration {
    let first = Duration::from_secs(5);
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Identity, RootCa, certificates, key_pair};
    use skep_types::spec::Role;
    use skep_types::{ClusterId, NodeId};

    #[test]
    fn the_point_is_in_the_range_and_stays() {
        let now = SystemTime::now();
        let root = RootCa::create(now).unwrap();
        let who = Identity { node: NodeId(1), role: Role::Worker, cluster: ClusterId(1) };
        let day = Duration::from_secs(86_400);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let der = certificates(&root.issue(&key_pair().unwrap().1, &who, now, day).unwrap()).unwrap().remove(0);
            let at = renew_at(&der).unwrap();
            let slack = Duration::from_secs(2);
            assert!(at + slack >= now + day / 2 && at <= now + day.mul_f64(0.8) + slack);
            assert_eq!(renew_at(&der).unwrap(), at);
            seen.insert(at);
        }
        assert!(seen.len() > 10, "all nodes would come at once");
    }

    #[test]
    fn pauses_grow_to_an_hour() {
        assert_eq!(renew_pause(1), Duration::from_secs(5));
        assert_eq!(renew_pause(2), Duration::from_secs(10));
        assert_eq!(renew_pause(u32::MAX), Duration::from_secs(3600));
    }
}
