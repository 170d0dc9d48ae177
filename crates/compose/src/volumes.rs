//! Mounts: the short form becomes the long one, and paths of the caller's machine become absolute.

use std::path::{Component, Path, PathBuf};

use crate::node::{Node, Value, mapping};
use crate::place::{Place, Report, Warning, WarningKind};

/// Where relative paths begin, and what `~` is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths<'a> {
    /// An absolute directory.
    pub(crate) base: &'a Path,
    /// The caller's home.
    pub(crate) home: Option<&'a str>,
    /// Variables were left as they are (`stack config --skip-interpolation`): what has one is kept as written.
    pub(crate) raw: bool,
}

impl Paths<'_> {
    /// A path of the file as an absolute one, without `.` and `..`.
    pub(crate) fn absolute(&self, text: &str) -> PathBuf {
        let joined = match (text.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                Path::new(home).join(rest.trim_start_matches('/'))
            }
            _ => self.base.join(text),
        };
        let mut clean = PathBuf::new();
        for part in joined.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    clean.pop();
                }
                part => clean.push(part),
            }
        }
        clean
    }

    pub(crate) fn absolute_text(&self, text: &str) -> String {
        self.absolute(text).to_string_lossy().into_owned()
    }
}

const PROPAGATIONS: &[&str] = &["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// The long form of each item of a service's `volumes`.
pub(crate) fn expand(list: &[Node], path: &str, paths: Paths<'_>, report: &mut Report) -> Vec<Node> {
    let mut made = Vec::new();
    for (n, item) in list.iter().enumerate() {
        let path = format!("{path}.{n}");
        let mount = match &item.value {
            Value::Str(text) if paths.raw && text.contains('$') => Ok(item.clone()),
            Value::Str(text) => short(&item.at, text, &path, paths, report),
            _ => long(item, paths),
        };
        match mount {
            Ok(mount) => made.push(mount),
            Err(cause) => report.fault(&item.at, format!("{path}: {cause}")),
        }
    }
    made
}

fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
fn short(at: &Place, text: &str, path: &str, paths: Paths<'_>, report: &mut Report) -> Result<Node, String> {
    let parts: Vec<&str> = text.splitn(5, ':').collect();
    if parts.iter().any(|p| p.trim().is_empty()) {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(format!("invalid spec: {text}: too many colons")),
    };
    let bind = source.is_some_and(is_path);
    let mut fields = vec![("type".to_owned(), Node::text(at, if bind { "bind" } else { "volume" }))];
    if let Some(source) = source {
        let source = if bind { paths.absolute_text(source) } else { source.to_owned() };
        fields.push(("source".to_owned(), Node::text(at, source)));
    }
    fields.push(("target".to_owned(), Node::text(at, absolute_target(target)?)));
    let truth = |value| Node::new(at, Value::Bool(value));
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => fields.push(("read_only".to_owned(), truth(true))),
            "rw" | "cached" | "delegated" | "consistent" => {}
            "nocopy" if !bind => fields.push(("volume".to_owned(), mapping(at, [("nocopy".to_owned(), truth(true))]))),
            _ if bind && PROPAGATIONS.contains(&option) => {
                let propagation = mapping(at, [("propagation".to_owned(), Node::text(at, option))]);
                fields.push(("bind".to_owned(), propagation));
            }
            _ => report.warn(Warning {
                place: at.clone(),
                kind: WarningKind::Note,
                key: "volumes".to_owned(),
                path: path.to_owned(),
                text: format!("the option {option:?} has no effect on a {} of a service", if bind { "bind" } else { "volume" }),
            }),
        }
    }
    Ok(mapping(at, fields))
}

fn absolute_target(target: &str) -> Result<&str, String> {
    if target.starts_with('/') { Ok(target) } else { Err(format!("invalid mount target, must be an absolute path: {target}")) }
}

fn long(item: &Node, paths: Paths<'_>) -> Result<Node, String> {
    let mut made = item.clone();
    let kind = item.get("type").and_then(Node::str).unwrap_or_default();
    let source = item.get("source").and_then(Node::str).unwrap_or_default();
    let target = item.get("target").and_then(Node::str).ok_or("target is required")?;
    absolute_target(target)?;
    match kind {
        "bind" if source.is_empty() => return Err("invalid bind source, source cannot be empty".to_owned()),
        "bind" => made.set("source", Node::text(&item.at, paths.absolute_text(source))),
        "tmpfs" if !source.is_empty() => return Err("invalid tmpfs source, source must be empty".to_owned()),
        "volume" if source.starts_with('/') => {
            return Err(format!("invalid volume mount source, must not be an absolute path: {source}"));
        }
        "npipe" | "image" => return Err(format!("mounts of type {kind} are not possible in a swarm of Linux hosts")),
        _ => {}
    }
    for options in ["bind", "volume", "tmpfs", "image"] {
        if options != kind && item.get(options).is_some() {
            return Err(format!("{options} options are incompatible with type {kind}"));
        }
    }
    let propagation = item.get("bind").and_then(|b| b.get("propagation")).and_then(Node::str);
    if let Some(other) = propagation.filter(|p| !p.is_empty() && !PROPAGATIONS.contains(p)) {
        return Err(format!("invalid propagation {other:?}: it must be one of {}", PROPAGATIONS.join(", ")));
    }
    Ok(made)
}
