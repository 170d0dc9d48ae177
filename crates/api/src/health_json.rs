//! Health checks in JSON: as clients ask for them, and what came of them.

use std::time::Duration;

use serde_json::{Map, Value, json};
use skep_types::health::{Health, HealthConfig};

use crate::error::{Failure, Handled};
use crate::fields::Fields;
use crate::swarm::nanos;

/// Shortest time that Docker lets be asked for.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads `Healthcheck`; errors name the check as `place`.
pub(crate) fn read(mut f: Fields, place: &str) -> Handled<HealthConfig> {
    let mut time = |key: &str| -> Handled<Duration> {
        let given = Duration::from_nanos(u64::try_from(f.get::<i64>(key)?).unwrap_or(1));
        if !given.is_zero() && given < SHORTEST {
            return Err(Failure::invalid(format!("{key} in {place} cannot be less than 1ms")));
        }
        Ok(given)
    };
    let (interval, timeout) = (time("Interval")?, time("Timeout")?);
    let (start_period, start_interval) = (time("StartPeriod")?, time("StartInterval")?);
    let retries = u32::try_from(f.get::<i64>("Retries")?)
        .map_err(|_| Failure::invalid(format!("Retries in {place} cannot be negative")))?;
    let test: Vec<String> = f.get("Test")?;
    f.finish()?;
    if !matches!(test.first().map(String::as_str), None | Some("NONE" | "CMD" | "CMD-SHELL")) {
        return Err(Failure::invalid(format!("Unknown healthcheck type {:?} in {place} (expected 'CMD')", test[0])));
    }
    Ok(HealthConfig { test, interval, timeout, start_period, start_interval, retries })
}

/// Writes `Healthcheck`.
pub(crate) fn config(c: &HealthConfig) -> Value {
    let mut out = Map::new();
    if !c.test.is_empty() {
        out.insert("Test".to_owned(), json!(c.test));
    }
    let times = [
        ("Interval", c.interval),
        ("Timeout", c.timeout),
        ("StartPeriod", c.start_period),
        ("StartInterval", c.start_interval),
    ];
    for (key, time) in times.into_iter().filter(|(_, t)| !t.is_zero()) {
        out.insert(key.to_owned(), json!(nanos(time)));
    }
    if c.retries != 0 {
        out.insert("Retries".to_owned(), json!(c.retries));
    }
    Value::Object(out)
}

/// Writes `State.Health`.
pub(crate) fn state(h: &Health) -> Value {
    let log: Vec<Value> = h
        .log
        .iter()
        .map(|p| json!({"Start": p.start.rfc3339(), "End": p.end.rfc3339(), "ExitCode": p.exit_code, "Output": p.output}))
        .collect();
    json!({"Status": h.status.as_str(), "FailingStreak": h.failing_streak, "Log": log})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_and_written_alike_or_refused() {
        let text = json!({"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2, "StartPeriod": 5_000_000});
        let read_it = |v: Value| read(Fields::of(v, "Healthcheck").expect("object"), "Healthcheck");
        assert_eq!(config(&read_it(text.clone()).expect("reads")), text);
        for (bad, why) in [
            (json!({"Interval": 999}), "Interval in Healthcheck cannot be less than 1ms"),
            (json!({"Timeout": -1}), "Timeout in Healthcheck cannot be less than 1ms"),
            (json!({"Retries": -3}), "Retries in Healthcheck cannot be negative"),
            (json!({"Test": ["true"]}), "Unknown healthcheck type \"true\""),
        ] {
            let refused = read_it(bad).expect_err("refused").0.message;
            assert!(refused.contains(why), "{refused}");
        }
    }
}
