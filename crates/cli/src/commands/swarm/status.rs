//! The table of `swarm status`: managers with their place in the log, the quorum, the age of certificates.

use serde_json::Value;

fn text(v: &Value) -> String {
    match v {
        Value::Null => "-".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// `3d`, `5h`, `7m`, `9s`.
fn short(seconds: u64) -> String {
    match seconds {
        s if s >= 2 * 86_400 => format!("{}d", s / 86_400),
        s if s >= 2 * 3600 => format!("{}h", s / 3600),
        s if s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// Rows under their headings, in columns.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |r: &Vec<String>| {
        let cells = r.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// The table.
pub(super) fn table(s: &Value) -> String {
    let q = &s["Quorum"];
    let mut out = format!("Swarm:     {}\n", text(&s["ClusterID"]));
    out += &match q["Reachable"].as_u64() {
        Some(n) => format!(
            "Quorum:    {n} of {} managers reachable, {} needed, {} more may fail\n",
            text(&q["Managers"]),
            text(&q["Needed"]),
            text(&q["MayFail"])
        ),
        None => format!(
            "Quorum:    no leader answers; of {} managers {} are needed (below is what this manager knows itself)\n",
            text(&q["Managers"]),
            text(&q["Needed"])
        ),
    };
    out += &format!(
        "Log:       term {}, last entry {}, agreed on {}, {} bytes\n",
        text(&s["Term"]),
        text(&s["LastLog"]),
        text(&s["Committed"]),
        text(&s["LogBytes"])
    );
    let snap = &s["Snapshot"];
    out += &match (snap["Index"].as_u64(), snap["AgeSeconds"].as_u64()) {
        (Some(0) | None, _) => "Snapshot:  none yet\n".to_owned(),
        (Some(i), Some(age)) => format!("Snapshot:  up to entry {i}, {} old, {} bytes\n", short(age), text(&snap["Bytes"])),
        (Some(i), None) => format!("Snapshot:  up to entry {i}, {} bytes\n", text(&snap["Bytes"])),
    };
    let heads = |h: &[&str]| h.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![heads(&["MANAGER", "HOSTNAME", "ADDRESS", "STATUS", "ENTRY", "LAG"])];
    for m in s["Managers"].as_array().into_iter().flatten() {
        let status = match (m["Leader"] == true, m["Voter"] == true, m["Reachable"].as_bool()) {
            (true, ..) => "Leader",
            (_, _, Some(false)) => "Unreachable",
            (_, false, _) => "Learning",
            (_, _, Some(true)) => "Reachable",
            _ => "Unknown",
        };
        let cell = |k: &str| text(&m[k]);
        rows.push(vec![cell("NodeID"), cell("Hostname"), cell("Addr"), status.to_owned(), cell("Matched"), cell("Lag")]);
    }
    out += "\n";
    out += &columns(&rows);
    let mut rows = vec![heads(&["NODE", "HOSTNAME", "CERTIFICATE UNTIL", "LEFT"])];
    for c in s["Certificates"].as_array().into_iter().flatten() {
        let left = c["SecondsLeft"].as_u64().filter(|n| *n > 0).map_or_else(|| "expired".to_owned(), short);
        rows.push(vec![text(&c["NodeID"]), text(&c["Hostname"]), text(&c["NotAfter"]), left]);
    }
    if rows.len() > 1 {
        out += "\n";
        out += &columns(&rows);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_what_matters() {
        let status = json!({
            "ClusterID": "c", "Term": 3, "LastLog": 90, "Committed": 88, "LogBytes": 4096,
            "Quorum": {"Managers": 3, "Needed": 2, "Reachable": 2, "MayFail": 0},
            "Snapshot": {"Index": 50, "AgeSeconds": 7200, "Bytes": 10},
            "Managers": [
                {"NodeID": "a", "Hostname": "one", "Addr": "10.0.0.1:2377", "Leader": true, "Voter": true, "Reachable": true,
                 "Matched": 90, "Lag": 0},
                {"NodeID": "b", "Hostname": "two", "Addr": "10.0.0.2:2377", "Leader": false, "Voter": true, "Reachable": false,
                 "Matched": 60, "Lag": 30},
            ],
            "Certificates": [{"NodeID": "a", "Hostname": "one", "NotAfter": "2030", "SecondsLeft": 900}],
        });
        let t = table(&status);
        assert!(t.contains("2 of 3 managers reachable, 2 needed, 0 more may fail"), "{t}");
        assert!(t.contains("up to entry 50, 2h old"), "{t}");
        assert!(t.lines().any(|l| l.starts_with("a ") && l.contains("Leader")), "{t}");
        assert!(t.lines().any(|l| l.starts_with("b ") && l.contains("Unreachable") && l.ends_with("30")), "{t}");
        assert!(t.contains("15m"), "{t}");
        let alone = table(&json!({"Quorum": {"Managers": 3, "Needed": 2, "Reachable": null}}));
        assert!(alone.contains("no leader answers"), "{alone}");
    }
}
