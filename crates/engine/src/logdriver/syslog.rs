//! syslog: the forms of Docker's driver. The time is the record's, not that of its sending.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::{About, Line};

/// Facilities by their numbers; those between `ftp` and `local0` have no names.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const ERROR: u8 = 3;
const INFO: u8 = 6;

/// How a message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As to the host's own syslog, without a host name.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// The form of syslog messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Syslog {
    facility: u8,
    shape: Shape,
    /// Each message comes after its length (RFC 5425).
    framed: bool,
}

impl Syslog {
    /// Reads the options, with Docker's texts.
    pub(super) fn read(facility: Option<&str>, format: Option<&str>, secured: bool) -> Result<Self, String> {
        let facility = match facility {
            None => 3,
            Some(text) => match FACILITIES.iter().find(|(name, _)| *name == text) {
                Some((_, number)) => *number,
                None => text.parse().ok().filter(|n| *n <= 23).ok_or("invalid syslog facility")?,
            },
        };
        let shape = match format {
            None => Shape::Local,
            Some("rfc3164") => Shape::Rfc3164,
            Some("rfc5424") => Shape::Rfc5424,
            Some("rfc5424micro") => Shape::Rfc5424Micro,
            Some(other) => return Err(format!("Invalid syslog format: {other:?} is none of rfc3164, rfc5424, rfc5424micro")),
        };
        Ok(Self { facility, shape, framed: secured && matches!(shape, Shape::Rfc5424 | Shape::Rfc5424Micro) })
    }

    pub(super) fn encode(&self, about: &About, line: &Line, pid: u32) -> Vec<u8> {
        self.in_zone(about, line, pid, TimeZone::system())
    }

    fn in_zone(&self, about: &About, line: &Line, pid: u32, zone: TimeZone) -> Vec<u8> {
        let priority = u32::from(self.facility) * 8 + u32::from(if line.stderr { ERROR } else { INFO });
        // A record without a time was torn; then it is the first of all times.
        let at = line.time.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
        let (host, tag, text) = (&about.hostname, &about.tag, &line.text);
        let zone = if at.offset() == Offset::UTC { "Z".to_owned() } else { at.strftime("%:z").to_string() };
        let short = at.strftime("%b %e %H:%M:%S");
        let long = at.strftime("%Y-%m-%dT%H:%M:%S");
        let message = match self.shape {
            Shape::Local => format!("<{priority}>{short} {tag}[{pid}]: {text}\n"),
            Shape::Rfc3164 => format!("<{priority}>{short} {host} {tag}[{pid}]: {text}\n"),
            Shape::Rfc5424 => format!("<{priority}>1 {long}{zone} {host} {tag} {pid} {tag} - {text}\n"),
            Shape::Rfc5424Micro => {
                let micro = at.subsec_nanosecond() / 1000;
                format!("<{priority}>1 {long}.{micro:06}{zone} {host} {tag} {pid} {tag} - {text}\n")
            }
        };
        if self.framed { format!("{} {message}", message.len()).into_bytes() } else { message.into_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_forms_of_the_rfcs() {
        let about = About { hostname: "h1".into(), tag: "web".into(), ..About::default() };
        let line = Line { stderr: false, time: "2026-03-04T05:06:07.123456789Z".into(), text: "hello".into(), partial: false };
        let of = |facility: Option<&str>, format: Option<&str>, stderr: bool, zone: TimeZone| {
            let line = Line { stderr, ..line.clone() };
            let bytes = Syslog::read(facility, format, false).expect("good").in_zone(&about, &line, 7, zone);
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(of(None, None, false, TimeZone::UTC), "<30>Mar  4 05:06:07 web[7]: hello\n");
        assert_eq!(of(Some("local0"), Some("rfc3164"), true, TimeZone::UTC), "<131>Mar  4 05:06:07 h1 web[7]: hello\n");
        assert_eq!(of(Some("0"), Some("rfc5424"), false, TimeZone::UTC), "<6>1 2026-03-04T05:06:07Z h1 web 7 web - hello\n");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        let micro = of(None, Some("rfc5424micro"), false, east);
        assert_eq!(micro, "<30>1 2026-03-04T07:06:07.123456+02:00 h1 web 7 web - hello\n");
        let framed = Syslog::read(None, Some("rfc5424"), true).expect("good").in_zone(&about, &line, 7, TimeZone::UTC);
        assert!(framed.starts_with(b"48 <30>1 2026-"), "{}", String::from_utf8_lossy(&framed));
        assert!(Syslog::read(Some("24"), None, false).is_err());
    }
}
