//! Whether a registry takes a user's credentials. Nothing is kept: clients send them with each call.

use skep_types::host::RegistryAuth;

use super::{CONNECT_TIMEOUT, READ_TIMEOUT, loopback};
use crate::error::{ImageError, Result};
use crate::store::ImageStore;

/// Where the registry is that images without a host are from; credentials name it otherwise.
const HUB: &str = "registry-1.docker.io";
/// Longest answer of a server of tokens.
const MAX_TOKEN: usize = 1 << 20;

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    /// Name and password.
    Basic,
    /// A token of that server, for that service.
    Bearer { realm: String, service: String },
}

impl Challenge {
    /// Reads `Basic realm="…"` or `Bearer realm="…",service="…"`; `None` for anything else.
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut rest) = (String::new(), String::new(), rest);
        while let Some((key, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"')?;
            match key.trim_matches([',', ' ']) {
                "realm" => value.clone_into(&mut realm),
                "service" => value.clone_into(&mut service),
                _ => {}
            }
            rest = after;
        }
        (!realm.is_empty()).then_some(Self::Bearer { realm, service })
    }
}

/// A registry as credentials name it (`https://index.docker.io/v1/`, `registry.example:5000`) as a host.
fn host(server: &str) -> &str {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    match server.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" => HUB,
        host => host,
    }
}

fn unreachable(operation: &'static str, object: &str, cause: reqwest::Error) -> ImageError {
    ImageError::Registry { operation, object: object.to_owned(), cause: cause.into() }
}

impl ImageStore {
    /// Asks a registry whether it takes these credentials.
    ///
    /// # Errors
    /// [`ImageError::Unauthorized`] in Docker's words; the registry cannot be reached, or wants what is not known.
    pub async fn login(&self, server: &str, auth: &RegistryAuth) -> Result<()> {
        let host = host(server);
        let scheme = if loopback(host) || self.options.insecure.contains(host) { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/");
        let client = reqwest::Client::builder()
            .user_agent(concat!("skep/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(READ_TIMEOUT)
            .build()
            .map_err(|e| unreachable("reach registry", host, e))?;
        let asked = client.get(&base).send().await.map_err(|e| unreachable("reach registry", host, e))?;
        if asked.status().is_success() {
            return Ok(());
        }
        let wanted = asked.headers().get(reqwest::header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let again = client.get(&base);
        let again = match Challenge::parse(wanted) {
            Some(Challenge::Basic) => again.basic_auth(&auth.username, Some(&auth.password)),
            Some(Challenge::Bearer { realm, service }) => again.bearer_auth(token(&client, &realm, &service, auth).await?),
            None => return Err(refused(&base, asked.status())),
        };
        let status = again.send().await.map_err(|e| unreachable("log in at registry", host, e))?.status();
        if status.is_success() { Ok(()) } else { Err(refused(&base, status)) }
    }
}

/// A token of the server that a registry names, which checks the credentials.
async fn token(client: &reqwest::Client, realm: &str, service: &str, auth: &RegistryAuth) -> Result<String> {
    let failed = |e| unreachable("get a token of", realm, e);
    let query = [("service", service), ("account", auth.username.as_str()), ("client_id", "docker")];
    let asked = client.get(realm).query(&query).basic_auth(&auth.username, Some(&auth.password));
    let mut answer = asked.send().await.map_err(failed)?;
    if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
        let why = format!("Get {realm:?}: unauthorized: incorrect username or password");
        return Err(ImageError::Unauthorized(why));
    }
    if !answer.status().is_success() {
        return Err(refused(realm, answer.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_TOKEN {
            return Err(ImageError::invalid("token", "it is too large"));
        }
    }
    let answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| ImageError::invalid("token", e))?;
    let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
    token.map(str::to_owned).ok_or_else(|| ImageError::invalid("token", format!("{realm} sent none")))
}

fn refused(url: &str, status: reqwest::StatusCode) -> ImageError {
    ImageError::Unauthorized(format!("login attempt to {url} failed with status: {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_want_is_read() {
        let bearer = |realm: &str, service: &str| Some(Challenge::Bearer { realm: realm.into(), service: service.into() });
        assert_eq!(Challenge::parse("Basic realm=\"Registry\""), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse("Bearer realm=\"https://auth.example/token\",service=\"registry, the\",scope=\"x\""),
            bearer("https://auth.example/token", "registry, the")
        );
        assert_eq!(Challenge::parse("bearer realm=\"r\""), bearer("r", ""));
        for bad in ["", "Bearer", "Bearer realm=\"", "Bearer service=\"x\"", "Negotiate"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn registries_are_found_by_the_names_of_credentials() {
        assert_eq!(host("https://index.docker.io/v1/"), HUB);
        assert_eq!(host("registry.example:5000"), "registry.example:5000");
        assert_eq!(host("http://registry.example/v2/"), "registry.example");
    }
}
