//! Durations, sizes and shares of processors, as the stock client reads them.

/// A duration in nanoseconds: `90s`, `1m30s`, `1.5h`, `500ms`, `0`. Not negative.
pub(crate) fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    i64::try_from(total).ok()
}

/// A decimal number times a factor, without floats; digits beyond the factor's are dropped.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than any factor has make no difference.
    let fraction = &fraction[..fraction.len().min(18)];
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / scale)
}

/// A size in bytes: `64M`, `1.5gb`, `512 KiB`, `1024`; units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let factor = match unit {
        "" => 1,
        "k" => 1_i128 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    i64::try_from(scaled(number, factor)?).ok()
}

/// Processors in billionths: `0.5` is 500,000,000.
pub(crate) fn nano_cpus(text: &str) -> Option<i64> {
    let (_, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.trim_end_matches('0').len() > 9 {
        return None;
    }
    i64::try_from(scaled(text, 1_000_000_000)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("0", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("500ms", 500_000_000),
            ("1h1ns", 3_600_000_000_001),
            ("2us", 2_000),
        ] {
            assert_eq!(duration(text), Some(ns), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1s ", "1..5s", "99999999999999h", ".s", "1d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in [("1024", 1024), ("64M", 64 << 20), ("1.5gb", 3 << 29), ("512 KiB", 512 << 10), ("2g", 2 << 30)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "M", "1.2.3M", "-5M", "5X", "1e5", "999999999999P"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn processors() {
        assert_eq!(nano_cpus("0.5"), Some(500_000_000));
        assert_eq!(nano_cpus("2"), Some(2_000_000_000));
        assert_eq!(nano_cpus("0.0000000001"), None);
        assert_eq!(nano_cpus("x"), None);
    }
}
