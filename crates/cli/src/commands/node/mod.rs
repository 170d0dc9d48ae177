//! `node …`.

mod pretty;

use serde_json::{Value, json};

use super::each::each;
use super::tasks::{self, Show};
use super::{FILTER, FORMAT, INSPECT_FORMAT, inspect};
use crate::app::{App, Failure};
use crate::client::{Client, ClientError, MOST_TRIES, escape, query};
use crate::grammar::{Arity, Command, Matches};
use crate::options;
use crate::output::human::title;
use crate::output::list::{self, List};
use crate::output::order::ordered;
use crate::output::{natural, print};
use crate::progress::drain;

const LS: &str = "-q --quiet bool Only ids";
const INSPECT: &str = "--pretty bool Show what matters, for people";
const PS: &str = "
    --no-resolve bool Show ids instead of names
    --no-trunc bool Do not cut ids and errors short
    -q --quiet bool Only ids";
const UPDATE: &str = "
    --availability string What the node may be given: active, pause, drain
    --label-add list* Add or change a label of the node (key=value)
    --label-rm list* Remove a label by its key
    --role string What the node is: worker, manager
    --wait bool With --availability drain: return when no task is left on it";
const ROLES: &str = "--wait bool Return when each has taken its new role";
const RM: &str = "-f --force bool Remove it though it is not down";

/// How often a node that changes its role is looked at.
const POLL: std::time::Duration = std::time::Duration::from_millis(200);

/// The group.
pub const GROUP: Command = Command::group(
    "node",
    "Manage Swarm nodes",
    &[
        Command::new("ls", "[OPTIONS]", "List nodes in the swarm", Arity::None, &[FILTER, FORMAT, LS], |a, m| {
            Box::pin(ls(a, m))
        })
        .alias(&["list"])
        .shown(&["node ls", "node ls --filter role=manager", "node ls --format '{{.Hostname}} {{.Status}}'"]),
        Command::new(
            "inspect",
            "[OPTIONS] self|NODE [NODE...]",
            "Display detailed information on one or more nodes",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, INSPECT],
            |a, m| Box::pin(inspect_nodes(a, m)),
        ),
        Command::new(
            "ps",
            "[OPTIONS] [NODE...]",
            "List tasks running on one or more nodes, defaults to current node",
            Arity::Any,
            &[FILTER, FORMAT, PS],
            |a, m| Box::pin(ps(a, m)),
        ),
        Command::new("update", "[OPTIONS] NODE", "Update a node", Arity::Exactly(1), &[UPDATE], |a, m| Box::pin(update(a, m)))
            .shown(&["node update --availability drain --wait worker2", "node update --label-add disk=ssd worker1"]),
        Command::new(
            "promote",
            "NODE [NODE...]",
            "Promote one or more nodes to manager in the swarm",
            Arity::AtLeast(1),
            &[ROLES],
            |a, m| Box::pin(roles(a, m, "manager")),
        ),
        Command::new(
            "demote",
            "NODE [NODE...]",
            "Demote one or more nodes from manager in the swarm",
            Arity::AtLeast(1),
            &[ROLES],
            |a, m| Box::pin(roles(a, m, "worker")),
        ),
        Command::new(
            "rm",
            "[OPTIONS] NODE [NODE...]",
            "Remove one or more nodes from the swarm",
            Arity::AtLeast(1),
            &[RM],
            |a, m| Box::pin(rm(a, m)),
        )
        .alias(&["remove"]),
    ],
);

/// What the API calls a node: `self` is the one that answers.
///
/// # Errors
/// When that is in no swarm, with the daemon's words.
pub async fn resolve(client: &Client, name: &str) -> Result<String, Failure> {
    if name != "self" {
        return Ok(name.to_owned());
    }
    let info = client.call("GET", "/info", None).await?;
    match info["Swarm"]["NodeID"].as_str() {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        // A call of the cluster says why there is none.
        _ => match client.call("GET", "/nodes", None).await {
            Ok(_) => Err(Failure::new("node ID not found in /info")),
            Err(e) => Err(e.into()),
        },
    }
}

/// One node.
pub(crate) async fn one(client: &Client, name: &str) -> Result<Value, Failure> {
    Ok(client.call("GET", &format!("/nodes/{}", escape(&resolve(client, name).await?)), None).await?)
}

/// Rows of `node ls`.
fn rows(nodes: &[Value], info: &Value, running: Option<&[Value]>) -> Vec<Value> {
    let own = info["Swarm"]["NodeID"].as_str().unwrap_or_default();
    let root = &info["Swarm"]["Cluster"]["TLSInfo"];
    let mut sorted: Vec<&Value> = nodes.iter().collect();
    let host = |n: &Value| n["Description"]["Hostname"].as_str().unwrap_or_default().to_owned();
    sorted.sort_by(|a, b| natural::compare(&host(a), &host(b)));
    let row = |n: &&Value| {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let manager = &n["ManagerStatus"];
        let reach = if manager["Leader"] == true { "Leader".to_owned() } else { title(&text(&manager["Reachability"])) };
        let tls = match (&n["Description"]["TLSInfo"], root) {
            (Value::Object(own), Value::Object(root)) if !own.is_empty() && !root.is_empty() => {
                if own == root {
                    "Ready"
                } else {
                    "Needs Rotation"
                }
            }
            _ => "Unknown",
        };
        let tasks = running.map(|all| all.iter().filter(|t| t["NodeID"] == n["ID"]).count().to_string());
        let mut row = json!({
            "ID": n["ID"], "Self": n["ID"] == own, "Hostname": host(n), "Status": title(&text(&n["Status"]["State"])),
            "Availability": title(&text(&n["Spec"]["Availability"])), "ManagerStatus": reach,
            "EngineVersion": text(&n["Description"]["Engine"]["EngineVersion"]), "TLSStatus": tls,
        });
        if let Some(tasks) = tasks {
            row["Tasks"] = tasks.into();
        }
        row
    };
    sorted.iter().map(row).collect()
}

const TABLE: &str = "{{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}";
/// With the load, which the stock client does not show.
const TABLE_LOAD: &str = "{{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}\t{{.Tasks}}";
const RAW: &str = "node_id: {{.ID}}\nhostname: {{.Hostname}}\nstatus: {{.Status}}\navailability: {{.Availability}}\n\
                   manager_status: {{.ManagerStatus}}\n";
const COLUMNS: &[list::Column] = &[
    ("ID", "ID"),
    ("Self", ""),
    ("Hostname", "HOSTNAME"),
    ("Status", "STATUS"),
    ("Availability", "AVAILABILITY"),
    ("ManagerStatus", "MANAGER STATUS"),
    ("EngineVersion", "ENGINE VERSION"),
    ("TLSStatus", "TLS STATUS"),
    ("Tasks", "TASKS"),
];

async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let format = app.format(m.text("format"), "nodesFormat", m.on("quiet"));
    let filters = options::filters(m.list("filter"))?;
    let nodes = client.call("GET", &query("/nodes", &[("filters", &filters)]), None).await?;
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let quiet = m.on("quiet");
    let info = if quiet || nodes.is_empty() { Value::Null } else { client.call("GET", "/info", None).await? };
    let plain = matches!(format.trim(), "" | "table");
    let loaded = !quiet && (plain && app.program != "docker" || format.contains(".Tasks"));
    let tasks = if loaded {
        let filters = options::filter("desired-state", &["running"]);
        client.call("GET", &query("/tasks", &[("filters", &filters)]), None).await?
    } else {
        Value::Null
    };
    let running: Vec<Value> =
        tasks.as_array().into_iter().flatten().filter(|t| t["Status"]["State"] == "running").cloned().collect();
    let rows = rows(&nodes, &info, loaded.then_some(running.as_slice()));
    let table = if loaded { TABLE_LOAD } else { TABLE };
    let format = list::raw(format, quiet, "node_id: {{.ID}}", RAW);
    List { table, quiet: "{{.ID}}", columns: COLUMNS, rows }.show(format, quiet)?;
    Ok(0)
}

async fn inspect_nodes(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let fetch = async |name: &str| {
        let id = resolve(client, name).await?;
        Ok(ordered(&client.text(&format!("/nodes/{}", escape(&id))).await?))
    };
    if m.on("pretty") {
        if m.given("format") {
            return Err(Failure::new("--format is incompatible with human friendly format"));
        }
        let mut all = Vec::new();
        for name in m.args() {
            all.push(pretty::node(&one(client, name).await?));
        }
        print(&(all.join("\n") + if all.len() > 1 { "\n" } else { "" }))?;
        return Ok(0);
    }
    inspect::show(m.args(), m.text("format").or_else(|| app.config.text("nodeInspectFormat")), fetch).await
}

async fn ps(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let own = ["self".to_owned()];
    let names = if m.args().is_empty() { &own[..] } else { m.args() };
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        let node = match one(client, name).await {
            Ok(node) => node,
            Err(e) => {
                failed.push(e);
                continue;
            }
        };
        let id = node["ID"].as_str().unwrap_or_default().to_owned();
        let filters = options::filters_and(m.list("filter"), "node", &[id])?;
        let tasks = client.call("GET", &query("/tasks", &[("filters", &filters)]), None).await?;
        found.extend(tasks.as_array().cloned().unwrap_or_default());
    }
    if !found.is_empty() || failed.is_empty() {
        let show = Show {
            format: app.format(m.text("format"), "tasksFormat", m.on("quiet")),
            quiet: m.on("quiet"),
            no_trunc: m.on("no-trunc"),
            no_resolve: m.on("no-resolve"),
        };
        tasks::print(client, &found, show).await?;
    }
    Failure::all(failed)
}

/// Changes a node's spec.
fn change(spec: &mut Value, m: &Matches) -> Result<(), Failure> {
    if let Some(role) = m.text("role") {
        spec["Role"] = role.into();
    }
    if let Some(availability) = m.text("availability") {
        spec["Availability"] = availability.into();
    }
    if !spec["Labels"].is_object() {
        spec["Labels"] = json!({});
    }
    if let (Some(labels), Value::Object(added)) = (spec["Labels"].as_object_mut(), options::map(m.list("label-add"))) {
        labels.extend(added);
        for key in m.list("label-rm") {
            if labels.remove(key).is_none() {
                return Err(Failure::new(format!("key {key} doesn't exist in node's labels")));
            }
        }
    }
    Ok(())
}

/// Changes a node's spec if `change` says so; returns the node with it, and whether it was changed. Made anew on what is there when the
/// swarm has noted something about the node since it was read, such as its address.
async fn edit(
    client: &Client,
    name: &str,
    change: impl Fn(&mut Value) -> Result<bool, Failure>,
) -> Result<(Value, bool), Failure> {
    let mut tries = 1;
    loop {
        let mut node = one(client, name).await?;
        if !change(&mut node["Spec"])? {
            return Ok((node, false));
        }
        let id = node["ID"].as_str().unwrap_or_default();
        let version = node["Version"]["Index"].as_u64().unwrap_or(0);
        match client.call("POST", &format!("/nodes/{}/update?version={version}", escape(id)), Some(&node["Spec"])).await {
            Ok(_) => return Ok((node, true)),
            Err(ClientError::Refused { message, .. }) if message.contains("out of sequence") && tries < MOST_TRIES => {
                tries += 1
            }
            Err(e) => return Err(e.into()),
        }
    }
}

async fn update(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let (node, _) = edit(client, m.arg(0), |spec| change(spec, m).map(|()| true)).await?;
    print(&format!("{}\n", m.arg(0)))?;
    if m.on("wait") && node["Spec"]["Availability"] == "drain" {
        return drain::wait(client, &node).await;
    }
    Ok(0)
}

async fn roles(app: &App, m: &Matches, role: &str) -> Result<u8, Failure> {
    let client = app.client().await?;
    let mut changed = Vec::new();
    for name in m.args() {
        let name = &resolve(client, name).await?;
        let give = |spec: &mut Value| {
            let is_new = spec["Role"] != role;
            spec["Role"] = role.into();
            Ok(is_new)
        };
        let (node, is_new) = edit(client, name, give).await?;
        changed.push(node["ID"].as_str().unwrap_or_default().to_owned());
        let text = match (role, is_new) {
            ("manager", false) => format!("Node {name} is already a manager.\n"),
            (_, false) => format!("Node {name} is already a worker.\n"),
            ("manager", true) => format!("Node {name} promoted to a manager in the swarm.\n"),
            (_, true) => format!("Manager {name} demoted in the swarm.\n"),
        };
        print(&text)?;
    }
    if m.on("wait") {
        tokio::select! {
            done = taken(client, &changed, role) => done?,
            _ = tokio::signal::ctrl_c() => print("Operation continuing in background.\n")?,
        }
    }
    Ok(0)
}

/// Waits until nodes are what they shall be: a manager answers as one, a worker is none of the managers.
async fn taken(client: &Client, nodes: &[String], role: &str) -> Result<(), Failure> {
    for id in nodes {
        loop {
            // The manager that answers may be on its way out itself; another call may reach it no more.
            let node = one(client, id).await?;
            let manager = node["ManagerStatus"]["Reachability"] == "reachable";
            if manager == (role == "manager") && (manager || node["ManagerStatus"].is_null()) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let force = if m.on("force") { "1" } else { "" };
    each(app, m.args(), "DELETE", None, |name| query(&format!("/nodes/{name}"), &[("force", force)])).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Value> {
        let node = |id: &str, host: &str, leader: bool| {
            json!({
                "ID": id, "Spec": {"Availability": "active", "Role": "manager"}, "Status": {"State": "ready"},
                "Description": {"Hostname": host, "Engine": {"EngineVersion": "28.2.2"}, "TLSInfo": {"TrustRoot": "x"}},
                "ManagerStatus": {"Reachability": "reachable", "Leader": leader},
            })
        };
        vec![node("b10", "host10", false), node("a2", "host2", true)]
    }

    #[test]
    fn the_table_is_docker_s() {
        let info = json!({"Swarm": {"NodeID": "a2", "Cluster": {"TLSInfo": {"TrustRoot": "x"}}}});
        let list = |table, running: Option<&[Value]>| List {
            table,
            quiet: "{{.ID}}",
            columns: COLUMNS,
            rows: rows(&nodes(), &info, running),
        };
        let text = list(TABLE, None).render("", false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ID        HOSTNAME   STATUS    AVAILABILITY   MANAGER STATUS   ENGINE VERSION");
        assert_eq!(lines[1], "a2 *      host2      Ready     Active         Leader           28.2.2");
        assert_eq!(lines[2], "b10       host10     Ready     Active         Reachable        28.2.2");
        let running = [json!({"NodeID": "a2"}), json!({"NodeID": "a2"})];
        let text = list(TABLE_LOAD, Some(&running)).render("", false).unwrap();
        assert!(text.lines().nth(1).unwrap().ends_with("28.2.2           2"), "{text}");
        assert_eq!(list(TABLE, None).render("{{.Self}} {{.TLSStatus}}", false).unwrap(), "true Ready\nfalse Ready\n");
        assert_eq!(list(TABLE, None).render("", true).unwrap(), "a2\nb10\n");
    }
}
