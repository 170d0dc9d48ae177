//! What the rows of a service's progress say. Pure: the service, its tasks and the nodes as the API gives them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Most places whose tasks have a row each; more would not fit on a screen.
const MAX_ROWS: u64 = 20;
/// Longest error in a row.
const MAX_ERROR: usize = 75;
/// Longest state that has a bar: `preparing`.
const STATE_WIDTH: usize = 9;
/// Widest bar.
const MAX_BAR: usize = 50;

/// The order of states; the bar has a step for each up to `running`.
fn number(state: &str) -> u8 {
    match state {
        "new" => 1,
        "allocated" => 2,
        "pending" => 3,
        "assigned" => 4,
        "accepted" => 5,
        "preparing" => 6,
        "ready" => 7,
        "starting" => 8,
        "running" => 9,
        "complete" => 10,
        "shutdown" => 11,
        "failed" => 12,
        "rejected" => 13,
        _ => 0,
    }
}

/// The last step of the bar.
const RUNNING: u8 = 9;

/// A look at a service.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    /// What to show.
    pub rows: Vec<String>,
    /// Whether all tasks run, or the job is done.
    pub converged: bool,
    /// Whether it is a job: nothing is verified then.
    pub job: bool,
}

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    v.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn bar(state: &str, width: usize) -> String {
    let label = format!("{state:<STATE_WIDTH$}");
    // What remains beside the row's number and state, brackets and the arrow.
    let room = width.saturating_sub(STATE_WIDTH + 14).min(MAX_BAR);
    if room < 10 {
        return label;
    }
    let full = room * usize::from(number(state).min(RUNNING)) / usize::from(RUNNING);
    format!("{label} [{}>{}]", "=".repeat(full), " ".repeat(room - full))
}

/// A task in its row: how far it is, or what is wrong.
fn row(task: &Value, width: usize) -> String {
    let err = text(task, "/Status/Err");
    if !err.is_empty() && number(text(task, "/Status/State")) < RUNNING {
        return crate::output::human::ellipsis(&err.replace('\n', " "), MAX_ERROR);
    }
    bar(text(task, "/Status/State"), width)
}

/// Of each key's tasks the one that counts: of the least desired state, then the least state. Tasks on dead nodes do not count.
fn chosen<'a, K: Ord>(tasks: &'a [Value], nodes: &[Value], key: impl Fn(&Value) -> K) -> BTreeMap<K, &'a Value> {
    let dead: Vec<&str> = nodes.iter().filter(|n| text(n, "/Status/State") == "down").map(|n| text(n, "/ID")).collect();
    let mut out: BTreeMap<K, &Value> = BTreeMap::new();
    for task in tasks {
        let rank = |t: &Value| (number(text(t, "/DesiredState")), number(text(t, "/Status/State")));
        if rank(task).0 == 0 || rank(task).1 == 0 || dead.contains(&text(task, "/NodeID")) && !text(task, "/NodeID").is_empty()
        {
            continue;
        }
        match out.get(&key(task)) {
            Some(other) if rank(other) <= rank(task) => {}
            _ => {
                out.insert(key(task), task);
            }
        }
    }
    out
}

/// The look for a service of any mode; `width` is the terminal's.
#[must_use]
pub fn state(service: &Value, tasks: &[Value], nodes: &[Value], rolling_back: bool, width: usize) -> State {
    let mode = &service["Spec"]["Mode"];
    let overall = |done: u64, all: u64| {
        if rolling_back {
            format!("overall progress: rolling back update: {done} out of {all} tasks")
        } else {
            format!("overall progress: {done} out of {all} tasks")
        }
    };
    if let Some(job) = mode.get("ReplicatedJob") {
        return replicated_job(job, service, tasks, nodes, width);
    }
    if mode.get("GlobalJob").is_some() {
        return global_job(service, tasks, nodes, width);
    }
    let runs = |t: &Value| number(text(t, "/DesiredState")) <= RUNNING && text(t, "/Status/State") == "running";
    if mode.get("Global").is_some() {
        let by_node = chosen(tasks, nodes, |t| text(t, "/NodeID").to_owned());
        let wanted: Vec<(&String, &&Value)> =
            by_node.iter().filter(|(_, t)| number(text(t, "/DesiredState")) <= RUNNING).collect();
        if wanted.is_empty() {
            return State { rows: vec!["overall progress: waiting for new tasks".to_owned()], converged: false, job: false };
        }
        let done = wanted.iter().filter(|(_, t)| runs(t)).count() as u64;
        let all = wanted.len() as u64;
        let mut rows = vec![overall(done, all)];
        if all <= MAX_ROWS {
            rows.extend(wanted.iter().map(|(node, t)| format!("{}: {}", crate::output::human::short_id(node), row(t, width))));
        }
        return State { rows, converged: done == all, job: false };
    }
    let all = mode["Replicated"]["Replicas"].as_u64().unwrap_or(1);
    let by_slot = chosen(tasks, nodes, |t| t["Slot"].as_u64().unwrap_or(0));
    let done = by_slot.values().filter(|t| runs(t)).count() as u64;
    let mut rows = vec![overall(done, all)];
    if all <= MAX_ROWS {
        // Slots have any numbers; rows are counted.
        let slots: Vec<&&Value> = by_slot.values().filter(|t| number(text(t, "/DesiredState")) <= RUNNING).collect();
        for i in 0..all {
            let task = usize::try_from(i).ok().and_then(|i| slots.get(i));
            rows.push(format!("{}/{all}: {}", i + 1, task.map_or_else(String::new, |t| row(t, width))).trim_end().to_owned());
        }
    }
    State { rows, converged: done == all, job: false }
}

/// Whether a task belongs to the job's present run.
fn of_this_run(service: &Value, task: &Value) -> bool {
    task["JobIteration"]["Index"].as_u64().unwrap_or(0) == service["JobStatus"]["JobIteration"]["Index"].as_u64().unwrap_or(0)
}

fn replicated_job(job: &Value, service: &Value, tasks: &[Value], nodes: &[Value], width: usize) -> State {
    let total = job["TotalCompletions"].as_u64().unwrap_or(1);
    let at_once = job["MaxConcurrent"].as_u64().filter(|n| *n > 0).unwrap_or(total);
    let current: Vec<Value> = tasks.iter().filter(|t| of_this_run(service, t)).cloned().collect();
    // The one that is complete counts for its place, however its failed forerunners rank.
    let complete: std::collections::BTreeSet<u64> =
        current.iter().filter(|t| text(t, "/Status/State") == "complete").map(|t| t["Slot"].as_u64().unwrap_or(0)).collect();
    let done = complete.len() as u64;
    let by_slot = chosen(&current, nodes, |t| t["Slot"].as_u64().unwrap_or(0));
    let active =
        by_slot.iter().filter(|(slot, t)| !complete.contains(slot) && number(text(t, "/Status/State")) <= RUNNING).count()
            as u64;
    let mut rows = vec![
        format!("job progress: {done:>width$} out of {total} complete", width = total.to_string().len()),
        format!(
            "active tasks: {active:>width$} out of {} tasks",
            at_once.min(total - done.min(total)),
            width = total.to_string().len()
        ),
    ];
    if total <= MAX_ROWS {
        for slot in 0..total {
            let shown = if complete.contains(&slot) {
                bar("complete", width)
            } else {
                by_slot.get(&slot).map_or_else(String::new, |t| row(t, width))
            };
            rows.push(format!("{}/{total}: {shown}", slot + 1).trim_end().to_owned());
        }
    }
    State { rows, converged: done >= total, job: true }
}

fn global_job(service: &Value, tasks: &[Value], nodes: &[Value], width: usize) -> State {
    let current: Vec<Value> = tasks.iter().filter(|t| of_this_run(service, t)).cloned().collect();
    let by_node = chosen(&current, nodes, |t| text(t, "/NodeID").to_owned());
    if by_node.is_empty() {
        return State { rows: vec!["job progress: waiting for new tasks".to_owned()], converged: false, job: true };
    }
    let complete = |node: &str| current.iter().any(|t| text(t, "/NodeID") == node && text(t, "/Status/State") == "complete");
    let done = by_node.keys().filter(|n| complete(n)).count();
    let mut rows = vec![format!("job progress: {done} out of {} complete", by_node.len())];
    if by_node.len() as u64 <= MAX_ROWS {
        for (node, task) in &by_node {
            let shown = if complete(node) { bar("complete", width) } else { row(task, width) };
            rows.push(format!("{}: {shown}", crate::output::human::short_id(node)));
        }
    }
    State { rows, converged: done == by_node.len(), job: true }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(slot: u64, desired: &str, state: &str, node: &str) -> Value {
        json!({"Slot": slot, "DesiredState": desired, "Status": {"State": state}, "NodeID": node})
    }

    fn replicated(n: u64) -> Value {
        json!({"Spec": {"Mode": {"Replicated": {"Replicas": n}}}})
    }

    #[test]
    fn places_are_counted() {
        let tasks =
            [task(1, "running", "running", "a"), task(2, "running", "preparing", "a"), task(2, "shutdown", "failed", "b")];
        let seen = state(&replicated(3), &tasks, &[], false, 0);
        assert_eq!(seen.rows, ["overall progress: 1 out of 3 tasks", "1/3: running", "2/3: preparing", "3/3:"]);
        assert!(!seen.converged);
        let wide = state(&replicated(1), &tasks[..1], &[], false, 120);
        assert_eq!(wide.rows[1], format!("1/1: running   [{}>]", "=".repeat(50)));
        assert!(wide.converged);
    }

    #[test]
    fn what_runs_on_dead_nodes_does_not_count() {
        let nodes = [json!({"ID": "a", "Status": {"State": "down"}})];
        let seen = state(&replicated(1), &[task(1, "running", "running", "a")], &nodes, false, 0);
        assert_eq!(seen.rows[0], "overall progress: 0 out of 1 tasks");
    }

    #[test]
    fn errors_stand_in_place_of_the_bar() {
        let mut waiting = task(1, "running", "pending", "");
        waiting["Status"]["Err"] = "no suitable node\n(host-mode port already in use)".into();
        let seen = state(&replicated(1), &[waiting], &[], true, 120);
        assert_eq!(seen.rows[0], "overall progress: rolling back update: 0 out of 1 tasks");
        assert_eq!(seen.rows[1], "1/1: no suitable node (host-mode port already in use)");
    }

    #[test]
    fn global_services_have_a_row_for_each_node() {
        let service = json!({"Spec": {"Mode": {"Global": {}}}});
        assert_eq!(state(&service, &[], &[], false, 0).rows, ["overall progress: waiting for new tasks"]);
        let tasks = [task(0, "running", "running", "abcdefghijklmnop"), task(0, "running", "starting", "bbbb")];
        let seen = state(&service, &tasks, &[], false, 0);
        assert_eq!(seen.rows[..2], ["overall progress: 1 out of 2 tasks", "abcdefghijkl: running  "]);
    }

    #[test]
    fn jobs_count_what_is_complete() {
        let service = json!({"Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 3, "MaxConcurrent": 2}}}, "JobStatus": {"JobIteration": {"Index": 7}}});
        let with = |mut t: Value, index: u64| {
            t["JobIteration"] = json!({"Index": index});
            t
        };
        let tasks = [
            with(task(0, "complete", "complete", "a"), 7),
            with(task(1, "complete", "running", "a"), 7),
            with(task(2, "complete", "complete", "a"), 6),
        ];
        let seen = state(&service, &tasks, &[], false, 0);
        assert_eq!(seen.rows[..2], ["job progress: 1 out of 3 complete", "active tasks: 1 out of 2 tasks"]);
        assert!(seen.job && !seen.converged);
    }

    #[test]
    fn many_places_have_no_rows() {
        assert_eq!(state(&replicated(21), &[], &[], false, 0).rows.len(), 1);
    }
}
