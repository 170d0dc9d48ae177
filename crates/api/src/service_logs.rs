//! `/services/…/logs` and `/tasks/…/logs` (`swarm-semantics` 11).

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::StreamExt;
use skep_types::control::{Code, ControlRequest, ControlResponse};
use skep_types::host::LogOptions;
use skep_types::logs::{LogItem, LogTarget};
use tokio_stream::wrappers::ReceiverStream;

use crate::App;
use crate::cluster::unexpected;
use crate::containers::{LogsQuery, point_in_time, truth};
use crate::error::{Failure, Handled};
use crate::hijack::{Source, frame};

fn options(query: &LogsQuery) -> Handled<LogOptions> {
    let (stdout, stderr) = (truth(query.stdout.as_ref()), truth(query.stderr.as_ref()));
    if !stdout && !stderr {
        return Err(Failure::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let tail = match query.tail.as_deref().unwrap_or("all") {
        "" | "all" => None,
        text => {
            let bad = || Failure::invalid("tail value must be a positive integer or \"all\"");
            let n: i64 = text.parse().map_err(|_| bad())?;
            Some(usize::try_from(n).map_err(|_| Failure::invalid("negative tail values not supported"))?)
        }
    };
    Ok(LogOptions {
        stdout,
        stderr,
        follow: truth(query.follow.as_ref()),
        since: point_in_time(query.since.as_deref().unwrap_or_default())?,
        until: point_in_time(query.until.as_deref().unwrap_or_default())?,
        tail,
    })
}

pub(crate) async fn service(State(app): State<App>, Path(target): Path<String>, Query(query): Query<LogsQuery>) -> Handled {
    let options = options(&query)?;
    let tty = match app.cluster.call(ControlRequest::GetService { target: target.clone() }).await? {
        ControlResponse::Services(found) => found.first().is_some_and(|s| s.spec.task.container.tty),
        other => return Err(unexpected(&other)),
    };
    stream(&app, &LogTarget::Service(target), options, tty, &query).await
}

pub(crate) async fn task(State(app): State<App>, Path(target): Path<String>, Query(query): Query<LogsQuery>) -> Handled {
    let options = options(&query)?;
    let view = match app.cluster.call(ControlRequest::GetTask { target: target.clone() }).await? {
        ControlResponse::Tasks(found) => found.into_iter().next(),
        other => return Err(unexpected(&other)),
    };
    let view = view.ok_or_else(|| Failure::new(Code::NotFound, format!("task {target} not found")))?;
    let tty = view.spec.is_some_and(|s| s.container.tty);
    stream(&app, &LogTarget::Task(view.task.id.to_string()), options, tty, &query).await
}

async fn stream(app: &App, target: &LogTarget, options: LogOptions, tty: bool, query: &LogsQuery) -> Handled {
    let (timestamps, details) = (truth(query.timestamps.as_ref()), truth(query.details.as_ref()));
    let items = app.cluster.logs(target, options).await?;
    let stream = ReceiverStream::new(items).map(move |item| {
        Ok::<_, std::convert::Infallible>(Bytes::from(match item {
            LogItem::Record { node, service, task, record } => {
                let mut line = String::with_capacity(record.line.len() + 160);
                if timestamps {
                    line += &record.time;
                    line.push(' ');
                }
                if details {
                    // Whence it comes, which clients take for the prefix of each line.
                    let swarm = "com.docker.swarm";
                    line += &format!("{swarm}.node.id={node},{swarm}.service.id={service},{swarm}.task.id={task} ");
                }
                line += &record.line;
                frame(Source::of(record.stderr), tty, line.as_bytes())
            }
            // Clients print it and end with a failure.
            LogItem::Incomplete(why) => frame(Source::Daemon, tty, format!("Error grabbing logs: {why}\n").as_bytes()),
        }))
    });
    let kind = if tty { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(stream)).into_response())
}
