//! Sizes and ages in words, ids cut short: the same words as Docker's clients.

use super::time::{Moment, now, parse};

/// A span of nanoseconds in words: `Less than a second`, `About a minute`, `2 weeks`.
#[must_use]
pub fn span(nanos: i128) -> String {
    let seconds = nanos / 1_000_000_000;
    let minutes = seconds / 60;
    // Rounded to the nearest hour, as users of Docker see it.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        s if s < 1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => format!("{s} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago a moment was: `2 weeks ago`.
#[must_use]
pub fn ago(at: Moment) -> String {
    format!("{} ago", span(now() - at))
}

/// How long ago a moment was that a daemon wrote; empty if it wrote none.
#[must_use]
pub fn ago_text(text: &str) -> String {
    parse(text).map(ago).unwrap_or_default()
}

fn scaled(size: f64, base: f64, units: &[&str], significant: i32) -> String {
    let mut value = size;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    // As Go's %.4g and %.3g: so many digits in all, no trailing zeros.
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as i32 + 1 };
    let digits = usize::try_from((significant - whole).max(0)).unwrap_or(0);
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[unit])
}

/// A size with decimal units and three digits: `1.24MB`.
#[must_use]
pub fn size(bytes: i64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// The same with four digits: `1.235MB`.
#[must_use]
pub fn longer_size(bytes: i64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// A size with binary units and four digits: `1.945GiB`.
#[must_use]
pub fn binary_size(bytes: i64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

/// What went wrong with a file, as Go says it: `no such file or directory`.
#[must_use]
pub fn cause(e: &std::io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The first 12 characters of an id, without `sha256:`.
#[must_use]
pub fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.char_indices().nth(12).map_or(id, |(i, _)| &id[..i])
}

/// A text of at most so many characters; the last becomes `…` when there were more.
#[must_use]
pub fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// With a capital.
#[must_use]
pub fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_in_words() {
        const S: i128 = 1_000_000_000;
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(span(seconds * S), words);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1_240_000), "1.24MB");
        assert_eq!(size(999), "999B");
        assert_eq!(size(77_000_000), "77MB");
        assert_eq!(binary_size(2 << 30), "2GiB");
        assert_eq!(binary_size(8_222_298_112), "7.658GiB");
    }

    #[test]
    fn ids_and_cuts() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("äöü"), "äöü");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(title("running"), "Running");
    }
}
