//! `context …`: named daemons, in the files in which the stock client keeps them. None of these commands asks a daemon.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{FORMAT, INSPECT_FORMAT, inspect};
use crate::app::{App, Failure};
use crate::config::context::{self, DEFAULT};
use crate::config::{change, pretty};
use crate::grammar::{Arity, Command, Matches};
use crate::output::list::List;
use crate::output::{natural, print, warn};

/// Most that an exported context holds: three files of TLS material and some text.
const MAX_EXPORT: u64 = 64 << 20;

const CHANGE: &str = "
    --description string What it is for
    --docker string Where its daemon is: host=tcp://HOST:PORT[,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=true]";
const CREATE: &str = "--from string Context to take what is not given from";
const LS: &str = "-q --quiet bool Only names";
const RM: &str = "-f --force bool Remove it though it is in use";

/// The group.
pub(super) const GROUP: Command = Command::group(
    "context",
    "Manage contexts",
    &[
        Command::new("create", "[OPTIONS] CONTEXT", "Create a context", Arity::Exactly(1), &[CHANGE, CREATE], |a, m| {
            Box::pin(create(a, m))
        })
        .shown(&[
            "context create far --docker host=ssh://me@far.example",
            "context create far --docker host=tcp://far:2376,ca=ca.pem,cert=cert.pem,key=key.pem",
        ]),
        Command::new(
            "export",
            "CONTEXT [FILE|-]",
            "Export a context to a tar archive FILE or a tar stream on STDOUT",
            Arity::Between(1, 2),
            &[],
            |a, m| Box::pin(export(a, m)),
        ),
        Command::new("import", "CONTEXT FILE|-", "Import a context from a tar file", Arity::Exactly(2), &[], |a, m| {
            Box::pin(import(a, m))
        }),
        Command::new(
            "inspect",
            "[OPTIONS] [CONTEXT] [CONTEXT...]",
            "Display detailed information on one or more contexts",
            Arity::Any,
            &[INSPECT_FORMAT],
            |a, m| Box::pin(look(a, m)),
        ),
        Command::new("ls", "[OPTIONS]", "List contexts", Arity::None, &[FORMAT, LS], |a, m| Box::pin(ls(a, m)))
            .alias(&["list"]),
        Command::new("rm", "CONTEXT [CONTEXT...]", "Remove one or more contexts", Arity::AtLeast(1), &[RM], |a, m| {
            Box::pin(rm(a, m))
        })
        .alias(&["remove"]),
        Command::new("show", "", "Print the name of the current context", Arity::None, &[], |a, m| Box::pin(show(a, m))),
        Command::new("update", "[OPTIONS] CONTEXT", "Update a context", Arity::Exactly(1), &[CHANGE], |a, m| {
            Box::pin(update(a, m))
        }),
        Command::new("use", "CONTEXT", "Set the current context", Arity::Exactly(1), &[], |a, m| Box::pin(take(a, m))),
    ],
);

/// Names that the stock client takes.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    if name == DEFAULT {
        return Err(Failure::new("\"default\" is a reserved context name"));
    }
    if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) {
        let pattern = "\"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"";
        return Err(Failure::new(format!("context name {name:?} is invalid, names are validated against regexp {pattern}")));
    }
    Ok(())
}

/// What is known of a context, and its TLS files.
type Known = (Value, BTreeMap<String, Vec<u8>>);

fn known(app: &App, name: &str) -> Result<Known, Failure> {
    if name == DEFAULT {
        return Ok((context::new_meta(DEFAULT, "", &app.unversioned().host(), false), BTreeMap::new()));
    }
    Ok((context::meta(&app.config, name)?, context::tls_files(&app.config, name)?))
}

/// Puts what `--docker` says into a context.
fn set_endpoint(app: &App, (meta, tls): &mut Known, text: &str) -> Result<(), Failure> {
    let mut pairs = BTreeMap::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| Failure::new(format!("invalid --docker: {part:?} is no key=value")))?;
        if !["host", "ca", "cert", "key", "skip-tls-verify", "from"].contains(&key) {
            return Err(Failure::new(format!("unable to create docker endpoint config: unrecognized config key: {key}")));
        }
        pairs.insert(key, value);
    }
    if let Some(from) = pairs.get("from") {
        let (other, files) = known(app, from)?;
        meta["Endpoints"] = other["Endpoints"].clone();
        *tls = files;
        return Ok(());
    }
    let skip = pairs.get("skip-tls-verify").is_some_and(|v| matches!(*v, "1" | "t" | "true" | "True" | "TRUE"));
    let host = pairs.get("host").copied().unwrap_or_default();
    // Unlike with -H, a word alone is no host here.
    if !host.is_empty() && !host.contains("://") {
        let what = "unable to create docker endpoint config: unable to apply docker endpoint options";
        return Err(Failure::new(format!("{what}: unable to parse docker host `{host}`")));
    }
    if !host.is_empty() {
        crate::client::Endpoint::parse(host, None).map_err(|e| {
            let what = "unable to create docker endpoint config: unable to apply docker endpoint options";
            Failure::new(format!("{what}: {e}"))
        })?;
    }
    meta["Endpoints"]["docker"] = json!({"Host": host, "SkipTLSVerify": skip});
    tls.clear();
    for name in ["ca", "cert", "key"] {
        if let Some(path) = pairs.get(name) {
            tls.insert(format!("{name}.pem"), context::read_tls(Path::new(path))?);
        }
    }
    Ok(())
}

async fn create(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    check_name(name)?;
    if context::meta(&app.config, name).is_ok() {
        return Err(Failure::new(format!("context {name:?} already exists")));
    }
    let mut made = known(app, m.text("from").unwrap_or(&app.context))?;
    if !m.given("from") && !m.given("docker") {
        return Err(Failure::new("docker endpoint configuration is required"));
    }
    made.0["Name"] = name.into();
    if !m.given("from") {
        made.0["Metadata"] = json!({});
    }
    alter(app, m, &mut made)?;
    context::write(&app.config, &made.0, &made.1)?;
    print(&format!("{name}\n"))?;
    warn(&format!("Successfully created context {name:?}"));
    Ok(0)
}

fn alter(app: &App, m: &Matches, made: &mut Known) -> Result<(), Failure> {
    if let Some(text) = m.text("docker") {
        set_endpoint(app, made, text)?;
    }
    if let Some(text) = m.text("description") {
        made.0["Metadata"]["Description"] = text.into();
    }
    Ok(())
}

async fn update(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    check_name(name)?;
    let mut made = known(app, name)?;
    alter(app, m, &mut made)?;
    context::write(&app.config, &made.0, &made.1)?;
    print(&format!("{name}\n"))?;
    warn(&format!("Successfully updated context {name:?}"));
    Ok(0)
}

/// One as `inspect` shows it.
fn shown(app: &App, name: &str) -> Result<Value, Failure> {
    let (mut all, tls) = known(app, name)?;
    let (meta, of_tls) = context::places(&app.config, name);
    let files: Vec<&String> = tls.keys().collect();
    all["TLSMaterial"] = if files.is_empty() { json!({}) } else { json!({"docker": files}) };
    all["Storage"] = if name == DEFAULT {
        json!({"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"})
    } else {
        json!({"MetadataPath": meta, "TLSPath": of_tls})
    };
    Ok(all)
}

async fn look(app: &App, m: &Matches) -> Result<u8, Failure> {
    let own = [app.context.clone()];
    let names = if m.args().is_empty() { &own[..] } else { m.args() };
    let order = ["Name", "Metadata", "Endpoints", "TLSMaterial", "Storage"];
    let text = |name: &str| {
        let all = shown(app, name)?;
        let fields: Vec<String> = order.iter().map(|k| format!("\"{k}\":{}", all[k])).collect();
        Ok::<_, Failure>(format!("{{{}}}", fields.join(",")))
    };
    inspect::show(names, m.text("format"), async |name: &str| text(name)).await
}

async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    let mut names = context::names(&app.config)?;
    names.push(DEFAULT.to_owned());
    names.sort_by(|a, b| natural::compare(a, b));
    let quiet = m.on("quiet");
    let mut rows = Vec::new();
    for name in names {
        let current = name == app.context;
        let (meta, _) = known(app, &name)?;
        let about = match name.as_str() {
            DEFAULT => "Current DOCKER_HOST based configuration",
            _ => meta["Metadata"]["Description"].as_str().unwrap_or_default(),
        };
        rows.push(json!({
            "Name": name, "Current": current, "Description": about, "Error": "",
            "DockerEndpoint": meta["Endpoints"]["docker"]["Host"],
        }));
    }
    let list = List {
        table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        quiet: "{{.Name}}",
        columns: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "DOCKER ENDPOINT"),
            ("Error", "ERROR"),
            ("Current", ""),
        ],
        rows,
    };
    list.show(m.text_or_empty("format"), quiet)?;
    if std::env::var_os("DOCKER_HOST").is_some_and(|h| !h.is_empty()) && !quiet {
        warn(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global \
             --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(0)
}

async fn rm(app: &App, m: &Matches) -> Result<u8, Failure> {
    let mut failed = Vec::new();
    for name in m.args() {
        let done = || -> Result<(), Failure> {
            if name == DEFAULT {
                return Err(Failure::new("context \"default\" cannot be removed"));
            }
            context::meta(&app.config, name).map_err(|_| Failure::new(format!("context {name:?} does not exist")))?;
            let used = app.config.text("currentContext") == Some(name);
            if used && !m.on("force") {
                return Err(Failure::new(format!("context {name:?} is in use, set -f flag to force remove")));
            }
            if used {
                set_current(app, DEFAULT)?;
            }
            Ok(context::remove(&app.config, name)?)
        };
        match done() {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(e) => failed.push(e),
        }
    }
    Failure::all(failed)
}

async fn show(app: &App, _: &Matches) -> Result<u8, Failure> {
    print(&format!("{}\n", app.context))?;
    Ok(0)
}

fn set_current(app: &App, name: &str) -> Result<(), Failure> {
    change(&app.config.dir, |all| {
        if name == DEFAULT {
            all.remove("currentContext");
        } else {
            all.insert("currentContext".to_owned(), name.into());
        }
    })?;
    Ok(())
}

async fn take(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    if name != DEFAULT {
        context::meta(&app.config, name)?;
    }
    set_current(app, name)?;
    print(&format!("{name}\n"))?;
    warn(&format!("Current context is now {name:?}"));
    if name != DEFAULT && std::env::var_os("DOCKER_HOST").is_some_and(|h| !h.is_empty()) {
        warn(&format!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global \
             --context flag, or unset DOCKER_HOST environment variable."
        ));
    }
    Ok(0)
}

/// A context as an archive: `meta.json`, and `tls/docker/` with its files.
fn pack((meta, tls): &Known) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if path == "meta.json" { 0o644 } else { 0o600 });
        archive.append_data(&mut header, path, bytes)
    };
    add("meta.json", &pretty(meta))?;
    for (file, bytes) in tls {
        add(&format!("tls/docker/{file}"), bytes)?;
    }
    archive.into_inner()
}

/// Reads what [`pack`] or the stock client wrote.
fn unpack(bytes: impl Read) -> Result<Known, Failure> {
    let fail = |e: std::io::Error| Failure::new(format!("read the context's archive: {e}"));
    let (mut meta, mut tls) = (Value::Null, BTreeMap::new());
    for entry in tar::Archive::new(bytes.take(MAX_EXPORT)).entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.display().to_string();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(fail)?;
        if path == "meta.json" {
            meta = serde_json::from_slice(&content).map_err(|e| Failure::new(format!("read the context's meta.json: {e}")))?;
        } else if let Some(file) = path.strip_prefix("tls/docker/").filter(|f| context::TLS_FILES.contains(f)) {
            tls.insert(file.to_owned(), content);
        } else {
            return Err(Failure::new(format!("the context's archive has an unexpected file: {path}")));
        }
    }
    if meta["Endpoints"]["docker"]["Host"].is_string() {
        return Ok((meta, tls));
    }
    Err(Failure::new("the context's archive has no meta.json that names a daemon"))
}

async fn export(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    let bytes = pack(&known(app, name)?).map_err(|e| Failure::new(format!("pack context {name:?}: {e}")))?;
    let file = if m.arg(1).is_empty() { format!("{name}.dockercontext") } else { m.arg(1).to_owned() };
    if file == "-" {
        if crate::output::on_terminal() {
            return Err(Failure::new("cowardly refusing to export to a terminal, specify a file path"));
        }
        crate::output::print_bytes(&bytes)?;
        return Ok(0);
    }
    // Keys are in it, and nothing of the user's is written over.
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let written = options.open(&file).and_then(|mut out| out.write_all(&bytes));
    written.map_err(|e| Failure::new(format!("write {file}: {e}")))?;
    warn(&format!("Written file {file:?}"));
    Ok(0)
}

async fn import(app: &App, m: &Matches) -> Result<u8, Failure> {
    let (name, file) = (m.arg(0), m.arg(1));
    check_name(name)?;
    if context::meta(&app.config, name).is_ok() {
        return Err(Failure::new(format!("context {name:?} already exists")));
    }
    let (mut meta, tls) = if file == "-" {
        unpack(std::io::stdin().lock())?
    } else {
        unpack(std::fs::File::open(file).map_err(|e| Failure::new(format!("open {file}: {e}")))?)?
    };
    meta["Name"] = name.into();
    context::write(&app.config, &meta, &tls)?;
    print(&format!("{name}\n"))?;
    warn(&format!("Successfully imported context {name:?}"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Endpoint;
    use crate::commands::tests::read;
    use crate::config::Config;

    fn app(dir: &Path) -> App {
        let config = Config::load(dir.to_owned()).0;
        App::new("skep", config, Endpoint::parse("unix:///run/x.sock", None).unwrap())
    }

    fn run<'a>(work: impl std::future::Future<Output = Result<u8, Failure>> + 'a) -> Result<u8, String> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work).map_err(|e| e.message)
    }

    #[test]
    fn a_context_is_made_used_moved_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        std::fs::write(&ca, "a CA").unwrap();
        let line = format!("context create --description away --docker host=tcp://far:2376,ca={} far", ca.display());
        assert_eq!(run(create(&app(dir.path()), &read(&line))), Ok(0));
        assert_eq!(run(create(&app(dir.path()), &read(&line))), Err("context \"far\" already exists".to_owned()));
        assert!(
            run(create(&app(dir.path()), &read("context create x --docker host=tcp://x"))).unwrap_err().contains("invalid")
        );
        assert!(run(create(&app(dir.path()), &read("context create xy --docker port=1"))).unwrap_err().contains("port"));
        let other = read("context create near --from far --docker host=unix:///run/n.sock");
        assert_eq!(run(create(&app(dir.path()), &other)), Ok(0));
        assert_eq!(known(&app(dir.path()), "near").unwrap().0["Metadata"]["Description"], "away");

        assert_eq!(run(take(&app(dir.path()), &read("context use far"))), Ok(0));
        assert_eq!(app(dir.path()).config.text("currentContext"), Some("far"));
        assert!(run(take(&app(dir.path()), &read("context use nowhere"))).unwrap_err().contains("context not found"));

        let file = dir.path().join("far.dockercontext").display().to_string();
        assert_eq!(run(export(&app(dir.path()), &read(&format!("context export far {file}")))), Ok(0));
        assert!(run(export(&app(dir.path()), &read(&format!("context export far {file}")))).unwrap_err().contains("exists"));
        assert_eq!(run(import(&app(dir.path()), &read(&format!("context import copy {file}")))), Ok(0));
        let (far, copy) = (known(&app(dir.path()), "far").unwrap(), known(&app(dir.path()), "copy").unwrap());
        assert_eq!((&copy.0["Endpoints"], &copy.0["Name"], copy.1), (&far.0["Endpoints"], &json!("copy"), far.1));
        std::fs::write(&file, "no archive").unwrap();
        assert!(run(import(&app(dir.path()), &read(&format!("context import bad {file}")))).is_err());

        assert!(run(rm(&app(dir.path()), &read("context rm far"))).unwrap_err().contains("is in use"));
        assert_eq!(run(rm(&app(dir.path()), &read("context rm -f far copy"))), Ok(0));
        assert_eq!(app(dir.path()).config.text("currentContext"), None);
        assert_eq!(context::names(&app(dir.path()).config).unwrap(), ["near"]);
    }
}
