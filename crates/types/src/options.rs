//! Options of Skep's own, as labels: Docker's command line has no flags for them, and what it does not know of a spec it drops.
//! All begin with `skep.`, and one that is not known is refused, so that none is ignored in silence.

use std::time::Duration;

use crate::spec::Labels;

/// What they all begin with.
const PREFIX: &str = "skep.";
/// On a service: the delay between restarts doubles with each crash in a row, up to this.
const BACKOFF: &str = "skep.restart.backoff";
/// On a service: an update whose new tasks do not come to run within this time fails.
const DEADLINE: &str = "skep.update.deadline";
/// On a service: with `local`, a node that has tasks of it asks these alone for its published ports.
const PREFER: &str = "skep.mesh.prefer";
/// On a node: with `update`, its tasks leave as their services' update order and parallelism say.
const DRAIN: &str = "skep.drain";

/// The longest delay between restarts, if it grows.
#[must_use]
pub fn backoff(service: &Labels) -> Option<Duration> {
    service.get(BACKOFF).and_then(|v| duration(v))
}

/// How long an update may go without progress, if that is limited.
#[must_use]
pub fn deadline(service: &Labels) -> Option<Duration> {
    service.get(DEADLINE).and_then(|v| duration(v))
}

/// Whether published ports prefer tasks on the node that was entered.
#[must_use]
pub fn prefers_local(service: &Labels) -> bool {
    service.get(PREFER).is_some_and(|v| v == "local")
}

/// Whether a node that is drained keeps each task until its service's update order lets it go.
#[must_use]
pub fn drains_by_update(node: &Labels) -> bool {
    node.get(DRAIN).is_some_and(|v| v == "update")
}

/// Whether the options among a service's labels can be read.
///
/// # Errors
/// The first that cannot, and what is possible.
pub fn check_service(labels: &Labels) -> Result<(), String> {
    check(labels, "service", &[PREFER, BACKOFF, DEADLINE], |key, v| match key {
        PREFER => matches!(v, "local" | "any").then_some(()).ok_or("local or any"),
        _ => duration(v).map(drop).ok_or("a duration above zero, such as 90s or 1h30m"),
    })
}

/// The same of a node's labels.
///
/// # Errors
/// As [`check_service`].
pub fn check_node(labels: &Labels) -> Result<(), String> {
    check(labels, "node", &[DRAIN], |_, v| if matches!(v, "update" | "at-once") { Ok(()) } else { Err("update or at-once") })
}

fn check(
    labels: &Labels,
    of: &str,
    known: &[&str],
    fits: impl Fn(&str, &str) -> Result<(), &'static str>,
) -> Result<(), String> {
    for (key, value) in labels.iter().filter(|(k, _)| k.starts_with(PREFIX)) {
        if !known.contains(&key.as_str()) {
            return Err(format!("label {key} is no option of a {of}: those that begin with {PREFIX} are {}", known.join(", ")));
        }
        fits(key, value).map_err(|wanted| format!("label {key}={value}: the value must be {wanted}"))?;
    }
    Ok(())
}

/// A duration as Docker's command line writes them, in whole numbers: `1h30m`, `90s`, `500ms`. Zero is none.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut out) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit);
        let nanos: u64 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        out = out.checked_add(Duration::from_nanos(number.parse::<u64>().ok()?.checked_mul(nanos)?))?;
        rest = next;
    }
    (!out.is_zero()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Labels {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn options_are_read_or_refused_by_name() {
        for (text, seconds) in [("90s", 90.0), ("1h30m", 5_400.0), ("1500ms", 1.5), ("2m0s", 120.0)] {
            assert_eq!(backoff(&one(BACKOFF, text)), Some(Duration::from_secs_f64(seconds)), "{text}");
            assert!(check_service(&one(DEADLINE, text)).is_ok());
        }
        for bad in ["", "0s", "5", "s", "-1s", "1.5h", "1d", "99999999999999h", "5sm"] {
            let refused = check_service(&one(DEADLINE, bad)).expect_err(bad);
            assert!(
                refused.starts_with(&format!("label skep.update.deadline={bad}: the value must be a duration")),
                "{refused}"
            );
            assert_eq!(deadline(&one(DEADLINE, bad)), None);
        }
        assert!(drains_by_update(&one(DRAIN, "update")) && !drains_by_update(&one(DRAIN, "at-once")));
        assert!(check_node(&one(DRAIN, "at-once")).is_ok() && check_node(&one(DRAIN, "slow")).is_err());
        let refused = check_service(&one("skep.drain", "update")).expect_err("of nodes only");
        assert!(refused.contains("skep.restart.backoff, skep.update.deadline"), "{refused}");
        assert!(prefers_local(&one(PREFER, "local")) && !prefers_local(&one(PREFER, "any")));
        assert!(check_service(&one(PREFER, "any")).is_ok() && check_service(&one(PREFER, "near")).is_err());
        assert!(check_service(&one("com.example.skep.x", "y")).is_ok());
    }
}
