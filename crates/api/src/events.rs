//! `/events`.

use axum::extract::{Query, State};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::Time;
use skep_types::container::Event;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::App;
use crate::body::json_lines;
use crate::containers::point_in_time;
use crate::error::Handled;
use crate::filters::Filters;

/// Events on their way to one client.
const QUEUE: usize = 64;
const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// Those of them that name an object by its kind.
const KINDS: [&str; 10] =
    ["config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"];

/// As far as an event reaches.
fn scope(event: &Event) -> &'static str {
    if event.swarm { "swarm" } else { "local" }
}

#[derive(Deserialize)]
pub(crate) struct EventsQuery {
    since: Option<String>,
    until: Option<String>,
    filters: Option<String>,
}

fn wanted(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
    let object = |kind: &str| {
        filters.any(kind, |v| event.kind == kind && (event.id.starts_with(v) || name == v))
            || (event.kind == "container"
                && kind == "image"
                && filters.any(kind, |v| event.attributes.get("image").is_some_and(|i| i == v)))
    };
    filters.any("type", |v| event.kind == v)
        && filters.any("event", |v| event.action == v || event.action.split(':').next() == Some(v))
        && filters.any("scope", |v| v == scope(event))
        && KINDS.iter().all(|k| object(k))
        && filters.labels("label", &event.attributes)
}

fn shown(event: &Event) -> Value {
    let mut out = json!({
        "Type": event.kind, "Action": event.action, "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": scope(event), "time": event.time.unix_seconds(), "timeNano": event.time.0,
    });
    if event.kind == "container" {
        out["status"] = json!(event.action);
        out["id"] = json!(event.id);
        out["from"] = json!(event.attributes.get("image"));
    }
    out
}

pub(crate) async fn events(State(app): State<App>, Query(query): Query<EventsQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let since = point_in_time(query.since.as_deref().unwrap_or_default())?;
    let until = point_in_time(query.until.as_deref().unwrap_or_default())?;
    let (history, live) = app.engine.events();
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move { send_all(history, live, since, until, filters, sender).await });
    Ok(json_lines(ReceiverStream::new(receiver).map(|e| shown(&e))))
}

fn time_left(until: Option<&String>) -> Option<std::time::Duration> {
    let at = humantime::parse_rfc3339_weak(until?).ok()?;
    Some(at.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

async fn send_all(
    history: Vec<Event>,
    mut live: broadcast::Receiver<Event>,
    since: Option<String>,
    until: Option<String>,
    filters: Filters,
    sender: mpsc::Sender<Event>,
) {
    let in_time = |t: Time, bound: &Option<String>, after: bool| {
        bound.as_ref().is_none_or(|b| if after { t.rfc3339() >= *b } else { t.rfc3339() <= *b })
    };
    // Without `since` or `until` only what comes is wanted.
    if since.is_some() || until.is_some() {
        for event in history {
            let fits = in_time(event.time, &since, true) && in_time(event.time, &until, false) && wanted(&event, &filters);
            if fits && sender.send(event).await.is_err() {
                return;
            }
        }
    }
    let end = time_left(until.as_ref());
    let follow = async {
        loop {
            match live.recv().await {
                Ok(event) if wanted(&event, &filters) => {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                // A client that is too slow misses events rather than hold everyone up.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = sender.closed() => {}
        () = tokio::time::sleep(end.unwrap_or_default()), if end.is_some() => {}
    }
}
