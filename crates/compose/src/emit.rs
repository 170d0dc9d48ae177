//! A tree as YAML, in a form that reads back as the same tree.

use std::fmt::Write as _;

use crate::node::{Node, Value};
use crate::yaml::resolve;

/// The text of a merged file. `escaped` doubles dollars, so that it can be loaded again.
pub(crate) fn yaml(root: &Node, escaped: bool) -> String {
    let mut out = String::new();
    match &root.value {
        Value::Map(map) if map.is_empty() => out.push_str("{}\n"),
        Value::Map(_) => mapping(root, 0, escaped, &mut out),
        _ => {}
    }
    out
}

/// Keys in the order in which people write them; the others follow by name.
const FIRST: &[&str] = &["version", "name", "services"];

fn mapping(node: &Node, indent: usize, escaped: bool, out: &mut String) {
    let first = FIRST.iter().filter(|_| indent == 0).filter_map(|k| node.map()?.get_key_value(*k));
    let rest = node.entries().filter(|(k, _)| indent > 0 || !FIRST.contains(&k.as_str()));
    for (key, entry) in first.chain(rest) {
        let _ = write!(out, "{:indent$}{}:", "", scalar(key, false));
        value(&entry.node, indent, escaped, out);
    }
}

/// What follows a key: on its line if it is short, else below it.
fn value(node: &Node, indent: usize, escaped: bool, out: &mut String) {
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            mapping(node, indent + 2, escaped, out);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            list(items, indent + 2, escaped, out);
        }
        _ => {
            let _ = writeln!(out, " {}", inline(node, escaped));
        }
    }
}

fn list(items: &[Node], indent: usize, escaped: bool, out: &mut String) {
    for item in items {
        match &item.value {
            Value::Map(map) if !map.is_empty() => {
                let mut text = String::new();
                mapping(item, indent + 2, escaped, &mut text);
                // The first key stands beside the dash.
                let _ = write!(out, "{:indent$}- {}", "", text.trim_start_matches(' '));
            }
            Value::List(inner) if !inner.is_empty() => {
                let _ = writeln!(out, "{:indent$}-", "");
                list(inner, indent + 2, escaped, out);
            }
            _ => {
                let _ = writeln!(out, "{:indent$}- {}", "", inline(item, escaped));
            }
        }
    }
}

fn inline(node: &Node, escaped: bool) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        // With a point, so that it stays a number of its kind.
        Value::Float(f) => format!("{f:?}"),
        Value::Str(text) => scalar(text, escaped),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

/// Text, quoted where it would read as something else.
fn scalar(text: &str, escaped: bool) -> String {
    let text = if escaped { text.replace('$', "$$") } else { text.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '$' | '+' | '=' | '@' | '(' | ')');
    let words = matches!(text.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "Yes" | "No" | "On" | "Off" | "Y" | "N");
    // `1m30s`: no reader takes it for a number.
    let duration = text.ends_with(['s', 'm', 'h']) && text.chars().all(|c| c.is_ascii_digit() || "hmsnu".contains(c));
    let simple = (duration || text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '$')))
        && text.split(' ').all(|w| !w.is_empty() && w.trim_end_matches(':').len() == w.len())
        && text.chars().all(|c| plain(c) || matches!(c, ' ' | ':' | ',' | '*'))
        && matches!(resolve(&text), Value::Str(_))
        && !words;
    if simple { text } else { quoted(&text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
