//! `stack diff`: what a deploy of the files would change, field by field; nothing is done.

use super::image::{self, Resolve};
use super::plan::{self, Found, Kind, ObjectStep};
use super::{fetch, source};
use crate::app::{App, Failure};
use crate::grammar::Matches;
use crate::output::print;

/// Longest value that is shown whole.
const MAX_VALUE: usize = 200;

/// `stack diff`.
///
/// # Errors
/// As a deploy, as far as it can be told before.
pub async fn diff(app: &App, m: &Matches) -> Result<u8, Failure> {
    let name = m.arg(0);
    skep_compose::check_name(name)?;
    let how = Resolve::read(m.text("resolve-image"))?;
    let stack = source::stack(m, name)?;
    let client = app.client().await?;
    let current = fetch::current(client, &stack).await?;
    let answers = image::ask(app, client, &stack, &current, how, m.on("with-registry-auth")).await;
    let mut out = String::new();
    if m.on("prune") {
        for (name, _) in plan::leftover(&stack.services.iter().map(|s| s.name.as_str()).collect(), &current) {
            out += &format!("- service {name}\n");
        }
    }
    let ids = plan::networks(&stack, &current)?;
    for network in stack.networks.iter().filter(|n| !ids.contains_key(&n.name)) {
        out += &format!("+ network {}\n", network.name);
    }
    let mut found = Found::default();
    for kind in [Kind::Secret, Kind::Config] {
        let (objects, existing) = match kind {
            Kind::Secret => (&stack.secrets, &current.secrets),
            Kind::Config => (&stack.configs, &current.configs),
        };
        let word = kind.word();
        for object in objects {
            let (name, id) = match plan::object_step(kind, object, name, existing) {
                ObjectStep::Keep { name, id } => (name, id),
                ObjectStep::Create { name, version, .. } => {
                    let why = if version { " (its content has changed)" } else { "" };
                    out += &format!("+ {word} {name}{why}\n");
                    (name, "(new)".to_owned())
                }
                ObjectStep::Update { name, id, otherwise, .. } => {
                    let what = if otherwise.is_some() { "its content is not known before the deploy" } else { "its labels" };
                    out += &format!("~ {word} {name} ({what})\n");
                    (name, id)
                }
            };
            found.put(kind, &object.name, &name, &id);
        }
    }
    for service in &stack.services {
        let mut body = plan::resolved(&service.body, &ids, &found, &current)
            .map_err(|e| Failure::new(format!("{}: service {}: {e}", service.place, service.key)))?;
        let _ = image::apply(&mut body, service, &current, &answers);
        match plan::service(&current, &service.name) {
            None => out += &format!("+ service {}\n", service.name),
            Some(existing) => {
                let (changes, _) = plan::update(existing, &body);
                if !changes.is_empty() {
                    out += &format!("~ service {}\n", service.name);
                }
                for change in changes {
                    out += &line(&change);
                }
            }
        }
    }
    if out.is_empty() {
        out = format!("Nothing would change in stack: {name}\n");
    }
    print(&out)?;
    Ok(0)
}

fn line(change: &super::compare::Change) -> String {
    let cut = |text: &str| {
        let text: String =
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
        crate::output::human::ellipsis(&text, MAX_VALUE)
    };
    let path = &change.path;
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => format!("    {path}: {} -> {}\n", cut(old), cut(new)),
        (Some(old), None) => format!("  - {path}: {}\n", cut(old)),
        (None, Some(new)) => format!("  + {path}: {}\n", cut(new)),
        (None, None) => String::new(),
    }
}
