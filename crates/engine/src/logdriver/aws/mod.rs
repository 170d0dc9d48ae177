//! CloudWatch Logs (`PutLogEvents` of its API): groups of streams of events with a time in milliseconds.

mod keys;
mod sign;

use std::io;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::Options;
use super::tls::Tls;
use super::{About, Line};
use crate::http::{Answer, Client, Url};
use keys::{Lent, Sources};

/// Most events of a call.
const MOST_EVENTS: usize = 10_000;
/// Most bytes of a call, each event with …
const MOST_BYTES: usize = 1 << 20;
/// … so many besides its text.
const OVERHEAD: usize = 26;
/// Most milliseconds between the events of a call.
const MOST_SPAN: i64 = 24 * 3_600_000;
/// How the calls of the service are named.
const TARGET: &str = "Logs_20140328";

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    url: Url,
    region: String,
    group: String,
    /// None is the container's tag.
    stream: Option<String>,
    create_group: bool,
    create_stream: bool,
    sources: Sources,
}

impl Stream {
    pub(super) fn read(o: &Options<'_>) -> Result<Self, String> {
        let sources = Sources::of_daemon(o.get("awslogs-credentials-endpoint"));
        let region = o.get("awslogs-region").or_else(|| sources.get("AWS_REGION")).ok_or(
            "cannot find the region of awslogs: give the log option awslogs-region, or AWS_REGION in the daemon's environment",
        )?;
        if !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!("invalid value for log option awslogs-region: {region:?} is no name of a region"));
        }
        let group = o.get("awslogs-group").ok_or("must specify a value for log opt 'awslogs-group'")?.to_owned();
        let default = format!("https://logs.{region}.amazonaws.com");
        let url = Url::read(o.get("awslogs-endpoint").unwrap_or(&default))
            .map_err(|why| format!("invalid value for log option awslogs-endpoint: {why}"))?;
        for key in ["awslogs-force-flush-interval-seconds", "awslogs-max-buffered-events"] {
            // Events are sent at once, and wait in the log file.
            if o.get(key).is_some() && o.number(key, 1)? == 0 {
                return Err(format!("must specify a positive number for log opt '{key}': 0"));
            }
        }
        let create_stream = o.get("awslogs-create-stream").is_none() || o.truth("awslogs-create-stream")?;
        Ok(Self {
            url,
            region: region.to_owned(),
            group,
            stream: o.get("awslogs-stream").map(str::to_owned),
            create_group: o.truth("awslogs-create-group")?,
            create_stream,
            sources,
        })
    }
}

#[cfg(test)]
impl Stream {
    /// The same with an environment of the test's.
    pub(super) fn with_env(mut self, pairs: &[(&str, &str)]) -> Self {
        self.sources.env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned().into())).collect();
        self
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (log group {})", self.url, self.group)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    timestamp: i64,
    message: String,
}

/// A record as an event; none of nothing, which the service refuses.
pub(super) fn encode(line: &Line) -> Option<Vec<u8>> {
    if line.text.is_empty() {
        return None;
    }
    let at = line.time.parse::<Timestamp>().unwrap_or_default();
    // Numbers and texts always serialise.
    serde_json::to_vec(&Event { timestamp: at.as_millisecond(), message: line.text.clone() }).ok()
}

/// How many of the events, which are in the order of their times, go into one call.
fn batch(events: &[Event]) -> usize {
    let (mut bytes, first) = (0, events.first().map_or(0, |e| e.timestamp));
    let fits = |e: &&Event| {
        bytes += e.message.len() + OVERHEAD;
        bytes <= MOST_BYTES && e.timestamp - first < MOST_SPAN
    };
    // One alone is never too large: records have 16 KiB.
    events.iter().take(MOST_EVENTS).take_while(fits).count().max(1)
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    to: Stream,
    stream: String,
    client: Client,
    lent: Lent,
}

/// Why the service refuses, by the name of its error.
fn kind(answer: &Answer) -> String {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let name = said["__type"].as_str().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().to_owned()
}

impl Link {
    /// Finds keys, and makes the stream unless it need not be made.
    pub(super) async fn connect(to: &Stream, about: &About) -> io::Result<Self> {
        // A colon or a star cannot be in the name of a stream.
        let stream = to.stream.clone().unwrap_or_else(|| about.tag.replace([':', '*'], "_"));
        let lent = to.sources.find().await?;
        let mut link = Self { to: to.clone(), stream, client: Client::new(to.url.clone(), Tls::default()), lent };
        if to.create_stream {
            link.create().await?;
        }
        Ok(link)
    }

    async fn create(&mut self) -> io::Result<()> {
        let (group, stream) = (self.to.group.clone(), self.stream.clone());
        let stream = json!({"logGroupName": group, "logStreamName": stream});
        let answer = self.call("CreateLogStream", &stream).await?;
        let answer = match kind(&answer).as_str() {
            "ResourceNotFoundException" if self.to.create_group => {
                let made = self.call("CreateLogGroup", &json!({"logGroupName": group})).await?;
                if !made.status.is_success() && kind(&made) != "ResourceAlreadyExistsException" {
                    return Err(io::Error::other(format!("failed to create Cloudwatch log group: {}", made.words())));
                }
                self.call("CreateLogStream", &stream).await?
            }
            _ => answer,
        };
        if answer.status.is_success() || kind(&answer) == "ResourceAlreadyExistsException" {
            return Ok(());
        }
        Err(io::Error::other(format!("failed to create Cloudwatch log stream: {}", answer.words())))
    }

    async fn call(&mut self, action: &str, body: &Value) -> io::Result<Answer> {
        let now = Timestamp::now();
        if !self.lent.is_fresh(now) {
            self.lent = self.to.sources.find().await?;
        }
        let (body, keys) = (body.to_string(), &self.lent.keys);
        let (host, target) = (self.to.url.authority(), format!("{TARGET}.{action}"));
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let token = keys.token.as_deref();
        let mut headers = vec![("content-type", "application/x-amz-json-1.1"), ("host", &host), ("x-amz-date", &time)];
        headers.extend(token.map(|t| ("x-amz-security-token", t)));
        headers.push(("x-amz-target", &target));
        let signed = sign::Signed {
            method: "POST",
            path: &self.to.url.path,
            query: "",
            headers: &headers,
            body: body.as_bytes(),
            region: &self.to.region,
            service: "logs",
            time: &time,
        };
        let mut request = Request::builder().method(Method::POST).uri(self.to.url.path.as_str());
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        let request = request.header("authorization", sign::authorization(keys, &signed));
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        self.client.ask(request).await
    }

    /// Sends events; how many were taken, and why no more.
    pub(super) async fn send(&mut self, messages: &[Vec<u8>]) -> (usize, io::Result<()>) {
        // They were made by `encode`.
        let mut events: Vec<Event> = messages.iter().filter_map(|m| serde_json::from_slice(m).ok()).collect();
        // A clock that was set back is no reason for a refusal.
        events.sort_by_key(|e| e.timestamp);
        let (mut taken, sorted) = (0, events.len() == messages.len() && is_in_order(messages, &events));
        while taken < events.len() {
            let count = batch(&events[taken..]);
            if let Err(e) = self.put(&events[taken..taken + count]).await {
                // Of events in another order nobody could say which are left.
                return (if sorted { taken } else { 0 }, Err(e));
            }
            taken += count;
        }
        (messages.len(), Ok(()))
    }

    async fn put(&mut self, events: &[Event]) -> io::Result<()> {
        let body = json!({"logGroupName": self.to.group, "logStreamName": self.stream, "logEvents": events});
        let mut answer = self.call("PutLogEvents", &body).await?;
        if kind(&answer) == "ResourceNotFoundException" && self.to.create_stream {
            // Somebody removed it while the container ran.
            self.create().await?;
            answer = self.call("PutLogEvents", &body).await?;
        }
        match kind(&answer).as_str() {
            // A call of before, whose answer was lost.
            "DataAlreadyAcceptedException" => Ok(()),
            "InvalidParameterException" => {
                tracing::error!(events = events.len(), said = %answer.words(), "awslogs takes these events never: they are given up");
                Ok(())
            }
            _ if answer.status.is_success() => {
                let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                if let Some(refused) = said.get("rejectedLogEventsInfo").filter(|r| !r.is_null()) {
                    tracing::warn!(%refused, "awslogs did not take events that are too old or too new");
                }
                Ok(())
            }
            _ => Err(io::Error::other(format!("failed to put Cloudwatch log events: {}", answer.words()))),
        }
    }
}

fn is_in_order(messages: &[Vec<u8>], events: &[Event]) -> bool {
    messages.iter().zip(events).all(|(m, e)| serde_json::from_slice::<Event>(m).is_ok_and(|m| m.timestamp == e.timestamp))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn calls_keep_within_the_services_limits() {
        let event = |timestamp: i64, bytes: usize| Event { timestamp, message: "x".repeat(bytes) };
        assert_eq!(batch(&[event(0, 1), event(MOST_SPAN - 1, 1), event(MOST_SPAN, 1)]), 2);
        assert_eq!(batch(&vec![event(0, 1); MOST_EVENTS + 1]), MOST_EVENTS);
        assert_eq!(batch(&vec![event(0, (1 << 16) - OVERHEAD); 20]), 16);
        assert_eq!(batch(&[event(0, MOST_BYTES)]), 1);
    }

    #[test]
    fn options_are_looked_at() {
        let of = |pairs: &[(&str, &str)]| {
            let map: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Stream::read(&Options(&map)).map(|s| (s.to_string(), s.create_group, s.create_stream))
        };
        let (group, region) = (("awslogs-group", "g"), ("awslogs-region", "eu-west-1"));
        assert_eq!(of(&[group, region]), Ok(("https://logs.eu-west-1.amazonaws.com/ (log group g)".to_owned(), false, true)));
        let own = of(&[group, region, ("awslogs-endpoint", "http://h:1"), ("awslogs-create-stream", "false")]);
        assert_eq!(own, Ok(("http://h:1/ (log group g)".to_owned(), false, false)));
        assert_eq!(of(&[region]), Err("must specify a value for log opt 'awslogs-group'".to_owned()));
        assert!(of(&[group, ("awslogs-region", "a/b")]).expect_err("odd").contains("awslogs-region"));
        assert!(of(&[group, region, ("awslogs-endpoint", "h:1")]).expect_err("odd").contains("awslogs-endpoint"));
    }
}
