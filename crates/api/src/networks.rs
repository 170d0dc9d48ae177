//! `/networks/…`: those of this host and those of the swarm in one list.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_types::container::ContainerInfo;
use skep_types::control::{Code, ControlRequest, ControlResponse};
use skep_types::host::LocalNetworkInfo;
use skep_types::object::Network;
use skep_types::spec::NetworkSpec;
use skep_types::{Ipv4Net, Ipv6Net, NetworkId, wireguard};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::body::JsonBody;
use crate::containers::no_content;
use crate::error::{Failure, Handled};
use crate::fields::Fields;
use crate::filters::Filters;
use crate::prune::Wanted;
use crate::{App, NewNetwork};

/// Option of every driver: the payload size.
const MTU: &str = "com.docker.network.driver.mtu";
/// Drivers of networks of one host, with their other options. What begins otherwise is kept with a bridge, as Docker does.
const OPTIONS: [(&str, &[&str]); 3] = [
    (
        "bridge",
        &[
            "com.docker.network.bridge.name",
            "com.docker.network.bridge.enable_icc",
            "com.docker.network.bridge.enable_ip_masquerade",
            "com.docker.network.bridge.host_binding_ipv4",
            "com.docker.network.bridge.default_bridge",
        ],
    ),
    ("macvlan", &["parent", "macvlan_mode"]),
    ("ipvlan", &["parent", "ipvlan_mode", "ipvlan_flag"]),
];
const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

fn containers_on(id: &str, containers: &[ContainerInfo]) -> Value {
    let mut out = Map::new();
    for c in containers.iter().filter(|c| c.pid != 0) {
        for e in c.endpoints.iter().filter(|e| e.network_id == id) {
            let address = e.address.map(|a| format!("{a}/{}", e.prefix)).unwrap_or_default();
            let entry = json!({
                "Name": c.name, "EndpointID": e.endpoint_id, "MacAddress": e.mac, "IPv4Address": address,
                "IPv6Address": e.address6.map(|n| n.to_string()).unwrap_or_default(),
            });
            out.insert(c.id.clone(), entry);
        }
    }
    Value::Object(out)
}

fn local(n: &LocalNetworkInfo, containers: &[ContainerInfo]) -> Value {
    let mut pools: Vec<Value> = n
        .subnet
        .iter()
        .map(|s| {
            let mut pool = json!({"Subnet": s.to_string()});
            // A configuration need not name one.
            if let Some(gateway) = n.gateway {
                pool["Gateway"] = gateway.to_string().into();
            }
            if let Some(range) = n.ip_range {
                pool["IPRange"] = range.to_string().into();
            }
            if !n.auxiliary.is_empty() {
                pool["AuxiliaryAddresses"] = json!(n.auxiliary);
            }
            pool
        })
        .collect();
    if let Some(subnet) = n.subnet6 {
        let mut pool = json!({"Subnet": subnet.to_string()});
        if let Some(gateway) = n.gateway6 {
            pool["Gateway"] = gateway.to_string().into();
        }
        pools.push(pool);
    }
    json!({
        "Name": n.name, "Id": n.id, "Created": n.created.rfc3339(), "Scope": "local", "Driver": n.driver, "EnableIPv4": true,
        "EnableIPv6": n.ipv6, "IPAM": {"Driver": "default", "Options": null, "Config": pools}, "Internal": n.internal,
        "Attachable": n.attachable, "Ingress": false, "ConfigFrom": {"Network": n.config_from}, "ConfigOnly": n.config_only,
        "Containers": containers_on(&n.id, containers), "Options": n.options, "Labels": n.labels,
    })
}

fn swarm(n: &Network, containers: &[ContainerInfo]) -> Value {
    let mut options = n.spec.options.clone();
    options.insert("com.docker.network.driver.overlay.vxlanid_list".to_owned(), n.vni.to_string());
    let mut pools = vec![json!({"Subnet": n.subnet.to_string(), "Gateway": n.gateway.to_string()})];
    pools.extend(n.v6.map(|v6| json!({"Subnet": v6.subnet.to_string(), "Gateway": v6.gateway.to_string()})));
    json!({
        "Name": n.spec.name, "Id": n.id, "Created": n.meta.created_at.rfc3339(), "Scope": "swarm", "Driver": "overlay",
        "EnableIPv4": true, "EnableIPv6": n.v6.is_some(), "IPAM": {"Driver": "default", "Options": null, "Config": pools},
        "Internal": n.spec.internal, "Attachable": n.spec.attachable, "Ingress": n.spec.ingress,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": containers_on(&n.id.to_string(), containers),
        "Options": options, "Labels": n.spec.labels,
    })
}

/// The swarm's networks; those that this host has now if it is no manager or has no leader to ask.
async fn of_swarm(app: &App) -> Vec<Arc<Network>> {
    if app.cluster.info().await.control_available
        && let Ok(ControlResponse::Networks(list)) = app.cluster.call(ControlRequest::ListNetworks).await
    {
        return list;
    }
    app.engine.overlays().await.into_iter().map(Arc::new).collect()
}

/// The swarm's network of a name or id, if there is one.
async fn in_swarm(app: &App, target: &str) -> Option<Arc<Network>> {
    let all = of_swarm(app).await;
    let by = |f: &dyn Fn(&Network) -> bool| all.iter().find(|n| f(n)).cloned();
    by(&|n| n.id.to_string() == target)
        .or_else(|| by(&|n| n.spec.name == target))
        .or_else(|| by(&|n| target.len() >= 4 && n.id.to_string().starts_with(target)))
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    filters: Option<String>,
}

pub(crate) async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let filters = Filters::parse(query.filters.as_deref(), &FILTERS)?;
    let containers = app.engine.containers();
    let mut rows: Vec<Value> = app.engine.networks().await.iter().map(|n| local(n, &containers)).collect();
    rows.extend(of_swarm(&app).await.iter().map(|n| swarm(n, &containers)));
    rows.retain(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let builtin = matches!(text("Name"), "bridge" | "host" | "none") && text("Scope") == "local";
        let labels = serde_json::from_value(row["Labels"].clone()).unwrap_or_default();
        let unused = row["Containers"].as_object().is_some_and(Map::is_empty);
        filters.any("id", |v| text("Id").starts_with(v))
            && filters.any("name", |v| text("Name").contains(v))
            && filters.any("driver", |v| text("Driver") == v)
            && filters.any("scope", |v| text("Scope") == v)
            && filters.any("type", |v| (v == "builtin") == builtin)
            && filters.flag("dangling").is_none_or(|d| d == (unused && !builtin))
            && filters.labels("label", &labels)
    });
    Ok(Json(rows).into_response())
}

fn find_local<'a>(networks: &'a [LocalNetworkInfo], target: &str) -> Handled<Option<&'a LocalNetworkInfo>> {
    if let Some(exact) = networks.iter().find(|n| n.id == target).or_else(|| networks.iter().find(|n| n.name == target)) {
        return Ok(Some(exact));
    }
    let mut prefix = networks.iter().filter(|n| !target.is_empty() && n.id.starts_with(target));
    match (prefix.next(), prefix.next()) {
        (Some(_), Some(_)) => Err(Failure::invalid(format!("network {target} is ambiguous (2 matches found)"))),
        (one, _) => Ok(one),
    }
}

#[derive(Deserialize)]
pub(crate) struct InspectQuery {
    scope: Option<String>,
    verbose: Option<String>,
}

pub(crate) async fn inspect(State(app): State<App>, Path(target): Path<String>, Query(query): Query<InspectQuery>) -> Handled {
    let _ = query.verbose;
    let scope = query.scope.unwrap_or_default();
    let containers = app.engine.containers();
    if scope != "swarm" {
        let networks = app.engine.networks().await;
        if let Some(found) = find_local(&networks, &target)? {
            return Ok(Json(local(found, &containers)).into_response());
        }
    }
    if scope != "local"
        && let Some(found) = in_swarm(&app, &target).await
    {
        return Ok(Json(swarm(&found, &containers)).into_response());
    }
    // Clients ask for the id before they make a service.
    if scope != "local"
        && let Some((id, name)) = NetworkId::find_of_each_host(&target).and_then(|id| Some((id, id.of_each_host()?)))
    {
        return Ok(Json(of_each_host(id, name)).into_response());
    }
    Err(Failure::new(Code::NotFound, format!("network {target} not found")))
}

/// A network that each host has for itself, as services name it.
fn of_each_host(id: NetworkId, name: &str) -> Value {
    json!({
        "Name": name, "Id": id, "Created": "0001-01-01T00:00:00Z", "Scope": "swarm", "Driver": name, "EnableIPv4": true,
        "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null, "Config": []}, "Internal": false, "Attachable": false,
        "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {}, "Options": null, "Labels": null,
    })
}

/// What of a network's addresses is asked for: one subnet of each family.
#[derive(Default)]
struct Pools {
    subnet: Option<Ipv4Net>,
    gateway: Option<Ipv4Addr>,
    ip_range: Option<Ipv4Net>,
    auxiliary: BTreeMap<String, Ipv4Addr>,
    subnet6: Option<Ipv6Net>,
    gateway6: Option<Ipv6Addr>,
}

fn pools(given: Vec<Fields>) -> Handled<Pools> {
    let net = |text: &str| Failure::invalid(format!("invalid CIDR address: {text}"));
    let bad = |text: &str| Failure::invalid(format!("invalid gateway address: {text}"));
    let mut out = Pools::default();
    for mut pool in given {
        let (subnet, gateway, range): (String, String, String) =
            (pool.get("Subnet")?, pool.get("Gateway")?, pool.get("IPRange")?);
        let auxiliary: BTreeMap<String, String> = pool.get("AuxiliaryAddresses")?;
        pool.finish()?;
        let several = || Failure::unbuilt("a network with several subnets of one family");
        if subnet.contains(':') {
            if out.subnet6.is_some() {
                return Err(several());
            }
            if !range.is_empty() || !auxiliary.is_empty() {
                return Err(Failure::unbuilt("an ip-range or auxiliary addresses of IPv6"));
            }
            out.subnet6 = Some(subnet.parse().map_err(|_| net(&subnet))?);
            out.gateway6 = if gateway.is_empty() { None } else { Some(gateway.parse().map_err(|_| bad(&gateway))?) };
            continue;
        }
        if out.subnet.is_some() || out.gateway.is_some() {
            return Err(several());
        }
        let some = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| net(text)) };
        out.subnet = some(&subnet)?;
        out.ip_range = some(&range)?;
        out.gateway = if gateway.is_empty() { None } else { Some(gateway.parse().map_err(|_| bad(&gateway))?) };
        for (name, address) in auxiliary {
            let parsed = address.parse().map_err(|_| Failure::invalid(format!("invalid auxiliary address: {address}")))?;
            out.auxiliary.insert(name, parsed);
        }
    }
    Ok(out)
}

pub(crate) async fn create(State(app): State<App>, JsonBody(mut body): JsonBody) -> Handled {
    let driver: String = body.get("Driver")?;
    let scope: String = body.get("Scope")?;
    let name: String = body.get("Name")?;
    let mut ipam = body.object("IPAM")?;
    let ipam_driver: String = ipam.get("Driver")?;
    if !matches!(ipam_driver.as_str(), "" | "default") {
        return Err(Failure::unbuilt(format!("the IPAM driver {ipam_driver}")));
    }
    let Pools { subnet, gateway, ip_range, auxiliary, subnet6, gateway6 } = pools(ipam.objects("Config")?)?;
    ipam.finish()?;
    let (internal, attachable) = (body.get("Internal")?, body.get("Attachable")?);
    let (labels, options) = (body.get("Labels")?, body.get::<BTreeMap<String, String>>("Options")?);
    let ingress: bool = body.get("Ingress")?;
    let ipv6: bool = body.get("EnableIPv6")?;
    if body.get::<Option<bool>>("EnableIPv4")? == Some(false) {
        return Err(Failure::unbuilt("a network without IPv4"));
    }
    let config_only: bool = body.get("ConfigOnly")?;
    let mut from = body.object("ConfigFrom")?;
    let config_from: String = from.get("Network")?;
    from.finish()?;
    body.skip(&["CheckDuplicate"]);
    body.finish()?;
    if config_only && (ingress || scope == "swarm") {
        return Err(Failure::new(
            Code::PermissionDenied,
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if name.trim().is_empty() {
        return Err(Failure::invalid("invalid name: name is empty"));
    }
    let id = if scope == "swarm" || driver == "overlay" && !config_only {
        if !config_from.is_empty() {
            return Err(Failure::unbuilt("a configuration (--config-from) of a network of the swarm"));
        }
        if driver != "overlay" {
            return Err(Failure::unbuilt(format!("the driver {driver} with swarm scope")));
        }
        if ip_range.is_some() || !auxiliary.is_empty() {
            return Err(Failure::unbuilt("an ip-range or auxiliary addresses of a network of the swarm"));
        }
        if let Some(option) = options.keys().find(|k| *k != MTU && *k != wireguard::OPTION) {
            return Err(Failure::unbuilt(format!("the option {option} of networks of the swarm")));
        }
        // An address, VXLAN's headers and one byte need that much.
        if let Some(text) = options.get(MTU).filter(|t| !t.parse::<u32>().is_ok_and(|n| (118..=65_535).contains(&n))) {
            return Err(Failure::invalid(format!("invalid MTU value: {text}: it must be from 118 to 65535")));
        }
        let spec =
            NetworkSpec { name, labels, subnet, gateway, internal, attachable, ingress, options, ipv6, subnet6, gateway6 };
        match app.cluster.call(ControlRequest::CreateNetwork { spec }).await {
            Ok(ControlResponse::Networks(made)) => made.first().map(|n| n.id.to_string()).unwrap_or_default(),
            Ok(_) => String::new(),
            // Docker says 403 here and 503 everywhere else (`swarm-semantics` 2.2).
            Err(e) if e.code == Code::Unavailable => return Err(Failure::new(Code::PermissionDenied, e.message)),
            Err(e) => return Err(e.into()),
        }
    } else {
        // Which driver a configuration is for is not known yet.
        let any = config_only || matches!(driver.as_str(), "" | "default");
        let driver = if any { "bridge".to_owned() } else { driver };
        let Some((_, known)) = OPTIONS.iter().find(|(name, _)| *name == driver) else {
            return Err(Failure::unbuilt(format!("the network driver {driver}")));
        };
        if ingress {
            return Err(Failure::invalid(format!("the {driver} driver does not support ingress networks")));
        }
        let foreign = |k: &&String| k.starts_with("com.docker.network.") || driver != "bridge";
        if let Some(option) = options.keys().filter(foreign).find(|k| *k != MTU && !known.contains(&k.as_str())) {
            return Err(Failure::unbuilt(format!("the network option {option}")));
        }
        let info = LocalNetworkInfo {
            name,
            driver,
            subnet,
            gateway,
            ip_range,
            auxiliary,
            ipv6,
            subnet6,
            gateway6,
            internal,
            attachable,
            labels,
            options,
            config_only,
            config_from,
            ..Default::default()
        };
        app.engine.create_network(NewNetwork { info }).await?
    };
    Ok((StatusCode::CREATED, Json(json!({"Id": id, "Warning": ""}))).into_response())
}

pub(crate) async fn remove(State(app): State<App>, Path(target): Path<String>) -> Handled {
    let networks = app.engine.networks().await;
    if let Some(found) = find_local(&networks, &target)? {
        app.engine.remove_network(&found.id).await?;
        return Ok(no_content());
    }
    if !app.cluster.info().await.control_available {
        return Err(Failure::new(Code::NotFound, format!("network {target} not found")));
    }
    app.cluster.call(ControlRequest::RemoveNetwork { target }).await?;
    Ok(no_content())
}

/// `docker network prune`: networks that nobody is on; those of the swarm are its managers' to remove.
pub(crate) async fn prune(State(app): State<App>, Query(query): Query<ListQuery>) -> Handled {
    let wanted = Wanted::read(query.filters.as_deref(), &[])?;
    let mut gone = Vec::new();
    for n in app.engine.networks().await {
        let predefined = matches!(n.name.as_str(), "bridge" | "host" | "none" | "docker_gwbridge");
        // One that somebody is on stays: that is what the engine says then.
        if !predefined && !n.config_only && wanted.fits(n.created, &n.labels) && app.engine.remove_network(&n.id).await.is_ok()
        {
            gone.push(n.name);
        }
    }
    if app.cluster.info().await.control_available {
        for n in of_swarm(&app).await.iter().filter(|n| !n.spec.ingress && wanted.fits(n.meta.created_at, &n.spec.labels)) {
            if app.cluster.call(ControlRequest::RemoveNetwork { target: n.id.to_string() }).await.is_ok() {
                gone.push(n.spec.name.clone());
            }
        }
    }
    Ok(Json(json!({"NetworksDeleted": gone})).into_response())
}

pub(crate) async fn connect(State(app): State<App>, Path(target): Path<String>, JsonBody(mut body): JsonBody) -> Handled {
    let container: String = body.get("Container")?;
    let join = crate::create_json::endpoint(target.clone(), body.object("EndpointConfig")?)?;
    body.finish()?;
    app.engine.connect_network(&target, &container, join).await?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn disconnect(State(app): State<App>, Path(target): Path<String>, JsonBody(mut body): JsonBody) -> Handled {
    let container: String = body.get("Container")?;
    // There is no endpoint of a container that is gone: it went with it.
    body.skip(&["Force"]);
    body.finish()?;
    app.engine.disconnect_network(&target, &container).await?;
    Ok(StatusCode::OK.into_response())
}
