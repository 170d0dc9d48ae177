//! Images pinned by their digests, so that every node runs the same (`swarm-semantics` 1.5, 9.3).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skep_compose::Stack;

use super::fetch;
use super::plan::{self, Current, IMAGE};
use crate::app::{App, Failure};
use crate::client::{Client, escape};
use crate::config::auth;

/// When a registry is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// For every image.
    Always,
    /// For images that the file names otherwise than at the last deploy.
    Changed,
    /// Never.
    Never,
}

impl Resolve {
    /// Reads `--resolve-image`.
    ///
    /// # Errors
    /// When it is none of the three.
    pub fn read(text: Option<&str>) -> Result<Self, Failure> {
        match text {
            None | Some("always") => Ok(Self::Always),
            Some("changed") => Ok(Self::Changed),
            Some("never") => Ok(Self::Never),
            Some(other) => Err(Failure::new(format!("Invalid option {other} for flag --resolve-image"))),
        }
    }
}

/// What a registry says of an image.
#[derive(Debug, Clone)]
pub struct Pinned {
    image: String,
    platforms: Vec<Value>,
}

/// Answers of registries by image; none for those that could not be asked.
pub type Answers = BTreeMap<String, Option<Pinned>>;

/// Asks about the images that need it.
pub async fn ask(app: &App, client: &Client, stack: &Stack, current: &Current, how: Resolve, send_auth: bool) -> Answers {
    let mut images: Vec<String> = stack.services.iter().filter(|s| wanted(s, current, how)).map(|s| s.image.clone()).collect();
    images.sort();
    images.dedup();
    let asked = images.into_iter().map(|image| async move {
        let found = pin(app, client, &image, send_auth).await;
        Ok((image, found))
    });
    // No answer is an answer here; nothing fails.
    fetch::at_once(fetch::READS, asked).await.unwrap_or_default().into_iter().collect()
}

/// Whether an image has to be looked up.
fn wanted(service: &skep_compose::Service, current: &Current, how: Resolve) -> bool {
    // A digest says it all.
    if service.image.contains('@') {
        return false;
    }
    let same = plan::service(current, &service.name).is_some_and(|s| s["Spec"]["Labels"][IMAGE] == service.image.as_str());
    match how {
        Resolve::Always => true,
        Resolve::Changed => !same,
        // As the stock client does, one that is new is looked up by nobody.
        Resolve::Never => false,
    }
}

async fn pin(app: &App, client: &Client, image: &str, send_auth: bool) -> Option<Pinned> {
    let path = format!("/distribution/{}/json", image.split('/').map(escape).collect::<Vec<_>>().join("/"));
    let header = send_auth.then(|| auth::header(&app.config, image));
    let headers: Vec<(&str, &str)> = header.iter().map(|h| ("X-Registry-Auth", h.as_str())).collect();
    let found = client.call_with("GET", &path, &headers, None).await.ok()?;
    let digest = found["Descriptor"]["digest"].as_str().filter(|d| !d.is_empty())?;
    let platforms = found["Platforms"].as_array().cloned().unwrap_or_default();
    let platforms = platforms.iter().map(|p| json!({"Architecture": p["architecture"], "OS": p["os"]})).collect();
    Some(Pinned { image: format!("{}@{digest}", tagged(image)), platforms })
}

/// An image with its tag or digest; the usual tag if it has none, as every client sends it.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// Puts the image that is to run into a service's body, and what to warn of.
#[must_use]
pub fn apply(body: &mut Value, service: &skep_compose::Service, current: &Current, answers: &Answers) -> Option<String> {
    let existing = plan::service(current, &service.name);
    let same = existing.filter(|s| s["Spec"]["Labels"][IMAGE] == service.image.as_str());
    let keep = |body: &mut Value, s: &Value| {
        let task = &s["Spec"]["TaskTemplate"];
        body["TaskTemplate"]["ContainerSpec"]["Image"] = task["ContainerSpec"]["Image"].clone();
        if body["TaskTemplate"]["Placement"]["Platforms"].is_null() && !task["Placement"]["Platforms"].is_null() {
            body["TaskTemplate"]["Placement"]["Platforms"] = task["Placement"]["Platforms"].clone();
        }
    };
    match (answers.get(&service.image), same) {
        (Some(Some(pinned)), _) => {
            body["TaskTemplate"]["ContainerSpec"]["Image"] = json!(pinned.image);
            if body["TaskTemplate"]["Placement"]["Platforms"].is_null() && !pinned.platforms.is_empty() {
                body["TaskTemplate"]["Placement"]["Platforms"] = json!(pinned.platforms);
            }
            None
        }
        (asked, Some(s)) => {
            // What runs already runs on: a registry that is away must not restart a service whose image has not changed.
            keep(body, s);
            let pinned = s["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().is_some_and(|i| i.contains('@'));
            (asked.is_some() && !pinned).then(|| warning(&service.image))
        }
        (asked, None) => {
            body["TaskTemplate"]["ContainerSpec"]["Image"] = json!(tagged(&service.image));
            asked.is_some().then(|| warning(&service.image))
        }
    }
}

fn warning(image: &str) -> String {
    let image = tagged(image);
    format!(
        "image {image} could not be accessed on a registry to record\nits digest. Each node will access {image} independently,\n\
         possibly leading to different nodes running different\nversions of the image.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(image: &str) -> skep_compose::Service {
        struct None;
        impl skep_compose::Files for None {
            fn read(&self, _: &std::path::Path, _: usize) -> Result<Option<Vec<u8>>, String> {
                Ok(Some(b"services: {web: {image: '${I}'}}".to_vec()))
            }
        }
        let options = skep_compose::Options {
            files: vec!["-".to_owned()],
            directory: "/".into(),
            environment: [("I".to_owned(), image.to_owned())].into(),
            dotenv: Option::None,
            interpolate: true,
        };
        let stack = skep_compose::load(&options, &None).unwrap().stack("app", &None).unwrap();
        stack.services.into_iter().next().unwrap()
    }

    fn running(label: &str, image: &str) -> Current {
        let spec = json!({"Name": "app_web", "Labels": {IMAGE: label}, "TaskTemplate": {
            "ContainerSpec": {"Image": image}, "Placement": {"Platforms": [{"OS": "linux"}]}}});
        Current { services: vec![json!({"ID": "s", "Spec": spec})], ..Current::default() }
    }

    #[test]
    fn a_registry_that_is_away_changes_nothing() {
        let web = service("nginx");
        let answers = Answers::from([("nginx".to_owned(), None)]);
        let image = |current: &Current| {
            let mut body = web.body.clone();
            let warning = apply(&mut body, &web, current, &answers);
            (body["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap().to_owned(), warning.is_some())
        };
        assert_eq!(image(&Current::default()), ("nginx:latest".to_owned(), true));
        assert_eq!(image(&running("nginx", "nginx:latest@sha256:1")), ("nginx:latest@sha256:1".to_owned(), false));
        assert_eq!(image(&running("nginx", "nginx")), ("nginx".to_owned(), true));
        assert_eq!(image(&running("other", "other@sha256:1")), ("nginx:latest".to_owned(), true));
    }

    #[test]
    fn who_is_looked_up() {
        let (web, fixed) = (service("nginx"), service("nginx@sha256:1"));
        let same = running("nginx", "nginx:latest@sha256:1");
        assert!(wanted(&web, &same, Resolve::Always) && !wanted(&web, &same, Resolve::Changed));
        assert!(wanted(&web, &running("x", "x"), Resolve::Changed) && !wanted(&web, &same, Resolve::Never));
        assert!(!wanted(&fixed, &same, Resolve::Always));
        assert_eq!((tagged("a:5000/b"), tagged("b:1")), ("a:5000/b:latest".to_owned(), "b:1".to_owned()));
        assert!(Resolve::read(Some("x")).is_err());
    }
}
