//! Whose keys requests are signed with: the daemon's environment, the user's file, or those that the container service lends. Read anew
//! for each connection, and before lent ones run out.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION};
use hyper::{Method, Request};
use jiff::Timestamp;
use serde::Deserialize;
use skep_types::Secret;

use super::sign::Keys;
use crate::http::{Client, Url};
use crate::logdriver::tls::Tls;

/// Where the container service lends keys.
const LENDER: &str = "http://169.254.170.2";
/// Keys that run out sooner than this, in seconds, are asked for anew.
const MARGIN: i64 = 300;

/// Keys, and until when they are good.
#[derive(Debug, Clone)]
pub(super) struct Lent {
    pub(super) keys: Keys,
    until: Option<Timestamp>,
}

impl Lent {
    /// Whether they will do for a while.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until.as_second() - now.as_second() > MARGIN)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// Where keys are looked for; a map, so that tests have their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sources {
    /// The environment.
    pub(super) env: BTreeMap<String, Secret>,
    /// `awslogs-credentials-endpoint`.
    pub(super) endpoint: Option<String>,
}

/// What of the environment matters.
const NAMES: [&str; 10] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "HOME",
    "AWS_REGION",
];

impl Sources {
    /// The daemon's own environment.
    pub(super) fn of_daemon(endpoint: Option<&str>) -> Self {
        let env =
            NAMES.iter().filter_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()).map(|v| ((*n).to_owned(), v.into())));
        Self { env: env.collect(), endpoint: endpoint.map(str::to_owned) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(|v| &**v)
    }

    /// The first keys that there are.
    ///
    /// # Errors
    /// With where they were looked for, or why the lender gave none.
    pub(super) async fn find(&self) -> io::Result<Lent> {
        // A user who names a lender means it.
        if let Some(path) = &self.endpoint {
            return lent(&format!("{LENDER}{path}"), None).await;
        }
        if let (Some(id), Some(secret)) = (self.get("AWS_ACCESS_KEY_ID"), self.get("AWS_SECRET_ACCESS_KEY")) {
            return Ok(fixed(id, secret, self.get("AWS_SESSION_TOKEN")));
        }
        let home = self.get("HOME").unwrap_or("/root");
        let file =
            self.get("AWS_SHARED_CREDENTIALS_FILE").map_or_else(|| PathBuf::from(home).join(".aws/credentials"), PathBuf::from);
        if let Some(found) =
            std::fs::read_to_string(&file).ok().and_then(|text| profile(&text, self.get("AWS_PROFILE").unwrap_or("default")))
        {
            return Ok(found);
        }
        let token = self.get("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        if let Some(path) = self.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            return lent(&format!("{LENDER}{path}"), token).await;
        }
        if let Some(uri) = self.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
            return lent(uri, token).await;
        }
        Err(io::Error::other(format!(
            "there are no AWS credentials: give the daemon AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, write {}, or give \
             AWS_CONTAINER_CREDENTIALS_FULL_URI",
            file.display()
        )))
    }
}

fn fixed(id: &str, secret: &str, token: Option<&str>) -> Lent {
    let token = token.map(|t| t.to_owned().into());
    Lent { keys: Keys { id: id.to_owned(), secret: secret.to_owned().into(), token }, until: None }
}

/// The keys of a profile in `~/.aws/credentials`.
fn profile(text: &str, name: &str) -> Option<Lent> {
    let (mut inside, mut found) = (false, BTreeMap::new());
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = section.trim() == name;
        } else if let Some((key, value)) = line.split_once('=')
            && inside
        {
            found.insert(key.trim(), value.trim());
        }
    }
    Some(fixed(found.get("aws_access_key_id")?, found.get("aws_secret_access_key")?, found.get("aws_session_token").copied()))
}

async fn lent(uri: &str, token: Option<&str>) -> io::Result<Lent> {
    let fail = |why: &dyn std::fmt::Display| io::Error::other(format!("ask {uri} for AWS credentials: {why}"));
    let url = Url::read(uri).map_err(|e| fail(&e))?;
    let mut request = Request::builder().method(Method::GET).uri(url.path.as_str()).header(ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Full::default()).map_err(|e| fail(&e))?;
    let answer = Client::new(url, Tls::default()).ask(request).await.map_err(|e| fail(&e))?;
    if !answer.status.is_success() {
        return Err(fail(&answer.words()));
    }
    let said: Said = serde_json::from_slice(&answer.body).map_err(|e| fail(&e))?;
    let until = said.expiration.map(|t| t.parse()).transpose().map_err(|e: jiff::Error| fail(&e))?;
    Ok(Lent { until, ..fixed(&said.access_key_id, &said.secret_access_key, said.token.as_deref()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_found_in_their_order() {
        let dir = std::env::temp_dir().join(format!("skep-aws-keys-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("made");
        let file = dir.join("credentials");
        let text = "# mine\n[other]\naws_access_key_id=O\naws_secret_access_key=P\n[default]\naws_access_key_id = A\n\
                    aws_secret_access_key = B=\naws_session_token = C\n";
        std::fs::write(&file, text).expect("written");
        let of = async |pairs: &[(&str, &str)]| {
            let env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned().into())).collect();
            let keys = Sources { env, endpoint: None }.find().await.map_err(|e| e.to_string())?.keys;
            Ok::<_, String>((keys.id, keys.secret.0, keys.token.map(|t| t.0)))
        };
        let path = ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("text"));
        let good = |a: &str, b: &str, c: Option<&str>| Ok((a.to_owned(), b.to_owned(), c.map(str::to_owned)));
        assert_eq!(of(&[path, ("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "S")]).await, good("E", "S", None));
        assert_eq!(of(&[path]).await, good("A", "B=", Some("C")));
        assert_eq!(of(&[path, ("AWS_PROFILE", "other")]).await, good("O", "P", None));
        let none = of(&[("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file")]).await.expect_err("nothing");
        assert!(none.starts_with("there are no AWS credentials: give the daemon AWS_ACCESS_KEY_ID"), "{none}");
        std::fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn lent_keys_are_renewed_in_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let until = |t: &str| Lent { until: Some(t.parse().expect("a time")), ..fixed("a", "b", None) };
        assert!(fixed("a", "b", None).is_fresh(now) && until("2026-01-01T01:00:00Z").is_fresh(now));
        assert!(!until("2026-01-01T00:04:00Z").is_fresh(now));
    }
}
