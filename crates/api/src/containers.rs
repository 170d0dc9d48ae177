//! `/containers/…`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use skep_types::Time;
use skep_types::host::LogOptions;
use tokio_stream::wrappers::ReceiverStream;

use crate::body::JsonBody;
use crate::error::{Failure, Handled};
use crate::filters::Filters;
use crate::hijack::{Hijack, Source, carry, frame};
use crate::inspect_json::{detail, row, row_matches};
use crate::{App, WaitCondition, create_json};

/// Go's idea of a true query parameter.
pub(crate) fn truth(value: Option<&String>) -> bool {
    value.is_some_and(|v| !matches!(v.trim(), "" | "0" | "no" | "false" | "none" | "False" | "FALSE"))
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    all: Option<String>,
    limit: Option<i64>,
    filters: Option<String>,
}

const FILTERS: [&str; 12] =
    ["ancestor", "before", "exited", "health", "id", "is-task", "label", "name", "network", "since", "status", "volume"];

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let limit = query.limit.filter(|l| *l > 0).and_then(|l| usize::try_from(l).ok());
    let stopped = truth(query.all.as_ref()) || limit.is_some() || filters.values("status").next().is_some();
    let all = app.engine.containers();
    let shown = all.iter().filter(|c| stopped || c.pid != 0).filter(|c| row_matches(c, &all, &filters));
    let rows: Vec<_> = shown.take(limit.unwrap_or(usize::MAX)).map(row).collect();
    Ok(Json(rows).into_response())
}

#[derive(Deserialize)]
pub(crate) struct CreateQuery {
    name: Option<String>,
}

pub(crate) async fn create(State(app): State<App>, Query(query): Query<CreateQuery>, JsonBody(body): JsonBody) -> Handled {
    let mut request = create_json::read(body)?;
    request.name = query.name.unwrap_or_default();
    let mut warnings = Vec::new();
    if request.host.selinux.iter().any(|o| o != "disable") {
        warnings.push("SELinux is not in force on this host: --security-opt label= has no effect");
    }
    let id = app.engine.create(request).await?;
    Ok((StatusCode::CREATED, Json(json!({"Id": id, "Warnings": warnings}))).into_response())
}

pub(crate) async fn inspect(State(app): State<App>, Path(id): Path<String>) -> Handled {
    let info = app.engine.container(&id)?;
    Ok(Json(detail(&info)).into_response())
}

pub(crate) async fn start(State(app): State<App>, Path(id): Path<String>) -> Handled {
    app.engine.start(&id).await?;
    Ok(no_content())
}

#[derive(Deserialize)]
pub(crate) struct StopQuery {
    t: Option<i64>,
    signal: Option<String>,
}

pub(crate) async fn stop(State(app): State<App>, Path(id): Path<String>, Query(query): Query<StopQuery>) -> Handled {
    app.engine.stop(&id, query.t, query.signal.as_deref()).await?;
    Ok(no_content())
}

pub(crate) async fn restart(State(app): State<App>, Path(id): Path<String>, Query(query): Query<StopQuery>) -> Handled {
    app.engine.restart(&id, query.t, query.signal.as_deref()).await?;
    Ok(no_content())
}

pub(crate) async fn kill(State(app): State<App>, Path(id): Path<String>, Query(query): Query<StopQuery>) -> Handled {
    app.engine.kill(&id, query.signal.as_deref()).await?;
    Ok(no_content())
}

#[derive(Deserialize)]
pub(crate) struct RemoveQuery {
    v: Option<String>,
    force: Option<String>,
    link: Option<String>,
}

pub(crate) async fn remove(State(app): State<App>, Path(id): Path<String>, Query(query): Query<RemoveQuery>) -> Handled {
    if truth(query.link.as_ref()) {
        return Err(Failure::unbuilt("docker rm --link"));
    }
    app.engine.remove(&id, truth(query.force.as_ref()), truth(query.v.as_ref())).await?;
    Ok(no_content())
}

#[derive(Deserialize)]
pub(crate) struct WaitQuery {
    condition: Option<String>,
}

pub(crate) async fn wait(State(app): State<App>, Path(id): Path<String>, Query(query): Query<WaitQuery>) -> Handled {
    let condition = match query.condition.as_deref().unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    };
    let waited = app.engine.wait(&id, condition)?;
    // The head goes out at once: clients start the container only when they know that the wait stands.
    let stream = futures_util::stream::once(async move {
        let done = waited.await;
        let error = if done.error.is_empty() { serde_json::Value::Null } else { json!({"Message": done.error}) };
        let mut answer = json!({"StatusCode": done.code});
        if !error.is_null() {
            answer["Error"] = error;
        }
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{answer}\n")))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

#[derive(Deserialize)]
pub(crate) struct ResizeQuery {
    h: Option<u16>,
    w: Option<u16>,
}

impl ResizeQuery {
    pub(crate) fn size(&self) -> Handled<(u16, u16)> {
        match (self.h, self.w) {
            (Some(h), Some(w)) => Ok((h, w)),
            _ => Err(Failure::invalid("invalid resize: both h and w must be given")),
        }
    }
}

pub(crate) async fn resize(State(app): State<App>, Path(id): Path<String>, Query(query): Query<ResizeQuery>) -> Handled {
    let (height, width) = query.size()?;
    app.engine.resize(&id, height, width).await?;
    Ok(StatusCode::OK.into_response())
}

#[derive(Deserialize)]
pub(crate) struct AttachQuery {
    stream: Option<String>,
    stdin: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    logs: Option<String>,
}

pub(crate) async fn attach(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<AttachQuery>,
    mut request: Request,
) -> Handled {
    if truth(query.logs.as_ref()) {
        return Err(Failure::unbuilt("attach with logs"));
    }
    let info = app.engine.container(&id)?;
    let hijack = Hijack::of(&mut request);
    if !hijack.asked() {
        return Err(Failure::invalid("attach needs a connection upgrade (headers Connection: Upgrade, Upgrade: tcp)"));
    }
    let stream = truth(query.stream.as_ref());
    let stdin = stream && truth(query.stdin.as_ref()) && info.config.open_stdin;
    let (out, err) = (stream && truth(query.stdout.as_ref()), stream && truth(query.stderr.as_ref()));
    let stdio = app.engine.attach(&info.id, stdin, out, err).await?;
    let tty = info.config.tty;
    let response = hijack.accept(tty);
    tokio::spawn(async move {
        if let Some(io) = hijack.connection().await {
            carry(io, stdio, tty, stdin).await;
        }
    });
    Ok(response)
}

#[derive(Deserialize)]
pub(crate) struct LogsQuery {
    pub(crate) stdout: Option<String>,
    pub(crate) stderr: Option<String>,
    pub(crate) follow: Option<String>,
    pub(crate) timestamps: Option<String>,
    pub(crate) details: Option<String>,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) tail: Option<String>,
}

/// `seconds[.nanoseconds]` or RFC 3339, as RFC 3339 in UTC.
pub(crate) fn point_in_time(text: &str) -> Handled<Option<String>> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let bad = || Failure::invalid(format!("invalid value for \"since\" or \"until\": {text}"));
    if text.contains('T') {
        let at = humantime::parse_rfc3339_weak(text).map_err(|_| bad())?;
        let since = at.duration_since(std::time::UNIX_EPOCH).map_err(|_| bad())?;
        return Ok(Some(Time::default().after(since).rfc3339()));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| bad())?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9).and_then(|f| f.parse().ok()).ok_or_else(bad)?;
    let total = seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(nanos)).ok_or_else(bad)?;
    Ok(Some(Time(total).rfc3339()))
}

pub(crate) async fn logs(State(app): State<App>, Path(id): Path<String>, Query(query): Query<LogsQuery>) -> Handled {
    let (stdout, stderr) = (truth(query.stdout.as_ref()), truth(query.stderr.as_ref()));
    if !stdout && !stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let tail = match query.tail.as_deref().unwrap_or("all") {
        "" | "all" => None,
        // A negative number means all, as in Docker.
        text => text.parse::<i64>().map_err(|_| Failure::invalid(format!("invalid tail: {text}")))?.try_into().ok(),
    };
    let info = app.engine.container(&id)?;
    let options = LogOptions {
        stdout,
        stderr,
        follow: truth(query.follow.as_ref()),
        since: point_in_time(query.since.as_deref().unwrap_or_default())?,
        until: point_in_time(query.until.as_deref().unwrap_or_default())?,
        tail,
    };
    let (timestamps, details) = (truth(query.timestamps.as_ref()), truth(query.details.as_ref()));
    let receiver = app.engine.logs(&info.id, options)?;
    let tty = info.config.tty;
    let stream = ReceiverStream::new(receiver).map(move |record| {
        let mut line = String::new();
        if timestamps {
            line += &record.time;
            line.push(' ');
        }
        if details {
            let attrs: Vec<String> = record.attrs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
            line += &attrs.join(",");
            line.push(' ');
        }
        line += &record.line;
        Ok::<_, std::convert::Infallible>(Bytes::from(frame(Source::of(record.stderr), tty, line.as_bytes())))
    });
    let kind = if tty { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(stream)).into_response())
}

/// An attribute as Docker shows it: escaped as in a URL's query, so that commas and spaces stay readable.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => out += &format!("%{b:02X}"),
        }
    }
    out
}

/// Done, with nothing to say.
pub(crate) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
