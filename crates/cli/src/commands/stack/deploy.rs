//! `stack deploy`: makes the swarm have what the files say, in the stock client's order and with its words (`swarm-semantics` 9.1).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use skep_compose::Stack;

use super::image::{self, Resolve};
use super::plan::{self, Current, Found, Kind, NAMESPACE, ObjectStep};
use super::{fetch, history, source};
use crate::app::{App, Failure};
use crate::client::{Client, ClientError, MOST_TRIES, escape, query};
use crate::config::auth;
use crate::grammar::Matches;
use crate::options;
use crate::output::{print, warn};
use crate::progress;

/// What the stock client says when nobody told it whether to wait.
const DETACH_NOTICE: &str = "Since --detach=false was not specified, tasks will be created in the background.\n\
                             In a future release, --detach=false will become the default.";
/// What a change of a secret's data is refused with.
const LABELS_ONLY: &str = "only updates to Labels are allowed";

/// `stack deploy`.
///
/// # Errors
/// At the first failure; nothing is undone.
pub async fn deploy(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    skep_compose::check_name(name)?;
    let how = Resolve::read(m.text("resolve-image"))?;
    let stack = source::stack(m, name)?;
    if !m.given("detach") && !m.given("wait") {
        warn(DETACH_NOTICE);
    }
    let client = app.client().await?;
    let current = fetch::current(client, &stack).await?;
    plan::references(&stack, &current)?;
    let auth = m.on("with-registry-auth");
    // Registries answer while the rest is made.
    let (answers, made) = tokio::join!(
        image::ask(app, client, &stack, &current, how, auth),
        groundwork(client, &stack, &current, m.on("prune")),
    );
    let (networks, found) = made?;
    let mut bodies = Map::new();
    let mut headers = BTreeMap::new();
    let mut told = BTreeSet::new();
    for service in &stack.services {
        let mut body = plan::resolved(&service.body, &networks, &found, &current)
            .map_err(|e| Failure::new(format!("{}: service {}: {e}", service.place, service.key)))?;
        if let Some(text) = image::apply(&mut body, service, &current, &answers)
            && told.insert(service.image.clone())
        {
            warn(&text);
        }
        if auth {
            headers.insert(service.name.as_str(), auth::header(&app.config, &service.image));
        }
        bodies.insert(service.name.clone(), body);
    }
    let touched = apply_all(client, &bodies, &headers, &current).await?;
    let changed: Vec<String> = touched.iter().map(|(name, _)| name.clone()).collect();
    // The stock client leaves no records, and who calls us by its name expects none.
    if app.program != "docker" && !changed.is_empty() {
        history::note(client, &stack.name, &bodies, &changed).await;
    }
    prune_versions(client, &stack, &current).await;
    if !super::waits(m) {
        return Ok(0);
    }
    wait(app, client, touched, m.on("quiet")).await
}

/// Everything that services need: what is too much goes, networks, secrets and configs come.
async fn groundwork(
    client: &Client,
    stack: &Stack,
    current: &Current,
    prune: bool,
) -> Result<(BTreeMap<String, String>, Found), Failure> {
    if prune {
        for (name, id) in plan::leftover(&stack.services.iter().map(|s| s.name.as_str()).collect(), current) {
            print(&format!("Removing service {name}\n"))?;
            client.call("DELETE", &format!("/services/{}", escape(&id)), None).await?;
        }
    }
    let mut ids = plan::networks(stack, current)?;
    for network in stack.networks.iter() {
        if ids.contains_key(&network.name) {
            continue;
        }
        print(&format!("Creating network {}\n", network.name))?;
        let made = client.call("POST", "/networks/create", Some(&network.body)).await;
        let made = made.map_err(|e| because(&format!("failed to create network {}", network.name), e))?;
        ids.insert(network.name.clone(), made["Id"].as_str().unwrap_or_default().to_owned());
    }
    let mut found = Found::default();
    for kind in [Kind::Secret, Kind::Config] {
        let (objects, existing) = match kind {
            Kind::Secret => (&stack.secrets, &current.secrets),
            Kind::Config => (&stack.configs, &current.configs),
        };
        for object in objects {
            let step = plan::object_step(kind, object, &stack.name, existing);
            let (name, id) = object_made(client, kind, step).await?;
            found.put(kind, &object.name, &name, &id);
        }
    }
    Ok((ids, found))
}

fn because(what: &str, e: ClientError) -> Failure {
    let why = Failure::from(e);
    Failure::new(format!("{what}: {}", why.message))
}

async fn object_made(client: &Client, kind: Kind, step: ObjectStep) -> Result<(String, String), Failure> {
    let word = kind.word();
    let create = async |name: String, body: &Value, version: bool| {
        let what = if version {
            format!("Creating {word} {name} (its content has changed)\n")
        } else {
            format!("Creating {word} {name}\n")
        };
        print(&what)?;
        let made = client.call("POST", &format!("{}/create", kind.path()), Some(body)).await;
        let made = made.map_err(|e| because(&format!("failed to create {word} {name}"), e))?;
        Ok::<_, Failure>((name, made["ID"].as_str().unwrap_or_default().to_owned()))
    };
    match step {
        ObjectStep::Keep { name, id } => Ok((name, id)),
        ObjectStep::Create { name, version, body } => create(name, &body, version).await,
        ObjectStep::Update { name, id, index, body, otherwise } => {
            let path = query(&format!("{}/{}/update", kind.path(), escape(&id)), &[("version", &index.to_string())]);
            match (client.call("POST", &path, Some(&body)).await, otherwise) {
                (Ok(_), _) => Ok((name, id)),
                (Err(ClientError::Refused { message, .. }), Some((version, body))) if message.contains(LABELS_ONLY) => {
                    create(version, &body, true).await
                }
                (Err(e), _) => Err(because(&format!("failed to update {word} {name}"), e)),
            }
        }
    }
}

/// Creates or updates services, several at a time; names and ids of those that were not as they should be.
pub(super) async fn apply_all(
    client: &Client,
    bodies: &Map<String, Value>,
    headers: &BTreeMap<&str, String>,
    current: &Current,
) -> Result<Vec<(String, String)>, Failure> {
    let work = bodies.iter().map(|(name, body)| async move {
        let auth = headers.get(name.as_str()).map(String::as_str);
        Ok(apply(client, name, body, current, auth).await?.map(|id| (name.clone(), id)))
    });
    let mut touched: Vec<(String, String)> = fetch::at_once(fetch::WRITES, work).await?.into_iter().flatten().collect();
    touched.sort();
    Ok(touched)
}

/// Creates or updates a service; its id, unless it is as it should be.
async fn apply(
    client: &Client,
    name: &str,
    body: &Value,
    current: &Current,
    auth: Option<&str>,
) -> Result<Option<String>, Failure> {
    let headers: Vec<(&str, &str)> = auth.iter().map(|h| ("X-Registry-Auth", *h)).collect();
    let (answer, id) = match plan::service(current, name) {
        None => {
            print(&format!("Creating service {name}\n"))?;
            let made = client.call_with("POST", "/services/create", &headers, Some(body)).await;
            let made = made.map_err(|e| because(&format!("failed to create service {name}"), e))?;
            let id = made["ID"].as_str().unwrap_or_default().to_owned();
            (made, id)
        }
        Some(existing) => match update(client, name, existing, body, &headers, auth.is_some()).await? {
            Some(done) => done,
            None => return Ok(None),
        },
    };
    for warning in answer["Warnings"].as_array().into_iter().flatten().chain(answer.get("Warning")) {
        if let Some(text) = warning.as_str().filter(|t| !t.is_empty()) {
            warn(text);
        }
    }
    Ok(Some(id))
}

/// Updates a service; its answer and id, unless it is as it should be.
async fn update(
    client: &Client,
    name: &str,
    existing: &Value,
    wanted: &Value,
    headers: &[(&str, &str)],
    auth: bool,
) -> Result<Option<(Value, String)>, Failure> {
    let id = existing["ID"].as_str().unwrap_or_default().to_owned();
    let mut existing = existing.clone();
    for tries in 1.. {
        let (changes, body) = plan::update(&existing, wanted);
        // Credentials are no part of the spec: they are sent when they are asked for.
        if changes.is_empty() && !auth {
            return Ok(None);
        }
        if tries == 1 {
            print(&format!("Updating service {name} (id: {id})\n"))?;
        }
        let index = existing["Version"]["Index"].as_u64().unwrap_or(0).to_string();
        let from = if auth { "" } else { "spec" };
        let path = query(&format!("/services/{}/update", escape(&id)), &[("version", &index), ("registryAuthFrom", from)]);
        match client.call_with("POST", &path, headers, Some(&body)).await {
            Ok(answer) => return Ok(Some((answer, id))),
            // The swarm has noted something about the service since it was read, such as the end of an update.
            Err(ClientError::Refused { message, .. }) if message.contains("out of sequence") && tries < MOST_TRIES => {
                existing = client.call("GET", &format!("/services/{}", escape(&id)), None).await?;
            }
            Err(e) => return Err(because(&format!("failed to update service {name}"), e)),
        }
    }
    Ok(None)
}

/// Removes versions of secrets and configs that nothing names any more. One that cannot be removed stays for the next deploy.
async fn prune_versions(client: &Client, stack: &Stack, before: &Current) {
    let kinds = [(Kind::Secret, &stack.secrets, &before.secrets), (Kind::Config, &stack.configs, &before.configs)];
    // Most deploys have none, and ask nothing.
    if kinds.iter().all(|(kind, objects, existing)| plan::unused(*kind, objects, &stack.name, existing, &[]).is_empty()) {
        return;
    }
    let Ok(mut services) = fetch::services(client, &stack.name).await else { return };
    services.extend(history::bodies(client, &stack.name).await);
    for (kind, objects, existing) in kinds {
        for (name, id) in plan::unused(kind, objects, &stack.name, existing, &services) {
            if client.call("DELETE", &format!("{}/{}", kind.path(), escape(&id)), None).await.is_ok() {
                let _ = print(&format!("Removing {} {name} (nothing uses it any more)\n", kind.word()));
            }
        }
    }
}

/// Waits until every service that was touched has converged.
pub(super) async fn wait(app: &App, client: &Client, touched: Vec<(String, String)>, quiet: bool) -> Result<u8, Failure> {
    if let [(_, id)] = touched.as_slice() {
        progress::follow(client, &app.program, id, quiet).await?;
        return Ok(0);
    }
    // All at once: each has to hold for its monitor period, which would add up.
    let followed = touched.iter().map(|(name, id)| async move {
        let ended = progress::follow(client, &app.program, id, true).await;
        match ended.map_err(|e| Failure::new(format!("{name}: {}", e.message)))? {
            progress::Ended::Converged if !quiet => print(&format!("Service {name} converged\n")),
            _ => Ok(()),
        }
    });
    let mut failures = Vec::new();
    for done in futures_util::future::join_all(followed).await {
        failures.extend(done.err());
    }
    Failure::all(failures)
}

/// The filter for what belongs to a stack.
pub(super) fn of_stack(name: &str) -> String {
    options::filter("label", &[&format!("{NAMESPACE}={name}")])
}
