//! Drivers of secrets, with the fields that SwarmKit sends (its `manager/drivers`): who wants which secret. The answer is kept nowhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use skep_types::file::{DriverAnswer, DriverAsk};
use skep_types::spec::{EndpointMode, PortConfig, Protocol, PublishMode};

use super::{Plugins, SECRETS};

/// How long a driver may take; a task that starts waits for it.
const LIMIT: Duration = Duration::from_secs(10);

/// Leaves out what is empty or zero, as Go's encoder does with these fields.
fn filled(all: Value) -> Value {
    let is_empty = |v: &Value| match v {
        Value::String(s) => s.is_empty(),
        Value::Number(n) => n.as_u64() == Some(0),
        Value::Object(o) => o.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => v.is_null(),
    };
    match all {
        Value::Object(all) => all.into_iter().filter(|(_, v)| !is_empty(v)).collect::<Map<_, _>>().into(),
        other => other,
    }
}

fn port(p: &PortConfig) -> Value {
    // The numbers of SwarmKit's enumerations.
    let protocol = match p.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    let mode = match p.mode {
        PublishMode::Ingress => 0,
        PublishMode::Host => 1,
    };
    filled(json!({
        "Name": p.name, "Protocol": protocol, "TargetPort": p.target, "PublishedPort": p.published, "PublishMode": mode,
    }))
}

fn body(ask: &DriverAsk) -> Value {
    let mode = match ask.endpoint.mode {
        EndpointMode::Vip => 0,
        EndpointMode::Dnsrr => 1,
    };
    let mut endpoint = filled(json!({"Mode": mode}));
    let ports: Vec<Value> = ask.endpoint.ports.iter().map(port).collect();
    if !ports.is_empty() {
        endpoint["Ports"] = ports.into();
    }
    let mut out = filled(json!({
        "SecretName": ask.name, "SecretLabels": ask.labels, "ServiceID": ask.service_id, "ServiceName": ask.service,
        "ServiceLabels": ask.service_labels, "ServiceHostname": ask.hostname, "TaskID": ask.task_id, "TaskName": ask.task,
        "TaskImage": ask.image, "NodeID": ask.node,
    }));
    out["ServiceEndpointSpec"] = endpoint;
    out
}

impl Plugins {
    /// Asks the driver of a secret.
    ///
    /// # Errors
    /// In words that name the plugin.
    pub async fn secret(&self, ask: &DriverAsk) -> Result<DriverAnswer, String> {
        let who = (ask.driver.as_str(), SECRETS, "secret");
        let said = self.call(who, "SecretProvider.GetSecret", &body(ask), LIMIT).await.map_err(|f| f.text().to_owned())?;
        let bad = || format!("secret plugin {}: SecretProvider.GetSecret gave a Value that is not base64", ask.driver);
        let data = STANDARD.decode(said["Value"].as_str().unwrap_or_default()).map_err(|_| bad())?;
        Ok(DriverAnswer { data: data.into(), once: said["DoNotReuse"].as_bool().unwrap_or(false) })
    }
}

#[cfg(test)]
mod tests {
    use skep_types::spec::EndpointSpec;

    use super::*;

    #[test]
    fn the_question_has_the_fields_of_swarmkit() {
        let port = |protocol| PortConfig {
            name: String::new(),
            protocol,
            target: 53,
            published: 5353,
            mode: PublishMode::Host,
            host_ip: None,
        };
        let ask = DriverAsk {
            driver: "vault".into(),
            name: "db".into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            service_id: "s1".into(),
            service: "web".into(),
            service_labels: [].into(),
            hostname: String::new(),
            endpoint: EndpointSpec { mode: EndpointMode::Dnsrr, ports: [Protocol::Udp, Protocol::Sctp].map(port).into() },
            task_id: "t1".into(),
            task: "web.1.t1".into(),
            image: "i".into(),
            node: "n1".into(),
        };
        let expected = json!({
            "SecretName": "db", "SecretLabels": {"a": "b"}, "ServiceID": "s1", "ServiceName": "web", "TaskID": "t1",
            "TaskName": "web.1.t1", "TaskImage": "i", "NodeID": "n1",
            "ServiceEndpointSpec": {"Mode": 1, "Ports": [
                {"Protocol": 1, "TargetPort": 53, "PublishedPort": 5353, "PublishMode": 1},
                {"Protocol": 2, "TargetPort": 53, "PublishedPort": 5353, "PublishMode": 1},
            ]},
        });
        assert_eq!(body(&ask), expected);
    }
}
