//! What comes after the merge: profiles, and the files that `env_file` and `label_file` name.

use std::path::Path;

use super::Loader;
use crate::dotenv;
use crate::interpolate::Variables;
use crate::node::{Entry, Map, Node, Value};
use crate::place::Fault;
use crate::yaml::TOO_MUCH;

impl Loader<'_> {
    /// Leaves out services whose profiles are not active.
    pub(super) fn profiles(&mut self, root: &mut Node, variables: &Variables) {
        let active: Vec<&str> =
            variables.get("COMPOSE_PROFILES").map(|p| p.split(',').map(str::trim).collect()).unwrap_or_default();
        let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")) else { return };
        for (_, entry) in services.node.map_mut().into_iter().flatten() {
            if let Some(list) = entry.node.get("profiles") {
                let on = |n: &Node| n.str().is_some_and(|p| active.contains(&p) || active.contains(&"*"));
                let keep = list.items().is_empty() || list.items().iter().any(on);
                if !keep {
                    entry.node.value = Value::Null;
                }
            }
        }
        if let Some(map) = services.node.map_mut() {
            map.retain(|_, e| !matches!(e.node.value, Value::Null));
        }
    }

    /// Puts `env_file` and `label_file` into `environment` and `labels`, and the caller's values into variables without one.
    pub(super) fn surroundings(&mut self, root: &mut Node, variables: &Variables) {
        if !self.options.interpolate {
            return;
        }
        // The stock client reads these files as they are; the Compose Specification knows quotes and variables in them.
        let stock = root.get("version").is_some();
        let Some(services) = root.map_mut().and_then(|m| m.get_mut("services")) else { return };
        for (name, entry) in services.node.map_mut().into_iter().flatten() {
            for (key, target) in [("env_file", "environment"), ("label_file", "labels")] {
                let found = self.named_files(&entry.node, name, key, stock, variables);
                let Some(map) = entry.node.map_mut() else { continue };
                let Some(listed) = map.remove(key) else { continue };
                let own = map.entry(target.to_owned()).or_insert_with(|| Entry {
                    node: Node::new(&listed.node.at, Value::Map(Map::new())),
                    key: listed.key.clone(),
                });
                if let Some(own) = own.node.map_mut() {
                    for (key, entry) in found {
                        own.entry(key).or_insert(entry);
                    }
                }
            }
            let Some(environment) = entry.node.map_mut().and_then(|m| m.get_mut("environment")) else { continue };
            for (key, entry) in environment.node.map_mut().into_iter().flatten() {
                let open = match &entry.node.value {
                    Value::Null => true,
                    Value::Str(text) => stock && text.is_empty(),
                    _ => false,
                };
                if open && let Some(value) = variables.get(key) {
                    entry.node.value = Value::Str(value.clone());
                }
            }
        }
    }

    fn named_files(&mut self, service: &Node, name: &str, key: &str, stock: bool, variables: &Variables) -> Map {
        let mut found = Map::new();
        for item in service.get(key).map(Node::items).unwrap_or_default() {
            let path = item.get("path").unwrap_or(item).str().unwrap_or_default();
            let needed = !matches!(item.get("required").map(|n| &n.value), Some(Value::Bool(false)));
            let raw = item.get("format").and_then(Node::str).map_or(stock, |f| f == "raw");
            let path = Path::new(path);
            let shown = self.shown(path);
            let bytes = match self.optional(path, &item.at, &shown) {
                None => continue,
                Some(None) if !needed => continue,
                Some(None) => {
                    self.report.fault(&item.at, format!("services.{name}.{key}: open {shown}: no such file or directory"));
                    continue;
                }
                Some(Some(bytes)) => bytes,
            };
            match dotenv::parse(&shown, &bytes, variables, raw) {
                Ok(variables) => {
                    let (count, size) = variables
                        .iter()
                        .fold((0, 0), |(n, s), (k, v)| (n + 1, s + k.len() + v.as_ref().map_or(0, String::len)));
                    if !self.budget.pay(count, size) {
                        self.report.fault(&item.at, TOO_MUCH);
                        continue;
                    }
                    for (key, value) in variables {
                        if let Some(value) = value {
                            found.insert(key, Entry { key: item.at.clone(), node: Node::text(&item.at, value) });
                        }
                    }
                }
                Err(Fault { place, text }) => self.report.fault(&place, text),
            }
        }
        found
    }
}
