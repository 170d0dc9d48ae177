//! One merged tree to the bodies of the Engine API (`swarm-semantics` 9.2 to 9.4).
//!
//! Lists are sorted wherever their order means nothing, so that deploying the same files again changes nothing.

mod deploy;
mod mounts;
mod objects;
mod service;

use std::collections::BTreeMap;

use serde_json::{Map as Json, Value as JsonValue};

pub use objects::version_name;

use crate::load::{Files, Project};
use crate::node::{Node, Value};
use crate::place::{Faults, Place, Report};
use crate::stack::Stack;
use crate::values;

/// The label that makes an object part of a stack.
const NAMESPACE: &str = "com.docker.stack.namespace";
/// The label of a service with its image as written.
const IMAGE: &str = "com.docker.stack.image";
/// Longest name of a service or network: a label of DNS.
const NAME_LENGTH: usize = 63;

impl Project {
    /// Makes the stack of a name. Files of secrets and configs are read.
    ///
    /// # Errors
    /// All that is wrong, with places; a name that is none at the first file's beginning (`invalid stack name: ""`).
    pub fn stack(&self, name: &str, files: &dyn Files) -> Result<Stack, Faults> {
        let mut maker = Maker { project: self, stack: name, files, report: Report::default(), networks: BTreeMap::new() };
        if let Err(text) = check_name(name) {
            maker.report.fault(&self.root.at, text);
        }
        if !self.interpolated {
            maker.report.fault(&self.root.at, "the variables were not put in: no stack can be made of this");
        }
        self.warnings.iter().for_each(|w| maker.report.warn(w.clone()));
        let mut stack = Stack {
            name: name.to_owned(),
            networks: Vec::new(),
            external_networks: Vec::new(),
            secrets: maker.objects("secrets"),
            configs: maker.objects("configs"),
            services: maker.services(),
            warnings: Vec::new(),
        };
        maker.finish_networks(&mut stack);
        stack.warnings = maker.report.finish()?;
        Ok(stack)
    }
}

/// Checks a stack's name.
///
/// # Errors
/// Docker's text.
pub fn check_name(name: &str) -> Result<(), String> {
    let blank = name.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).is_empty();
    if blank { Err(format!("invalid stack name: {name:?}")) } else { Ok(()) }
}

struct Maker<'a> {
    project: &'a Project,
    stack: &'a str,
    files: &'a dyn Files,
    report: Report,
    /// Networks that services use, by their keys in the file, and where the first of them does.
    networks: BTreeMap<String, Place>,
}

/// A JSON object that leaves out what is absent.
#[derive(Default)]
struct Body(Json<String, JsonValue>);

impl Body {
    fn put(&mut self, key: &str, value: impl Into<JsonValue>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn maybe(&mut self, key: &str, value: Option<impl Into<JsonValue>>) -> &mut Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    /// A list or an object, unless it is empty.
    fn filled(&mut self, key: &str, value: impl Into<JsonValue>) -> &mut Self {
        let value = value.into();
        let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Json::is_empty);
        if !empty {
            self.put(key, value);
        }
        self
    }

    fn done(self) -> JsonValue {
        JsonValue::Object(self.0)
    }
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key)?.str()
}

fn flag(node: &Node, key: &str) -> Option<bool> {
    match node.get(key)?.value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

/// The texts of a list.
fn texts(node: &Node, key: &str) -> Vec<String> {
    node.get(key).map(Node::items).unwrap_or_default().iter().filter_map(Node::scalar).collect()
}

/// The texts of a mapping.
fn pairs(node: &Node, key: &str) -> Json<String, JsonValue> {
    let entries = node.get(key).into_iter().flat_map(Node::entries);
    entries.map(|(k, e)| (k.clone(), JsonValue::String(e.node.scalar().unwrap_or_default()))).collect()
}

impl Maker<'_> {
    /// `<stack>_<key>`.
    fn scoped(&self, key: &str) -> String {
        format!("{}_{key}", self.stack)
    }

    /// Labels of the file, and the stack's.
    fn labels(&self, node: &Node) -> Json<String, JsonValue> {
        let mut labels = pairs(node, "labels");
        labels.insert(NAMESPACE.to_owned(), JsonValue::String(self.stack.to_owned()));
        labels
    }

    /// A number that is not negative.
    fn number(&mut self, node: &Node, key: &str, path: &str) -> Option<u64> {
        let node = node.get(key)?;
        let Value::Int(number) = node.value else { return None };
        let positive = u64::try_from(number).ok();
        if positive.is_none() {
            self.report.fault(&node.at, format!("{path}.{key} must be 0 or more, not {number}"));
        }
        positive
    }

    /// A duration in nanoseconds.
    fn duration(&mut self, node: &Node, key: &str, path: &str) -> Option<i64> {
        let node = node.get(key)?;
        let text = node.str()?;
        let read = values::duration(text);
        if read.is_none() {
            let cause = format!("time: invalid duration {text:?} (write 30s, 1m30s or 2h)");
            self.report.fault(&node.at, format!("{path}.{key} must be a duration: {cause}"));
        }
        read
    }

    /// A size in bytes.
    fn bytes(&mut self, node: &Node, key: &str, path: &str) -> Option<i64> {
        let node = node.get(key)?;
        let text = node.scalar()?;
        let read = values::bytes(&text);
        if read.is_none() {
            self.report.fault(&node.at, format!("{path}.{key}: invalid size: '{text}' (write 512M or 2G)"));
        }
        read
    }

    /// Processors in billionths.
    fn cpus(&mut self, node: &Node, key: &str, path: &str) -> Option<i64> {
        let node = node.get(key)?;
        let text = node.scalar()?;
        let read = values::nano_cpus(&text);
        if read.is_none() {
            self.report.fault(&node.at, format!("{path}.{key}: failed to parse {text:?} as a number of processors"));
        }
        read
    }

    /// A mode of a file: a number, or text in octal digits.
    fn mode(&mut self, node: &Node, path: &str) -> Option<u32> {
        let node = node.get("mode")?;
        let read = match &node.value {
            Value::Int(number) => u32::try_from(*number).ok(),
            Value::Str(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
            _ => None,
        };
        let read = read.filter(|m| *m <= 0o7777);
        if read.is_none() {
            self.report.fault(&node.at, format!("{path}.mode: invalid file mode (write 0440)"));
        }
        read
    }

    /// One of some words, in any case.
    fn word(&mut self, node: &Node, key: &str, path: &str, words: &[&str]) -> Option<String> {
        let node = node.get(key)?;
        let word = node.str()?.to_ascii_lowercase();
        if words.contains(&word.as_str()) {
            return Some(word);
        }
        self.report.fault(&node.at, format!("{path}.{key} must be one of {}, not {word:?}", words.join(", ")));
        None
    }

    /// Whether a name can be a service's or a network's.
    fn dns_name(&mut self, name: &str, what: &str, at: &Place) {
        let parts = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if name.chars().count() > NAME_LENGTH {
            self.report.fault(at, format!("{what}: name must be 63 characters or fewer: {name}"));
        } else if !(name.chars().all(parts) && ends(name.chars().next()) && ends(name.chars().next_back())) {
            self.report.fault(at, format!("{what}: name must be valid as a DNS name component: {name}"));
        }
    }

    fn services(&mut self) -> Vec<crate::stack::Service> {
        let Some(services) = self.project.root.get("services") else { return Vec::new() };
        let mut made = Vec::new();
        for (key, entry) in services.entries() {
            let name = self.scoped(key);
            self.dns_name(&name, &format!("services.{key}"), &entry.key);
            let body = self.service(key, &name, &entry.node);
            let image = text(&entry.node, "image").unwrap_or_default().to_owned();
            made.push(crate::stack::Service { name, key: key.clone(), image, place: entry.key.clone(), body });
        }
        made.sort_by(|a, b| a.name.cmp(&b.name));
        made
    }
}
