//! Which crate may use which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rooms: each crate of ours and those of ours that it may use. What is not named here is forbidden.
const MAY_USE: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("state", &["types"]),
    ("plan", &["types", "state"]),
    ("task", &["types"]),
    ("netplan", &["types"]),
    ("raft", &[]),
    ("pki", &["types"]),
    ("wire", &["types", "pki"]),
    ("archive", &[]),
    ("image", &["types", "archive"]),
    ("linux", &["types", "archive", "engine", "netplan"]),
    ("engine", &["types", "image", "netplan"]),
    ("agent", &["types", "task", "netplan", "wire"]),
    ("manager", &["types", "state", "plan", "raft", "pki", "wire"]),
    ("node", &["types", "agent", "manager", "wire", "pki"]),
    ("compose", &["types"]),
    ("api", &["types"]),
    ("cli", &["archive", "compose"]),
    ("ui", &[]),
    ("playground", &["types", "netplan", "engine", "linux", "image", "cli"]),
    ("bench", &["types", "state", "plan", "pki", "raft", "wire", "manager", "netplan", "engine", "linux"]),
    ("sim", &["types", "state", "plan", "task", "netplan", "raft", "pki", "wire", "manager", "agent"]),
    ("fuzz", &["types", "compose", "api", "cli", "engine"]),
    ("xtask", &[]),
];
/// Crates that wire the others together, or test the whole.
const MAY_USE_ALL: &[&str] = &["skep", "testkit", "e2e"];
/// Crates that do not ship: only tests, and each other, may use them.
const NOT_SHIPPED: &[&str] = &["testkit", "e2e", "sim", "bench", "fuzz", "xtask"];
/// Crates whose decisions must be the same for the same arguments.
pub(super) const PURE: &[&str] = &["state", "plan", "task", "netplan"];
/// What they and `types` may use of others' crates: data and its encodings, nothing that reads a clock, draws a number or does I/O.
const PURE_MAY_USE: &[&str] = &["serde", "compact_str", "thiserror", "imbl", "rmp-serde", "rmpv", "serde_ignored"];

/// A crate of ours and what it depends on outside its tests.
#[derive(Debug, Default)]
pub(super) struct Crate {
    name: String,
    ours: BTreeSet<String>,
    others: BTreeSet<String>,
}

/// `skep-types` is `types` in all tables.
fn short(name: &str) -> &str {
    name.strip_prefix("skep-").unwrap_or(name)
}

/// Reads the packages of `cargo metadata --no-deps`.
pub(super) fn crates(packages: &[Value]) -> Vec<Crate> {
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let read = |package: &Value| {
        let mut made = Crate { name: short(package["name"].as_str().unwrap_or_default()).to_owned(), ..Crate::default() };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let name = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"] == "dev" {
                continue;
            }
            if names.contains(name) {
                made.ours.insert(short(name).to_owned());
            } else if dependency["kind"] != "build" {
                made.others.insert(name.to_owned());
            }
        }
        made
    };
    packages.iter().map(read).collect()
}

/// Findings about edges.
pub(super) fn check(crates: &[Crate]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut findings = Vec::new();
    for one in crates {
        let name = one.name.as_str();
        for used in &one.ours {
            if NOT_SHIPPED.contains(&used.as_str()) && !NOT_SHIPPED.contains(&name) {
                findings
                    .push(format!("crate {name} depends on {used}, which does not ship: only dev-dependencies may name it"));
            } else if let Some(allowed) = table.get(name)
                && !allowed.contains(&used.as_str())
            {
                let may = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
                findings.push(format!("crate {name} depends on {used}: it may use {may}"));
            }
        }
        if !table.contains_key(name) && !MAY_USE_ALL.contains(&name) {
            findings.push(format!("crate {name} has no row in the table of rooms (xtask/src/house/edges.rs)"));
        }
        if PURE.contains(&name) || name == "types" {
            for used in one.others.iter().filter(|u| !PURE_MAY_USE.contains(&u.as_str())) {
                findings
                    .push(format!("crate {name} depends on {used}: it is pure and may use {} only", PURE_MAY_USE.join(", ")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let all = ["skep-types", "skep-state", "skep-plan", "skep-engine", "skep-testkit", "skep"];
        let listed: Vec<Value> = dependencies.iter().map(|(n, kind)| json!({"name": n, "kind": kind})).collect();
        let mut packages = vec![json!({"name": name, "dependencies": listed})];
        packages.extend(all.iter().filter(|n| **n != name).map(|n| json!({"name": n, "dependencies": []})));
        check(&crates(&packages))
    }

    #[test]
    fn allowed_edges_are_silent() {
        assert_eq!(findings("skep-plan", &[("skep-types", None), ("skep-state", None), ("serde", None)]), Vec::<String>::new());
        assert_eq!(findings("skep", &[("skep-engine", None), ("tokio", None)]), Vec::<String>::new());
    }

    #[test]
    fn forbidden_edges_are_found() {
        assert!(findings("skep-plan", &[("skep-engine", None)])[0].contains("plan depends on engine"));
        assert!(findings("skep-types", &[("skep-state", None)])[0].contains("none of ours"));
        assert!(findings("skep", &[("skep-testkit", None)])[0].contains("does not ship"));
    }

    #[test]
    fn pure_crates_use_data_only() {
        assert!(findings("skep-plan", &[("tokio", None)])[0].contains("pure"));
        assert!(findings("skep-types", &[("getrandom", None)])[0].contains("pure"));
    }

    #[test]
    fn tests_may_use_anything() {
        assert_eq!(findings("skep-plan", &[("tokio", Some("dev")), ("skep-testkit", Some("dev"))]), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_crate_needs_a_row() {
        assert!(findings("skep-novelty", &[])[0].contains("no row"));
    }
}
