//! What keeps a swarm, and the stock client has no word for: `status`, `backup`, `restore`, `renew`. Each is one call of the
//! daemon's own API. Must never read the daemon's files itself.

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::status::table;
use crate::app::{App, Failure};
use crate::client::escape;
use crate::grammar::Matches;
use crate::output::human::cause;
use crate::output::{print, print_bytes};

pub(super) async fn status(app: &App, m: &Matches) -> Result<u8, Failure> {
    let status = app.unversioned().call("GET", "/skep/v1/swarm/status", None).await?;
    match m.text("format").unwrap_or("table") {
        "json" => print(&format!("{status}\n"))?,
        "table" => print(&table(&status))?,
        other => return Err(Failure::new(format!("--format {other}: only table and json are known"))),
    }
    Ok(0)
}

pub(super) async fn backup(app: &App, m: &Matches) -> Result<u8, Failure> {
    let bytes = app.unversioned().exchange("GET", "/skep/v1/swarm/backup", &[], Bytes::new()).await?;
    save(Path::new(m.arg(0)), &bytes)?;
    Ok(0)
}

pub(super) async fn restore(app: &App, m: &Matches) -> Result<u8, Failure> {
    let bytes = load(Path::new(m.arg(0)))?;
    let path = format!(
        "/skep/v1/swarm/restore?advertise-addr={}&listen-addr={}",
        escape(m.text_or_empty("advertise-addr")),
        escape(m.text_or_empty("listen-addr"))
    );
    let from_env = std::env::var("SKEP_UNLOCK_KEY").unwrap_or_default();
    let key = m.text("unlock-key").unwrap_or(&from_env);
    let given = [("X-Skep-Unlock-Key", key)];
    let headers: &[(&str, &str)] = if key.is_empty() { &[] } else { &given };
    let answer = app.unversioned().exchange("POST", &path, headers, bytes.into()).await?;
    let id: Value = serde_json::from_slice(&answer).unwrap_or_default();
    print(&format!(
        "Swarm restored: current node ({}) is its only manager now. The other nodes are down until they join again.\n",
        id.as_str().unwrap_or_default()
    ))?;
    Ok(0)
}

pub(super) async fn renew(app: &App, m: &Matches) -> Result<u8, Failure> {
    let Some(token) = m.text("token") else {
        return Err(Failure::new("swarm renew needs --token: the join token of this host's role"));
    };
    let body = json!({"JoinToken": token, "RemoteAddr": m.arg(0)});
    app.unversioned().call("POST", "/skep/v1/swarm/renew", Some(&body)).await?;
    print("Certificate renewed.\n")?;
    Ok(0)
}

/// Writes a backup, for its owner only; whole or not at all.
fn save(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |e: std::io::Error| Failure::new(format!("write {}: {e}", file.display()));
    if file == Path::new("-") {
        return print_bytes(bytes);
    }
    let mut out = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(|e| {
        // Half a backup is worse than none.
        let _ = std::fs::remove_file(file);
        fail(e)
    })
}

fn load(file: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("open {}: {}", file.display(), cause(&e)));
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        return std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes).map_err(fail);
    }
    std::fs::read(file).map_err(fail)
}
