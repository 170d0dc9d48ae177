//! The `deploy` key, and the keys outside it that say the same.

use serde_json::{Value as JsonValue, json};

use super::{Body, Maker, text, texts};
use crate::node::{Node, Value};

impl Maker<'_> {
    pub(super) fn service_mode(&mut self, node: &Node, deploy: &Node, path: &str) -> JsonValue {
        let mode =
            self.word(deploy, "mode", &format!("{path}.deploy"), &["replicated", "global", "replicated-job", "global-job"]);
        let mode = mode.unwrap_or_else(|| "replicated".to_owned());
        let given = self.number(deploy, "replicas", &format!("{path}.deploy"));
        let given = given.or_else(|| self.number(node, "scale", path));
        if mode.starts_with("global")
            && let Some(count) = deploy.get("replicas").or_else(|| node.get("scale"))
        {
            let text = "replicas can only be used with replicated or replicated-job mode";
            self.report.fault(&count.at, format!("{path}.deploy.replicas: {text}"));
        }
        let replicas = given.unwrap_or(1);
        match mode.as_str() {
            "global" => json!({"Global": {}}),
            "global-job" => json!({"GlobalJob": {}}),
            "replicated-job" => json!({"ReplicatedJob": {"MaxConcurrent": replicas, "TotalCompletions": replicas}}),
            _ => json!({"Replicated": {"Replicas": replicas}}),
        }
    }

    pub(super) fn endpoint(&mut self, node: &Node, deploy: &Node, path: &str) -> JsonValue {
        let mut ports: Vec<JsonValue> = Vec::new();
        for port in node.get("ports").map(Node::items).unwrap_or_default() {
            let number = |key| match port.get(key).map(|n| &n.value) {
                Some(Value::Int(n)) => Some(*n),
                _ => None,
            };
            let mut body = Body::default();
            body.maybe("Name", text(port, "name"));
            body.put("Protocol", text(port, "protocol").unwrap_or("tcp"));
            body.maybe("TargetPort", number("target")).maybe("PublishedPort", number("published"));
            body.put("PublishMode", text(port, "mode").unwrap_or("ingress"));
            ports.push(body.done());
        }
        let key = |p: &JsonValue| {
            let number = |field: &str| p[field].as_i64().unwrap_or(0);
            (number("PublishedPort"), number("TargetPort"), p["Protocol"].as_str().unwrap_or_default().to_owned())
        };
        ports.sort_by_key(key);
        ports.dedup();
        let mut body = Body::default();
        body.maybe("Mode", self.word(deploy, "endpoint_mode", &format!("{path}.deploy"), &["vip", "dnsrr"]));
        body.filled("Ports", ports);
        body.done()
    }

    pub(super) fn resources(&mut self, node: &Node, deploy: &Node, path: &str) -> JsonValue {
        let none = Node::new(&node.at, Value::Null);
        let resources = deploy.get("resources").unwrap_or(&none);
        let limits = resources.get("limits").unwrap_or(&none);
        let reservations = resources.get("reservations").unwrap_or(&none);
        let under = |name: &str| format!("{path}.deploy.resources.{name}");
        let mut limit = Body::default();
        let cpus = self.cpus(limits, "cpus", &under("limits")).or_else(|| self.cpus(node, "cpus", path));
        let memory = self.bytes(limits, "memory", &under("limits")).or_else(|| self.bytes(node, "mem_limit", path));
        let pids = self.number(limits, "pids", &under("limits"));
        // The older key knows -1 for no limit.
        let pids = pids.or_else(|| match node.get("pids_limit").map(|n| &n.value) {
            Some(Value::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        });
        limit.maybe("NanoCPUs", cpus).maybe("MemoryBytes", memory).maybe("Pids", pids);
        let mut reserved = Body::default();
        reserved.maybe("NanoCPUs", self.cpus(reservations, "cpus", &under("reservations")));
        let memory = self.bytes(reservations, "memory", &under("reservations"));
        reserved.maybe("MemoryBytes", memory.or_else(|| self.bytes(node, "mem_reservation", path)));
        let generic = self.generic_resources(reservations, &under("reservations"));
        reserved.filled("GenericResources", generic);
        let mut body = Body::default();
        body.filled("Limits", limit.done()).filled("Reservations", reserved.done());
        body.done()
    }

    fn generic_resources(&mut self, reservations: &Node, path: &str) -> Vec<JsonValue> {
        let mut made = Vec::new();
        for (n, item) in reservations.get("generic_resources").map(Node::items).unwrap_or_default().iter().enumerate() {
            let spec = item.get("discrete_resource_spec");
            let kind = spec.and_then(|s| text(s, "kind")).filter(|k| !k.is_empty());
            let value = spec.and_then(|s| s.get("value")).and_then(|v| match v.value {
                Value::Int(n) if n > 0 => Some(n),
                _ => None,
            });
            match (kind, value) {
                (Some(kind), Some(value)) => made.push(json!({"DiscreteResourceSpec": {"Kind": kind, "Value": value}})),
                _ => {
                    let text = "discrete_resource_spec needs a kind and a value above 0";
                    self.report.fault(&item.at, format!("{path}.generic_resources.{n}: {text}"));
                }
            }
        }
        made
    }

    pub(super) fn restart_policy(&mut self, node: &Node, deploy: &Node, path: &str) -> Option<JsonValue> {
        let Some(policy) = deploy.get("restart_policy") else { return self.restart(node, path) };
        let path = format!("{path}.deploy.restart_policy");
        let mut body = Body::default();
        body.maybe("Condition", self.word(policy, "condition", &path, &["none", "on-failure", "any"]));
        body.maybe("Delay", self.duration(policy, "delay", &path));
        body.maybe("MaxAttempts", self.number(policy, "max_attempts", &path));
        body.maybe("Window", self.duration(policy, "window", &path));
        Some(body.done())
    }

    /// The `restart` of a container, used where there is no `deploy.restart_policy`.
    fn restart(&mut self, node: &Node, path: &str) -> Option<JsonValue> {
        let restart = node.get("restart")?;
        let (word, count) = restart.str()?.split_once(':').map_or((restart.str()?, None), |(w, c)| (w, Some(c)));
        let attempts = count.map(str::parse::<u64>);
        match (word, attempts) {
            ("" | "no", None) => None,
            ("always" | "unless-stopped", None) => Some(json!({"Condition": "any"})),
            ("on-failure", None) => Some(json!({"Condition": "on-failure"})),
            ("on-failure", Some(Ok(attempts))) => Some(json!({"Condition": "on-failure", "MaxAttempts": attempts})),
            _ => {
                let text = format!("{path}.restart: unknown restart policy: {}", restart.str()?);
                self.report.fault(&restart.at, text);
                None
            }
        }
    }

    pub(super) fn placement(&mut self, node: &Node, deploy: &Node, path: &str) -> JsonValue {
        let none = Node::new(&node.at, Value::Null);
        let placement = deploy.get("placement").unwrap_or(&none);
        let mut body = Body::default();
        body.filled("Constraints", texts(placement, "constraints"));
        let preferences = placement.get("preferences").map(Node::items).unwrap_or_default();
        let spread = |n: &Node| Some(json!({"Spread": {"SpreadDescriptor": text(n, "spread")?}}));
        body.filled("Preferences", preferences.iter().filter_map(spread).collect::<Vec<_>>());
        body.maybe("MaxReplicas", self.number(placement, "max_replicas_per_node", &format!("{path}.deploy.placement")));
        if let Some(platform) = node.get("platform") {
            let mut parts = platform.str().unwrap_or_default().splitn(3, '/');
            match (parts.next(), parts.next()) {
                (Some(os), Some(architecture)) if !os.is_empty() && !architecture.is_empty() => {
                    body.put("Platforms", json!([{"OS": os, "Architecture": architecture}]));
                }
                _ => self.report.fault(&platform.at, format!("{path}.platform must be OS/ARCHITECTURE, as linux/amd64")),
            }
        }
        body.done()
    }

    /// `update_config` or `rollback_config`, whole: what is absent has the stock client's default.
    pub(super) fn update_config(&mut self, deploy: &Node, key: &str, path: &str) -> Option<JsonValue> {
        let config = deploy.get(key)?;
        let path = format!("{path}.{key}");
        let actions: &[&str] = if key == "update_config" { &["pause", "continue", "rollback"] } else { &["pause", "continue"] };
        let mut body = Body::default();
        body.put("Parallelism", self.number(config, "parallelism", &path).unwrap_or(1));
        body.maybe("Delay", self.duration(config, "delay", &path));
        body.maybe("FailureAction", self.word(config, "failure_action", &path, actions));
        body.maybe("Monitor", self.duration(config, "monitor", &path));
        if let Some(ratio) = config.get("max_failure_ratio") {
            let value = ratio.scalar().and_then(|t| t.parse::<f64>().ok()).filter(|r| (0.0..=1.0).contains(r));
            if value.is_none() {
                self.report.fault(&ratio.at, format!("{path}.max_failure_ratio must be between 0 and 1"));
            }
            body.maybe("MaxFailureRatio", value);
        }
        body.maybe("Order", text(config, "order"));
        Some(body.done())
    }
}
