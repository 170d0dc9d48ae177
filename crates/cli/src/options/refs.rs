//! References of services: secrets, configs, networks, placement preferences, ulimits, credential specs.

use serde_json::{Value, json};

use super::words::fields;

/// `key=value` fields of a reference; the first field may be a name alone.
fn pairs(text: &str, first: &str) -> Result<Vec<(String, String)>, String> {
    let all = fields(text)?;
    if all.len() == 1 && !text.contains('=') {
        return Ok(vec![(first.to_owned(), text.to_owned())]);
    }
    all.iter()
        .map(|f| {
            let (k, v) = f.split_once('=').ok_or_else(|| format!("invalid field '{f}' must be a key=value pair"))?;
            Ok((k.to_ascii_lowercase(), v.to_owned()))
        })
        .collect()
}

/// A secret (`kind` is `Secret`) or config (`Config`): its id is filled in later, from its name.
///
/// # Errors
/// With Docker's texts.
pub fn file(kind: &str, text: &str) -> Result<Value, String> {
    let (mut source, mut target) = (String::new(), String::new());
    let (mut uid, mut gid, mut mode) = ("0".to_owned(), "0".to_owned(), 0o444);
    for (key, value) in pairs(text, "source")? {
        match key.as_str() {
            "source" | "src" => source = value,
            "target" => target = value,
            "uid" => uid = value,
            "gid" => gid = value,
            "mode" => {
                mode = u32::from_str_radix(&value, 8)
                    .map_err(|_| format!("invalid mode specified: strconv.ParseUint: parsing {value:?}: invalid syntax"))?
            }
            other => return Err(format!("invalid field key: {other}")),
        }
    }
    if source.is_empty() {
        return Err("source is required".to_owned());
    }
    if target.is_empty() {
        target.clone_from(&source);
    }
    Ok(json!({
        format!("{kind}Name"): source, "File": {"Name": target, "UID": uid, "GID": gid, "Mode": mode},
    }))
}

/// A network of a service: its name in `Target`, to be resolved.
///
/// # Errors
/// With Docker's texts.
pub fn network(text: &str) -> Result<Value, String> {
    let (mut name, mut aliases, mut options) = (String::new(), Vec::new(), Vec::new());
    for (key, value) in pairs(text, "name")? {
        match key.as_str() {
            "name" => name = value,
            "alias" => aliases.push(Value::from(value)),
            "driver-opt" => options.push(value),
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if name.is_empty() {
        return Err(format!("network name/id is not specified in {text:?}"));
    }
    let mut out = json!({"Target": name});
    if !aliases.is_empty() {
        out["Aliases"] = aliases.into();
    }
    if !options.is_empty() {
        out["DriverOpts"] = super::map(&options);
    }
    Ok(out)
}

/// A network of a container: its name, and how the container is in it.
///
/// # Errors
/// With Docker's texts.
pub fn network_of_container(text: &str) -> Result<(String, Value), String> {
    let (mut name, mut aliases, mut options, mut endpoint) = (String::new(), Vec::new(), Vec::new(), json!({}));
    for (key, value) in pairs(text, "name")? {
        match key.as_str() {
            "name" => name = value,
            "alias" => aliases.push(Value::from(value)),
            "ip" => super::put(&mut endpoint, &["IPAMConfig", "IPv4Address"], value),
            "ip6" => super::put(&mut endpoint, &["IPAMConfig", "IPv6Address"], value),
            "mac-address" => endpoint["MacAddress"] = value.into(),
            "driver-opt" => options.push(value),
            "gw-priority" => {
                endpoint["GwPriority"] =
                    value.parse::<i64>().map_err(|_| format!("invalid gw-priority ({value}): not a number"))?.into();
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if name.is_empty() {
        return Err(format!("network name/id is not specified in {text:?}"));
    }
    if !aliases.is_empty() {
        endpoint["Aliases"] = aliases.into();
    }
    if !options.is_empty() {
        endpoint["DriverOpts"] = super::map(&options);
    }
    Ok((name, endpoint))
}

/// `spread=node.labels.x`.
///
/// # Errors
/// With Docker's texts.
pub fn preference(text: &str) -> Result<Value, String> {
    let (strategy, by) = text.split_once('=').ok_or("placement preference must be of the format \"<strategy>=<arg>\"")?;
    if strategy != "spread" {
        return Err(format!("unsupported placement preference {strategy} (only spread is supported)"));
    }
    Ok(json!({"Spread": {"SpreadDescriptor": by}}))
}

/// `nofile=1024:2048`.
///
/// # Errors
/// In words, when it is none.
pub fn ulimit(text: &str) -> Result<Value, String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |t: &str| t.parse::<i64>().map_err(|_| format!("invalid ulimit argument: {text}"));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// Generic resources: `gpu=2` is a number of them, `gpu=uuid1` a named one.
///
/// # Errors
/// In words, when it is none.
pub fn generic(text: &str) -> Result<Value, String> {
    let (kind, value) = text.split_once('=').filter(|(k, v)| !k.is_empty() && !v.is_empty()).ok_or_else(|| {
        format!("could not parse GenericResource: incorrect term {text}, missing '=' or malformed expression")
    })?;
    match value.parse::<i64>() {
        Ok(n) => Ok(json!({"DiscreteResourceSpec": {"Kind": kind, "Value": n}})),
        Err(_) => Err(format!(
            "invalid generic-resource request `{kind}={value}`, Named Generic Resources is not supported for service create or update"
        )),
    }
}

/// `name:ip` or `name=ip` as a service has it: `ip name`.
///
/// # Errors
/// With Docker's texts.
pub fn host(text: &str) -> Result<String, String> {
    let (name, ip) = text
        .split_once(['=', ':'])
        .filter(|(n, _)| !n.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let ip = ip.trim_matches(['[', ']']);
    if ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {ip:?}"));
    }
    Ok(format!("{ip} {name}"))
}

/// `config://NAME`, `file://PATH` or `registry://NAME`.
///
/// # Errors
/// With Docker's texts.
pub fn credential_spec(text: &str) -> Result<Value, String> {
    for (scheme, key) in [("config://", "Config"), ("file://", "File"), ("registry://", "Registry")] {
        if let Some(value) = text.strip_prefix(scheme) {
            return if value.is_empty() { Err(format!("no value specified for {scheme}")) } else { Ok(json!({key: value})) };
        }
    }
    if text.is_empty() {
        return Ok(json!({}));
    }
    Err("invalid credential spec: value must be prefixed with \"config://\", \"file://\", or \"registry://\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        assert_eq!(
            file("Secret", "pw").unwrap(),
            json!({"SecretName": "pw", "File": {"Name": "pw", "UID": "0", "GID": "0", "Mode": 292}})
        );
        assert_eq!(
            file("Config", "source=c,target=/etc/c,uid=1,gid=2,mode=0400").unwrap(),
            json!({"ConfigName": "c", "File": {"Name": "/etc/c", "UID": "1", "GID": "2", "Mode": 256}})
        );
        assert_eq!(file("Secret", "target=x").unwrap_err(), "source is required");
        assert_eq!(network("demo").unwrap(), json!({"Target": "demo"}));
        assert_eq!(network("name=demo,alias=a,alias=b").unwrap(), json!({"Target": "demo", "Aliases": ["a", "b"]}));
        assert_eq!(preference("spread=node.labels.x").unwrap(), json!({"Spread": {"SpreadDescriptor": "node.labels.x"}}));
        assert!(preference("pack=x").unwrap_err().contains("only spread"));
        assert_eq!(ulimit("nofile=1:2").unwrap(), json!({"Name": "nofile", "Soft": 1, "Hard": 2}));
        assert!(ulimit("nofile=3:2").is_err());
        assert_eq!(host("a:10.0.0.1").unwrap(), "10.0.0.1 a");
        assert_eq!(host("a:::1").unwrap(), "::1 a");
        assert!(host("a:b").is_err());
        assert_eq!(generic("gpu=2").unwrap(), json!({"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}));
        assert_eq!(credential_spec("file://a").unwrap(), json!({"File": "a"}));
    }
}
