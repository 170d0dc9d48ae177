//! Placeholders in a service's environment, host name, mounts and labels that each task fills in: `{{.Task.Slot}}`
//! (`swarm-semantics` 3.4, Docker's `service create --env` with templates). The fields and `index` of Go's templates are known,
//! which is what Docker documents; anything else is refused when the service is created.

use crate::spec::{ContainerSpec, Labels, Mount};

/// What placeholders stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// `.Service.ID`
    pub service_id: String,
    /// `.Service.Name`
    pub service_name: String,
    /// `.Service.Labels`
    pub service_labels: Labels,
    /// `.Node.ID`
    pub node_id: String,
    /// `.Node.Hostname`
    pub node_hostname: String,
    /// `.Node.Platform.Architecture`
    pub architecture: String,
    /// `.Node.Platform.OS`
    pub os: String,
    /// `.Task.ID`
    pub task_id: String,
    /// `.Task.Name`
    pub task_name: String,
    /// `.Task.Slot`: a number, or the node's id for tasks that belong to nodes.
    pub task_slot: String,
}

impl Context {
    fn value(&self, expression: &str) -> Result<&str, String> {
        let known = match expression {
            ".Service.ID" => &self.service_id,
            ".Service.Name" => &self.service_name,
            ".Node.ID" => &self.node_id,
            ".Node.Hostname" => &self.node_hostname,
            ".Node.Platform.Architecture" => &self.architecture,
            ".Node.Platform.OS" => &self.os,
            ".Task.ID" => &self.task_id,
            ".Task.Name" => &self.task_name,
            ".Task.Slot" => &self.task_slot,
            _ => return self.label(expression).ok_or_else(|| format!("template: unknown placeholder {{{{{expression}}}}}")),
        };
        Ok(known)
    }

    /// `.Service.Labels.name` or `index .Service.Labels "name"`; empty when there is no such label.
    fn label(&self, expression: &str) -> Option<&str> {
        let plain = expression.strip_prefix(".Service.Labels.").filter(|n| !n.is_empty() && !n.contains(['.', ' ']));
        let indexed = || {
            let name = expression.strip_prefix("index")?.trim_start().strip_prefix(".Service.Labels")?.trim();
            name.strip_prefix('"')?.strip_suffix('"').filter(|n| !n.contains('"'))
        };
        let name = plain.or_else(indexed)?;
        Some(self.service_labels.get(name).map_or("", String::as_str))
    }
}

/// What a payload may ask for besides placeholders (`swarm-semantics` 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// `secret "target"`: bytes of another secret of the task.
    Secret(&'a str),
    /// `config "target"`
    Config(&'a str),
    /// `env "VARIABLE"` of the container.
    Env(&'a str),
}

impl<'a> Asked<'a> {
    fn of(expression: &'a str) -> Option<Self> {
        let (function, rest) = expression.split_once(char::is_whitespace)?;
        let name = rest.trim().strip_prefix('"')?.strip_suffix('"').filter(|n| !n.contains('"'))?;
        match function {
            "secret" => Some(Self::Secret(name)),
            "config" => Some(Self::Config(name)),
            "env" => Some(Self::Env(name)),
            _ => None,
        }
    }
}

/// Fills in a secret or config that is a template.
///
/// # Errors
/// A placeholder that is unknown or does not end, or what `find` says.
pub fn expand_payload(
    text: &str,
    context: &Context,
    find: impl Fn(Asked<'_>) -> Result<String, String>,
) -> Result<String, String> {
    walk(text, |expression| match Asked::of(expression) {
        Some(asked) => find(asked),
        None => context.value(expression).map(str::to_owned),
    })
}

/// Whether all placeholders of a payload are known.
///
/// # Errors
/// The first that is not.
pub fn check_payload(text: &str) -> Result<(), String> {
    expand_payload(text, &Context::default(), |_| Ok(String::new())).map(drop)
}

/// Fills in the placeholders of a text.
///
/// # Errors
/// One that is unknown, or does not end.
pub fn expand(text: &str, context: &Context) -> Result<String, String> {
    walk(text, |expression| context.value(expression).map(str::to_owned))
}

fn walk(text: &str, value: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, left) = after.split_once("}}").ok_or_else(|| format!("template: unclosed action in {text:?}"))?;
        out.push_str(before);
        out.push_str(&value(inside.trim())?);
        rest = left;
    }
    out.push_str(rest);
    Ok(out)
}

fn of_mount(m: &Mount) -> impl Iterator<Item = &String> {
    [&m.source, &m.target].into_iter().chain(m.volume_labels.values()).chain(m.volume_options.values())
}

fn texts(c: &ContainerSpec) -> impl Iterator<Item = &String> {
    let mounts = c.mounts.iter().flat_map(of_mount);
    c.env.iter().chain([&c.hostname]).chain(mounts).chain(c.labels.values())
}

/// Whether a container has placeholders.
#[must_use]
pub fn is_used(c: &ContainerSpec) -> bool {
    texts(c).any(|t| t.contains("{{"))
}

/// Whether all placeholders of a container are known.
///
/// # Errors
/// The first that is not, with where it stands.
pub fn check(c: &ContainerSpec) -> Result<(), String> {
    fill(&mut c.clone(), &Context::default())
}

/// Fills in the placeholders of a container.
///
/// # Errors
/// As [`check`]; the container may be half filled in then.
pub fn fill(c: &mut ContainerSpec, context: &Context) -> Result<(), String> {
    let put = |what: &str, text: &mut String| -> Result<(), String> {
        if text.contains("{{") {
            *text = expand(text, context).map_err(|e| format!("expanding {what} failed: {e}"))?;
        }
        Ok(())
    };
    c.env.iter_mut().try_for_each(|e| put("env", e))?;
    put("hostname", &mut c.hostname)?;
    c.labels.values_mut().try_for_each(|l| put("labels", l))?;
    for Mount { source, target, volume_labels, volume_options, .. } in &mut c.mounts {
        put("mounts", source)?;
        put("mounts", target)?;
        volume_labels.values_mut().chain(volume_options.values_mut()).try_for_each(|l| put("mounts", l))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_may_ask_for_other_files_and_the_environment() {
        let context = Context { task_slot: "3".into(), ..Context::default() };
        let find = |asked: Asked<'_>| match asked {
            Asked::Secret("pw") => Ok("hunter2".to_owned()),
            Asked::Env("HOME") => Ok("/root".to_owned()),
            other => Err(format!("no {other:?}")),
        };
        let text = "p={{ secret \"pw\" }} h={{env \"HOME\"}} {{.Task.Slot}}";
        assert_eq!(expand_payload(text, &context, find).unwrap(), "p=hunter2 h=/root 3");
        assert!(expand_payload("{{config \"x\"}}", &context, find).is_err());
        assert!(check_payload("{{config \"x\"}}").is_ok() && check_payload("{{range .}}").is_err());
    }

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_refused() {
        let context = Context {
            task_slot: "3".into(),
            node_hostname: "worker1".into(),
            service_labels: [("a.b".to_owned(), "c".to_owned())].into(),
            ..Context::default()
        };
        assert_eq!(expand("{{.Node.Hostname}}-{{ .Task.Slot }}!", &context).unwrap(), "worker1-3!");
        assert_eq!(expand("{{index .Service.Labels \"a.b\"}}{{.Service.Labels.none}}", &context).unwrap(), "c");
        assert_eq!(expand("no }} placeholder", &context).unwrap(), "no }} placeholder");
        for bad in ["{{.Task.Nope}}", "{{.Task.ID", "{{}}", "{{printf \"x\"}}"] {
            assert!(expand(bad, &context).is_err(), "{bad}");
        }
        let mut c = ContainerSpec { env: vec!["N={{.Task.Slot}}".into()], ..ContainerSpec::default() };
        assert!(is_used(&c));
        check(&c).unwrap();
        fill(&mut c, &context).unwrap();
        assert_eq!(c.env, ["N=3"]);
        c.hostname = "{{.X}}".into();
        assert!(check(&c).unwrap_err().starts_with("expanding hostname failed: "));
    }
}
