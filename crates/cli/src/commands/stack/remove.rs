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
const POLL: Duration = Duration::from_millis(100);
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
        if let Err(e) = one(client, name, m.switch("detach").unwrap_or(true)).await {
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
        if let Err(e) = free(client, id).await {
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
async fn free(client: &Client, id: &str) -> Result<(), Failure> {
    let path = format!("/networks/{}", escape(id));
    let begin = Instant::now();
    loop {
        match client.call("DELETE", &path, None).await {
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => return Ok(()),
            Err(ClientError::Refused { message, .. }) if message.contains("in use") && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(POLL).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits until no task of services is left that has not ended.
async fn gone(client: &Client, services: &[Value]) -> Result<(), Failure> {
    let ids: Vec<&str> = services.iter().map(|s| text(&s["ID"])).collect();
    let ended = ["complete", "shutdown", "failed", "rejected", "remove", "orphaned"];
    loop {
        let tasks = fetch::all(client, "/tasks", "").await?;
        let live = |t: &&Value| ids.contains(&text(&t["ServiceID"])) && !ended.contains(&text(&t["Status"]["State"]));
        if tasks.iter().filter(live).count() == 0 {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return print("Operation continuing in background.\n"),
        }
    }
}
