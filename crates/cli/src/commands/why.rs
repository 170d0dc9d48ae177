//! `why`: what a service or task waits for, in plain words, with the last errors. What it says is a pure function of what the API
//! tells.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::service;
use super::tasks::{Names, name};
use crate::app::{App, Failure};
use crate::client::{Client, ClientError, escape};
use crate::grammar::{Arity, Command, Matches};
use crate::output::human::ago_text;
use crate::output::print;
use crate::progress::tasks_of;

/// `why`.
pub(super) const WHY: Command = Command::new(
    "why",
    "SERVICE|TASK",
    "Say what a service or task waits for, and its last errors",
    Arity::Exactly(1),
    &[],
    |a, m| Box::pin(why(a, m)),
)
.shown(&["why web", "why 0w2wz4cpsnbs"]);

/// Most errors of the past that are told.
const MAX_ERRORS: usize = 5;

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    v.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a task is meant to run, and has not ended.
fn wanted(task: &Value) -> bool {
    !matches!(text(task, "/DesiredState"), "shutdown" | "remove" | "orphaned")
        && !matches!(text(task, "/Status/State"), "complete" | "failed" | "rejected" | "shutdown" | "orphaned" | "remove")
}

/// What a task is at, in words.
fn doing(task: &Value, names: &Names) -> String {
    let node = names.node(text(task, "/NodeID"));
    let err = text(task, "/Status/Err");
    let because = if err.is_empty() { String::new() } else { format!(": {err}") };
    match text(task, "/Status/State") {
        "new" | "allocated" => format!("waits to be given addresses and a node{because}"),
        "pending" if err.is_empty() => "waits for a node; none has been chosen yet".to_owned(),
        "pending" => format!("waits for a node{because}"),
        "assigned" => format!("waits for {node} to hear of it (is its daemon up and connected?){because}"),
        "accepted" => format!("was taken by {node}, which has not begun with it yet{because}"),
        "preparing" => format!("is being prepared on {node}: image, networks, volumes{because}"),
        "ready" => format!(
            "is ready on {node}, and waits for its turn: the update's delay, a restart's delay, or the old task's end{because}"
        ),
        "starting" => format!("is starting on {node}; with a health check it counts as running when that is passed{because}"),
        "running" => format!("runs on {node}"),
        other => format!("is {other}{because}"),
    }
}

/// What nodes are out of use.
fn nodes_out(nodes: &[Value]) -> Vec<String> {
    let host = |n: &Value| text(n, "/Description/Hostname").to_owned();
    let of = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        let hosts: Vec<String> = nodes.iter().filter(|n| fits(n)).map(host).collect();
        if hosts.is_empty() { None } else { Some(format!("Nodes {what}: {}", hosts.join(", "))) }
    };
    [
        of("that do not answer", &|n| !matches!(text(n, "/Status/State"), "ready" | "")),
        of("drained", &|n| text(n, "/Spec/Availability") == "drain"),
        of("paused", &|n| text(n, "/Spec/Availability") == "pause"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The last errors of tasks that have ended, the same ones counted.
fn errors(tasks: &[Value], names: &Names) -> Vec<String> {
    let mut ended: Vec<&Value> = tasks.iter().filter(|t| !wanted(t) && !text(t, "/Status/Err").is_empty()).collect();
    ended.sort_by_key(|t| std::cmp::Reverse(text(t, "/Status/Timestamp").to_owned()));
    let mut counted: Vec<(&str, usize, &Value)> = Vec::new();
    for task in ended {
        let err = text(task, "/Status/Err");
        match counted.iter_mut().find(|(e, ..)| *e == err) {
            Some((_, count, _)) => *count += 1,
            None => counted.push((err, 1, task)),
        }
    }
    let say = |(err, count, task): &(&str, usize, &Value)| {
        let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
        let node = names.node(text(task, "/NodeID"));
        let place = if node.is_empty() { String::new() } else { format!(" on {node}") };
        format!(
            "  {} {}{place}, {}: {err}{times}",
            name(task, names),
            text(task, "/Status/State"),
            ago_text(text(task, "/Status/Timestamp")).to_lowercase()
        )
    };
    counted.iter().take(MAX_ERRORS).map(say).collect()
}

/// Tasks that ended and are not started again, of places where nothing else is meant to run, and why: by name.
fn over(service: &Value, tasks: &[Value], nodes: &[Value], names: &Names) -> Option<(Vec<String>, String)> {
    if ["ReplicatedJob", "GlobalJob"].iter().any(|job| service["Spec"]["Mode"].get(job).is_some()) {
        return None;
    }
    let place = |t: &Value| (t["Slot"].as_u64().unwrap_or(0), name(t, names));
    let goes_on = |t: &&Value| wanted(t) || text(t, "/DesiredState") == "ready";
    let live: BTreeSet<_> = tasks.iter().filter(goes_on).map(place).collect();
    // What belongs to a node that takes no tasks is not started there whatever the policy.
    let takes = |n: &&Value| text(n, "/Status/State") == "ready" && text(n, "/Spec/Availability") == "active";
    let open: BTreeSet<&str> = nodes.iter().filter(takes).map(|n| text(n, "/ID")).collect();
    let may_run = |t: &Value| t["Slot"].as_u64().unwrap_or(0) > 0 || open.contains(text(t, "/NodeID"));
    let ended = |t: &&Value| matches!(text(t, "/Status/State"), "complete" | "failed" | "rejected") && may_run(t);
    let places: BTreeSet<_> = tasks.iter().filter(ended).map(place).filter(|p| !live.contains(p)).collect();
    let policy = &service["Spec"]["TaskTemplate"]["RestartPolicy"];
    let most = match policy["MaxAttempts"].as_u64() {
        None | Some(0) => String::new(),
        Some(n) => format!(", {n} times at most"),
    };
    let condition = Some(text(policy, "/Condition")).filter(|c| !c.is_empty()).unwrap_or("any");
    (!places.is_empty()).then(|| (places.into_iter().map(|(_, name)| name).collect(), format!("{condition}{most}")))
}

/// What is to be said of a service.
fn of_service(service: &Value, tasks: &[Value], nodes: &[Value], names: &Names) -> String {
    let who = text(service, "/Spec/Name");
    let meant: Vec<&Value> = tasks.iter().filter(|t| wanted(t)).collect();
    let running = meant.iter().filter(|t| text(t, "/Status/State") == "running").count();
    let asked = service.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let all = asked.unwrap_or(meant.len());
    let mut out = Vec::new();
    let waiting = running < all || meant.len() > running;
    out.push(match (all, waiting) {
        (0, _) if asked == Some(0) => format!("{who} is scaled to 0: no task is to run."),
        (0, _) => format!("{who} has no task: no node fits it, or the managers have not come to it yet."),
        (1, false) => format!("{who} waits for nothing: its task runs."),
        (_, false) => format!("{who} waits for nothing: all its {all} tasks run."),
        _ => format!("{who}: {running} of {all} tasks run."),
    });
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for task in meant.iter().filter(|t| text(t, "/Status/State") != "running") {
        groups.entry(doing(task, names)).or_default().push(name(task, names));
    }
    for (what, who) in groups {
        out.push(format!("  {}: {what}", who.join(", ")));
    }
    // Ended before they were to run, and kept in their places until the delay is over.
    let again = tasks.iter().filter(|t| !wanted(t) && text(t, "/DesiredState") == "ready").map(|t| name(t, names));
    let again: Vec<String> = again.collect();
    if !again.is_empty() {
        out.push(format!("  {}: tried again when the restart's delay is over", again.join(", ")));
    }
    let (over, policy) = over(service, tasks, nodes, names).unwrap_or_default();
    if !over.is_empty() {
        out.push(format!("  {}: ended, and not started again by the restart policy ({policy})", over.join(", ")));
    }
    match all.saturating_sub(meant.len() + again.len() + over.len()) {
        0 => {}
        1 => out.push("  1 more task is to be made".to_owned()),
        more => out.push(format!("  {more} more tasks are to be made")),
    }
    let update = &service["UpdateStatus"];
    let message = text(update, "/Message");
    match text(update, "/State") {
        "updating" => out.push(format!("An update is under way: {message}.")),
        "paused" => out.push(format!("Its update is paused: {message}. A new update, or a rollback, goes on.")),
        "rollback_started" => out.push(format!("It is being rolled back: {message}.")),
        "rollback_paused" => out.push(format!("Its rollback is paused: {message}. A new update goes on.")),
        _ => {}
    }
    if waiting {
        out.extend(nodes_out(nodes).into_iter().map(|l| format!("{l}.")));
    }
    let past = errors(tasks, names);
    if !past.is_empty() {
        out.push("Last errors:".to_owned());
        out.extend(past);
    }
    out.join("\n") + "\n"
}

/// What is to be said of a task.
fn of_task(task: &Value, nodes: &[Value], names: &Names) -> String {
    let who = name(task, names);
    let err = text(task, "/Status/Err");
    if wanted(task) {
        let mut out = format!("{who} {}.\n", doing(task, names));
        if text(task, "/Status/State") != "running" {
            out += &nodes_out(nodes).into_iter().map(|l| format!("{l}.\n")).collect::<String>();
        }
        return out;
    }
    let state = text(task, "/Status/State");
    let when = ago_text(text(task, "/Status/Timestamp")).to_lowercase();
    let because = if err.is_empty() { String::new() } else { format!(": {err}") };
    let code = task.pointer("/Status/ContainerStatus/ExitCode").and_then(Value::as_i64).filter(|c| *c != 0);
    let code = code.map(|c| format!(" Its exit code was {c}.")).unwrap_or_default();
    let instead = if text(task, "/DesiredState") == "shutdown" && state == "running" { " It is being stopped." } else { "" };
    format!("{who} is over: {state}, {when}{because}.{code}{instead}\n")
}

async fn nodes(client: &Client) -> Result<Vec<Value>, Failure> {
    Ok(client.call("GET", "/nodes", None).await?.as_array().cloned().unwrap_or_default())
}

async fn why(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let asked = m.arg(0);
    match client.call("GET", &format!("/services/{}", escape(asked)), None).await {
        Ok(found) => {
            let id = text(&found, "/ID").to_owned();
            // With what the daemon fills in, so that the number of tasks is known.
            let found = service::one(client, &id).await.unwrap_or(found);
            let tasks = tasks_of(client, &id).await?;
            let names = Names::of(client, &tasks).await?;
            print(&of_service(&found, &tasks, &nodes(client).await?, &names))?;
            return Ok(0);
        }
        Err(ClientError::Refused { status: 404, .. }) => {}
        Err(e) => return Err(e.into()),
    }
    let task = match client.call("GET", &format!("/tasks/{}", escape(asked)), None).await {
        Ok(task) => task,
        Err(ClientError::Refused { status: 404, .. }) => {
            return Err(Failure::new(format!("no such task or service: {asked}")));
        }
        Err(e) => return Err(e.into()),
    };
    let names = Names::of(client, std::slice::from_ref(&task)).await?;
    print(&of_task(&task, &nodes(client).await?, &names))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(slot: u64, desired: &str, state: &str, err: &str) -> Value {
        json!({"ServiceID": "s", "Slot": slot, "NodeID": "n", "DesiredState": desired, "Status": {"State": state, "Err": err, "Timestamp": "2020-01-01T00:00:00Z"}})
    }

    #[test]
    fn what_waits_is_told_with_the_reason() {
        let service = json!({"Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 3}}}});
        let tasks = [
            task(1, "running", "running", ""),
            task(2, "running", "pending", "no suitable node (insufficient resources on 2 nodes)"),
            task(3, "running", "pending", "no suitable node (insufficient resources on 2 nodes)"),
            task(1, "shutdown", "failed", "task: non-zero exit (1)"),
            task(1, "shutdown", "failed", "task: non-zero exit (1)"),
        ];
        let nodes =
            [json!({"Description": {"Hostname": "w2"}, "Status": {"State": "down"}, "Spec": {"Availability": "active"}})];
        let said = of_service(&service, &tasks, &nodes, &Names::default());
        assert!(
            said.starts_with(
                "web: 1 of 3 tasks run.\n  s.2, s.3: waits for a node: no suitable node (insufficient resources on 2 nodes)\n"
            ),
            "{said}"
        );
        assert!(said.contains("Nodes that do not answer: w2."), "{said}");
        assert!(said.contains("task: non-zero exit (1) (2 times)"), "{said}");
        let calm = of_service(
            &json!({"Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 1}}}}),
            &tasks[..1],
            &nodes,
            &Names::default(),
        );
        assert_eq!(calm, "web waits for nothing: its task runs.\n");
    }

    #[test]
    fn what_is_not_started_again_is_not_waited_for() {
        let mut service = json!({"Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 3}}}});
        service["Spec"]["TaskTemplate"]["RestartPolicy"] = json!({"Condition": "on-failure", "MaxAttempts": 2});
        let tasks = [
            task(1, "shutdown", "failed", "task: non-zero exit (1)"),
            task(1, "shutdown", "failed", "task: non-zero exit (1)"),
            task(2, "running", "running", ""),
            task(2, "shutdown", "failed", "task: non-zero exit (1)"),
        ];
        let said = of_service(&service, &tasks, &[], &Names::default());
        let told = "web: 1 of 3 tasks run.\n  s.1: ended, and not started again by the restart policy (on-failure, 2 times at most)\n  \
                    1 more task is to be made\n";
        assert!(said.starts_with(told), "{said}");
    }

    #[test]
    fn a_task_that_is_over_says_how() {
        let mut t = task(1, "shutdown", "failed", "task: non-zero exit (3)");
        t["Status"]["ContainerStatus"] = json!({"ExitCode": 3});
        let said = of_task(&t, &[], &Names::default());
        assert!(said.starts_with("s.1 is over: failed, ") && said.ends_with("Its exit code was 3.\n"), "{said}");
        assert!(of_task(&task(1, "running", "preparing", ""), &[], &Names::default()).contains("is being prepared on n"));
    }
}
