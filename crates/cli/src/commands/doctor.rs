//! `network doctor`: what is wrong with the networks of all nodes, in words. Each node says what it sees; here it is put together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::app::{App, Failure};
use crate::grammar::{Arity, Command, Matches};
use crate::output::print;

const DOCTOR: &str = "
    --json bool What was found, as JSON, with the tables of every node
    --node list* Only this node, by name or id";

/// `network doctor`.
pub(super) const COMMAND: Command = Command::new(
    "doctor",
    "[OPTIONS]",
    "Say what is wrong with the networks of the nodes (at a manager: of all)",
    Arity::None,
    &[DOCTOR],
    |a, m| Box::pin(doctor(a, m)),
)
.shown(&["network doctor", "network doctor --node worker1 --json"]);

/// What a node says, or why it says nothing.
struct Seen {
    name: String,
    report: Result<Value, String>,
}

async fn doctor(app: &App, m: &Matches) -> Result<u8, Failure> {
    let info = app.client().await?.call("GET", "/info", None).await?;
    let manager = info["Swarm"]["ControlAvailable"] == true;
    let nodes = if manager { app.client().await?.call("GET", "/nodes", None).await? } else { json!([]) };
    let nodes = nodes.as_array().cloned().unwrap_or_default();
    let mut seen = Vec::new();
    if manager {
        for wanted in m.list("node") {
            if !nodes.iter().any(|n| named(n, wanted)) {
                return Err(Failure::new(format!("no such node: {wanted}")));
            }
        }
        let picked = |n: &&Value| m.list("node").is_empty() || m.list("node").iter().any(|w| named(n, w));
        for node in nodes.iter().filter(picked) {
            let report = if node["Status"]["State"] == "ready" {
                let far = app.at_node(text(&node["ID"]));
                far.unversioned().call("GET", "/skep/v1/network/doctor", None).await.map_err(|e| Failure::from(e).message)
            } else {
                Err(format!("is {}: it was not asked", text(&node["Status"]["State"])))
            };
            seen.push(Seen { name: text(&node["Description"]["Hostname"]).to_owned(), report });
        }
    } else {
        if m.given("node") {
            return Err(Failure::new("--node: only a manager can ask other nodes"));
        }
        let report = app.unversioned().call("GET", "/skep/v1/network/doctor", None).await?;
        seen.push(Seen { name: text(&info["Name"]).to_owned(), report: Ok(report) });
    }
    if m.on("json") {
        let one = |s: &Seen| (s.name.clone(), s.report.clone().unwrap_or_else(|why| json!({"Error": why})));
        let all: serde_json::Map<String, Value> = seen.iter().map(one).collect();
        print(&format!("{}\n", Value::Object(all)))?;
    }
    let (words, faults) = told(&seen, &nodes);
    if !m.on("json") {
        print(&words)?;
    }
    Ok(u8::from(faults > 0))
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

fn named(node: &Value, wanted: &str) -> bool {
    text(&node["ID"]) == wanted || text(&node["Description"]["Hostname"]) == wanted
}

/// All of it in words, and the number of faults. Faults towards a node that is known to be down follow from that.
fn told(seen: &[Seen], nodes: &[Value]) -> (String, usize) {
    let names: BTreeMap<&str, &str> = nodes.iter().map(|n| (text(&n["ID"]), text(&n["Description"]["Hostname"]))).collect();
    let down = nodes.iter().filter(|n| n["Status"]["State"] != "ready");
    let down: BTreeSet<&str> = down.map(|n| text(&n["ID"])).collect();
    let (mut out, mut faults) = (String::new(), 0);
    for node in seen {
        let report = match &node.report {
            Ok(report) => report,
            Err(why) => {
                faults += 1;
                out += &format!("{}\n  FAULT  {why}\n", node.name);
                continue;
            }
        };
        out += &match report["Addr"].as_str() {
            Some(addr) => format!("{} ({addr}, underlay of {} bytes)\n", node.name, report["MTU"]),
            None => format!("{}\n", node.name),
        };
        for finding in report["Findings"].as_array().into_iter().flatten() {
            let peer = finding["Peer"].as_str();
            if peer.is_some_and(|p| down.contains(p)) {
                continue;
            }
            let mark = match text(&finding["Level"]) {
                "fault" => {
                    faults += 1;
                    "FAULT"
                }
                "note" => "note ",
                _ => "ok   ",
            };
            let to = peer.map(|p| format!("to {}: ", names.get(p).copied().unwrap_or(p))).unwrap_or_default();
            out += &format!("  {mark}  {to}{}\n", text(&finding["Text"]));
        }
    }
    if !nodes.is_empty() {
        out += "Between nodes: TCP 2377 to managers, TCP 7946 and UDP 4789 (or the swarm's own port) to all.\n";
    }
    out += &match faults {
        0 => "No faults were found.\n".to_owned(),
        1 => "1 fault was found.\n".to_owned(),
        n => format!("{n} faults were found.\n"),
    };
    (out, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_and_those_towards_dead_nodes_are_not() {
        let node = |id: &str, name: &str, state: &str| json!({"ID": id, "Description": {"Hostname": name}, "Status": {"State": state}});
        let nodes = [node("a", "one", "ready"), node("b", "two", "ready"), node("c", "three", "down")];
        let finding = |level: &str, peer: Option<&str>, text: &str| json!({"Level": level, "Peer": peer, "Text": text});
        let report = json!({"Addr": "10.0.0.1", "MTU": 1500, "Findings": [
            finding("ok", None, "tables"), finding("fault", Some("b"), "UDP 4789"), finding("fault", Some("c"), "dead"),
            finding("note", None, "SCTP"),
        ]});
        let seen = [
            Seen { name: "one".to_owned(), report: Ok(report) },
            Seen { name: "three".to_owned(), report: Err("is down: it was not asked".to_owned()) },
        ];
        let (words, faults) = told(&seen, &nodes);
        assert_eq!(faults, 2, "{words}");
        assert!(
            words.contains("one (10.0.0.1, underlay of 1500 bytes)") && words.contains("FAULT  to two: UDP 4789"),
            "{words}"
        );
        assert!(!words.contains("dead") && words.contains("three\n  FAULT  is down") && words.contains("7946"), "{words}");
        let (words, faults) = told(&[], &[]);
        assert_eq!((words.as_str(), faults), ("No faults were found.\n", 0));
    }
}
