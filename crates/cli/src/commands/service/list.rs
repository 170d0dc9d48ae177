//! `service ls`, `ps`, `inspect`.

use serde_json::{Value, json};

use super::pretty;
use crate::app::{App, Failure};
use crate::client::{escape, query};
use crate::commands::inspect::{missing, show};
use crate::commands::tasks::{self, Show, short_image};
use crate::grammar::Matches;
use crate::options::{filters, filters_and};
use crate::output::human::short_id;
use crate::output::list::{self, List};
use crate::output::order::ordered;
use crate::output::{natural, print};

const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}";
const RAW: &str =
    "id: {{.ID}}\nname: {{.Name}}\nmode: {{.Mode}}\nreplicas: {{.Replicas}}\nimage: {{.Image}}\nports: {{.Ports}}\n";
const COLUMNS: &[list::Column] =
    &[("ID", "ID"), ("Name", "NAME"), ("Mode", "MODE"), ("Replicas", "REPLICAS"), ("Image", "IMAGE"), ("Ports", "PORTS")];

/// `replicated`, `global job`, …
fn mode(service: &Value) -> &'static str {
    let mode = &service["Spec"]["Mode"];
    match () {
        () if mode.get("Global").is_some() => "global",
        () if mode.get("ReplicatedJob").is_some() => "replicated job",
        () if mode.get("GlobalJob").is_some() => "global job",
        () => "replicated",
    }
}

/// `2/3 (max 1 per node)`, `1/1 (4/5 completed)`.
fn replicas(service: &Value) -> String {
    let s = &service["ServiceStatus"];
    let number = |k: &str| s[k].as_u64().unwrap_or(0);
    let counted = format!("{}/{}", number("RunningTasks"), number("DesiredTasks"));
    let spec = &service["Spec"];
    match mode(service) {
        "replicated" => match spec["TaskTemplate"]["Placement"]["MaxReplicas"].as_u64().filter(|n| *n > 0) {
            Some(most) => format!("{counted} (max {most} per node)"),
            None => counted,
        },
        "replicated job" => {
            let all = spec["Mode"]["ReplicatedJob"]["TotalCompletions"].as_u64().unwrap_or(1);
            format!("{counted} ({}/{all} completed)", number("CompletedTasks"))
        }
        "global job" => {
            format!("{counted} ({}/{} completed)", number("CompletedTasks"), number("DesiredTasks") + number("CompletedTasks"))
        }
        _ => counted,
    }
}

/// Neighbours of one protocol: first and last target port, first and last published port.
type Run = ((u64, u64), (u64, u64), String);

/// Ports of the mesh: `*:80-82->80-82/tcp, *:53->53/udp`.
pub(super) fn ports(service: &Value) -> String {
    let mut all: Vec<(u64, u64, String)> = service["Endpoint"]["Ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| p["PublishMode"] != "host")
        .map(|p| {
            let number = |k: &str| p[k].as_u64().unwrap_or(0);
            (number("TargetPort"), number("PublishedPort"), p["Protocol"].as_str().unwrap_or("tcp").to_owned())
        })
        .collect();
    all.sort_by(|a, b| (&a.2, a.0, a.1).cmp(&(&b.2, b.0, b.1)));
    let mut runs: Vec<Run> = Vec::new();
    for (target, published, protocol) in all {
        match runs.last_mut() {
            Some(((_, last_t), (_, last_p), same))
                if *same == protocol && *last_t + 1 == target && *last_p + 1 == published =>
            {
                *last_t = target;
                *last_p = published;
            }
            _ => runs.push(((target, target), (published, published), protocol)),
        }
    }
    let span = |(a, b): (u64, u64)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let shown: Vec<String> =
        runs.into_iter().map(|(t, p, protocol)| format!("*:{}->{}/{protocol}", span(p), span(t))).collect();
    shown.join(", ")
}

/// Rows of `service ls` and `stack services`.
#[must_use]
pub(super) fn rows(services: &[Value]) -> Vec<Value> {
    let name = |s: &Value| s["Spec"]["Name"].as_str().unwrap_or_default().to_owned();
    let mut sorted: Vec<&Value> = services.iter().collect();
    sorted.sort_by(|a, b| natural::compare(&name(a), &name(b)));
    let row = |s: &&Value| {
        let image = s["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        json!({
            "ID": short_id(s["ID"].as_str().unwrap_or_default()), "Name": name(s), "Mode": mode(s), "Replicas": replicas(s),
            "Image": short_image(image), "Ports": ports(s),
        })
    };
    sorted.iter().map(row).collect()
}

/// Prints services as `service ls` does.
///
/// # Errors
/// When the format is wrong.
pub fn print_list(services: &[Value], format: &str, quiet: bool) -> Result<(), Failure> {
    let format = list::raw(format, quiet, "id: {{.ID}}", RAW);
    List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows: rows(services) }.show(format, quiet)
}

pub(super) async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    let quiet = m.on("quiet");
    let filters = filters(m.list("filter"))?;
    let status = if quiet { "" } else { "true" };
    let path = query("/services", &[("filters", &filters), ("status", status)]);
    let found = app.client().await?.call("GET", &path, None).await?;
    let format = app.format(m.text("format"), "servicesFormat", quiet);
    print_list(found.as_array().map(Vec::as_slice).unwrap_or_default(), format, quiet)?;
    Ok(0)
}

pub(super) async fn ps(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let mut ids = Vec::new();
    let mut missing = Vec::new();
    for name in m.args() {
        match client.call("GET", &format!("/services/{}", escape(name)), None).await {
            Ok(service) => ids.push(service["ID"].as_str().unwrap_or_default().to_owned()),
            Err(crate::client::ClientError::Refused { status: 404, .. }) => {
                missing.push(Failure::new(format!("no such service: {name}")));
            }
            Err(e) => return Err(e.into()),
        }
    }
    if !ids.is_empty() {
        // `self` is the node that answers.
        let mut given = m.list("filter").to_vec();
        for one in &mut given {
            if one == "node=self" {
                *one = format!("node={}", crate::commands::node::resolve(client, "self").await?);
            }
        }
        let filters = filters_and(&given, "service", &ids)?;
        let found = client.call("GET", &query("/tasks", &[("filters", &filters)]), None).await?;
        let show = Show {
            format: app.format(m.text("format"), "tasksFormat", m.on("quiet")),
            quiet: m.on("quiet"),
            no_trunc: m.on("no-trunc"),
            no_resolve: m.on("no-resolve"),
        };
        tasks::print(client, found.as_array().map(Vec::as_slice).unwrap_or_default(), show).await?;
    }
    Failure::all(missing)
}

pub(super) async fn inspect(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    if m.on("pretty") {
        if m.given("format") {
            return Err(Failure::new("--format is incompatible with human friendly format"));
        }
        let mut networks = client.call("GET", "/networks", None).await?;
        let mut all = Vec::new();
        for name in m.args() {
            let path = query(&format!("/services/{}", escape(name)), &[("insertDefaults", "true")]);
            let found = client.call("GET", &path, None).await.map_err(|e| missing("service", name, e))?;
            // No list shows what each host has for itself as services know it.
            let targets = found.pointer("/Spec/TaskTemplate/Networks").and_then(Value::as_array).into_iter().flatten();
            for target in targets.filter_map(|n| n["Target"].as_str()) {
                if let Some(list) = networks.as_array_mut().filter(|list| list.iter().all(|n| n["Id"] != *target)) {
                    list.extend(client.call("GET", &query(&format!("/networks/{target}"), &[("scope", "swarm")]), None).await);
                }
            }
            all.push(pretty::service(&found, &networks));
        }
        print(&(all.join("\n") + "\n"))?;
        return Ok(0);
    }
    let fetch = async |name: &str| {
        let path = query(&format!("/services/{}", escape(name)), &[("insertDefaults", "true")]);
        client.text(&path).await.map(|t| ordered(&t)).map_err(|e| missing("service", name, e))
    };
    show(m.args(), m.text("format").or_else(|| app.config.text("serviceInspectFormat")), fetch).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_docker_s() {
        let service = |name: &str, mode: Value, ports: Value| {
            json!({
                "ID": "abcdefghijklmnopqrstuvwxy", "Endpoint": {"Ports": ports},
                "Spec": {"Name": name, "Mode": mode, "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1@sha256:0"}}},
                "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 3, "CompletedTasks": 4},
            })
        };
        let port = |t: u64, p: u64| json!({"TargetPort": t, "PublishedPort": p, "Protocol": "tcp", "PublishMode": "ingress"});
        let all = [
            service("web10", json!({"Replicated": {"Replicas": 3}}), json!([port(81, 8081), port(80, 8080), port(90, 90)])),
            service("web2", json!({"Global": {}}), json!([])),
            service("job", json!({"ReplicatedJob": {"TotalCompletions": 5}}), json!([])),
        ];
        let list = List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows: rows(&all) };
        let want = "ID             NAME      MODE             REPLICAS              IMAGE     PORTS\n\
                    abcdefghijkl   job       replicated job   2/3 (4/5 completed)   nginx:1   \n\
                    abcdefghijkl   web2      global           2/3                   nginx:1   \n\
                    abcdefghijkl   web10     replicated       2/3                   nginx:1   *:8080-8081->80-81/tcp, *:90->90/tcp\n";
        assert_eq!(list.render("", false).unwrap(), want);
    }
}
