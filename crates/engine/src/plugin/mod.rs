//! Plugins: programs of this host that are asked by HTTP on a socket, by Docker's protocol of legacy plugins. Each call has a limit: one
//! that hangs or died is an error that names it, and never holds the daemon up.

mod place;
mod secret;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use place::Place;
pub use place::PluginDirs;

use crate::error::{Code, EngineError};
use crate::http::{Answer, LIMIT};

/// What volume drivers call themselves.
const VOLUMES: &str = "VolumeDriver";
/// What drivers of secrets call themselves, in whatever case.
const SECRETS: &str = "secretprovider";
/// The form of calls and answers.
const FORM: &str = "application/vnd.docker.plugins.v1.2+json";
/// How often the directories are looked at.
const PERIOD: Duration = Duration::from_secs(5);

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no such plugin.
    Missing(String),
    /// It is not there, hangs, or speaks no plugin's language; what it did is not known.
    Broken(String),
    /// It does not know this call.
    Unknown(String),
    /// It says no.
    Refused(String),
}

impl Fault {
    pub(crate) fn text(&self) -> &str {
        let (Self::Missing(text) | Self::Broken(text) | Self::Unknown(text) | Self::Refused(text)) = self;
        text
    }

    /// For clients: what failed, and why.
    pub(crate) fn error(&self, what: &str) -> EngineError {
        let code = if matches!(self, Self::Missing(_)) { Code::NotFound } else { Code::Internal };
        EngineError::new(code, format!("{what}: {}", self.text()))
    }
}

/// A plugin that has told what it is.
#[derive(Debug, Clone)]
struct Known {
    place: Place,
    implements: Vec<String>,
}

/// The plugins of this host.
#[derive(Debug, Default)]
pub struct Plugins {
    dirs: PluginDirs,
    known: Mutex<BTreeMap<String, Known>>,
    /// Those that are being looked at.
    probed: Mutex<BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Implements", default)]
    implements: Vec<String>,
}

impl Plugins {
    /// Plugins in these directories.
    #[must_use]
    pub fn new(dirs: PluginDirs) -> Self {
        Self { dirs, ..Self::default() }
    }

    fn named(&self, kind: &str) -> Vec<String> {
        let known = crate::lock(&self.known);
        let has = |k: &Known| k.implements.iter().any(|i| i.eq_ignore_ascii_case(kind));
        known.iter().filter(|(_, k)| has(k)).map(|(name, _)| name.clone()).collect()
    }

    /// Volume drivers that were there when the directories were looked at last.
    #[must_use]
    pub fn volume_drivers(&self) -> Vec<String> {
        self.named(VOLUMES)
    }

    /// Looks at the directories now and then, so that what the host can do is known before somebody asks.
    pub(crate) async fn watch(plugins: Weak<Self>) {
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tick.tick().await;
            let Some(all) = plugins.upgrade() else { return };
            let names = all.dirs.names();
            crate::lock(&all.known).retain(|name, _| names.contains(name));
            for name in names {
                // One that hangs is waited for by nobody else.
                if crate::lock(&all.probed).insert(name.clone()) {
                    let all = Arc::clone(&all);
                    tokio::spawn(async move {
                        all.probe(&name).await;
                        crate::lock(&all.probed).remove(&name);
                    });
                }
            }
        }
    }

    /// Whether a plugin is there, and what it is.
    async fn probe(&self, name: &str) {
        let before = crate::lock(&self.known).contains_key(name);
        let found = match self.dirs.find(name) {
            Ok(found) => found,
            Err(why) => return tracing::debug!(plugin = name, why, "its file says nothing"),
        };
        let Some(place) = found else { return };
        // Asked anew each time: a socket outlives its program, and its place may have been taken by another one.
        match activate(name, &place).await {
            Ok(implements) => {
                if !before {
                    tracing::info!(plugin = name, at = place.shown(), ?implements, "found");
                }
                crate::lock(&self.known).insert(name.to_owned(), Known { place, implements });
            }
            Err(why) => {
                if crate::lock(&self.known).remove(name).is_some() {
                    tracing::warn!(plugin = name, why = why.text(), "is not there any more");
                }
            }
        }
    }

    /// A plugin that can do this.
    async fn find(&self, name: &str, kind: &str, word: &str) -> Result<Place, Fault> {
        let missing = |why: &str| Fault::Missing(format!("error looking up {word} plugin {name}: {why}"));
        let place = self.dirs.find(name).map_err(|why| missing(&why))?;
        let place = place.ok_or_else(|| {
            let sockets = self.dirs.sockets.display();
            missing(&format!("plugin \"{name}\" not found: start it, so that there is {sockets}/{name}.sock"))
        })?;
        let known = crate::lock(&self.known).get(name).filter(|k| k.place == place).cloned();
        let implements = match known {
            Some(known) => known.implements,
            None => {
                let implements = activate(name, &place).await?;
                let new = Known { place: place.clone(), implements: implements.clone() };
                crate::lock(&self.known).insert(name.to_owned(), new);
                implements
            }
        };
        if implements.iter().any(|i| i.eq_ignore_ascii_case(kind)) {
            return Ok(place);
        }
        Err(missing(&format!("plugin \"{name}\" does not implement {kind}: it implements {}", implements.join(", "))))
    }

    /// Asks a plugin.
    async fn call(
        &self,
        (name, kind, word): (&str, &str, &str),
        call: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<Value, Fault> {
        let place = self.find(name, kind, word).await?;
        let answer = post(&place, call, body, limit).await.map_err(|e| broken(name, &place, call, &e))?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let refusal = ["Err", "err"].iter().find_map(|k| said[*k].as_str()).filter(|t| !t.is_empty());
        let fail = |why: &str| format!("{word} plugin {name}: {call}: {why}");
        match (answer.status, refusal) {
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => {
                Err(Fault::Unknown(fail("it does not know this call")))
            }
            (_, Some(why)) => Err(Fault::Refused(fail(why))),
            (status, None) if !status.is_success() => Err(Fault::Refused(fail(&answer.words()))),
            _ if said.is_object() => Ok(said),
            _ => Err(Fault::Broken(fail("its answer is no JSON object: is it a plugin of Docker's?"))),
        }
    }
}

async fn post(place: &Place, call: &str, body: &Value, limit: Duration) -> std::io::Result<Answer> {
    let request =
        Request::builder().method(Method::POST).uri(format!("/{call}")).header(ACCEPT, FORM).header(CONTENT_TYPE, FORM);
    let request = request.body(Full::new(Bytes::from(body.to_string()))).map_err(std::io::Error::other)?;
    place.client().within(limit).ask(request).await
}

fn broken(name: &str, place: &Place, call: &str, e: &std::io::Error) -> Fault {
    let what = if e.kind() == std::io::ErrorKind::TimedOut {
        "it hangs: see its log, and start it again"
    } else {
        "start it again, or remove its file if it is gone for good"
    };
    Fault::Broken(format!("plugin {name} at {} does not answer {call} ({e}): {what}", place.shown()))
}

/// Asks a plugin what it implements.
async fn activate(name: &str, place: &Place) -> Result<Vec<String>, Fault> {
    let call = "Plugin.Activate";
    let answer = post(place, call, &json!({}), LIMIT).await.map_err(|e| broken(name, place, call, &e))?;
    let odd =
        || Fault::Broken(format!("plugin {name} at {} is none of Docker's: {call} gave {}", place.shown(), answer.words()));
    if !answer.status.is_success() {
        return Err(odd());
    }
    serde_json::from_slice::<Manifest>(&answer.body).map(|m| m.implements).map_err(|_| odd())
}

#[cfg(test)]
pub(crate) mod tests;
