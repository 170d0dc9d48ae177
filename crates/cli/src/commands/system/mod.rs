//! `system …`, `info`, `version`, `events`, `ping`.

mod df;
mod info;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::container::FILTER_LONG;
use super::{FILTER, FORMAT, INSPECT_FORMAT};
use crate::app::{App, DOCKER_VERSION, Failure};
use crate::client::query;
use crate::grammar::{Arity, Command, Matches};
use crate::options;
use crate::output::list;
use crate::output::print;
use crate::output::time::{self, parse_local, rfc3339};

const EVENTS_FLAGS: &str = "
    --format string How to show each: 'json', or a Go template
    --since string Also what has happened since then (RFC 3339, Unix seconds, or an age such as 10m)
    --until string Until then";

const PRUNE: &str = "
    -a --all bool All images that no container uses, not only those without a name
    -f --force bool Do not ask
    --volumes bool Anonymous volumes, too";

/// `info`.
pub const INFO: Command =
    Command::new("info", "[OPTIONS]", "Display system-wide information", Arity::None, &[INSPECT_FORMAT], |a, m| {
        Box::pin(info::info(a, m))
    });
/// `version`.
pub const VERSION: Command = Command::new(
    "version",
    "[OPTIONS]",
    "Show the version of the client and the daemon",
    Arity::None,
    &[INSPECT_FORMAT],
    |a, m| Box::pin(version(a, m)),
);
/// `events`.
pub const EVENTS: Command = Command::new(
    "events",
    "[OPTIONS]",
    "Get real time events from the server",
    Arity::None,
    &[FILTER, EVENTS_FLAGS],
    |a, m| Box::pin(events(a, m)),
)
.shown(&["events --filter type=service", "events --since 10m --until 0s --format json"]);
/// `ping`.
pub const PING: Command =
    Command::new("ping", "", "Ask the daemon whether it answers, and how long that takes", Arity::None, &[], |a, m| {
        Box::pin(ping(a, m))
    });

/// The group.
pub const GROUP: Command = Command::group(
    "system",
    "Manage the daemon",
    &[
        INFO,
        EVENTS,
        Command::new("df", "[OPTIONS]", "Show how much room things take", Arity::None, &[FORMAT], |a, m| {
            Box::pin(df::df(a, m))
        }),
        Command::new("prune", "[OPTIONS]", "Remove unused data", Arity::None, &[FILTER_LONG, PRUNE], |a, m| {
            Box::pin(super::prune::system(a, m))
        })
        .shown(&["system prune", "system prune -a --volumes"]),
        Command::new(
            "dial-stdio",
            "",
            "Connect standard input and output with the daemon (for ssh:// hosts)",
            Arity::None,
            &[],
            |a, m| Box::pin(dial_stdio(a, m)),
        ),
    ],
);

/// A moment as `--since` and `--until` take it, for the daemon: an age becomes seconds since 1970.
pub(crate) fn moment(flag: &str, text: &str) -> Result<String, Failure> {
    if text.is_empty() || text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Ok(text.to_owned());
    }
    let at = match crate::grammar::values::duration(text) {
        Ok(age) => time::now() - i128::from(age),
        Err(_) => {
            // Events are not told which flag it was.
            let flag = if flag.is_empty() { String::new() } else { format!("invalid value for {flag:?}: ") };
            let why = || format!("{flag}failed to parse value as time or duration: {text:?}");
            parse_local(text).ok_or_else(|| Failure::new(why()))?
        }
    };
    Ok(format!("{}.{:09}", at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000)))
}

async fn version(app: &App, m: &Matches) -> Result<u8, Failure> {
    let server = match app.client().await {
        Ok(client) => client.call("GET", "/version", None).await.map_err(Failure::from),
        Err(e) => Err(e),
    };
    let api = match &server {
        Ok(v) => v["ApiVersion"].as_str().unwrap_or_default().to_owned(),
        Err(_) => "1.50".to_owned(),
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = env!("CARGO_PKG_VERSION");
    let client = json!({
        "Platform": {"Name": format!("Skep {own}")}, "Version": DOCKER_VERSION, "ApiVersion": api, "DefaultAPIVersion": "1.50",
        "GitCommit": "", "GoVersion": "none (Rust)", "Os": std::env::consts::OS, "Arch": arch, "BuildTime": "", "Context": app.context,
    });
    if let Some(format) = m.text("format").filter(|f| !f.is_empty()) {
        let all = json!({"Client": client, "Server": server.as_ref().ok()});
        print(&(list::apply(format, &all)? + "\n"))?;
        return server.map(|_| 0);
    }
    let text = |v: &Value, k: &str| v[k].as_str().unwrap_or_default().to_owned();
    // Values stand in one column, as in the stock client's own table.
    let row =
        |indent: usize, name: &str, value: &str| format!("{:<20}{value}", format!("{}{name}:", " ".repeat(indent))) + "\n";
    let mut out = format!("Client: {}\n", text(&client["Platform"], "Name"));
    out += &row(1, "Version", DOCKER_VERSION);
    out += &row(1, "API version", &api);
    out += &row(1, "OS/Arch", &format!("{}/{arch}", std::env::consts::OS));
    out += &row(1, "Context", &app.context);
    if let Ok(s) = &server {
        out += &format!("\nServer: {}\n", text(&s["Platform"], "Name"));
        for part in s["Components"].as_array().into_iter().flatten() {
            let details = &part["Details"];
            out += &format!(" {}:\n", text(part, "Name"));
            let (api, least) = (text(details, "ApiVersion"), text(details, "MinAPIVersion"));
            let api = if api.is_empty() { api } else { format!("{api} (minimum version {least})") };
            let os = text(details, "Os");
            let os = if os.is_empty() { os } else { format!("{os}/{}", text(details, "Arch")) };
            for (name, value) in [
                ("Version", text(part, "Version")),
                ("API version", api),
                ("Go version", text(details, "GoVersion")),
                ("Git commit", text(details, "GitCommit")),
                ("Built", text(details, "BuildTime")),
                ("OS/Arch", os),
                ("Experimental", text(details, "Experimental")),
            ] {
                out += &row(2, name, &value);
            }
        }
    }
    print(&out)?;
    server.map(|_| 0)
}

async fn ping(app: &App, _: &Matches) -> Result<u8, Failure> {
    let begin = std::time::Instant::now();
    let version = app.unversioned().ping().await?;
    print(&format!("{} answers: API {version}, {:.1} ms\n", app.unversioned().host(), begin.elapsed().as_secs_f64() * 1000.0))?;
    Ok(0)
}

/// An event as a line: time, type, action, actor and attributes.
fn event_line(e: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let nanos = e["timeNano"].as_i64().or_else(|| e["time"].as_i64().map(|s| s.saturating_mul(1_000_000_000))).unwrap_or(0);
    let mut line =
        format!("{} {} {} {}", rfc3339(i128::from(nanos)), text(&e["Type"]), text(&e["Action"]), text(&e["Actor"]["ID"]));
    if let Some(all) = e["Actor"]["Attributes"].as_object().filter(|a| !a.is_empty()) {
        let pairs: Vec<String> = all.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
        line += &format!(" ({})", pairs.join(", "));
    }
    line
}

async fn events(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let filters = options::filters(m.list("filter"))?;
    let (since, until) = (moment("", m.text_or_empty("since"))?, moment("", m.text_or_empty("until"))?);
    let path = query("/events", &[("filters", &filters), ("since", &since), ("until", &until)]);
    let mut stream = client.open("GET", &path, &[]).await?;
    let format = m.text_or_empty("format");
    loop {
        let event = tokio::select! {
            event = stream.json() => event?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::quiet(130)),
        };
        let Some(event) = event else { return Ok(0) };
        let line = match format {
            "" => event_line(&event),
            "json" => event.to_string(),
            template => list::apply(template, &event)?,
        };
        print(&format!("{line}\n"))?;
    }
}

async fn dial_stdio(app: &App, _: &Matches) -> Result<u8, Failure> {
    let connection = app.unversioned().dial().await?;
    let (mut from, mut to) = tokio::io::split(connection);
    let fail = |e: std::io::Error| Failure::new(format!("connect standard input and output with the daemon: {e}"));
    let send = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut to).await?;
        to.shutdown().await
    };
    let receive = async {
        let mut out = tokio::io::stdout();
        tokio::io::copy(&mut from, &mut out).await?;
        out.flush().await
    };
    tokio::pin!(send, receive);
    // When the daemon has said all, nothing more is to come, whatever the other side would still send.
    tokio::select! {
        done = &mut receive => done.map_err(fail)?,
        done = &mut send => {
            done.map_err(fail)?;
            receive.await.map_err(fail)?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let e = json!({
            "Type": "service", "Action": "create", "Actor": {"ID": "abc", "Attributes": {"name": "web", "a": "b"}},
            "timeNano": 1_000_000_005_i64,
        });
        let line = event_line(&e);
        assert!(line.contains("01.000000005") && line.ends_with(" service create abc (a=b, name=web)"), "{line}");
    }

    #[test]
    fn moments_for_the_daemon() {
        assert_eq!(moment("since", "1700000000").unwrap(), "1700000000");
        assert_eq!(moment("since", "1970-01-01T00:00:01Z").unwrap(), "1.000000000");
        assert!(moment("since", "10m").unwrap().contains('.'));
        assert!(moment("since", "yesterday").is_err());
    }
}
