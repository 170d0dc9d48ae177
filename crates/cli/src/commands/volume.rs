//! `volume …`.

use serde_json::{Value, json};

use super::container::FILTER_LONG;
use super::each::each;
use super::prune::Kind;
use super::{FILTER, FORMAT, INSPECT_FORMAT, inspect};
use crate::app::{App, Failure};
use crate::client::{escape, query};
use crate::grammar::{Arity, Command, Matches};
use crate::options::{filters, map};
use crate::output::list::{self, List};
use crate::output::{natural, print, warn};

const CREATE: &str = "
    --availability string Availability of a cluster volume
    -d --driver string Driver (default local)
    --group string Group of a cluster volume
    --label list* Label of the volume
    --limit-bytes bytes Most size of a cluster volume
    --name string The same as the argument
    -o --opt map* Option of the driver
    --required-bytes bytes Least size of a cluster volume
    --scope string Access of a cluster volume: single, multi
    --secret map* Secret of a cluster volume
    --sharing string Sharing of a cluster volume
    --topology-preferred list* Where a cluster volume would best be
    --topology-required list* Where a cluster volume must be
    --type string Access of a cluster volume: mount, block";
const LS: &str = "
    --cluster bool Only cluster volumes
    -q --quiet bool Only names";
const RM: &str = "-f --force bool No error for one that there is not";
const PRUNE: &str = "
    -a --all bool Also those that have a name
    -f --force bool Do not ask";

/// The group.
pub const GROUP: Command = Command::group(
    "volume",
    "Manage volumes",
    &[
        Command::new("create", "[OPTIONS] [VOLUME]", "Create a volume", Arity::AtMost(1), &[CREATE], |a, m| {
            Box::pin(create(a, m))
        }),
        Command::new("ls", "[OPTIONS]", "List volumes", Arity::None, &[FILTER, FORMAT, LS], |a, m| Box::pin(ls(a, m)))
            .alias(&["list"]),
        Command::new(
            "inspect",
            "[OPTIONS] VOLUME [VOLUME...]",
            "Display detailed information on one or more volumes",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT],
            |a, m| Box::pin(look(a, m)),
        ),
        Command::new("rm", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", Arity::AtLeast(1), &[RM], |a, m| {
            Box::pin(rm(a, m))
        })
        .alias(&["remove"]),
        Command::new("prune", "[OPTIONS]", "Remove unused local volumes", Arity::None, &[FILTER_LONG, PRUNE], |a, m| {
            Box::pin(prune(a, m))
        }),
    ],
);

/// The body of a volume's creation; flags of cluster volumes make it one.
fn body(m: &Matches) -> Result<Value, Failure> {
    let name = match (m.arg(0), m.text_or_empty("name")) {
        (a, b) if !a.is_empty() && !b.is_empty() => {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        ("", b) => b,
        (a, _) => a,
    };
    let mut out = json!({"Name": name, "Driver": m.text("driver").unwrap_or("local"), "DriverOpts": map(m.list("opt")), "Labels": map(m.list("label"))});
    let cluster = [
        "availability",
        "group",
        "scope",
        "sharing",
        "type",
        "limit-bytes",
        "required-bytes",
        "secret",
        "topology-preferred",
        "topology-required",
    ];
    if cluster.iter().any(|f| m.given(f)) {
        let mut access = json!({"Scope": m.text("scope").unwrap_or("single"), "Sharing": m.text("sharing").unwrap_or("none")});
        access[if m.text("type") == Some("mount") { "MountVolume" } else { "BlockVolume" }] = json!({});
        out["ClusterVolumeSpec"] = json!({
            "Group": m.text_or_empty("group"), "Availability": m.text("availability").unwrap_or("active"), "AccessMode": access,
            "CapacityRange": {"RequiredBytes": m.bytes("required-bytes").unwrap_or(0), "LimitBytes": m.bytes("limit-bytes").unwrap_or(0)},
        });
    }
    Ok(out)
}

async fn create(app: &App, m: &Matches) -> Result<u8, Failure> {
    let made = app.client().await?.call("POST", "/volumes/create", Some(&body(m)?)).await?;
    print(&format!("{}\n", made["Name"].as_str().unwrap_or_default()))?;
    Ok(0)
}

async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    const COLUMNS: &[list::Column] = &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ];
    let quiet = m.on("quiet");
    let found = app.client().await?.call("GET", &query("/volumes", &[("filters", &filters(m.list("filter"))?)]), None).await?;
    for warning in found["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        warn(warning);
    }
    let mut all = found["Volumes"].as_array().cloned().unwrap_or_default();
    if m.on("cluster") {
        all.retain(|v| v["ClusterVolume"].is_object());
    }
    let text = |v: &Value, k: &str| v[k].as_str().unwrap_or_default().to_owned();
    all.sort_by(|a, b| natural::compare(&text(a, "Name"), &text(b, "Name")));
    let row = |v: &Value| {
        let cluster = &v["ClusterVolume"]["Spec"];
        json!({
            "Name": text(v, "Name"), "Driver": text(v, "Driver"), "Scope": text(v, "Scope"), "Mountpoint": text(v, "Mountpoint"),
            "Labels": list::labels(&v["Labels"]), "Links": "N/A", "Size": "N/A",
            "Availability": cluster["Availability"].as_str().unwrap_or("N/A"), "Group": cluster["Group"].as_str().unwrap_or("N/A"),
            "Status": "N/A",
        })
    };
    let table = if m.on("cluster") {
        "{{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
    } else {
        "{{.Driver}}\t{{.Name}}"
    };
    let list = List { table, quiet: "{{.Name}}", columns: COLUMNS, rows: all.iter().map(row).collect() };
    let format = app.format(m.text("format"), "volumesFormat", quiet);
    list.show(list::raw(format, quiet, "name: {{.Name}}", "name: {{.Name}}\ndriver: {{.Driver}}\n"), quiet)?;
    Ok(0)
}

async fn look(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let fetch = async |name: &str| Ok(client.text(&format!("/volumes/{}", escape(name))).await?);
    inspect::show(m.args(), m.text("format"), fetch).await
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let force = if m.on("force") { "1" } else { "" };
    each(app, m.args(), "DELETE", None, |name| query(&format!("/volumes/{name}"), &[("force", force)])).await
}

async fn prune(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (which, more) = if m.on("all") { ("all", &["all=true".to_owned()][..]) } else { ("anonymous", &[][..]) };
    let what = format!("{which} local volumes not used by at least one container");
    Kind::Volumes.command(app, m, &what, more).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn bodies() {
        let of = |line: &str| body(&read(&format!("volume create {line}")));
        assert_eq!(
            of("--label a=b -o type=nfs -o o=addr=x data").unwrap(),
            json!({"Name": "data", "Driver": "local", "DriverOpts": {"type": "nfs", "o": "addr=x"}, "Labels": {"a": "b"}})
        );
        assert!(of("--name a b").is_err());
        assert_eq!(of("--type mount --group g v").unwrap()["ClusterVolumeSpec"]["Group"], "g");
    }
}
