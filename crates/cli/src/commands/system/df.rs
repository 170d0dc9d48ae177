//! `system df`: what takes room on the host, and what of it could be had back.

use serde_json::{Value, json};

use crate::app::{App, Failure};
use crate::grammar::Matches;
use crate::output::human::size;
use crate::output::list::{Column, List};

const COLUMNS: &[Column] =
    &[("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];
const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

pub(super) async fn df(app: &App, m: &Matches) -> Result<u8, Failure> {
    let found = app.client().await?.call("GET", "/system/df", None).await?;
    let list = List { table: TABLE, quiet: "", columns: COLUMNS, rows: rows(&found) };
    list.show(app.format(m.text("format"), "", false), false)?;
    Ok(0)
}

/// A row for each kind of thing.
fn rows(found: &Value) -> Vec<Value> {
    let list = |key: &str| found[key].as_array().cloned().unwrap_or_default();
    let number = |v: &Value, path: &str| v.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let (images, containers, volumes) = (list("Images"), list("Containers"), list("Volumes"));
    let used = |i: &&Value| number(i, "/Containers") > 0;
    let layers = number(found, "/LayersSize");
    let in_use: i64 = images.iter().filter(used).map(|i| number(i, "/Size") - number(i, "/SharedSize").max(0)).sum();
    let running = |c: &&Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    let mounted = |v: &&Value| number(v, "/UsageData/RefCount") > 0;
    let sum = |all: &[Value], path: &str, unused: &dyn Fn(&&Value) -> bool| {
        all.iter().filter(unused).map(|v| number(v, path)).sum::<i64>()
    };
    let row = |kind: &str, total: usize, active: usize, whole: i64, free: i64| {
        let part = if whole > 0 { format!(" ({}%)", free * 100 / whole) } else { String::new() };
        json!({
            "Type": kind, "TotalCount": total.to_string(), "Active": active.to_string(), "Size": size(whole),
            "Reclaimable": format!("{}{part}", size(free)),
        })
    };
    let (written, held) = (sum(&containers, "/SizeRw", &|_| true), sum(&volumes, "/UsageData/Size", &|_| true));
    vec![
        row("Images", images.len(), images.iter().filter(used).count(), layers, layers - in_use),
        row(
            "Containers",
            containers.len(),
            containers.iter().filter(running).count(),
            written,
            sum(&containers, "/SizeRw", &|c| !running(c)),
        ),
        row(
            "Local Volumes",
            volumes.len(),
            volumes.iter().filter(mounted).count(),
            held,
            sum(&volumes, "/UsageData/Size", &|v| !mounted(v)),
        ),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_could_be_had_back() {
        let found = json!({
            "LayersSize": 3000, "Images": [{"Size": 1000, "SharedSize": 0, "Containers": 1}, {"Size": 2000, "SharedSize": 0, "Containers": 0}],
            "Containers": [{"State": "running", "SizeRw": 10}, {"State": "exited", "SizeRw": 30}],
            "Volumes": [{"UsageData": {"Size": 5, "RefCount": 0}}], "BuildCache": [],
        });
        let rows = rows(&found);
        let of = |i: usize| {
            ["TotalCount", "Active", "Size", "Reclaimable"]
                .map(|k| rows[i][k].as_str().unwrap_or_default().to_owned())
                .join("|")
        };
        assert_eq!(of(0), "2|1|3kB|2kB (66%)");
        assert_eq!(of(1), "2|1|40B|30B (75%)");
        assert_eq!(of(2), "1|0|5B|5B (100%)");
        assert_eq!(of(3), "0|0|0B|0B");
    }
}
