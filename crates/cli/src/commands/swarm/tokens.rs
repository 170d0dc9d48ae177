//! Join tokens and unlock keys.

use std::io::{BufRead, IsTerminal};

use serde_json::{Value, json};

use super::send_spec;
use crate::app::{App, Failure};
use crate::client::Client;
use crate::grammar::Matches;
use crate::output::print;
use crate::terminal;

/// The command to copy, with what to say before it.
pub(super) async fn join_command(app: &App, client: &Client, node: &str, role: &str) -> Result<String, Failure> {
    let found = client.call("GET", &format!("/nodes/{node}"), None).await?;
    let swarm = client.call("GET", "/swarm", None).await?;
    let token = token(&swarm, role);
    let addr = found["ManagerStatus"]["Addr"].as_str().unwrap_or_default();
    if addr.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        "To add a {role} to this swarm, run the following command:\n\n    {} swarm join --token {token} {addr}\n\n",
        app.program
    ))
}

fn token<'a>(swarm: &'a Value, role: &str) -> &'a str {
    swarm["JoinTokens"][if role == "worker" { "Worker" } else { "Manager" }].as_str().unwrap_or_default()
}

pub(super) async fn join_token(app: &App, m: &Matches) -> Result<u8, Failure> {
    let role = m.arg(0);
    if !matches!(role, "worker" | "manager") {
        return Err(Failure::new(format!("unknown role {role}")));
    }
    let client = app.client().await?;
    let quiet = m.on("quiet");
    if m.on("rotate") {
        let swarm = client.call("GET", "/swarm", None).await?;
        let which = if role == "worker" { "&rotateWorkerToken=true" } else { "&rotateManagerToken=true" };
        send_spec(client, &swarm, &swarm["Spec"], which).await?;
        if !quiet {
            print(&format!("Successfully rotated {role} join token.\n\n"))?;
        }
    }
    // Only a manager knows them; the daemon says so otherwise.
    let swarm = client.call("GET", "/swarm", None).await?;
    if quiet {
        print(&format!("{}\n", token(&swarm, role)))?;
        return Ok(0);
    }
    let info = client.call("GET", "/info", None).await?;
    print(&join_command(app, client, info["Swarm"]["NodeID"].as_str().unwrap_or_default(), role).await?)?;
    Ok(0)
}

/// What to say about an unlock key.
pub(super) fn unlock_text(app: &App, key: &str) -> String {
    if key.is_empty() {
        return String::new();
    }
    format!(
        "To unlock a swarm manager after it restarts, run the `{} swarm unlock`\ncommand and provide the following key:\n\n    {key}\n\n\
         Remember to store this key in a password manager, since without it you\nwill not be able to restart the manager.\n",
        app.program
    )
}

pub(super) async fn unlock_key(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let quiet = m.on("quiet");
    if m.on("rotate") {
        let swarm = client.call("GET", "/swarm", None).await?;
        if swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"] != true {
            return Err(Failure::new("cannot rotate because autolock is not turned on"));
        }
        send_spec(client, &swarm, &swarm["Spec"], "&rotateManagerUnlockKey=true").await?;
        if !quiet {
            print("Successfully rotated manager unlock key.\n\n")?;
        }
    }
    let answer = client.call("GET", "/swarm/unlockkey", None).await?;
    let key = answer["UnlockKey"].as_str().unwrap_or_default();
    if key.is_empty() {
        return Err(Failure::new("no unlock key is set"));
    }
    print(&if quiet { format!("{key}\n") } else { unlock_text(app, key) })?;
    Ok(0)
}

pub(super) async fn unlock(app: &App, _: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let info = client.call("GET", "/info", None).await?;
    match info["Swarm"]["LocalNodeState"].as_str().unwrap_or_default() {
        "inactive" => return Err(Failure::new("Error: this node is not part of a swarm")),
        "locked" => {}
        _ => return Err(Failure::new("Error: swarm is not locked")),
    }
    let key = if std::io::stdin().is_terminal() {
        terminal::ask_hidden("Enter unlock key: ").map_err(Failure::new)?
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|e| Failure::new(format!("read the unlock key: {e}")))?;
        line.trim().to_owned()
    };
    client.call("POST", "/swarm/unlock", Some(&json!({"UnlockKey": key}))).await?;
    Ok(0)
}
