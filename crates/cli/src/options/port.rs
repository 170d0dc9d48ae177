//! Published ports: `[IP:][published:]target[/proto]` with ranges, and the long form of services.

use serde_json::{Value, json};

use super::words::fields;

/// Most ports that one range names: all there are.
const MAX_RANGE: u32 = 65_536;

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once('-').unwrap_or((text, text));
    let (a, b) = (a.parse().ok()?, b.parse().ok()?);
    (a <= b && b < MAX_RANGE).then_some((a, b))
}

/// A port as it was typed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The address that it is published on; empty for all.
    pub ip: String,
    /// Published port, or a range of them (`8000-8010`) to choose from; empty for any.
    pub published: String,
    /// Port in the container.
    pub target: u32,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// Reads the short form.
///
/// # Errors
/// With Docker's texts.
pub fn short(text: &str) -> Result<Vec<Port>, String> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (before, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, published) = match before.rsplit_once(':') {
        Some((ip, published)) => (ip.trim_matches(['[', ']']).to_owned(), published),
        None if before.starts_with('[') => (before.trim_matches(['[', ']']).to_owned(), ""),
        None => (String::new(), before),
    };
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if target.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (first, last) = range(target).ok_or_else(|| format!("invalid containerPort: {target}"))?;
    if published.is_empty() {
        let one = |t| Port { ip: ip.clone(), published: String::new(), target: t, protocol: protocol.to_owned() };
        return Ok((first..=last).map(one).collect());
    }
    let (from, to) = range(published).ok_or_else(|| format!("invalid hostPort: {published}"))?;
    if first == last && from != to {
        // Any of these.
        return Ok(vec![Port { ip, published: published.to_owned(), target: first, protocol: protocol.to_owned() }]);
    }
    if last - first != to - from {
        return Err(format!("invalid ranges specified for container and host Ports: {target} and {published}"));
    }
    let one =
        |i: u32| Port { ip: ip.clone(), published: (from + i).to_string(), target: first + i, protocol: protocol.to_owned() };
    Ok((0..=last - first).map(one).collect())
}

/// A port of a service, in either form, as the API's `PortConfig`s.
///
/// # Errors
/// With Docker's texts.
pub fn service(text: &str) -> Result<Vec<Value>, String> {
    let parts = fields(text)?;
    if !parts.iter().any(|p| p.contains('=')) {
        let mut out = Vec::new();
        for port in short(text)? {
            if !port.ip.is_empty() {
                return Err("hostip is not supported".to_owned());
            }
            let published: u32 = match port.published.as_str() {
                "" => 0,
                p => p.parse().map_err(|_| format!("invalid hostport binding ({p}) for port ({})", port.target))?,
            };
            out.push(config(port.target, published, &port.protocol, "ingress"));
        }
        return Ok(out);
    }
    let (mut target, mut published, mut protocol, mut mode) = (0, 0, "tcp".to_owned(), "ingress".to_owned());
    let mut own = serde_json::Map::new();
    for part in &parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid field: {part}"))?;
        let number = |what: &str| {
            value.parse::<u16>().map(u32::from).map_err(|_| format!("invalid {what} port ({value}): value must be an integer: strconv.ParseUint: parsing {value:?}: invalid syntax"))
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "target" => target = number("target")?,
            "published" => published = number("published")?,
            "protocol" => match value {
                "tcp" | "udp" | "sctp" => protocol = value.to_owned(),
                _ => return Err(format!("invalid protocol value '{value}'")),
            },
            "mode" => match value {
                "ingress" | "host" => mode = value.to_owned(),
                _ => return Err(format!("invalid publish mode value ({value}): must be either 'ingress' or 'host'")),
            },
            // An address of a node, at which alone the port is answered: an option of Skep's own.
            "host_ip" => {
                let ip = value.parse::<std::net::Ipv4Addr>();
                let ip = ip.map_err(|_| format!("invalid host_ip value ({value}): must be an IPv4 address"))?;
                own.insert("HostIP".to_owned(), ip.to_string().into());
            }
            "name" => {
                own.insert("Name".to_owned(), value.into());
            }
            other => return Err(format!("invalid field key: {other}")),
        }
    }
    if target == 0 {
        return Err("missing mandatory field 'target'".to_owned());
    }
    let mut made = config(target, published, &protocol, &mode);
    if let Value::Object(fields) = &mut made {
        fields.extend(own);
    }
    Ok(vec![made])
}

fn config(target: u32, published: u32, protocol: &str, mode: &str) -> Value {
    let mut out = json!({"Protocol": protocol, "TargetPort": target, "PublishMode": mode});
    if published != 0 {
        out["PublishedPort"] = published.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_ports() {
        let one = |t| service(t).unwrap().remove(0);
        assert_eq!(one("80"), json!({"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"}));
        assert_eq!(
            one("8080:80/udp"),
            json!({"Protocol": "udp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"})
        );
        assert_eq!(
            one("published=8080,target=80,mode=host"),
            json!({"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"})
        );
        for text in ["9999:9999/sctp", "published=9999,target=9999,protocol=sctp"] {
            assert_eq!(
                one(text),
                json!({"Protocol": "sctp", "TargetPort": 9999, "PublishedPort": 9999, "PublishMode": "ingress"})
            );
        }
        assert_eq!(service("8000-8002:80-82").unwrap().len(), 3);
        for (bad, why) in [
            ("1.2.3.4:80:80", "hostip is not supported"),
            ("x", "invalid containerPort: x"),
            ("y:80", "invalid hostPort: y"),
            ("80/x", "invalid proto: x"),
            ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
            ("mode=host", "missing mandatory field 'target'"),
            ("target=80,mode=x", "invalid publish mode value (x): must be either 'ingress' or 'host'"),
            ("target=80,a=b", "invalid field key: a"),
        ] {
            assert_eq!(service(bad).unwrap_err(), why, "{bad}");
        }
    }

    #[test]
    fn containers_ports() {
        assert_eq!(
            short("127.0.0.1::80").unwrap(),
            [Port { ip: "127.0.0.1".into(), published: String::new(), target: 80, protocol: "tcp".into() }]
        );
        assert_eq!(short("8000-8010:80").unwrap()[0].published, "8000-8010");
        assert_eq!(short("[::1]:80:90/udp").unwrap()[0].ip, "::1");
        assert_eq!(short("9999/sctp").unwrap()[0].protocol, "sctp");
        assert!(short("a.b:1:2").is_err());
    }
}
