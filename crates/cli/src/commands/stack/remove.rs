//! `stack rm`: services, secrets, configs and networks of stacks go, in this order (`swarm-semantics` 9.1).
//!
//! It returns when the networks are gone, so that the same stack can be deployed at once; with `--detach=false` also only when
//! no task runs any more.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::deploy::of_stack;
use super::fetch;
use crate::app::{App, Failure};
use crate::client::{Client, ClientError, escape};
use crate::grammar::Matches;
use crate::output::{print, warn};

/// How often a network that is still in use is tried again.
const POLL: Duration = Duration::from_millis(200);
/// How long it may be in use when no task of the stack runs any more: by then it is somebody else who uses it.
const GRACE: Duration = Duration::from_secs(3);
/// How long: the longest stop of a container that people set is some minutes, the usual one ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// `stack rm`.
///
/// # Errors
/// When something could not be removed; all stacks are tried.
pub async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    for name in m.args() {
        skep_compose::check_name(name)?;
    }
    let client = app.client().await?;
    let mut failures = Vec::new();
    for name in m.args() {
        if let Err(e) = one(client, name, !super::waits(m)).await {
            failures.push(e);
        }
    }
    Failure::all(failures)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn one(client: &Client, stack: &str, detach: bool) -> Result<(), Failure> {
    let filter = of_stack(stack);
    let (services, secrets, configs, networks) = tokio::join!(
        fetch::all(client, "/services", &filter),
        fetch::all(client, "/secrets", &filter),
        fetch::all(client, "/configs", &filter),
        fetch::all(client, "/networks", &filter),
    );
    let (mut services, secrets, configs, networks) = (services?, secrets?, configs?, networks?);
    if services.is_empty() && secrets.is_empty() && configs.is_empty() && networks.is_empty() {
        warn(&format!("Nothing found in stack: {stack}"));
        return Ok(());
    }
    services.sort_by(|a, b| text(&a["Spec"]["Name"]).cmp(text(&b["Spec"]["Name"])));
    let mut failed = false;
    for (word, path, list) in
        [("service", "/services", &services), ("secret", "/secrets", &secrets), ("config", "/configs", &configs)]
    {
        let work = list.iter().map(|one| async move {
            print(&format!("Removing {word} {}\n", text(&one["Spec"]["Name"])))?;
            let id = text(&one["ID"]);
            match client.call("DELETE", &format!("{path}/{}", escape(id)), None).await {
                Ok(_) => Ok(false),
                Err(e) => {
                    warn(&format!("Failed to remove {word} {id}: {}", Failure::from(e).message));
                    Ok(true)
                }
            }
        });
        failed |= fetch::at_once(fetch::WRITES, work).await?.contains(&true);
    }
    for network in &networks {
        print(&format!("Removing network {}\n", text(&network["Name"])))?;
        let id = text(&network["Id"]);
        if let Err(e) = free(client, id, &services).await {
            warn(&format!("Failed to remove network {id}: {}", e.message));
            failed = true;
        }
    }
    if failed {
        return Err(Failure::new(format!("failed to remove some resources from stack: {stack}")));
    }
    if !detach {
        gone(client, &services).await?;
    }
    Ok(())
}

/// Removes a network as soon as the tasks of the services that were removed have let go of it.
async fn free(client: &Client, id: &str, services: &[Value]) -> Result<(), Failure> {
    let path = format!("/networks/{}", escape(id));
    let begin = Instant::now();
    let mut ended: Option<Instant> = None;
    loop {
        match client.call("DELETE", &path, None).await {
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => return Ok(()),
            Err(ClientError::Refused { message, .. }) if message.contains("in use") && begin.elapsed() < PATIENCE => {
                if live(client, services).await? > 0 {
                    ended = None;
                } else if ended.get_or_insert_with(Instant::now).elapsed() > GRACE {
                    return Err(Failure::new(format!("Error response from daemon: {message}")));
                }
                tokio::time::sleep(POLL).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// How many tasks of services have not ended.
async fn live(client: &Client, services: &[Value]) -> Result<usize, Failure> {
    let tasks = fetch::all(client, "/tasks", "").await?;
    Ok(tasks.iter().filter(|t| is_live(t, services)).count())
}

fn is_live(task: &Value, services: &[Value]) -> bool {
    let ended = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    services.iter().any(|s| s["ID"] == task["ServiceID"]) && !ended.contains(&text(&task["Status"]["State"]))
}

/// Waits until no task of services is left that has not ended.
pub(crate) async fn gone(client: &Client, services: &[Value]) -> Result<(), Failure> {
    while live(client, services).await? > 0 {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return print("Operation continuing in background.\n"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tasks_of_other_services_and_ended_ones_do_not_count() {
        let services = [json!({"ID": "a"}), json!({"ID": "b"})];
        let task = |service: &str, state: &str| json!({"ServiceID": service, "Status": {"State": state}});
        for (service, state, counts) in [
            ("a", "running", true),
            ("b", "starting", true),
            ("b", "shutdown", false),
            ("a", "failed", false),
            ("c", "running", false),
        ] {
            assert_eq!(is_live(&task(service, state), &services), counts, "{service} {state}");
        }
    }
}
