//! What the client asks before a service is sent: ids of networks, secrets and configs, and the image's digest.

use serde_json::{Value, json};

use crate::app::Failure;
use crate::client::{Client, escape, query};
use crate::options::{filter, put};

/// Puts ids in place of names.
///
/// # Errors
/// When there is no such network, secret or config.
pub(super) async fn names(client: &Client, spec: &mut Value) -> Result<(), Failure> {
    networks(client, spec).await?;
    for (kind, path, what) in [("Secret", "/secrets", "secret"), ("Config", "/configs", "config")] {
        files(client, spec, kind, path, what).await?;
    }
    Ok(())
}

async fn networks(client: &Client, spec: &mut Value) -> Result<(), Failure> {
    let Some(all) = spec.pointer_mut("/TaskTemplate/Networks").and_then(Value::as_array_mut) else { return Ok(()) };
    for network in all.iter_mut() {
        let name = network["Target"].as_str().unwrap_or_default().to_owned();
        let found = client.call("GET", &query(&format!("/networks/{}", escape(&name)), &[("scope", "swarm")]), None).await?;
        network["Target"] = found["Id"].clone();
    }
    all.sort_by_key(|n| n["Target"].to_string());
    Ok(())
}

async fn files(client: &Client, spec: &mut Value, kind: &str, path: &str, what: &str) -> Result<(), Failure> {
    let at = format!("/TaskTemplate/ContainerSpec/{kind}s");
    let Some(all) = spec.pointer_mut(&at).and_then(Value::as_array_mut) else { return Ok(()) };
    let (name_key, id_key) = (format!("{kind}Name"), format!("{kind}ID"));
    let missing: Vec<String> =
        all.iter().filter(|r| r[&id_key].is_null()).filter_map(|r| r[&name_key].as_str().map(str::to_owned)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<&str> = missing.iter().map(String::as_str).collect();
    let found = client.call("GET", &query(path, &[("filters", &filter("name", &texts))]), None).await?;
    for reference in all.iter_mut().filter(|r| r[&id_key].is_null()) {
        let name = reference[&name_key].as_str().unwrap_or_default();
        let one = found.as_array().into_iter().flatten().find(|f| f["Spec"]["Name"] == name);
        let one = one.ok_or_else(|| Failure::new(format!("{what} not found: {name}")))?;
        reference[&id_key] = one["ID"].clone();
    }
    Ok(())
}

/// An image's name with its tag: the usual one if it has none.
pub(super) fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Asks the registry, through the daemon, for the digest of the spec's image and the platforms it is for, and writes them in.
/// When it cannot be asked, the warning to show; the service goes on without.
pub(super) async fn pin(client: &Client, spec: &mut Value, headers: &[(&str, &str)]) -> Option<String> {
    let image = spec.pointer("/TaskTemplate/ContainerSpec/Image")?.as_str()?.to_owned();
    if image.contains('@') {
        return None;
    }
    let tagged = tagged(&image);
    let path = format!("/distribution/{}/json", tagged.split('/').map(escape).collect::<Vec<_>>().join("/"));
    match client.call_with("GET", &path, headers, None).await {
        Ok(found) => {
            let digest = found["Descriptor"]["digest"].as_str().filter(|d| d.starts_with("sha256:"))?;
            put(spec, &["TaskTemplate", "ContainerSpec", "Image"], format!("{tagged}@{digest}"));
            let one = |p: &Value| json!({"Architecture": p["architecture"], "OS": p["os"]});
            let platforms: Vec<Value> = found["Platforms"].as_array().into_iter().flatten().map(one).collect();
            if !platforms.is_empty() {
                put(spec, &["TaskTemplate", "Placement", "Platforms"], platforms);
            }
            None
        }
        Err(_) => Some(format!(
            "image {tagged} could not be accessed on a registry to record\nits digest. Each node will access {tagged} independently,\n\
             possibly leading to different nodes running different\nversions of the image.\n"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::tagged;

    #[test]
    fn images_get_a_tag() {
        assert_eq!(tagged("nginx"), "nginx:latest");
        assert_eq!(tagged("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(tagged("a/b:1"), "a/b:1");
    }
}
