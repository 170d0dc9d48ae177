//! `secret …` and `config …`: the same but for their names, and that a config's bytes can be read again.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::each::each;
use super::{FILTER, FORMAT, INSPECT_FORMAT, inspect};
use crate::app::{App, Failure};
use crate::client::{escape, query};
use crate::grammar::{Arity, Command, Matches};
use crate::options::{filters, map};
use crate::output::human::{ago_text, cause};
use crate::output::list::{self, List};
use crate::output::time::{parse, pretty};
use crate::output::{natural, print};

/// More than any secret or config may hold (500 and 1000 KiB); the daemon says what is too much.
const MAX_DATA: u64 = 16 << 20;

const CREATE_SECRET: &str = "
    -d --driver string Driver that keeps the secret
    -l --label list* Label of the secret
    --template-driver string What fills in its templates: golang";
const CREATE_CONFIG: &str = "
    -l --label list* Label of the config
    --template-driver string What fills in its templates: golang";
const LS: &str = "-q --quiet bool Only ids";
const PRETTY: &str = "--pretty bool Show what matters, for people";

/// Secrets.
pub const SECRET: Command = Command::group(
    "secret",
    "Manage Swarm secrets",
    &[
        Command::new(
            "create",
            "[OPTIONS] SECRET [file|-]",
            "Create a secret from a file or STDIN as content",
            Arity::Between(1, 2),
            &[CREATE_SECRET],
            |a, m| Box::pin(create(a, m, "secrets")),
        )
        .shown(&["secret create db-password password.txt", "secret create db-password -"]),
        Command::new("ls", "[OPTIONS]", "List secrets", Arity::None, &[FILTER, FORMAT, LS], |a, m| {
            Box::pin(ls(a, m, "secrets"))
        })
        .alias(&["list"]),
        Command::new(
            "inspect",
            "[OPTIONS] SECRET [SECRET...]",
            "Display detailed information on one or more secrets",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, PRETTY],
            |a, m| Box::pin(look(a, m, "secrets")),
        ),
        Command::new("rm", "SECRET [SECRET...]", "Remove one or more secrets", Arity::AtLeast(1), &[], |a, m| {
            Box::pin(rm(a, m, "secrets"))
        })
        .alias(&["remove"]),
    ],
);
/// Configs.
pub const CONFIG: Command = Command::group(
    "config",
    "Manage Swarm configs",
    &[
        Command::new(
            "create",
            "[OPTIONS] CONFIG file|-",
            "Create a config from a file or STDIN",
            Arity::Exactly(2),
            &[CREATE_CONFIG],
            |a, m| Box::pin(create(a, m, "configs")),
        )
        .shown(&["config create site nginx.conf"]),
        Command::new("ls", "[OPTIONS]", "List configs", Arity::None, &[FILTER, FORMAT, LS], |a, m| {
            Box::pin(ls(a, m, "configs"))
        })
        .alias(&["list"]),
        Command::new(
            "inspect",
            "[OPTIONS] CONFIG [CONFIG...]",
            "Display detailed information on one or more configs",
            Arity::AtLeast(1),
            &[INSPECT_FORMAT, PRETTY],
            |a, m| Box::pin(look(a, m, "configs")),
        ),
        Command::new("rm", "CONFIG [CONFIG...]", "Remove one or more configs", Arity::AtLeast(1), &[], |a, m| {
            Box::pin(rm(a, m, "configs"))
        })
        .alias(&["remove"]),
    ],
);

/// Reads a file, or standard input for `-`.
fn data(from: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if from == "-" {
        let read = std::io::stdin().lock().take(MAX_DATA).read_to_end(&mut bytes);
        read.map_err(|e| Failure::new(format!("error reading from STDIN: {e}")))?;
        if bytes.is_empty() {
            return Err(Failure::new("error reading from STDIN: data is empty"));
        }
        return Ok(bytes);
    }
    let fail = |op: &str, e: &std::io::Error| Failure::new(format!("error reading from {from}: {op} {from}: {}", cause(e)));
    let file = std::fs::File::open(from).map_err(|e| fail("open", &e))?;
    file.take(MAX_DATA).read_to_end(&mut bytes).map_err(|e| fail("read", &e))?;
    if bytes.is_empty() { Err(Failure::new(format!("error reading from {from}: data is empty"))) } else { Ok(bytes) }
}

/// What is sent for a new one; `bytes` are its content, if it has any.
fn body(m: &Matches, bytes: Option<&[u8]>) -> Value {
    let mut body = json!({"Name": m.arg(0), "Labels": map(m.list("label"))});
    if let Some(bytes) = bytes {
        body["Data"] = STANDARD.encode(bytes).into();
    }
    if m.has("driver")
        && let Some(driver) = m.text("driver")
    {
        body["Driver"] = json!({"Name": driver});
    }
    if let Some(driver) = m.text("template-driver") {
        body["Templating"] = json!({"Name": driver});
    }
    body
}

async fn create(app: &App, m: &Matches, kind: &str) -> Result<u8, Failure> {
    let driver = m.has("driver") && m.given("driver");
    let bytes = match m.args().get(1) {
        Some(_) if driver => return Err(Failure::new("When using secret driver secret data must be empty")),
        None if driver => None,
        None => return Err(Failure::new("secret file is required")),
        Some(from) if kind == "configs" => {
            let told = |e: Failure| Failure::new(format!("Error reading content from {from:?}: {}", e.message));
            Some(data(from).map_err(told)?)
        }
        Some(from) => Some(data(from)?),
    };
    let made = app.client().await?.call("POST", &format!("/{kind}/create"), Some(&body(m, bytes.as_deref()))).await?;
    print(&format!("{}\n", made["ID"].as_str().unwrap_or_default()))?;
    Ok(0)
}

fn rows(found: &[Value], kind: &str) -> Vec<Value> {
    let name = |v: &Value| v["Spec"]["Name"].as_str().unwrap_or_default().to_owned();
    let mut sorted: Vec<&Value> = found.iter().collect();
    sorted.sort_by(|a, b| natural::compare(&name(a), &name(b)));
    let row = |v: &&Value| {
        let text = |k: &str| v[k].as_str().unwrap_or_default();
        let mut row = json!({
            "ID": text("ID"), "Name": name(v),
            "CreatedAt": ago_text(text("CreatedAt")), "UpdatedAt": ago_text(text("UpdatedAt")),
            "Labels": list::labels(&v["Spec"]["Labels"]),
        });
        if kind == "secrets" {
            row["Driver"] = v["Spec"]["Driver"]["Name"].as_str().unwrap_or_default().into();
        }
        row
    };
    sorted.iter().map(row).collect()
}

async fn ls(app: &App, m: &Matches, kind: &str) -> Result<u8, Failure> {
    let quiet = m.on("quiet");
    let found =
        app.client().await?.call("GET", &query(&format!("/{kind}"), &[("filters", &filters(m.list("filter"))?)]), None).await?;
    let (table, key) = if kind == "secrets" {
        ("{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", "secretFormat")
    } else {
        ("{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", "configFormat")
    };
    const COLUMNS: &[list::Column] = &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("CreatedAt", "CREATED"),
        ("UpdatedAt", "UPDATED"),
        ("Labels", "LABELS"),
    ];
    let rows = rows(found.as_array().map(Vec::as_slice).unwrap_or_default(), kind);
    List { table, quiet: "{{.ID}}", columns: COLUMNS, rows }.show(app.format(m.text("format"), key, quiet), quiet)?;
    Ok(0)
}

/// One for people; a config with its bytes.
fn shown(kind: &str, v: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let at = |v: &Value| v.as_str().and_then(parse).map(pretty).unwrap_or_default();
    // The stock client sets secrets and configs differently.
    let secret = kind == "secrets";
    let mut out = if secret {
        format!("ID:              {}\nName:              {}\n", text(&v["ID"]), text(&v["Spec"]["Name"]))
    } else {
        format!("ID:\t\t\t{}\nName:\t\t\t{}\n", text(&v["ID"]), text(&v["Spec"]["Name"]))
    };
    if let Some(labels) = v["Spec"]["Labels"].as_object().filter(|l| !l.is_empty()) {
        out += "Labels:\n";
        out += &labels.iter().map(|(k, v)| format!(" - {k}={}\n", text(v))).collect::<String>();
    }
    if secret {
        out += &format!("Driver:            {}\n", text(&v["Spec"]["Driver"]["Name"]));
    }
    let space = if secret { "        " } else { "            \t" };
    out += &format!("Created at:{space}{}\nUpdated at:{space}{}\n", at(&v["CreatedAt"]), at(&v["UpdatedAt"]));
    if let Some(data) = v["Spec"]["Data"].as_str().and_then(|d| STANDARD.decode(d).ok()) {
        out += &format!("Data:\n{}\n", String::from_utf8_lossy(&data));
    }
    out
}

async fn look(app: &App, m: &Matches, kind: &str) -> Result<u8, Failure> {
    let client = app.client().await?;
    if m.on("pretty") {
        // A format beside it is nothing to the stock client, unlike with services and nodes.
        for name in m.args() {
            print(&shown(kind, &client.call("GET", &format!("/{kind}/{}", escape(name)), None).await?))?;
        }
        return Ok(0);
    }
    let fetch = async |name: &str| Ok(client.text(&format!("/{kind}/{}", escape(name))).await?);
    inspect::show(m.args(), m.text("format"), fetch).await
}

async fn rm(app: &App, m: &Matches, kind: &str) -> Result<u8, Failure> {
    each(app, m.args(), "DELETE", None, |name| format!("/{kind}/{name}")).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn bodies() {
        let m = read("secret create -l a=b --template-driver golang pw -");
        assert_eq!(
            body(&m, Some(b"x")),
            json!({"Name": "pw", "Labels": {"a": "b"}, "Data": "eA==", "Templating": {"Name": "golang"}})
        );
        assert_eq!(body(&read("config create c f"), Some(b"x")), json!({"Name": "c", "Labels": {}, "Data": "eA=="}));
    }

    #[test]
    fn empty_data_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        assert_eq!(data(&path).unwrap_err().message, format!("error reading from {path}: data is empty"));
    }

    #[test]
    fn a_config_shows_its_bytes() {
        let text = shown(
            "configs",
            &json!({"ID": "i", "Spec": {"Name": "c", "Data": "aGVsbG8="}, "CreatedAt": "2026-01-01T00:00:00Z"}),
        );
        assert!(
            text.contains("Data:\nhello\n") && text.contains("Created at:            \t2026-01-01 00:00:00 +0000 utc"),
            "{text}"
        );
    }
}
