//! `swarm ca`: the root certificate, and its change with the progress of the nodes.

use std::time::Duration;

use serde_json::{Value, json};

use super::{change_spec_ca, pem, send_spec};
use crate::app::{App, Failure};
use crate::client::Client;
use crate::grammar::Matches;
use crate::output::print;
use crate::progress::show::Screen;

/// How often the nodes are counted.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn ca(app: &App, m: &Matches) -> Result<u8, Failure> {
    if !m.on("rotate") {
        for flag in ["ca-cert", "ca-key", "cert-expiry", "external-ca"] {
            if m.given(flag) {
                return Err(Failure::new(format!("`--{flag}` flag requires the `--rotate` flag to update the CA")));
            }
        }
        let swarm = app.client().await?.call("GET", "/swarm", None).await?;
        return show_root(&swarm);
    }
    if m.given("ca-key") && !m.given("ca-cert") {
        return Err(Failure::new("the --ca-key flag requires that a --ca-cert flag and value be provided as well"));
    }
    if m.given("ca-cert") && !m.given("ca-key") && !m.given("external-ca") {
        return Err(Failure::new(
            "rotating to an external CA requires the `--external-ca` flag to specify the external CA's address",
        ));
    }
    let client = app.client().await?;
    let swarm = client.call("GET", "/swarm", None).await?;
    let mut spec = swarm["Spec"].clone();
    change_spec_ca(&mut spec, m)?;
    let own = m.given("ca-cert");
    if let Some(cert) = m.text("ca-cert") {
        spec["CAConfig"]["SigningCACert"] = pem(cert).map_err(Failure::new)?.into();
    }
    match m.text("ca-key") {
        Some(key) => spec["CAConfig"]["SigningCAKey"] = pem(key).map_err(Failure::new)?.into(),
        None => spec["CAConfig"]["SigningCAKey"] = "".into(),
    }
    if !own {
        let force = spec["CAConfig"]["ForceRotate"].as_u64().unwrap_or(0);
        spec["CAConfig"]["ForceRotate"] = json!(force + 1);
        spec["CAConfig"]["SigningCACert"] = "".into();
    }
    send_spec(client, &swarm, &spec, "").await?;
    if m.on("detach") {
        return Ok(0);
    }
    follow(client, m.on("quiet")).await
}

fn show_root(swarm: &Value) -> Result<u8, Failure> {
    match swarm["TLSInfo"]["TrustRoot"].as_str().filter(|r| !r.is_empty()) {
        Some(root) => {
            print(&format!("{}\n", root.trim_end()))?;
            Ok(0)
        }
        None => Err(Failure::new("No CA information available")),
    }
}

/// The rows of a change under way.
fn rows(swarm: &Value, nodes: &[Value]) -> Vec<String> {
    let wanted = &swarm["TLSInfo"];
    let root = wanted["TrustRoot"].as_str().unwrap_or_default();
    let count = |key: &str| nodes.iter().filter(|n| n["Description"]["TLSInfo"][key] == wanted[key]).count();
    let issued = nodes
        .iter()
        .filter(|n| {
            let own = &n["Description"]["TLSInfo"];
            own["CertIssuerPublicKey"] == wanted["CertIssuerPublicKey"]
                && own["CertIssuerSubject"] == wanted["CertIssuerSubject"]
        })
        .count();
    let all = nodes.len();
    vec![
        format!("desired root digest: {}", digest(root)),
        format!("  rotated TLS certificates:  {issued}/{all} nodes"),
        format!("  rotated CA certificates:   {}/{all} nodes", count("TrustRoot")),
    ]
}

fn digest(root: &str) -> String {
    use sha2::Digest;
    let hex: String = sha2::Sha256::digest(root.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Shows how nodes get new certificates, until all have.
async fn follow(client: &Client, quiet: bool) -> Result<u8, Failure> {
    let mut screen = Screen::new(quiet);
    loop {
        let swarm = client.call("GET", "/swarm", None).await?;
        let nodes = client.call("GET", "/nodes", None).await?;
        screen.rows(&rows(&swarm, nodes.as_array().map(Vec::as_slice).unwrap_or_default()))?;
        if swarm["RootRotationInProgress"] != true {
            return show_root(&swarm);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => {
                print("Operation continuing in background.\nUse `swarmctl cluster inspect default` to check progress.\n")?;
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted() {
        let new = json!({"TrustRoot": "new", "CertIssuerSubject": "s", "CertIssuerPublicKey": "k"});
        let swarm = json!({"TLSInfo": new});
        let half = json!({"TrustRoot": "old", "CertIssuerSubject": "s", "CertIssuerPublicKey": "k"});
        let nodes = [json!({"Description": {"TLSInfo": new}}), json!({"Description": {"TLSInfo": half}})];
        let rows = rows(&swarm, &nodes);
        assert!(rows[0].starts_with("desired root digest: sha256:"), "{rows:?}");
        assert!(rows[1].ends_with("2/2 nodes") && rows[2].ends_with("1/2 nodes"), "{rows:?}");
    }
}
