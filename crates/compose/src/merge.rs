//! One file over another: mappings merge, values replace, lists append, and what has an identity merges by it (Compose
//! Specification, merge; `swarm-semantics` 9.4). Both trees are in their long form.

use crate::node::{Entry, Merge, Node, Value};

/// Merges a whole file over the base.
pub(crate) fn merge(base: &mut Node, over: Node) {
    merge_at(base, over, &mut Vec::new());
}

/// Merges one service over another, as `extends` does.
pub(crate) fn merge_service(base: &mut Node, over: Node) {
    merge_at(base, over, &mut vec!["services".to_owned(), String::new()]);
}

/// Takes away what `!reset` names when there is nothing below it any more.
pub(crate) fn without_resets(node: &mut Node) {
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, e| e.node.merge != Merge::Reset);
            map.values_mut().for_each(|e| without_resets(&mut e.node));
        }
        Value::List(items) => {
            items.retain(|n| n.merge != Merge::Reset);
            items.iter_mut().for_each(without_resets);
        }
        _ => {}
    }
}

fn merge_at(base: &mut Node, over: Node, path: &mut Vec<String>) {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    if over.merge != Merge::Usual || replaces(&names, base, &over) {
        *base = over;
        return;
    }
    let identity = identity(&names);
    match (&mut base.value, over.value) {
        (Value::Map(below), Value::Map(above)) => {
            for (key, entry) in above {
                match below.get_mut(&key) {
                    _ if entry.node.merge == Merge::Reset => {
                        below.remove(&key);
                    }
                    Some(old) => {
                        path.push(key);
                        let Entry { key, node } = entry;
                        old.key = key;
                        merge_at(&mut old.node, node, path);
                        path.pop();
                    }
                    None => {
                        below.insert(key, entry);
                    }
                }
            }
        }
        (Value::List(below), Value::List(above)) => append(below, above, identity),
        // A network or service that is only named again keeps what it had.
        (Value::Map(_), Value::Null) => {}
        (_, value) => *base = Node { at: over.at, value, merge: Merge::Usual },
    }
}

/// What makes two items of a list the same thing.
type Identity = fn(&Node) -> Option<String>;

/// Whether the later value stands alone.
fn replaces(path: &[&str], base: &Node, over: &Node) -> bool {
    match path {
        ["services", _, "command" | "entrypoint"] | ["services", _, "healthcheck", "test"] => true,
        // Options belong to their driver.
        ["services", _, "logging"] => over.get("driver").is_some_and(|d| base.get("driver").is_some_and(|b| !b.same(d))),
        ["services", _, "ulimits", _] => true,
        _ => false,
    }
}

fn identity(path: &[&str]) -> Option<Identity> {
    match path {
        ["services", _, "ports"] => Some(|n| {
            let part = |key| n.get(key).and_then(Node::scalar).unwrap_or_default();
            Some(["host_ip", "target", "published", "protocol"].map(part).join("|"))
        }),
        ["services", _, "volumes"] => Some(|n| n.get("target").and_then(Node::scalar)),
        ["services", _, "secrets" | "configs"] => Some(|n| n.get("target").or_else(|| n.get("source")).and_then(Node::scalar)),
        ["services", _, "env_file"] => Some(|n| n.get("path").and_then(Node::scalar)),
        _ => None,
    }
}

/// Appends, leaving out what is there already; an item with the identity of an earlier one takes its place.
fn append(below: &mut Vec<Node>, above: Vec<Node>, identity: Option<Identity>) {
    use std::collections::BTreeMap;
    let key = |n: &Node| identity.map_or_else(|| n.scalar(), |of| of(n));
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, node) in below.iter().enumerate() {
        if let Some(key) = key(node) {
            known.entry(key).or_insert(at);
        }
    }
    for node in above {
        match key(&node).map(|k| (known.get(&k).copied(), k)) {
            Some((Some(at), _)) => {
                if let Some(slot) = below.get_mut(at) {
                    *slot = node;
                }
            }
            Some((None, key)) => {
                known.insert(key, below.len());
                below.push(node);
            }
            None => {
                // Mappings without an identity (preferences, generic resources): few, and equal ones are one.
                let near = below.len().saturating_sub(64);
                if !below[near..].iter().any(|b| b.same(&node)) {
                    below.push(node);
                }
            }
        }
    }
}
