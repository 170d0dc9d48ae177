//! `stack …`: many services from compose files (`swarm-semantics` 1.7, 9). The files are `skep-compose`'s; the daemon knows of stacks
//! nothing but their labels.

pub mod compare;
pub mod deploy;
pub mod diff;
pub mod fetch;
pub mod history;
pub mod image;
pub mod plan;
pub mod remove;
pub mod source;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tasks::{self, Show};
use super::{FILTER, FORMAT, service};
use crate::app::{App, Failure};
use crate::client::query;
use crate::grammar::{Arity, Command, Matches};
use crate::options;
use crate::output::list::{self, List};
use crate::output::{natural, print, warn};
use plan::NAMESPACE;

const FILES: &str = "-c --compose-file strings* Path to a Compose file, or '-' to read from stdin; several are merged in order";
const DEPLOY: &str = "
    -d --detach bool Exit immediately instead of waiting for the stack services to converge (default true)
    --prune bool Prune services that are no longer referenced
    -q --quiet bool Suppress progress output
    --resolve-image string Query the registry to resolve image digest and supported platforms: always, changed, never
    --wait bool Wait until all services are as asked (the same as --detach=false)
    --with-registry-auth bool Send registry authentication details to Swarm agents";
const DIFF: &str = "
    --prune bool Show services that --prune would remove
    --resolve-image string Query the registry to resolve image digest and supported platforms: always, changed, never
    --with-registry-auth bool Send registry authentication details";
const RM: &str = "
    -d --detach bool Do not wait for stack removal (default true)
    --wait bool Wait until no task is left (the same as --detach=false)";
const PS: &str = "
    --no-resolve bool Do not map IDs to Names
    --no-trunc bool Do not truncate output
    -q --quiet bool Only display task IDs";
const SERVICES: &str = "-q --quiet bool Only display IDs";
const HISTORY: &str = "-q --quiet bool Only numbers";
const ROLLBACK: &str = "
    -d --detach bool Exit immediately instead of waiting for the stack services to converge (default true)
    --prune bool Remove services that came later
    -q --quiet bool Suppress progress output
    --wait bool Wait until all services are as asked (the same as --detach=false)";
const CONFIG: &str = "--skip-interpolation bool Skip interpolation and output only merged config";

/// The group.
pub const GROUP: Command = Command::group(
    "stack",
    "Manage Swarm stacks",
    &[
        Command::new(
            "deploy",
            "[OPTIONS] STACK",
            "Deploy a new stack or update an existing stack",
            Arity::Exactly(1),
            &[FILES, DEPLOY],
            |a, m| Box::pin(deploy::deploy(a, m)),
        )
        .alias(&["up"])
        .shown(&[
            "stack deploy -c compose.yml app",
            "stack deploy -c compose.yml -c production.yml --prune app",
            "stack deploy --detach=false -c - app",
        ]),
        Command::new(
            "diff",
            "[OPTIONS] STACK",
            "Show what a deploy would change",
            Arity::Exactly(1),
            &[FILES, DIFF],
            |a, m| Box::pin(diff::diff(a, m)),
        )
        .shown(&["stack diff -c compose.yml app"]),
        Command::new(
            "history",
            "[OPTIONS] STACK",
            "List the deploys of a stack that can be rolled back to",
            Arity::Exactly(1),
            &[FORMAT, HISTORY],
            |a, m| Box::pin(history::history(a, m)),
        ),
        Command::new(
            "rollback",
            "[OPTIONS] STACK [DEPLOY]",
            "Make the services of a stack as an earlier deploy had them, by default the one before the last",
            Arity::Between(1, 2),
            &[ROLLBACK],
            |a, m| Box::pin(history::rollback(a, m)),
        )
        .shown(&["stack history app", "stack rollback --detach=false app 3"]),
        Command::new("ls", "[OPTIONS]", "List stacks", Arity::None, &[FORMAT], |a, m| Box::pin(ls(a, m))).alias(&["list"]),
        Command::new(
            "ps",
            "[OPTIONS] STACK",
            "List the tasks in the stack",
            Arity::Exactly(1),
            &[FILTER, FORMAT, PS],
            |a, m| Box::pin(ps(a, m)),
        ),
        Command::new(
            "services",
            "[OPTIONS] STACK",
            "List the services in the stack",
            Arity::Exactly(1),
            &[FILTER, FORMAT, SERVICES],
            |a, m| Box::pin(services(a, m)),
        ),
        Command::new("rm", "[OPTIONS] STACK [STACK...]", "Remove one or more stacks", Arity::AtLeast(1), &[RM], |a, m| {
            Box::pin(remove::rm(a, m))
        })
        .alias(&["remove", "down"]),
        Command::new(
            "config",
            "[OPTIONS]",
            "Outputs the final config file, after doing merges and interpolations",
            Arity::None,
            &[FILES, CONFIG],
            |a, m| Box::pin(config(a, m)),
        )
        .shown(&["stack config -c compose.yml -c production.yml"]),
    ],
);

/// Whether a command is to return when all is as it was asked for; stacks do not wait unless they are told to.
fn waits(m: &Matches) -> bool {
    m.switch("wait").unwrap_or_else(|| m.switch("detach") == Some(false))
}

/// Rows of `stack ls`.
fn rows(services: &[Value]) -> Vec<Value> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for service in services {
        if let Some(stack) = service["Spec"]["Labels"][NAMESPACE].as_str() {
            *counts.entry(stack).or_default() += 1;
        }
    }
    let mut rows: Vec<(&str, usize)> = counts.into_iter().collect();
    rows.sort_by(|a, b| natural::compare(a.0, b.0));
    rows.into_iter().map(|(name, count)| json!({"Name": name, "Services": count.to_string()})).collect()
}

async fn ls(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let services = fetch::all(client, "/services", &options::filter("label", &[NAMESPACE])).await?;
    let columns: &[list::Column] = &[("Name", "NAME"), ("Services", "SERVICES")];
    let table = "{{.Name}}\t{{.Services}}";
    List { table, quiet: "{{.Name}}", columns, rows: rows(&services) }.show(m.text_or_empty("format"), false)?;
    Ok(0)
}

/// The user's filters and the stack's.
fn narrowed(m: &Matches) -> Result<String, Failure> {
    skep_compose::check_name(m.arg(0))?;
    Ok(options::filters_and(m.list("filter"), "label", &[format!("{NAMESPACE}={}", m.arg(0))])?)
}

async fn ps(app: &App, m: &Matches) -> Result<u8, Failure> {
    let filters = narrowed(m)?;
    let client = app.client().await?;
    let tasks = fetch::all(client, "/tasks", &filters).await?;
    if tasks.is_empty() {
        return Err(Failure::new(format!("nothing found in stack: {}", m.arg(0))));
    }
    let quiet = m.on("quiet");
    let format = app.format(m.text("format"), "tasksFormat", quiet);
    let no_trunc = m.on("no-trunc");
    // Unlike `service ps`, the stock client cuts ids here.
    let show = if quiet && !no_trunc && format.is_empty() {
        Show { format: "{{.ID}}", quiet: false, no_trunc, no_resolve: true }
    } else {
        Show { format, quiet, no_trunc, no_resolve: m.on("no-resolve") }
    };
    tasks::print(client, &tasks, show).await?;
    Ok(0)
}

async fn services(app: &App, m: &Matches) -> Result<u8, Failure> {
    let filters = narrowed(m)?;
    let client = app.client().await?;
    let quiet = m.on("quiet");
    let status = if quiet { "" } else { "true" };
    let found = client.call("GET", &query("/services", &[("filters", &filters), ("status", status)]), None).await?;
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        warn(&format!("Nothing found in stack: {}", m.arg(0)));
        return Ok(0);
    }
    service::print_list(found, app.format(m.text("format"), "servicesFormat", quiet), quiet)?;
    Ok(0)
}

async fn config(_: &App, m: &Matches) -> Result<u8, Failure> {
    let project = source::project(m, !m.on("skip-interpolation"))?;
    print(&project.yaml())?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_in_every_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let a = file("a.yml", "services: {web: {image: 'i:${FROM_DOTENV}'}}");
        let b = file("b.yml", "services: {web: {user: u}}");
        file(".env", "FROM_DOTENV=7\n");
        for line in [
            format!("stack deploy -c {a} -c {b} app"),
            format!("stack deploy app --compose-file={a},{b}"),
            format!("stack up --compose-file {a} app -c{b}"),
        ] {
            let m = crate::commands::tests::read(&line);
            let stack = source::stack(&m, m.arg(0)).unwrap();
            assert_eq!((stack.name.as_str(), stack.services[0].image.as_str()), ("app", "i:7"), "{line}");
            assert_eq!(stack.services[0].body["TaskTemplate"]["ContainerSpec"]["User"], "u");
        }
        for (flags, expected) in [("", false), ("-d", false), ("--detach=false", true), ("--wait", true), ("-d --wait", true)] {
            let m = crate::commands::tests::read(&format!("stack deploy {flags} app"));
            assert_eq!(waits(&m), expected, "{flags}");
        }
        let m = crate::commands::tests::read("stack deploy app");
        assert_eq!(source::stack(&m, "app").unwrap_err().message, "Specify a Compose file (with --compose-file)");
        let broken = file("broken.yml", "services: {web: {image: 5}}");
        let m = crate::commands::tests::read(&format!("stack config -c {broken}"));
        let told = source::project(&m, true).unwrap_err().message;
        assert_eq!(told, format!("{broken}:1:25: services.web.image must be a string"));
    }

    #[test]
    fn stacks_are_counted_and_sorted() {
        let service = |stack: &str| json!({"Spec": {"Labels": {NAMESPACE: stack}}});
        let rows = rows(&[service("app10"), service("app2"), service("app10"), json!({"Spec": {}})]);
        assert_eq!(rows, [json!({"Name": "app2", "Services": "1"}), json!({"Name": "app10", "Services": "2"})]);
    }
}
