//! `pull` and `push`, and names of images taken apart.

use super::show::show;
use crate::app::{App, Failure};
use crate::client::{Client, escape, query};
use crate::config::auth;
use crate::grammar::Matches;
use crate::output::print;

/// An image's name with a tag: the usual one if it has neither tag nor digest.
#[must_use]
pub fn tagged(image: &str) -> String {
    match split(image) {
        (name, "") => format!("{name}:latest"),
        _ => image.to_owned(),
    }
}

/// Name, and tag or digest if there is one.
#[must_use]
pub fn split(image: &str) -> (&str, &str) {
    if let Some(parts) = image.split_once('@') {
        return parts;
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    }
}

/// The whole name of an image: with its registry.
fn canonical(image: &str) -> String {
    let image = tagged(image);
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image,
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// Path of an image in the API: slashes stay.
#[must_use]
pub fn path(image: &str) -> String {
    image.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// Pulls an image; `errors` shows the progress on standard error.
///
/// # Errors
/// When it cannot be had.
pub async fn pull(app: &App, client: &Client, image: &str, platform: &str, quiet: bool, errors: bool) -> Result<(), Failure> {
    let whole = tagged(image);
    let (name, tag) = split(&whole);
    let auth = auth::header(&app.config, image);
    let path = query("/images/create", &[("fromImage", name), ("tag", tag), ("platform", platform)]);
    let stream = client.open("POST", &path, &[("X-Registry-Auth", &auth)]).await?;
    show(stream, errors, quiet).await
}

pub(super) async fn pull_command(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let (image, quiet) = (m.arg(0), m.on("quiet"));
    if m.on("all-tags") {
        if !split(image).1.is_empty() {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let auth = auth::header(&app.config, image);
        let stream =
            client.open("POST", &query("/images/create", &[("fromImage", image)]), &[("X-Registry-Auth", &auth)]).await?;
        show(stream, false, quiet).await?;
        return Ok(0);
    }
    if split(image).1.is_empty() && !quiet {
        print("Using default tag: latest\n")?;
    }
    pull(app, client, image, m.text_or_empty("platform"), quiet, false).await?;
    print(&format!("{}\n", canonical(image)))?;
    Ok(0)
}

pub(super) async fn push(app: &App, m: &Matches) -> Result<u8, Failure> {
    let client = app.client().await?;
    let (image, quiet) = (m.arg(0), m.on("quiet"));
    let (name, tag) = split(image);
    if tag.is_empty() && !quiet && !m.on("all-tags") {
        print("Using default tag: latest\n")?;
    }
    let tag = match (tag, m.on("all-tags")) {
        ("", false) => "latest",
        ("", true) => "",
        (_, true) => return Err(Failure::new("tag can't be used with --all-tags/-a")),
        (tag, false) => tag,
    };
    let auth = auth::header(&app.config, image);
    let target = query(&format!("/images/{}/push", path(name)), &[("tag", tag), ("platform", m.text_or_empty("platform"))]);
    let stream = client.open("POST", &target, &[("X-Registry-Auth", &auth)]).await?;
    show(stream, false, quiet).await?;
    if quiet {
        print(&format!("{}\n", canonical(image)))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(split("nginx"), ("nginx", ""));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", ""));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(split("a@sha256:0"), ("a", "sha256:0"));
        assert_eq!(canonical("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(canonical("me/a:1"), "docker.io/me/a:1");
        assert_eq!(canonical("reg.example/a"), "reg.example/a:latest");
    }
}
