//! Placement constraints (`swarm-semantics` 5.5). Must never accept what it cannot evaluate.

use skep_types::Ipv4Net;
use skep_types::object::Node;
use skep_types::spec::Role;

/// `key==value` or `key!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: String,
    equal: bool,
    value: String,
}

impl Constraint {
    /// Reads one expression.
    ///
    /// # Errors
    /// The reference's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = match (text.find("=="), text.find("!=")) {
            (Some(a), Some(b)) => Some((a.min(b), a < b)),
            (Some(a), None) => Some((a, true)),
            (None, Some(b)) => Some((b, false)),
            (None, None) => None,
        };
        let Some((at, equal)) = split else { return Err("constraint expected one operator from ==, !=".into()) };
        let (key, value) = (text[..at].trim(), text[at + 2..].trim());
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if key.len() < 2 || !key.starts_with(first) || !key.chars().all(|c| plain(c) || c == '/') {
            return Err(format!("key '{key}' is invalid"));
        }
        // Not what is, or may come to be, an operator: `key==!value` was meant otherwise.
        let allowed = |c: char| plain(c) || c.is_ascii_whitespace() || ":*()?+[]\\^$|/".contains(c);
        if value.is_empty() || !value.chars().all(allowed) {
            return Err(format!("value '{value}' is invalid"));
        }
        Ok(Self { key: key.into(), equal, value: value.into() })
    }

    /// Whether a node fits.
    #[must_use]
    pub fn fits(&self, n: &Node) -> bool {
        let same = |actual: &str| actual.eq_ignore_ascii_case(&self.value) == self.equal;
        let key = self.key.to_ascii_lowercase();
        match key.as_str() {
            "node.id" => same(&n.id.to_string()),
            "node.hostname" => same(&n.description.hostname),
            "node.role" => same(match n.role {
                Role::Manager => "manager",
                Role::Worker => "worker",
            }),
            "node.platform.os" => same(&n.description.os),
            "node.platform.arch" => same(&n.description.architecture),
            "node.ip" => match (n.addr, self.value.parse::<Ipv4Net>(), self.value.parse::<std::net::Ipv4Addr>()) {
                (Some(a), Ok(net), _) => net.contains(a) == self.equal,
                (Some(a), _, Ok(ip)) => (a == ip) == self.equal,
                _ => false,
            },
            // Label names are compared as they were written.
            _ if key.starts_with("node.labels.") => same(label(&n.spec.labels, &self.key["node.labels.".len()..])),
            _ if key.starts_with("engine.labels.") => {
                same(label(&n.description.engine_labels, &self.key["engine.labels.".len()..]))
            }
            _ => false,
        }
    }
}

fn label<'a>(labels: &'a skep_types::spec::Labels, key: &str) -> &'a str {
    labels.get(key).map_or("", String::as_str)
}

/// Whether a node fits all constraints; one that cannot be read fits no node.
#[must_use]
pub fn fits_all(constraints: &[String], n: &Node) -> bool {
    constraints.iter().all(|c| Constraint::parse(c).is_ok_and(|c| c.fits(n)))
}
