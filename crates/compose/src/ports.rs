//! Published ports: the short form and ranges become long ones, one for each port.
//!
//! As with the stock client, a range of published ports with one target publishes every port of the range to that target.

use crate::limits;
use crate::node::{Node, Value, mapping};
use crate::place::{Place, Report};

/// The long forms of all items of a list; `raw` keeps what has a variable as written.
pub(crate) fn expand(list: &[Node], path: &str, raw: bool, report: &mut Report) -> Vec<Node> {
    let mut made = Vec::new();
    for (n, item) in list.iter().enumerate() {
        let path = format!("{path}.{n}");
        let variable = |n: &Node| n.str().is_some_and(|t| t.contains('$'));
        if raw && (variable(item) || item.entries().any(|(_, e)| variable(&e.node))) {
            made.push(item.clone());
            continue;
        }
        let ports = match &item.value {
            Value::Map(_) => long(item),
            _ => short(item),
        };
        match ports {
            Ok(ports) if made.len() + ports.len() <= limits::PORTS => made.extend(ports),
            Ok(_) => report.fault(&item.at, format!("{path}: more than {} ports of one service", limits::PORTS)),
            Err(cause) => report.fault(&item.at, format!("{path}: {cause}")),
        }
    }
    made
}

/// First and last port.
type Range = (u16, u16);

fn port(text: &str, what: &str) -> Result<u16, String> {
    let bad = || format!("invalid {what}: {text}");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

fn range(text: &str, what: &str) -> Result<Range, String> {
    let Some((first, last)) = text.split_once('-') else {
        let one = port(text, what)?;
        return Ok((one, one));
    };
    let range = (port(first, what)?, port(last, what)?);
    if range.1 < range.0 { Err(format!("invalid range specified for {what}: {text}")) } else { Ok(range) }
}

fn protocol(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if ["tcp", "udp", "sctp"].contains(&lower.as_str()) { Ok(lower) } else { Err(format!("invalid proto: {text}")) }
}

/// `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`.
fn short(item: &Node) -> Result<Vec<Node>, String> {
    let text = item.scalar().unwrap_or_default();
    let (spec, kind) = text.split_once('/').unwrap_or((&text, "tcp"));
    let kind = protocol(kind)?;
    let (front, target) = spec.rsplit_once(':').map_or((None, spec), |(f, t)| (Some(f), t));
    let (ip, published) = match front {
        None => (None, None),
        Some(front) => match front.rsplit_once(':') {
            None => (None, Some(front)),
            Some((ip, published)) => (Some(address(ip)?), Some(published)),
        },
    };
    if target.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let target = range(target, "containerPort")?;
    let published = published.filter(|p| !p.is_empty()).map(|p| range(p, "hostPort")).transpose()?;
    let extra = ip.map(|ip| ("host_ip".to_owned(), Node::text(&item.at, ip)));
    pairs(target, published)?.map(|(t, p)| Ok(made(&item.at, t, p, &kind, "ingress", extra.clone()))).collect()
}

fn address(text: &str) -> Result<&str, String> {
    let plain = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if plain.parse::<std::net::IpAddr>().is_ok() { Ok(plain) } else { Err(format!("invalid IP address: {text}")) }
}

/// Target and published port of each pair; 0 leaves the choice to the swarm.
fn pairs(target: Range, published: Option<Range>) -> Result<impl Iterator<Item = (u16, u16)>, String> {
    if target.0 == 0 {
        return Err("invalid containerPort: 0".to_owned());
    }
    let targets = u32::from(target.1 - target.0) + 1;
    let count = published.map_or(targets, |p| u32::from(p.1 - p.0) + 1);
    if targets != 1 && targets != count {
        return Err("invalid ranges specified for container and host Ports".to_owned());
    }
    let step = u16::from(targets > 1);
    // Neither sum leaves the range that was checked above.
    Ok((0..count).map(move |n| {
        let n = u16::try_from(n).unwrap_or(u16::MAX);
        (target.0.saturating_add(n * step), published.map_or(0, |p| p.0.saturating_add(n)))
    }))
}

fn long(item: &Node) -> Result<Vec<Node>, String> {
    let target = match item.get("target").map(|n| &n.value) {
        Some(Value::Int(n)) => {
            u16::try_from(*n).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid containerPort: {n}"))?
        }
        _ => return Err("target is required".to_owned()),
    };
    let published = item.get("published").and_then(Node::scalar).filter(|t| !t.is_empty());
    let published = published.map(|t| range(&t, "hostPort")).transpose()?;
    let kind = protocol(item.get("protocol").and_then(Node::str).unwrap_or("tcp"))?;
    let mode = item.get("mode").and_then(Node::str).unwrap_or("ingress");
    if !["ingress", "host"].contains(&mode) {
        return Err(format!("invalid publish mode {mode:?}: it must be ingress or host"));
    }
    let kept = |(k, _): &(&String, _)| matches!(k.as_str(), "name" | "host_ip" | "app_protocol") || k.starts_with("x-");
    let extra: Vec<(String, Node)> = item.entries().filter(kept).map(|(k, e)| (k.clone(), e.node.clone())).collect();
    pairs((target, target), published)?.map(|(t, p)| Ok(made(&item.at, t, p, &kind, mode, extra.clone()))).collect()
}

fn made(
    at: &Place,
    target: u16,
    published: u16,
    protocol: &str,
    mode: &str,
    extra: impl IntoIterator<Item = (String, Node)>,
) -> Node {
    let mut fields = vec![
        ("target".to_owned(), Node::new(at, Value::Int(i64::from(target)))),
        ("protocol".to_owned(), Node::text(at, protocol)),
        ("mode".to_owned(), Node::text(at, mode)),
    ];
    if published > 0 {
        fields.push(("published".to_owned(), Node::new(at, Value::Int(i64::from(published)))));
    }
    fields.extend(extra);
    mapping(at, fields)
}
