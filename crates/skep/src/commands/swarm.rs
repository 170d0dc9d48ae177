//! `skep swarm …`: what the stock client cannot do. Each command is one call of the daemon's API. Must never read the daemon's
//! files itself.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use skep_cli::client::{Client, ClientError};

const SOCKET: &str = "/run/skep/docker.sock";

#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The daemon's socket, unix:///PATH.
    #[arg(short = 'H', long, env = "DOCKER_HOST", default_value_t = format!("unix://{SOCKET}"))]
    host: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Show the managers with their place in the log, the quorum and the age of certificates.
    Status {
        #[command(flatten)]
        daemon: Daemon,
        /// table or json.
        #[arg(long, default_value = "table")]
        format: String,
    },
    /// Write everything that the managers agree on, keys included, to a file ("-" for standard output). Keep it as you keep keys.
    Backup {
        #[command(flatten)]
        daemon: Daemon,
        /// The file; it must not exist yet.
        file: PathBuf,
    },
    /// Make a swarm of one from a backup, on a host that is in no swarm ("-" for standard input).
    Restore {
        #[command(flatten)]
        daemon: Daemon,
        /// The file.
        file: PathBuf,
        /// Address told to other nodes: IP or interface, with a port or without.
        #[arg(long, default_value = "")]
        advertise_addr: String,
        /// Where to listen.
        #[arg(long, default_value = "")]
        listen_addr: String,
        /// The unlock key that the swarm had, for a sealed backup; read from SKEP_UNLOCK_KEY if absent.
        #[arg(long, env = "SKEP_UNLOCK_KEY", default_value = "", hide_env_values = true)]
        unlock_key: String,
    },
    /// Get a new certificate for this host after its own has expired; it stays the node that it was.
    Renew {
        #[command(flatten)]
        daemon: Daemon,
        /// The join token of this host's role.
        #[arg(long)]
        token: String,
        /// A manager to ask, HOST:PORT; those that this host knows are asked if absent.
        #[arg(default_value = "")]
        manager: String,
    },
    /// Found a swarm with a root certificate of your own (everything else as `docker swarm init`).
    Init {
        #[command(flatten)]
        daemon: Daemon,
        /// Address told to other nodes.
        #[arg(long, default_value = "")]
        advertise_addr: String,
        /// Where to listen.
        #[arg(long, default_value = "")]
        listen_addr: String,
        /// PEM file of the root certificate.
        #[arg(long, requires = "ca_key")]
        ca_cert: Option<PathBuf>,
        /// PEM file of its key.
        #[arg(long, requires = "ca_cert")]
        ca_key: Option<PathBuf>,
        /// Require an unlock key after a manager restarts.
        #[arg(long)]
        autolock: bool,
    },
    /// Docker's other commands, once they are built.
    #[command(external_subcommand)]
    Docker(Vec<String>),
}

fn client(d: &Daemon) -> Result<Client, String> {
    let path = d.host.strip_prefix("unix://").ok_or_else(|| format!("--host {}: only unix:///PATH is spoken here", d.host))?;
    Ok(Client::unix(Path::new(path)))
}

pub(crate) fn run(action: Action) -> Result<ExitCode, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| format!("start the runtime: {e}"))?;
    runtime.block_on(act(action)).map(|()| ExitCode::SUCCESS)
}

/// As the stock client says it.
fn said(e: ClientError) -> String {
    match e {
        ClientError::Refused { message, .. } => format!("Error response from daemon: {message}"),
        other => format!("{other}: is the daemon running?"),
    }
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("write to standard output: {e}"))
}

async fn act(action: Action) -> Result<(), String> {
    match action {
        Action::Status { daemon, format } => {
            let status = client(&daemon)?.call("GET", "/skep/v1/swarm/status", None).await.map_err(said)?;
            match format.as_str() {
                "json" => print(&format!("{status}\n")),
                "table" => print(&table(&status)),
                other => Err(format!("--format {other}: only table and json are known")),
            }
        }
        Action::Backup { daemon, file } => {
            let bytes = client(&daemon)?.exchange("GET", "/skep/v1/swarm/backup", &[], Bytes::new()).await.map_err(said)?;
            save(&file, &bytes)
        }
        Action::Restore { daemon, file, advertise_addr, listen_addr, unlock_key } => {
            let bytes = load(&file)?;
            let path = format!(
                "/skep/v1/swarm/restore?advertise-addr={}&listen-addr={}",
                escape(&advertise_addr),
                escape(&listen_addr)
            );
            let headers: &[(&str, &str)] =
                if unlock_key.is_empty() { &[] } else { &[("X-Skep-Unlock-Key", unlock_key.as_str())] };
            let answer = client(&daemon)?.exchange("POST", &path, headers, bytes.into()).await.map_err(said)?;
            let id: Value = serde_json::from_slice(&answer).unwrap_or_default();
            print(&format!(
                "Swarm restored: current node ({}) is its only manager now. The other nodes are down until they join again.\n",
                id.as_str().unwrap_or_default()
            ))
        }
        Action::Renew { daemon, token, manager } => {
            let body = json!({"JoinToken": token, "RemoteAddr": manager});
            client(&daemon)?.call("POST", "/skep/v1/swarm/renew", Some(&body)).await.map_err(said)?;
            print("Certificate renewed.\n")
        }
        Action::Init { daemon, advertise_addr, listen_addr, ca_cert, ca_key, autolock } => {
            let text = |p: Option<PathBuf>| match p {
                Some(p) => std::fs::read_to_string(&p).map_err(|e| format!("read {}: {e}", p.display())),
                None => Ok(String::new()),
            };
            let body = json!({
                "AdvertiseAddr": advertise_addr, "ListenAddr": listen_addr, "AutoLockManagers": autolock,
                "Spec": {"CAConfig": {"SigningCACert": text(ca_cert)?, "SigningCAKey": text(ca_key)?}},
            });
            let id = client(&daemon)?.call("POST", "/swarm/init", Some(&body)).await.map_err(said)?;
            print(&format!("Swarm initialized: current node ({}) is now a manager.\n", id.as_str().unwrap_or_default()))
        }
        Action::Docker(words) => Err(super::unbuilt(&[vec!["swarm".to_owned()], words].concat())),
    }
}

/// For a query: everything but what addresses are made of is escaped.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Writes a backup, for its owner only; whole or not at all.
fn save(file: &Path, bytes: &[u8]) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |e: std::io::Error| format!("write {}: {e}", file.display());
    if file == Path::new("-") {
        return std::io::stdout().lock().write_all(bytes).map_err(fail);
    }
    let mut out = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file).map_err(fail)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(|e| {
        // Half a backup is worse than none.
        let _ = std::fs::remove_file(file);
        fail(e)
    })
}

fn load(file: &Path) -> Result<Vec<u8>, String> {
    let fail = |e: std::io::Error| format!("read {}: {e}", file.display());
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        return std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes).map_err(fail);
    }
    std::fs::read(file).map_err(fail)
}

fn text(v: &Value) -> String {
    match v {
        Value::Null => "-".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// `3d`, `5h`, `7m`, `9s`.
fn short(seconds: u64) -> String {
    match seconds {
        s if s >= 2 * 86_400 => format!("{}d", s / 86_400),
        s if s >= 2 * 3600 => format!("{}h", s / 3600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Rows under their headings, in columns.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |r: &Vec<String>| {
        let cells = r.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn table(s: &Value) -> String {
    let q = &s["Quorum"];
    let mut out = format!("Swarm:     {}\n", text(&s["ClusterID"]));
    out += &match q["Reachable"].as_u64() {
        Some(n) => format!(
            "Quorum:    {n} of {} managers reachable, {} needed, {} more may fail\n",
            text(&q["Managers"]),
            text(&q["Needed"]),
            text(&q["MayFail"])
        ),
        None => format!(
            "Quorum:    no leader answers; of {} managers {} are needed (below is what this manager knows itself)\n",
            text(&q["Managers"]),
            text(&q["Needed"])
        ),
    };
    out += &format!(
        "Log:       term {}, last entry {}, agreed on {}, {} bytes\n",
        text(&s["Term"]),
        text(&s["LastLog"]),
        text(&s["Committed"]),
        text(&s["LogBytes"])
    );
    let snap = &s["Snapshot"];
    out += &match (snap["Index"].as_u64(), snap["AgeSeconds"].as_u64()) {
        (Some(0) | None, _) => "Snapshot:  none yet\n".to_owned(),
        (Some(i), Some(age)) => format!("Snapshot:  up to entry {i}, {} old, {} bytes\n", short(age), text(&snap["Bytes"])),
        (Some(i), None) => format!("Snapshot:  up to entry {i}, {} bytes\n", text(&snap["Bytes"])),
    };
    let heads = |h: &[&str]| h.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![heads(&["MANAGER", "HOSTNAME", "ADDRESS", "STATUS", "ENTRY", "LAG"])];
    for m in s["Managers"].as_array().into_iter().flatten() {
        let status = match (m["Leader"] == true, m["Voter"] == true, m["Reachable"].as_bool()) {
            (true, ..) => "Leader",
            (_, _, Some(false)) => "Unreachable",
            (_, false, _) => "Learning",
            (_, _, Some(true)) => "Reachable",
            _ => "Unknown",
        };
        let cell = |k: &str| text(&m[k]);
        rows.push(vec![cell("NodeID"), cell("Hostname"), cell("Addr"), status.to_owned(), cell("Matched"), cell("Lag")]);
    }
    out += "\n";
    out += &columns(&rows);
    let mut rows = vec![heads(&["NODE", "HOSTNAME", "CERTIFICATE UNTIL", "LEFT"])];
    for c in s["Certificates"].as_array().into_iter().flatten() {
        let left = c["SecondsLeft"].as_u64().filter(|n| *n > 0).map_or_else(|| "expired".to_owned(), short);
        rows.push(vec![text(&c["NodeID"]), text(&c["Hostname"]), text(&c["NotAfter"]), left]);
    }
    if rows.len() > 1 {
        out += "\n";
        out += &columns(&rows);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_matters() {
        let status = json!({
            "ClusterID": "c", "Term": 3, "LastLog": 90, "Committed": 88, "LogBytes": 4096,
            "Quorum": {"Managers": 3, "Needed": 2, "Reachable": 2, "MayFail": 0},
            "Snapshot": {"Index": 50, "AgeSeconds": 7200, "Bytes": 10},
            "Managers": [
                {"NodeID": "a", "Hostname": "one", "Addr": "10.0.0.1:2377", "Leader": true, "Voter": true, "Reachable": true,
                 "Matched": 90, "Lag": 0},
                {"NodeID": "b", "Hostname": "two", "Addr": "10.0.0.2:2377", "Leader": false, "Voter": true, "Reachable": false,
                 "Matched": 60, "Lag": 30},
            ],
            "Certificates": [{"NodeID": "a", "Hostname": "one", "NotAfter": "2030", "SecondsLeft": 900}],
        });
        let t = table(&status);
        assert!(t.contains("2 of 3 managers reachable, 2 needed, 0 more may fail"), "{t}");
        assert!(t.contains("up to entry 50, 2h old"), "{t}");
        assert!(t.lines().any(|l| l.starts_with("a ") && l.contains("Leader")), "{t}");
        assert!(t.lines().any(|l| l.starts_with("b ") && l.contains("Unreachable") && l.ends_with("30")), "{t}");
        assert!(t.contains("15m"), "{t}");
        let alone = table(&json!({"Quorum": {"Managers": 3, "Needed": 2, "Reachable": null}}));
        assert!(alone.contains("no leader answers"), "{alone}");
    }

    #[test]
    fn addresses_pass_through_a_query() {
        assert_eq!(escape("10.0.0.1:2377"), "10.0.0.1%3A2377");
        assert_eq!(escape("a b&c"), "a%20b%26c");
    }
}
