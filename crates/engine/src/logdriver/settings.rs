//! From log options to what they mean: how much is kept here, where the rest goes, and in what form. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use skep_types::logdriver;

use super::aws::Stream;
use super::fluentd::Fluentd;
use super::format::Format;
use super::gelf::{Compression, Gelf};
use super::splunk::{Collector, Splunk};
use super::syslog::Syslog;
use super::tls::Tls;
use super::wire::Target;
use crate::container::parse_size;

/// Size of a file of the drivers that keep a copy, as in Docker.
const CACHE_SIZE: u64 = 20 << 20;
/// Files of the drivers that keep a copy, as in Docker.
const CACHE_FILES: u32 = 5;
/// What waits to be sent without blocking, as in Docker.
const BUFFER: u64 = 1 << 20;
/// Where journald listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// First wait before a server is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How a container logs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Bytes of a file; 0 is no limit.
    pub(crate) max_size: u64,
    /// Files kept.
    pub(crate) max_files: u32,
    /// Rotated files are packed.
    pub(crate) compress: bool,
    /// Nothing may be read here.
    pub(crate) unreadable: bool,
    /// Where records go, if they leave this host.
    pub(crate) remote: Option<Remote>,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remote {
    /// Name of the driver.
    pub(crate) driver: String,
    /// Whom to send to.
    pub(crate) target: Target,
    /// In what form.
    pub(crate) format: Format,
    /// Most bytes of the file that wait to be sent; older ones are given up. None waits as long as the file has it.
    pub(crate) buffer: Option<u64>,
    /// The container starts whether the server is there or not.
    pub(crate) lazy: bool,
    /// First wait before a server is tried again.
    pub(crate) retry: Duration,
    /// A server is given up for good after so many tries in a row; `None` never.
    pub(crate) tries: Option<u32>,
}

/// Options, by name.
pub(super) struct Options<'a>(pub(super) &'a BTreeMap<String, String>);

impl<'a> Options<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Whether it is given as nothing.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(String::is_empty)
    }

    pub(super) fn size(&self, key: &str, default: u64) -> Result<u64, String> {
        // Docker takes -1 for no limit.
        match self.get(key) {
            None => Ok(default),
            Some("-1") => Ok(0),
            Some(text) => parse_size(text).map_err(|e| format!("invalid value for log option {key}: {}", e.message)),
        }
    }

    pub(super) fn number(&self, key: &str, default: u32) -> Result<u32, String> {
        let Some(text) = self.get(key) else { return Ok(default) };
        text.parse().map_err(|_| format!("invalid value for log option {key}: {text:?} is no number"))
    }

    pub(super) fn truth(&self, key: &str) -> Result<bool, String> {
        match self.get(key) {
            None | Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some(text) => Err(format!("invalid value for log option {key}: {text:?} is neither true nor false")),
        }
    }

    /// What is said of TLS.
    fn tls(&self) -> Result<Tls, String> {
        let file = |key: &str| self.get(key).map(PathBuf::from);
        let own = match (file("syslog-tls-cert"), file("syslog-tls-key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("syslog-tls-cert and syslog-tls-key belong together: give both or none".to_owned()),
        };
        // Docker looks at its presence only.
        let skip_verify = self.get("syslog-tls-skip-verify").is_some();
        Ok(Tls { ca: file("syslog-tls-ca-cert"), own, skip_verify, name: None })
    }

    /// A duration as Go writes it, of one unit: `100ms`, `3s`, `1m`.
    fn duration(&self, key: &str, default: Duration) -> Result<Duration, String> {
        let Some(text) = self.get(key) else { return Ok(default) };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let bad = || format!("invalid value for log option {key}: {text:?} is no duration such as 500ms or 2s");
        let n: u64 = digits.parse().map_err(|_| bad())?;
        Ok(match &text[digits.len()..] {
            "ms" => Duration::from_millis(n),
            "s" | "" => Duration::from_secs(n),
            "m" => Duration::from_secs(n.saturating_mul(60)),
            _ => return Err(bad()),
        })
    }
}

impl Settings {
    /// Reads the options of a driver, whose names were looked at.
    ///
    /// # Errors
    /// In words, with the option's name.
    pub(crate) fn read(driver: &str, options: &BTreeMap<String, String>) -> Result<Self, String> {
        let o = Options(options);
        let remote = logdriver::is_remote(driver);
        let (size_key, files_key) = if remote { ("cache-max-size", "cache-max-file") } else { ("max-size", "max-file") };
        let copy = remote || driver == "local";
        let max_size = o.size(size_key, if copy { CACHE_SIZE } else { 0 })?;
        let max_files = o.number(files_key, if copy { CACHE_FILES } else { 1 })?;
        if max_files < 1 {
            return Err(format!("invalid value for log option {files_key}: it cannot be less than 1"));
        }
        let rotates = max_size > 0 && max_files > 1;
        let compress = match o.get("compress") {
            // As Docker's.
            None => driver == "local" && rotates,
            Some(_) => o.truth("compress")?,
        };
        if compress && !rotates {
            return Err("compress cannot be true when max-file is less than 2 or max-size is not set".to_owned());
        }
        let blocking = o.get("mode") != Some("non-blocking");
        let buffer = o.size("max-buffer-size", BUFFER)?;
        let remote = if remote { Some(Remote::read(driver, &o, (!blocking).then_some(buffer))?) } else { None };
        Ok(Self { max_size, max_files, compress, unreadable: driver == logdriver::NONE || o.truth("cache-disabled")?, remote })
    }
}

impl Remote {
    fn read(driver: &str, o: &Options<'_>, buffer: Option<u64>) -> Result<Self, String> {
        let mut out = Self {
            driver: driver.to_owned(),
            target: Target::Unixgram(PathBuf::from(JOURNAL)),
            format: Format::Journald,
            buffer,
            lazy: false,
            retry: RETRY,
            tries: None,
        };
        match driver {
            "syslog" => {
                out.target = match o.get("syslog-address") {
                    None => Target::LocalSyslog,
                    Some(a) => Target::read(a, 514, &["udp", "tcp", "tcp+tls", "unix", "unixgram"], "syslog-address")?,
                };
                let secured = matches!(out.target, Target::Tls(..));
                if let Target::Tls(_, tls) = &mut out.target {
                    *tls = o.tls()?;
                }
                out.format = Format::Syslog(Syslog::read(o.get("syslog-facility"), o.get("syslog-format"), secured)?);
            }
            "gelf" => {
                let address = o.get("gelf-address").ok_or("gelf-address is a required parameter")?;
                out.target = Target::read(address, 12201, &["udp", "tcp"], "gelf-address")?;
                let tcp = matches!(out.target, Target::Tcp(_));
                let level = o.number("gelf-compression-level", 1)?;
                if level > 9 {
                    return Err(format!("gelf: invalid value for gelf-compression-level: {level}"));
                }
                let compression = match o.get("gelf-compression-type") {
                    Some("none") => Compression::None,
                    None | Some("gzip") => Compression::Gzip(level),
                    Some("zlib") => Compression::Zlib(level),
                    Some(other) => {
                        return Err(format!(
                            "gelf: invalid value for gelf-compression-type: {other:?} is none of gzip, zlib, none"
                        ));
                    }
                };
                for key in ["gelf-compression-type", "gelf-compression-level"] {
                    if tcp && o.get(key).is_some() {
                        return Err(format!("compression is only supported on UDP: {key}"));
                    }
                }
                out.tries = o.get("gelf-tcp-max-reconnect").map(|_| o.number("gelf-tcp-max-reconnect", 3)).transpose()?;
                out.retry = Duration::from_secs(o.number("gelf-tcp-reconnect-delay", 1)?.max(1).into());
                out.format = Format::Gelf(Gelf { compression: if tcp { Compression::Stream } else { compression } });
            }
            "fluentd" => {
                let address = o.get("fluentd-address").unwrap_or("127.0.0.1:24224");
                let whole = if address.contains("://") { address.to_owned() } else { format!("tcp://{address}") };
                out.target = Target::read(&whole, 24224, &["tcp", "tls", "unix"], "fluentd-address")?;
                out.lazy = o.truth("fluentd-async")? || o.truth("fluentd-async-connect")?;
                out.retry = o.duration("fluentd-retry-wait", Duration::from_secs(1))?;
                out.tries = o.get("fluentd-max-retries").map(|_| o.number("fluentd-max-retries", 0)).transpose()?;
                if o.get("fluentd-buffer-limit").is_some() {
                    out.buffer = Some(o.size("fluentd-buffer-limit", BUFFER)?);
                }
                out.format = Format::Fluentd(Fluentd { precise: o.truth("fluentd-sub-second-precision")? });
            }
            "splunk" => {
                let to = Collector::read(o)?;
                out.lazy = !to.verify;
                out.target = Target::Splunk(Box::new(to));
                out.format = Format::Splunk(Splunk::read(o)?);
            }
            "awslogs" => {
                out.target = Target::Aws(Box::new(Stream::read(o)?));
                // As Docker's, which makes the stream beside the container then.
                out.lazy = o.get("mode") == Some("non-blocking");
                out.format = Format::Aws;
            }
            _ => {}
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: &str, pairs: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(driver, &pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn limits_are_dockers() {
        let s = of("json-file", &[]).expect("default");
        assert_eq!((s.max_size, s.max_files, s.unreadable, s.remote), (0, 1, false, None));
        let s = of("local", &[("max-file", "3")]).expect("local");
        assert_eq!((s.max_size, s.max_files, s.compress), (20 << 20, 3, true));
        assert!(!of("local", &[("max-file", "1")]).expect("one file").compress);
        assert!(of("json-file", &[("max-size", "1m"), ("max-file", "2"), ("compress", "true")]).expect("packed").compress);
        let s = of("syslog", &[("cache-max-size", "1m"), ("cache-disabled", "true")]).expect("syslog");
        assert_eq!((s.max_size, s.max_files, s.unreadable), (1 << 20, 5, true));
        let remote = s.remote.expect("remote");
        assert_eq!((remote.buffer, remote.target), (None, Target::LocalSyslog));
        let s = of("syslog", &[("mode", "non-blocking"), ("syslog-address", "udp://h")]).expect("syslog");
        let remote = s.remote.expect("remote");
        assert_eq!((remote.buffer, remote.target), (Some(1 << 20), Target::Udp("h:514".to_owned())));
        let s = of("fluentd", &[("fluentd-address", "h:1"), ("fluentd-async", "true"), ("fluentd-retry-wait", "100ms")]);
        let remote = s.expect("fluentd").remote.expect("remote");
        assert_eq!(
            (remote.lazy, remote.retry, remote.target),
            (true, Duration::from_millis(100), Target::Tcp("h:1".to_owned()))
        );
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for (driver, pairs, words) in [
            ("json-file", &[("max-size", "big")][..], "max-size"),
            ("local", &[("max-file", "0")], "cannot be less than 1"),
            ("gelf", &[], "gelf-address is a required parameter"),
            ("gelf", &[("gelf-address", "unix:///x")], "gelf-address"),
            ("gelf", &[("gelf-address", "tcp://h:1"), ("gelf-compression-type", "gzip")], "only supported on UDP"),
            ("syslog", &[("syslog-address", "ftp://h")], "syslog-address"),
            ("fluentd", &[("fluentd-address", "tcp+tls://h:1")], "the protocol is none of tcp, tls, unix"),
            ("splunk", &[("splunk-token", "t")], "splunk-url is expected"),
            ("awslogs", &[("awslogs-region", "eu-west-1")], "awslogs-group"),
            ("syslog", &[("syslog-address", "tcp+tls://h:1"), ("syslog-tls-cert", "/a")], "belong together"),
            ("syslog", &[("syslog-facility", "cats")], "invalid syslog facility"),
            ("syslog", &[("syslog-format", "x")], "Invalid syslog format"),
            ("fluentd", &[("fluentd-async", "maybe")], "fluentd-async"),
            ("json-file", &[("compress", "true"), ("max-file", "3")], "compress cannot be true when max-file is less than 2"),
            ("local", &[("compress", "true"), ("max-file", "1")], "compress cannot be true when max-file is less than 2"),
            ("json-file", &[("compress", "perhaps")], "compress"),
        ] {
            let refused = of(driver, pairs).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
