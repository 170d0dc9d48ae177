//! Splunk's HTTP event collector: `POST /services/collector/event/1.0` with one JSON object after the other.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_types::Secret;

use super::settings::Options;
use super::tls::Tls;
use super::{About, Line};
use crate::http::{Answer, Client, Url};

/// Where events are taken.
const PATH: &str = "/services/collector/event/1.0";
/// Codes with which the collector says that it will never take these events: no data, bad form, no event, an empty one.
const NEVER: [i64; 4] = [5, 6, 12, 13];

/// How a line stands in its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline,
    Json,
    Raw,
}

/// The form of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splunk {
    form: Form,
    source: String,
    sourcetype: String,
    index: String,
    tagged: bool,
}

impl Splunk {
    pub(super) fn read(o: &Options<'_>) -> Result<Self, String> {
        let form = match o.get("splunk-format") {
            None | Some("inline") => Form::Inline,
            Some("json") => Form::Json,
            Some("raw") => Form::Raw,
            Some(other) => {
                return Err(format!(
                    "unknown format specified {other}, supported formats are inline, json and raw for log option splunk-format"
                ));
            }
        };
        let text = |key: &str| o.get(key).unwrap_or_default().to_owned();
        let (source, sourcetype, index) = (text("splunk-source"), text("splunk-sourcetype"), text("splunk-index"));
        Ok(Self { form, source, sourcetype, index, tagged: !o.is_empty("tag") })
    }

    /// A record as an event; none of nothing, which Splunk refuses.
    pub(super) fn encode(&self, about: &About, line: &Line) -> Option<Vec<u8>> {
        let at = line.time.parse::<jiff::Timestamp>().unwrap_or_default();
        let tag = if self.tagged { about.tag.as_str() } else { "" };
        let event = if self.form == Form::Raw {
            let attributes: String = about.extra.iter().map(|(k, v)| format!("{k}={v} ")).collect();
            let text = format!("{tag}{}{attributes}{}", if tag.is_empty() { "" } else { " " }, line.text);
            if text.trim().is_empty() {
                return None;
            }
            Value::from(text)
        } else {
            let parsed = if self.form == Form::Json { serde_json::from_str(&line.text).ok() } else { None };
            let mut event = Map::new();
            event.insert("line".to_owned(), parsed.unwrap_or_else(|| Value::from(line.text.as_str())));
            event.insert("source".to_owned(), Value::from(if line.stderr { "stderr" } else { "stdout" }));
            if !tag.is_empty() {
                event.insert("tag".to_owned(), Value::from(tag));
            }
            if !about.extra.is_empty() {
                event.insert("attrs".to_owned(), json!(about.extra));
            }
            Value::Object(event)
        };
        let time = format!("{}.{:06}", at.as_second(), at.subsec_nanosecond() / 1000);
        let mut out = json!({"event": event, "time": time, "host": about.hostname});
        for (key, value) in [("source", &self.source), ("sourcetype", &self.sourcetype), ("index", &self.index)] {
            if !value.is_empty() {
                out[key] = Value::from(value.as_str());
            }
        }
        Some(out.to_string().into_bytes())
    }
}

/// Whom to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collector {
    url: Url,
    token: Secret,
    tls: Tls,
    /// Level of gzip; none sends them as they are.
    gzip: Option<u32>,
    /// It is asked whether it is there before the container starts.
    pub(super) verify: bool,
}

impl Collector {
    pub(super) fn read(o: &Options<'_>) -> Result<Self, String> {
        let address = o.get("splunk-url").ok_or("splunk-url is expected")?;
        let token = o.get("splunk-token").ok_or("splunk-token is expected")?;
        if token.contains(|c: char| c.is_control()) {
            return Err("invalid value for log option splunk-token: it holds a control character".to_owned());
        }
        let bad = |why: &str| format!("invalid value for log option splunk-url: {why}");
        let mut url = Url::read(address).map_err(|why| bad(&why))?;
        if url.path != "/" {
            return Err(bad("expected format scheme://dns_name_or_ip:port"));
        }
        PATH.clone_into(&mut url.path);
        let skip_verify = o.truth("splunk-insecureskipverify")?;
        let (ca, name) = (o.get("splunk-capath").map(Into::into), o.get("splunk-caname").map(str::to_owned));
        let level = match o.get("splunk-gzip-level") {
            None | Some("-1") => Compression::default().level(),
            Some(text) => text.parse().ok().filter(|n| *n <= 9).ok_or_else(|| {
                format!("not supported level '{text}' for splunk-gzip-level (supported values between -1 and 9)")
            })?,
        };
        let gzip = o.truth("splunk-gzip")?.then_some(level);
        let verify = o.get("splunk-verify-connection").is_none() || o.truth("splunk-verify-connection")?;
        Ok(Self { url, token: token.to_owned().into(), tls: Tls { ca, own: None, skip_verify, name }, gzip, verify })
    }
}

impl std::fmt::Display for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.url)
    }
}

#[derive(Deserialize)]
struct Said {
    code: i64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    to: Collector,
    client: Client,
}

fn refused(what: &str, answer: &Answer) -> io::Error {
    io::Error::other(format!("splunk: failed to {what} - {}", answer.words()))
}

impl Link {
    /// Reaches the collector, if it is to be asked whether it is there.
    pub(super) async fn connect(to: &Collector) -> io::Result<Self> {
        let mut link = Self { to: to.clone(), client: Client::new(to.url.clone(), to.tls.clone()) };
        if to.verify {
            let request = Request::builder().method(Method::OPTIONS).uri(to.url.path.as_str()).body(Full::default());
            let answer = link.client.ask(request.map_err(io::Error::other)?).await?;
            if answer.status != StatusCode::OK {
                return Err(refused("verify connection", &answer));
            }
        }
        Ok(link)
    }

    /// Sends events in one request.
    pub(super) async fn send(&mut self, events: &[Vec<u8>]) -> io::Result<()> {
        let mut body = events.concat();
        let mut request = Request::builder().method(Method::POST).uri(self.to.url.path.as_str());
        request = request.header(AUTHORIZATION, format!("Splunk {}", &*self.to.token));
        if let Some(level) = self.to.gzip {
            let mut packed = GzEncoder::new(Vec::new(), Compression::new(level));
            packed.write_all(&body)?;
            body = packed.finish()?;
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        let answer = self.client.ask(request).await?;
        let never = || serde_json::from_slice::<Said>(&answer.body).is_ok_and(|s| NEVER.contains(&s.code));
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::BAD_REQUEST if never() => {
                tracing::error!(events = events.len(), said = %answer.words(), "splunk takes these events never: they are given up");
                Ok(())
            }
            _ => Err(refused("send event", &answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn event(pairs: &[(&str, &str)], text: &str) -> Option<Value> {
        let about = About {
            tag: "web".into(),
            hostname: "h".into(),
            extra: [("zone".to_owned(), "a".to_owned())].into(),
            ..About::default()
        };
        let line = Line { stderr: false, time: "2026-01-01T00:00:00.250001Z".into(), text: text.into(), partial: false };
        let options = options(pairs);
        let bytes = Splunk::read(&Options(&options)).expect("good").encode(&about, &line)?;
        Some(serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[test]
    fn events_have_the_forms_of_dockers_driver() {
        let inline = event(&[("splunk-source", "s"), ("splunk-sourcetype", "t"), ("splunk-index", "i")], "{\"a\":1}");
        let expected = json!({"event": {"line": "{\"a\":1}", "source": "stdout", "tag": "web", "attrs": {"zone": "a"}},
            "time": "1767225600.250001", "host": "h", "source": "s", "sourcetype": "t", "index": "i"});
        assert_eq!(inline, Some(expected));
        let parsed = event(&[("splunk-format", "json"), ("tag", "")], "{\"a\":1}").expect("an event");
        assert_eq!(parsed["event"], json!({"line": {"a": 1}, "source": "stdout", "attrs": {"zone": "a"}}));
        assert_eq!(event(&[("splunk-format", "json")], "plain").expect("an event")["event"]["line"], json!("plain"));
        assert_eq!(event(&[("splunk-format", "raw")], "hi").expect("an event")["event"], json!("web zone=a hi"));
        let empty = Splunk::read(&Options(&options(&[("splunk-format", "raw"), ("tag", "")]))).expect("good");
        assert_eq!(
            empty.encode(&About::default(), &Line { stderr: false, time: String::new(), text: " ".into(), partial: false }),
            None
        );
    }

    #[test]
    fn addresses_and_levels_are_looked_at() {
        let of = |pairs: &[(&str, &str)]| {
            let all = [&[("splunk-url", "https://s:8088"), ("splunk-token", "t")], pairs].concat();
            Collector::read(&Options(&options(&all)))
        };
        let plain = of(&[]).expect("good");
        assert_eq!(
            (plain.to_string().as_str(), plain.gzip, plain.verify),
            ("https://s:8088/services/collector/event/1.0", None, true)
        );
        let other =
            of(&[("splunk-gzip", "true"), ("splunk-verify-connection", "false"), ("splunk-caname", "n")]).expect("good");
        assert_eq!((other.gzip, other.verify, other.tls.name.as_deref()), (Some(6), false, Some("n")));
        assert!(of(&[("splunk-gzip-level", "10")]).expect_err("too much").contains("not supported level '10'"));
        let missing = Collector::read(&Options(&options(&[("splunk-url", "https://s:8088")])));
        assert_eq!(missing, Err("splunk-token is expected".to_owned()));
        let path = Collector::read(&Options(&options(&[("splunk-url", "https://s:8088/x"), ("splunk-token", "t")])));
        assert!(path.expect_err("a path").contains("expected format scheme://dns_name_or_ip:port"));
    }
}
