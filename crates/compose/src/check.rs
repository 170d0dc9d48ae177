//! Holds a file's tree against the table of the format, and casts text to what its key wants.
//!
//! The texts are those of the stock client where it has one (`services.web.ports must be a list`).

use crate::node::{Merge, Node, Value};
use crate::place::Report;
use crate::schema::{FILE, Kind};
use crate::yaml::integer;

/// Checks a whole file; `raw` leaves text with a variable as it is.
pub(crate) fn check(node: &mut Node, raw: bool, report: &mut Report) {
    if node.map().is_none() {
        report.fault(&node.at, "Top-level object must be a mapping");
        return;
    }
    walk(node, &FILE, "", raw, report);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn walk(node: &mut Node, kind: &Kind, path: &str, raw: bool, report: &mut Report) {
    if node.merge == Merge::Reset || raw && node.str().is_some_and(|t| t.contains('$')) {
        return;
    }
    match kind {
        Kind::Any => {}
        Kind::Or(one, other) => {
            let chosen = if shape(one, node) { one } else { other };
            if shape(chosen, node) { walk(node, chosen, path, raw, report) } else { wrong(node, kind, path, report) }
        }
        Kind::Int | Kind::Num | Kind::Bool => cast(node, kind, path, report),
        Kind::Word(words) => match node.str() {
            Some(text) if words.contains(&text) => {}
            Some(text) => report.fault(&node.at, format!("{path} must be one of {}, not {text:?}", words.join(", "))),
            None => wrong(node, kind, path, report),
        },
        _ if !shape(kind, node) => wrong(node, kind, path, report),
        Kind::List(inner) => {
            if let Value::List(items) = &mut node.value {
                for (n, item) in items.iter_mut().enumerate() {
                    walk(item, inner, &format!("{path}.{n}"), raw, report);
                }
            }
        }
        Kind::Map(inner) => {
            for (key, entry) in node.map_mut().into_iter().flatten() {
                walk(&mut entry.node, inner, &join(path, key), raw, report);
            }
        }
        Kind::Named(inner) => {
            for (key, entry) in node.map_mut().into_iter().flatten() {
                if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
                    report.fault(&entry.key, format!("{} Additional property {key} is not allowed", or_root(path)));
                    continue;
                }
                walk(&mut entry.node, inner, &join(path, key), raw, report);
            }
        }
        Kind::Object(fields, required) => object(node, fields, required, path, raw, report),
        Kind::Null | Kind::Str | Kind::Scalar | Kind::AnyScalar | Kind::MaybeScalar => {}
    }
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "(root)" } else { path }
}

fn object(node: &mut Node, fields: &[(&str, Kind)], required: &[&str], path: &str, raw: bool, report: &mut Report) {
    for name in required {
        if node.map().is_some_and(|m| !m.contains_key(*name)) {
            report.fault(&node.at, format!("{} {name} is required", or_root(path)));
        }
    }
    for (key, entry) in node.map_mut().into_iter().flatten() {
        if key.starts_with("x-") {
            continue;
        }
        match fields.iter().find(|(name, _)| name == key) {
            Some((_, kind)) => walk(&mut entry.node, kind, &join(path, key), raw, report),
            None => {
                let near = fields.iter().map(|(name, _)| *name).find(|name| near(name, key));
                let hint = near.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default();
                report.fault(&entry.key, format!("{} Additional property {key} is not allowed{hint}", or_root(path)));
            }
        }
    }
}

/// Whether one edit makes one word of the other, `-` and `_` and case aside.
fn near(name: &str, typed: &str) -> bool {
    let plain = |s: &str| s.to_ascii_lowercase().replace('-', "_");
    let (a, b) = (plain(name), plain(typed));
    if a == b {
        return true;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().min(b.len()) < 4 {
        return false;
    }
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[front..], &b[front..]);
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - back], &b[..b.len() - back]);
    a.len() <= 1 && b.len() <= 1 || a.len() == 2 && b.len() == 2 && a[0] == b[1] && a[1] == b[0]
}

/// Whether a node has the shape that a kind wants, before its content is looked at.
fn shape(kind: &Kind, node: &Node) -> bool {
    let scalar = !matches!(node.value, Value::Null | Value::List(_) | Value::Map(_));
    match kind {
        Kind::Any => true,
        Kind::Null => matches!(node.value, Value::Null),
        Kind::Str | Kind::Word(_) => matches!(node.value, Value::Str(_)),
        Kind::Int => matches!(node.value, Value::Str(_) | Value::Int(_)),
        Kind::Num | Kind::Scalar => scalar && !matches!(node.value, Value::Bool(_)),
        Kind::Bool => matches!(node.value, Value::Str(_) | Value::Bool(_)),
        Kind::AnyScalar => scalar,
        Kind::MaybeScalar => scalar || matches!(node.value, Value::Null),
        Kind::List(_) => matches!(node.value, Value::List(_)),
        Kind::Map(_) | Kind::Named(_) | Kind::Object(..) => matches!(node.value, Value::Map(_)),
        Kind::Or(one, other) => shape(one, node) || shape(other, node),
    }
}

fn wrong(node: &Node, kind: &Kind, path: &str, report: &mut Report) {
    let mut words = Vec::new();
    human(kind, &mut words);
    report.fault(&node.at, format!("{} must be a {}", or_root(path), words.join(" or ")));
}

/// What a kind is called, as the stock client calls it.
fn human(kind: &Kind, words: &mut Vec<&'static str>) {
    let own: &[&'static str] = match kind {
        Kind::Any => &["value"],
        Kind::Null => &["null"],
        Kind::Str | Kind::Word(_) => &["string"],
        Kind::Int => &["integer"],
        Kind::Num => &["number"],
        Kind::Bool => &["boolean"],
        Kind::Scalar => &["string", "number"],
        Kind::AnyScalar => &["string", "number", "boolean"],
        Kind::MaybeScalar => &["string", "number", "boolean", "null"],
        Kind::List(_) => &["list"],
        Kind::Map(_) | Kind::Named(_) | Kind::Object(..) => &["mapping"],
        Kind::Or(one, other) => {
            human(one, words);
            human(other, words);
            return;
        }
    };
    for word in own {
        // Nobody writes null on purpose; a message that offers it misleads.
        if !words.contains(word) && *word != "null" {
            words.push(word);
        }
    }
}

fn cast(node: &mut Node, kind: &Kind, path: &str, report: &mut Report) {
    let done = match (&node.value, kind) {
        (Value::Int(_), Kind::Int | Kind::Num) | (Value::Float(_), Kind::Num) | (Value::Bool(_), Kind::Bool) => return,
        (Value::Str(text), Kind::Int) => integer(text).map(Value::Int),
        (Value::Str(text), Kind::Num) => number(text),
        (Value::Str(text), Kind::Bool) => truth(text).map(Value::Bool),
        _ => return wrong(node, kind, path, report),
    };
    match done {
        Some(value) => node.value = value,
        None => {
            let mut words = Vec::new();
            human(kind, &mut words);
            let text = node.scalar().unwrap_or_default();
            let cause = format!("{text:?} is not a {}", words.join(" or "));
            report.fault(&node.at, format!("error while interpolating {path}: failed to cast to expected type: {cause}"));
        }
    }
}

fn number(text: &str) -> Option<Value> {
    match crate::yaml::resolve(text) {
        value @ (Value::Int(_) | Value::Float(_)) => Some(value),
        _ => None,
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}
