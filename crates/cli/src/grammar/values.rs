//! Values of flags: spans of time, sizes, CPUs, numbers, with the texts of errors that Go's clients give.

use super::flags::Kind;

/// Checks that a value is of its flag's kind.
///
/// # Errors
/// Why not, as it stands after `invalid argument "x" for "--flag" flag: `.
pub fn check(kind: Kind, value: &str) -> Result<(), String> {
    match kind {
        Kind::Text => Ok(()),
        Kind::Bool => truth(value).map(|_| ()),
        Kind::Int => number(value, "Int", value.parse::<i64>().map(|_| ())),
        Kind::Uint => number(value, "Uint", value.parse::<u64>().map(|_| ())),
        Kind::Float => {
            value.parse::<f64>().map(|_| ()).map_err(|_| format!("strconv.ParseFloat: parsing {value:?}: invalid syntax"))
        }
        Kind::Duration => duration(value).map(|_| ()),
        Kind::Bytes => bytes(value).map(|_| ()),
        Kind::Cpus => nano_cpus(value).map(|_| ()),
    }
}

fn number(value: &str, what: &str, parsed: Result<(), std::num::ParseIntError>) -> Result<(), String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    parsed.map_err(|e| {
        let why = if matches!(e.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
        format!("strconv.Parse{what}: parsing {value:?}: {why}")
    })
}

/// `true`, `1`, `t` and their opposites.
///
/// # Errors
/// Go's text for anything else.
pub fn truth(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
    }
}

/// A span of time in nanoseconds: `1h2m3.5s`, `300ms`, `-1s`, `0`.
///
/// # Errors
/// Go's text when it is none or does not fit.
pub fn duration(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (value, after) = rest.split_at(digits);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        // Eighteen digits are a year of nanoseconds and more; longer ones cannot fit.
        if value.is_empty() || value == "." || value.len() > 20 {
            return Err(bad());
        }
        let one: i128 = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        let (whole, part) = value.split_once('.').unwrap_or((value, ""));
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        total += whole * one;
        let mut weight = one;
        for digit in part.chars() {
            weight /= 10;
            total += i128::from(digit.to_digit(10).ok_or_else(bad)?) * weight;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

/// A size in bytes: a number with `b`, `k`, `m`, `g`, `t` or `p`, as powers of 1024.
///
/// # Errors
/// Docker's text when it is none.
pub fn bytes(text: &str) -> Result<i64, String> {
    let bad = || format!("invalid size: '{text}'");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(lower.len());
    let (value, unit) = lower.split_at(digits);
    let value: f64 = value.parse().map_err(|_| bad())?;
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{}'", unit.trim())),
    };
    let size = value * 1024_f64.powi(shift);
    // Beyond this a float no longer counts bytes one by one, and nobody has so much memory.
    if !(0.0..9.0e15).contains(&size) { Err(bad()) } else { Ok(size as i64) }
}

/// A number of CPUs in billionths: `0.5` is 500,000,000.
///
/// # Errors
/// Docker's text when it is none, or finer than a billionth.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && part.is_empty() || !part.chars().all(|c| c.is_ascii_digit()) {
        return Err(bad());
    }
    if part.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let part: i64 = part.parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(part)).ok_or_else(bad)
}

/// A span of time as Go prints it: `1h2m3s`, `1.5s`, `300ms`.
#[must_use]
pub fn show_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |n: u64, unit: u64, name: &str| {
        let part = format!("{:0width$}", n % unit, width = unit.ilog10() as usize);
        let part = part.trim_end_matches('0');
        if part.is_empty() { format!("{}{name}", n / unit) } else { format!("{}.{part}{name}", n / unit) }
    };
    let text = match n {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => fraction(n, 1_000, "µs"),
        n if n < 1_000_000_000 => fraction(n, 1_000_000, "ms"),
        n => {
            let (seconds, nanos) = (n / 1_000_000_000, n % 1_000_000_000);
            let tail = fraction((seconds % 60) * 1_000_000_000 + nanos, 1_000_000_000, "s");
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => tail,
                (0, m) => format!("{m}m{tail}"),
                (h, m) => format!("{h}h{m}m{tail}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        assert_eq!(duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(duration("300ms"), Ok(300_000_000));
        assert_eq!(duration("0"), Ok(0));
        assert_eq!(duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(duration("x"), Err("time: invalid duration \"x\"".to_owned()));
        assert!(duration("99999999999999999999h").is_err());
        for text in ["1h0m0s", "1m30s", "1.5s", "300ms", "0s", "2160h0m0s", "1.5µs", "-2s"] {
            assert_eq!(duration(text).map(show_duration), Ok(text.to_owned()));
        }
    }

    #[test]
    fn sizes_and_cpus() {
        assert_eq!(bytes("512m"), Ok(512 << 20));
        assert_eq!(bytes("1.5g"), Ok(3 << 29));
        assert_eq!(bytes("x"), Err("invalid size: 'x'".to_owned()));
        assert!(bytes("1z").is_err());
        assert_eq!(nano_cpus("0.5"), Ok(500_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert!(nano_cpus("0.0000000001").is_err() && nano_cpus("a").is_err() && nano_cpus(".").is_err());
    }

    #[test]
    fn numbers_fail_with_known_texts() {
        assert_eq!(check(Kind::Uint, "x"), Err("strconv.ParseUint: parsing \"x\": invalid syntax".to_owned()));
        assert_eq!(check(Kind::Uint, "-1"), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".to_owned()));
        assert_eq!(
            check(Kind::Int, "99999999999999999999"),
            Err("strconv.ParseInt: parsing \"99999999999999999999\": value out of range".to_owned())
        );
    }
}
