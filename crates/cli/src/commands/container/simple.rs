//! Container commands that are one call for each name: `stop`, `kill`, `restart`, `rm`, `wait`, `pause`, `rename`, …; what the
//! daemon does not serve yet it refuses, and its words are passed on.

use serde_json::Value;

use super::output::copy;
use crate::app::{App, Failure};
use crate::client::{escape, query};
use crate::commands::each::{each, each_told};
use crate::commands::inspect::show;
use crate::commands::prune::Kind;
use crate::commands::system::moment;
use crate::grammar::Matches;
use crate::output::{print, table};

pub(super) async fn stop(app: &App, m: &Matches) -> Result<u8, Failure> {
    again(app, m, "stop").await
}

pub(super) async fn restart(app: &App, m: &Matches) -> Result<u8, Failure> {
    again(app, m, "restart").await
}

async fn again(app: &App, m: &Matches, what: &str) -> Result<u8, Failure> {
    let (signal, time) = (m.text_or_empty("signal"), m.text_or_empty("timeout"));
    each(app, m.args(), "POST", None, |name| query(&format!("/containers/{name}/{what}"), &[("signal", signal), ("t", time)]))
        .await
}

pub(super) async fn kill(app: &App, m: &Matches) -> Result<u8, Failure> {
    let signal = m.text_or_empty("signal");
    each(app, m.args(), "POST", None, |name| query(&format!("/containers/{name}/kill"), &[("signal", signal)])).await
}

pub(super) async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let flag = |name: &str| if m.on(name) { "1" } else { "" };
    let (force, volumes, link) = (flag("force"), flag("volumes"), flag("link"));
    each(app, m.args(), "DELETE", None, |name| {
        query(&format!("/containers/{name}"), &[("force", force), ("v", volumes), ("link", link)])
    })
    .await
}

pub(super) async fn pause(app: &App, m: &Matches) -> Result<u8, Failure> {
    each(app, m.args(), "POST", None, |name| format!("/containers/{name}/pause")).await
}

pub(super) async fn unpause(app: &App, m: &Matches) -> Result<u8, Failure> {
    each(app, m.args(), "POST", None, |name| format!("/containers/{name}/unpause")).await
}

pub(super) async fn rename(app: &App, m: &Matches) -> Result<u8, Failure> {
    let path = query(&format!("/containers/{}/rename", escape(m.arg(0))), &[("name", m.arg(1))]);
    app.client().await?.call("POST", &path, None).await?;
    Ok(0)
}

pub(super) async fn wait(app: &App, m: &Matches) -> Result<u8, Failure> {
    let path = |name: &str| format!("/containers/{}/wait", escape(name));
    let code = |_: &str, done: &Value| format!("{}\n", done["StatusCode"].as_i64().unwrap_or(0));
    each_told(app, m.args(), "POST", None, path, code).await
}

pub(super) async fn logs(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let found = client.call("GET", &format!("/containers/{}/json", escape(m.arg(0))), None).await?;
    let yes = |name: &str| if m.on(name) { "1" } else { "" };
    let (since, until) = (moment("since", m.text_or_empty("since"))?, moment("until", m.text_or_empty("until"))?);
    let path = query(
        &format!("/containers/{}/logs", found["Id"].as_str().unwrap_or_default()),
        &[
            ("stdout", "1"),
            ("stderr", "1"),
            ("follow", yes("follow")),
            ("timestamps", yes("timestamps")),
            ("details", yes("details")),
            ("since", &since),
            ("until", &until),
            ("tail", m.text("tail").unwrap_or("all")),
        ],
    );
    let stream = client.open("GET", &path, &[]).await?;
    tokio::select! {
        done = copy(stream, found["Config"]["Tty"] == true) => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::quiet(130)),
    }
}

pub(super) async fn inspect(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let sized = if m.on("size") { "1" } else { "" };
    let fetch =
        async |name: &str| Ok(client.text(&query(&format!("/containers/{}/json", escape(name)), &[("size", sized)])).await?);
    show(m.args(), m.text("format"), fetch).await
}

/// `port`: from the container's own ports.
pub(super) async fn port(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let found = client.call("GET", &format!("/containers/{}/json", escape(m.arg(0))), None).await?;
    let wanted = m.args().get(1).map(|p| if p.contains('/') { p.clone() } else { format!("{p}/tcp") });
    let mut lines = Vec::new();
    for (inside, bindings) in found["NetworkSettings"]["Ports"].as_object().into_iter().flatten() {
        for b in bindings.as_array().into_iter().flatten() {
            let text = |k: &str| b[k].as_str().unwrap_or_default();
            let ip = if text("HostIp").contains(':') { format!("[{}]", text("HostIp")) } else { text("HostIp").to_owned() };
            match &wanted {
                Some(wanted) if wanted == inside => lines.push(format!("{ip}:{}", text("HostPort"))),
                Some(_) => {}
                None => lines.push(format!("{inside} -> {ip}:{}", text("HostPort"))),
            }
        }
    }
    if let (Some(wanted), true) = (&wanted, lines.is_empty()) {
        return Err(Failure::new(format!("no public port '{wanted}' published for {}", m.arg(0))));
    }
    print(&lines.iter().map(|l| format!("{l}\n")).collect::<String>())?;
    Ok(0)
}

pub(super) async fn top(app: &App, m: &Matches) -> Result<u8, Failure> {
    let args = m.args()[1..].join(" ");
    let found = app
        .client()
        .await?
        .call("GET", &query(&format!("/containers/{}/top", escape(m.arg(0))), &[("ps_args", &args)]), None)
        .await?;
    let row = |r: &Value| r.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("\t") + "\n";
    let mut out = row(&found["Titles"]);
    out += &found["Processes"].as_array().into_iter().flatten().map(row).collect::<String>();
    print(&table::columns(&out))?;
    Ok(0)
}

/// `diff`: a letter and a path for each change.
pub(super) async fn diff(app: &App, m: &Matches) -> Result<u8, Failure> {
    let found = app.client().await?.call("GET", &format!("/containers/{}/changes", escape(m.arg(0))), None).await?;
    let line = |c: &Value| {
        let kind = match c["Kind"].as_u64() {
            Some(1) => "A",
            Some(2) => "D",
            _ => "C",
        };
        format!("{kind} {}\n", c["Path"].as_str().unwrap_or_default())
    };
    print(&found.as_array().into_iter().flatten().map(line).collect::<String>())?;
    Ok(0)
}

pub(super) async fn export(app: &App, m: &Matches) -> Result<u8, Failure> {
    let file = m.text("output").filter(|o| !o.is_empty());
    if file.is_none() && crate::output::on_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let stream = app.client().await?.open("GET", &format!("/containers/{}/export", escape(m.arg(0))), &[]).await?;
    super::copy::save(stream, file).await
}

pub(super) async fn commit(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (repo, tag) = crate::commands::image::pull::split(m.arg(1));
    let pause = if m.switch("pause") == Some(false) { "0" } else { "1" };
    let mut path = query(
        "/commit",
        &[
            ("container", m.arg(0)),
            ("repo", repo),
            ("tag", tag),
            ("author", m.text_or_empty("author")),
            ("comment", m.text_or_empty("message")),
            ("pause", pause),
        ],
    );
    for change in m.list("change") {
        path += &format!("&changes={}", escape(change));
    }
    let made = app.client().await?.call("POST", &path, None).await?;
    print(&format!("{}\n", made["Id"].as_str().unwrap_or_default()))?;
    Ok(0)
}

pub(super) async fn prune(app: &App, m: &Matches) -> Result<u8, Failure> {
    Kind::Containers.command(app, m, "all stopped containers", &[]).await
}
