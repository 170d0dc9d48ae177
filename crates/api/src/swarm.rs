//! `/swarm/…`.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_types::control::{AdvertiseFrom, ControlRequest, ControlResponse, InitRequest, JoinRequest};
use skep_types::object::{Cluster, TlsInfo};
use skep_types::spec::{Availability, ClusterSpec};
use skep_types::{Ipv4Net, Secret};

use crate::App;
use crate::body::JsonBody;
use crate::cluster::{unexpected, version};
use crate::containers::truth;
use crate::error::{Failure, Handled};
use crate::fields::Fields;

/// Where managers listen unless told otherwise.
const DEFAULT_PORT: u16 = 2377;
/// Where subnets are cut from unless told otherwise.
const DEFAULT_POOL: &str = "10.0.0.0/8";

pub(crate) fn nanos(d: Duration) -> i64 {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

/// What a node or the swarm trusts, and who issues certificates.
pub(crate) fn tls_json(t: &TlsInfo) -> Value {
    json!({"TrustRoot": t.trust_root, "CertIssuerSubject": t.issuer_subject, "CertIssuerPublicKey": t.issuer_public_key})
}

/// The swarm as JSON; with its join tokens for `GET /swarm`, without for `info`.
pub(crate) fn cluster_json(c: &Cluster, tokens: bool) -> Value {
    let spec = &c.spec;
    let mut ca = json!({"NodeCertExpiry": nanos(spec.node_cert_expiry)});
    if spec.ca.force_rotate != 0 {
        ca["ForceRotate"] = json!(spec.ca.force_rotate);
    }
    let mut out = json!({
        "ID": c.id, "Version": {"Index": c.meta.version.0}, "CreatedAt": c.meta.created_at.rfc3339(),
        "UpdatedAt": c.meta.updated_at.rfc3339(),
        "Spec": {
            "Name": "default", "Labels": spec.labels,
            "Orchestration": {"TaskHistoryRetentionLimit": spec.task_history_limit},
            "Raft": {
                "SnapshotInterval": spec.snapshot_interval, "KeepOldSnapshots": spec.old_snapshots, "LogEntriesForSlowFollowers": 500,
                "ElectionTick": 10, "HeartbeatTick": 1,
            },
            "Dispatcher": {"HeartbeatPeriod": nanos(spec.heartbeat_period)},
            "CAConfig": ca, "TaskDefaults": {}, "EncryptionConfig": {"AutoLockManagers": spec.auto_lock},
        },
        "TLSInfo": tls_json(&c.tls), "RootRotationInProgress": c.root_rotation.is_some(), "DefaultAddrPool": c.address_pools.iter().map(ToString::to_string).collect::<Vec<_>>(), "SubnetSize": c.subnet_size,
        "DataPathPort": c.data_path_port,
    });
    if tokens {
        out["JoinTokens"] = json!({"Worker": c.worker_token, "Manager": c.manager_token});
    }
    out
}

pub(crate) async fn inspect(State(app): State<App>) -> Handled {
    match app.cluster.call(ControlRequest::GetCluster).await? {
        ControlResponse::Cluster(cluster) => Ok(Json(cluster_json(&cluster, true)).into_response()),
        other => Err(unexpected(&other)),
    }
}

/// A spec over `base`: zero fields of an init keep the defaults.
fn spec(mut f: Fields, base: ClusterSpec) -> Handled<ClusterSpec> {
    let name: String = f.get("Name")?;
    if !matches!(name.as_str(), "" | "default") {
        return Err(Failure::invalid("rpc error: code = InvalidArgument desc = swarm spec must be named \"default\""));
    }
    let mut out = base;
    out.labels = f.get("Labels")?;
    let mut orchestration = f.object("Orchestration")?;
    if let Some(limit) = orchestration.option("TaskHistoryRetentionLimit")? {
        out.task_history_limit = limit;
    }
    let mut raft = f.object("Raft")?;
    match raft.number("SnapshotInterval")? {
        0 => {}
        n => out.snapshot_interval = n,
    }
    let keep = raft.number("KeepOldSnapshots")?;
    out.old_snapshots = u8::try_from(keep).map_err(|_| {
        let text = "must be 255 at most, since each is as large as all that the swarm knows";
        Failure::invalid(format!("Spec.Raft.KeepOldSnapshots {text}: {keep}"))
    })?;
    // As shown by `inspect`, and so sent back by an update; other values would have no effect.
    for (key, fixed) in [("LogEntriesForSlowFollowers", 500), ("ElectionTick", 10), ("HeartbeatTick", 1)] {
        let n = raft.number(key)?;
        if n != 0 && n != fixed {
            return Err(Failure::unbuilt(format!("Spec.Raft.{key} = {n}")));
        }
    }
    let mut dispatcher = f.object("Dispatcher")?;
    match dispatcher.number("HeartbeatPeriod")? {
        0 => {}
        n => out.heartbeat_period = Duration::from_nanos(n),
    }
    let mut ca = f.object("CAConfig")?;
    match ca.number("NodeCertExpiry")? {
        0 => {}
        n if n < 3_600_000_000_000 => {
            return Err(Failure::invalid(
                "rpc error: code = InvalidArgument desc = minimum certificate expiry time is: 1h0m0s",
            ));
        }
        n => out.node_cert_expiry = Duration::from_nanos(n),
    }
    let external: Vec<Value> = ca.get("ExternalCAs")?;
    if !external.is_empty() {
        return Err(Failure::unbuilt("swarm --external-ca"));
    }
    out.ca.signing_cert = ca.get("SigningCACert")?;
    out.ca.signing_key = Secret(ca.get("SigningCAKey")?);
    out.ca.force_rotate = ca.get("ForceRotate")?;
    let mut encryption = f.object("EncryptionConfig")?;
    out.auto_lock = encryption.get("AutoLockManagers")?;
    for rest in [f, orchestration, raft, dispatcher, ca, encryption] {
        rest.finish()?;
    }
    Ok(out)
}

fn availability(text: &str) -> Handled<Availability> {
    match text.to_ascii_lowercase().as_str() {
        "" | "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        other => Err(Failure::invalid(format!("invalid Availability: {other:?}"))),
    }
}

pub(crate) fn with_port(text: &str, port: u16) -> String {
    if text.contains(':') { text.to_owned() } else { format!("{text}:{port}") }
}

fn port_of(listen: &str) -> u16 {
    listen.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(DEFAULT_PORT)
}

/// An address, or that of an interface.
fn resolve(app: &App, text: &str, flag: &str) -> Handled<Ipv4Addr> {
    let host = text.split(':').next().unwrap_or_default();
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        if address.is_unspecified() {
            return Err(Failure::invalid(format!(
                "advertise address must be a non-zero IP address or network interface (with optional port number): {flag} {text}"
            )));
        }
        return Ok(address);
    }
    let mut found = app.cluster.addresses().into_iter().filter(|(name, _)| name == host).map(|(_, a)| a);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(Failure::invalid(format!("interface {host} has more than one IPv4 address: name the address with {flag}")))
        }
        _ => Err(Failure::invalid(format!("{flag} {text} is neither an IPv4 address nor an interface of this host with one"))),
    }
}

/// The address told to other nodes, with its port, and where it comes from.
pub(crate) fn advertise(app: &App, wanted: &str, listen: &str) -> Handled<(String, AdvertiseFrom)> {
    let port = port_of(listen);
    let wanted = if wanted.is_empty() { app.cluster.default_advertise().unwrap_or_default() } else { wanted.to_owned() };
    if !wanted.is_empty() {
        let address = resolve(app, &wanted, "--advertise-addr")?;
        let port = wanted.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(port);
        let host = wanted.split(':').next().unwrap_or_default();
        let from = match host.parse::<Ipv4Addr>() {
            Ok(_) => AdvertiseFrom::Given,
            Err(_) => AdvertiseFrom::Interface(host.to_owned()),
        };
        return Ok((format!("{address}:{port}"), from));
    }
    let listening: Option<Ipv4Addr> = listen.split(':').next().and_then(|h| h.parse().ok());
    if let Some(address) = listening.filter(|a| !a.is_unspecified()) {
        return Ok((format!("{address}:{port}"), AdvertiseFrom::Given));
    }
    let found: Vec<(String, Ipv4Addr)> =
        app.cluster.addresses().into_iter().filter(|(_, a)| !a.is_loopback() && !a.is_link_local()).collect();
    match found.as_slice() {
        [(_, one)] => Ok((format!("{one}:{port}"), AdvertiseFrom::Found)),
        [] => Err(Failure::invalid("could not find the system's IP address")),
        several => {
            let list: Vec<String> = several.iter().map(|(name, a)| format!("{a} on {name}")).collect();
            Err(Failure::invalid(format!(
                "could not choose an IP address to advertise since this system has multiple addresses ({})",
                list.join(", ")
            )))
        }
    }
}

fn data_path(app: &App, text: &str) -> Handled<Option<Ipv4Addr>> {
    if text.is_empty() { Ok(None) } else { resolve(app, text, "--data-path-addr").map(Some) }
}

pub(crate) fn listen_address(text: &str) -> Handled<String> {
    let full = if text.is_empty() { format!("0.0.0.0:{DEFAULT_PORT}") } else { with_port(text, DEFAULT_PORT) };
    full.parse::<std::net::SocketAddrV4>()
        .map(|a| a.to_string())
        .map_err(|_| Failure::invalid(format!("invalid listen address {text}: it must be IPv4:port")))
}

/// Pools, and how long the prefixes of the subnets are that are cut from them.
fn address_pools(texts: &[String], size: u64) -> Handled<(Vec<Ipv4Net>, u8)> {
    let texts = if texts.is_empty() { &[DEFAULT_POOL.to_owned()] } else { texts };
    let parse = |text: &String| text.parse::<Ipv4Net>().map_err(|e| Failure::invalid(e.to_string()));
    let pools = texts.iter().map(parse).collect::<Handled<Vec<_>>>()?;
    let size = if size == 0 { 24 } else { size };
    for (i, pool) in pools.iter().enumerate() {
        if let Some(other) = pools[..i].iter().find(|p| p.overlaps(pool)) {
            return Err(Failure::invalid(format!("default address pools {other} and {pool} overlap")));
        }
        // Smaller ones have no room for a task.
        if !(u64::from(pool.prefix)..=29).contains(&size) {
            let text = format!(
                "default address pool {pool} cannot be cut into subnets of size {size}: give one from {} to 29",
                pool.prefix
            );
            return Err(Failure::invalid(text));
        }
    }
    // At most 29.
    Ok((pools, size as u8))
}

pub(crate) async fn init(State(app): State<App>, JsonBody(mut f): JsonBody) -> Handled {
    let listen: String = f.get("ListenAddr")?;
    let listen_addr = listen_address(&listen)?;
    let wanted: String = f.get("AdvertiseAddr")?;
    let path: String = f.get("DataPathAddr")?;
    let force_new_cluster: bool = f.get("ForceNewCluster")?;
    let auto_lock: bool = f.get("AutoLockManagers")?;
    let port = f.number("DataPathPort")?;
    let data_path_port = match u16::try_from(port) {
        Ok(0) => 0,
        Ok(p) if (1024..=49151).contains(&p) => p,
        _ => return Err(Failure::invalid(format!("The datapath IP address must be between 1024 and 49151: {port}"))),
    };
    let address_pools = address_pools(&f.get::<Vec<String>>("DefaultAddrPool")?, f.number("SubnetSize")?)?;
    let state = app.cluster.info().await;
    if state.state != skep_types::control::LocalState::Inactive && !force_new_cluster {
        return Err(Failure::new(
            skep_types::control::Code::Unavailable,
            "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.",
        ));
    }
    // A swarm that is made anew keeps its addresses unless others are named.
    let (advertise_addr, advertise_from) = match (force_new_cluster, wanted.as_str()) {
        (true, "") => Default::default(),
        _ => advertise(&app, &wanted, &listen_addr)?,
    };
    let request = InitRequest {
        advertise_addr,
        advertise_from,
        data_path_addr: data_path(&app, &path)?,
        listen_addr,
        data_path_port,
        availability: availability(&f.get::<String>("Availability")?)?,
        spec: {
            let inner = f.object("Spec")?;
            let mut spec = spec(inner, ClusterSpec::default())?;
            spec.auto_lock |= auto_lock;
            spec
        },
        address_pools,
        force_new_cluster,
    };
    f.finish()?;
    let id = app.cluster.init(request).await?;
    Ok(Json(json!(id)).into_response())
}

pub(crate) async fn join(State(app): State<App>, JsonBody(mut f): JsonBody) -> Handled {
    let listen_addr = listen_address(&f.get::<String>("ListenAddr")?)?;
    let wanted: String = f.get("AdvertiseAddr")?;
    let path: String = f.get("DataPathAddr")?;
    let remotes: Vec<String> = f.get("RemoteAddrs")?;
    if remotes.is_empty() {
        return Err(Failure::invalid("at least 1 RemoteAddr is required to join"));
    }
    let token: String = f.get("JoinToken")?;
    let (advertise_addr, advertise_from) = advertise(&app, &wanted, &listen_addr)?;
    let request = JoinRequest {
        advertise_addr,
        advertise_from,
        data_path_addr: data_path(&app, &path)?,
        listen_addr,
        remote_addrs: remotes.iter().map(|r| with_port(r, DEFAULT_PORT)).collect(),
        token,
        availability: availability(&f.get::<String>("Availability")?)?,
    };
    f.finish()?;
    app.cluster.join(request).await?;
    Ok(StatusCode::OK.into_response())
}

#[derive(Deserialize)]
pub(crate) struct LeaveQuery {
    force: Option<String>,
}

pub(crate) async fn leave(State(app): State<App>, Query(query): Query<LeaveQuery>) -> Handled {
    app.cluster.leave(truth(query.force.as_ref())).await?;
    Ok(StatusCode::OK.into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateQuery {
    version: Option<String>,
    rotate_worker_token: Option<String>,
    rotate_manager_token: Option<String>,
    rotate_manager_unlock_key: Option<String>,
}

pub(crate) async fn update(State(app): State<App>, Query(query): Query<UpdateQuery>, JsonBody(f): JsonBody) -> Handled {
    app.cluster
        .call(ControlRequest::UpdateCluster {
            version: version(query.version.as_ref(), "swarm")?,
            spec: spec(f, ClusterSpec::default())?,
            rotate_worker: truth(query.rotate_worker_token.as_ref()),
            rotate_manager: truth(query.rotate_manager_token.as_ref()),
            rotate_unlock: truth(query.rotate_manager_unlock_key.as_ref()),
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn unlock_key(State(app): State<App>) -> Handled {
    match app.cluster.call(ControlRequest::GetUnlockKey).await? {
        ControlResponse::UnlockKey(key) => Ok(Json(json!({"UnlockKey": key.0})).into_response()),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn unlock(State(app): State<App>, JsonBody(mut f): JsonBody) -> Handled {
    let key: String = f.get("UnlockKey")?;
    f.finish()?;
    app.cluster.unlock(&key).await?;
    Ok(StatusCode::OK.into_response())
}
