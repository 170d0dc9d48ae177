//! Log drivers and their options, by name: what there is, and what Docker has and Skep does not.

use std::collections::BTreeMap;

/// The one that keeps nothing.
pub const NONE: &str = "none";
/// The one that is used when nobody says otherwise.
pub const DEFAULT: &str = "json-file";
/// Drivers that there are, `none` aside.
pub const DRIVERS: [&str; 8] = ["awslogs", "fluentd", "gelf", "journald", "json-file", "local", "splunk", "syslog"];
/// Drivers that Docker has besides.
const UNBUILT: [&str; 3] = ["etwlogs", "gcplogs", "logentries"];

/// Options of every driver that keeps something.
const COMMON: [&str; 2] = ["mode", "max-buffer-size"];
/// What is added to records.
const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
/// The copy that this host keeps of what goes elsewhere.
const CACHE: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
/// Options that Docker has and Skep does not.
const UNBUILT_OPTIONS: [&str; 7] = [
    "awslogs-datetime-format",
    "awslogs-format",
    "awslogs-multiline-pattern",
    "fluentd-request-ack",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
    "splunk-index-acknowledgment",
];

/// Why a driver cannot be had with these options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is none of this name.
    Unknown(String),
    /// Docker has it, Skep does not: what.
    Unbuilt(String),
    /// No driver has such options: Docker's text.
    Invalid(String),
}

fn own(driver: &str) -> &'static [&'static str] {
    match driver {
        "json-file" => &["max-size", "max-file", "compress"],
        "local" => &["max-size", "max-file", "compress"],
        "syslog" => &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        "gelf" => &[
            "gelf-address",
            "gelf-compression-type",
            "gelf-compression-level",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
        "fluentd" => &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-connect",
            "fluentd-buffer-limit",
            "fluentd-retry-wait",
            "fluentd-max-retries",
            "fluentd-sub-second-precision",
        ],
        "splunk" => &[
            "splunk-caname",
            "splunk-capath",
            "splunk-format",
            "splunk-gzip",
            "splunk-gzip-level",
            "splunk-index",
            "splunk-insecureskipverify",
            "splunk-source",
            "splunk-sourcetype",
            "splunk-token",
            "splunk-url",
            "splunk-verify-connection",
        ],
        "awslogs" => &[
            "awslogs-create-group",
            "awslogs-create-stream",
            "awslogs-credentials-endpoint",
            "awslogs-endpoint",
            "awslogs-force-flush-interval-seconds",
            "awslogs-group",
            "awslogs-max-buffered-events",
            "awslogs-region",
            "awslogs-stream",
            "tag",
        ],
        _ => &[],
    }
}

/// Whether a driver's records leave this host.
#[must_use]
pub fn is_remote(driver: &str) -> bool {
    matches!(driver, "awslogs" | "fluentd" | "gelf" | "journald" | "splunk" | "syslog")
}

/// Whether there is such a driver with such options; their values are the host's to look at. An empty name is the host's default.
///
/// # Errors
/// The first fault.
pub fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<(), Fault> {
    if UNBUILT.contains(&driver) {
        return Err(Fault::Unbuilt(format!("the log driver {driver}")));
    }
    if !driver.is_empty() && driver != NONE && !DRIVERS.contains(&driver) {
        return Err(Fault::Unknown(driver.to_owned()));
    }
    let is = |key: &str, list: &[&str]| list.contains(&key);
    for (key, value) in options {
        let known = match driver {
            NONE => false,
            // Whatever the default is: the host looks again when it knows.
            "" => true,
            "local" => is(key, &COMMON) || is(key, own(driver)),
            // Their messages have no room for more.
            "awslogs" => is(key, &COMMON) || is(key, &CACHE) || is(key, own(driver)),
            "json-file" => is(key, &COMMON) || is(key, &ATTRIBUTES) || is(key, own(driver)),
            _ => is(key, &COMMON) || is(key, &ATTRIBUTES) || is(key, &CACHE) || is(key, own(driver)),
        };
        // What waits to be sent is read from a place in it.
        let compresses = key == "cache-compress" && value != "false";
        if (driver != NONE && is(key, &UNBUILT_OPTIONS)) || (known && compresses) {
            return Err(Fault::Unbuilt(format!("the log option {key}={value}")));
        }
        if !known {
            return Err(Fault::Invalid(format!("unknown log opt '{key}' for {driver} log driver")));
        }
    }
    match options.get("mode").map(String::as_str) {
        None | Some("" | "blocking") if options.contains_key("max-buffer-size") => {
            Err(Fault::Invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned()))
        }
        None | Some("" | "blocking" | "non-blocking") => Ok(()),
        Some(mode) => Err(Fault::Invalid(format!("logger: logging mode not supported: {mode}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: &str, pairs: &[(&str, &str)]) -> Result<(), Fault> {
        check(driver, &pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn drivers_and_options_are_known_by_name() {
        for (driver, pairs) in [
            ("", &[("max-size", "1m")][..]),
            ("json-file", &[("max-size", "1m"), ("labels", "a"), ("tag", "{{.Name}}"), ("compress", "false")]),
            ("syslog", &[("syslog-address", "udp://x:1"), ("mode", "non-blocking"), ("max-buffer-size", "4m")]),
            ("fluentd", &[("fluentd-async", "true"), ("cache-disabled", "true")]),
            ("none", &[]),
            ("local", &[("compress", "true")]),
            ("splunk", &[("splunk-url", "https://x:8088"), ("splunk-token", "t"), ("env-regex", "^A")]),
            ("awslogs", &[("awslogs-region", "eu-west-1"), ("awslogs-group", "g"), ("tag", "{{.Name}}")]),
        ] {
            assert_eq!(of(driver, pairs), Ok(()), "{driver}");
        }
        let invalid = |text: &str| Err(Fault::Invalid(text.to_owned()));
        assert_eq!(of("none", &[("max-size", "1m")]), invalid("unknown log opt 'max-size' for none log driver"));
        assert_eq!(
            of("json-file", &[("cache-disabled", "1")]),
            invalid("unknown log opt 'cache-disabled' for json-file log driver")
        );
        assert_eq!(of("journald", &[("mode", "fast")]), invalid("logger: logging mode not supported: fast"));
        assert!(matches!(of("syslog", &[("max-buffer-size", "4m")]), Err(Fault::Invalid(_))));
        assert_eq!(of("gcplogs", &[]), Err(Fault::Unbuilt("the log driver gcplogs".to_owned())));
        let unbuilt = |text: &str| Err(Fault::Unbuilt(format!("the log option {text}")));
        assert_eq!(of("syslog", &[("cache-compress", "true")]), unbuilt("cache-compress=true"));
        assert_eq!(of("awslogs", &[("awslogs-multiline-pattern", "^x")]), unbuilt("awslogs-multiline-pattern=^x"));
        assert_eq!(of("awslogs", &[("labels", "x")]), invalid("unknown log opt 'labels' for awslogs log driver"));
        assert_eq!(of("loki", &[]), Err(Fault::Unknown("loki".to_owned())));
    }
}
