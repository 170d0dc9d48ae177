//! Rows of tasks: `service ps`, `node ps`, `stack ps` show the same (`swarm-semantics` 1.4).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::Failure;
use crate::client::{Client, escape};
use crate::output::human::{ago_text, ellipsis, short_id, title};
use crate::output::list::{self, List};
use crate::output::natural;

/// The table of tasks.
const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}";
const RAW: &str = "id: {{.ID}}\nname: {{.Name}}\nimage: {{.Image}}\nnode: {{.Node}}\ndesired_state: {{.DesiredState}}\n\
                   current_state: {{.CurrentState}}\nerror: {{.Error}}\nports: {{.Ports}}\n";
const COLUMNS: &[list::Column] = &[
    ("ID", "ID"),
    ("Name", "NAME"),
    ("Image", "IMAGE"),
    ("Node", "NODE"),
    ("DesiredState", "DESIRED STATE"),
    ("CurrentState", "CURRENT STATE"),
    ("Error", "ERROR"),
    ("Ports", "PORTS"),
];
/// Longest error that a table shows whole.
const MAX_ERROR: usize = 30;

/// How tasks are to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Show<'a> {
    /// `--format`.
    pub format: &'a str,
    /// Ids only.
    pub quiet: bool,
    /// Ids and errors whole.
    pub no_trunc: bool,
    /// Ids instead of names.
    pub no_resolve: bool,
}

/// Names of services and nodes by their ids.
#[derive(Debug, Default)]
pub struct Names {
    services: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
}

impl Names {
    /// Asks for the names of all services and nodes of tasks. Those that are gone are called by their ids.
    ///
    /// # Errors
    /// When the daemon cannot be asked.
    pub async fn of(client: &Client, tasks: &[Value]) -> Result<Self, Failure> {
        let mut names = Self::default();
        for task in tasks {
            let id = task["ServiceID"].as_str().unwrap_or_default();
            if !id.is_empty() && !names.services.contains_key(id) {
                let found = client.call("GET", &format!("/services/{}", escape(id)), None).await.ok();
                let name = found.and_then(|s| s["Spec"]["Name"].as_str().map(str::to_owned));
                names.services.insert(id.to_owned(), name.unwrap_or_else(|| id.to_owned()));
            }
        }
        let nodes = client.call("GET", "/nodes", None).await?;
        for node in nodes.as_array().into_iter().flatten() {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let named = Some(text(&node["Spec"]["Name"])).filter(|n| !n.is_empty());
            names.nodes.insert(text(&node["ID"]), named.unwrap_or_else(|| text(&node["Description"]["Hostname"])));
        }
        Ok(names)
    }

    /// A service's name.
    #[must_use]
    pub fn service<'a>(&'a self, id: &'a str) -> &'a str {
        self.services.get(id).map_or(id, String::as_str)
    }

    /// A node's name.
    #[must_use]
    pub fn node<'a>(&'a self, id: &'a str) -> &'a str {
        self.nodes.get(id).map_or(id, String::as_str)
    }
}

/// `web.1`, or `web.NODE` for tasks of global services.
#[must_use]
pub fn name(task: &Value, names: &Names) -> String {
    let service = names.service(task["ServiceID"].as_str().unwrap_or_default());
    match task["Slot"].as_u64().unwrap_or(0) {
        0 => format!("{service}.{}", task["NodeID"].as_str().unwrap_or_default()),
        slot => format!("{service}.{slot}"),
    }
}

/// An image's name without its digest, if it has a tag as well.
#[must_use]
pub fn short_image(image: &str) -> &str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let name = if tagged || digest.is_empty() { name } else { image };
    name.strip_prefix("docker.io/library/").or_else(|| name.strip_prefix("docker.io/")).unwrap_or(name)
}

/// Ports on the task's own node: `*:8080->80/tcp`.
fn ports(task: &Value) -> String {
    let one = |p: &Value| {
        let number = |k: &str| p[k].as_u64().unwrap_or(0);
        format!("*:{}->{}/{}", number("PublishedPort"), number("TargetPort"), p["Protocol"].as_str().unwrap_or("tcp"))
    };
    let all = task["Status"]["PortStatus"]["Ports"].as_array();
    all.map(|a| a.iter().map(one).collect::<Vec<_>>().join(",")).unwrap_or_default()
}

/// By name, newest first.
fn order(a: &(String, &Value), b: &(String, &Value)) -> Ordering {
    let created = |t: &Value| t["CreatedAt"].as_str().and_then(crate::output::time::parse);
    natural::compare(&a.0, &b.0).then_with(|| created(b.1).cmp(&created(a.1)))
}

/// The rows of tasks.
#[must_use]
pub fn rows(tasks: &[Value], names: &Names, show: Show<'_>) -> Vec<Value> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut named: Vec<(String, &Value)> = tasks.iter().map(|t| (name(t, names), t)).collect();
    named.sort_by(order);
    let table = list::is_table(show.format) && !show.quiet;
    let mut last = String::new();
    let mut out = Vec::with_capacity(named.len());
    for (name, task) in named {
        let again = table && name == last;
        let shown = if again { format!(" \\_ {name}") } else { name.clone() };
        last = name;
        let id = text(&task["ID"]);
        let image = text(&task["Spec"]["ContainerSpec"]["Image"]);
        let mut error = text(&task["Status"]["Err"]);
        if !error.is_empty() {
            error = if show.no_trunc { format!("\"{error}\"") } else { format!("\"{}\"", ellipsis(&error, MAX_ERROR)) };
        }
        out.push(json!({
            "ID": if show.no_trunc || show.quiet { id } else { short_id(&id).to_owned() },
            "Name": shown,
            "Image": if show.no_trunc { image } else { short_image(&image).to_owned() },
            "Node": names.node(task["NodeID"].as_str().unwrap_or_default()),
            "DesiredState": title(&text(&task["DesiredState"])),
            "CurrentState": format!("{} {}", title(&text(&task["Status"]["State"])), ago_text(&text(&task["Status"]["Timestamp"])).to_lowercase()),
            "Error": error,
            "Ports": ports(task),
        }));
    }
    out
}

/// Asks for names, if they are wanted, and prints tasks.
///
/// # Errors
/// When the daemon cannot be asked, or the format is wrong.
pub async fn print(client: &Client, tasks: &[Value], show: Show<'_>) -> Result<(), Failure> {
    let names = if show.no_resolve || show.quiet { Names::default() } else { Names::of(client, tasks).await? };
    let list = List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows: rows(tasks, &names, show) };
    list.show(list::raw(show.format, show.quiet, "id: {{.ID}}", RAW), show.quiet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, slot: u64, created: &str, state: &str, err: &str) -> Value {
        json!({
            "ID": id, "ServiceID": "s1", "Slot": slot, "NodeID": "n1", "CreatedAt": created, "DesiredState": "running",
            "Status": {"State": state, "Timestamp": "2020-01-01T00:00:00Z", "Err": err},
            "Spec": {"ContainerSpec": {"Image": "nginx:1.27@sha256:0000"}},
        })
    }

    #[test]
    fn rows_are_sorted_and_marked() {
        let names = Names {
            services: [("s1".to_owned(), "web".to_owned())].into(),
            nodes: [("n1".to_owned(), "host".to_owned())].into(),
        };
        let tasks = [
            task("t10", 10, "2020-01-01T00:00:00Z", "running", ""),
            task("old", 2, "2020-01-01T00:00:00Z", "failed", "task: non-zero exit (1): and something more"),
            task("new", 2, "2020-01-02T00:00:00Z", "running", ""),
        ];
        let show = Show { format: "", quiet: false, no_trunc: false, no_resolve: false };
        let rows = rows(&tasks, &names, show);
        let names: Vec<&str> = rows.iter().map(|r| r["Name"].as_str().unwrap()).collect();
        assert_eq!(names, ["web.2", " \\_ web.2", "web.10"]);
        assert_eq!(rows[1]["Error"], "\"task: non-zero exit (1): and …\"");
        assert_eq!(rows[0]["Image"], "nginx:1.27");
        assert!(rows[0]["CurrentState"].as_str().unwrap().starts_with("Running ") && rows[0]["Node"] == "host");
    }

    #[test]
    fn images_lose_what_is_long() {
        assert_eq!(short_image("nginx:1@sha256:00"), "nginx:1");
        assert_eq!(short_image("docker.io/library/nginx:1"), "nginx:1");
        assert_eq!(short_image("a.b/c@sha256:00"), "a.b/c@sha256:00");
        assert_eq!(short_image("localhost:5000/c"), "localhost:5000/c");
    }
}
