//! `info`, in the layout that scripts read (`info | grep -i swarm`).

use serde_json::Value;

use crate::app::{App, DOCKER_VERSION, Failure};
use crate::grammar::Matches;
use crate::grammar::values::show_duration;
use crate::output::human::{binary_size, span};
use crate::output::{list, print, warn};

pub(super) async fn info(app: &App, m: &Matches) -> Result<u8, Failure> {
    let asked = match app.client().await {
        Ok(client) => client.call("GET", "/info", None).await.map_err(Failure::from),
        Err(e) => Err(e),
    };
    if let Some(format) = m.text("format").filter(|f| !f.is_empty()) {
        print(&(list::apply(format, &asked?)? + "\n"))?;
        return Ok(0);
    }
    let mut out =
        format!("Client:\n Version:    {DOCKER_VERSION}\n Context:    {}\n Debug Mode: false\n\nServer:\n", app.context);
    match &asked {
        Ok(info) => out += &server(info),
        Err(failure) => {
            print(&out)?;
            return Err(Failure::new(failure.message.clone()));
        }
    }
    print(&out)?;
    for warning in asked.iter().flat_map(|i| i["Warnings"].as_array().into_iter().flatten()).filter_map(Value::as_str) {
        warn(warning);
    }
    Ok(0)
}

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The daemon's part.
fn server(i: &Value) -> String {
    let mut out = String::new();
    for (name, key) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
    ] {
        out += &format!(" {name}: {}\n", i[key].as_i64().unwrap_or(0));
    }
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!(" {name}: {value}\n");
        }
    };
    line("Server Version", text(&i["ServerVersion"]));
    line("Storage Driver", text(&i["Driver"]));
    for pair in i["DriverStatus"].as_array().into_iter().flatten() {
        line(&format!(" {}", text(&pair[0])), text(&pair[1]));
    }
    line("Logging Driver", text(&i["LoggingDriver"]));
    line("Cgroup Driver", text(&i["CgroupDriver"]));
    line("Cgroup Version", text(&i["CgroupVersion"]));
    let plugins = &i["Plugins"];
    let names = |k: &str| plugins[k].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    out += " Plugins:\n";
    for (name, key) in [("Volume", "Volume"), ("Network", "Network"), ("Authorization", "Authorization"), ("Log", "Log")] {
        let all = names(key);
        if !all.is_empty() {
            out += &format!("  {name}: {all}\n");
        }
    }
    out += &swarm(&i["Swarm"]);
    let runtimes = i["Runtimes"].as_object().map(|r| r.keys().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!(" {name}: {value}\n");
        }
    };
    line("Runtimes", runtimes);
    line("Default Runtime", text(&i["DefaultRuntime"]));
    out += &format!(" Init Binary: {}\n", text(&i["InitBinary"]));
    for (name, key) in [("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")] {
        out += &format!(" {name} version: {}\n", text(&i[key]["ID"]));
    }
    out += &security(&i["SecurityOptions"]);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!(" {name}: {value}\n");
        }
    };
    line("Kernel Version", text(&i["KernelVersion"]));
    line("Operating System", text(&i["OperatingSystem"]));
    line("OSType", text(&i["OSType"]));
    line("Architecture", text(&i["Architecture"]));
    line("CPUs", i["NCPU"].as_i64().unwrap_or(0).to_string());
    line("Total Memory", binary_size(i["MemTotal"].as_i64().unwrap_or(0)));
    line("Name", text(&i["Name"]));
    line("ID", text(&i["ID"]));
    line("Docker Root Dir", text(&i["DockerRootDir"]));
    line("Debug Mode", i["Debug"].as_bool().unwrap_or(false).to_string());
    line("HTTP Proxy", text(&i["HttpProxy"]));
    line("HTTPS Proxy", text(&i["HttpsProxy"]));
    line("No Proxy", text(&i["NoProxy"]));
    if let Some(labels) = i["Labels"].as_array().filter(|l| !l.is_empty()) {
        out += " Labels:\n";
        out += &labels.iter().map(|l| format!("  {}\n", text(l))).collect::<String>();
    }
    out += &format!(" Experimental: {}\n", i["ExperimentalBuild"].as_bool().unwrap_or(false));
    let registry = &i["RegistryConfig"];
    let mut insecure: Vec<String> = registry["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, c)| c["Secure"] == false)
        .map(|(name, _)| name.clone())
        .collect();
    insecure.extend(registry["InsecureRegistryCIDRs"].as_array().into_iter().flatten().map(text));
    if !insecure.is_empty() {
        out += " Insecure Registries:\n";
        out += &insecure.iter().map(|r| format!("  {r}\n")).collect::<String>();
    }
    if let Some(mirrors) = registry["Mirrors"].as_array().filter(|m| !m.is_empty()) {
        out += " Registry Mirrors:\n";
        out += &mirrors.iter().map(|r| format!("  {}\n", text(r))).collect::<String>();
    }
    out += &format!(" Live Restore Enabled: {}\n", i["LiveRestoreEnabled"].as_bool().unwrap_or(false));
    let license = text(&i["ProductLicense"]);
    if !license.is_empty() {
        out += &format!(" Product License: {license}\n");
    }
    out += "\n";
    out
}

/// `name=seccomp,profile=builtin` as lines.
fn security(all: &Value) -> String {
    let mut out = String::new();
    for option in all.as_array().into_iter().flatten().filter_map(Value::as_str) {
        for (key, value) in option.split(',').filter_map(|p| p.split_once('=')) {
            out += &if key == "name" {
                format!("  {value}\n")
            } else {
                format!("   {}: {value}\n", crate::output::human::title(key))
            };
        }
    }
    if out.is_empty() { out } else { format!(" Security Options:\n{out}") }
}

/// The swarm's part.
fn swarm(s: &Value) -> String {
    let state = text(&s["LocalNodeState"]);
    let mut out = format!(" Swarm: {state}\n");
    if matches!(state.as_str(), "inactive" | "locked" | "") {
        return out;
    }
    out += &format!("  NodeID: {}\n", text(&s["NodeID"]));
    let error = text(&s["Error"]);
    if !error.is_empty() {
        out += &format!("  Error: {error}\n");
    }
    let manager = s["ControlAvailable"] == true;
    out += &format!("  Is Manager: {manager}\n");
    let c = &s["Cluster"];
    if manager && error.is_empty() && c.is_object() {
        let spec = &c["Spec"];
        let number = |v: &Value| v.as_i64().unwrap_or(0);
        out += &format!("  ClusterID: {}\n", text(&c["ID"]));
        out += &format!("  Managers: {}\n  Nodes: {}\n", number(&s["Managers"]), number(&s["Nodes"]));
        let pools: Vec<String> = c["DefaultAddrPool"].as_array().into_iter().flatten().map(text).collect();
        out += &format!("  Default Address Pool: {}  \n", pools.join("  "));
        out += &format!("  SubnetSize: {}\n", number(&c["SubnetSize"]));
        out += &format!("  Data Path Port: {}\n", number(&c["DataPathPort"]));
        let limit = spec["Orchestration"]["TaskHistoryRetentionLimit"].as_i64().unwrap_or(0);
        out += &format!("  Orchestration:\n   Task History Retention Limit: {limit}\n");
        let raft = &spec["Raft"];
        out += &format!("  Raft:\n   Snapshot Interval: {}\n", number(&raft["SnapshotInterval"]));
        if let Some(keep) = raft["KeepOldSnapshots"].as_i64() {
            out += &format!("   Number of Old Snapshots to Retain: {keep}\n");
        }
        out += &format!(
            "   Heartbeat Tick: {}\n   Election Tick: {}\n",
            number(&raft["HeartbeatTick"]),
            number(&raft["ElectionTick"])
        );
        let heartbeat = number(&spec["Dispatcher"]["HeartbeatPeriod"]);
        out += &format!("  Dispatcher:\n   Heartbeat Period: {}\n", words_or_time(heartbeat));
        let ca = &spec["CAConfig"];
        out += &format!("  CA Configuration:\n   Expiry Duration: {}\n", span(i128::from(number(&ca["NodeCertExpiry"]))));
        out += &format!("   Force Rotate: {}\n", number(&ca["ForceRotate"]));
        let root = text(&ca["SigningCACert"]);
        if !root.trim().is_empty() {
            out += &format!("   Signing CA Certificate: \n{}\n\n", root.trim());
        }
        if let Some(all) = ca["ExternalCAs"].as_array().filter(|a| !a.is_empty()) {
            out += "   External CAs:\n";
            out += &all.iter().map(|e| format!("     {}: {}\n", text(&e["Protocol"]), text(&e["URL"]))).collect::<String>();
        }
        out += &format!("  Autolock Managers: {}\n", spec["EncryptionConfig"]["AutoLockManagers"] == true);
        out += &format!("  Root Rotation In Progress: {}\n", c["RootRotationInProgress"] == true);
    }
    out += &format!("  Node Address: {}\n", text(&s["NodeAddr"]));
    let mut managers: Vec<String> = s["RemoteManagers"].as_array().into_iter().flatten().map(|m| text(&m["Addr"])).collect();
    if !managers.is_empty() {
        managers.sort();
        out += "  Manager Addresses:\n";
        out += &managers.iter().map(|m| format!("   {m}\n")).collect::<String>();
    }
    out
}

/// `5 seconds`; what is no whole number of seconds as a time.
fn words_or_time(nanos: i64) -> String {
    if nanos % 1_000_000_000 == 0 { span(i128::from(nanos)) } else { show_duration(nanos) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_swarm_s_part() {
        assert_eq!(swarm(&json!({"LocalNodeState": "inactive"})), " Swarm: inactive\n");
        let s = json!({
            "LocalNodeState": "active", "NodeID": "n", "ControlAvailable": true, "NodeAddr": "10.0.0.1", "Managers": 1, "Nodes": 2,
            "RemoteManagers": [{"Addr": "10.0.0.2:2377"}, {"Addr": "10.0.0.1:2377"}],
            "Cluster": {"ID": "c", "DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 24, "DataPathPort": 4789,
                "Spec": {"Orchestration": {"TaskHistoryRetentionLimit": 5}, "Raft": {"SnapshotInterval": 10000, "HeartbeatTick": 1,
                    "ElectionTick": 10, "KeepOldSnapshots": 0}, "Dispatcher": {"HeartbeatPeriod": 5_000_000_000_i64},
                    "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000_i64}}},
        });
        let shown = swarm(&s);
        for line in [
            " Swarm: active",
            "  NodeID: n",
            "  Is Manager: true",
            "  ClusterID: c",
            "   Task History Retention Limit: 5",
            "   Heartbeat Period: 5 seconds",
            "   Expiry Duration: 3 months",
            "  Node Address: 10.0.0.1",
            "   10.0.0.1:2377",
        ] {
            assert!(shown.lines().any(|l| l == line), "{line} in {shown}");
        }
    }
}
