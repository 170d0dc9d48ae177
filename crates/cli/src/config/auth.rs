//! Credentials of registries: those in the file, and those that helpers keep (`docker-credential-NAME get`, `store`, `erase`).

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::{Config, change};

/// The registry that images without a host are from, as credentials name it.
pub const HUB: &str = "https://index.docker.io/v1/";
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

/// The host of a registry that is named with a scheme or a path.
pub fn bare(server: &str) -> &str {
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    server.split('/').next().unwrap_or_default()
}

/// What goes into `X-Registry-Auth` for an image; empty credentials if there are none.
#[must_use]
pub fn header(config: &Config, image: &str) -> String {
    let found = lookup(config, &registry_of(image)).unwrap_or_else(|| json!({}));
    URL_SAFE.encode(found.to_string())
}

/// The helper that keeps a registry's credentials, if one does.
fn helper<'a>(config: &'a Config, registry: &str) -> Option<&'a str> {
    config.file["credHelpers"][registry].as_str().or_else(|| config.text("credsStore"))
}

/// Credentials of a registry.
pub fn lookup(config: &Config, registry: &str) -> Option<Value> {
    if let Some(found) = helper(config, registry).and_then(|h| ask_helper(h, registry)) {
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

/// Keeps credentials of a registry: with its helper, or else in the file. Returns whether they stand in the file as they are.
///
/// # Errors
/// When the helper or the disk refuses.
pub fn store(config: &Config, registry: &str, user: &str, secret: &str, is_token: bool) -> Result<bool, String> {
    if let Some(helper) = helper(config, registry) {
        let name = if is_token { "<token>" } else { user };
        let text = json!({"ServerURL": registry, "Username": name, "Secret": secret}).to_string();
        return run_helper(helper, "store", &text).map(|_| false);
    }
    let entry = if is_token {
        json!({"auth": STANDARD.encode(format!("{user}:")), "identitytoken": secret})
    } else {
        json!({"auth": STANDARD.encode(format!("{user}:{secret}"))})
    };
    change(&config.dir, |all| {
        let auths = all.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        auths[registry] = entry;
    })?;
    Ok(true)
}

/// Forgets credentials of a registry, wherever they are and however it is named.
///
/// # Errors
/// When the helper or the disk refuses.
pub fn erase(config: &Config, registry: &str) -> Result<(), String> {
    if let Some(helper) = helper(config, registry) {
        run_helper(helper, "erase", registry)?;
    }
    let same = |key: &str| key == registry || registry != HUB && bare(key) == bare(registry);
    if config.file["auths"].as_object().is_none_or(|auths| !auths.keys().any(|k| same(k))) {
        return Ok(());
    }
    change(&config.dir, |all| {
        if let Some(auths) = all.get_mut("auths").and_then(Value::as_object_mut) {
            auths.retain(|key, _| !same(key));
        }
    })
}

/// What a helper says to a word and its input.
fn run_helper(helper: &str, word: &str, input: &str) -> Result<Vec<u8>, String> {
    // A name with a slash would run some other program.
    if helper.contains('/') {
        return Err(format!("credential helper {helper:?}: a name has no slash"));
    }
    let program = format!("docker-credential-{helper}");
    let fail = |e: std::io::Error| format!("run {program} {word}: {e}");
    let mut child = Command::new(&program)
        .arg(word)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail)?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not read what it is told says so by its exit code.
        let _ = pipe.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(fail)?;
    if !done.status.success() || done.stdout.len() > MAX_ANSWER {
        let said = String::from_utf8_lossy(&done.stdout[..done.stdout.len().min(1000)]).trim().to_owned();
        return Err(format!("{program} {word}: {}: {said}", done.status));
    }
    Ok(done.stdout)
}

/// Asks a helper; it says nothing when it has none.
fn ask_helper(helper: &str, registry: &str) -> Option<Value> {
    let answer: Value = serde_json::from_slice(&run_helper(helper, "get", registry).ok()?).ok()?;
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
    fn credentials_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Config::load(dir.path().to_owned()).0;
        assert_eq!(store(&read(), "reg.example", "me", "se:cret", false), Ok(true));
        assert_eq!(store(&read(), HUB, "me", "t0ken", true), Ok(true));
        let found = lookup(&read(), "reg.example").unwrap();
        assert_eq!((found["username"].as_str(), found["password"].as_str()), (Some("me"), Some("se:cret")));
        let found = lookup(&read(), HUB).unwrap();
        assert_eq!((found["username"].as_str(), found["identitytoken"].as_str()), (Some("me"), Some("t0ken")));
        erase(&read(), "https://reg.example/v2/").unwrap();
        assert!(lookup(&read(), "reg.example").is_none() && lookup(&read(), HUB).is_some());
        erase(&read(), HUB).unwrap();
        assert_eq!(read().file, json!({"auths": {}}));
        // A helper that there is not is no reason to write a password down.
        let config = Config { dir: dir.path().to_owned(), file: json!({"credsStore": "no-such-helper"}) };
        assert!(store(&config, HUB, "me", "x", false).unwrap_err().contains("docker-credential-no-such-helper"));
        assert_eq!(read().file, json!({"auths": {}}));
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
