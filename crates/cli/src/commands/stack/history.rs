//! `stack history` and `stack rollback`: what was deployed before, and how to have it again.
//!
//! The daemon knows no stacks, so a deploy that changed something leaves a config of the stack behind with the services' bodies as
//! they were sent. It goes with the stack (`stack rm`), by the stock client too. The newest five are kept, as of tasks; versions of secrets and
//! configs that they name are kept with them. The command called `docker` leaves none.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::plan::{self, Current, NAMESPACE};
use super::{deploy, fetch};
use crate::app::{App, Failure};
use crate::client::{Client, escape};
use crate::grammar::Matches;
use crate::options;
use crate::output::human::ago_text;
use crate::output::list::{self, List};
use crate::output::{print, warn};

/// The label with a record's number.
const NUMBER: &str = "com.skep.stack.deploy";
/// Records that are kept.
const KEPT: usize = 5;
/// Longest record: a config holds 1,000 KiB, which several hundred services need.
const MAX_RECORD: usize = 1_000_000;
/// Most of a stack's name that a config's name can hold beside the number.
const MAX_NAME: usize = 40;

/// A deploy that was.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    id: String,
    created: String,
    number: u64,
    /// Bodies of services by their names.
    services: Map<String, Value>,
    /// Names of those that it changed.
    changed: Vec<String>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Record {
    /// Reads a config; one that is no record is none.
    fn read(config: &Value) -> Option<Self> {
        let number = text(&config["Spec"]["Labels"][NUMBER]).parse().ok()?;
        let data: Value = serde_json::from_slice(&STANDARD.decode(text(&config["Spec"]["Data"])).ok()?).ok()?;
        let changed = data["Changed"].as_array()?.iter().map(|n| text(n).to_owned()).collect();
        Some(Self {
            id: text(&config["ID"]).to_owned(),
            created: text(&config["CreatedAt"]).to_owned(),
            number,
            services: data["Services"].as_object()?.clone(),
            changed,
        })
    }

    /// The config to create.
    fn body(stack: &str, number: u64, services: &Map<String, Value>, changed: &[String]) -> Option<Value> {
        let data = json!({"Services": services, "Changed": changed}).to_string();
        if data.len() > MAX_RECORD {
            return None;
        }
        let short: String = stack.chars().take(MAX_NAME).collect();
        let labels = json!({NAMESPACE: stack, NUMBER: number.to_string()});
        Some(json!({"Name": format!("{short}.deploy.{number}"), "Labels": labels, "Data": STANDARD.encode(data)}))
    }
}

/// The records of a stack, newest first.
async fn records(client: &Client, stack: &str) -> Result<Vec<Record>, Failure> {
    let filters = options::filter("label", &[&format!("{NAMESPACE}={stack}"), NUMBER]);
    let configs = fetch::all(client, "/configs", &filters).await?;
    let mut records: Vec<Record> = configs.iter().filter_map(Record::read).collect();
    records.sort_by_key(|r| std::cmp::Reverse(r.number));
    Ok(records)
}

/// Leaves a record of a deploy, and takes the oldest ones away. What fails is told and no more: the deploy itself is done.
pub async fn note(client: &Client, stack: &str, services: &Map<String, Value>, changed: &[String]) {
    let before = records(client, stack).await.unwrap_or_default();
    let number = before.first().map_or(1, |r| r.number.saturating_add(1));
    match Record::body(stack, number, services, changed) {
        None => warn(&format!("stack {stack} is too large for its history: no record of this deploy is kept")),
        Some(body) => {
            if let Err(e) = client.call("POST", "/configs/create", Some(&body)).await {
                warn(&format!("no record of this deploy is kept for stack history: {}", Failure::from(e).message));
            }
        }
    }
    for record in before.iter().skip(KEPT - 1) {
        // One that stays is removed by the next deploy.
        let _ = client.call("DELETE", &format!("/configs/{}", escape(&record.id)), None).await;
    }
}

/// What the records of a stack hold, as services in the API's form: nothing that they name may go.
pub async fn bodies(client: &Client, stack: &str) -> Vec<Value> {
    let records = records(client, stack).await.unwrap_or_default();
    records.iter().flat_map(|r| r.services.values()).map(|body| json!({"Spec": body})).collect()
}

fn rows(records: &[Record]) -> Vec<Value> {
    let row = |r: &Record| {
        json!({"Deploy": r.number.to_string(), "Created": ago_text(&r.created), "CreatedAt": r.created,
               "Services": r.services.len().to_string(), "Changed": r.changed.join(", ")})
    };
    records.iter().map(row).collect()
}

/// `stack history`.
///
/// # Errors
/// When the daemon cannot be asked.
pub async fn history(app: &App, m: &Matches) -> Result<u8, Failure> {
    skep_compose::check_name(m.arg(0))?;
    let client = app.client().await?;
    let records = records(client, m.arg(0)).await?;
    if records.is_empty() && fetch::services(client, m.arg(0)).await?.is_empty() {
        return Err(Failure::new(format!("nothing found in stack: {}", m.arg(0))));
    }
    let columns: &[list::Column] = &[
        ("Deploy", "DEPLOY"),
        ("Created", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Services", "SERVICES"),
        ("Changed", "CHANGED"),
    ];
    let table = "{{.Deploy}}\t{{.Created}}\t{{.Services}}\t{{.Changed}}";
    List { table, quiet: "{{.Deploy}}", columns, rows: rows(&records) }.show(m.text_or_empty("format"), m.on("quiet"))?;
    Ok(0)
}

/// The record that is meant: of a number, or the one before the newest.
fn chosen<'a>(records: &'a [Record], stack: &str, number: &str) -> Result<&'a Record, Failure> {
    if number.is_empty() {
        let none = || Failure::new(format!("stack {stack} has no deploy before this one; see `stack history {stack}`"));
        return records.get(1).ok_or_else(none);
    }
    let wanted: Option<u64> = number.parse().ok();
    let none = || Failure::new(format!("stack {stack} has no deploy {number:?}; see `stack history {stack}`"));
    records.iter().find(|r| Some(r.number) == wanted).ok_or_else(none)
}

/// `stack rollback`: every service of an earlier deploy is made as it was then. Services that came later stay, unless `--prune`.
///
/// # Errors
/// When there is no such deploy, or at the first failure of an update.
pub async fn rollback(app: &App, m: &Matches) -> Result<u8, Failure> {
    let stack = m.arg(0);
    skep_compose::check_name(stack)?;
    let client = app.client().await?;
    let (records, services) = tokio::join!(records(client, stack), fetch::services(client, stack));
    let (records, services) = (records?, services?);
    if records.is_empty() && services.is_empty() {
        return Err(Failure::new(format!("nothing found in stack: {stack}")));
    }
    let record = chosen(&records, stack, m.arg(1))?;
    print(&format!("Rolling back stack {stack} to deploy {}\n", record.number))?;
    let current = Current { services, ..Current::default() };
    if m.on("prune") {
        let kept: BTreeSet<&str> = record.services.keys().map(String::as_str).collect();
        for (name, id) in plan::leftover(&kept, &current) {
            print(&format!("Removing service {name}\n"))?;
            client.call("DELETE", &format!("/services/{}", escape(&id)), None).await?;
        }
    }
    let touched = deploy::apply_all(client, &record.services, &BTreeMap::new(), &current).await?;
    if !touched.is_empty() {
        let changed: Vec<String> = touched.iter().map(|(name, _)| name.clone()).collect();
        note(client, stack, &record.services, &changed).await;
    }
    if !super::waits(m) {
        return Ok(0);
    }
    deploy::wait(app, client, touched, m.on("quiet")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(number: u64) -> Value {
        let services = Map::from_iter([("app_web".to_owned(), json!({"Name": "app_web"}))]);
        let body = Record::body("app", number, &services, &["app_web".to_owned()]).unwrap();
        json!({"ID": format!("id{number}"), "CreatedAt": "2020-01-01T00:00:00Z", "Spec": body})
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let record = Record::read(&listed(3)).unwrap();
        assert_eq!((record.number, record.changed.as_slice()), (3, ["app_web".to_owned()].as_slice()));
        assert_eq!(rows(&[record])[0]["Services"], "1");
        assert_eq!(listed(3)["Spec"]["Name"], "app.deploy.3");
        let long = Record::body(&"s".repeat(60), 1_000_000_000, &Map::new(), &[]).unwrap();
        assert!(text(&long["Name"]).len() <= 64);
        let mut broken = listed(1);
        broken["Spec"]["Data"] = json!("?");
        assert_eq!(Record::read(&broken), None);
        assert_eq!(Record::read(&json!({})), None);
        let huge = Map::from_iter([("a".to_owned(), json!("x".repeat(MAX_RECORD)))]);
        assert_eq!(Record::body("app", 1, &huge, &[]), None);
    }

    #[test]
    fn the_one_before_is_meant_unless_one_is_named() {
        let records: Vec<Record> = [5, 4, 2].iter().filter_map(|n| Record::read(&listed(*n))).collect();
        assert_eq!(chosen(&records, "app", "").unwrap().number, 4);
        assert_eq!(chosen(&records, "app", "2").unwrap().number, 2);
        for (few, number) in [(&records[..1], ""), (&records[..], "3"), (&records[..], "x"), (&records[..0], "1")] {
            assert!(chosen(few, "app", number).unwrap_err().message.contains("stack app has no deploy"));
        }
    }
}
