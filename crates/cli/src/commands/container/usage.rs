//! `stats` and `update`: what containers use, and what they may.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{App, Failure};
use crate::client::{Client, escape, query};
use crate::commands::each::each;
use crate::grammar::Matches;
use crate::output::human::{binary_size, short_id, size};
use crate::output::list::{Column, List};
use crate::output::{on_terminal, print};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The screen anew, from its top.
const HOME: &str = "\u{1b}[H\u{1b}[J";

pub(crate) const COLUMNS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// A number of a look.
fn number(look: &Value, path: &str) -> f64 {
    look.pointer(path).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Memory in use without the page cache, which the kernel takes back when it needs to (both layouts of control groups).
fn memory(look: &Value) -> f64 {
    let used = number(look, "/memory_stats/usage");
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|k| look["memory_stats"]["stats"][k].as_f64());
    cache.filter(|c| *c < used).map_or(used, |c| used - c)
}

/// Share of all processors, in hundredths of one.
fn share(before: &Value, now: &Value) -> f64 {
    let grown = |path: &str| number(now, path) - number(before, path);
    let (own, host) = (grown("/cpu_stats/cpu_usage/total_usage"), grown("/cpu_stats/system_cpu_usage"));
    if own > 0.0 && host > 0.0 { own / host * number(now, "/cpu_stats/online_cpus").max(1.0) * 100.0 } else { 0.0 }
}

/// A row from two looks at a container.
fn row(container: &str, before: &Value, now: &Value, whole_ids: bool) -> Value {
    let bytes = |n: f64| n as i64;
    let (used, limit) = (memory(now), number(now, "/memory_stats/limit"));
    let sum = |key: &str| {
        let interfaces = now["networks"].as_object().into_iter().flatten();
        interfaces.map(|(_, n)| n[key].as_f64().unwrap_or(0.0)).sum::<f64>()
    };
    let disk = |op: &str| {
        let all = now.pointer("/blkio_stats/io_service_bytes_recursive").and_then(Value::as_array);
        let fits = |r: &&Value| r["op"].as_str().is_some_and(|o| o.eq_ignore_ascii_case(op));
        all.into_iter().flatten().filter(fits).filter_map(|r| r["value"].as_f64()).sum::<f64>()
    };
    let id = now["id"].as_str().unwrap_or_default();
    let percent = |n: f64| format!("{n:.2}%");
    json!({
        "Container": container, "ID": if whole_ids { id } else { short_id(id) },
        "Name": now["name"].as_str().unwrap_or_default().trim_start_matches('/'), "CPUPerc": percent(share(before, now)),
        "MemUsage": format!("{} / {}", binary_size(bytes(used)), binary_size(bytes(limit))),
        "MemPerc": percent(if limit > 0.0 { used / limit * 100.0 } else { 0.0 }),
        "NetIO": format!("{} / {}", size(bytes(sum("rx_bytes"))), size(bytes(sum("tx_bytes")))),
        "BlockIO": format!("{} / {}", size(bytes(disk("read"))), size(bytes(disk("write")))),
        "PIDs": now.pointer("/pids_stats/current").and_then(Value::as_u64).unwrap_or(0).to_string(),
    })
}

/// The containers that are meant: those named, or all that run.
async fn chosen(client: &Client, m: &Matches) -> Result<Vec<String>, Failure> {
    if !m.args().is_empty() {
        return Ok(m.args().to_vec());
    }
    let all = if m.on("all") { "1" } else { "" };
    let found = client.call("GET", &query("/containers/json", &[("all", all)]), None).await?;
    Ok(found.as_array().into_iter().flatten().filter_map(|c| c["Id"].as_str().map(|id| short_id(id).to_owned())).collect())
}

/// One look at each; one that is gone meanwhile is left out unless it was named.
async fn look(client: &Client, names: &[String], must: bool) -> Result<BTreeMap<String, Value>, Failure> {
    let mut all = BTreeMap::new();
    for name in names {
        let path = format!("/containers/{}/stats?stream=false&one-shot=true", escape(name));
        match client.call("GET", &path, None).await {
            Ok(value) => drop(all.insert(name.clone(), value)),
            Err(e) if must => return Err(e.into()),
            Err(_) => {}
        }
    }
    Ok(all)
}

/// A row from a look that has the one before it with it.
pub(crate) fn row_of(container: &str, look: &Value, whole_ids: bool) -> Value {
    let mut before = look.clone();
    before["cpu_stats"] = look["precpu_stats"].clone();
    row(container, &before, look, whole_ids)
}

/// What clears a terminal before each round.
pub(crate) fn home() -> &'static str {
    if on_terminal() { HOME } else { "" }
}

pub(super) async fn stats(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let named = !m.args().is_empty();
    let once = m.on("no-stream");
    let mut names = chosen(client, m).await?;
    let mut before = look(client, &names, named).await?;
    let watch = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = look(client, &names, named && once).await?;
            let shown = names.iter().filter_map(|n| Some((n, before.get(n).or_else(|| now.get(n))?, now.get(n)?)));
            let rows = shown.map(|(name, b, n)| row(name, b, n, m.on("no-trunc"))).collect();
            let list = List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows };
            let text = list.render(app.format(m.text("format"), "statsFormat", false), false)?;
            print(&if once { text } else { format!("{}{text}", home()) })?;
            if once {
                return Ok(0);
            }
            before = now;
            names = chosen(client, m).await?;
        }
    };
    tokio::select! {
        done = watch => done,
        _ = tokio::signal::ctrl_c() => Ok(0),
    }
}

/// The body of an update.
fn limits(m: &Matches) -> Result<Value, Failure> {
    let mut out = json!({
        "Memory": m.bytes("memory").unwrap_or(0), "MemorySwap": m.bytes("memory-swap").unwrap_or(0),
        "MemoryReservation": m.bytes("memory-reservation").unwrap_or(0), "CpuShares": m.int("cpu-shares").unwrap_or(0),
        "CpuPeriod": m.int("cpu-period").unwrap_or(0), "CpuQuota": m.int("cpu-quota").unwrap_or(0),
        "CpusetCpus": m.text_or_empty("cpuset-cpus"), "CpusetMems": m.text_or_empty("cpuset-mems"),
        "BlkioWeight": m.int("blkio-weight").unwrap_or(0), "NanoCpus": m.nano_cpus("cpus").unwrap_or(0),
        "PidsLimit": if m.given("pids-limit") { json!(m.int("pids-limit").unwrap_or(0)) } else { Value::Null },
    });
    if let Some(text) = m.text("restart") {
        out["RestartPolicy"] = super::body::restart(text)?;
    }
    Ok(out)
}

pub(super) async fn update(app: &App, m: &Matches) -> Result<u8, Failure> {
    if m.all_given().next().is_none() {
        return Err(Failure::new("you must provide one or more flags when using this command"));
    }
    let body = limits(m)?;
    each(app, m.args(), "POST", Some(&body), |name| format!("/containers/{name}/update")).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn a_row_is_the_difference_of_two_looks() {
        let look = |cpu: u64, host: u64| {
            json!({
                "id": "abcdefghijklmnop", "name": "/box", "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "system_cpu_usage": host, "online_cpus": 2},
                "memory_stats": {"usage": 3 << 20, "limit": 8 << 20, "stats": {"inactive_file": 1 << 20}}, "pids_stats": {"current": 3},
                "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 5}, "eth1": {"rx_bytes": 500, "tx_bytes": 0}},
                "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 10}, {"op": "Write", "value": 2000}]},
            })
        };
        let row = row("box", &look(100, 1000), &look(150, 1200), false);
        assert_eq!(
            row,
            json!({
                "Container": "box", "ID": "abcdefghijkl", "Name": "box", "CPUPerc": "50.00%", "MemUsage": "2MiB / 8MiB",
                "MemPerc": "25.00%", "NetIO": "1.5kB / 5B", "BlockIO": "10B / 2kB", "PIDs": "3",
            })
        );
    }

    #[test]
    fn limits_become_a_body() {
        let body = limits(&read("update -m 64m --cpus 0.5 --pids-limit -1 --restart on-failure:3 box")).expect("good");
        assert_eq!(
            (&body["Memory"], &body["NanoCpus"], &body["PidsLimit"]),
            (&json!(64 << 20), &json!(500_000_000), &json!(-1))
        );
        assert_eq!(body["RestartPolicy"], json!({"Name": "on-failure", "MaximumRetryCount": 3}));
    }
}
