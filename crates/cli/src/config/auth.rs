//! Credentials of registries: those in the file, and those that helpers keep (`docker-credential-NAME get`).

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::Config;

/// The registry that images without a host are from, as credentials name it.
const HUB: &str = "https://index.docker.io/v1/";
/// Longest answer of a helper: a token and a few names.
const MAX_ANSWER: usize = 1 << 20;

/// The registry of an image's name, as credentials name it.
#[must_use]
pub fn registry_of(image: &str) -> String {
    let first = image.split_once('/').map(|(host, _)| host);
    match first {
        Some(host)
            if host != "docker.io" && host != "index.docker.io" && (host.contains(['.', ':']) || host == "localhost") =>
        {
            host.to_owned()
        }
        _ => HUB.to_owned(),
    }
}

fn bare(server: &str) -> &str {
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    server.split('/').next().unwrap_or_default()
}

/// What goes into `X-Registry-Auth` for an image; empty credentials if there are none.
#[must_use]
pub fn header(config: &Config, image: &str) -> String {
    let found = lookup(config, &registry_of(image)).unwrap_or_else(|| json!({}));
    URL_SAFE.encode(found.to_string())
}

/// Credentials of a registry.
fn lookup(config: &Config, registry: &str) -> Option<Value> {
    let helper = config.file["credHelpers"][registry].as_str().or_else(|| config.text("credsStore"));
    if let Some(found) = helper.and_then(|h| ask_helper(h, registry)) {
        return Some(found);
    }
    let auths = config.file["auths"].as_object()?;
    let entry = auths.get(registry).or_else(|| auths.iter().find(|(k, _)| bare(k) == bare(registry)).map(|(_, v)| v))?;
    let token = entry["identitytoken"].as_str().unwrap_or_default();
    let both = entry["auth"].as_str().and_then(|a| STANDARD.decode(a.trim()).ok()).and_then(|b| String::from_utf8(b).ok());
    let (user, password) = match both.as_deref().and_then(|b| b.split_once(':')) {
        Some((user, password)) => (user.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => {
            let text = |k: &str| entry[k].as_str().unwrap_or_default().to_owned();
            (text("username"), text("password"))
        }
    };
    Some(json!({"username": user, "password": password, "identitytoken": token, "serveraddress": registry}))
}

/// Asks a helper; it says nothing when it has none.
fn ask_helper(helper: &str, registry: &str) -> Option<Value> {
    // A name with a slash would run some other program.
    if helper.contains('/') {
        return None;
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(registry.as_bytes()).ok()?;
    let done = child.wait_with_output().ok()?;
    if !done.status.success() || done.stdout.len() > MAX_ANSWER {
        return None;
    }
    let answer: Value = serde_json::from_slice(&done.stdout).ok()?;
    let (user, secret) = (answer["Username"].as_str()?, answer["Secret"].as_str()?);
    Some(if user == "<token>" {
        json!({"identitytoken": secret, "serveraddress": registry})
    } else {
        json!({"username": user, "password": secret, "serveraddress": registry})
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_images() {
        assert_eq!(registry_of("nginx"), HUB);
        assert_eq!(registry_of("me/app:1"), HUB);
        assert_eq!(registry_of("docker.io/library/nginx"), HUB);
        assert_eq!(registry_of("localhost:5000/a"), "localhost:5000");
        assert_eq!(registry_of("reg.example/a/b@sha256:0"), "reg.example");
    }

    #[test]
    fn credentials_of_the_file() {
        let file = json!({"auths": {"https://reg.example/v2/": {"auth": STANDARD.encode("me:se:cret")}}});
        let config = Config { file, ..Config::default() };
        let text = URL_SAFE.decode(header(&config, "reg.example/a")).unwrap();
        let found: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((found["username"].as_str(), found["password"].as_str()), (Some("me"), Some("se:cret")));
        assert_eq!(URL_SAFE.decode(header(&config, "other.example/a")).unwrap(), b"{}");
    }
}
