//! Moments: RFC 3339 as daemons write them, and back. What the stock client shows in the user's time zone is shown so here.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Nanoseconds since 1970; before it negative.
pub type Moment = i128;

/// Now.
#[must_use]
pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(0))
}

/// The user's time zone; UTC when the host does not say.
fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

/// A moment as the clocks of a zone show it, with the offset as `+0100` and the zone's name then.
fn shown(at: Moment, zone: &TimeZone) -> (Moment, String, String) {
    // Beyond the years that the library knows nobody has a time zone.
    let info = Timestamp::from_nanosecond(at).map(|t| {
        let info = zone.to_offset_info(t);
        (info.offset().seconds(), info.abbreviation().to_owned())
    });
    let (seconds, name) = info.unwrap_or((0, "UTC".to_owned()));
    let minutes = seconds.abs() / 60;
    let offset = format!("{}{:02}{:02}", if seconds < 0 { '-' } else { '+' }, minutes / 60, minutes % 60);
    (at + i128::from(seconds) * 1_000_000_000, offset, name)
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
    read(text).map(|(at, _)| at)
}

/// The same as a user types it: without a zone it is the user's own.
#[must_use]
pub fn parse_local(text: &str) -> Option<Moment> {
    parse_in(text, zone())
}

fn parse_in(text: &str, zone: &TimeZone) -> Option<Moment> {
    let (at, has_zone) = read(text)?;
    if has_zone {
        return Some(at);
    }
    let clock = Timestamp::from_nanosecond(at).ok()?.to_zoned(TimeZone::UTC).datetime();
    // A clock that was put back shows it twice, one that was put forward never: the earlier, and what it was before.
    Some(zone.to_ambiguous_timestamp(clock).compatible().ok()?.as_nanosecond())
}

/// A moment, and whether its zone was told.
fn read(text: &str) -> Option<(Moment, bool)> {
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<i64>().ok());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if text.get(4..5) != Some("-") || text.get(7..8) != Some("-") || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let day_seconds = days(year, month, day) * 86_400;
    if text.len() == 10 {
        return Some((i128::from(day_seconds) * 1_000_000_000, false));
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
    let zone = text.get(at..)?;
    let offset = match zone {
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
    Some((i128::from(seconds) * 1_000_000_000 + nanos, !zone.is_empty()))
}

/// The parts of a moment: date, time of day, nanoseconds.
fn parts(at: Moment) -> (String, String, i128) {
    // Far beyond any year that is shown; keeps the arithmetic within bounds.
    let seconds = i64::try_from(at.div_euclid(1_000_000_000)).unwrap_or(0).clamp(-99_999_999_999, 253_402_300_799);
    let (y, m, d) = date(seconds.div_euclid(86_400));
    let s = seconds.rem_euclid(86_400);
    (format!("{y:04}-{m:02}-{d:02}"), format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60), at.rem_euclid(1_000_000_000))
}

/// `2026-11-21T21:58:52.123456789+01:00`, always nine digits, as events are shown.
#[must_use]
pub fn rfc3339(at: Moment) -> String {
    rfc3339_in(at, zone(), true)
}

/// `2026-11-21T21:58:52+01:00`, as the steps of an image are shown.
#[must_use]
pub fn rfc3339_seconds(at: Moment) -> String {
    rfc3339_in(at, zone(), false)
}

fn rfc3339_in(at: Moment, zone: &TimeZone, fraction: bool) -> String {
    let (clock, offset, _) = shown(at, zone);
    let (date, time, nanos) = parts(clock);
    let fraction = if fraction { format!(".{nanos:09}") } else { String::new() };
    let offset = if offset == "+0000" { "Z".to_owned() } else { format!("{}:{}", &offset[..3], &offset[3..]) };
    format!("{date}T{time}{fraction}{offset}")
}

/// `2026-11-21 21:58:52 +0100 CET`, as columns of creation times are shown.
#[must_use]
pub fn plain(at: Moment) -> String {
    plain_in(at, zone())
}

fn plain_in(at: Moment, zone: &TimeZone) -> String {
    let (clock, offset, name) = shown(at, zone);
    let (date, time, _) = parts(clock);
    format!("{date} {time} {offset} {name}")
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
        assert_eq!(rfc3339_in(at, &TimeZone::UTC, true), "2026-11-21T20:58:52.123456789Z");
        assert_eq!(plain_in(at, &TimeZone::UTC), "2026-11-21 20:58:52 +0000 UTC");
        assert_eq!(pretty(parse("2026-11-21T20:58:52.1200Z").unwrap()), "2026-11-21 20:58:52.12 +0000 utc");
        assert_eq!(ansic(at), "Sat Nov 21 20:58:52 2026");
        assert_eq!(parse("2026-11-21T22:58:52.123456789+02:00"), Some(at));
        assert_eq!(parse("1970-01-01"), Some(0));
        let plain = |at| plain_in(at, &TimeZone::UTC);
        assert_eq!(plain(parse("2000-02-29T00:00:00Z").unwrap()), "2000-02-29 00:00:00 +0000 UTC");
        assert_eq!(plain(parse("0001-01-01T00:00:00Z").unwrap()), "0001-01-01 00:00:00 +0000 UTC");
        for bad in ["", "x", "2026", "2026-13-01", "2026-01-01T99:00:00Z", "2026-01-01T00:00:00Q", "äöü-äö-öäääää"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_in_the_user_s_zone() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let (winter, summer) = (parse("2026-11-21T20:58:52.5Z").unwrap(), parse("2026-07-01T20:58:52Z").unwrap());
        assert_eq!(plain_in(winter, &berlin), "2026-11-21 21:58:52 +0100 CET");
        assert_eq!(plain_in(summer, &berlin), "2026-07-01 22:58:52 +0200 CEST");
        assert_eq!(rfc3339_in(winter, &berlin, true), "2026-11-21T21:58:52.500000000+01:00");
        assert_eq!(rfc3339_in(summer, &berlin, false), "2026-07-01T22:58:52+02:00");
        assert_eq!(parse_in("2026-11-21T21:58:52.5", &berlin), Some(winter));
        assert_eq!(parse_in("2026-11-21T20:58:52.5Z", &berlin), Some(winter));
        assert_eq!(parse_in("2026-07-02", &berlin), parse("2026-07-01T22:00:00Z"));
        let west = TimeZone::posix("NST3:30").unwrap();
        assert_eq!(plain_in(0, &west), "1969-12-31 20:30:00 -0330 NST");
    }
}
