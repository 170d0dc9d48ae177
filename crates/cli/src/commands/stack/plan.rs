//! What a deploy has to do: a stack against what the swarm has. Pure; [`super::deploy`] does it, `stack diff` shows it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skep_compose::{Object, Stack};

use super::compare::{Change, changes};

/// The label of everything that belongs to a stack.
pub const NAMESPACE: &str = "com.docker.stack.namespace";
/// The label of a service with its image as written.
pub const IMAGE: &str = "com.docker.stack.image";
/// The label of a secret or config with its key in the file: its versions have other names, but this in common.
const KEY: &str = "com.skep.stack.key";
/// The label with the digest of its content.
const DIGEST: &str = "com.skep.stack.digest";

/// Secrets or configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Secrets.
    Secret,
    /// Configs.
    Config,
}

impl Kind {
    /// `secret` or `config`, as in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// `/secrets` or `/configs`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Secret => "/secrets",
            Self::Config => "/configs",
        }
    }

    fn fields(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Secret => ("Secrets", "SecretName", "SecretID"),
            Self::Config => ("Configs", "ConfigName", "ConfigID"),
        }
    }
}

/// What the swarm has: answers of the API's lists.
#[derive(Debug, Default, Clone)]
pub struct Current {
    /// Services of the stack.
    pub services: Vec<Value>,
    /// All networks.
    pub networks: Vec<Value>,
    /// All secrets.
    pub secrets: Vec<Value>,
    /// All configs.
    pub configs: Vec<Value>,
}

/// What is to be done for a secret or config.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectStep {
    /// It is there as it should be.
    Keep {
        /// The name of the version.
        name: String,
        /// Its id.
        id: String,
    },
    /// It is to be created.
    Create {
        /// Under this name.
        name: String,
        /// Whether its content has changed: an older version is there.
        version: bool,
        /// The body.
        body: Value,
    },
    /// It is there, but its labels differ, or another client made it and its content is not known: an update tells.
    Update {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// The version of the object that is updated.
        index: u64,
        /// The body.
        body: Value,
        /// What to create when the update is refused, as the content differs.
        otherwise: Option<(String, Value)>,
    },
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The step for an object.
#[must_use]
pub fn object_step(kind: Kind, object: &Object, stack: &str, existing: &[Value]) -> ObjectStep {
    let digest = object.data.as_ref().map(|d| d.digest.as_str());
    let body = |name: &str| {
        let mut body = object.create_body(name);
        body["Labels"][KEY] = json!(object.key);
        if let Some(digest) = digest {
            body["Labels"][DIGEST] = json!(digest);
        }
        body
    };
    let spec = |one: &Value| one["Spec"].clone();
    let known = |one: &Value| -> Option<bool> {
        let spec = &one["Spec"];
        match (kind, &object.data) {
            (_, None) => Some(true),
            // A config's content can be seen.
            (Kind::Config, Some(data)) => Some(STANDARD.decode(text(&spec["Data"])).is_ok_and(|d| d == data.bytes)),
            (Kind::Secret, Some(data)) => spec["Labels"][DIGEST].as_str().map(|d| d == data.digest),
        }
    };
    let use_it = |one: &Value| {
        let (name, id) = (text(&one["Spec"]["Name"]).to_owned(), text(&one["ID"]).to_owned());
        let body = body(&name);
        if spec(one)["Labels"] == body["Labels"] {
            return ObjectStep::Keep { name, id };
        }
        ObjectStep::Update { name, id, index: one["Version"]["Index"].as_u64().unwrap_or(0), body, otherwise: None }
    };
    let own = |one: &&Value| {
        let labels = &one["Spec"]["Labels"];
        text(&one["Spec"]["Name"]) == object.name || labels[NAMESPACE] == stack && labels[KEY] == object.key.as_str()
    };
    let candidates: Vec<&Value> = existing.iter().filter(own).collect();
    if let Some(same) = candidates.iter().find(|one| known(one) == Some(true)) {
        return use_it(same);
    }
    let version = object.version();
    match candidates.iter().find(|one| text(&one["Spec"]["Name"]) == object.name) {
        None => ObjectStep::Create { name: object.name.clone(), version: !candidates.is_empty(), body: body(&object.name) },
        Some(base) if known(base).is_none() => ObjectStep::Update {
            name: object.name.clone(),
            id: text(&base["ID"]).to_owned(),
            index: base["Version"]["Index"].as_u64().unwrap_or(0),
            body: body(&object.name),
            otherwise: Some((version.clone(), body(&version))),
        },
        Some(_) => ObjectStep::Create { name: version.clone(), version: true, body: body(&version) },
    }
}

/// Names and ids of secrets and configs, by the names that the stack calls them by.
#[derive(Debug, Default, Clone)]
pub struct Found(BTreeMap<(bool, String), (String, String)>);

impl Found {
    /// Notes an object.
    pub fn put(&mut self, kind: Kind, called: &str, name: &str, id: &str) {
        self.0.insert((kind == Kind::Secret, called.to_owned()), (name.to_owned(), id.to_owned()));
    }

    fn get(&self, kind: Kind, called: &str) -> Option<&(String, String)> {
        self.0.get(&(kind == Kind::Secret, called.to_owned()))
    }
}

/// The body of a service with names and ids of the swarm's: networks by name and id, secrets and configs as they were found.
///
/// # Errors
/// When an external secret or config is not there, with the stock client's text.
pub fn resolved(body: &Value, networks: &BTreeMap<String, String>, found: &Found, current: &Current) -> Result<Value, String> {
    let mut body = body.clone();
    for network in body["TaskTemplate"]["Networks"].as_array_mut().into_iter().flatten() {
        if let Some(id) = networks.get(text(&network["Target"])) {
            network["Target"] = json!(id);
        }
    }
    for kind in [Kind::Secret, Kind::Config] {
        let (list, name_field, id_field) = kind.fields();
        let all = if kind == Kind::Secret { &current.secrets } else { &current.configs };
        let container = &mut body["TaskTemplate"]["ContainerSpec"];
        for reference in container[list].as_array_mut().into_iter().flatten() {
            let called = text(&reference[name_field]).to_owned();
            let (name, id) = match found.get(kind, &called) {
                Some(found) => found.clone(),
                None => {
                    let there = all.iter().find(|o| text(&o["Spec"]["Name"]) == called);
                    let id = there.map(|o| text(&o["ID"]).to_owned());
                    (called.clone(), id.ok_or_else(|| format!("{} not found: {called}", kind.word()))?)
                }
            };
            reference[name_field] = json!(name);
            reference[id_field] = json!(id);
        }
        // Looking for it has put a null there.
        if container[list].is_null()
            && let Some(map) = container.as_object_mut()
        {
            map.remove(list);
        }
    }
    Ok(body)
}

/// Whether every secret and config that services name is there or will be, so that a deploy that cannot succeed begins nothing.
///
/// # Errors
/// With the service, its place and the stock client's text.
pub fn references(stack: &Stack, current: &Current) -> Result<(), String> {
    for service in &stack.services {
        for kind in [Kind::Secret, Kind::Config] {
            let (list, name_field, _) = kind.fields();
            let (own, there) = match kind {
                Kind::Secret => (&stack.secrets, &current.secrets),
                Kind::Config => (&stack.configs, &current.configs),
            };
            let named = service.body["TaskTemplate"]["ContainerSpec"][list].as_array();
            for called in named.into_iter().flatten().map(|r| text(&r[name_field])) {
                if !own.iter().any(|o| o.name == called) && !there.iter().any(|o| text(&o["Spec"]["Name"]) == called) {
                    let word = kind.word();
                    return Err(format!("{}: service {}: {word} not found: {called}", service.place, service.key));
                }
            }
        }
    }
    Ok(())
}

/// The service of a name.
#[must_use]
pub fn service<'a>(current: &'a Current, name: &str) -> Option<&'a Value> {
    current.services.iter().find(|s| text(&s["Spec"]["Name"]) == name)
}

/// What an update of a service changes, and the body with what is carried over.
#[must_use]
pub fn update(existing: &Value, wanted: &Value) -> (Vec<Change>, Value) {
    let mut body = wanted.clone();
    let force = &existing["Spec"]["TaskTemplate"]["ForceUpdate"];
    if force.as_u64().is_some_and(|n| n > 0) {
        body["TaskTemplate"]["ForceUpdate"] = force.clone();
    }
    (changes(&existing["Spec"], &body), body)
}

/// Services of the stack that are not wanted, by name and id.
#[must_use]
pub fn leftover(wanted: &BTreeSet<&str>, current: &Current) -> Vec<(String, String)> {
    let mut gone: Vec<(String, String)> = current
        .services
        .iter()
        .map(|s| (text(&s["Spec"]["Name"]).to_owned(), text(&s["ID"]).to_owned()))
        .filter(|(name, _)| !wanted.contains(name.as_str()))
        .collect();
    gone.sort();
    gone
}

/// The ids of swarm-wide networks by name, and what is wrong with the external ones.
///
/// # Errors
/// The stock client's texts.
pub fn networks(stack: &Stack, current: &Current) -> Result<BTreeMap<String, String>, String> {
    let mut ids = BTreeMap::new();
    for network in current.networks.iter().filter(|n| n["Scope"] == "swarm") {
        ids.insert(text(&network["Name"]).to_owned(), text(&network["Id"]).to_owned());
    }
    for (name, place) in &stack.external_networks {
        if ids.contains_key(name) || matches!(name.as_str(), "host" | "bridge" | "none" | "default") {
            continue;
        }
        let start = format!("{place}: network {name:?} is declared as external, but");
        return Err(match current.networks.iter().find(|n| text(&n["Name"]) == name) {
            None => {
                format!("{start} could not be found. You need to create a swarm-scoped network before the stack is deployed")
            }
            Some(local) => {
                format!("{start} it is not in the right scope: {:?} instead of \"swarm\"", text(&local["Scope"]))
            }
        });
    }
    Ok(ids)
}

/// Versions of the stack's secrets or configs that no service names, its previous spec included.
#[must_use]
pub fn unused(kind: Kind, objects: &[Object], stack: &str, existing: &[Value], services: &[Value]) -> Vec<(String, String)> {
    let (list, _, id_field) = kind.fields();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for spec in services.iter().flat_map(|s| [&s["Spec"], &s["PreviousSpec"]]) {
        let references = spec["TaskTemplate"]["ContainerSpec"][list].as_array();
        named.extend(references.into_iter().flatten().map(|r| text(&r[id_field])));
    }
    let mut old = Vec::new();
    for object in objects.iter().filter(|o| o.data.is_some()) {
        let digest = object.data.as_ref().map(|d| d.digest.as_str()).unwrap_or_default();
        for one in existing {
            let labels = &one["Spec"]["Labels"];
            let version = labels[NAMESPACE] == stack && labels[KEY] == object.key.as_str() && labels[DIGEST] != digest;
            if version && labels[DIGEST].is_string() && !named.contains(text(&one["ID"])) {
                old.push((text(&one["Spec"]["Name"]).to_owned(), text(&one["ID"]).to_owned()));
            }
        }
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack with a secret and a config of this content, and a service that uses them.
    fn stack(content: &str) -> Stack {
        struct Memory(String);
        impl skep_compose::Files for Memory {
            fn read(&self, path: &std::path::Path, _: usize) -> Result<Option<Vec<u8>>, String> {
                let text = "services: {web: {image: i, secrets: [pw, out], configs: [site]}}\n\
                            secrets: {pw: {file: data}, out: {external: true}}\nconfigs: {site: {file: data}}\n";
                Ok(Some(if path.ends_with("data") { self.0.clone().into_bytes() } else { text.as_bytes().to_vec() }))
            }
        }
        let options = skep_compose::Options {
            files: vec!["a.yml".to_owned()],
            directory: "/".into(),
            environment: BTreeMap::new(),
            dotenv: None,
            interpolate: true,
        };
        let memory = Memory(content.to_owned());
        skep_compose::load(&options, &memory).unwrap().stack("app", &memory).unwrap()
    }

    /// What the API lists after a create call.
    fn listed(kind: Kind, id: &str, body: &Value) -> Value {
        let mut spec = body.clone();
        if kind == Kind::Secret {
            remove_data(&mut spec);
        }
        json!({"ID": id, "Version": {"Index": 7}, "Spec": spec})
    }

    fn remove_data(spec: &mut Value) {
        spec.as_object_mut().unwrap().remove("Data");
    }

    fn created(step: ObjectStep) -> (String, bool, Value) {
        match step {
            ObjectStep::Create { name, version, body } => (name, version, body),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_changed_file_makes_a_new_version_and_an_old_content_is_found_again() {
        for (kind, name) in [(Kind::Secret, "app_pw"), (Kind::Config, "app_site")] {
            let object = |stack: &Stack| if kind == Kind::Secret { stack.secrets[0].clone() } else { stack.configs[0].clone() };
            let (one, two) = (object(&stack("one")), object(&stack("two")));
            let (first, version, body) = created(object_step(kind, &one, "app", &[]));
            assert_eq!((first.as_str(), version), (name, false));
            let mut existing = vec![listed(kind, "id1", &body)];
            let kept = |id: &str, name: &str| ObjectStep::Keep { name: name.to_owned(), id: id.to_owned() };
            assert_eq!(object_step(kind, &one, "app", &existing), kept("id1", name));
            let (second, version, body) = created(object_step(kind, &two, "app", &existing));
            assert!(version && second.starts_with(&format!("{name}_")) && second == two.version(), "{second}");
            existing.push(listed(kind, "id2", &body));
            assert_eq!(object_step(kind, &two, "app", &existing), kept("id2", &second));
            assert_eq!(object_step(kind, &one, "app", &existing), kept("id1", name));
            // Without the first one, a third content has the plain name again.
            assert_eq!(created(object_step(kind, &object(&stack("three")), "app", &existing[1..])).0, name);
        }
    }

    #[test]
    fn another_clients_secret_is_tried_and_its_config_is_read() {
        let stack = stack("one");
        let labels = json!({NAMESPACE: "app"});
        let secret = json!({"ID": "s", "Version": {"Index": 3}, "Spec": {"Name": "app_pw", "Labels": labels}});
        match object_step(Kind::Secret, &stack.secrets[0], "app", std::slice::from_ref(&secret)) {
            ObjectStep::Update { id, index, otherwise: Some((version, _)), body, .. } => {
                assert_eq!((id.as_str(), index, version), ("s", 3, stack.secrets[0].version()));
                assert_eq!(body["Name"], "app_pw");
            }
            other => panic!("{other:?}"),
        }
        let config = |data: &str| json!({"ID": "c", "Version": {"Index": 3}, "Spec": {"Name": "app_site", "Labels": labels, "Data": STANDARD.encode(data)}});
        let step = |data: &str| object_step(Kind::Config, &stack.configs[0], "app", &[config(data)]);
        assert!(matches!(step("one"), ObjectStep::Update { otherwise: None, .. }));
        assert!(matches!(step("two"), ObjectStep::Create { version: true, .. }));
    }

    #[test]
    fn services_refer_to_what_was_found() {
        let stack = stack("one");
        let current = Current { secrets: vec![json!({"ID": "x", "Spec": {"Name": "out"}})], ..Current::default() };
        let mut found = Found::default();
        found.put(Kind::Secret, "app_pw", "app_pw_1234", "p");
        found.put(Kind::Config, "app_site", "app_site", "s");
        let networks = BTreeMap::from([("app_default".to_owned(), "n".to_owned())]);
        let body = resolved(&stack.services[0].body, &networks, &found, &current).unwrap();
        let container = &body["TaskTemplate"]["ContainerSpec"];
        assert_eq!(body["TaskTemplate"]["Networks"][0]["Target"], "n");
        assert_eq!(
            (&container["Secrets"][0]["SecretName"], &container["Secrets"][0]["SecretID"]),
            (&json!("app_pw_1234"), &json!("p"))
        );
        assert_eq!(container["Secrets"][0]["File"]["Name"], "pw");
        assert_eq!(container["Secrets"][1]["SecretID"], "x");
        assert_eq!(container["Configs"][0]["ConfigID"], "s");
        let missing = resolved(&stack.services[0].body, &networks, &found, &Current::default()).unwrap_err();
        assert_eq!(missing, "secret not found: out");
        assert_eq!(references(&stack, &current), Ok(()));
        let told = references(&stack, &Current::default()).unwrap_err();
        assert_eq!(told, "a.yml:1:12: service web: secret not found: out");
    }

    #[test]
    fn versions_that_a_service_could_go_back_to_stay() {
        let new = stack("two");
        let make = |content: &str, id: &str| {
            let (_, _, body) = created(object_step(Kind::Secret, &stack(content).secrets[0], "app", &[]));
            listed(Kind::Secret, id, &body)
        };
        let existing = [make("one", "id1"), make("two", "id2"), make("zero", "id0")];
        let spec = |id: &str| json!({"TaskTemplate": {"ContainerSpec": {"Secrets": [{"SecretID": id}]}}});
        let services = [json!({"Spec": spec("id2"), "PreviousSpec": spec("id1")})];
        let gone: Vec<String> =
            unused(Kind::Secret, &new.secrets, "app", &existing, &services).into_iter().map(|o| o.1).collect();
        assert_eq!(gone, ["id0"]);
        assert!(unused(Kind::Secret, &new.secrets, "other", &existing, &services).is_empty());
    }

    #[test]
    fn networks_must_be_the_swarms() {
        let mut stack = stack("one");
        let place = stack.services[0].place.clone();
        stack.external_networks = vec![("corp".to_owned(), place.clone()), ("host".to_owned(), place)];
        let with =
            |scope: &str| Current { networks: vec![json!({"Name": "corp", "Id": "n", "Scope": scope})], ..Current::default() };
        assert_eq!(networks(&stack, &with("swarm")).unwrap()["corp"], "n");
        let told = networks(&stack, &with("local")).unwrap_err();
        assert!(
            told.ends_with(
                "network \"corp\" is declared as external, but it is not in the right scope: \"local\" instead of \"swarm\""
            ),
            "{told}"
        );
        let told = networks(&stack, &Current::default()).unwrap_err();
        assert!(
            told.contains("could not be found. You need to create a swarm-scoped network before the stack is deployed"),
            "{told}"
        );
    }

    #[test]
    fn updates_carry_the_force_count_over() {
        let existing = json!({"ID": "s", "Spec": {"TaskTemplate": {"ForceUpdate": 4, "ContainerSpec": {"Image": "i"}}}});
        let wanted = json!({"TaskTemplate": {"ContainerSpec": {"Image": "i"}}});
        let (changes, body) = update(&existing, &wanted);
        assert_eq!((changes.len(), &body["TaskTemplate"]["ForceUpdate"]), (0, &json!(4)));
    }
}
