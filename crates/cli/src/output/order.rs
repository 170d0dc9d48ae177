//! The order of fields in objects of the swarm: what is first for a reader is first, whatever order the daemon writes. Users know
//! it from the stock client. Numbers and times are written as there, too.

use serde_json::Value;

/// Fields in their order. One list does for all objects, as no two of them have the same fields in another order.
const ORDER: &[&str] = &[
    "ID",
    "Version",
    "CreatedAt",
    "UpdatedAt",
    "Spec",
    "PreviousSpec",
    "Endpoint",
    "UpdateStatus",
    "JobStatus",
    "Description",
    "Status",
    "ManagerStatus",
    "Type",
    "Source",
    "Name",
    "Image",
    "Labels",
    "Role",
    "Availability",
    "Command",
    "Args",
    "Hostname",
    "Platform",
    "Architecture",
    "OS",
    "Env",
    "Dir",
    "User",
    "Groups",
    "Privileges",
    "Init",
    "StopSignal",
    "TTY",
    "Target",
    "Aliases",
    "ReadOnly",
    "Mounts",
    "StopGracePeriod",
    "Healthcheck",
    "Hosts",
    "DNSConfig",
    "File",
    "SecretID",
    "SecretName",
    "ConfigID",
    "ConfigName",
    "Secrets",
    "Configs",
    "Isolation",
    "Sysctls",
    "CapabilityAdd",
    "CapabilityDrop",
    "Ulimits",
    "OomScoreAdj",
    "TaskTemplate",
    "ContainerSpec",
    "Resources",
    "Limits",
    "Reservations",
    "NanoCPUs",
    "MemoryBytes",
    "Pids",
    "GenericResources",
    "RestartPolicy",
    "Condition",
    "Placement",
    "Constraints",
    "Preferences",
    "MaxReplicas",
    "Platforms",
    "Networks",
    "LogDriver",
    "ForceUpdate",
    "Runtime",
    "UID",
    "GID",
    "Mode",
    "UpdateConfig",
    "RollbackConfig",
    "EndpointSpec",
    "Parallelism",
    "Delay",
    "FailureAction",
    "Monitor",
    "MaxFailureRatio",
    "Order",
    "MaxAttempts",
    "Window",
    "Protocol",
    "TargetPort",
    "PublishedPort",
    "PublishMode",
    "Ports",
    "VirtualIPs",
    "NetworkID",
    "State",
    "StartedAt",
    "CompletedAt",
    "Message",
    "Leader",
    "Reachability",
    "Addr",
    "Engine",
    "EngineVersion",
    "Plugins",
    "TLSInfo",
    "TrustRoot",
    "CertIssuerSubject",
    "CertIssuerPublicKey",
    "Test",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Retries",
    "Nameservers",
    "Search",
    "Options",
    "Data",
    "Driver",
    "Templating",
];

/// Deepest that is ordered; daemons' objects are some ten levels deep.
const MAX_DEPTH: usize = 100;

/// JSON of an object of the swarm with its fields in their order; text that is no JSON stays as it is.
#[must_use]
pub fn ordered(json: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return json.to_owned() };
    let mut out = String::with_capacity(json.len());
    write(&value, "", 0, &mut out);
    out
}

/// Whether a field is left out by the stock client when it is empty, though daemons may write it.
fn left_out(parent: &str, key: &str, value: &Value) -> bool {
    match (parent, key) {
        ("Engine", "Labels") => value.as_object().is_some_and(serde_json::Map::is_empty),
        ("ContainerSpec", "OomScoreAdj") => value == 0,
        _ => false,
    }
}

fn write(value: &Value, key: &str, depth: usize, out: &mut String) {
    match value {
        _ if depth > MAX_DEPTH => out.push_str(&value.to_string()),
        Value::Object(map) => {
            let rank = |k: &str| ORDER.iter().position(|o| *o == k).unwrap_or(ORDER.len());
            // Labels and options are the user's: theirs stay in the order of the alphabet.
            let own = matches!(key, "Labels" | "Options" | "Sysctls" | "DriverOpts");
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.retain(|(k, v)| !left_out(key, k, v));
            if !own {
                fields.sort_by_key(|(k, _)| rank(k));
            }
            out.push('{');
            for (i, (k, v)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(k.as_str()).to_string());
                out.push(':');
                write(v, k, depth + 1, out);
            }
            out.push('}');
        }
        Value::Array(all) => {
            out.push('[');
            for (i, v) in all.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(v, "", depth + 1, out);
            }
            out.push(']');
        }
        // Go writes whole numbers without a point, and times without trailing zeros.
        Value::Number(n) if n.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 1e15) && n.is_f64() => {
            out.push_str(&format!("{:.0}", n.as_f64().unwrap_or(0.0)));
        }
        Value::String(s) if key.ends_with("At") || key == "Timestamp" => {
            let trimmed = match s.strip_suffix('Z').and_then(|t| t.split_once('.')) {
                Some((whole, part)) => {
                    let part = part.trim_end_matches('0');
                    if part.is_empty() { format!("{whole}Z") } else { format!("{whole}.{part}Z") }
                }
                None => s.clone(),
            };
            out.push_str(&super::list::go_json(&Value::from(trimmed)));
        }
        other => out.push_str(&super::list::go_json(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::ordered;

    #[test]
    fn fields_are_as_readers_know_them() {
        let json = r#"{"Spec":{"TaskTemplate":{},"Name":"web","Labels":{"b":"1","Name":"2","a":"<"}},"CreatedAt":"2026-01-01T00:00:00.120Z","ID":"x","Zoo":0.0,"R":0.5}"#;
        let want = r#"{"ID":"x","CreatedAt":"2026-01-01T00:00:00.12Z","Spec":{"Name":"web","Labels":{"Name":"2","a":"\u003c","b":"1"},"TaskTemplate":{}},"R":0.5,"Zoo":0}"#;
        assert_eq!(ordered(json), want);
        assert_eq!(ordered("no json"), "no json");
    }
}
