//! `/containers/{id}/{stats,top,update,pause,unpause,rename}`.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_types::container::{ContainerInfo, EngineRestart};
use skep_types::usage::{CpuUsage, NetworkUsage, NewLimits, Process, Usage};

use crate::App;
use crate::body::JsonBody;
use crate::containers::{no_content, truth};
use crate::error::{Failure, Handled};
use crate::fields::Fields;

/// How often `stats` tells.
const INTERVAL: Duration = Duration::from_secs(1);
/// What Docker shows for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(crate) async fn pause(State(app): State<App>, Path(id): Path<String>) -> Handled {
    app.engine.pause(&id).await?;
    Ok(no_content())
}

pub(crate) async fn unpause(State(app): State<App>, Path(id): Path<String>) -> Handled {
    app.engine.unpause(&id).await?;
    Ok(no_content())
}

#[derive(Deserialize)]
pub(crate) struct RenameQuery {
    name: Option<String>,
}

pub(crate) async fn rename(State(app): State<App>, Path(id): Path<String>, Query(query): Query<RenameQuery>) -> Handled {
    app.engine.rename(&id, query.name.as_deref().unwrap_or_default()).await?;
    Ok(no_content())
}

pub(crate) async fn update(State(app): State<App>, Path(id): Path<String>, JsonBody(body): JsonBody) -> Handled {
    let limits = read_limits(body)?;
    app.engine.update_limits(&id, limits).await?;
    Ok(Json(json!({"Warnings": null})).into_response())
}

/// What is absent or zero stays as it is; a negative number of processes takes their limit away, as in Docker.
fn read_limits(mut body: Fields) -> Handled<NewLimits> {
    let mut positive = |key: &str| -> Handled<Option<u64>> {
        let value: i64 = body.get(key)?;
        let bad = || Failure::invalid(format!("invalid {key}: {value} is negative"));
        Ok(Some(u64::try_from(value).map_err(|_| bad())?).filter(|v| *v > 0))
    };
    let (memory, nano_cpus, cpu_shares) = (positive("Memory")?, positive("NanoCpus")?, positive("CpuShares")?);
    let pids = body.get::<Option<i64>>("PidsLimit")?.filter(|n| *n != 0).map(|n| u64::try_from(n).unwrap_or(0));
    let restart = match body.object_option("RestartPolicy")? {
        None => None,
        Some(mut policy) => {
            let read = EngineRestart { name: policy.get("Name")?, max_retry: policy.get("MaximumRetryCount")? };
            policy.finish()?;
            Some(read).filter(|p| !p.name.is_empty())
        }
    };
    body.finish()?;
    Ok(NewLimits { memory, nano_cpus, cpu_shares, pids, restart })
}

#[derive(Deserialize)]
pub(crate) struct TopQuery {
    ps_args: Option<String>,
}

pub(crate) async fn top(State(app): State<App>, Path(id): Path<String>, Query(query): Query<TopQuery>) -> Handled {
    let asked = query.ps_args.as_deref().filter(|a| !a.trim().is_empty()).unwrap_or("-ef");
    let columns = columns(asked)?;
    let processes = app.engine.processes(&id).await?;
    let rows: Vec<Vec<String>> = processes.iter().map(|p| columns.iter().map(|c| cell(c.0, p)).collect()).collect();
    let titles: Vec<&str> = columns.iter().map(|c| c.1).collect();
    Ok(Json(json!({"Titles": titles, "Processes": rows})).into_response())
}

/// Columns by the name that `-o` takes, and with the title that `ps` gives them.
const COLUMNS: [(&str, &str); 21] = [
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("uid", "UID"),
    ("gid", "GID"),
    ("user", "USER"),
    ("comm", "COMMAND"),
    ("args", "COMMAND"),
    ("cmd", "CMD"),
    ("command", "COMMAND"),
    ("time", "TIME"),
    ("etime", "ELAPSED"),
    ("etimes", "ELAPSED"),
    ("stat", "STAT"),
    ("tty", "TT"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("pcpu", "%CPU"),
    ("pmem", "%MEM"),
    ("nice", "NI"),
    ("ni", "NI"),
    ("nlwp", "NLWP"),
];

/// The columns that arguments of `ps` mean. No `ps` of the host is run: what is known is its usual forms.
fn columns(arguments: &str) -> Handled<Vec<(&'static str, &'static str)>> {
    let unknown = || {
        let names: Vec<&str> = COLUMNS.iter().map(|c| c.0).collect();
        Failure::invalid(format!(
            "ps arguments {arguments:?} are not known: use -ef, aux, or -o with a list of {}",
            names.join(", ")
        ))
    };
    match arguments.trim().trim_start_matches('-') {
        "ef" | "e -f" | "f" => {
            return Ok(vec![
                ("user", "UID"),
                ("pid", "PID"),
                ("ppid", "PPID"),
                ("c", "C"),
                ("stime", "STIME"),
                ("tty", "TTY"),
                ("time", "TIME"),
                ("args", "CMD"),
            ]);
        }
        "aux" => {
            return Ok(vec![
                ("user", "USER"),
                ("pid", "PID"),
                ("pcpu", "%CPU"),
                ("pmem", "%MEM"),
                ("vsz", "VSZ"),
                ("rss", "RSS"),
                ("tty", "TTY"),
                ("stat", "STAT"),
                ("stime", "START"),
                ("mtime", "TIME"),
                ("args", "COMMAND"),
            ]);
        }
        _ => {}
    }
    let list = arguments.trim().trim_start_matches(['-', 'e', 'a', 'x', ' ']).strip_prefix('o').ok_or_else(unknown)?;
    let known = |name: &str| COLUMNS.iter().find(|c| c.0 == name).copied().ok_or_else(unknown);
    list.split([',', ' ']).filter(|n| !n.is_empty() && *n != "-o").map(known).collect()
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Tenths of a hundredth: `12.5`.
fn percent(part: u64, whole: u64) -> String {
    let tenths = part.saturating_mul(1000) / whole.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn cell(column: &str, p: &Process) -> String {
    match column {
        "pid" => p.pid.to_string(),
        "ppid" => p.parent.to_string(),
        "uid" => p.uid.to_string(),
        "gid" => p.gid.to_string(),
        "user" => p.user.clone(),
        "comm" => p.name.clone(),
        "c" => (p.time.saturating_mul(100) / p.age.max(1)).to_string(),
        "time" => clock(p.time),
        "mtime" => format!("{}:{:02}", p.time / 60, p.time % 60),
        "etime" if p.age < 3600 => format!("{:02}:{:02}", p.age / 60, p.age % 60),
        "etime" if p.age >= 86_400 => format!("{}-{}", p.age / 86_400, clock(p.age % 86_400)),
        "etime" => clock(p.age),
        "etimes" => p.age.to_string(),
        "stime" => started(p.age),
        "stat" => p.state.clone(),
        "tty" => p.terminal.clone(),
        "vsz" => p.virtual_size.to_string(),
        "rss" => p.resident.to_string(),
        "pcpu" => percent(p.time, p.age),
        "pmem" => percent(p.resident, p.host_memory),
        "nice" | "ni" => p.nice.to_string(),
        "nlwp" => p.threads.to_string(),
        _ => p.command.clone(),
    }
}

/// When a process started, in UTC: the time of today, or the day.
fn started(age: u64) -> String {
    let now = std::time::SystemTime::now();
    let at = now.checked_sub(Duration::from_secs(age)).unwrap_or(now);
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let text = skep_types::Time::default().after(since).rfc3339();
    if age < 86_400 { text.get(11..16) } else { text.get(5..10) }.unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
pub(crate) struct StatsQuery {
    stream: Option<String>,
    #[serde(rename = "one-shot")]
    one_shot: Option<String>,
}

pub(crate) async fn stats(State(app): State<App>, Path(id): Path<String>, Query(query): Query<StatsQuery>) -> Handled {
    let stream = query.stream.is_none() || truth(query.stream.as_ref());
    let one_shot = truth(query.one_shot.as_ref());
    if stream && one_shot {
        return Err(Failure::invalid("cannot have stream=true and one-shot=true"));
    }
    let info = app.engine.container(&id)?;
    if !stream {
        let first = app.engine.usage(&info.id).await?;
        if one_shot || first.is_none() {
            return Ok(Json(shown(&info, None, first.as_ref())).into_response());
        }
        // Rates need two looks.
        tokio::time::sleep(INTERVAL).await;
        let second = app.engine.usage(&info.id).await?;
        return Ok(Json(shown(&info, first.as_ref(), second.as_ref())).into_response());
    }
    // A client that does not read is waited for: nothing piles up.
    let looks = futures_util::stream::unfold((app, info, None, true), |(app, info, before, first)| async move {
        if !first {
            tokio::time::sleep(INTERVAL).await;
        }
        let name = app.engine.container(&info.id).ok()?;
        let now = app.engine.usage(&info.id).await.ok()?;
        let line = format!("{}\n", shown(&name, before.as_ref(), now.as_ref()));
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), (app, name, now, false)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(looks)).into_response())
}

fn cpu(usage: Option<&CpuUsage>) -> Value {
    let Some(c) = usage else {
        return json!({
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        });
    };
    let mut own = json!({"total_usage": c.total, "usage_in_kernelmode": c.system, "usage_in_usermode": c.user});
    if !c.each.is_empty() {
        own["percpu_usage"] = json!(c.each);
    }
    json!({
        "cpu_usage": own, "system_cpu_usage": c.host, "online_cpus": c.online,
        "throttling_data": {"periods": c.periods, "throttled_periods": c.throttled, "throttled_time": c.throttled_time},
    })
}

fn network(n: &NetworkUsage) -> Value {
    let ([rb, rp, re, rd], [tb, tp, te, td]) = (n.received, n.sent);
    json!({
        "rx_bytes": rb, "rx_packets": rp, "rx_errors": re, "rx_dropped": rd,
        "tx_bytes": tb, "tx_packets": tp, "tx_errors": te, "tx_dropped": td,
    })
}

/// One look at a container, with the look before it; one that does not run has used nothing.
fn shown(info: &ContainerInfo, before: Option<&Usage>, now: Option<&Usage>) -> Value {
    let read = |u: Option<&Usage>| u.map_or_else(|| NEVER.to_owned(), |u| u.read.rfc3339());
    let mut out = json!({
        "id": info.id, "name": format!("/{}", info.name), "read": read(now), "preread": read(before), "num_procs": 0,
        "storage_stats": {}, "cpu_stats": cpu(now.map(|u| &u.cpu)), "precpu_stats": cpu(before.map(|u| &u.cpu)),
        "pids_stats": {}, "memory_stats": {},
    });
    let rest = [
        "io_serviced_recursive",
        "io_queue_recursive",
        "io_service_time_recursive",
        "io_wait_time_recursive",
        "io_merged_recursive",
        "io_time_recursive",
        "sectors_recursive",
    ];
    let mut blkio: Map<String, Value> = rest.into_iter().map(|k| (k.to_owned(), Value::Null)).collect();
    blkio.insert("io_service_bytes_recursive".to_owned(), Value::Null);
    if let Some(u) = now {
        let row = |major, minor, op: &str, value| json!({"major": major, "minor": minor, "op": op, "value": value});
        let rows =
            u.disks.iter().flat_map(|d| [row(d.major, d.minor, "read", d.read), row(d.major, d.minor, "write", d.write)]);
        blkio.insert("io_service_bytes_recursive".to_owned(), rows.collect());
        out["pids_stats"] = json!({"current": u.pids});
        if u.pids_limit > 0 {
            out["pids_stats"]["limit"] = json!(u.pids_limit);
        }
        let m = &u.memory;
        out["memory_stats"] = json!({"usage": m.used, "limit": m.limit, "stats": m.stats});
        for (key, value) in [("max_usage", m.most), ("failcnt", m.failures)] {
            if let Some(value) = value {
                out["memory_stats"][key] = json!(value);
            }
        }
        if !u.networks.is_empty() {
            out["networks"] = u.networks.iter().map(|(name, n)| (name.clone(), network(n))).collect::<Map<_, _>>().into();
        }
    }
    out["blkio_stats"] = blkio.into();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_arguments_of_ps_have_their_columns() {
        let titles = |a: &str| columns(a).map(|c| c.iter().map(|c| c.1).collect::<Vec<_>>().join(" "));
        assert_eq!(titles("-ef").expect("known"), "UID PID PPID C STIME TTY TIME CMD");
        assert!(titles("aux").expect("known").starts_with("USER PID %CPU"));
        assert_eq!(titles("-o pid,comm").expect("known"), "PID COMMAND");
        assert_eq!(titles("-eo pid,args -o user").expect("known"), "PID COMMAND USER");
        for bad in ["-o", "--forest", "-o pid,;rm", "-o nothing"] {
            let columns = columns(bad);
            assert!(columns.is_err() || columns.is_ok_and(|c| c.is_empty()), "{bad}");
        }
    }

    #[test]
    fn a_process_is_a_row() {
        let p = Process { pid: 7, time: 3661, age: 7322, resident: 50, host_memory: 1000, ..Process::default() };
        let row: Vec<String> = ["pid", "time", "etime", "pcpu", "pmem", "c"].into_iter().map(|c| cell(c, &p)).collect();
        assert_eq!(row, ["7", "01:01:01", "02:02:02", "50.0", "5.0", "50"]);
    }

    #[test]
    fn limits_are_read_or_refused() {
        let read = |v: Value| read_limits(Fields::of(v, "").expect("an object"));
        let limits = read(json!({"Memory": 1 << 24, "PidsLimit": -1, "NanoCpus": 0, "RestartPolicy": {"Name": "always"}}));
        let limits = limits.expect("good");
        assert_eq!((limits.memory, limits.pids, limits.nano_cpus), (Some(1 << 24), Some(0), None));
        assert_eq!(limits.restart.expect("given").name, "always");
        assert!(read(json!({"Memory": -5})).is_err());
        assert!(read(json!({"BlkioWeight": 500})).is_err());
    }

    #[test]
    fn a_container_that_does_not_run_has_used_nothing() {
        let none = shown(&ContainerInfo::default(), None, None);
        assert_eq!((&none["read"], &none["cpu_stats"]["cpu_usage"]["total_usage"]), (&json!(NEVER), &json!(0)));
    }
}
