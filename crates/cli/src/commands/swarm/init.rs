//! `swarm init`, `join`, `leave`, `update`: with Docker's texts (`swarm-semantics` 1.2).

use serde_json::{Value, json};

use super::{change_spec, changes_spec, pem, send_spec, tokens};
use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::Matches;
use crate::output::print;

/// What is sent to found a swarm.
fn init_body(m: &Matches) -> Result<Value, Failure> {
    let mut body = json!({
        "ListenAddr": m.text("listen-addr").unwrap_or("0.0.0.0:2377"),
        "AdvertiseAddr": m.text_or_empty("advertise-addr"),
        "DataPathAddr": m.text_or_empty("data-path-addr"),
        "DataPathPort": m.uint("data-path-port").unwrap_or(0),
        "ForceNewCluster": m.on("force-new-cluster"),
        "AutoLockManagers": m.on("autolock"),
        "DefaultAddrPool": m.list("default-addr-pool").iter().flat_map(|p| p.split(',')).collect::<Vec<_>>(),
        "SubnetSize": m.uint("default-addr-pool-mask-length").unwrap_or(24),
        "Spec": {},
    });
    if let Some(availability) = m.text("availability") {
        body["Availability"] = match availability.to_ascii_lowercase().as_str() {
            a @ ("active" | "pause" | "drain") => a.into(),
            _ => {
                return Err(Failure::new(format!(
                    "invalid availability {availability:?}, only active, pause and drain are supported"
                )));
            }
        };
    }
    change_spec(&mut body["Spec"], m)?;
    if m.given("ca-cert") != m.given("ca-key") {
        return Err(Failure::new("--ca-cert and --ca-key belong together: give both"));
    }
    if let (Some(cert), Some(key)) = (m.text("ca-cert"), m.text("ca-key")) {
        body["Spec"]["CAConfig"]["SigningCACert"] = pem(cert).map_err(Failure::new)?.into();
        body["Spec"]["CAConfig"]["SigningCAKey"] = pem(key).map_err(Failure::new)?.into();
    }
    Ok(body)
}

pub(super) async fn init(app: &App, m: &Matches) -> Result<u8, Failure> {
    let body = init_body(m)?;
    let client = app.client().await?;
    let id = client.call("POST", "/swarm/init", Some(&body)).await.map_err(|e| {
        let mut failure = Failure::from(e);
        let asks = ["could not choose an IP address to advertise", "could not find the system's IP address"];
        if asks.iter().any(|t| failure.message.contains(t)) {
            failure.message += " - specify one with --advertise-addr";
        }
        failure
    })?;
    let id = id.as_str().unwrap_or_default();
    print(&format!("Swarm initialized: current node ({id}) is now a manager.\n\n"))?;
    print(&tokens::join_command(app, client, id, "worker").await?)?;
    print(&format!(
        "To add a manager to this swarm, run '{} swarm join-token manager' and follow the instructions.\n\n",
        app.program
    ))?;
    if m.on("autolock") {
        let key = client.call("GET", "/swarm/unlockkey", None).await?;
        print(&tokens::unlock_text(app, key["UnlockKey"].as_str().unwrap_or_default()))?;
    }
    Ok(0)
}

pub(super) async fn join(app: &App, m: &Matches) -> Result<u8, Failure> {
    let body = json!({
        "ListenAddr": m.text("listen-addr").unwrap_or("0.0.0.0:2377"),
        "AdvertiseAddr": m.text_or_empty("advertise-addr"),
        "DataPathAddr": m.text_or_empty("data-path-addr"),
        "RemoteAddrs": [m.arg(0)],
        "JoinToken": m.text_or_empty("token"),
        "Availability": m.text_or_empty("availability"),
    });
    let client = app.client().await?;
    client.call("POST", "/swarm/join", Some(&body)).await?;
    let info = client.call("GET", "/info", None).await?;
    let role = if info["Swarm"]["ControlAvailable"] == true { "manager" } else { "worker" };
    print(&format!("This node joined a swarm as a {role}.\n"))?;
    Ok(0)
}

pub(super) async fn leave(app: &App, m: &Matches) -> Result<u8, Failure> {
    let force = if m.on("force") { "1" } else { "" };
    app.client().await?.call("POST", &query("/swarm/leave", &[("force", force)]), None).await?;
    print("Node left the swarm.\n")?;
    Ok(0)
}

pub(super) async fn update(app: &App, m: &Matches) -> Result<u8, Failure> {
    if !changes_spec(m) {
        let words = ["swarm".to_owned(), "update".to_owned()];
        if let Some((command, path, _)) = crate::grammar::find(crate::commands::TREE, &words) {
            print(&crate::grammar::help::command(&app.program, command, &path))?;
        }
        return Ok(0);
    }
    let client = app.client().await?;
    let swarm = client.call("GET", "/swarm", None).await?;
    let mut spec = swarm["Spec"].clone();
    let locked = spec["EncryptionConfig"]["AutoLockManagers"] == true;
    change_spec(&mut spec, m)?;
    send_spec(client, &swarm, &spec, "").await?;
    print("Swarm updated.\n")?;
    if !locked && spec["EncryptionConfig"]["AutoLockManagers"] == true {
        let key = client.call("GET", "/swarm/unlockkey", None).await?;
        print(&tokens::unlock_text(app, key["UnlockKey"].as_str().unwrap_or_default()))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn what_founds_a_swarm() {
        let body = |line: &str| init_body(&read(&format!("swarm init {line}")));
        let plain = body("").unwrap();
        assert_eq!(plain["ListenAddr"], "0.0.0.0:2377");
        assert_eq!((&plain["Spec"], &plain["SubnetSize"]), (&json!({}), &json!(24)));
        let full = body(
            "--advertise-addr eth0 --autolock --cert-expiry 48h --task-history-limit 3 --default-addr-pool 10.1.0.0/16 \
             --default-addr-pool 10.2.0.0/16 --default-addr-pool-mask-length 26 --availability drain --external-ca protocol=cfssl,url=https://ca",
        )
        .unwrap();
        assert_eq!(
            (&full["AdvertiseAddr"], &full["AutoLockManagers"], &full["Availability"]),
            (&json!("eth0"), &json!(true), &json!("drain"))
        );
        assert_eq!((&full["DefaultAddrPool"], &full["SubnetSize"]), (&json!(["10.1.0.0/16", "10.2.0.0/16"]), &json!(26)));
        assert_eq!(full["Spec"]["CAConfig"]["NodeCertExpiry"], 172_800_000_000_000_i64);
        assert_eq!(full["Spec"]["CAConfig"]["ExternalCAs"][0]["URL"], "https://ca");
        assert_eq!(full["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"], 3);
        assert!(body("--availability x").unwrap_err().message.contains("invalid availability"));
        assert!(body("--external-ca url=x").unwrap_err().message.contains("needs a protocol="));
        assert!(body("--ca-cert x").is_err());
    }
}
