//! Points in time as data: nanoseconds since 1970, UTC. Read from a clock by the shells, only compared and added here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time in nanoseconds since 1970-01-01T00:00:00Z. Zero means "never" where a field says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// This point moved forward; saturates at the end of the range (year 2262).
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// RFC 3339 in UTC with nine digits of nanoseconds, as Docker prints times; `0001-01-01T00:00:00Z` for zero, which is
    /// what Go's zero time looks like to clients.
    #[must_use]
    pub fn rfc3339(self) -> String {
        if self.0 == 0 {
            return "0001-01-01T00:00:00Z".to_owned();
        }
        let secs = self.0.div_euclid(1_000_000_000);
        let nanos = self.0.rem_euclid(1_000_000_000);
        let (year, month, day) = civil(secs.div_euclid(86_400));
        let s = secs.rem_euclid(86_400);
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar, counting eras of 400 years from March.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_print_as_rfc3339() {
        assert_eq!(Time(1).rfc3339(), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(Time(951_827_696_000_000_000).rfc3339(), "2000-02-29T12:34:56.000000000Z");
        assert_eq!(Time(4_107_542_399_999_999_999).rfc3339(), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(Time(0).rfc3339(), "0001-01-01T00:00:00Z");
    }
}
