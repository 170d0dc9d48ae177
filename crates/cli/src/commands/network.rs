//! `network …`.

use serde_json::{Map, Value, json};

use super::container::FILTER_LONG;
use super::prune::Kind;
use super::{FILTER, FORMAT, INSPECT_FORMAT, doctor, inspect};
use crate::app::{App, Failure};
use crate::client::{escape, query};
use crate::grammar::{Arity, Command, Matches};
use crate::options::{filters, map};
use crate::output::human::short_id;
use crate::output::list::{self, List};
use crate::output::{natural, print, warn};

const CREATE: &str = "
    --attachable bool Containers of one's own may join (overlay)
    --aux-address map* Address that is in use by others: name=ip
    --config-from string Network to take the configuration from
    --config-only bool Only a configuration
    -d --driver string Driver (default bridge)
    --gateway strings* Gateway of a subnet
    --ingress bool The network of the routing mesh
    --internal bool No way out
    --ip-range strings* Part of a subnet to take addresses from
    --ipam-driver string Driver of addresses (default default)
    --ipam-opt map* Option of the driver of addresses
    --ipv4 bool IPv4 addresses (default true)
    --ipv6 bool IPv6 addresses
    --label list* Label of the network
    -o --opt map* Option of the driver
    --scope string local or swarm
    --subnet strings* Subnet as CIDR";
const LS: &str = "
    --no-trunc bool Do not cut ids short
    -q --quiet bool Only ids";
const INSPECT: &str = "-v --verbose bool Also what the other nodes know";
const RM: &str = "-f --force bool No error for one that there is not";
const CONNECT: &str = "
    --alias strings* Further name in the network
    --driver-opt strings* Option of the driver
    --gw-priority int Which network's gateway is taken: the highest
    --ip string IPv4 address
    --ip6 string IPv6 address
    --link list* Link to another container
    --link-local-ip strings* Link-local address";
const DISCONNECT: &str = "-f --force bool Though the container does not answer";
const PRUNE: &str = "-f --force bool Do not ask";

/// The group.
pub const GROUP: Command = Command::group(
    "network",
    "Manage networks",
    &[
        Command::new("create", "[OPTIONS] NETWORK", "Create a network", Arity::Exactly(1), &[CREATE], |a, m| {
            Box::pin(create(a, m))
        })
        .shown(&["network create demo", "network create -d overlay --subnet 10.9.0.0/24 demo"]),
        Command::new("ls", "[OPTIONS]", "List networks", Arity::None, &[FILTER, FORMAT, LS], |a, m| Box::pin(ls(a, m)))
            .alias(&["list"]),
        Command::new(
            "inspect",
            "[OPTIONS] NETWORK [NETWORK...]",
            "Display detailed information on one or more networks",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, INSPECT],
            |a, m| Box::pin(look(a, m)),
        ),
        Command::new("rm", "NETWORK [NETWORK...]", "Remove one or more networks", Arity::AtLeast(1), &[RM], |a, m| {
            Box::pin(rm(a, m))
        })
        .alias(&["remove"]),
        Command::new(
            "connect",
            "[OPTIONS] NETWORK CONTAINER",
            "Connect a container to a network",
            Arity::Exactly(2),
            &[CONNECT],
            |a, m| Box::pin(connect(a, m)),
        ),
        Command::new(
            "disconnect",
            "[OPTIONS] NETWORK CONTAINER",
            "Disconnect a container from a network",
            Arity::Exactly(2),
            &[DISCONNECT],
            |a, m| Box::pin(disconnect(a, m)),
        ),
        Command::new("prune", "[OPTIONS]", "Remove all unused networks", Arity::None, &[FILTER_LONG, PRUNE], |a, m| {
            Box::pin(prune(a, m))
        }),
        doctor::COMMAND,
    ],
);

/// Whether an IPv4 address is within a subnet; other pairs are taken as they come.
fn within(subnet: &str, address: &str) -> bool {
    let Some((net, bits)) = subnet.split_once('/') else { return false };
    let (Ok(net), Ok(bits)) = (net.parse::<std::net::IpAddr>(), bits.parse::<u32>()) else { return false };
    let Ok(address) = address.split('/').next().unwrap_or_default().parse::<std::net::IpAddr>() else { return false };
    match (net, address) {
        (std::net::IpAddr::V4(n), std::net::IpAddr::V4(a)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(n) & mask == u32::from(a) & mask
        }
        (std::net::IpAddr::V6(n), std::net::IpAddr::V6(a)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(n) & mask == u128::from(a) & mask
        }
        _ => false,
    }
}

/// The body of a network's creation.
fn body(m: &Matches) -> Result<Value, Failure> {
    let split = |flag: &str| -> Vec<String> {
        m.list(flag).iter().flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    };
    let subnets = split("subnet");
    let mut configs: Vec<Map<String, Value>> =
        subnets.iter().map(|s| [("Subnet".to_owned(), Value::from(s.as_str()))].into_iter().collect()).collect();
    let mut place = |key: &str, address: &str, what: &str| -> Result<(), Failure> {
        let at = subnets.iter().position(|s| within(s, address));
        let at = at.ok_or_else(|| Failure::new(format!("no matching subnet for {what} {address}")))?;
        configs[at].insert(key.to_owned(), address.into());
        Ok(())
    };
    for gateway in split("gateway") {
        place("Gateway", &gateway, "gateway")?;
    }
    for range in split("ip-range") {
        place("IPRange", &range, "range")?;
    }
    if let Value::Object(auxiliary) = map(m.list("aux-address")) {
        for (name, address) in auxiliary {
            let text = address.as_str().unwrap_or_default().to_owned();
            let at = subnets.iter().position(|s| within(s, &text));
            let at = at.ok_or_else(|| Failure::new(format!("no matching subnet for aux-address {text}")))?;
            let list = configs[at].entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
            list[name] = address;
        }
    }
    let mut out = json!({
        "Name": m.arg(0), "Driver": m.text("driver").unwrap_or("bridge"), "Scope": m.text_or_empty("scope"),
        "Internal": m.on("internal"), "Attachable": m.on("attachable"), "Ingress": m.on("ingress"), "ConfigOnly": m.on("config-only"),
        "Options": map(m.list("opt")), "Labels": map(m.list("label")),
        "IPAM": {"Driver": m.text("ipam-driver").unwrap_or("default"), "Options": map(m.list("ipam-opt")), "Config": configs},
    });
    for (flag, key) in [("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")] {
        if let Some(on) = m.switch(flag) {
            out[key] = on.into();
        }
    }
    if let Some(from) = m.text("config-from") {
        out["ConfigFrom"] = json!({"Network": from});
    }
    Ok(out)
}

async fn create(app: &App, m: &Matches) -> Result<u8, Failure> {
    let made = app.client().await?.call("POST", "/networks/create", Some(&body(m)?)).await?;
    if let Some(warning) = made["Warning"].as_str().filter(|w| !w.is_empty()) {
        warn(&format!("WARNING: {warning}"));
    }
    print(&format!("{}\n", made["Id"].as_str().unwrap_or_default()))?;
    Ok(0)
}

fn rows(found: &[Value], whole: bool) -> Vec<Value> {
    let text = |n: &Value, k: &str| n[k].as_str().unwrap_or_default().to_owned();
    let mut sorted: Vec<&Value> = found.iter().collect();
    sorted.sort_by(|a, b| natural::compare(&text(a, "Name"), &text(b, "Name")));
    let row = |n: &&Value| {
        let id = text(n, "Id");
        let created = text(n, "Created");
        json!({
            "ID": if whole { id } else { short_id(&id).to_owned() }, "Name": text(n, "Name"), "Driver": text(n, "Driver"),
            "Scope": text(n, "Scope"), "IPv4": (n["EnableIPv4"] != false).to_string(), "IPv6": (n["EnableIPv6"] == true).to_string(),
            "Internal": (n["Internal"] == true).to_string(), "Labels": list::labels(&n["Labels"]),
            "CreatedAt": crate::output::time::parse(&created).map(crate::output::time::go).unwrap_or_default(),
        })
    };
    sorted.iter().map(row).collect()
}

async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";
    const COLUMNS: &[list::Column] = &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ];
    let quiet = m.on("quiet");
    let found = app.client().await?.call("GET", &query("/networks", &[("filters", &filters(m.list("filter"))?)]), None).await?;
    let rows = rows(found.as_array().map(Vec::as_slice).unwrap_or_default(), m.on("no-trunc"));
    let table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    let format = list::raw(app.format(m.text("format"), "networksFormat", quiet), quiet, "network_id: {{.ID}}", RAW);
    List { table, quiet: "{{.ID}}", columns: COLUMNS, rows }.show(format, quiet)?;
    Ok(0)
}

async fn look(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let verbose = if m.on("verbose") { "true" } else { "" };
    let fetch =
        async |name: &str| Ok(client.text(&query(&format!("/networks/{}", escape(name)), &[("verbose", verbose)])).await?);
    inspect::show(m.args(), m.text("format"), fetch).await
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let mut bad = false;
    for name in m.args() {
        match client.call("DELETE", &format!("/networks/{}", escape(name)), None).await {
            Ok(_) => print(&format!("{name}\n"))?,
            Err(crate::client::ClientError::Refused { status: 404, .. }) if m.on("force") => {}
            Err(e) => {
                warn(&Failure::from(e).message);
                bad = true;
            }
        }
    }
    if bad { Err(Failure::quiet(1)) } else { Ok(0) }
}

async fn connect(app: &App, m: &Matches) -> Result<u8, Failure> {
    let mut endpoint = json!({});
    for (flag, key) in [("ip", "IPv4Address"), ("ip6", "IPv6Address")] {
        if let Some(ip) = m.text(flag) {
            crate::options::put(&mut endpoint, &["IPAMConfig", key], ip);
        }
    }
    for (flag, key) in [("alias", "Aliases"), ("link", "Links")] {
        if m.given(flag) {
            endpoint[key] = m.list(flag).into();
        }
    }
    if m.given("link-local-ip") {
        crate::options::put(&mut endpoint, &["IPAMConfig", "LinkLocalIPs"], m.list("link-local-ip"));
    }
    if m.given("driver-opt") {
        endpoint["DriverOpts"] = map(m.list("driver-opt"));
    }
    if let Some(priority) = m.int("gw-priority") {
        endpoint["GwPriority"] = priority.into();
    }
    let body = json!({"Container": m.arg(1), "EndpointConfig": endpoint});
    app.client().await?.call("POST", &format!("/networks/{}/connect", escape(m.arg(0))), Some(&body)).await?;
    Ok(0)
}

async fn disconnect(app: &App, m: &Matches) -> Result<u8, Failure> {
    let body = json!({"Container": m.arg(1), "Force": m.on("force")});
    app.client().await?.call("POST", &format!("/networks/{}/disconnect", escape(m.arg(0))), Some(&body)).await?;
    Ok(0)
}

async fn prune(app: &App, m: &Matches) -> Result<u8, Failure> {
    Kind::Networks.command(app, m, "all custom networks not used by at least one container", &[]).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn bodies() {
        let plain = body(&read("network create demo")).unwrap();
        assert_eq!((&plain["Name"], &plain["Driver"]), (&json!("demo"), &json!("bridge")));
        assert_eq!(plain["IPAM"], json!({"Driver": "default", "Options": {}, "Config": []}));
        let overlay = body(&read(
            "network create -d overlay --subnet 192.168.22.0/24 --gateway 192.168.22.1 --attachable -o encrypted --label a=b my_net1",
        ))
        .unwrap();
        assert_eq!(overlay["IPAM"]["Config"], json!([{"Subnet": "192.168.22.0/24", "Gateway": "192.168.22.1"}]));
        assert_eq!((&overlay["Attachable"], &overlay["Options"]), (&json!(true), &json!({"encrypted": ""})));
        let wrong = body(&read("network create --subnet 10.0.0.0/24 --gateway 10.1.0.1 x")).unwrap_err();
        assert_eq!(wrong.message, "no matching subnet for gateway 10.1.0.1");
    }

    #[test]
    fn the_table_is_docker_s() {
        let found = [json!({"Id": "0123456789abcdef", "Name": "ingress", "Driver": "overlay", "Scope": "swarm"})];
        let rows = rows(&found, false);
        assert_eq!(
            (&rows[0]["ID"], &rows[0]["Scope"], &rows[0]["IPv4"]),
            (&json!("0123456789ab"), &json!("swarm"), &json!("true"))
        );
    }
}
