//! `ps`.

use serde_json::{Value, json};

use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::Matches;
use crate::options::filters;
use crate::output::human::{ago, ellipsis, short_id, size};
use crate::output::list::{self, List};
use crate::output::time::plain;

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
                   state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
                   labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";
const COLUMNS: &[list::Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];
/// Longest command that a table shows whole.
const MAX_COMMAND: usize = 20;

/// Neighbours with one address and protocol: first and last private port, first and last public port.
type Run = (String, String, (u64, u64), (u64, u64));

/// Ports of a container: `0.0.0.0:80->80/tcp, 443/tcp`, runs of neighbours as ranges.
#[must_use]
pub(super) fn ports(all: &Value) -> String {
    // (address, protocol, private, public): runs go on while both ports do.
    let mut list: Vec<(String, String, u64, u64)> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| {
            let text = |k: &str| p[k].as_str().unwrap_or_default().to_owned();
            (text("IP"), text("Type"), p["PrivatePort"].as_u64().unwrap_or(0), p["PublicPort"].as_u64().unwrap_or(0))
        })
        .collect();
    list.sort_by(|a, b| (a.3 == 0, a.2, &a.1, &a.0, a.3).cmp(&(b.3 == 0, b.2, &b.1, &b.0, b.3)));
    let mut runs: Vec<Run> = Vec::new();
    for (ip, kind, private, public) in list {
        let found = runs.iter_mut().find(|(i, k, pr, pu)| {
            *i == ip && *k == kind && pr.1 + 1 == private && (public == 0 && pu.1 == 0 || public != 0 && pu.1 + 1 == public)
        });
        match found {
            Some((_, _, pr, pu)) => {
                pr.1 = private;
                pu.1 = public;
            }
            None => runs.push((ip, kind, (private, private), (public, public))),
        }
    }
    let range = |(a, b): (u64, u64)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    let one = |(ip, kind, private, public): &Run| match (public.0, ip.contains(':')) {
        (0, _) => format!("{}/{kind}", range(*private)),
        (_, true) => format!("[{ip}]:{}->{}/{kind}", range(*public), range(*private)),
        (_, false) => format!("{ip}:{}->{}/{kind}", range(*public), range(*private)),
    };
    runs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Names without those of links, the container's own first.
fn names(c: &Value, cut: bool) -> String {
    let all = c["Names"].as_array().into_iter().flatten().filter_map(Value::as_str).map(|n| n.trim_start_matches('/'));
    all.filter(|n| !cut || !n.contains('/')).collect::<Vec<_>>().join(",")
}

/// Rows of `ps`.
fn rows(containers: &[Value], whole: bool) -> Vec<Value> {
    let row = |c: &Value| {
        let text = |k: &str| c[k].as_str().unwrap_or_default().to_owned();
        let created = i128::from(c["Created"].as_i64().unwrap_or(0)) * 1_000_000_000;
        let command = if whole { text("Command") } else { ellipsis(&text("Command"), MAX_COMMAND) };
        let image = text("Image");
        let image = match () {
            () if image.is_empty() => "<no image>".to_owned(),
            () if !whole && image.starts_with("sha256:") => short_id(&image).to_owned(),
            () => image,
        };
        let mounts: Vec<String> = c["Mounts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|m| m["Name"].as_str().filter(|n| !n.is_empty()).or_else(|| m["Source"].as_str()).unwrap_or_default())
            .map(|n| if whole { n.to_owned() } else { ellipsis(n, 15) })
            .collect();
        let local = c["Mounts"].as_array().into_iter().flatten().filter(|m| m["Driver"] == "local").count();
        let networks = c["NetworkSettings"]["Networks"].as_object().map(|n| n.keys().cloned().collect::<Vec<_>>().join(","));
        let (rw, virt) = (c["SizeRw"].as_i64().unwrap_or(0), c["SizeRootFs"].as_i64().unwrap_or(0));
        let sizes = if virt > 0 { format!("{} (virtual {})", size(rw), size(virt)) } else { size(rw) };
        json!({
            "ID": if whole { text("Id") } else { short_id(&text("Id")).to_owned() },
            "Image": image, "Command": format!("\"{command}\""), "CreatedAt": plain(created), "RunningFor": ago(created),
            "Status": text("Status"), "State": text("State"), "Ports": ports(&c["Ports"]), "Names": names(c, !whole), "Size": sizes,
            "Labels": list::labels(&c["Labels"]), "Mounts": mounts.join(","), "LocalVolumes": local.to_string(),
            "Networks": networks.unwrap_or_default(), "Platform": Value::Null,
        })
    };
    containers.iter().map(row).collect()
}

pub(super) async fn ps(app: &App, m: &Matches) -> Result<u8, Failure> {
    let quiet = m.on("quiet");
    let format = app.format(m.text("format"), "psFormat", quiet);
    // The stock client reads it before it asks, with words of its own.
    if m.given("format") {
        list::parse(format)
            .map_err(|e| Failure::new(e.message.replace("template parsing error", "failed to parse template")))?;
    }
    let last = if m.on("latest") { 1 } else { m.int("last").unwrap_or(-1) };
    let limit = if last > 0 { last.to_string() } else { String::new() };
    let sized = m.on("size") || format.contains(".Size");
    let filters = filters(m.list("filter"))?;
    let yes = |on: bool| if on { "1" } else { "" };
    let path = query(
        "/containers/json",
        &[("all", yes(m.on("all") || last > 0)), ("limit", &limit), ("size", yes(sized)), ("filters", &filters)],
    );
    let found = app.client().await?.call("GET", &path, None).await?;
    let rows = rows(found.as_array().map(Vec::as_slice).unwrap_or_default(), m.on("no-trunc"));
    let table = if m.on("size") { TABLE_SIZE } else { TABLE };
    let all = if m.on("size") { format!("{RAW}size: {{{{.Size}}}}\n") } else { RAW.to_owned() };
    let format = list::raw(format, quiet, "container_id: {{.ID}}", &all);
    List { table, quiet: "{{.ID}}", columns: COLUMNS, rows }.show(format, quiet)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_docker_s() {
        let c = json!({
            "Id": "0123456789abcdef", "Image": "nginx:1", "Command": "/docker-entrypoint.sh nginx -g daemon", "Created": 0,
            "Status": "Up 2 minutes (healthy)", "State": "running", "Names": ["/web"],
            "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 81, "PublicPort": 8081, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
            ],
        });
        let list = List { table: TABLE, quiet: "{{.ID}}", columns: COLUMNS, rows: rows(&[c], false) };
        let text = list.render("", false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("CONTAINER ID   IMAGE     COMMAND                  CREATED"), "{text}");
        assert!(lines[1].starts_with("0123456789ab   nginx:1   \"/docker-entrypoint.…\""), "{text}");
        assert!(lines[1].ends_with("Up 2 minutes (healthy)   0.0.0.0:8080-8081->80-81/tcp, 443/tcp   web"), "{text}");
    }
}
