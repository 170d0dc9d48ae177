//! `service exec`, `attach`, `cp`, `top` and `stats`: the commands of containers for the tasks of a service, on whichever nodes those
//! are. A task's container is reached by way of the manager (`Endpoint::Task`); from there on nothing is different.

use serde_json::Value;

use crate::app::{App, Failure};
use crate::client::{Client, query};
use crate::commands::container;
use crate::commands::tasks::{self, Names};
use crate::grammar::Matches;
use crate::output::human::short_id;
use crate::output::list::List;
use crate::output::{print, table};

/// A task that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    id: String,
    name: String,
    slot: u64,
    node: String,
}

/// What `SERVICE[.SLOT]` may mean: the whole as a service, or what stands before the last dot and a slot, or a node, after it.
fn meanings(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut all = vec![(text, None)];
    all.extend(text.rsplit_once('.').filter(|(s, p)| !s.is_empty() && !p.is_empty()).map(|(s, p)| (s, Some(p))));
    all
}

/// The tasks that run among those of a service, by slot, and of a global service by node; only one place's if it is named.
fn pick(all: &[Value], place: Option<&str>, names: &Names) -> Vec<Running> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let runs = |t: &&Value| t["Status"]["State"] == "running" && t["DesiredState"] == "running";
    let one = |t: &Value| Running {
        id: text(&t["ID"]),
        name: tasks::name(t, names),
        slot: t["Slot"].as_u64().unwrap_or(0),
        node: text(&t["NodeID"]),
    };
    let here = |r: &Running| {
        place.is_none_or(
            |p| if r.slot == 0 { r.node.starts_with(p) || names.node(&r.node) == p } else { r.slot.to_string() == p },
        )
    };
    let mut found: Vec<Running> = all.iter().filter(runs).map(one).filter(here).collect();
    found.sort_by(|a, b| (a.slot, &a.node).cmp(&(b.slot, &b.node)));
    found
}

/// The tasks that an argument means.
async fn resolve(client: &Client, argument: &str) -> Result<(Vec<Running>, Names), Failure> {
    for (service, place) in meanings(argument) {
        let path = query("/tasks", &[("filters", &format!("{{\"service\":[{}]}}", Value::from(service)))]);
        let Ok(found) = client.call("GET", &path, None).await else { continue };
        let found = found.as_array().cloned().unwrap_or_default();
        let names = Names::of(client, &found).await?;
        let running = pick(&found, place, &names);
        if running.is_empty() {
            let which = place.map_or_else(String::new, |p| format!(" in {p}"));
            return Err(Failure::new(format!("no task of service {service} runs{which}: see `service ps {service}`")));
        }
        return Ok((running, names));
    }
    // A task by its id.
    let path = format!("/tasks/{}", crate::client::escape(argument));
    match client.call("GET", &path, None).await {
        Ok(task) => {
            let found = [task];
            let names = Names::of(client, &found).await?;
            let running = pick(&found, None, &names);
            if running.is_empty() {
                return Err(Failure::new(format!("task {argument} does not run")));
            }
            Ok((running, names))
        }
        Err(_) => Err(Failure::new(format!("no such service or task: {argument}"))),
    }
}

/// The first task that an argument means, as a daemon.
async fn first(app: &App, argument: &str) -> Result<App, Failure> {
    let (running, _) = resolve(app.client().await?, argument).await?;
    Ok(app.at_task(&running[0].id))
}

pub(super) async fn exec(app: &App, m: &Matches) -> Result<u8, Failure> {
    container::run::exec(&first(app, m.arg(0)).await?, m).await
}

pub(super) async fn attach(app: &App, m: &Matches) -> Result<u8, Failure> {
    container::run::attach(&first(app, m.arg(0)).await?, m).await
}

pub(super) async fn cp(app: &App, m: &Matches) -> Result<u8, Failure> {
    let Some(service) = container::copy::container(m)? else {
        return Err(Failure::new("must specify at least one service source"));
    };
    container::copy::copy(&first(app, service).await?, m).await
}

/// The processes of all tasks, each with where it is.
pub(super) async fn top(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (running, names) = resolve(app.client().await?, m.arg(0)).await?;
    let arguments = m.args()[1..].join(" ");
    let (mut out, mut failed) = (String::new(), Vec::new());
    for task in &running {
        let at = app.at_task(&task.id);
        let found = match at.client().await {
            Ok(client) => client
                .call("GET", &query("/containers/task/top", &[("ps_args", &arguments)]), None)
                .await
                .map_err(Failure::from),
            Err(e) => Err(e),
        };
        let row = |first: &str, second: &str, r: &Value| {
            let cells = r.as_array().into_iter().flatten().filter_map(Value::as_str);
            [first, second].into_iter().chain(cells).collect::<Vec<_>>().join("\t") + "\n"
        };
        match found {
            Ok(found) => {
                if out.is_empty() {
                    out = row("TASK", "NODE", &found["Titles"]);
                }
                let processes = found["Processes"].as_array().into_iter().flatten();
                out.extend(processes.map(|p| row(&task.name, names.node(&task.node), p)));
            }
            Err(e) => failed.push(e),
        }
    }
    print(&table::columns(&out))?;
    Failure::all(failed)
}

/// What all tasks use, on whichever nodes.
pub(super) async fn stats(app: &App, m: &Matches) -> Result<u8, Failure> {
    let once = m.on("no-stream");
    let watch = async {
        loop {
            let (running, names) = resolve(app.client().await?, m.arg(0)).await?;
            let mut rows = Vec::new();
            for task in &running {
                let at = app.at_task(&task.id);
                let Ok(client) = at.client().await else { continue };
                // Two looks: the daemon takes them a moment apart.
                let Ok(look) = client.call("GET", "/containers/task/stats?stream=false", None).await else { continue };
                let mut row = container::usage::row_of(&task.name, &look, m.on("no-trunc"));
                row["Name"] = task.name.clone().into();
                row["Node"] = names.node(&task.node).into();
                row["Task"] = short_id(&task.id).into();
                rows.push(row);
            }
            let columns: Vec<_> =
                [("Task", "TASK ID"), ("Node", "NODE")].into_iter().chain(container::usage::COLUMNS.iter().copied()).collect();
            let template =
                "{{.Name}}\t{{.Node}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
            let list = List { table: template, quiet: "{{.Task}}", columns: &columns, rows };
            let text = list.render(app.format(m.text("format"), "statsFormat", false), false)?;
            print(&if once { text } else { format!("{}{text}", container::usage::home()) })?;
            if once {
                return Ok(0);
            }
        }
    };
    tokio::select! {
        done = watch => done,
        _ = tokio::signal::ctrl_c() => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_argument_means_a_service_or_one_of_its_places() {
        assert_eq!(meanings("web"), [("web", None)]);
        assert_eq!(meanings("web.2"), [("web.2", None), ("web", Some("2"))]);
        assert_eq!(meanings("a.b.host"), [("a.b.host", None), ("a.b", Some("host"))]);
        assert_eq!(meanings(".2"), [(".2", None)]);
    }

    #[test]
    fn running_tasks_are_picked_by_their_place() {
        let task = |id: &str, slot: u64, node: &str, state: &str| json!({"ID": id, "Slot": slot, "NodeID": node, "DesiredState": "running", "Status": {"State": state}});
        let tasks = [task("b", 2, "n2", "running"), task("a", 1, "n1", "running"), task("c", 1, "n1", "failed")];
        let ids = |place| pick(&tasks, place, &Names::default()).into_iter().map(|r| r.id).collect::<Vec<_>>();
        assert_eq!(ids(None), ["a", "b"]);
        assert_eq!((ids(Some("2")), ids(Some("3"))), (vec!["b".to_owned()], vec![]));
        let global = [task("g", 0, "n1", "running"), task("h", 0, "n2", "running")];
        assert_eq!(pick(&global, Some("n2"), &Names::default())[0].id, "h");
    }
}
