//! `/_ping`, `/version`, `/info`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use skep_types::control::{LocalState, SwarmInfo};
use skep_types::host::RegistryAuth;
use skep_types::logdriver;

use crate::App;
use crate::body::JsonBody;
use crate::error::{Failure, Handled};
use crate::swarm::cluster_json;
use crate::version::{API_VERSION, MIN_API_VERSION};

/// Version of the Docker engine whose behaviour is spoken: clients compare it.
const ENGINE_VERSION: &str = "28.2.2";

fn state_word(info: &SwarmInfo) -> &'static str {
    match info.state {
        LocalState::Inactive => "inactive",
        LocalState::Pending => "pending",
        LocalState::Active => "active",
        LocalState::Error => "error",
        LocalState::Locked => "locked",
    }
}

pub(crate) async fn ping(State(app): State<App>, method: Method) -> Response {
    let info = app.cluster.info().await;
    let swarm = match (info.state, info.control_available) {
        (LocalState::Active, true) => "active/manager",
        (LocalState::Active, false) => "active/worker",
        _ => state_word(&info),
    };
    let mut headers = HeaderMap::new();
    headers.insert("Builder-Version", HeaderValue::from_static("1"));
    headers.insert("Swarm", HeaderValue::from_static(swarm));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let body = if method == Method::HEAD { "" } else { "OK" };
    (headers, body).into_response()
}

/// Docker's architecture word.
fn arch(uname: &str) -> &str {
    match uname {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) async fn version(State(app): State<App>) -> Response {
    let d = app.engine.daemon();
    let api = format!("{}.{}", API_VERSION.0, API_VERSION.1);
    let min = format!("{}.{}", MIN_API_VERSION.0, MIN_API_VERSION.1);
    Json(json!({
        "Platform": {"Name": format!("Skep {}", d.version)},
        "Components": [{
            "Name": "Engine", "Version": ENGINE_VERSION,
            "Details": {
                "ApiVersion": api, "MinAPIVersion": min, "Arch": arch(&d.architecture), "Os": "linux", "Experimental": "false",
                "GitCommit": "", "GoVersion": "none (Rust)", "KernelVersion": d.kernel, "BuildTime": "",
            },
        }],
        "Version": ENGINE_VERSION, "ApiVersion": api, "MinAPIVersion": min, "GitCommit": "", "GoVersion": "none (Rust)",
        "Os": "linux", "Arch": arch(&d.architecture), "KernelVersion": d.kernel,
    }))
    .into_response()
}

/// The `Swarm` part of `info`.
fn swarm_json(info: &SwarmInfo) -> Value {
    let managers: Value = if info.managers.is_empty() {
        Value::Null
    } else {
        info.managers.iter().map(|(id, addr)| json!({"NodeID": id, "Addr": addr})).collect()
    };
    let mut out = json!({
        "NodeID": info.node_id.map(|n| n.to_string()).unwrap_or_default(), "NodeAddr": info.node_addr,
        "LocalNodeState": state_word(info), "ControlAvailable": info.control_available, "Error": info.error,
        "RemoteManagers": managers,
    });
    if let Some(nodes) = info.nodes {
        out["Nodes"] = json!(nodes);
    }
    if let Some(count) = info.manager_count {
        out["Managers"] = json!(count);
    }
    if let Some(cluster) = &info.cluster {
        out["Cluster"] = cluster_json(cluster, false);
    }
    out
}

/// In one line, with what is missing.
fn features(all: &[(String, bool)]) -> String {
    let list = |there: bool| {
        let names: Vec<&str> = all.iter().filter(|(_, t)| *t == there).map(|(n, _)| n.as_str()).collect();
        names.join(", ")
    };
    match (list(true), list(false)) {
        (there, missing) if missing.is_empty() => there,
        (there, missing) => format!("{there}; missing: {missing}"),
    }
}

pub(crate) async fn info(State(app): State<App>) -> Response {
    let d = app.engine.daemon();
    let swarm = app.cluster.info().await;
    let containers = app.engine.containers();
    let running = containers.iter().filter(|c| c.pid != 0).count();
    let mut warnings = d.warnings.clone();
    if swarm.manager_count == Some(2) {
        warnings.push(
            "WARNING: Running Swarm in a two-manager configuration. This configuration provides no fault tolerance, and poses a \
             high risk to lose control over the cluster. Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure \
             the Swarm for fault-tolerance."
                .to_owned(),
        );
    }
    let missing = |name: &str| d.network_features.iter().any(|(n, there)| n == name && !there);
    if missing("VXLAN") || missing("nftables egress hook") {
        let text = "WARNING: The kernel lacks what overlay networks and published ports need: see `skep network doctor`";
        warnings.push(text.to_owned());
    }
    let registries: serde_json::Map<String, Value> = d
        .insecure_registries
        .iter()
        .map(|r| (r.clone(), json!({"Name": r, "Mirrors": [], "Secure": false, "Official": false})))
        .collect();
    let volume_drivers: Vec<&str> = std::iter::once("local").chain(d.volume_drivers.iter().map(String::as_str)).collect();
    let mut out = json!({
        "ID": d.id, "Containers": containers.len(), "ContainersRunning": running, "ContainersPaused": 0,
        "ContainersStopped": containers.len() - running, "Images": d.images, "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", "overlayfs"], ["Mounts", "one per container, in its shim"],
            ["Network features of the kernel", features(&d.network_features)],
        ],
        "Plugins": {"Volume": volume_drivers, "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"], "Authorization": null, "Log": logdriver::DRIVERS},
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true,
        "PidsLimit": true, "IPv4Forwarding": true, "Debug": false, "NFd": 0, "OomKillDisable": false, "NGoroutines": 0,
        "SystemTime": skep_types::Time::default()
            .after(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
            .rfc3339(),
        "LoggingDriver": d.log_driver, "CgroupDriver": "cgroupfs", "CgroupVersion": d.cgroup_version.to_string(),
        "NEventsListener": 0, "KernelVersion": d.kernel, "OperatingSystem": d.os, "OSVersion": "", "OSType": "linux",
        "Architecture": d.architecture, "IndexServerAddress": "https://index.docker.io/v1/",
    });
    let more = json!({
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": registries, "Mirrors": d.mirrors,
        },
        "NCPU": d.cpus, "MemTotal": d.memory, "GenericResources": null, "DockerRootDir": d.root, "HttpProxy": "",
        "HttpsProxy": "", "NoProxy": "", "Name": d.hostname, "Labels": d.labels, "ExperimentalBuild": false,
        "ServerVersion": ENGINE_VERSION, "Runtimes": {"runc": {"path": "skep"}}, "DefaultRuntime": "runc",
        "Swarm": swarm_json(&swarm), "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "",
        "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
        "SecurityOptions": ["name=seccomp,profile=builtin"], "ProductLicense": format!("Skep {} (Apache-2.0)", d.version),
        "Warnings": warnings,
    });
    if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
        out.extend(more);
    }
    Json(out).into_response()
}

/// Whether a registry takes a user's credentials. The client keeps them and sends them with each call.
pub(crate) async fn auth(State(app): State<App>, JsonBody(mut body): JsonBody) -> Handled {
    let (server, username): (String, String) = (body.get("serveraddress")?, body.get("username")?);
    let (password, token): (String, String) = (body.get("password")?, body.get("identitytoken")?);
    body.skip(&["auth", "email", "registrytoken"]);
    body.finish()?;
    if username.is_empty() {
        return Err(Failure::invalid("no user name was given"));
    }
    let password = if token.is_empty() { password } else { token };
    app.engine.login(&server, RegistryAuth { username, password }).await?;
    Ok(Json(json!({"Status": "Login Succeeded", "IdentityToken": ""})).into_response())
}
