//! The body of a service: its container and how it is attached.

use serde_json::{Value as JsonValue, json};

use super::{Body, IMAGE, Maker, flag, pairs, text, texts};
use crate::node::{Node, Value};

/// What a reference to a secret or config shows in the container unless the file says otherwise.
const FILE_MODE: u32 = 0o444;
/// Networks that are no user's: they have no names, so a service gets no alias there.
const BUILT_IN: &[&str] = &["host", "bridge", "none", "default"];

impl Maker<'_> {
    pub(super) fn service(&mut self, key: &str, name: &str, node: &Node) -> JsonValue {
        let path = format!("services.{key}");
        let image = text(node, "image").unwrap_or_default();
        if image.is_empty() {
            self.report.fault(&node.at, format!("{path}: invalid image reference for service {key}: no image specified"));
        }
        let deploy = node.get("deploy").cloned().unwrap_or_else(|| Node::new(&node.at, Value::Null));
        let mut labels = self.labels(&deploy);
        labels.insert(IMAGE.to_owned(), json!(image));
        let mut task = Body::default();
        task.put("ContainerSpec", self.container(node, image, &path));
        task.put("Networks", self.attachments(key, node, &path));
        task.maybe("LogDriver", log_driver(node));
        task.filled("Resources", self.resources(node, &deploy, &path));
        task.maybe("RestartPolicy", self.restart_policy(node, &deploy, &path));
        task.put("Placement", self.placement(node, &deploy, &path));
        let deploy_path = format!("{path}.deploy");
        let mut body = Body::default();
        body.put("Name", name).put("Labels", labels).put("TaskTemplate", task.done());
        body.put("Mode", self.service_mode(node, &deploy, &path));
        body.maybe("UpdateConfig", self.update_config(&deploy, "update_config", &deploy_path));
        body.maybe("RollbackConfig", self.update_config(&deploy, "rollback_config", &deploy_path));
        body.put("EndpointSpec", self.endpoint(node, &deploy, &path));
        body.done()
    }

    fn container(&mut self, node: &Node, image: &str, path: &str) -> JsonValue {
        let mut body = Body::default();
        body.put("Image", image).put("Labels", self.labels(node));
        body.filled("Command", texts(node, "entrypoint")).filled("Args", texts(node, "command"));
        for (key, field) in [("hostname", "Hostname"), ("working_dir", "Dir"), ("user", "User"), ("stop_signal", "StopSignal")]
        {
            body.maybe(field, text(node, key));
        }
        body.filled("Env", environment(node));
        body.filled("Groups", texts(node, "group_add"));
        for (key, field) in [("tty", "TTY"), ("stdin_open", "OpenStdin"), ("read_only", "ReadOnly"), ("init", "Init")] {
            body.maybe(field, flag(node, key));
        }
        body.maybe("StopGracePeriod", self.duration(node, "stop_grace_period", path));
        body.maybe("Healthcheck", self.healthcheck(node, path));
        body.filled("Hosts", self.hosts(node, path));
        let mut dns = Body::default();
        dns.filled("Nameservers", texts(node, "dns")).filled("Search", texts(node, "dns_search"));
        dns.filled("Options", texts(node, "dns_opt"));
        body.filled("DNSConfig", dns.done());
        body.filled("Mounts", self.mounts(node, path));
        body.filled("Secrets", self.references(node, "secrets", path));
        body.filled("Configs", self.references(node, "configs", path));
        body.filled("Sysctls", pairs(node, "sysctls"));
        body.filled("CapabilityAdd", capabilities(node, "cap_add"));
        body.filled("CapabilityDrop", capabilities(node, "cap_drop"));
        body.filled("Ulimits", self.ulimits(node, path));
        if let Some(Node { value: Value::Int(score), at, .. }) = node.get("oom_score_adj") {
            if !(-1000..=1000).contains(score) {
                self.report.fault(at, format!("{path}.oom_score_adj must be between -1000 and 1000, not {score}"));
            }
            body.put("OomScoreAdj", *score);
        }
        body.done()
    }

    fn healthcheck(&mut self, node: &Node, path: &str) -> Option<JsonValue> {
        let check = node.get("healthcheck")?;
        let path = format!("{path}.healthcheck");
        let test = texts(check, "test");
        if flag(check, "disable") == Some(true) {
            if !test.is_empty() && test != ["NONE"] {
                self.report.fault(&check.at, format!("{path}: test and disable can't be set at the same time"));
            }
            return Some(json!({"Test": ["NONE"]}));
        }
        if let Some(first) = test.first()
            && !["NONE", "CMD", "CMD-SHELL"].contains(&first.as_str())
        {
            let at = check.get("test").map_or(&check.at, |n| &n.at);
            self.report.fault(at, format!("{path}.test must begin with NONE, CMD or CMD-SHELL, not {first:?}"));
        }
        let mut body = Body::default();
        body.filled("Test", test);
        for (key, field) in [
            ("interval", "Interval"),
            ("timeout", "Timeout"),
            ("start_period", "StartPeriod"),
            ("start_interval", "StartInterval"),
        ] {
            body.maybe(field, self.duration(check, key, &path));
        }
        body.maybe("Retries", self.number(check, "retries", &path));
        Some(body.done())
    }

    /// `name:address` as the engine wants it: `address name`.
    fn hosts(&mut self, node: &Node, path: &str) -> Vec<String> {
        let mut hosts = Vec::new();
        for (n, item) in node.get("extra_hosts").map(Node::items).unwrap_or_default().iter().enumerate() {
            let spec = item.str().unwrap_or_default();
            match spec.split_once(':') {
                Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                    let address = address.trim_matches(['[', ']']);
                    hosts.push(format!("{address} {name}"));
                }
                _ => self.report.fault(&item.at, format!("{path}.extra_hosts.{n}: bad format for add-host: {spec:?}")),
            }
        }
        hosts
    }

    fn ulimits(&mut self, node: &Node, path: &str) -> Vec<JsonValue> {
        let mut limits = Vec::new();
        for (name, entry) in node.get("ulimits").into_iter().flat_map(Node::entries) {
            let number = |n: Option<&Node>| match n.map(|n| &n.value) {
                Some(Value::Int(n)) => *n,
                _ => 0,
            };
            let (soft, hard) = match &entry.node.value {
                Value::Int(both) => (*both, *both),
                _ => (number(entry.node.get("soft")), number(entry.node.get("hard"))),
            };
            if hard != -1 && (soft > hard || soft == -1) {
                let text = format!("{path}.ulimits.{name}: ulimit soft limit must be less than or equal to hard limit");
                self.report.fault(&entry.node.at, format!("{text}: {soft} > {hard}"));
            }
            limits.push(json!({"Name": name, "Soft": soft, "Hard": hard}));
        }
        limits
    }

    /// References to secrets or configs, by the objects' names.
    fn references(&mut self, node: &Node, kind: &str, path: &str) -> Vec<JsonValue> {
        let what = kind.trim_end_matches('s');
        let name_field = if kind == "secrets" { "SecretName" } else { "ConfigName" };
        let mut made: Vec<(String, JsonValue)> = Vec::new();
        for (n, item) in node.get(kind).map(Node::items).unwrap_or_default().iter().enumerate() {
            let source = text(item, "source").unwrap_or_default();
            let Some(name) = self.object_name(kind, source) else {
                let at = item.get("source").map_or(&item.at, |n| &n.at);
                self.report.fault(at, format!("{path}.{kind}.{n}: undefined {what} {source:?}"));
                continue;
            };
            let target = text(item, "target").filter(|t| !t.is_empty()).unwrap_or(source);
            let mode = self.mode(item, &format!("{path}.{kind}.{n}")).unwrap_or(FILE_MODE);
            let id = |key| text(item, key).filter(|t| !t.is_empty()).unwrap_or("0").to_owned();
            let file = json!({"Name": target, "UID": id("uid"), "GID": id("gid"), "Mode": mode});
            made.push((name.clone(), json!({"File": file, name_field: name})));
        }
        made.sort_by(|a, b| (&a.0, a.1["File"]["Name"].as_str()).cmp(&(&b.0, b.1["File"]["Name"].as_str())));
        made.into_iter().map(|(_, body)| body).collect()
    }

    /// The networks of a service; without any it is on the stack's own.
    fn attachments(&mut self, key: &str, node: &Node, path: &str) -> Vec<JsonValue> {
        let empty = Node::new(&node.at, Value::Null);
        let mut chosen: Vec<(&str, &crate::place::Place, &Node)> =
            node.get("networks").into_iter().flat_map(Node::entries).map(|(k, e)| (k.as_str(), &e.key, &e.node)).collect();
        if chosen.is_empty() {
            chosen.push(("default", &node.at, &empty));
        }
        let mut made = Vec::new();
        for (network, at, options) in chosen {
            let Some(target) = self.network_name(network) else {
                self.report.fault(at, format!("{path}.networks.{network}: undefined network {network:?}"));
                continue;
            };
            self.networks.entry(network.to_owned()).or_insert_with(|| at.clone());
            let mut body = Body::default();
            if !BUILT_IN.contains(&target.as_str()) {
                let mut aliases = texts(options, "aliases");
                aliases.push(key.to_owned());
                let mut seen = std::collections::BTreeSet::new();
                aliases.retain(|a| seen.insert(a.clone()));
                body.put("Aliases", aliases);
            }
            body.filled("DriverOpts", pairs(options, "driver_opts"));
            body.put("Target", target);
            made.push(body.done());
        }
        made.sort_by(|a, b| a["Target"].as_str().cmp(&b["Target"].as_str()));
        made
    }
}

/// `KEY=value`, or `KEY` alone for a variable that is taken from the image; sorted.
fn environment(node: &Node) -> Vec<String> {
    let entries = node.get("environment").into_iter().flat_map(Node::entries);
    let mut list: Vec<String> =
        entries.map(|(k, e)| e.node.scalar().map_or_else(|| k.clone(), |value| format!("{k}={value}"))).collect();
    list.sort();
    list
}

/// `CAP_…` in upper case, sorted.
fn capabilities(node: &Node, key: &str) -> Vec<String> {
    let full = |name: String| {
        let name = name.to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let mut list: Vec<String> = texts(node, key).into_iter().map(full).collect();
    list.sort();
    list.dedup();
    list
}

fn log_driver(node: &Node) -> Option<JsonValue> {
    let logging = node.get("logging")?;
    let mut body = Body::default();
    body.put("Name", text(logging, "driver").unwrap_or_default());
    body.filled("Options", pairs(logging, "options"));
    Some(body.done())
}
