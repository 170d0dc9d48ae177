//! `service inspect --pretty` (`swarm-semantics` 1.6).

use serde_json::Value;

use crate::grammar::values::show_duration;
use crate::output::human::{ago_text, binary_size};

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn words(v: &Value) -> String {
    v.as_array().map(|a| a.iter().map(text).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// A line, if there is a value.
fn line(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(" {name}:\t{value}\n") }
}

fn roll_out(title: &str, c: &Value, kind: &str) -> String {
    if !c.is_object() {
        return String::new();
    }
    let span = |k: &str| c[k].as_i64().filter(|n| *n > 0).map(show_duration).unwrap_or_default();
    let mut out = format!("{title}:\n Parallelism:\t{}\n", c["Parallelism"].as_u64().unwrap_or(0));
    let delay = span("Delay");
    if !delay.is_empty() {
        out += &format!(" Delay:\t\t{delay}\n");
    }
    out += &line("On failure", &text(&c["FailureAction"]));
    let monitor = span("Monitor");
    if !monitor.is_empty() {
        out += &format!(" Monitoring Period: {monitor}\n");
    }
    out += &format!(" Max failure ratio: {}\n", c["MaxFailureRatio"].as_f64().unwrap_or(0.0));
    out + &format!(" {:<18} {}\n", format!("{kind} order:"), text(&c["Order"]))
}

fn container(c: &Value) -> String {
    let mut out = format!("ContainerSpec:\n Image:\t\t{}\n", text(&c["Image"]));
    out += &line("Command", &words(&c["Command"]));
    // The stock client sets each of these in its own way.
    for (name, value, end) in [("Args", words(&c["Args"]), " "), ("Env", words(&c["Env"]), " "), ("Dir", text(&c["Dir"]), "")] {
        if !value.is_empty() {
            out += &format!(" {name}:\t\t{value}{end}\n");
        }
    }
    if let Some(init) = c["Init"].as_bool() {
        out += &format!(" Init:\t\t{init}\n");
    }
    if let Some(user) = c["User"].as_str().filter(|u| !u.is_empty()) {
        out += &format!(" User: {user}\n");
    }
    out += &line("Capabilities", &words(&c["CapabilityAdd"]));
    if let Some(all) = c["Sysctls"].as_object().filter(|s| !s.is_empty()) {
        out += "SysCtls:\n";
        out += &all.iter().map(|(k, v)| format!(" {k}:\t{}\n", text(v))).collect::<String>();
    }
    if let Some(all) = c["Ulimits"].as_array().filter(|u| !u.is_empty()) {
        out += "Ulimits:\n";
        out += &all.iter().map(|u| format!(" {}: {}:{}\n", text(&u["Name"]), u["Soft"], u["Hard"])).collect::<String>();
    }
    if let Some(all) = c["Mounts"].as_array().filter(|u| !u.is_empty()) {
        out += "Mounts:\n";
        for mount in all {
            let read_only = mount["ReadOnly"] == true;
            out += &format!(
                " Target:\t{}\n  Source:\t{}\n  ReadOnly:\t{read_only}\n  Type:\t\t{}\n",
                text(&mount["Target"]),
                text(&mount["Source"]),
                text(&mount["Type"])
            );
        }
    }
    for (title, key, name) in [("Configs", "Configs", "ConfigName"), ("Secrets", "Secrets", "SecretName")] {
        if let Some(all) = c[key].as_array().filter(|u| !u.is_empty()) {
            out += &format!("{title}:\n");
            for one in all {
                out += &format!(" Target:\t{}\n  Source:\t{}\n", text(&one["File"]["Name"]), text(&one[name]));
            }
        }
    }
    out
}

fn resources(r: &Value) -> String {
    let mut out = String::new();
    for (title, key) in [("Reservations", "Reservations"), ("Limits", "Limits")] {
        let (cpus, memory) = (r[key]["NanoCPUs"].as_i64().unwrap_or(0), r[key]["MemoryBytes"].as_i64().unwrap_or(0));
        if cpus > 0 || memory > 0 {
            out += &format!(" {title}:\n");
            if cpus > 0 {
                out += &format!("  CPU:\t\t{}\n", cpus as f64 / 1e9);
            }
            if memory > 0 {
                out += &format!("  Memory:\t{}\n", binary_size(memory));
            }
        }
    }
    format!("Resources:\n{out}")
}

fn health(h: &Value) -> String {
    if !h.is_object() {
        return String::new();
    }
    let span = |k: &str| show_duration(h[k].as_i64().unwrap_or(0));
    let tests = h["Test"].as_array().into_iter().flatten().map(|t| format!("\t Test = {}", text(t))).collect::<Vec<_>>();
    // With a space after the last, as the stock client has it.
    let tests = if tests.is_empty() { String::new() } else { format!("{} \n", tests.join("\n")) };
    format!(
        " Healthcheck:\n  Interval = {}\n  Retries = {}\n  StartPeriod =\t{}\n  Timeout =\t{}\n  Tests:\n{}",
        span("Interval"),
        h["Retries"].as_i64().unwrap_or(0),
        span("StartPeriod"),
        span("Timeout"),
        tests
    )
}

/// A service for people; `networks` are the names by ids.
pub(super) fn service(s: &Value, networks: &Value) -> String {
    let spec = &s["Spec"];
    let task = &spec["TaskTemplate"];
    let mut out = format!("\nID:\t\t{}\nName:\t\t{}\n", text(&s["ID"]), text(&spec["Name"]));
    if let Some(labels) = spec["Labels"].as_object().filter(|l| !l.is_empty()) {
        out += "Labels:\n";
        out += &labels.iter().map(|(k, v)| format!(" {k}={}\n", text(v))).collect::<String>();
    }
    let mode = &spec["Mode"];
    if mode.get("Global").is_some() {
        out += "Service Mode:\tGlobal\n";
    } else if mode.get("Replicated").is_some() {
        out += &format!("Service Mode:\tReplicated\n Replicas:\t{}\n", mode["Replicated"]["Replicas"].as_u64().unwrap_or(1));
    }
    let update = &s["UpdateStatus"];
    if let Some(state) = update["State"].as_str().filter(|s| !s.is_empty()) {
        out += &format!("UpdateStatus:\n State:\t\t{state}\n");
        for (name, key) in [("Started", "StartedAt"), ("Completed", "CompletedAt")] {
            if let Some(at) = update[key].as_str() {
                out += &format!(" {name}:\t{}\n", ago_text(at).to_lowercase());
            }
        }
        out += &format!(" Message:\t{}\n", text(&update["Message"]));
    }
    let placement = &task["Placement"];
    let constraints = placement["Constraints"].as_array().filter(|c| !c.is_empty());
    let preferences = placement["Preferences"].as_array().filter(|c| !c.is_empty());
    let most = placement["MaxReplicas"].as_u64().filter(|n| *n > 0);
    out += "Placement:\n";
    if let Some(all) = constraints {
        out += &format!(" Constraints:\t{:?}\n", all.iter().map(text).collect::<Vec<_>>())
            .replace("\", \"", " ")
            .replace(['"'], "");
    }
    if let Some(all) = preferences {
        let by: Vec<String> = all.iter().map(|p| format!("spread={}", text(&p["Spread"]["SpreadDescriptor"]))).collect();
        out += &format!(" Preferences:\t{}\n", by.join(", "));
    }
    if let Some(most) = most {
        out += &format!(" Max Replicas Per Node:\t{most}\n");
    }
    out += &roll_out("UpdateConfig", &spec["UpdateConfig"], "Update");
    out += &roll_out("RollbackConfig", &spec["RollbackConfig"], "Rollback");
    out += &container(&task["ContainerSpec"]);
    if let Some(name) = task["LogDriver"]["Name"].as_str().filter(|n| !n.is_empty()) {
        out += &format!("Log Driver:\n Name:\t\t{name}\n");
    }
    out += &resources(&task["Resources"]);
    let attached = task["Networks"].as_array().or_else(|| spec["Networks"].as_array());
    if let Some(all) = attached.filter(|a| !a.is_empty()) {
        let name = |n: &Value| {
            let found = networks.as_array().into_iter().flatten().find(|o| o["Id"] == n["Target"]);
            found.map_or_else(|| text(&n["Target"]), |o| text(&o["Name"]))
        };
        out += &format!("Networks: {} \n", all.iter().map(name).collect::<Vec<_>>().join(" "));
    }
    out += &format!("Endpoint Mode:\t{}\n", s["Endpoint"]["Spec"]["Mode"].as_str().unwrap_or("vip"));
    if let Some(all) = s["Endpoint"]["Ports"].as_array().filter(|p| !p.is_empty()) {
        out += "Ports:\n";
        for p in all {
            out += &format!(
                " PublishedPort = {}\n  Protocol = {}\n  TargetPort = {}\n  PublishMode = {} \n",
                p["PublishedPort"].as_u64().unwrap_or(0),
                text(&p["Protocol"]),
                p["TargetPort"],
                text(&p["PublishMode"])
            );
        }
    }
    out + &health(&task["ContainerSpec"]["Healthcheck"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn what_matters_is_shown() {
        let s = json!({
            "ID": "i", "Endpoint": {"Spec": {"Mode": "vip"}, "Ports": [{"PublishedPort": 80, "Protocol": "tcp", "TargetPort": 8000, "PublishMode": "ingress"}]},
            "UpdateStatus": {"State": "completed", "Message": "update completed"},
            "Spec": {
                "Name": "web", "Mode": {"Replicated": {"Replicas": 3}},
                "UpdateConfig": {"Parallelism": 1, "Delay": 10_000_000_000_i64, "FailureAction": "pause", "Order": "stop-first"},
                "TaskTemplate": {"ContainerSpec": {"Image": "nginx:1", "Env": ["A=1"]}, "Networks": [{"Target": "n1"}],
                    "Placement": {"Constraints": ["a==b", "c==d"]}},
            },
        });
        let shown = super::service(&s, &json!([{"Id": "n1", "Name": "demo"}]));
        for line in [
            "Service Mode:\tReplicated",
            " Replicas:\t3",
            " State:\t\tcompleted",
            " Delay:\t\t10s",
            " Constraints:\t[a==b c==d]",
            " Env:\t\tA=1 ",
            "Networks: demo ",
            "Endpoint Mode:\tvip",
            " PublishedPort = 80",
        ] {
            assert!(shown.lines().any(|l| l == line), "{line:?} in {shown}");
        }
    }
}
