//! What `stack deploy` sends: bodies of the Engine API, and what the caller has to fill in.

use std::fmt;

use serde_json::Value;

use crate::place::{Place, Warning};

/// A stack: everything under one name, in the shape of the Engine API's JSON (`swarm-semantics` 2.4, 9).
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: String,
    /// Networks that some service uses, by name.
    pub networks: Vec<Network>,
    /// External networks that some service uses: they must be there, with scope swarm (`host`, `bridge` and `none` are as they are).
    pub external_networks: Vec<(String, Place)>,
    /// Secrets to be there, by name.
    pub secrets: Vec<Object>,
    /// Configs to be there, by name.
    pub configs: Vec<Object>,
    /// Services, by name.
    pub services: Vec<Service>,
    /// What a swarm does not act on, or not as written.
    pub warnings: Vec<Warning>,
}

/// A network to be created if there is none of its name; one that is there is left unchanged.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name in the swarm.
    pub name: String,
    /// Its key in the file.
    pub key: String,
    /// The body of `POST /networks/create`.
    pub body: Value,
}

/// A secret or config to be created, or found.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its name in the swarm, without a version.
    pub name: String,
    /// Its key in the file.
    pub key: String,
    /// Where the file defines it.
    pub place: Place,
    /// The body of `POST /secrets/create` or `/configs/create` but for `Data`.
    pub body: Value,
    /// Its content; none if a driver provides it.
    pub data: Option<Data>,
}

impl Object {
    /// The name of the version with this content (`version_name`); the plain name is for the first one.
    #[must_use]
    pub fn version(&self) -> String {
        self.data.as_ref().map_or_else(|| self.name.clone(), |d| crate::version_name(&self.name, &d.digest))
    }

    /// The body of the create call under a name, content included.
    #[must_use]
    pub fn create_body(&self, name: &str) -> Value {
        use base64::Engine as _;
        let mut body = self.body.clone();
        body["Name"] = Value::String(name.to_owned());
        if let Some(data) = &self.data {
            body["Data"] = Value::String(base64::engine::general_purpose::STANDARD.encode(&data.bytes));
        }
        body
    }
}

/// The content of a secret or config.
#[derive(Clone)]
pub struct Data {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What tells it from other contents: 64 hexadecimal digits.
    pub digest: String,
}

impl fmt::Debug for Data {
    /// Without the bytes: they may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.bytes.len())
    }
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in the swarm.
    pub name: String,
    /// Its key in the file.
    pub key: String,
    /// The image as written.
    pub image: String,
    /// Where the file defines it.
    pub place: Place,
    /// The body of `POST /services/create`. In it, `TaskTemplate.Networks[].Target` is a network's name, and the references of
    /// secrets and configs have a `SecretName` or `ConfigName` only: the caller puts the ids in.
    pub body: Value,
}
