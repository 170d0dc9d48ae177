//! How a service comes to what was asked: rows that move on a terminal (`swarm-semantics` 1.6), and lines when something changed
//! elsewhere. What the rows say is a pure function of the service, its tasks and the nodes ([`state`]); this module asks and waits.

pub mod drain;
pub mod show;
pub mod state;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::app::Failure;
use crate::client::{Client, ClientError, escape, query};
use crate::options::filter;
use crate::output::print;
use show::Screen;

/// How often the service is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long tasks must hold if the service does not say.
const MONITOR: Duration = Duration::from_secs(5);

/// How following a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is as it was asked to be.
    Converged,
    /// The user broke it off; it goes on without.
    Interrupted,
}

/// What is known of a service while it is followed.
#[derive(Debug, Default)]
struct Watch {
    converged_at: Option<Instant>,
    rolling_back: bool,
    rollback_row: Option<String>,
}

/// Shows the progress of a service (by name or id, which is how it is called in what is printed) until it has converged, or the user breaks it off with Ctrl-C. A broken connection or a change of
/// leader does not end it: it is asked again.
///
/// # Errors
/// When an update is paused, or the service is gone.
pub async fn follow(client: &Client, program: &str, id: &str, quiet: bool) -> Result<Ended, Failure> {
    let mut screen = Screen::new(quiet);
    let mut watch = Watch::default();
    // Waited for from here to the end, so that none is lost between two looks.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let ended = loop {
        tokio::select! {
            done = look(client, id, &mut screen, &mut watch) => {
                if done? {
                    break Ended::Converged;
                }
            }
            _ = &mut interrupted => break Ended::Interrupted,
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = &mut interrupted => break Ended::Interrupted,
        }
    };
    if ended == Ended::Interrupted && !quiet {
        screen.end()?;
        print(&format!("Operation continuing in background.\nUse `{program} service ps {id}` to check progress.\n"))?;
    }
    Ok(ended)
}

/// One look at the service; whether it has converged for good.
async fn look(client: &Client, id: &str, screen: &mut Screen, watch: &mut Watch) -> Result<bool, Failure> {
    let Some((service, tasks, nodes)) = fetch(client, id).await? else { return Ok(false) };
    step(id, (&service, &tasks, &nodes), screen, watch)
}

/// The service, its newest tasks and the nodes; nothing when the daemon cannot answer just now.
async fn fetch(client: &Client, id: &str) -> Result<Option<(Value, Vec<Value>, Vec<Value>)>, Failure> {
    let path = query(&format!("/services/{}", escape(id)), &[("insertDefaults", "true")]);
    let filters = format!("{{\"_up-to-date\":{{\"true\":true}},\"service\":{{{}:true}}}}", Value::from(id));
    let asked = async {
        let service = client.call("GET", &path, None).await?;
        let tasks = client.call("GET", &query("/tasks", &[("filters", &filters)]), None).await?;
        let nodes = client.call("GET", "/nodes", None).await?;
        Ok::<_, ClientError>((service, tasks, nodes))
    };
    let list = |v: Value| v.as_array().cloned().unwrap_or_default();
    match asked.await {
        Ok((service, tasks, nodes)) => Ok(Some((service, list(tasks), list(nodes)))),
        Err(ClientError::Refused { status: 500 | 503, .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn step(
    name: &str,
    (service, tasks, nodes): (&Value, &[Value], &[Value]),
    screen: &mut Screen,
    watch: &mut Watch,
) -> Result<bool, Failure> {
    let status = &service["UpdateStatus"];
    let message = status["Message"].as_str().unwrap_or_default();
    match status["State"].as_str().unwrap_or_default() {
        "paused" => return Err(Failure::new(format!("service update paused: {message}"))),
        "rollback_paused" => return Err(Failure::new(format!("service rollback paused: {message}"))),
        "rollback_started" => {
            if !watch.rolling_back && !message.is_empty() {
                watch.rollback_row = Some(format!("rollback: {message}"));
            }
            watch.rolling_back = true;
        }
        "rollback_completed" => {
            if watch.rolling_back {
                watch.rollback_row = Some("rollback: rollback completed".to_owned());
            }
            watch.rolling_back = false;
        }
        _ => {}
    }
    let monitor = service["Spec"]["UpdateConfig"]["Monitor"].as_u64().filter(|m| *m > 0).map_or(MONITOR, Duration::from_nanos);
    let seen = state::state(service, tasks, nodes, watch.rolling_back, screen.width());
    let mut rows = seen.rows;
    rows.extend(watch.rollback_row.clone());
    if seen.job {
        if seen.converged {
            rows.push("job complete".to_owned());
        }
        screen.rows(&rows)?;
        return Ok(seen.converged);
    }
    // An update says itself when it is over; until then its old tasks may be the ones that run.
    let updating = matches!(status["State"].as_str(), Some("updating" | "rollback_started"));
    let done = if seen.converged && !updating {
        let since = *watch.converged_at.get_or_insert_with(Instant::now);
        let left = monitor.saturating_sub(since.elapsed());
        if left.is_zero() {
            rows.push(format!("verify: Service {name} converged"));
            true
        } else {
            rows.push(format!("verify: Waiting {} seconds to verify that tasks are stable...", left.as_secs() + 1));
            false
        }
    } else {
        if watch.converged_at.take().is_some() {
            rows.push("verify: Detected task failure".to_owned());
        }
        false
    };
    screen.rows(&rows)?;
    Ok(done)
}

/// The tasks of a service that should run, for those who wait without rows.
///
/// # Errors
/// When the daemon cannot be asked.
pub async fn tasks_of(client: &Client, service: &str) -> Result<Vec<Value>, Failure> {
    let tasks = client.call("GET", &query("/tasks", &[("filters", &filter("service", &[service]))]), None).await?;
    Ok(tasks.as_array().cloned().unwrap_or_default())
}
