//! Short forms become long ones, so that files merge by meaning and everything after this reads one form.
//!
//! Lists of `KEY=value` become mappings, command lines words, ports and mounts their long forms, relative paths absolute ones. The
//! tree has been checked: what has another shape than the table says is left alone.

use crate::node::{Entry, Map, Merge, Node, Value, mapping};
use crate::place::Report;
use crate::volumes::Paths;
use crate::{ports, volumes, words};

/// Rewrites a file's tree.
pub(crate) fn canonical(file: &mut Node, paths: Paths<'_>, report: &mut Report) {
    for (section, is_service) in
        [("services", true), ("networks", false), ("volumes", false), ("secrets", false), ("configs", false)]
    {
        let Some(entry) = file.map_mut().and_then(|m| m.get_mut(section)) else { continue };
        for (name, entry) in entry.node.map_mut().into_iter().flatten() {
            let path = format!("{section}.{name}");
            if is_service {
                service(&mut entry.node, &path, paths, report);
            } else {
                object(&mut entry.node, section, &path, paths, report);
            }
        }
    }
}

/// The value of a key, to be rewritten; not one that `!reset` takes away.
fn field<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    node.map_mut()?.get_mut(key).map(|e| &mut e.node).filter(|n| n.merge != Merge::Reset)
}

fn object(node: &mut Node, section: &str, path: &str, paths: Paths<'_>, report: &mut Report) {
    for key in ["labels", "driver_opts"] {
        if let Some(dict) = field(node, key) {
            dictionary(dict, key == "labels");
        }
    }
    if let Some(file) = field(node, "file")
        && let Value::Str(text) = &file.value
    {
        file.value = Value::Str(paths.absolute_text(text));
    }
    external(node, section, path, report);
}

/// `external: {name: x}` is `external: true` with `name: x`.
fn external(node: &mut Node, section: &str, path: &str, report: &mut Report) {
    let Some(external) = node.get("external").cloned() else { return };
    if external.map().is_some() {
        if let Some(name) = external.get("name") {
            if node.get("name").is_some() {
                let text = format!("{path}: {path}.external.name and {path}.name conflict; only use {path}.name");
                report.fault(&name.at, text);
            }
            node.set("name", name.clone());
        }
        node.set("external", Node::new(&external.at, Value::Bool(true)));
    } else if !matches!(external.value, Value::Bool(true)) {
        return;
    }
    let what = section.trim_end_matches('s');
    let name = path.rsplit('.').next().unwrap_or(path).to_owned();
    for (key, entry) in node.entries() {
        if !matches!(key.as_str(), "external" | "name") && !key.starts_with("x-") {
            let text = format!(r#"{path}: conflicting parameters "external" and "{key}" specified for {what} "{name}""#);
            report.fault(&entry.key, text);
        }
    }
}

fn service(node: &mut Node, path: &str, paths: Paths<'_>, report: &mut Report) {
    for key in ["environment", "labels", "sysctls", "annotations"] {
        if let Some(dict) = field(node, key) {
            dictionary(dict, key != "environment");
        }
    }
    for key in ["dns", "dns_search", "tmpfs", "label_file", "env_file"] {
        if let Some(list) = field(node, key) {
            listed(list);
        }
    }
    for key in ["command", "entrypoint"] {
        if let Some(line) = field(node, key)
            && let Value::Str(text) = &line.value
        {
            match words::split(text) {
                Ok(words) => line.value = Value::List(words.into_iter().map(|w| Node::text(&line.at, w)).collect()),
                Err(cause) => report.fault(&line.at.clone(), format!("{path}.{key}: invalid command line: {cause}")),
            }
        }
    }
    for (key, of_paths) in [("env_file", true), ("label_file", false)] {
        if let Some(list) = field(node, key)
            && let Value::List(items) = &mut list.value
        {
            items.iter_mut().for_each(|item| file_item(item, of_paths, paths));
        }
    }
    if let Some(hosts) = field(node, "extra_hosts") {
        extra_hosts(hosts);
    }
    for key in ["networks", "depends_on"] {
        if let Some(list) = field(node, key)
            && let Value::List(items) = &list.value
        {
            let named = items.iter().filter_map(|n| Some((n.str()?.to_owned(), Node::new(&n.at, Value::Null))));
            list.value = mapping(&list.at.clone(), named.collect::<Vec<_>>()).value;
        }
    }
    if let Some(list) = field(node, "ports") {
        list.value = Value::List(ports::expand(list.items(), &format!("{path}.ports"), paths.raw, report));
    }
    if let Some(list) = field(node, "volumes") {
        list.value = Value::List(volumes::expand(list.items(), &format!("{path}.volumes"), paths, report));
    }
    for key in ["secrets", "configs"] {
        if let Some(list) = field(node, key)
            && let Value::List(items) = &mut list.value
        {
            for (n, item) in items.iter_mut().enumerate() {
                if let Value::Str(source) = &item.value {
                    item.value = mapping(&item.at, [("source".to_owned(), Node::text(&item.at, source.clone()))]).value;
                }
                if item.get("source").is_none() {
                    report.fault(&item.at, format!("{path}.{key}.{n} source is required"));
                }
            }
        }
    }
    if let Some(test) = field(node, "healthcheck").and_then(|h| field(h, "test"))
        && let Value::Str(text) = &test.value
    {
        let items = ["CMD-SHELL", text].map(|t| Node::text(&test.at, t)).into();
        test.value = Value::List(items);
    }
    if let Some(options) = field(node, "logging").and_then(|l| field(l, "options")) {
        dictionary(options, true);
    }
    if let Some(labels) = field(node, "deploy").and_then(|d| field(d, "labels")) {
        dictionary(labels, true);
    }
    if let Some(networks) = field(node, "networks") {
        for (_, entry) in networks.map_mut().into_iter().flatten() {
            if let Some(options) = field(&mut entry.node, "driver_opts") {
                dictionary(options, true);
            }
        }
    }
    if let Some(extends) = field(node, "extends")
        && let Value::Str(name) = &extends.value
    {
        extends.value = mapping(&extends.at, [("service".to_owned(), Node::text(&extends.at, name.clone()))]).value;
    }
}

/// `depends_on` of a merged service in the form that every client reads: a list, unless a condition needs a mapping.
pub(crate) fn plain_dependencies(service: &mut Node) {
    let Some(node) = field(service, "depends_on") else { return };
    let at = node.at.clone();
    let Some(map) = node.map_mut() else { return };
    if map.values().all(|e| matches!(e.node.value, Value::Null)) {
        node.value = Value::List(map.iter().map(|(name, e)| Node::text(&e.key, name.clone())).collect());
        return;
    }
    for entry in map.values_mut().filter(|e| matches!(e.node.value, Value::Null)) {
        let condition = Node::text(&at, "service_started");
        entry.node.value = mapping(&at, [("condition".to_owned(), condition)]).value;
    }
}

/// A list of `KEY=value` becomes a mapping, numbers become text; `filled` makes empty text of what has no value.
fn dictionary(node: &mut Node, filled: bool) {
    let none = || if filled { Value::Str(String::new()) } else { Value::Null };
    match &mut node.value {
        Value::Map(map) => {
            for entry in map.values_mut() {
                entry.node.value = entry.node.scalar().map_or_else(none, Value::Str);
            }
        }
        Value::List(items) => {
            let mut map = Map::new();
            for item in items {
                let Some(text) = item.str() else { continue };
                let (key, value) = text.split_once('=').map_or((text, none()), |(k, v)| (k, Value::Str(v.to_owned())));
                let key = key.trim().to_owned();
                map.insert(key, Entry { key: item.at.clone(), node: Node::new(&item.at, value) });
            }
            node.value = Value::Map(map);
        }
        _ => {}
    }
}

fn listed(node: &mut Node) {
    if let Value::Str(text) = &node.value {
        node.value = Value::List(vec![Node::text(&node.at, text.clone())]);
    }
}

/// A file named by its path, or by a mapping with `path`; the path becomes absolute.
fn file_item(item: &mut Node, as_mapping: bool, paths: Paths<'_>) {
    if let Value::Str(text) = &item.value {
        let path = Node::text(&item.at, paths.absolute_text(text));
        item.value = if as_mapping { mapping(&item.at, [("path".to_owned(), path)]).value } else { path.value };
    } else if let Some(path) = field(item, "path")
        && let Value::Str(text) = &path.value
    {
        path.value = Value::Str(paths.absolute_text(text));
    }
}

/// A mapping of names to addresses becomes a list of `name:address`.
fn extra_hosts(node: &mut Node) {
    let mut made = Vec::new();
    match &node.value {
        Value::Map(map) => {
            for (name, entry) in map {
                let of = |n: &Node| Some(Node::text(&n.at, format!("{name}:{}", n.str()?)));
                made.extend(of(&entry.node));
                made.extend(entry.node.items().iter().filter_map(of));
            }
        }
        Value::List(items) => {
            for item in items {
                let text = item.str().unwrap_or_default();
                // `name=address` is the newer form: an IPv6 address has colons of its own.
                let text = match (text.find('='), text.find(':')) {
                    (Some(equal), colon) if colon.is_none_or(|c| equal < c) => text.replacen('=', ":", 1),
                    _ => text.to_owned(),
                };
                made.push(Node::text(&item.at, text));
            }
        }
        _ => return,
    }
    node.value = Value::List(made);
}
