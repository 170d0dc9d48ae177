//! The documents of an image: manifest, index and configuration, as far as they matter here. Raw bytes are what is kept and sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_types::Time;
use skep_types::health::HealthConfig;
use skep_types::host::ImageInfo;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a manifest of an index is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// Manifest of one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Manifests of several platforms.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// A document that is either.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// What a container of the image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub(crate) user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub(crate) exposed_ports: BTreeMap<String, BTreeMap<(), ()>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub(crate) volumes: BTreeMap<String, BTreeMap<(), ()>>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub(crate) stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<Healthcheck>,
}

/// HEALTHCHECK; times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Healthcheck {
    #[serde(deserialize_with = "or_default")]
    pub(crate) test: Vec<String>,
    pub(crate) interval: u64,
    pub(crate) timeout: u64,
    pub(crate) start_period: u64,
    pub(crate) start_interval: u64,
    pub(crate) retries: u32,
}

impl From<Healthcheck> for HealthConfig {
    fn from(h: Healthcheck) -> Self {
        Self {
            test: h.test,
            interval: Duration::from_nanos(h.interval),
            timeout: Duration::from_nanos(h.timeout),
            start_period: Duration::from_nanos(h.start_period),
            start_interval: Duration::from_nanos(h.start_interval),
            retries: h.retries,
        }
    }
}

/// Configuration of an image; its digest is the image's id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) author: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) created: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) config: RunConfig,
    pub(crate) rootfs: RootFs,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) history: Vec<serde_json::Value>,
}

/// Digests of the unpacked layers, bottom first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) diff_ids: Vec<String>,
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl ImageConfig {
    /// The image as it is shown, names and size aside.
    pub(crate) fn info(&self) -> ImageInfo {
        let run = self.config.clone();
        ImageInfo {
            created: parse_time(&self.created).unwrap_or_default(),
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            author: self.author.clone(),
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            env: run.env,
            working_dir: run.working_dir,
            user: run.user,
            labels: run.labels,
            exposed_ports: run.exposed_ports.into_keys().collect(),
            volumes: run.volumes.into_keys().collect(),
            stop_signal: run.stop_signal,
            health: run.healthcheck.map(HealthConfig::from),
            layers: self.rootfs.diff_ids.clone(),
            ..ImageInfo::default()
        }
    }
}

/// This host, as images name architectures.
pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// RFC 3339 in UTC, the only form that images use.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=2261).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // days since 1970 of a date in the proleptic Gregorian calendar, counted from March of year 0
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Time(seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)?))
}

/// Now, as images write it.
pub(crate) fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)).rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_a_round_trip() {
        for text in ["1970-01-01T00:00:01.000000000Z", "2024-02-29T23:59:59.123456789Z", "2000-03-01T00:00:00.500000000Z"] {
            assert_eq!(parse_time(text).expect(text).rfc3339(), text);
        }
        assert_eq!(parse_time("2024-01-02T03:04:05Z").expect("valid").rfc3339(), "2024-01-02T03:04:05.000000000Z");
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn nulls_of_go_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":null,
            "ExposedPorts":{"80/tcp":{}},"Labels":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("reads");
        assert_eq!(config.info().exposed_ports, ["80/tcp"]);
        assert_eq!(config.info().cmd, ["sh"]);
    }
}
