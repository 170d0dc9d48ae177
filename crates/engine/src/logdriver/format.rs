//! The forms in which records are sent. Pure.

use super::fluentd::Fluentd;
use super::gelf::Gelf;
use super::splunk::Splunk;
use super::syslog::Syslog;
use super::{About, Line, aws, journald};

/// A form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// RFC 3164 or RFC 5424.
    Syslog(Syslog),
    /// journald's native protocol.
    Journald,
    /// Graylog's JSON.
    Gelf(Gelf),
    /// fluentd's forward protocol.
    Fluentd(Fluentd),
    /// Events of Splunk's collector.
    Splunk(Splunk),
    /// Events of CloudWatch.
    Aws,
}

impl Format {
    /// A record as messages; `id` is drawn for it.
    pub(super) fn encode(&self, about: &About, line: &Line, id: [u8; 8]) -> Vec<Vec<u8>> {
        match self {
            Self::Syslog(s) => vec![s.encode(about, line, std::process::id())],
            Self::Journald => vec![journald::encode(about, line)],
            Self::Gelf(g) => g.encode(about, line, id),
            Self::Fluentd(f) => vec![f.encode(about, line)],
            Self::Splunk(s) => s.encode(about, line).into_iter().collect(),
            Self::Aws => aws::encode(line).into_iter().collect(),
        }
    }
}
