//! Networks, secrets and configs of a stack.

use serde_json::{Value as JsonValue, json};
use sha2::{Digest as _, Sha256};

use super::{Body, Maker, flag, pairs, text};
use crate::limits;
use crate::node::Node;
use crate::stack::{Data, Network, Object, Stack};

/// How often a secret's digest is hashed again. Names of versions and labels are seen by more people than secrets are; guessing a
/// weak password from them must cost. A thousandth of a second or two for each secret of a deploy.
const ROUNDS: usize = 10_000;
/// Digits of a digest in a version's name.
const SHORT: usize = 8;
/// Longest name of a secret or config (`swarm-semantics` 2.4).
const NAME_LENGTH: usize = 64;

/// The name of the version of a secret or config that has this digest: `<name>_<first 8 digits>`, the name cut so that it fits.
///
/// The first version has the plain name, as the stock client gives it. When the content of a file changes, a secret cannot: a new
/// object with this name is created, the services refer to it and are updated, and older versions are removed once nothing
/// refers to them.
#[must_use]
pub fn version_name(name: &str, digest: &str) -> String {
    let short: String = digest.chars().take(SHORT).collect();
    let kept: String = name.chars().take(NAME_LENGTH - SHORT - 1).collect();
    format!("{kept}_{short}")
}

/// Tells one content from another. The same content under two names has two digests.
fn digest(name: &str, bytes: &[u8], rounds: usize) -> String {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name.as_bytes());
    hash.update(bytes);
    let mut state = hash.finalize();
    for _ in 1..rounds {
        let mut hash = Sha256::new();
        hash.update(state);
        state = hash.finalize();
    }
    state.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Maker<'_> {
    /// The name of a secret or config in the swarm; none if the file does not define it.
    pub(super) fn object_name(&self, kind: &str, key: &str) -> Option<String> {
        let node = &self.project.root.get(kind)?.map()?.get(key)?.node;
        let given = text(node, "name").map(str::to_owned);
        Some(given.unwrap_or_else(|| if external(node) { key.to_owned() } else { self.scoped(key) }))
    }

    /// The secrets or configs that the stack has of its own.
    pub(super) fn objects(&mut self, kind: &str) -> Vec<Object> {
        let mut made: Vec<Object> = Vec::new();
        let Some(section) = self.project.root.get(kind) else { return made };
        for (key, entry) in section.entries() {
            let node = &entry.node;
            if external(node) {
                continue;
            }
            let path = format!("{kind}.{key}");
            let Some(name) = self.object_name(kind, key) else { continue };
            self.check_object_name(&name, &path, &entry.key);
            let mut body = Body::default();
            body.put("Name", name.clone()).put("Labels", self.labels(node));
            body.maybe("Templating", text(node, "template_driver").map(|driver| json!({"Name": driver})));
            let data = match text(node, "driver") {
                Some(driver) => {
                    let mut settings = Body::default();
                    settings.put("Name", driver).filled("Options", pairs(node, "driver_opts"));
                    body.put("Driver", settings.done());
                    None
                }
                None => self.data(kind, &name, key, node),
            };
            made.push(Object { name, key: key.clone(), place: entry.key.clone(), body: body.done(), data });
        }
        made.sort_by(|a, b| a.name.cmp(&b.name));
        made
    }

    fn check_object_name(&mut self, name: &str, path: &str, at: &crate::place::Place) {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let good =
            name.len() <= NAME_LENGTH && name.chars().all(inner) && ends(name.chars().next()) && ends(name.chars().next_back());
        if !good {
            let text = "only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]";
            self.report.fault(at, format!("{path}: invalid name {name:?}, {text}"));
        }
    }

    fn data(&mut self, kind: &str, name: &str, key: &str, node: &Node) -> Option<Data> {
        let path = format!("{kind}.{key}");
        let what = kind.trim_end_matches('s');
        let (most, rounds) = if kind == "secrets" { (limits::SECRET_BYTES, ROUNDS) } else { (limits::CONFIG_BYTES, 1) };
        let sources = ["file", "environment", "content"].map(|k| node.get(k));
        let (bytes, at) = match sources {
            [Some(file), None, None] => {
                let shown = file.str().unwrap_or_default();
                let read = self.files.read(std::path::Path::new(shown), most);
                let cause = match read {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => Err(format!("{path}.file: open {shown}: no such file or directory")),
                    Err(cause) => Err(format!("{path}.file: read {shown}: {cause}")),
                };
                match cause {
                    Ok(bytes) => (bytes, &file.at),
                    Err(text) => {
                        self.report.fault(&file.at, text);
                        return None;
                    }
                }
            }
            [None, Some(variable), None] => {
                let variable_name = variable.str().unwrap_or_default();
                match self.project.variables.get(variable_name) {
                    Some(value) => (value.clone().into_bytes(), &variable.at),
                    None => {
                        let text = format!("{path}.environment: environment variable {variable_name:?} is not set");
                        self.report.fault(&variable.at, text);
                        return None;
                    }
                }
            }
            [None, None, Some(content)] => (content.scalar().unwrap_or_default().into_bytes(), &content.at),
            [None, None, None] => {
                let text = format!("{path}: where its content comes from is missing: file, environment or external");
                self.report.fault(&node.at, text);
                return None;
            }
            _ => {
                self.report.fault(&node.at, format!("{path}: file, environment and content exclude each other"));
                return None;
            }
        };
        if bytes.is_empty() || bytes.len() > most {
            let text = format!("{what} data must be larger than 0 and less than {} bytes", most + 1);
            self.report.fault(at, format!("{path}: {text}"));
            return None;
        }
        let digest = digest(name, &bytes, rounds);
        Some(Data { bytes, digest })
    }

    /// The name of a network in the swarm; none if the file does not define it.
    pub(super) fn network_name(&self, key: &str) -> Option<String> {
        let Some(entry) = self.project.root.get("networks").and_then(|n| n.map()?.get(key)) else {
            return (key == "default").then(|| self.scoped(key));
        };
        let given = text(&entry.node, "name").map(str::to_owned);
        Some(given.unwrap_or_else(|| if external(&entry.node) { key.to_owned() } else { self.scoped(key) }))
    }

    /// The networks that services use.
    pub(super) fn finish_networks(&mut self, stack: &mut Stack) {
        let used = std::mem::take(&mut self.networks);
        for (key, place) in used {
            let Some(name) = self.network_name(&key) else { continue };
            let entry = self.project.root.get("networks").and_then(|n| n.map()?.get(&key));
            let none = Node::new(&place, crate::node::Value::Null);
            let node = entry.map_or(&none, |e| &e.node);
            let place = entry.map_or(&place, |e| &e.key);
            if external(node) {
                stack.external_networks.push((name, place.clone()));
                continue;
            }
            self.dns_name(&name, &format!("networks.{key}"), place);
            let body = self.network(&name, node);
            stack.networks.push(Network { name, key, body });
        }
        stack.networks.sort_by(|a, b| a.name.cmp(&b.name));
        stack.external_networks.sort();
        stack.external_networks.dedup_by(|a, b| a.0 == b.0);
    }

    fn network(&mut self, name: &str, node: &Node) -> JsonValue {
        let mut body = Body::default();
        body.put("Name", name).put("Driver", text(node, "driver").filter(|d| !d.is_empty()).unwrap_or("overlay"));
        body.put("Labels", self.labels(node)).filled("Options", pairs(node, "driver_opts"));
        for (key, field) in [
            ("internal", "Internal"),
            ("attachable", "Attachable"),
            ("enable_ipv4", "EnableIPv4"),
            ("enable_ipv6", "EnableIPv6"),
        ] {
            body.maybe(field, flag(node, key));
        }
        if let Some(ipam) = node.get("ipam") {
            let mut settings = Body::default();
            settings.maybe("Driver", text(ipam, "driver")).filled("Options", pairs(ipam, "options"));
            let mut pools = Vec::new();
            for pool in ipam.get("config").map(Node::items).unwrap_or_default() {
                let mut made = Body::default();
                made.maybe("Subnet", text(pool, "subnet")).maybe("IPRange", text(pool, "ip_range"));
                made.maybe("Gateway", text(pool, "gateway")).filled("AuxiliaryAddresses", pairs(pool, "aux_addresses"));
                pools.push(made.done());
            }
            settings.filled("Config", pools);
            body.filled("IPAM", settings.done());
        }
        body.done()
    }
}

fn external(node: &Node) -> bool {
    flag(node, "external") == Some(true)
}
