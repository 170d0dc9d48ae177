//! `node inspect --pretty`.

use serde_json::Value;

use crate::output::human::{binary_size, title};
use crate::output::time::{parse, pretty};

/// A node for people.
pub(super) fn node(n: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let d = &n["Description"];
    let mut out = format!("ID:\t\t\t{}\n", text(&n["ID"]));
    if let Some(name) = n["Spec"]["Name"].as_str().filter(|n| !n.is_empty()) {
        out += &format!("Name:\t\t\t{name}\n");
    }
    let labels = |title: &str, v: &Value| match v.as_object().filter(|l| !l.is_empty()) {
        Some(all) => all.iter().fold(format!("{title}:\n"), |out, (k, v)| {
            let value = v.as_str().unwrap_or_default();
            if value.is_empty() { format!("{out} - {k}\n") } else { format!("{out} - {k}={value}\n") }
        }),
        None => String::new(),
    };
    out += &labels("Labels", &n["Spec"]["Labels"]);
    let at = |v: &Value| v.as_str().and_then(parse).map(pretty).unwrap_or_default();
    out += &format!("Hostname:              \t{}\n", text(&d["Hostname"]));
    out += &format!("Joined at:             \t{}\n", at(&n["CreatedAt"]));
    out += "Status:\n";
    out += &format!(" State:\t\t\t{}\n", title(&text(&n["Status"]["State"])));
    if let Some(message) = n["Status"]["Message"].as_str().filter(|m| !m.is_empty()) {
        out += &format!(" Message:\t\t{}\n", title(message));
    }
    out += &format!(" Availability:         \t{}\n", title(&text(&n["Spec"]["Availability"])));
    if let Some(addr) = n["Status"]["Addr"].as_str().filter(|a| !a.is_empty()) {
        out += &format!(" Address:\t\t{addr}\n");
    }
    if n["ManagerStatus"].is_object() {
        out += "Manager Status:\n";
        out += &format!(" Address:\t\t{}\n", text(&n["ManagerStatus"]["Addr"]));
        out += &format!(" Raft Status:\t\t{}\n", title(&text(&n["ManagerStatus"]["Reachability"])));
        out += &format!(" Leader:\t\t{}\n", if n["ManagerStatus"]["Leader"] == true { "Yes" } else { "No" });
    }
    out += "Platform:\n";
    out += &format!(" Operating System:\t{}\n", text(&d["Platform"]["OS"]));
    out += &format!(" Architecture:\t\t{}\n", text(&d["Platform"]["Architecture"]));
    out += "Resources:\n";
    out += &format!(" CPUs:\t\t\t{}\n", d["Resources"]["NanoCPUs"].as_i64().unwrap_or(0) / 1_000_000_000);
    out += &format!(" Memory:\t\t{}\n", binary_size(d["Resources"]["MemoryBytes"].as_i64().unwrap_or(0)));
    let plugins = d["Engine"]["Plugins"].as_array().cloned().unwrap_or_default();
    if !plugins.is_empty() {
        out += "Plugins:\n";
        let mut kinds: Vec<String> = plugins.iter().map(|p| text(&p["Type"])).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let names: Vec<String> = plugins.iter().filter(|p| p["Type"] == kind.as_str()).map(|p| text(&p["Name"])).collect();
            out += &format!(" {kind}:\t\t{}\n", names.join(", "));
        }
    }
    out += &format!("Engine Version:\t\t{}\n", text(&d["Engine"]["EngineVersion"]));
    out += &labels("Engine Labels", &d["Engine"]["Labels"]);
    let tls = &d["TLSInfo"];
    if let Some(root) = tls["TrustRoot"].as_str().filter(|r| !r.is_empty()) {
        out += &format!("TLS Info:\n TrustRoot:\n{root}\n");
        out += &format!(" Issuer Subject:\t{}\n", text(&tls["CertIssuerSubject"]));
        out += &format!(" Issuer Public Key:\t{}\n", text(&tls["CertIssuerPublicKey"]));
    }
    out
}
