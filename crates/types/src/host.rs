//! Images, local networks and logs of one host, as `api` shows them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::health::HealthConfig;
use crate::spec::Labels;
use crate::{Ipv4Net, Ipv6Net, Time};

/// An image as `images` and `inspect` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ImageInfo {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `repository:tag` names.
    pub repo_tags: Vec<String>,
    /// `repository@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// When it was made.
    pub created: Time,
    /// Bytes of its layers, unpacked or packed as the store knows them.
    pub size: u64,
    /// As images say it: `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Who made it.
    pub author: String,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV.
    pub env: Vec<String>,
    /// WORKDIR.
    pub working_dir: String,
    /// USER.
    pub user: String,
    /// LABEL.
    pub labels: Labels,
    /// EXPOSE.
    pub exposed_ports: Vec<String>,
    /// VOLUME.
    pub volumes: Vec<String>,
    /// STOPSIGNAL.
    pub stop_signal: String,
    /// HEALTHCHECK.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// Digests of the unpacked layers, bottom first.
    pub layers: Vec<String>,
}

/// One step of a pull, push or load, as Docker's clients draw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Short digest of the layer that it is about; empty for the whole.
    pub id: String,
    /// In words.
    pub status: String,
    /// Bytes done and all bytes.
    pub bytes: Option<(u64, u64)>,
    /// The operation failed with this text; nothing follows.
    pub error: Option<String>,
    /// Printed as it is, with its line end (`load`).
    pub stream: Option<String>,
}

/// A client's credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RegistryAuth {
    /// User name; empty means nobody.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// What `rmi` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken away.
    Untagged(String),
    /// An image or layer is gone.
    Deleted(String),
}

/// A network of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalNetworkInfo {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created: Time,
    /// Subnet.
    pub subnet: Option<Ipv4Net>,
    /// Gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet that containers' addresses are drawn from.
    pub ip_range: Option<Ipv4Net>,
    /// Addresses in it that others have, by whatever name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
    /// Addresses of IPv6 beside those of IPv4.
    pub ipv6: bool,
    /// Subnet of IPv6.
    pub subnet6: Option<Ipv6Net>,
    /// Gateway in it.
    pub gateway6: Option<Ipv6Addr>,
    /// No way out.
    pub internal: bool,
    /// As asked for.
    pub attachable: bool,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: Labels,
    /// A configuration for other networks, and no network itself.
    pub config_only: bool,
    /// Name of the configuration that it is made by; empty if there is none.
    pub config_from: String,
}

/// Which records of a log a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on until the container ends.
    pub follow: bool,
    /// Only from this time on, RFC 3339 in UTC.
    pub since: Option<String>,
    /// Only up to this time.
    pub until: Option<String>,
    /// Only the last ones; `None` is all.
    pub tail: Option<usize>,
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// From standard error.
    pub stderr: bool,
    /// RFC 3339, nanoseconds, UTC.
    pub time: String,
    /// The line with its end.
    pub line: String,
    /// What the log driver was told to add: labels and variables of the container, its tag.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}
