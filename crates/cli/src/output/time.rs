//! Moments: RFC 3339 as daemons write them, and back. In UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; before it negative.
pub type Moment = i128;

/// Now.
#[must_use]
pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(0))
}

/// Days since 1970 of a day of the Gregorian calendar (the well-known rule with years that begin in March).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970.
fn date(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// Reads `2026-11-21T20:58:52.123456789Z`, with another offset than `Z` too; also a date or a time without zone, as UTC.
#[must_use]
pub fn parse(text: &str) -> Option<Moment> {
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<i64>().ok());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if text.get(4..5) != Some("-") || text.get(7..8) != Some("-") || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let day_seconds = days(year, month, day) * 86_400;
    if text.len() == 10 {
        return Some(i128::from(day_seconds) * 1_000_000_000);
    }
    let (hour, minute) = (number(11..13)?, number(14..16)?);
    let (second, mut at) = if text.get(16..17) == Some(":") { (number(17..19)?, 19) } else { (0, 16) };
    if !matches!(text.get(10..11), Some("T" | "t" | " ")) || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let mut nanos = 0;
    if text.get(at..=at) == Some(".") {
        let part: String = text.get(at + 1..)?.chars().take_while(char::is_ascii_digit).collect();
        at += 1 + part.len();
        let part: String = part.chars().chain("000000000".chars()).take(9).collect();
        nanos = part.parse::<i128>().ok()?;
    }
    let offset = match text.get(at..)? {
        "" | "Z" | "z" => 0,
        zone => {
            let sign = match zone.get(0..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let hours: i64 = zone.get(1..3)?.parse().ok()?;
            let minutes: i64 = zone.get(zone.len().checked_sub(2)?..)?.parse().ok()?;
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let seconds = day_seconds + hour * 3600 + minute * 60 + second - offset;
    Some(i128::from(seconds) * 1_000_000_000 + nanos)
}

/// The parts of a moment: date, time of day, nanoseconds.
fn parts(at: Moment) -> (String, String, i128) {
    // Far beyond any year that is shown; keeps the arithmetic within bounds.
    let seconds = i64::try_from(at.div_euclid(1_000_000_000)).unwrap_or(0).clamp(-99_999_999_999, 253_402_300_799);
    let (y, m, d) = date(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    (format!("{y:04}-{m:02}-{d:02}"), format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60), at.rem_euclid(1_000_000_000))
}

/// `2026-11-21T20:58:52.123456789Z`, always nine digits, as events are shown.
#[must_use]
pub fn rfc3339(at: Moment) -> String {
    let (date, time, nanos) = parts(at);
    format!("{date}T{time}.{nanos:09}Z")
}

/// `2026-11-21 20:58:52 +0000 UTC`, as columns of creation times are shown.
#[must_use]
pub fn plain(at: Moment) -> String {
    let (date, time, _) = parts(at);
    format!("{date} {time} +0000 UTC")
}

/// `2026-11-21 20:58:52.1234 +0000 UTC`, as Go prints a time.
#[must_use]
pub fn go(at: Moment) -> String {
    let text = pretty(at);
    text.strip_suffix("utc").map_or_else(|| text.clone(), |t| format!("{t}UTC"))
}

/// `2026-11-21 20:58:52.1234 +0000 utc`, as `--pretty` shows it.
#[must_use]
pub fn pretty(at: Moment) -> String {
    let (date, time, nanos) = parts(at);
    let part = format!(".{nanos:09}");
    format!("{date} {time}{} +0000 utc", part.trim_end_matches('0').trim_end_matches('.'))
}

/// `Sat Nov 21 20:58:52 2026`, as `version` shows build times.
#[must_use]
pub fn ansic(at: Moment) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let day = i64::try_from(at.div_euclid(86_400_000_000_000)).unwrap_or(0).clamp(-1_000_000, 2_900_000);
    let (y, m, d) = date(day);
    let name = |names: &[&'static str], i: i64| usize::try_from(i).ok().and_then(|i| names.get(i).copied()).unwrap_or("???");
    format!("{} {} {d:2} {} {y}", name(&DAYS, day.rem_euclid(7)), name(&MONTHS, m - 1), parts(at).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        let at = parse("2026-11-21T20:58:52.123456789Z").unwrap();
        assert_eq!(rfc3339(at), "2026-11-21T20:58:52.123456789Z");
        assert_eq!(plain(at), "2026-11-21 20:58:52 +0000 UTC");
        assert_eq!(pretty(parse("2026-11-21T20:58:52.1200Z").unwrap()), "2026-11-21 20:58:52.12 +0000 utc");
        assert_eq!(ansic(at), "Sat Nov 21 20:58:52 2026");
        assert_eq!(parse("2026-11-21T22:58:52.123456789+02:00"), Some(at));
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(plain(parse("2000-02-29T00:00:00Z").unwrap()), "2000-02-29 00:00:00 +0000 UTC");
        assert_eq!(plain(parse("0001-01-01T00:00:00Z").unwrap()), "0001-01-01 00:00:00 +0000 UTC");
        for bad in ["", "x", "2026", "2026-13-01", "2026-01-01T99:00:00Z", "2026-01-01T00:00:00Q", "äöü-äö-öäääää"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
