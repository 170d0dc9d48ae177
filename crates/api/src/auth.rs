//! `X-Registry-Auth`: base64url JSON with a user's credentials for a registry.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::Deserialize;
use skep_types::host::RegistryAuth;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    username: String,
    password: String,
    identitytoken: String,
}

/// The header as it was sent, if it says anything.
pub(crate) fn header(headers: &HeaderMap) -> Option<String> {
    headers.get("X-Registry-Auth").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty()).map(str::to_owned)
}

/// The credentials of a header; nobody when it is missing or malformed, as in Docker.
pub(crate) fn credentials(headers: &HeaderMap) -> RegistryAuth {
    header(headers).map(|h| decode(&h)).unwrap_or_default()
}

/// The credentials of an `X-Registry-Auth` value; nobody when it is malformed.
#[must_use]
pub fn decode(text: &str) -> RegistryAuth {
    let engines = [&URL_SAFE, &URL_SAFE_NO_PAD, &STANDARD, &STANDARD_NO_PAD];
    let bytes = engines.iter().find_map(|e| e.decode(text).ok()).unwrap_or_default();
    let raw: Raw = serde_json::from_slice(&bytes).unwrap_or_default();
    let password = if raw.identitytoken.is_empty() { raw.password } else { raw.identitytoken };
    RegistryAuth { username: raw.username, password }
}
